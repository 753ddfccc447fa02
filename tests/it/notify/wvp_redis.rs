//! Alarms for WVP by a real Redis, with a listener in WVP's place.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use storage_guard::domain::alert::{AlertName, Case, Condition, Subject};
use storage_guard::domain::alert_book::{Active, AlertState, Change};
use storage_guard::domain::event::Delivery;
use storage_guard::domain::fact::{Fact, FactName};
use storage_guard::domain::names::VolumeId;
use storage_guard::domain::recording::Tally;
use storage_guard::domain::secret::Secret;
use storage_guard::domain::settings::{ChannelKind, ChannelSettings};
use storage_guard::domain::units::Timestamp;

use super::{PATIENCE, Running, memory, settings};
use crate::support::{certificate, free_port, wait_for};
use Delivery::{Retried, Sent};

const ID: &str = "34020000001320000001";

/// A Redis on a port of its own, ended when dropped.
struct Redis {
    child: Child,
    port: u16,
    /// What every client needs to be let in.
    client: Vec<String>,
}

impl Redis {
    fn plain() -> Self {
        Self::start(free_port(), &[], &[])
    }

    fn with_password(password: &str) -> Self {
        Self::start(free_port(), &["--requirepass", password], &["-a", password, "--no-auth-warning"])
    }

    fn encrypted([ca, certificate, key]: &[PathBuf; 3]) -> Self {
        let port = free_port();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (number, ca, certificate, key) = (port.to_string(), path(ca), path(certificate), path(key));
        let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        let tls = [&["--tls-port", &number, "--tls-auth-clients", "no"], &files[..]].concat();
        Self::listening(port, "0", &tls, &["--tls", "--cacert", &ca])
    }

    fn start(port: u16, server: &[&str], client: &[&str]) -> Self {
        Self::listening(port, &port.to_string(), server, client)
    }

    fn listening(port: u16, plain: &str, server: &[&str], client: &[&str]) -> Self {
        let mut command = Command::new("redis-server");
        command.args(["--port", plain, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).args(server);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let redis = Self { child, port, client: client.iter().map(|word| (*word).to_owned()).collect() };
        wait_for("Redis answers", || redis.cli(&["ping"]).output().unwrap().stdout == b"PONG\n");
        redis
    }

    fn cli(&self, args: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(&self.client).args(args).stderr(Stdio::null());
        command
    }

    fn listen(&self, to: &str) -> Listener {
        let mut child = self.cli(&["subscribe", to]).stdout(Stdio::piped()).spawn().unwrap();
        let (told, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| told.send(line).is_ok()));
        let listener = Listener { child, lines };
        assert_eq!([(); 3].map(|()| listener.line()), ["subscribe", to, "1"]);
        listener
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who listens as WVP does.
struct Listener {
    child: Child,
    lines: Receiver<String>,
}

impl Listener {
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn alarm(&self) -> Value {
        assert_eq!(self.line(), "message");
        self.line();
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wvp(url: &str) -> ChannelSettings {
    let kind = ChannelKind::WvpRedis {
        url: Secret::new(url),
        username: None,
        password: None,
        ca_file: None,
        gb_id: ID.to_owned(),
        channel: "alarm_receive".to_owned(),
    };
    ChannelSettings { name: "wvp".to_owned(), kind, per_minute: 1000 }
}

fn at(port: u16) -> ChannelSettings {
    wvp(&format!("redis://127.0.0.1:{port}/6"))
}

fn alert(alert: AlertName, case: Case, causes: &[&str]) -> Active {
    let causes = causes.iter().map(|cause| ((*cause).to_owned(), 1)).collect();
    let condition = Condition {
        alert,
        severity: alert.severity(),
        subject: Subject::Volume(VolumeId::new("<data>")),
        case,
        facts: BTreeMap::from([(FactName::Causes, Fact::Counts(causes))]),
        unreclaimed: Tally::default(),
        items: Vec::new(),
    };
    Active { state: AlertState::Firing, since: Timestamp::from_secs(1), condition }
}

fn full() -> Active {
    alert(AlertName::VolumeExhausted, Case::Only, &[])
}

fn faulty() -> Active {
    alert(AlertName::VolumeReadOnly, Case::Only, &[])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_full_storage_and_a_faulty_disk_are_published_and_nothing_else_is() {
    let redis = Redis::plain();
    let listener = redis.listen("alarm_receive");
    let mut running = Running::start(settings(vec![at(redis.port)]), memory());
    running.notifier.changed(vec![
        Change::Fired(alert(AlertName::CapTripped, Case::Only, &[])),
        Change::Fired(alert(AlertName::SpaceNotReclaimed, Case::Open, &[])),
        Change::Fired(alert(AlertName::DeletionFailing, Case::Only, &["permission"])),
    ]);
    running.notifier.changed(vec![Change::Fired(full())]);
    let said = running.expect(&[Sent]).await.detail;
    assert!(said.ends_with(": 1 listening on `alarm_receive`"), "{said}");
    let alarm = listener.alarm();
    let description = alarm["alarmDescription"].as_str().unwrap();
    assert!(description.contains("＜data＞") && !description.contains(['<', '\n']), "{description}");
    let expected = json!({ "gbId": ID, "alarmSn": 2, "alarmType": 3, "alarmDescription": description });
    assert_eq!(alarm, expected);

    // The end of an alarm is none, and the next is told without it.
    running.notifier.changed(vec![Change::Resolved(full())]);
    running.notifier.changed(vec![Change::Updated(alert(
        AlertName::DeletionFailing,
        Case::Only,
        &["permission", "io"],
    ))]);
    running.expect(&[Sent]).await;
    let alarm = listener.alarm();
    assert_eq!((&alarm["alarmSn"], &alarm["alarmType"]), (&json!(6), &json!(1)), "{alarm}");
    running.notifier.changed(vec![Change::Fired(full())]);
    running.expect(&[Sent]).await;
    assert_eq!(listener.alarm()["alarmSn"], 2);
    running.stop().await;
    assert!(listener.lines.try_recv().is_err());
}

/// Promise 11.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn an_alarm_that_nobody_hears_is_not_delivered_and_is_told_once_when_somebody_listens() {
    let redis = Redis::plain();
    let mut running = Running::start(settings(vec![at(redis.port)]), memory());
    running.notifier.changed(vec![Change::Fired(full())]);
    let said = running.expect(&[Retried, Retried]).await.detail;
    assert!(said.contains(": nobody listens on `alarm_receive`"), "{said}");
    assert!(running.notifier.test("wvp").await.unwrap_err().contains("nobody listens"));
    // What goes and comes again meanwhile is one alarm.
    for _ in 0..2 {
        running.notifier.changed(vec![Change::Resolved(full())]);
        running.expect(&[Retried]).await;
        running.notifier.changed(vec![Change::Fired(full())]);
        running.expect(&[Retried]).await;
    }
    running.notifier.changed(vec![Change::Resolved(full())]);
    running.expect(&[Retried]).await;
    let listener = redis.listen("alarm_receive");
    while running.event().await.result != Sent {}
    assert_eq!(listener.alarm()["alarmSn"], 2);
    running.notifier.changed(vec![Change::Fired(faulty())]);
    running.expect(&[Sent]).await;
    assert_eq!(listener.alarm()["alarmSn"], 6);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_redis_that_is_away_is_waited_for() {
    let port = free_port();
    let mut running = Running::start(settings(vec![at(port)]), memory());
    running.notifier.changed(vec![Change::Fired(full())]);
    let said = running.expect(&[Retried]).await.detail;
    assert!(said.contains("Connection refused"), "{said}");
    let redis = Redis::start(port, &[], &[]);
    let listener = redis.listen("alarm_receive");
    while running.event().await.result != Sent {}
    assert_eq!(listener.alarm()["gbId"], ID);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_password_is_used_and_shown_nowhere() {
    let redis = Redis::with_password("canary");
    let listener = redis.listen("alarm_receive");
    let with = |password: Option<&str>| {
        let mut channel = at(redis.port);
        if let ChannelKind::WvpRedis { password: of, .. } = &mut channel.kind {
            *of = password.map(Secret::new);
        }
        channel
    };
    let in_address = wvp(&format!("redis://:canary@127.0.0.1:{}/0", redis.port));
    for channel in [with(Some("canary")), in_address] {
        let running = Running::start(settings(vec![channel]), memory());
        let said = running.notifier.test("wvp").await.unwrap();
        assert!(said.contains("> AUTH ***") && said.ends_with("< 1\ndelivered") && !said.contains("canary"), "{said}");
        let alarm = listener.alarm();
        assert_eq!((&alarm["alarmSn"], &alarm["alarmType"]), (&json!(7), &json!(0)), "a test is no alarm of its own");
        running.stop().await;
    }
    // A wrong one is mended by a person, and the alarm is not lost meanwhile.
    for (channel, expected) in [(with(Some("secret")), "WRONGPASS"), (with(None), "NOAUTH")] {
        let mut running = Running::start(settings(vec![channel]), memory());
        running.notifier.changed(vec![Change::Fired(full())]);
        let said = running.expect(&[Retried]).await.detail;
        assert!(said.contains(expected) || said.to_lowercase().contains("auth"), "{said}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn with_tls_only_who_is_trusted_is_told() {
    let home = tempfile::tempdir().unwrap();
    let files = certificate(home.path());
    let redis = Redis::encrypted(&files);
    let listener = redis.listen("alarm_receive");
    for (scheme, ca, said) in [
        ("rediss", Some(&files[0]), None),
        // Fault 113: an unknown authority.
        ("rediss", None, Some("certificate")),
        ("redis", None, Some("")),
    ] {
        let mut channel = wvp(&format!("{scheme}://localhost:{}/0", redis.port));
        if let ChannelKind::WvpRedis { ca_file, .. } = &mut channel.kind {
            *ca_file = ca.cloned();
        }
        let mut running = Running::start(settings(vec![channel]), memory());
        running.notifier.changed(vec![Change::Fired(full())]);
        match said {
            None => {
                running.expect(&[Sent]).await;
                assert_eq!(listener.alarm()["alarmSn"], 2);
            }
            Some(said) => {
                let detail = running.expect(&[Retried]).await.detail;
                assert!(detail.contains(said), "{detail}");
            }
        }
        running.stop().await;
    }
    assert!(listener.lines.try_recv().is_err());
}
