//! What stands beside the messages: a real Alertmanager that is told again and again, heartbeats, and what is seen when nothing is
//! delivered.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use storage_guard::domain::alert::{AlertName, Case, Condition, Subject};
use storage_guard::domain::alert_book::{Active, AlertState, Change};
use storage_guard::domain::conditions::condition;
use storage_guard::domain::fact::{Fact, FactName};
use storage_guard::domain::names::TreeId;
use storage_guard::domain::secret::Secret;
use storage_guard::domain::settings::{ChannelKind, ChannelSettings, NotifySettings, Severity};
use storage_guard::domain::units::Bytes;
use storage_guard::notify::{ChannelState, Notifier};
use storage_guard::store::Database;
use storage_guard::system::{Clock, SystemClock};
use tokio::sync::watch;

use crate::notify::receiver;
use crate::support::{Daemon, free_port, guard, pause, recording, wait_for};

/// The login of the test's Alertmanager, and its bcrypt.
const LOGIN: &str = "guard:hunter22";
const USERS: &str = "basic_auth_users: { guard: \"$2b$04$abcdefghijklmnopqrstuunBMgByaIAZYuFgMUjBx8aaeU/9We5xa\" }\n";

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    // An address that is a key may stand in it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Debian's Alertmanager, below a path and behind a login; ended when dropped, and what it knew is gone with it.
struct Alertmanager {
    child: Child,
    port: u16,
    _home: tempfile::TempDir,
}

impl Alertmanager {
    fn start(port: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let [config, web, data] = ["am.yml", "web.yml", "data"].map(|name| home.path().join(name));
        write(&config, "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n");
        write(&web, USERS);
        let child = Command::new("prometheus-alertmanager")
            .args(["--cluster.listen-address=", "--web.route-prefix=/am", "--log.level=error"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.config.file={}", web.display()))
            .arg(format!("--storage.path={}", data.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self { child, port, _home: home };
        wait_for("the Alertmanager answers", || started.asked().is_some());
        started
    }

    fn asked(&self) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/am/api/v2/alerts", self.port);
        let output = Command::new("curl").args(["-s", "-f", "-m", "5", "-u", LOGIN, &url]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The alerts that fire there: name and severity.
    fn firing(&self) -> Vec<(String, String)> {
        let asked = self.asked().unwrap();
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap().to_owned();
        let alerts = asked.as_array().unwrap().iter();
        alerts.map(|alert| (label(alert, "alertname"), label(alert, "severity"))).collect()
    }

    /// When its only alert ends by itself.
    fn ends(&self) -> jiff::Timestamp {
        self.asked().unwrap()[0]["endsAt"].as_str().unwrap().parse().unwrap()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A notifier that runs until it is dropped, in a runtime of its own.
struct Running {
    notifier: Arc<Notifier>,
    stop: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    fn start(channels: Vec<ChannelSettings>, database: &Path) -> Self {
        let settings = NotifySettings {
            retry_first: Duration::from_millis(20),
            retry_max: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            delivery_failing_after: Duration::from_secs(1),
            channels,
            ..NotifySettings::default()
        };
        let database = Arc::new(Database::open(database).unwrap().database);
        let notifier = Arc::new(Notifier::new(settings, database, Arc::new(SystemClock), |_| {}));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (stop, stopped) = watch::channel(false);
        let task = Some(runtime.spawn(notifier.clone().run(stopped)));
        Self { notifier, stop, runtime, task }
    }

    fn state(&self, channel: &str) -> ChannelState {
        self.notifier.channels().into_iter().find(|report| report.name == channel).unwrap().state
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = self.runtime.block_on(task);
        }
    }
}

fn at(port: u16, kind: impl Fn(Secret) -> ChannelKind, path: &str, login: &str) -> ChannelSettings {
    let kind = kind(Secret::new(&format!("http://{login}127.0.0.1:{port}{path}")));
    ChannelSettings { name: kind.as_str().to_owned(), kind, per_minute: 6000 }
}

fn manager(port: u16) -> ChannelSettings {
    let generator_url = Some("http://cam-07:10190/".to_owned());
    let kind =
        |url| ChannelKind::Alertmanager { url, every: Duration::from_secs(1), generator_url: generator_url.clone() };
    at(port, kind, "/am/", &format!("{LOGIN}@"))
}

fn tripped(severity: Severity) -> Active {
    let about = Subject::Tree(TreeId::new("live"));
    let bytes = |gib: u64| Fact::Bytes(Bytes::gib(gib));
    let cap = Fact::Text("run_share".to_owned());
    let facts = [(FactName::Cap, cap), (FactName::Wanted, bytes(7)), (FactName::Allowed, bytes(3))];
    let found = condition(AlertName::CapTripped, about, Case::Only, facts);
    Active { state: AlertState::Firing, since: SystemClock.now(), condition: Condition { severity, ..found } }
}

fn passed(at: jiff::Timestamp) -> bool {
    SystemClock.now().millis() > at.as_millisecond()
}

#[test]
#[ignore = "needs prometheus-alertmanager"]
fn a_real_alertmanager_hears_keeps_and_forgets_what_the_guard_knows() {
    let home = tempfile::tempdir().unwrap();
    let database = home.path().join("guard.db");
    let port = free_port();
    let is = |severity: &str| vec![("CapTripped".to_owned(), severity.to_owned())];
    let mut there = Alertmanager::start(port);
    let running = Running::start(vec![manager(port)], &database);
    running.notifier.changed(vec![Change::Fired(tripped(Severity::Warning))]);
    wait_for("it fires", || there.firing() == is("warning"));
    let alert = there.asked().unwrap()[0].clone();
    assert_eq!((&alert["labels"]["tree"], &alert["labels"]["job"]), (&"live".into(), &"storage-guard".into()));
    let description = alert["annotations"]["description"].as_str().unwrap();
    assert!(description.starts_with("7") && description.contains("to be deleted from tree `live`"), "{description}");
    assert_eq!(alert["generatorURL"], "http://cam-07:10190/");
    assert!(alert["annotations"]["runbook_url"].as_str().unwrap().contains("captripped"), "{alert}");

    // It holds for five seconds by itself, and is told again in time.
    let first = there.ends();
    wait_for("its first end has passed", || {
        assert_eq!(there.firing(), is("warning"));
        passed(first)
    });
    assert!(there.ends() > first);

    // A severity that changes ends the one and begins the other.
    running.notifier.changed(vec![Change::Updated(tripped(Severity::Critical))]);
    wait_for("the other severity fires, and it alone", || there.firing() == is("critical"));

    // What it knew is gone, and it hears of it again.
    drop(there);
    wait_for("it is seen to be gone", || matches!(running.state("alertmanager"), ChannelState::Failing { .. }));
    wait_for("that is DeliveryFailing", || running.notifier.failing_since().is_some());
    there = Alertmanager::start(port);
    wait_for("it fires again", || there.firing() == is("critical"));
    assert!(matches!(running.state("alertmanager"), ChannelState::Working { .. }));
    assert_eq!(running.notifier.failing_since(), None);

    // The guard starts again.
    drop(running);
    let running = Running::start(vec![manager(port)], &database);
    let ends = there.ends();
    wait_for("its end before the restart has passed", || passed(ends));
    assert_eq!(there.firing(), is("critical"));

    running.notifier.changed(vec![Change::Resolved(tripped(Severity::Critical))]);
    wait_for("it is resolved", || there.firing().is_empty());
    let resolved = SystemClock.now();
    pause(Duration::from_secs(2));
    assert_eq!(there.firing(), [], "it stays so");

    // A test of the channel shows the exchange without the login, and ends by itself, like all of a guard that is dead.
    let said = running.runtime.block_on(running.notifier.test("alertmanager")).unwrap();
    assert!(said.contains("200 OK") && said.ends_with("delivered"), "{said}");
    for secret in ["hunter22", "Z3VhcmQ6aHVudGVyMjI"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert_eq!(there.firing(), [("Test".to_owned(), "info".to_owned())]);
    drop(running);
    wait_for("it is forgotten", || there.firing().is_empty());
    assert!(SystemClock.now().since(resolved) > Duration::from_secs(5));
}

#[test]
fn a_heartbeat_is_a_get_that_begins_once_somebody_looks() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (port, mut seen) = runtime.block_on(receiver(&["200 OK"]));
    let home = tempfile::tempdir().unwrap();
    let beat = |url| ChannelKind::Heartbeat { url, every: Duration::from_millis(50) };
    let channels = vec![at(port, beat, "/ping/canary?status=up", "")];
    let running = Running::start(channels, &home.path().join("guard.db"));
    pause(Duration::from_millis(300));
    assert!(seen.try_recv().is_err(), "nobody has looked at anything yet");
    let looker = running.notifier.clone();
    running.runtime.spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            looker.looked();
        }
    });
    for _ in 0..5 {
        let beat = seen.blocking_recv().unwrap();
        assert!(beat.line() == "GET /ping/canary?status=up HTTP/1.1" && beat.body.is_empty(), "{beat:?}");
    }
    let said = running.runtime.block_on(running.notifier.test("heartbeat")).unwrap();
    assert!(said.contains("> GET http://127.0.0.1:") && !said.contains("canary"), "{said}");
    assert!(matches!(running.state("heartbeat"), ChannelState::Working { .. }));
}

/// A configuration whose only alert is due at once, and goes to this port.
fn config(home: &Path, port: u16, heartbeat: u16) -> (PathBuf, PathBuf) {
    let [tree, state, config] = ["record", "state", "guard.yaml"].map(|name| home.join(name));
    recording(&tree, "live/a", Duration::from_secs(86_400), 1000);
    let text = format!(
        "mode: observe\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nwatermarks: {{ high: 2%, low: 1%, \
         critical: 99% }}\ntrees: [{{ name: live, path: {}, layout: zlmediakit }}]\nnotify:\n  group_wait: 0\n  retry: {{ first: 100ms, max: \
         500ms }}\n  delivery_failing_after: 2s\n  channels:\n    - {{ name: hook, kind: webhook, url: \"http://127.0.0.1:{port}/in\" }}\n    \
         - {{ name: pulse, kind: heartbeat, url: \"http://127.0.0.1:{heartbeat}/\", every: 1s, per_minute: 1000 }}\n",
        state.display(),
        tree.display()
    );
    write(&config, &text);
    (config, state)
}

/// Fault 124: everywhere else it is seen that alerts are not delivered, and that they are again.
#[test]
fn when_no_channel_works_log_metric_status_screen_page_and_heartbeat_say_so() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (heart, mut beats) = runtime.block_on(receiver(&["200 OK"]));
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let (config, state) = config(home.path(), port, heart);
    let daemon = Daemon::start(&config, &state);
    let metric = "storage_guard_alerts_firing{alert=\"DeliveryFailing\",severity=\"critical\"} ";
    let screen = || String::from_utf8(guard(&["status", "--state", state.to_str().unwrap()]).stdout).unwrap();
    let log = || std::fs::read_to_string(config.with_extension("log")).unwrap();
    let beats_in_a_while = |beats: &mut tokio::sync::mpsc::UnboundedReceiver<crate::notify::Seen>| {
        while beats.try_recv().is_ok() {}
        pause(Duration::from_secs(3));
        std::iter::from_fn(|| beats.try_recv().ok()).count()
    };
    wait_for("the alert fires", || daemon.get("/metrics").contains(&format!("{metric}1\n")));
    assert!(daemon.status().unwrap()["delivery_failing_since"].is_string());
    let shown = screen();
    assert!(shown.starts_with("ALERTS ARE NOT DELIVERED since "), "{shown}");
    assert!(
        shown.contains("channel hook (webhook): FAILING since ") && shown.contains("Connection refused"),
        "{shown}"
    );
    assert!(daemon.get("/").contains("ALERTS ARE NOT DELIVERED since "));
    let channels: Value = serde_json::from_str(&daemon.get("/api/v1/channels")).unwrap();
    let hook = &channels["items"][0];
    assert_eq!((&hook["state"], &hook["kind"]), (&"failing".into(), &"webhook".into()), "{channels}");
    assert!(hook["queued"].as_u64() >= Some(1) && hook["last_error"].is_string(), "{channels}");
    assert_eq!(log().matches("alerts are not delivered since").count(), 1);
    let critical = shown.find("  DeliveryFailing (critical), from ").unwrap();
    assert!(
        shown.contains("alerts: 2 firing (1 critical)\n") && Some(critical) < shown.find("  VolumePressure of "),
        "{shown}"
    );
    let begins =
        |line: &&str| line.contains("ERROR") && line.contains("An alert fires.") && line.contains("DeliveryFailing");
    wait_for("the log says that it fires", || log().lines().filter(begins).count() == 1);
    assert_eq!(beats_in_a_while(&mut beats), 0);

    let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", port))).unwrap();
    let _entered = runtime.enter();
    let _told = crate::notify::receive(listener, &["400 No", "200 OK"]);
    wait_for("it is over", || daemon.status().unwrap().get("delivery_failing_since").is_none());
    wait_for("the log says so", || log().contains("alerts are delivered again"));
    assert!(!daemon.get("/").contains("NOT DELIVERED") && screen().starts_with("mode observe\n"));
    assert!(beats_in_a_while(&mut beats) > 0);
    // What the receiver refused is shown.
    assert!(screen().contains("DROPPED: 1 messages") && screen().contains("400 Bad Request"), "{}", screen());
    assert!(
        daemon.get("/metrics").contains("storage_guard_notifications_total{channel=\"hook\",result=\"dropped\"} 1")
    );
    assert!(daemon.get("/metrics").contains("storage_guard_notifications_total{channel=\"pulse\",result=\"sent\"}"));
}
