//! Layouts held to the names that recorders really give.

use super::*;
use proptest::prelude::*;

fn layout(text: &str) -> Layout {
    let extensions = ["mp4", "ts"].map(str::to_owned);
    Layout::parse(text, &extensions, TimeZone::fixed(jiff::tz::offset(8))).unwrap()
}

/// `expected`: stream, `!` before it if unfinished, and the time in UTC.
fn check(text: &str, cases: &[(&str, Option<(&str, &str)>)]) {
    let layout = layout(text);
    for (path, expected) in cases {
        let path = RelPath::new(path.as_bytes()).unwrap();
        let found = layout.recognise(&path, 1).map(|r| {
            let mark = if r.kind == Kind::Unfinished { "!" } else { "" };
            (format!("{mark}{}", r.stream), r.named.map_or_else(String::new, |at| at.to_string()))
        });
        let expected = expected.map(|(stream, at)| (stream.to_owned(), at.to_owned()));
        assert_eq!(found, expected, "{text}: {path}");
    }
}

#[test]
fn reads_what_zlmediakit_writes() {
    let at = "2026-11-22T04:21:41Z";
    check(
        "zlmediakit",
        &[
            // As the hook says it, below the record directory's parent.
            ("record/live/test/2026-11-22/2026-11-22-12-21-41-0.mp4", Some(("live/test", at))),
            ("live/test/2026-11-22/2026-11-22-12-21-41-0.mp4", Some(("live/test", at))),
            ("live/test/2026-11-22/.2026-11-22-12-21-41-0.mp4", Some(("!live/test", at))),
            ("live/test/2026-11-22/12-21-41.mp4", Some(("live/test", at))),
            ("live/test/2026-11-22/12-21-41-3.mp4", Some(("live/test", at))),
            ("live/a/b/c/2026-11-22/12-21-41.mp4", Some(("live/a/b/c", at))),
            ("live/test/2026-11-22/2026-11-23-12-21-41-0.mp4", None),
            ("live/test/2026-11-22/12/21-41_0.mp4", None),
            ("live/test/2026-13-22/12-21-41.mp4", None),
            ("live/test/2026-11-22/25-21-41.mp4", None),
            ("live/test/2026-11-22/12-21-41.mp4.bak", None),
            ("live/test/2026-11-22/.nfs0001", None),
            ("live/test/2026-11-22/.storage-guard-7-12-21-41.mp4", None),
            (".storage-guard/live/test/2026-11-22/12-21-41.mp4", None),
            ("live/2026-11-22/12-21-41.mp4", None),
            ("live/test/hls.m3u8", None),
            ("precious.txt", None),
        ],
    );
}

#[test]
fn a_virtual_host_is_part_of_the_stream() {
    let at = "2026-11-22T04:21:41Z";
    check(
        "zlmediakit",
        &[(
            "__defaultVhost__/record/live/test/2026-11-22/2026-11-22-12-21-41-0.mp4",
            Some(("__defaultVhost__/live/test", at)),
        )],
    );
}

#[test]
fn reads_the_other_recorders() {
    let at = "2026-11-22T04:21:41Z";
    check(
        "hls",
        &[
            ("live/test/2026-11-22/12/21-41_0.ts", Some(("live/test", at))),
            ("live/test/hls.m3u8", None),
            ("live/test/init.mp4", None),
        ],
    );
    check(
        "frigate",
        &[("2026-11-22/04/front/21.41.mp4", Some(("front", at))), ("2026-11-22/04/front/21.41.jpg", None)],
    );
    check(
        "mediamtx",
        &[
            ("cams/front/2026-11-22_12-21-41-123456.mp4", Some(("cams/front", at))),
            ("2026-11-22_12-21-41-123456.mp4", None),
        ],
    );
    check(
        "dated",
        &[
            ("front/2026-11-22/12-21-41.mp4", Some(("front", at))),
            ("front/20261122/20261122_122141.mp4", Some(("front", at))),
            ("front/2026/11/22/12.21.41.mp4", Some(("front", at))),
            ("front/2026-11-22/clip.mp4", Some(("front", "2026-11-22T16:00:00Z"))),
            ("front/2026-11-22/clip.txt", None),
            ("front/clip.mp4", None),
        ],
    );
    check("plain", &[("a/b/x.MP4", Some(("a/b", ""))), ("x.mp4", None), ("a/.x.mp4", None), ("a/x", None)]);
    check(
        "{stream}/%Y-%m-%d/%H/%M.%S.mp4",
        &[("a/b/2026-11-22/12/21.41.mp4", Some(("a/b", at))), ("2026-11-22/12/21.41.mp4", None)],
    );
}

#[test]
fn an_empty_file_is_unfinished() {
    let path = RelPath::new(b"live/test/2026-11-22/12-21-41.mp4").unwrap();
    assert_eq!(layout("zlmediakit").recognise(&path, 0).unwrap().kind, Kind::Unfinished);
}

#[test]
fn templates_that_cannot_work_are_refused() {
    for text in ["nonsense", "{stream}/%q.mp4", "{strem}/%s.mp4", "{stream}/{stream}/%s", "{stream}/%H.mp4", "%s.mp4"] {
        assert!(Layout::parse(text, &[], TimeZone::UTC).is_err(), "{text}");
    }
}

#[test]
fn auto_picks_the_layout_that_knows_most() {
    let sample = |paths: &[&str]| paths.iter().map(|p| RelPath::new(p.as_bytes()).unwrap()).collect::<Vec<_>>();
    for (paths, expected) in [
        (vec!["live/t/2026-11-22/12-21-41.mp4", "live/t/2026-11-22/x.txt"], LayoutKind::Zlmediakit),
        (vec!["2026-11-22/04/front/21.41.mp4"], LayoutKind::Frigate),
        (vec!["front/2026-11-22/clip.mp4"], LayoutKind::Dated),
        (vec!["front/clip.mp4"], LayoutKind::Plain),
        (vec!["notes.txt"], LayoutKind::Auto),
        (vec![], LayoutKind::Auto),
    ] {
        assert_eq!(super::super::pick(&sample(&paths), &layout("auto")).kind, expected, "{paths:?}");
    }
}

proptest! {
    #[test]
    fn any_path_is_read_without_panic_and_no_stream_climbs(text in "([a-z.]{0,3}|20[0-9]{2}-[01][0-9]-[0-3][0-9]|[0-9-]{6,10}|[^/]{0,4})(/([a-z.0-9-]{0,9})){0,5}(\\.mp4)?") {
        if let Ok(path) = RelPath::new(text.as_bytes()) {
            for kind in ["zlmediakit", "hls", "frigate", "mediamtx", "dated", "plain", "{stream}/%Y%m%d%H%M%S"] {
                if let Some(found) = layout(kind).recognise(&path, 1) {
                    prop_assert!(!found.stream.split('/').any(|part| part == ".." || part.is_empty()));
                }
                let _ = layout(kind).date_of(&path);
            }
        }
    }
}
