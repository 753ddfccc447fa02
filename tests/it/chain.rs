//! The whole chain, with real peers: a volume fills up, a recording cannot be deleted, and everybody hears of it, and of its end.

mod expressions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use storage_guard::system::{Clock as _, SystemClock};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::notify::{KEY, MailServer, Seen, receiver};
use crate::reclaim::Bed;
use crate::support::{Alertmanager, Daemon, Mounted, Prometheus, certificate, recording, run, total, wait_for};

const ALERT: &str = "RecordingLocked";
/// The recording that cannot be deleted, one of the oldest.
const LOCKED: usize = 3;
/// All of it may take so long.
const ENOUGH: Duration = Duration::from_secs(180);

/// A guard with a small volume, and all who watch it or are told by it. The guard goes first when it is dropped.
struct Scene {
    daemon: Daemon,
    prometheus: Prometheus,
    alertmanager: Alertmanager,
    mail: MailServer,
    hooks: UnboundedReceiver<Seen>,
    bed: Bed,
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The shipped rules, in which nothing but the waiting is shortened.
fn hurried(rules: &str) -> String {
    let mut waits = 0;
    let mut hurry = |line: &str| {
        let key = ["for: ", "keep_firing_for: "].into_iter().find(|key| line.trim_start().starts_with(key));
        let Some(key) = key else { return format!("{line}\n") };
        waits += 1;
        format!("{}{key}2s\n", &line[..line.len() - line.trim_start().len()])
    };
    let text = rules.lines().map(&mut hurry).collect();
    assert!(waits > 0, "no rule waits");
    text
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
    async fn new() -> Self {
        let bed = Bed::new(Mounted::ext4(400), 200);
        let home = bed.home.path();
        let [ca, cert, key] = certificate(home);
        let mail = MailServer::start("starttls", &[&cert, &key]);
        let (hook, hooks) = receiver(&["204 No Content"]).await;
        let alertmanager = Alertmanager::start(home);
        let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(KEY));
        for (file, text) in [("password", "secret"), ("key", &secret)] {
            std::fs::write(home.join(file), text).unwrap();
            run("chmod", &["600", home.join(file).to_str().unwrap()]);
        }
        run("chattr", &["+i", bed.file(LOCKED).to_str().unwrap()]);
        let rest = format!(
            "scan_interval: 2s\nnotify:\n  group_wait: 1s\n  group_interval: 1s\n  channels:\n    \
             - {{ name: mail, kind: email, server: \"smtp://localhost:{}\", ca_file: {}, username: guard, \
             password_file: password, from: guard@example.org, to: ops@example.org }}\n    \
             - {{ name: hook, kind: webhook, url: \"http://127.0.0.1:{hook}/in\", secret_file: key }}\n    \
             - {{ name: am, kind: alertmanager, url: \"{}\" }}\n",
            mail.port,
            ca.display(),
            alertmanager.url()
        );
        // Everything that is there is known, so that what catalogues tell has a number too.
        let known = home.join("known.txt");
        std::fs::write(&known, format!("{}\n# end {}\n", bed.made.join("\n"), bed.made.len())).unwrap();
        let rest = format!("catalogues: [{{ name: list, kind: manifest, file: {} }}]\n{rest}", known.display());
        let tree = "    retention: [{ stream: \"**\", keep: 1d }]\n    catalogue: list\n";
        let config = bed.config(tree, &rest);
        let daemon = Daemon::start(&config, &bed.state());
        let log = std::fs::read_to_string(config.with_extension("log")).unwrap();
        let address = log.lines().find_map(|line| line.split("Listening.").nth(1)?.split("address=").nth(1));
        let rules = home.join("storage-guard.rules.yaml");
        let shipped = std::fs::read_to_string(repository("alerts/storage-guard.rules.yaml")).unwrap();
        std::fs::write(&rules, hurried(&shipped)).unwrap();
        let prometheus = Prometheus::start(home, &[("guard", address.unwrap().trim())], Some((&rules, &alertmanager)));
        Self { daemon, prometheus, alertmanager, mail, hooks, bed }
    }

    /// Recordings of the last hours come in, until the high mark is crossed.
    fn fill(&self) {
        for at in 0..90 {
            recording(&self.bed.tree(), "live/a", Duration::from_secs(7200 - 60 * at), 1 << 20);
        }
    }

    /// The alerts of the guard itself that are not over.
    fn guards(&self) -> Vec<Value> {
        let answer: Value = serde_json::from_str(&self.daemon.get("/api/v1/alerts")).unwrap();
        answer["items"].as_array().unwrap().iter().filter(|alert| alert["state"] != "resolved").cloned().collect()
    }

    /// The next message by webhook.
    async fn hook(&mut self) -> Value {
        let hook = tokio::time::timeout(Duration::from_secs(60), self.hooks.recv()).await.unwrap().unwrap();
        hook.verify();
        serde_json::from_str(&hook.body).unwrap()
    }

    /// The alert as its rule has it, once it fires.
    fn rule(&self) -> Option<Value> {
        let firing = |alert: &Value| alert["labels"]["alertname"] == ALERT && alert["state"] == "firing";
        self.prometheus.alerts().into_iter().find(firing)
    }
}

/// A header of a mail.
fn header(mail: &Value, name: &str) -> String {
    let mut lines = mail["data"].as_str().unwrap().lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, a loop device, prometheus, prometheus-alertmanager and python3-aiosmtpd"]
async fn a_locked_recording_is_told_by_every_way_and_so_is_its_end() {
    let begun = (SystemClock.boottime(), SystemClock.now().secs());
    let mut scene = Scene::new().await;
    wait_for("it is scraped", || scene.prometheus.query("storage_guard_tree_files > 0").len() == 1);
    scene.fill();

    wait_for("the guard raises its alert", || scene.guards().iter().any(|alert| alert["alert"] == ALERT));
    let mail = scene.mail.mail();
    let text = mail["text"].as_str().unwrap();
    assert!(text.contains(ALERT) && text.contains(&scene.bed.made[LOCKED]), "{text}");
    let hook = scene.hook().await;
    assert_eq!((&hook["type"], &hook["data"]["alert"]), (&"alert.firing".into(), &ALERT.into()));
    assert_eq!(hook["data"]["unreclaimed"]["items"][0]["path"], scene.bed.made[LOCKED].as_str());
    wait_for("its rule fires", || scene.rule().is_some());
    let rule = scene.rule().unwrap();
    assert_eq!((&rule["labels"]["tree"], &rule["labels"]["job"]), (&"live".into(), &"storage-guard".into()));
    wait_for("Prometheus tells the Alertmanager", || {
        scene.alertmanager.alerts().iter().any(|alert| alert["labels"] == rule["labels"])
    });
    wait_for("the guard tells the Alertmanager itself", || {
        let ours = |alert: &Value| alert["labels"]["alertname"] == ALERT && alert["labels"] != rule["labels"];
        scene.alertmanager.alerts().iter().any(|alert| ours(alert) && alert["labels"]["tree"] == "live")
    });
    for alert in scene.prometheus.alerts() {
        let texts = alert["annotations"].to_string();
        assert!(!texts.contains("<error") && !texts.contains("<no value>") && !texts.contains("%!"), "{texts}");
    }
    wait_for("a run ends", || scene.prometheus.query("sum(storage_guard_runs_total) > 0").len() == 1);
    let scraped = scene.prometheus.query("storage_guard_unreclaimed_files{cause=\"locked\"}");
    assert_eq!(scraped.iter().map(|(_, files)| *files).collect::<Vec<_>>(), [1.0]);
    expressions::check(&scene.prometheus, begun.1);

    run("chattr", &["-i", scene.bed.file(LOCKED).to_str().unwrap()]);
    wait_for("what was locked is deleted", || !scene.bed.exists(LOCKED));
    wait_for("the guard's alert is over", || scene.guards().is_empty());
    let resolved = scene.mail.mail();
    assert_eq!(header(&resolved, "Subject").replace("RESOLVED", "FIRING"), header(&mail, "Subject"));
    assert_eq!(header(&resolved, "In-Reply-To"), header(&mail, "Message-ID"));
    let hook = scene.hook().await;
    assert_eq!((&hook["type"], &hook["data"]["alert"]), (&"alert.resolved".into(), &ALERT.into()));
    wait_for("no rule fires", || scene.prometheus.alerts().is_empty());
    wait_for("the Alertmanager knows that it is over", || scene.alertmanager.alerts().is_empty());
    let took = SystemClock.boottime().saturating_sub(begun.0);
    assert!(took < ENOUGH, "{took:?}");
    total("seconds from a volume that fills up to the end of every alert of it", took.as_secs());
}
