//! Section G of the fault catalogue: configuration and control.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, pause, run, wait_for};

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn write(config: &Path, text: &str) {
    std::fs::write(config, text).unwrap();
}

/// Asks for a reload; the status and the answer.
fn reload(bed: &Bed) -> (String, String) {
    let socket = bed.state().join("control.sock");
    let curl = ["-s", "-X", "POST", "-w", "\n%{http_code}", "--unix-socket", socket.to_str().unwrap()];
    let output = Command::new("curl").args(curl).arg("http://localhost/-/reload").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

/// Fault 94: each is refused with its reason, the old configuration stays in force, and the metric says so until a good one comes.
#[test]
#[ignore = "needs root and a loop device"]
fn a_reload_that_is_wrong_is_refused_with_its_reason() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    let good = std::fs::read_to_string(&config).unwrap();
    let tree = format!("path: {}", bed.tree().display());
    let inside = format!("{good}  - {{ name: inner, {tree}/live, layout: zlmediakit }}\n");
    let without = good.split("trees:").next().unwrap().to_owned();
    let wrong = [
        (good.replace("mode: enforce", "mode: [enforce"), "guard.yaml:"),
        (format!("{good}no_such_key: 1\n"), "no_such_key"),
        (without, "trees"),
        (good.replace(&tree, "path: /"), "path"),
        (good.replace(&tree, "path: /etc"), "/etc"),
        (good.replace(&tree, "path: /home"), "/home"),
        (good.replace(&tree, "path: record"), "record"),
        (inside, "overlaps"),
    ];
    let gauge = || {
        let text = daemon.get("/metrics");
        let found = text.lines().find_map(|line| line.strip_prefix("storage_guard_config_last_reload_successful "));
        found.unwrap().to_owned()
    };
    for (text, reason) in wrong {
        write(&config, &text);
        let (status, body) = reload(&bed);
        assert!(status.starts_with('4') && body.contains(reason), "{status} {body}\n{text}");
        assert_eq!(gauge(), "0");
        assert_eq!(daemon.status().unwrap()["trees"][0]["name"], "live");
    }
    write(&config, &good);
    assert_eq!(reload(&bed).0, "200");
    assert_eq!(gauge(), "1");
    assert_eq!(bed.gone(), 0);
}

/// Fault 95: a reload whose retention wants nearly everything trips the cap, and waits for a person.
#[test]
#[ignore = "needs root and a loop device"]
fn a_reload_that_would_delete_nearly_everything_deletes_nothing() {
    let bed = Bed::new(Mounted::ext4(64), 20);
    let config = bed.config("", "scan_interval: 1s\n");
    let text = std::fs::read_to_string(&config).unwrap().replace("max_share: 100%", "max_share: 20%");
    write(&config, &text);
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is guarded", || daemon.pressure() == "normal");
    let strict = "layout: zlmediakit\n    retention: [{ stream: \"live/*\", max_age: 1h }]\n";
    write(&config, &text.replace("layout: zlmediakit\n", strict));
    assert_eq!(reload(&bed).0, "200");
    wait_for("the cap trips", || daemon.get("/api/v1/caps").contains("run_share"));
    pause(Duration::from_secs(3));
    assert_eq!(bed.gone(), 0);
}

/// Fault 97: under a storm of reloads every plan is of one configuration, and the guard lives.
#[test]
#[ignore = "needs root and a loop device"]
fn a_storm_of_reloads_leaves_plans_whole() {
    let bed = Bed::new(Mounted::ext4(200), 150);
    let config = bed.config("", "");
    let text = std::fs::read_to_string(&config).unwrap().replace("mode: enforce", "mode: observe");
    let protect = |cam: &str| format!("layout: zlmediakit\n    protect: [\"live/{cam}/**\"]\n");
    let daemon = {
        write(&config, &text);
        Daemon::start(&config, &bed.state())
    };
    let mut seen = [0, 0];
    for round in 0..60 {
        let cam = ["a", "b"][round % 2];
        write(&config, &text.replace("layout: zlmediakit\n", &protect(cam)));
        run("kill", &["-HUP", &daemon.pid().to_string()]);
        let mut plans = serde_json::Value::Null;
        let mut planned = || {
            plans = serde_json::from_str(&daemon.get("/api/v1/plan")).unwrap();
            !plans["items"].as_array().unwrap().is_empty()
        };
        // Some are asked in the middle of a reload, some once it is through.
        if round % 10 == 9 {
            wait_for("there is a plan", planned);
        } else {
            planned();
        }
        for plan in plans["items"].as_array().unwrap() {
            let goes = |cam: &str| {
                let prefix = format!("live/{cam}/");
                plan["items"].as_array().unwrap().iter().any(|item| item["path"].as_str().unwrap().starts_with(&prefix))
            };
            let (a, b) = (goes("a"), goes("b"));
            // Of the first configuration, of one that protects `a`, or of one that protects `b`: never none of both.
            assert!(a || b, "{plan}");
            seen[0] += usize::from(!a);
            seen[1] += usize::from(!b);
        }
        pause(Duration::from_millis(20));
    }
    wait_for("both were in force", || {
        let log = std::fs::read_to_string(config.with_extension("log")).unwrap();
        log.matches("loaded again").count() >= 2
    });
    assert!(seen[0] + seen[1] > 0, "no plan was seen under a changed configuration");
    // After each reload a volume is not seen until it is looked at again.
    wait_for("it observes, and is still there", || daemon.pressure() == "reclaiming");
}
