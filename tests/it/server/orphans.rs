//! Orphans, missing files, catalogues and hook records, over sockets.

use serde_json::{Value, json};
use storage_guard::server::Limits;

use super::served::{OPERATOR, Served, tokens};

/// The media server's own bodies, as they were captured.
const CAPTURES: [&str; 6] = [
    include_str!("../../data/zlmediakit/hook_on_record_mp4.json"),
    include_str!("../../data/zlmediakit/hook_on_record_mp4_vhost1.json"),
    include_str!("../../data/zlmediakit/hook_on_record_ts.json"),
    include_str!("../../data/zlmediakit/hook_on_record_mp4_DISKFULL_corrupt_slice.json"),
    include_str!("../../data/zlmediakit/hook_on_record_mp4_OPENFAILED_stale_tmp_renamed.json"),
    include_str!("../../data/zlmediakit/hook_on_record_mp4_RENAMEFAILED_file_absent.json"),
];

fn check(served: &Served, method: &str, path: &str, body: &str, status: u16, expected: &[(&str, Value)]) {
    let answer = served.operate(method, path, body);
    assert_eq!(answer.status, status, "{method} {path} {body}: {}", String::from_utf8_lossy(&answer.body));
    let got = answer.json();
    for (pointer, value) in expected {
        assert_eq!(got.pointer(pointer), Some(value), "{method} {path} {pointer}: {got}");
    }
}

#[test]
fn lists_have_the_shape_of_the_contract() {
    let served = Served::new();
    let get = |path: &str, status, expected: &[_]| check(&served, "GET", path, "", status, expected);
    get(
        "/api/v1/orphans?tree=live&kind=leftover&proven=true&limit=1&cursor=q.7",
        200,
        &[
            ("/items/0/tree", "live".into()),
            ("/items/0/path", "live/cam/a%0A.mp4".into()),
            ("/items/0/encoded", true.into()),
            ("/items/0/bytes", 4096.into()),
            ("/items/0/kind", "uncatalogued".into()),
            ("/items/0/state", "reported".into()),
            ("/items/0/first_seen", "2026-01-01T00:00:00Z".into()),
            ("/items/0/verdict/proven", false.into()),
            ("/items/0/verdict/witnesses", json!(["grammar"])),
            ("/items/0/verdict/wanted", json!(["two_scans"])),
            ("/items/0/playable", true.into()),
            ("/next", "r.6c.uncatalogued.61".into()),
        ],
    );
    get("/api/v1/orphans?tree=none", 404, &[("/error/message", "there is no tree `none`; there are: live".into())]);
    get("/api/v1/orphans?kind=missing", 400, &[("/error/code", "bad_kind".into())]);
    get("/api/v1/orphans?proven=yes", 400, &[("/error/code", "bad_query".into())]);
    get("/api/v1/orphans?limit=0", 400, &[("/error/code", "bad_query".into())]);
    get(
        "/api/v1/missing?tree=live&cursor=x",
        200,
        &[("/items/0/path", "live/cam/b.mp4".into()), ("/items/0/row", "7".into()), ("/next", Value::Null)],
    );
    get(
        "/api/v1/catalogues?limit=1",
        200,
        &[
            ("/items/0/name", "wvp".into()),
            ("/items/0/kind", "wvp".into()),
            ("/items/0/trusted", true.into()),
            ("/items/0/reason", Value::Null),
            ("/items/0/rows", 4.into()),
            ("/items/0/foreign_rows", 3.into()),
            ("/items/0/bad_rows", 2.into()),
            ("/items/0/read_at", Value::Null),
            ("/next", "1".into()),
        ],
    );
    get("/api/v1/catalogues?cursor=1", 200, &[("/items/0/reason", "it does not answer: timeout".into())]);
    let asked = served.asked();
    assert_eq!(
        asked[0],
        "orphans OrphansWanted { tree: Some(\"live\"), kind: Some(Leftover), proven: true } after Some(\"q.7\") limit 1"
    );
    assert_eq!(asked[2..], ["missing of Some(\"live\") after Some(\"x\")"]);
}

#[test]
fn remedies_become_jobs_and_say_who_asked() {
    let served = Served::new();
    let post = |path: &str, body: Value, status, expected: &[_]| {
        check(&served, "POST", path, &body.to_string(), status, expected);
    };
    let all = || json!({"tree": "live", "all": true});
    for remedy in ["adopt", "quarantine", "delete", "restore"] {
        post(&format!("/api/v1/orphans/{remedy}"), all(), 202, &[("/job", 42.into())]);
    }
    let named = json!({"tree": "live", "paths": ["a.mp4", {"path": "b%0A.mp4", "encoded": true}]});
    post("/api/v1/missing/remove", named, 202, &[("/job", 42.into())]);
    assert_eq!(
        served.asked(),
        [
            "adopt All of live by operator",
            "quarantine All of live by operator",
            "delete All of live by operator",
            "restore All of live by operator",
            "remove_rows Paths([`a.mp4`, `b%0A.mp4`]) of live by operator",
        ]
    );
    let located = served.operate("POST", "/api/v1/orphans/delete", &all().to_string());
    assert_eq!(located.header("location"), Some("/api/v1/jobs/42"), "a job says where it is");

    let rehearsal = json!({"tree": "live", "all": true, "dry_run": true});
    post("/api/v1/orphans/adopt", rehearsal, 200, &[("/total", 3.into()), ("/items", json!([]))]);
    let untrusted = json!({"tree": "other", "all": true});
    post("/api/v1/orphans/delete", untrusted, 409, &[("/error/code", "untrusted".into())]);
    post("/api/v1/orphans/delete", json!({"tree": "live"}), 400, &[("/error/code", "bad_paths".into())]);
    post("/api/v1/orphans/delete", json!({"all": true}), 400, &[("/error/code", "bad_json".into())]);
    // Rows are removed at their own address.
    post("/api/v1/orphans/remove_rows", all(), 404, &[("/error/code", "not_found".into())]);
    post("/api/v1/orphans/burn", all(), 404, &[("/error/code", "not_found".into())]);

    served.asked();
    post("/api/v1/catalogues/wvp/accept", Value::Null, 200, &[("/accepted", "wvp".into())]);
    post("/api/v1/catalogues/x/accept", Value::Null, 404, &[("/error/code", "not_found".into())]);
    assert_eq!(served.asked(), ["accept wvp by operator", "accept x by operator"]);
}

#[test]
fn only_an_operator_changes_anything_about_orphans() {
    let rows = [("Bearer view-token", 403), ("", 401), ("Bearer operate-token", 0)];
    for (header, refused) in rows {
        let served = Served::with(&tokens(), Limits::default());
        let headers = match header {
            "" => "Content-Type: application/json\r\n".to_owned(),
            header => format!("Authorization: {header}\r\nContent-Type: application/json\r\n"),
        };
        for path in [
            "/api/v1/orphans/adopt",
            "/api/v1/orphans/delete",
            "/api/v1/missing/remove",
            "/api/v1/catalogues/wvp/accept",
            "/api/v1/hook-records",
        ] {
            let status = served.ask("POST", path, &headers, "[]").status;
            let expected = if refused == 0 { status != 401 && status != 403 } else { status == refused };
            assert!(expected, "{header:?} {path}: {status}");
        }
        for path in ["/api/v1/orphans", "/api/v1/missing", "/api/v1/catalogues"] {
            let status = served.ask("GET", path, &headers, "").status;
            assert_eq!(status, if header.is_empty() { 401 } else { 200 }, "{header:?} {path}");
        }
    }
}

/// Faults 4 and 110: what is told of a recording names no place upwards, and the same told again is one record.
#[test]
fn the_media_servers_own_bodies_are_taken_as_they_are() {
    let served = Served::new();
    for body in CAPTURES {
        check(&served, "POST", "/api/v1/hook-records", body, 200, &[("/stored", 1.into()), ("/rejected", json!([]))]);
    }
    let asked = served.asked();
    assert_eq!(
        asked[..3],
        [
            "hook zlm-1 live/test /data/zlm/rec/record/live/test/2026-11-22/2026-11-22-12-21-41-0.mp4 2026-11-22T12:21:41Z 772023 6966",
            "hook zlm-1 live/vtest /data/zlm/rec/__defaultVhost__/record/live/vtest/2026-11-22/2026-11-22-12-35-09-0.mp4 2026-11-22T12:35:09Z 613910 5968",
            "hook zlm-1 live/test /data/zlm/hls/live/test/2026-11-22/12/21-41_0.ts 2026-11-22T12:21:41Z 235940 1960",
        ]
    );
    let many = format!("[{}, {}, {{\"app\": \"live\"}}]", CAPTURES[0], CAPTURES[0]);
    check(
        &served,
        "POST",
        "/api/v1/hook-records",
        &many,
        200,
        &[("/stored", 1.into()), ("/duplicate", 1.into()), ("/rejected/0/index", 2.into())],
    );
    check(&served, "POST", "/api/v1/hook-records", "[]", 200, &[("/stored", 0.into())]);
    check(&served, "POST", "/api/v1/hook-records", "7", 400, &[("/error/code", "bad_json".into())]);
    let unkept = CAPTURES[0].replace("\"stream\" : \"test\"", "\"stream\" : \"unkept\"");
    check(&served, "POST", "/api/v1/hook-records", &unkept, 503, &[("/error/code", "hooks".into())]);
    let upwards = CAPTURES[0].replace("/data/zlm/rec/record", "/data/zlm/../record");
    let reason = "`file_path` must be an absolute path without control characters and `..`";
    check(&served, "POST", "/api/v1/hook-records", &upwards, 200, &[("/rejected/0/reason", reason.into())]);
    // No body is larger than the server's own bound.
    let large = format!("[{}]", " ".repeat(2 << 20));
    let headers = format!("Authorization: Bearer {OPERATOR}\r\nContent-Type: application/json\r\n");
    assert_eq!(served.ask("POST", "/api/v1/hook-records", &headers, &large[..]).status, 413);
}
