//! Layouts held to the names that recorders really give.

use super::super::civil::{Calendar, civil_time, moment};
use super::*;
use crate::domain::recording::Kind;
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
fn a_stream_named_record_keeps_its_name() {
    let at = "2026-11-22T04:21:41Z";
    check(
        "zlmediakit",
        &[
            ("live/record/2026-11-22/12-21-41.mp4", Some(("live/record", at))),
            ("record/cam/2026-11-22/12-21-41.mp4", Some(("record/cam", at))),
            ("live/record/cam/2026-11-22/12-21-41.mp4", Some(("live/record/cam", at))),
        ],
    );
}

/// `file_path` and `start_time` of the hooks that a real server sent; its clock ran in UTC, as did its recordings' tree.
#[test]
fn agrees_with_what_a_real_server_said_of_its_recordings() {
    let layout = Layout::parse("zlmediakit", &[], TimeZone::UTC).unwrap();
    for (file_path, start_time, top, stream) in [
        (
            "/data/zlm/rec/record/live/test/2026-11-22/2026-11-22-12-21-41-0.mp4",
            1_795_350_101,
            "/data/zlm/rec/",
            "live/test",
        ),
        (
            "/data/zlm/rec/record/live/test/2026-11-22/2026-11-22-12-21-41-0.mp4",
            1_795_350_101,
            "/data/zlm/rec/record/",
            "live/test",
        ),
        (
            "/opt/zlm/full/record/live/full/2026-11-22/2026-11-22-12-31-42-2.mp4",
            1_795_350_702,
            "/opt/zlm/full/",
            "live/full",
        ),
        (
            "/data/zlm/rec/record/live/immrec/2026-11-22/2026-11-22-12-32-40-2.mp4",
            1_795_350_760,
            "/data/zlm/rec/",
            "live/immrec",
        ),
        (
            "/data/zlm/rec/record/live/immrec/2026-11-22/2026-11-22-12-32-28-0.mp4",
            1_795_350_748,
            "/data/zlm/rec/",
            "live/immrec",
        ),
        (
            "/data/zlm/rec/__defaultVhost__/record/live/vtest/2026-11-22/2026-11-22-12-35-09-0.mp4",
            1_795_350_909,
            "/data/zlm/rec/",
            "__defaultVhost__/live/vtest",
        ),
    ] {
        let path = RelPath::new(file_path.strip_prefix(top).unwrap().as_bytes()).unwrap();
        let found = layout.recognise(&path, 1).unwrap();
        assert_eq!((found.stream.as_str(), found.kind), (stream, Kind::Recording), "{path}");
        assert_eq!(found.named, Some(Timestamp::from_secs(start_time)), "{path}");
    }
}

#[test]
fn an_old_frigate_counts_as_local_or_utc_whichever_is_later() {
    let cases = [
        ("2026-11/22/04/front/21.41.mp4", Some(("front", "2026-11-22T04:21:41Z"))),
        ("recordings/2026-11/22/04/front/21.41.mp4", Some(("front", "2026-11-22T04:21:41Z"))),
        ("recordings/2026-11-22/04/front/21.41.mp4", Some(("front", "2026-11-22T04:21:41Z"))),
        ("2026-13/22/04/front/21.41.mp4", None),
        ("2026-11/22/24/front/21.41.mp4", None),
        ("a/b/2026-11-22/04/front/21.41.mp4", None),
    ];
    check("frigate", &cases);
    let west = Layout::parse("frigate", &[], TimeZone::fixed(jiff::tz::offset(-5))).unwrap();
    let named = |path: &str| west.recognise(&RelPath::new(path.as_bytes()).unwrap(), 1).unwrap().named.unwrap();
    assert_eq!(named("2026-11/22/04/front/21.41.mp4").to_string(), "2026-11-22T09:21:41Z");
    assert_eq!(named("2026-11-22/04/front/21.41.mp4").to_string(), "2026-11-22T04:21:41Z");
}

#[test]
fn a_dated_name_is_believed_only_where_it_agrees_with_its_directory() {
    let (at, end) = ("2026-11-22T04:21:41Z", "2026-11-22T16:00:00Z");
    check(
        "dated",
        &[
            ("front/2026-11-22/front_20261122_122141.mp4", Some(("front", at))),
            ("front/2026-11-22/NVR_ch1_20261122122141_20261122123141.mp4", Some(("front", at))),
            ("front/2026-11-22/2026-11-22T12.21.41.mp4", Some(("front", at))),
            ("front/2026-11-22/12.21.41-12.31.41.mp4", Some(("front", at))),
            ("front/2026-11-22/122141.mp4", Some(("front", at))),
            // Begun before midnight, filed after it.
            ("front/20261123/20261122_235959.mp4", Some(("front", "2026-11-22T15:59:59Z"))),
            // Another year's date, a counter, a time that is none: only the day is known.
            ("front/2026-11-22/20200101_122141.mp4", Some(("front", end))),
            ("front/2026-11-22/1221410.mp4", Some(("front", end))),
            ("front/2026-11-22/99-21-41.mp4", Some(("front", end))),
            ("front/2026-11-22/.12-21-41.mp4", None),
            ("2026-11-22/12-21-41.mp4", None),
        ],
    );
}

#[test]
fn a_template_may_skip_and_repeat_and_knows_how_exact_it_is() {
    let at = "2026-11-22T04:21:41Z";
    check(
        "{stream}/%Y-%m-%d/{any}_%Y%m%d%H%M%S.mp4",
        &[
            ("a/b/2026-11-22/x_20261122122141.mp4", Some(("a/b", at))),
            ("a/b/2026-11-22/x_y_20261122122141.mp4", Some(("a/b", at))),
            ("a/b/2026-11-22/x_20261123122141.mp4", None),
            ("a/b/2026-11-22/x/y_20261122122141.mp4", None),
            ("a/.b/2026-11-22/x_20261122122141.mp4", None),
        ],
    );
    check("{stream}/%Y-%m-%d/{any}.mp4", &[("a/2026-11-22/x.mp4", Some(("a", "2026-11-22T16:00:00Z")))]);
    check("{stream}/%Y-%m-%d/%H.mp4", &[("a/2026-11-22/12.mp4", Some(("a", "2026-11-22T05:00:00Z")))]);
    check("{stream}-%s.mp4", &[("a/b-1795321301.mp4", Some(("a/b", at)))]);
}

#[test]
fn a_directory_bears_its_date_or_that_of_one_above_it() {
    for (kind, dir, expected) in [
        ("zlmediakit", "live/test/2026-11-22", Some("2026-11-22")),
        ("hls", "live/test/2026-11-22/12", Some("2026-11-22")),
        ("frigate", "2026-11-22/04/front", Some("2026-11-22")),
        ("frigate", "2026-11/22/04/front", Some("2026-11-22")),
        ("dated", "front/2026/11/22", Some("2026-11-22")),
        ("dated", "front/20261122", Some("2026-11-22")),
        ("{stream}/%d.%m.%Y/%H/{any}.mp4", "a/b/22.11.2026/12", Some("2026-11-22")),
        ("{stream}/%d.%m.%Y/%H/{any}.mp4", "a/b/22.11.2026/12/deeper", Some("2026-11-22")),
        ("{stream}/%d.%m.%Y/%H/{any}.mp4", "a/b", None),
        ("zlmediakit", "live/2026-13-22", None),
        ("plain", "front", None),
    ] {
        let found = layout(kind).date_of(&RelPath::new(dir.as_bytes()).unwrap()).map(|date| date.to_string());
        assert_eq!(found.as_deref(), expected, "{kind}: {dir}");
    }
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
    for text in [
        "nonsense",
        "{stream}/%q.mp4",
        "{strem}/%s.mp4",
        "{stream}/{stream}/%s",
        "{stream}/%H.mp4",
        "%s.mp4",
        "/{stream}/%s.mp4",
        "../{stream}/%s",
        "{stream}{any}/%s",
        "{stream}/%Y-%m-%d-%M.mp4",
        "{stream}/{any}-{any}-{any}-%s",
    ] {
        assert!(Layout::parse(text, &[], TimeZone::UTC).is_err(), "{text}");
    }
}

#[test]
fn auto_picks_the_layout_that_knows_most() {
    let sample = |paths: &[&str]| paths.iter().map(|p| RelPath::new(p.as_bytes()).unwrap()).collect::<Vec<_>>();
    for (paths, expected) in [
        (vec!["live/t/2026-11-22/12-21-41.mp4", "live/t/2026-11-22/x.txt"], LayoutKind::Zlmediakit),
        (vec!["live/t/2026-11-22/12-21-41.mp4", "live/t/2026-11-22/clip.mp4"], LayoutKind::Zlmediakit),
        (vec!["a/b/2026-11-22/12-21-41.mp4", "a/x.mp4", "a/y.mp4", "a/z.mp4"], LayoutKind::Plain),
        (vec!["2026-11-22/04/front/21.41.mp4"], LayoutKind::Frigate),
        (vec!["front/2026-11-22/clip.mp4"], LayoutKind::Dated),
        (vec!["front/clip.mp4"], LayoutKind::Plain),
        (vec!["notes.txt"], LayoutKind::Auto),
        (vec![], LayoutKind::Auto),
    ] {
        assert_eq!(super::super::pick(&sample(&paths), &layout("auto")).kind, expected, "{paths:?}");
    }
}

#[test]
fn of_a_time_that_was_there_twice_the_later_counts() {
    // In the middle of Europe the clock went from 03:00 back to 02:00 on 2026-10-25.
    let layout = Layout::parse("zlmediakit", &[], TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()).unwrap();
    let path = RelPath::new(b"live/test/2026-10-25/02-30-00.mp4").unwrap();
    assert_eq!(layout.recognise(&path, 1).unwrap().named.unwrap().to_string(), "2026-10-25T01:30:00Z");
}

#[test]
fn names_of_one_directory_share_its_stream() {
    let layout = layout("zlmediakit");
    let dir = RelPath::new(b"record/live/test/2026-11-22").unwrap();
    let mut folder = layout.folder(Some(&dir));
    let first = folder.read(b"2026-11-22-12-21-41-0.mp4", 1).unwrap().stream.as_ptr();
    let second = folder.read(b"2026-11-22-12-21-42-1.mp4", 1).unwrap().stream.as_ptr();
    assert_eq!(first, second, "no name costs an allocation");
}

proptest! {
    #[test]
    fn a_remembered_day_gives_the_same_moments(days in 0i32..400, minutes in 0i64..1440, zone in 0usize..5) {
        // Europe; New York; Brazil, whose day began at 01:00 once a year; Lord Howe's half hour; none.
        let zone = TimeZone::posix([
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "EST5EDT,M3.2.0,M11.1.0",
            "<-03>3<-02>,M11.1.0/0,M2.3.0/0",
            "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
            "<+08>-8",
        ][zone]).unwrap();
        let date = jiff::civil::date(2026, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
        let mut calendar = Calendar::new(zone.clone());
        for minute in [minutes, 0, 30, 60, 90, 120, 150, 180, 1410, 1439] {
            let time = civil_time(minute / 60, minute % 60, 7).unwrap();
            prop_assert_eq!(calendar.moment(date, time), moment(&zone, date.to_datetime(time)));
        }
    }

    #[test]
    fn any_path_is_read_without_panic_and_no_stream_climbs(text in "([a-z.]{0,3}|20[0-9]{2}-[01][0-9]-[0-3][0-9]|[0-9-]{6,10}|[^/]{0,4})(/([a-z.0-9-]{0,9})){0,5}(\\.mp4)?") {
        if let Ok(path) = RelPath::new(text.as_bytes()) {
            for kind in ["zlmediakit", "hls", "frigate", "mediamtx", "dated", "plain", "{stream}/%Y%m%d%H%M%S", "{stream}/{any}/%Y-%m-%d/{any}"] {
                if let Some(found) = layout(kind).recognise(&path, 1) {
                    prop_assert!(!found.stream.split('/').any(|part| part == ".." || part.is_empty()));
                }
                let _ = layout(kind).date_of(&path);
            }
        }
    }
}

#[test]
fn a_day_of_hls_is_the_recording_of_all_that_lies_in_it() {
    let check = |kind: &str, text: &str, unit: Option<&str>| {
        let (layout, path) = (layout(kind), RelPath::new(text.as_bytes()).unwrap());
        assert_eq!(layout.unit_of(&path).map(|unit| unit.to_string()).as_deref(), unit, "{kind}: {text}");
        assert_eq!(layout.is_unit(&path), unit == Some(text), "{kind}: {text}");
    };
    let day = "live/test/2026-11-22";
    for text in [day, "live/test/2026-11-22/12", "live/test/2026-11-22/12/21-41_0.ts", "live/test/2026-11-22/all.m3u8"]
    {
        check("hls", text, Some(day));
        for kind in ["zlmediakit", "dated", "plain", "frigate", "mediamtx"] {
            check(kind, text, None);
        }
    }
    check("hls", "vhost/live/test/2026-11-22/12/21-41_0.ts", Some("vhost/live/test/2026-11-22"));
    // Segments are read by the last two directories, so a stream may bear a date itself.
    check("hls", "live/2026-11-21/2026-11-22/12/21-41_0.ts", Some("live/2026-11-21/2026-11-22"));
    check("hls", "live/a/2026-11-21/2026-11-22/12/21-41_0.ts", Some("live/a/2026-11-21/2026-11-22"));
    for text in [
        "live/test",
        "live/test/hls.m3u8",
        "live/2026-11-22",
        "live/2026-11-22/12/21-41_0.ts",
        "live/test/2026-13-22",
        ".storage-guard/test/2026-11-22",
        "live/.test/2026-11-22/12/21-41_0.ts",
        "2026-11-22",
    ] {
        check("hls", text, None);
    }
}

proptest::proptest! {
    /// Every segment that the layout knows lies in a unit of its stream, so that none can be planned alone.
    #[test]
    fn every_segment_lies_in_a_day(parts in proptest::collection::vec("(live|cam|2026-11-2[0-9]|1[0-9]|[.]hid|record)", 1..7)) {
        let path = RelPath::new(format!("{}/21-41_0.ts", parts.join("/")).as_bytes()).unwrap();
        let layout = layout("hls");
        if let Some(found) = layout.recognise(&path, 1) {
            let unit = layout.unit_of(&path).unwrap();
            proptest::prop_assert!(layout.is_unit(&unit) && path.lies_in(&unit));
            proptest::prop_assert_eq!(unit.split().0.unwrap().to_string(), found.stream);
        }
    }
}
