use jiff::tz::TimeZone;
use serde_json::Value;

use super::*;
use crate::domain::layout::Layout;
use crate::domain::path::RelPath;

/// What ZLMediaKit posted, verbatim.
const HOOKS: [&str; 5] = [
    include_str!("../../tests/data/zlmediakit/hook_on_record_mp4.json"),
    include_str!("../../tests/data/zlmediakit/hook_on_record_mp4_vhost1.json"),
    include_str!("../../tests/data/zlmediakit/hook_on_record_mp4_RENAMEFAILED_file_absent.json"),
    include_str!("../../tests/data/zlmediakit/hook_on_record_mp4_DISKFULL_corrupt_slice.json"),
    include_str!("../../tests/data/zlmediakit/hook_on_record_mp4_OPENFAILED_stale_tmp_renamed.json"),
];

/// The row that WVP makes of a hook.
fn platform(hook: &Value) -> Adoption {
    let text = |name: &str| hook[name].as_str().unwrap().to_owned();
    let (start, length) = (hook["start_time"].as_i64().unwrap(), hook["time_len"].as_f64().unwrap());
    // So Java casts, and so a database rounds.
    let (whole, millis) = (length as i64, (length * 1000.0).round() as i64);
    Adoption {
        app: text("app"),
        stream: text("stream"),
        start_time: start * 1000,
        end_time: (start + whole) * 1000,
        media_server: Some(text("mediaServerId")),
        file_name: text("file_name"),
        folder: text("folder"),
        file_path: text("file_path"),
        file_size: hook["file_size"].as_i64().unwrap(),
        time_len: millis,
    }
}

/// Each capture, whether the tree is the directory of the records, its parent, or the one above the virtual host.
#[test]
fn an_adopted_row_is_the_one_that_the_hook_would_have_made() {
    let layout = Layout::parse("zlmediakit", &[], TimeZone::UTC).unwrap();
    for text in HOOKS {
        let hook: Value = serde_json::from_str(text).unwrap();
        let path = hook["file_path"].as_str().unwrap();
        let tops = ["/record/", "/__defaultVhost__/", "/rec/", "/full/"]
            .into_iter()
            .filter_map(|top| path.find(top).map(|at| at + top.len()));
        let mut tried = 0;
        for top in tops {
            let size = hook["file_size"].as_u64().unwrap();
            let seen = layout.recognise(&RelPath::new(&path.as_bytes()[top..]).unwrap(), size).unwrap();
            let length = Duration::from_secs_f64(hook["time_len"].as_f64().unwrap());
            let server = hook["mediaServerId"].as_str();
            let row = adoption(&seen.stream, path, seen.named, size, Some(length), server);
            assert_eq!(row, Ok(platform(&hook)), "{}", seen.stream);
            tried += 1;
        }
        assert!(tried >= 2, "{path}");
    }
}

#[test]
fn app_and_stream_are_what_the_media_server_calls_them() {
    let day = "2026-11-22/2026-11-22-12-21-41-0.mp4";
    for (stream, folder, expected) in [
        ("live/test", "/data/record/live/test", Some(("live", "test"))),
        ("live/a/b", "/data/record/live/a/b", Some(("live", "a/b"))),
        ("live/record/x", "/data/record/live/record/x", Some(("live", "record/x"))),
        ("record/x", "/data/record/record/x", Some(("record", "x"))),
        ("cam.lan/live/test", "/data/cam.lan/record/live/test", Some(("live", "test"))),
        ("cam.lan/live/a/b", "/data/cam.lan/record/live/a/b", Some(("live", "a/b"))),
        // The directory of the records has another name: what is app and what is not cannot be told.
        ("__defaultVhost__/mine/live/test", "/data/__defaultVhost__/mine/live/test", None),
        ("live/test", "/data/record/live/other", None),
        ("live/test", "/data/record/live/test/more", None),
        ("cam.lan/live/test", "/data/other.lan/record/live/test", None),
        ("cam.lan/live/test", "/data/cam.lan/mine/live/test", None),
        ("live/test", "/test", None),
        ("test", "/data/record/test", None),
    ] {
        let row =
            adoption(stream, &format!("{folder}/{day}"), Some(Timestamp::from_secs(1)), 1, Some(Duration::ZERO), None);
        let found = row.as_ref().ok().map(|row| (row.app.as_str(), row.stream.as_str()));
        assert_eq!(found, expected, "{folder}");
        if let Ok(row) = &row {
            assert_eq!((row.folder.as_str(), row.media_server.as_deref()), (format!("{folder}/").as_str(), None));
        }
    }
}

#[test]
fn what_cannot_be_adopted_is_refused_with_its_reason() {
    const PATH: &str = "/data/record/live/test/2026-11-22/2026-11-22-12-21-41-0.mp4";
    let second = Some(Duration::from_secs(1));
    let (at, long) = (Some(Timestamp::from_secs(1_795_350_101)), "x".repeat(256));
    let deep = format!("/{}record/live/test/2026-11-22/a.mp4", "d/".repeat(240));
    let named = format!("/data/record/live/test/2026-11-22/{long}");
    for (outside, started, size, length, reason) in [
        (PATH, None, 1, second, "its name holds no time"),
        (PATH, at, 1, None, "does not say how long it is"),
        (PATH, at, 1, Some(LONGEST + Duration::from_millis(1)), "7d long, which is not believed"),
        (PATH, at, u64::MAX, second, "larger than the platform's table holds"),
        (&PATH[1..], at, 1, second, "is not absolute"),
        ("/data/record/live/test/../2026-11-22/a.mp4", at, 1, second, "`.` or `..`"),
        ("/data/record/live/test/2026-11-22/a\nb.mp4", at, 1, second, "control characters"),
        ("/data/record/live/test/2026-11-22/.a.mp4", at, 1, second, "begins with a dot"),
        ("/a.mp4", at, 1, second, "a directory of its stream and its day"),
        ("/data/record/live/test/2026-11-22/12/21-41_0.ts", at, 1, second, "a day's directory of `live/test`"),
        (&named, at, 1, second, "longer than the platform's table holds"),
        (&deep, at, 1, second, "longer than the platform's table holds"),
    ] {
        let row = adoption("live/test", outside, started, size, length, None);
        let told = row.expect_err("it is refused");
        assert!(told.contains(reason) && told.contains(" cannot be adopted: "), "{told}");
        assert!(!told.chars().any(char::is_control));
    }
}
