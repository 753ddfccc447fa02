//! The server from outside: bytes over sockets.

mod events;
mod orphans;
mod served;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use storage_guard::domain::settings::AuthSettings;
use storage_guard::server::{Auth, Limits, operator_token};

use served::{Answer, FakeClock, OPERATOR, Served, request, timed_out, tokens};

#[test]
fn every_address_answers_with_its_status_and_shape() {
    let served = Served::new();
    let check = |method: &str, path: &str, body: &str, status: u16, expected: Value| {
        let answer = served.operate(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {path}");
        let got = answer.json();
        for (pointer, value) in expected.as_object().unwrap() {
            assert_eq!(got.pointer(pointer), Some(value), "{method} {path} {pointer}: {got}");
        }
    };
    let get = |path: &str, expected| check("GET", path, "", 200, expected);
    get("/api/v1/status", json!({"/mode": "observe", "/volumes": [], "/trees": []}));
    get("/api/v1/plan", json!({"/items/2/volume": "/c", "/next": null}));
    get("/api/v1/plan?limit=2", json!({"/items/1/volume": "/b", "/next": "2"}));
    get("/api/v1/plan?limit=2&cursor=2", json!({"/items/0/volume": "/c", "/next": null}));
    get("/api/v1/plan?volume=%2Fa&colour=red", json!({"/id": "p1", "/volume": "/a", "/target_bytes": 7}));
    check("GET", "/api/v1/plan?volume=x", "", 404, json!({"/error/code": "not_found"}));
    check("POST", "/api/v1/plans/p1/apply", "", 202, json!({"/job": 42}));
    check("POST", "/api/v1/plans/old/apply", "", 409, json!({"/error/code": "changed"}));
    get("/api/v1/jobs/42", json!({"/id": 42, "/state": "waiting", "/reclaimed_bytes": 5, "/finished": null}));
    check("GET", "/api/v1/jobs/43", "", 404, json!({"/error/message": "there is no job 43"}));
    get("/api/v1/jobs/42/items", json!({"/items/99/path": "100.mp4", "/next": "100", "/items/0/outcome": null}));
    get("/api/v1/jobs/42/items?cursor=100&limit=1000", json!({"/items/0/path": "101.mp4", "/next": null}));
    get("/api/v1/jobs/42/items?outcome=failed&limit=1", json!({"/items/0/outcome": "failed"}));
    check("DELETE", "/api/v1/jobs/42", "", 200, json!({"/state": "cancelled"}));
    get("/api/v1/journal?tree=live&limit=5&cursor=9", json!({"/items": [], "/next": null}));
    get(
        "/api/v1/caps",
        json!({"/items/0/tree": "live", "/items/0/cap": "run_share", "/items/0/wanted": 2, "/next": null}),
    );
    get("/api/v1/caps?limit=1", json!({"/next": "1"}));
    check("POST", "/api/v1/caps/%2Fdata%2F%E5%BD%95/run_share/acknowledge", "", 200, json!({}));
    get(
        "/api/v1/failures?cursor=2",
        json!({"/items/0/id": 3, "/items/0/holder": "MediaServer (pid 1)", "/next": null}),
    );
    check("POST", "/api/v1/failures/7/retry", "", 202, json!({"/retrying": 1}));
    check("POST", "/api/v1/failures/retry", "", 202, json!({"/retrying": 3}));
    check("POST", "/api/v1/failures/7/close", r#"{"reason": " it is gone "}"#, 200, json!({"/closed": 7}));
    get(
        "/api/v1/alerts",
        json!({"/items/0/state": "firing", "/items/0/labels/volume": "/a", "/items/0/muted_by/silence": 3}),
    );
    get("/api/v1/channels", json!({"/items/0/name": "hook", "/items/0/state": "failing", "/items/0/queued": 3}));
    get("/api/v1/silences", json!({"/items/0/id": 3, "/items/0/tree": null, "/items/0/who": "ops", "/next": null}));
    get("/api/v1/silences?ended=true&limit=1", json!({"/items/0/id": 2, "/next": "1"}));
    let wanted = r#"{"volume": "/a", "until": "2026-01-01T00:00:00Z", "reason": "a new disk"}"#;
    check("POST", "/api/v1/silences", wanted, 201, json!({"/id": 4, "/durable": true}));
    check("POST", "/api/v1/silences", r#"{"vol": "/a"}"#, 400, json!({"/error/code": "bad_json"}));
    check("DELETE", "/api/v1/silences/3", "", 200, json!({"/ended": 3}));
    check("DELETE", "/api/v1/silences/9", "", 404, json!({"/error/code": "not_found"}));
    let test = json!({"/delivered": false, "/transcript/0": "POST http://***"});
    check("POST", "/api/v1/channels/ops%20hook/test", "", 200, test);
    check("POST", "/-/reload", "", 200, json!({"/reloaded": true}));
    check("PUT", "/-/reload", "", 200, json!({"/reloaded": true}));
    assert_eq!(
        served.asked(),
        [
            "apply p1 by operator",
            "apply old by operator",
            "cancel 42 by operator",
            "journal Some(\"live\") after 9 limit 5",
            "acknowledge /data/录 run_share by operator",
            "retry Some(7) by operator",
            "retry None by operator",
            "close 7 by operator: it is gone",
            "silence Some(\"/a\") until 2026-01-01T00:00:00Z by operator: a new disk",
            "end silence 3 by operator",
            "end silence 9 by operator",
            "test ops hook",
            "reload by operator",
            "reload by operator",
        ]
    );
    assert_eq!(
        served.operate("POST", "/api/v1/plans/p1/apply", "").header("location"),
        Some("/api/v1/jobs/42"),
        "a job says where it is"
    );
}

#[test]
fn the_machines_addresses_answer_without_a_token() {
    let served = Served::new();
    let check = |path: &str, status: u16, kind: &str| {
        let answer = served.ask("GET", path, "", "");
        assert_eq!((answer.status, answer.header("content-type")), (status, Some(kind)), "{path}");
        answer
    };
    let metrics = check("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.body.starts_with(b"storage_guard_enforcing 1\n"));
    check("/-/healthy", 200, "text/plain; charset=utf-8");
    check("/-/ready", 200, "text/plain; charset=utf-8");
    let index = || String::from_utf8(check("/", 200, "text/html; charset=utf-8").body).unwrap();
    assert!(index().contains("href=\"/metrics\"") && !index().contains("NOT DELIVERED"));
    *served.backend.undelivered.lock().unwrap() = Some("2026-01-01T00:00:00Z".to_owned());
    assert!(index().contains("ALERTS ARE NOT DELIVERED since 2026-01-01T00:00:00Z"), "{}", index());
    served.backend.unready.store(true, Ordering::Relaxed);
    assert_eq!(check("/-/ready", 503, "application/json").json().pointer("/error/code"), Some(&"not_ready".into()));
    let refused = served.operate("POST", "/-/reload", "");
    assert_eq!((refused.status, refused.json().pointer("/error/message").cloned()), (400, Some("a: 1\nb: 2".into())));
    let packed = served.ask("GET", "/metrics", "Accept-Encoding: gzip\r\n", "");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < 1000, "{} bytes", packed.body.len());
}

#[test]
fn the_metrics_listener_has_nothing_else() {
    let served = Served::new();
    for (path, status) in
        [("/metrics", 200), ("/-/healthy", 200), ("/-/ready", 200), ("/", 404), ("/api/v1/status", 404)]
    {
        let mut stream = TcpStream::connect(served.metrics).unwrap();
        stream.write_all(request("GET", path, "", "").as_bytes()).unwrap();
        assert_eq!(Answer::read(&mut stream).status, status, "{path}");
    }
}

#[test]
fn who_may_do_what() {
    const REQUESTS: [(&str, &str); 5] = [
        ("GET", "/metrics"),
        ("GET", "/-/healthy"),
        ("GET", "/api/v1/status"),
        ("POST", "/-/reload"),
        ("DELETE", "/api/v1/jobs/42"),
    ];
    let check = |settings: &AuthSettings, rows: &[(&str, [u16; 5])]| {
        for (header, expected) in rows {
            // Each row has a server of its own, so that wrong tokens of one do not count against another.
            let served = Served::with(settings, Limits::default());
            let headers = if header.is_empty() { String::new() } else { format!("Authorization: {header}\r\n") };
            let got = REQUESTS.map(|(method, path)| {
                let answer = served.ask(method, path, &headers, "");
                assert_eq!(answer.status == 401, answer.header("www-authenticate") == Some("bearer"), "{header}");
                answer.status
            });
            assert_eq!(got, *expected, "{header:?} with {settings:?}");
        }
    };
    let own = format!("Bearer {OPERATOR}");
    check(
        &AuthSettings::default(),
        &[
            ("", [200, 200, 200, 401, 401]),
            (&own, [200, 200, 200, 200, 200]),
            ("Bearer wrong", [200, 200, 200, 401, 401]),
        ],
    );
    check(
        &tokens(),
        &[
            ("", [200, 200, 401, 401, 401]),
            ("Bearer view-token", [200, 200, 200, 403, 403]),
            ("Bearer operate-token", [200, 200, 200, 200, 200]),
            ("Bearer Operate-token", [200, 200, 401, 401, 401]),
            ("bearer operate-token", [200, 200, 401, 401, 401]),
            ("Bearer  operate-token", [200, 200, 401, 401, 401]),
            ("Bearer operate-token operate-token", [200, 200, 401, 401, 401]),
            ("Bearer operate-token, x", [200, 200, 401, 401, 401]),
            ("Bearer operate-token\r\nAuthorization: Bearer operate-token", [200, 200, 401, 401, 401]),
            ("Bearer", [200, 200, 401, 401, 401]),
            ("Basic b3BzOm9wZXJhdGUtdG9rZW4=", [200, 200, 401, 401, 401]),
            (&own, [200, 200, 401, 401, 401]),
        ],
    );
    check(
        &AuthSettings { protect_metrics: true, ..tokens() },
        &[("", [401, 200, 401, 401, 401]), ("Bearer view-token", [200, 200, 200, 403, 403])],
    );
    let served = Served::with(&tokens(), Limits::default());
    served.ask("POST", "/-/reload", "Authorization: Bearer operate-token\r\n", "");
    assert_eq!(served.asked(), ["reload by ops"]);
}

#[test]
fn wrong_tokens_are_limited_and_right_ones_are_not() {
    let served = Served::new();
    let check = |token: &str, expected: u16| {
        let answer = served.ask("POST", "/-/reload", &format!("Authorization: Bearer {token}\r\n"), "");
        assert_eq!(answer.status, expected, "{token}");
        answer
    };
    for n in 0..10 {
        check(&format!("guess-{n}"), 401);
    }
    assert_eq!(check("guess-10", 429).header("retry-after"), Some("60"));
    check(OPERATOR, 200);
    served.clock.0.store(60, Ordering::Relaxed);
    check("guess-11", 401);
}

#[test]
fn a_foreign_host_changes_nothing_over_loopback() {
    let served = Served::new();
    let check = |method: &str, path: &str, host: &str, expected: u16| {
        let text =
            format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nAuthorization: Bearer {OPERATOR}\r\n\r\n");
        assert_eq!(served.raw(text.as_bytes()).status, expected, "{method} {host}");
    };
    check("POST", "/-/reload", "Host: localhost:10190\r\n", 200);
    check("POST", "/-/reload", "Host: 127.0.0.1\r\n", 200);
    check("POST", "/-/reload", "Host: [::1]:10190\r\n", 200);
    check("POST", "/-/reload", "Host: evil.example\r\n", 403);
    check("POST", "/-/reload", "Host: localhost\r\nHost: evil.example\r\n", 400);
    check("GET", "/api/v1/status", "Host: guard.lan\r\n", 200);
}

#[test]
fn what_is_wrong_is_refused_as_json_and_every_answer_is_careful() {
    let served = Served::new();
    let json_type = "Content-Type: application/json\r\n";
    let check = |method: &str, path: &str, headers: &str, body: &str, status: u16, code: &str| {
        let headers = format!("Authorization: Bearer {OPERATOR}\r\n{headers}");
        let answer = served.ask(method, path, &headers, body);
        assert_eq!(answer.status, status, "{method} {path} {body:.40}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "deny"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
        if !code.is_empty() {
            let error = answer.json();
            assert_eq!(error.pointer("/error/code"), Some(&code.into()), "{method} {path}");
            assert!(error.pointer("/error/message").and_then(Value::as_str).is_some_and(|text| !text.is_empty()));
        }
        answer
    };
    check("GET", "/", "", "", 200, "");
    check("GET", "/nothing", "", "", 404, "not_found");
    check("GET", "/api/v1/nothing", "", "", 404, "not_found");
    check("GET", "/api/v1/caps/", "", "", 404, "not_found");
    assert!(check("POST", "/api/v1/status", "", "", 405, "method_not_allowed").header("allow").is_some());
    check("BREW", "/metrics", "", "", 405, "method_not_allowed");
    check("GET", "/-/reload", "", "", 405, "method_not_allowed");
    check("GET", "/api/v1/jobs/abc", "", "", 400, "bad_path");
    check("GET", "/api/v1/jobs/-1", "", "", 400, "bad_path");
    check("GET", "/api/v1/jobs/99999999999999999999", "", "", 400, "bad_path");
    check("GET", "/api/v1/jobs/4%00", "", "", 400, "bad_path");
    check("POST", "/api/v1/caps/%ff/run_share/acknowledge", "", "", 400, "bad_path");
    check("POST", "/api/v1/caps/a%0ab/run_share/acknowledge", "", "", 400, "bad_path");
    check("GET", "http://elsewhere/metrics", "", "", 400, "bad_path");
    check("GET", "/api/v1/journal?limit=x", "", "", 400, "bad_query");
    check("GET", "/api/v1/journal?since=now", "", "", 400, "bad_query");
    check("GET", "/api/v1/journal?tree=%00", "", "", 400, "bad_query");
    check("GET", "/api/v1/failures?cursor=x", "", "", 400, "bad_cursor");
    check("GET", "/api/v1/caps?cursor=x", "", "", 400, "bad_cursor");
    check("GET", "/api/v1/plan?volume=broken", "", "", 500, "internal");
    let close = "/api/v1/failures/7/close";
    check("POST", close, "", "{}", 415, "not_json");
    check("POST", close, "Content-Type: text/plain\r\n", r#"{"reason": "x"}"#, 415, "not_json");
    check("POST", close, json_type, "", 400, "bad_json");
    check("POST", close, json_type, "{", 400, "bad_json");
    check("POST", close, json_type, "{}", 400, "bad_json");
    check("POST", close, json_type, r#"{"reason": "x", "cause": "y"}"#, 400, "bad_json");
    check("POST", close, json_type, r#"{"reason": "x", "reason": "y"}"#, 400, "bad_json");
    check("POST", close, json_type, r#"{"reason": NaN}"#, 400, "bad_json");
    check("POST", close, json_type, &"[".repeat(100_000), 400, "bad_json");
    check("POST", close, json_type, r#"{"reason": "  "}"#, 400, "bad_reason");
    check("POST", close, json_type, r#"{"reason": "a\nb"}"#, 400, "bad_reason");
    check("POST", close, json_type, &format!(r#"{{"reason": "{}"}}"#, "x".repeat(1001)), 400, "bad_reason");
    check("POST", close, "Content-Type: application/json; charset=utf-8\r\n", r#"{"reason": "x"}"#, 200, "");
    assert_eq!(served.asked(), ["close 7 by operator: x"]);
}

#[test]
fn bodies_are_bounded_in_size_and_time() {
    let limits = Limits { body_bytes: 1000, body_read: Duration::from_millis(200), ..Limits::default() };
    let served = Served::with(&AuthSettings::default(), limits);
    let post = |headers: &str, body: &[u8]| {
        let head = format!(
            "POST /api/v1/failures/7/close HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATOR}\r\n\
             Content-Type: application/json\r\n{headers}\r\n"
        );
        served.raw(&[head.as_bytes(), body].concat())
    };
    let check = |answer: &Answer, status: u16, code: &str| {
        assert_eq!((answer.status, answer.json().pointer("/error/code")), (status, Some(&code.into())));
    };
    check(&post("Content-Length: 1001\r\n", b""), 413, "too_large");
    check(&post("Content-Length: 100000\r\n", &[b' '; 100_000]), 413, "too_large");
    check(&post("Content-Length: 99999999999\r\n", b""), 413, "too_large");
    let chunks = [b"400\r\n".as_slice(), &[b' '; 1024], b"\r\n0\r\n\r\n"].concat();
    check(&post("Transfer-Encoding: chunked\r\n", &chunks), 413, "too_large");
    check(&post("Content-Length: 10\r\n", b"{"), 408, "too_slow");
    check(&post("Transfer-Encoding: chunked\r\nConnection: close\r\n", b"xyz\r\n"), 400, "bad_body");
    // Who may not change anything is not read at all.
    let anonymous = "POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\nConnection: close\r\n\r\n";
    check(&served.raw(anonymous.as_bytes()), 401, "unauthorized");
    assert_eq!(served.asked(), Vec::<String>::new());
}

#[test]
fn who_sends_nothing_or_half_a_header_is_closed() {
    let limits = Limits { header_read: Duration::from_millis(200), ..Limits::default() };
    let served = Served::with(&AuthSettings::default(), limits);
    for start in ["", "G", "GET /metrics HTTP/1.1\r\nHost: loc", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"] {
        let answer = served.raw(start.as_bytes());
        assert!(answer.status == 0 || answer.status == 408, "{start:?}: {answer:?}");
    }
    // One request is served, and the idle connection is closed after it.
    let answer = served.raw(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"healthy\n".as_slice()));
}

#[test]
fn who_takes_nothing_is_closed() {
    let limits = Limits { write_stall: Duration::from_millis(200), ..Limits::default() };
    let served = Served::with(&AuthSettings::default(), limits);
    let mut stream = served.connect();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let one = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let refused = (0..100_000).find_map(|_| stream.write_all(&one).err()).unwrap();
    assert!(!timed_out(&Err::<(), _>(refused)), "the server waits for a peer that takes nothing");
}

#[test]
fn connections_are_limited_in_all_and_for_each_address() {
    let check = |limits: Limits, allowed: usize| {
        let served = Served::with(&AuthSettings::default(), limits);
        let alive = |stream: &mut TcpStream| {
            // A closed connection may still take the bytes; only an answer tells.
            let _ = stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
            matches!(stream.read(&mut [0; 1000]), Ok(n) if n > 0)
        };
        let mut streams: Vec<TcpStream> = (0..allowed + 3).map(|_| served.connect()).collect();
        let living = streams.iter_mut().filter_map(|stream| alive(stream).then_some(())).count();
        assert_eq!(living, allowed);
        // A place that becomes free is given again.
        drop(streams);
        let again = (0..1000).any(|_| {
            std::thread::yield_now();
            alive(&mut served.connect())
        });
        assert!(again, "no place becomes free");
    };
    check(Limits { per_peer: 4, ..Limits::default() }, 4);
    check(Limits { connections: 5, per_peer: 64, ..Limits::default() }, 5);
}

#[test]
fn strange_requests_are_answered_or_refused_and_nothing_breaks() {
    let served = Served::new();
    let check = |bytes: &[u8], expected: &[u16]| {
        let answer = served.raw(bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        assert!(expected.contains(&answer.status), "{shown:?}: {}", answer.status);
    };
    check(b"GET /-/healthy HTTP/1.0\r\n\r\n", &[200]);
    check(b"GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n", &[200]);
    // A body that is announced, not wanted, and never sent holds nothing up.
    check(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n", &[200]);
    check(b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", &[200]);
    check(b"GET /\r\n", &[400]);
    check(b"GET / HTTP/2.0\r\n\r\n", &[400, 505]);
    check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400, 505]);
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[0, 400]);
    check(b"GET /a b HTTP/1.1\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", &[400]);
    check(b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", &[400]);
    check(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", &[400]);
    check(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", &[400]);
    check(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", &[400, 401, 404]);
    check(b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\nConnection: close\r\n\r\n", &[400]);
    check(&[b"GET / HTTP/1.1\r\n", b"A: b\r\n".repeat(10_000).as_slice(), b"\r\n"].concat(), &[431]);
    check(&[b"GET /", "x".repeat(70_000).as_bytes(), b" HTTP/1.1\r\n\r\n"].concat(), &[414, 431]);
    // What follows an ambiguous length is never taken for a request.
    let smuggled = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n\
                     0\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = served.raw(smuggled);
    assert!(!answer.body.windows(7).any(|w| w == b"healthy"), "{answer:?}");
    assert_eq!(served.ask("GET", "/-/healthy", "", "").status, 200, "it goes on");
}

#[test]
fn a_panic_is_an_answer_and_the_connection_goes_on() {
    let served = Served::new();
    let first = "GET /api/v1/plan?volume=broken HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = served.raw(format!("{first}{}", request("GET", "/-/healthy", "", "")).as_bytes());
    assert_eq!(answer.status, 500);
    assert!(answer.body.ends_with(b"healthy\n"), "{answer:?}");
}

#[test]
fn a_backend_that_hangs_costs_503_and_neither_metrics_nor_readiness() {
    let limits = Limits { calls: 2, call_deadline: Duration::from_millis(300), ..Limits::default() };
    let served = Served::with(&AuthSettings::default(), limits);
    *served.backend.stuck.lock().unwrap() = true;
    let stuck: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = served.connect();
            stream.write_all(request("GET", "/api/v1/plan?volume=stuck", "", "").as_bytes()).unwrap();
            stream
        })
        .collect();
    for path in ["/metrics", "/-/ready", "/-/healthy"] {
        assert_eq!(served.ask("GET", path, "", "").status, 200, "{path}");
    }
    for mut stream in stuck {
        let answer = Answer::read(&mut stream);
        assert_eq!((answer.status, answer.json().pointer("/error/code")), (503, Some(&"no_answer".into())));
    }
    // Both threads are still held, so the next call finds no place.
    assert_eq!(served.ask("GET", "/api/v1/status", "", "").status, 503);
    served.backend.release();
    assert_eq!(served.ask("GET", "/api/v1/status", "", "").status, 200);
}

/// Its own answer says why, and comes after a wait for the channel's turn and for the receiver.
#[test]
fn a_channel_that_is_tried_has_longer_than_other_calls() {
    let limits = Limits { call_deadline: Duration::from_millis(300), ..Limits::default() };
    let served = Served::with(&AuthSettings::default(), limits);
    *served.backend.stuck.lock().unwrap() = true;
    let mut tried = served.connect();
    let operator = format!("Authorization: Bearer {OPERATOR}\r\n");
    tried.write_all(request("POST", "/api/v1/channels/hook/test", &operator, "").as_bytes()).unwrap();
    assert_eq!(served.ask("GET", "/api/v1/plan?volume=stuck", "", "").status, 503);
    served.backend.release();
    let answer = Answer::read(&mut tried);
    assert_eq!((answer.status, answer.json().pointer("/delivered")), (200, Some(&false.into())));
}

#[test]
fn the_control_socket_is_for_root_and_our_own_user() {
    let served = Served::with(&tokens(), Limits::default());
    let path = served.state.path().join("control.sock");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(request("POST", "/-/reload", "", "").as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
    let uid = rustix::process::geteuid().as_raw();
    let who = if uid == 0 { "reload by root".to_owned() } else { format!("reload by uid:{uid}") };
    assert_eq!(served.asked(), [who]);
    drop(served);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn the_shutdown_lets_requests_finish_and_closes_idle_connections() {
    let mut served = Served::new();
    *served.backend.stuck.lock().unwrap() = true;
    let mut idle = served.connect();
    idle.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 1000]).unwrap() > 0);
    let mut busy = served.connect();
    busy.write_all(b"GET /api/v1/plan?volume=stuck HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    while served.asked().is_empty() {
        std::thread::yield_now();
    }
    served.stop.send(true).unwrap();
    assert_eq!(Answer::read(&mut idle).status, 0);
    served.backend.release();
    let answer = Answer::read(&mut busy);
    assert_eq!(answer.json().get("volume"), Some(&"stuck".into()));
    let ended = served.ended.take().unwrap();
    served.runtime.as_ref().unwrap().block_on(ended).unwrap();
    assert!(TcpStream::connect(served.address).is_err(), "it still listens");
}

#[test]
fn the_made_token_opens_the_api() {
    let state = tempfile::tempdir().unwrap();
    let token = operator_token(state.path()).unwrap();
    assert_eq!(token.reveal().len(), 64);
    assert_eq!(format!("{token:?}"), "***");
    let auth = Auth::new(&AuthSettings::default(), Some(&token), Arc::new(FakeClock::default()));
    // Tokens that are configured later take its place.
    auth.replace(&tokens(), None);
}
