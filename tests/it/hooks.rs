//! The hook listener, from outside: what a media server tells, in its own words and in every disorder.

mod activation;
mod crashes;
mod poison;
mod relay;
mod room;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Daemon, free_port, now, wait_for};

/// All hooks that were captured, by name.
pub(crate) fn captures() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/zlmediakit");
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let hooks = all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("hook_"));
    hooks
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

/// The event of a capture: its name, up to where the case begins.
pub(crate) fn event(capture: &str) -> &str {
    const EVENTS: [&str; 13] = [
        "on_flow_report",
        "on_http_access",
        "on_play",
        "on_publish",
        "on_record_mp4",
        "on_record_ts",
        "on_server_exited",
        "on_server_keepalive",
        "on_server_started",
        "on_stream_changed",
        "on_stream_none_reader",
        "on_stream_not_found",
        "on_rtsp_auth",
    ];
    let name = capture.strip_prefix("hook_").unwrap();
    EVENTS.into_iter().find(|event| name.starts_with(event)).unwrap_or_else(|| panic!("{capture}"))
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn code(&self) -> i64 {
        self.json()["code"].as_i64().unwrap_or_else(|| panic!("{self:?}"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// A site whose guard receives the hooks of `zlm-1`; nothing of it needs a volume of its own.
pub(crate) struct Heard {
    home: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Heard {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("record")).unwrap();
        Self { home, port: free_port() }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.home().join("record")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home().join("state")
    }

    /// Writes the configuration; `server` is added to the media server, `top` to the whole.
    pub(crate) fn config(&self, server: &str, hooks: &str, top: &str) -> PathBuf {
        self.config_at(&self.state(), server, hooks, top)
    }

    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(crate) fn config_at(&self, state: &Path, server: &str, hooks: &str, top: &str) -> PathBuf {
        let path = self.home().join("guard.yaml");
        let text = format!(
            "listen: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nscan_interval: 1s\ntrees:\n  - name: live\n    path: {}\n    layout: zlmediakit\n    \
             orphans: {{ grace: 1s }}\n    catalogue: told\ncatalogues:\n  - {{ name: told, kind: hooks, interval: 1s, path_map: {{ /data/zlm/rec: {} }} }}\n\
             media_servers:\n  - {{ name: zlm-1, kind: zlmediakit, api: \"http://127.0.0.1:1\", hooks: {{ listen: \"127.0.0.1:{}\"{hooks} }}{server} }}\n{top}",
            state.display(),
            self.tree().display(),
            self.home().display(),
            self.port,
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(&self.config("", "", ""), &self.state())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home().join("guard.log")).unwrap()
    }

    /// Sends a hook as ZLMediaKit does, by a connection of its own.
    pub(crate) fn send(&self, event: &str, body: &str) -> Answer {
        self.try_send(event, body).unwrap()
    }

    pub(crate) fn try_send(&self, event: &str, body: &str) -> std::io::Result<Answer> {
        send(self.port, &format!("/index/hook/{event}"), body)
    }

    /// Sends bytes, and reads what comes until the end.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // It may have been refused before its end.
        let _ = stream.write_all(bytes);
        // Not told that nothing follows: a server may take that for a goodbye.
        let (mut out, mut some) = (Vec::new(), [0; 4096]);
        while !out.windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read(&mut some) {
                Ok(count) if count > 0 => out.extend_from_slice(&some[..count]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// The request for a hook, in the media server's form.
pub(crate) fn request(path: &str, body: &str) -> Vec<u8> {
    let vhost = if body.contains("\"vhost\"") { "X-VHOST: __defaultVhost__\r\n" } else { "" };
    format!(
        "POST {path} HTTP/1.1\r\nAccept: */*\r\nAccept-Language: zh-CN,zh;q=0.8\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\
         Content-Type: application/json\r\nHost: 127.0.0.1\r\nUser-Agent: ZLMediaKit(git hash:unknown)\r\n{vhost}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) fn send(port: u16, path: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(&request(path, body))?;
    read_answer(&mut stream)
}

/// Reads one answer, whose end is told by its length.
pub(crate) fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Ok(Answer { status, head: head.to_owned(), body: body.to_owned() });
            }
        }
        match stream.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&part[..read]),
        }
    }
}

/// How often hooks of an event came to a result.
pub(crate) fn count(daemon: &Daemon, event: &str, result: &str) -> u64 {
    let name = format!("storage_guard_hooks_total{{event=\"{event}\",media_server=\"zlm-1\",result=\"{result}\"}} ");
    let text = daemon.get("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
}

fn items(daemon: &Daemon, call: &str) -> Vec<Value> {
    let page: Value = serde_json::from_str(&daemon.get(call)).unwrap();
    page["items"].as_array().unwrap().clone()
}

/// The rows that the catalogue of hooks has: of this guard, foreign, bad.
fn rows(daemon: &Daemon) -> [u64; 3] {
    let catalogue = items(daemon, "/api/v1/catalogues")[0].clone();
    ["rows", "foreign_rows", "bad_rows"].map(|key| catalogue[key].as_u64().unwrap())
}

/// The value of a metric.
fn gauge(daemon: &Daemon, name: &str) -> Option<String> {
    let text = daemon.get("/metrics");
    text.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn file(tree: &Path, path: &str, bytes: usize) {
    let file = tree.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vec![7; bytes]).unwrap();
    let at = now() - Duration::from_secs(5 * 86_400);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
}

/// All files below a folder, and their content.
fn everything(below: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut pending = vec![below.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                let content = std::fs::read(&path).unwrap();
                out.insert(path, content);
            }
        }
    }
    out
}

#[test]
fn every_hook_that_was_captured_is_answered_in_the_form_that_the_media_server_takes_for_an_answer() {
    let heard = Heard::new();
    let daemon = heard.start();
    assert_eq!(count(&daemon, "on_rtsp_realm", "relayed"), 0, "all is there from the start");
    for (name, body) in captures() {
        let answer = heard.send(event(&name), &body);
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
        match event(&name) {
            "on_play" => assert_eq!(answer.code(), -1, "nobody is let in without the platform"),
            "on_http_access" => assert_ne!(answer.json()["err"], ""),
            "on_stream_none_reader" => assert_eq!(answer.json(), json!({"code": 0, "close": false})),
            "on_publish" | "on_stream_not_found" => assert_eq!(answer.code(), 0, "{name}"),
            _ => assert_eq!(answer.body, r#"{"code":0,"msg":"success"}"#, "{name}"),
        }
    }
    assert_eq!(count(&daemon, "on_record_mp4", "stored"), 5);
    assert_eq!(count(&daemon, "on_record_ts", "stored"), 1);
    assert_eq!(count(&daemon, "on_server_started", "stored"), 1);
    assert_eq!(count(&daemon, "on_stream_changed", "stored"), 11);
    assert_eq!(count(&daemon, "on_play", "relay_failed"), 1);
    // What the media server tells of itself is nobody's to read.
    let secret = "example-secret-0123456789abcdef";
    assert!(captures()["hook_on_server_started"].contains(secret));
    assert!(!heard.log().contains(secret));
    let kept = everything(&heard.state());
    assert!(kept.len() > 3);
    for (path, content) in kept {
        assert!(!content.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", path.display());
    }
}

/// Faults 37, 110: in order, shuffled, doubled, late; for a file that is there, absent, or corrupt. The catalogue is right after one scan.
#[test]
fn whatever_the_order_and_number_of_hooks_the_catalogue_is_right_after_one_scan() {
    let heard = Heard::new();
    let all = captures();
    let told: Vec<&String> =
        all.iter().filter(|(name, _)| name.starts_with("hook_on_record")).map(|(_, body)| body).collect();
    assert_eq!(told.len(), 6);
    let (there, corrupt, silent, late) = (
        "live/test/2026-11-22/2026-11-22-12-21-41-0.mp4",
        "live/immrec/2026-11-22/2026-11-22-12-32-40-2.mp4",
        "live/test/2026-11-22/2026-11-22-12-21-48-1.mp4",
        "live/test/2026-11-22/2026-11-22-12-50-00-9.mp4",
    );
    file(&heard.tree(), there, 772_023);
    file(&heard.tree(), corrupt, 48);
    file(&heard.tree(), silent, 600_000);
    let before = everything(&heard.tree());
    let daemon = heard.start();
    let later = |body: &str, index: u64| {
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["hook_index"] = index.into();
        body.to_string()
    };
    let sends: Vec<String> =
        told.iter().map(|body| (*body).clone()).chain(told.iter().rev().map(|body| later(body, 900))).collect();
    for at in 0..sends.len() * 2 {
        // Each twice, in another order.
        let answer = heard.send("on_record_mp4", &sends[at * 7 % sends.len()]);
        assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
    }
    assert_eq!(count(&daemon, "on_record_mp4", "stored"), 6);
    assert_eq!(count(&daemon, "on_record_mp4", "duplicate"), 18);
    // One of another disk, one of another tree, one below the other virtual host.
    wait_for("the catalogue has what was told", || rows(&daemon) == [3, 3, 0]);
    wait_for("what is not there is missing", || {
        gauge(&daemon, "storage_guard_missing_files{tree=\"live\"}").as_deref() == Some("1")
    });
    let missing = items(&daemon, "/api/v1/missing");
    assert_eq!(missing[0]["path"], "live/immrec/2026-11-22/2026-11-22-12-32-28-0.mp4");
    let unproven = || -> BTreeSet<String> {
        items(&daemon, "/api/v1/orphans").iter().map(|item| item["path"].as_str().unwrap().to_owned()).collect()
    };
    wait_for("what no hook told of is reported", || unproven() == BTreeSet::from([silent.to_owned()]));
    // A hook that comes long after its file.
    file(&heard.tree(), late, 1000);
    let mut body: Value = serde_json::from_str(&all["hook_on_record_mp4"]).unwrap();
    body["file_path"] = format!("/data/zlm/rec/record/{late}").into();
    body["start_time"] = 1_795_352_000.into();
    wait_for("it is reported meanwhile", || unproven().contains(late));
    assert_eq!(heard.send("on_record_mp4", &body.to_string()).code(), 0);
    wait_for("it is known", || unproven() == BTreeSet::from([silent.to_owned()]));
    let after = everything(&heard.tree());
    assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)), "hooks change nothing on disk");
}

/// Faults 4, 110: forged, of another media server, or leading out. It is told no, once, and the media server goes on.
#[test]
fn what_is_forged_or_foreign_is_rejected_and_seen() {
    let heard = Heard::new();
    let daemon = heard.start();
    let good: Value = serde_json::from_str(&captures()["hook_on_record_mp4"]).unwrap();
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body.to_string()
    };
    let mut without = good.clone();
    without.as_object_mut().unwrap().remove("mediaServerId");
    let bodies = [
        with("mediaServerId", json!("zlm-2")),
        with("mediaServerId", json!(7)),
        without.to_string(),
        with("file_path", json!("/data/zlm/rec/record/../../../etc/passwd")),
        with("file_path", json!("relative.mp4")),
        with("file_path", json!("/data/a\u{1}.mp4")),
        with("start_time", json!(-1)),
        with("start_time", json!(1e300)),
        with("file_size", json!("big")),
        with("stream", json!("a\nb")),
    ];
    for body in &bodies {
        let answer = heard.send("on_record_mp4", body);
        assert_eq!((answer.status, answer.code()), (200, -1), "{body}: {answer:?}");
    }
    let foreign = json!({"mediaServerId": "zlm-2", "hook_index": 1}).to_string();
    assert_eq!(heard.send("on_server_keepalive", &foreign).code(), -1);
    assert_eq!(count(&daemon, "on_record_mp4", "rejected"), bodies.len() as u64);
    assert_eq!(count(&daemon, "on_server_keepalive", "rejected"), 1);
    assert_eq!(count(&daemon, "on_record_mp4", "stored"), 0);
    assert_eq!(heard.log().matches("was not taken").count(), 1, "one line a minute: {}", heard.log());
    // A path that is none of ours is kept as what it is: a text.
    assert_eq!(heard.send("on_record_mp4", &with("file_path", json!("/etc/passwd"))).code(), 0);
    wait_for("it is foreign", || rows(&daemon) == [0, 1, 0]);
}

/// Faults 100, 101.
#[test]
fn what_is_no_hook_is_refused_at_once() {
    let heard = Heard::new();
    let daemon = heard.start();
    let good = captures()["hook_on_record_mp4"].clone();
    let begin = clock();
    let check = |event: &str, body: &str, status: u16| {
        let answer = heard.send(event, body);
        assert_eq!(answer.status, status, "{event} {}: {answer:?}", &body[..body.len().min(60)]);
        assert_eq!(answer.code(), -1);
    };
    check("on_record_mp4", "", 400);
    check("on_record_mp4", "nonsense", 400);
    check("on_record_mp4", "[]", 400);
    check("on_record_mp4", r#"{"file_size": NaN}"#, 400);
    check("on_record_mp4", r#"{"file_size": 1e999}"#, 400);
    check("on_record_mp4", &"[".repeat(100_000), 400);
    check("on_record_mp4", &format!("{{\"a\":{}", "{\"a\":".repeat(50_000)), 400);
    check("on_record_mp4", &format!("{}{}", good.trim_end(), " ".repeat(300 << 10)), 413);
    check("a-b", &good, 404);
    check("..%2f..%2fetc", &good, 404);
    check(&"a".repeat(65), &good, 404);
    let long = format!("POST /index/hook/on_play HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: b\r\n".repeat(10_000));
    for (bytes, status) in [
        (long.as_str(), "431"),
        (
            "POST /index/hook/on_play HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("POST /index/hook/on_play HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "400"),
        ("GET /index/hook/on_play HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("POST /etc/passwd HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", "404"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let said = heard.raw(bytes.as_bytes());
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{bytes:.60}: {said}");
    }
    // A hundred megabytes are not even read.
    let mut huge = b"POST /index/hook/on_record_mp4 HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n".to_vec();
    huge.extend(std::iter::repeat_n(b' ', 1 << 20));
    assert!(heard.raw(&huge).starts_with("HTTP/1.1 413"));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(heard.send("on_record_mp4", &good).code(), 0);
    assert!(count(&daemon, "on_record_mp4", "rejected") >= 9);
    assert_eq!(count(&daemon, "other", "rejected"), 3);
}

/// Fault 99: connections that say nothing, or half of it, end, and nobody else waits for them.
#[test]
fn who_is_slow_holds_up_nobody_else() {
    let heard = Heard::new();
    let daemon = heard.start();
    let body = captures()["hook_on_record_mp4"].clone();
    let whole = request("/index/hook/on_record_mp4", &body);
    let mut slow: Vec<TcpStream> = (0..900)
        .map(|at| {
            let mut stream = TcpStream::connect(("127.0.0.1", heard.port)).unwrap();
            stream.write_all(&whole[..[0, 40, whole.len() - 20][at % 3]]).unwrap();
            stream
        })
        .collect();
    for at in 0..100 {
        let answer = heard.send("on_record_mp4", &body.replace("-0.mp4", &format!("-{at}.mp4")));
        assert_eq!(answer.code(), 0);
    }
    assert_eq!(count(&daemon, "on_record_mp4", "stored"), 100);
    // Those that sent no whole head are closed, those that sent no whole body are told.
    for (at, stream) in slow.iter_mut().take(3).enumerate() {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut out = String::new();
        let _ = stream.read_to_string(&mut out);
        assert!(at != 2 || out.starts_with("HTTP/1.1 408"), "{out}");
    }
}

/// What a reload cannot change says so, and what it can change is in force; no hook is refused meanwhile.
#[test]
fn a_reload_loses_no_hook_and_says_what_needs_a_restart() {
    let heard = Heard::new();
    let daemon = heard.start();
    let play = captures()["hook_on_play"].clone();
    let body = captures()["hook_on_record_mp4"].clone();
    assert_eq!(heard.send("on_play", &play).code(), -1);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let port = heard.port;
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        while stopped.try_recv().is_err() {
            let body = body.replace("-0.mp4", &format!("-{sent}.mp4"));
            assert_eq!(send(port, "/index/hook/on_record_mp4", &body).unwrap().code(), 0);
            sent += 1;
        }
        sent
    });
    heard.config(", relay_default: { on_play: allow }", "", "");
    let reload = || assert!(Command::new("kill").args(["-HUP", &daemon.pid().to_string()]).status().unwrap().success());
    reload();
    wait_for("the new answer is in force", || heard.send("on_play", &play).code() == 0);
    let moved = Heard { home: tempfile::tempdir().unwrap(), port: free_port() };
    let text = std::fs::read_to_string(heard.home().join("guard.yaml")).unwrap();
    write(&heard.home().join("guard.yaml"), &text.replace(&heard.port.to_string(), &moved.port.to_string()));
    reload();
    wait_for("it says that this needs a restart", || heard.log().contains("hooks.listen, cannot be changed"));
    stop.send(()).unwrap();
    let sent: u64 = sender.join().unwrap();
    assert_eq!(count(&daemon, "on_record_mp4", "stored"), sent);
    assert!(TcpStream::connect(("127.0.0.1", moved.port)).is_err());
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "it measures time")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}
