//! The `alerts` command against a real guard: what is silenced, what is told, and whether a channel works.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Daemon, guard, json, pause, recording, run, wait_for};

/// A tree that is observed, on a volume above its mark: an alert is due at once.
struct Case {
    _home: tempfile::TempDir,
    config: PathBuf,
    state: PathBuf,
}

impl Case {
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn new(port: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let [tree, state, config] = ["record", "state", "guard.yaml"].map(|name| home.path().join(name));
        recording(&tree, "live/a", Duration::from_secs(86_400), 1000);
        let yaml = format!(
            "mode: observe\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nwatermarks: {{ high: 2%, low: 1%, \
             critical: 99% }}\ntrees: [{{ name: live, path: {}, layout: zlmediakit }}]\nnotify:\n  group_wait: 1s\n  group_interval: \
             1s\n  channels:\n    - {{ name: hook, kind: webhook, url: \"http://127.0.0.1:{port}/canary-path?key=canary-key\", secret: \
             whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnk= }}\n",
            state.display(),
            tree.display()
        );
        std::fs::write(&config, yaml).unwrap();
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { _home: home, config, state }
    }

    fn start(&self) -> Daemon {
        Daemon::start(&self.config, &self.state)
    }

    /// What the command prints, and its exit code.
    fn run(&self, args: &[&str]) -> (String, i32) {
        let output = guard(&[args, &["-c", self.config.to_str().unwrap()]].concat());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (text, output.status.code().unwrap())
    }

    fn json(&self, args: &[&str]) -> Value {
        json(&[args, &["-c", self.config.to_str().unwrap()]].concat())
    }

    /// The pressure alert, once it fires.
    fn firing(&self) -> Value {
        let mut found = Value::Null;
        wait_for("the alert fires", || {
            let alerts = self.json(&["alerts", "list"]);
            let mut items = alerts["items"].as_array().unwrap().iter();
            found = items.find(|alert| alert["alert"] == "VolumePressure").cloned().unwrap_or_default();
            found["state"] == "firing"
        });
        found
    }

    fn append(&self, text: &str) {
        let mut file = std::fs::File::options().append(true).open(&self.config).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap()
    }
}

const SILENCE: [&str; 7] = ["alerts", "silence", "--until", "1h", "--reason", "a new disk comes", "--all"];

#[tokio::test(flavor = "multi_thread")]
async fn a_silenced_alert_is_listed_and_counted_and_told_once_the_silence_ends() {
    let (port, mut seen) = crate::notify::receiver(&["204 No Content"]).await;
    let case = Case::new(port);
    // No guard is running: the state is opened.
    assert_eq!(case.run(&["alerts", "silence"]), ("nothing is silenced\n".to_owned(), 0));
    let (text, code) = case.run(&SILENCE);
    assert!(text.starts_with("silence 1 is in effect until ") && code == 0, "{text}");
    assert_eq!(case.json(&["alerts", "silence"])["items"][0]["id"], 1);

    let mut running = None;
    for _ in 0..2 {
        drop(running.take());
        let daemon = running.insert(case.start());
        // What is only remembered from before a restart is kept for long; this one is seen again.
        wait_for("the tree is scanned", || daemon.status().unwrap()["trees"][0]["files"] == 1);
        let alert = case.firing();
        assert_eq!(alert["muted_by"]["silence"], 1, "{alert}");
        pause(Duration::from_secs(3));
        assert!(seen.try_recv().is_err(), "it is silenced");
        let firing = r#"storage_guard_alerts_firing{alert="VolumePressure",severity="warning"} 1"#;
        assert!(daemon.get("/metrics").contains(firing));
        let counts = serde_json::json!({"firing": 1, "muted": 1, "silences": 1});
        assert_eq!(daemon.status().unwrap()["alerts"], counts);
        let (text, _) = case.run(&["status"]);
        assert!(text.contains("MUTED: 1 of 1 firing alerts; silences in effect: 1"), "{text}");
        assert!(text.contains("\nalerts: 1 firing (0 critical)\n  VolumePressure of volume "), "{text}");
        assert!(text.contains(", MUTED: "), "{text}");
        let (text, _) = case.run(&["alerts", "list"]);
        assert!(
            text.contains("firing VolumePressure of volume ") && text.contains("MUTED by silence 1 until"),
            "{text}"
        );
    }

    let daemon = running.unwrap();
    let silence = &case.json(&["alerts", "silence"])["items"][0];
    assert_eq!((&silence["who"], &silence["reason"]), (&"root".into(), &"a new disk comes".into()));
    assert_eq!(case.run(&["alerts", "silence", "--remove", "1"]).1, 0);
    let told = tokio::time::timeout(Duration::from_secs(60), seen.recv()).await.unwrap().unwrap();
    assert!(told.body.contains(r#""type":"alert.firing""#) && told.body.contains("VolumePressure"), "{}", told.body);
    assert_eq!(case.firing()["muted_by"], Value::Null);
    assert_eq!(case.json(&["alerts", "silence"])["items"], serde_json::json!([]));
    let (text, _) = case.run(&["alerts", "silence", "--ended"]);
    assert!(text.starts_with("1 all alerts, from ") && text.ends_with("by root: a new disk comes\n"), "{text}");
    wait_for("it is logged", || case.log().contains("A silence was ended early."));

    // By its name and its volume, through the running guard.
    let volume = case.firing()["labels"]["volume"].as_str().unwrap().to_owned();
    let args =
        ["alerts", "silence", "--alert", "VolumePressure", "--volume", &volume, "--until", "2h", "--reason", "x"];
    assert_eq!(case.json(&args), serde_json::json!({"id": 2, "durable": true}));
    assert_eq!(case.firing()["muted_by"]["silence"], 2);

    // It ends while it is silenced: whoever was told hears of that, and the list still shows it.
    case.append("  alerts: { VolumePressure: { enabled: false } }\n");
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    let told = tokio::time::timeout(Duration::from_secs(60), seen.recv()).await.unwrap().unwrap();
    assert!(told.body.contains(r#""type":"alert.resolved""#), "{}", told.body);
    let alert = &case.json(&["alerts", "list"])["items"][0];
    assert_eq!((&alert["alert"], &alert["state"]), (&"VolumePressure".into(), &"resolved".into()));
    assert!(alert["ended"].is_string() && alert["muted_by"].is_null(), "{alert}");
    assert!(seen.try_recv().is_err());
    assert!(case.run(&["status"]).0.contains("\nalerts: none\n"));

    // It began once, however often its numbers changed and the guard was started.
    let log = case.log();
    let lines = |said: &str| log.lines().filter(|line| line.contains(said)).collect::<Vec<_>>();
    let [begun] = lines("An alert fires.")[..] else { panic!("{log}") };
    for part in ["WARN", "VolumePressure", "volume ", "warning", "summary="] {
        assert!(begun.contains(part), "{begun}");
    }
    let [over] = lines("An alert is over.")[..] else { panic!("{log}") };
    assert!(over.contains("INFO") && over.contains("VolumePressure") && over.contains("lasted="), "{over}");
}

#[test]
fn a_silence_that_cannot_be_meant_is_refused_alike_by_a_guard_and_by_the_state() {
    let case = Case::new(9);
    let check = || {
        for (args, code, said) in [
            (&["--until", "1h", "--reason", "x"][..], 1, "say which alerts"),
            (&["--all", "--alert", "CapTripped", "--until", "1h", "--reason", "x"], 1, "`all` cannot go with"),
            (&["--alert", "Nonsense", "--until", "1h", "--reason", "x"], 1, "there is no alert `Nonsense`; there are:"),
            (&["--of-tree", "dead", "--until", "1h", "--reason", "x"], 1, "there is no tree `dead`; there are: live"),
            (&["--volume", "/nowhere", "--until", "1h", "--reason", "x"], 1, "there is no volume `/nowhere`"),
            (&["--all", "--until", "2020-01-01T00:00:00Z", "--reason", "x"], 1, "that is over"),
            (&["--all", "--until", "400d", "--reason", "x"], 1, "more than a year ahead"),
            (&["--all", "--until", "1h", "--reason", " "], 1, "`reason` must be a line"),
            (&["--all", "--until", "soon", "--reason", "x"], 2, "neither a time"),
            (&["--all", "--until", "1h"], 2, "needs its end"),
            (&["--remove", "7"], 5, "there is no silence 7 in effect"),
        ] {
            let (text, got) = case.run(&[&["alerts", "silence"], args].concat());
            assert_eq!(got, code, "{args:?}: {text}");
            assert!(text.contains(said), "{args:?}: {text}");
        }
    };
    check();
    let daemon = case.start();
    check();
    assert_eq!(case.run(&["alerts", "silence"]), ("nothing is silenced\n".to_owned(), 0));
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_tried_with_the_whole_exchange_and_without_secrets() {
    let (port, mut seen) = crate::notify::receiver(&["204 No Content", "503 Busy", "204 No Content", "400 No"]).await;
    let case = Case::new(port);
    let check = |channel: &str, code: i32, said: &[&str]| {
        let (text, got) = case.run(&["alerts", "test", channel]);
        assert_eq!(got, code, "{text}");
        assert!(said.iter().all(|said| text.contains(said)), "{text}");
        assert!(!text.contains("canary") && !text.contains("Y2FuYXJ5"), "{text}");
    };
    let taken =
        ["> POST http://127.0.0.1:", "> webhook-signature: v1,", r#"alert.test"#, "< 204 No Content", "\ndelivered\n"];
    // A message by hand waits for no limit, as long as nothing else was sent. By the configuration alone; then by the running guard, which is silenced: a test is told all the same.
    check("hook", 0, &taken);
    check("hook", 1, &["< 503", "not delivered"]);
    check("mail", 1, &["there is no channel `mail` in the configuration; there are: hook"]);
    assert!(!case.state.exists(), "no state is made for a test");
    assert_eq!(case.run(&SILENCE).1, 0);
    let daemon = case.start();
    check("hook", 0, &taken);
    check("hook", 1, &["< 400", "not delivered"]);
    check("mail", 1, &["there is no channel `mail` in the configuration; there are: hook"]);
    assert_eq!(case.json(&["alerts", "silence"])["items"][0]["id"], 1);
    drop(daemon);
    for _ in 0..4 {
        assert!(seen.recv().await.unwrap().body.contains("alert.test"));
    }
    assert!(seen.try_recv().is_err());
}
