//! `docs/zlmediakit.md`, gone through as it is written, with stand-ins in the place of ZLMediaKit and WVP.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Beside, known};
use crate::support::media_server::{EVENTS, Kind};
use crate::support::platform::{Reply, event_of};
use crate::support::{guard, wait_for};

/// The configurations of the document, in their order.
fn examples() -> Vec<String> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/zlmediakit.md");
    let document = std::fs::read_to_string(document).unwrap();
    document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

impl Beside {
    /// The first configuration that has this, with what is here in the place of what the document supposes.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn step(&self, having: &str) -> PathBuf {
        let text = examples().into_iter().find(|text| text.contains(having));
        let text = text.unwrap_or_else(|| panic!("no example has `{having}`"));
        let (home, here) = (self.home.path(), format!("127.0.0.1:{}", self.port));
        let text = text
            .replace("/data/record", home.join("rec/record").to_str().unwrap())
            .replace("/var/lib/storage-guard", self.state().to_str().unwrap())
            .replace("http://127.0.0.1:8080", &self.server.url())
            .replace("http://192.168.1.10:18080/index/hook", &self.platform.url())
            .replace("192.168.1.20:18080", &here)
            .replace("192.168.1.20:8081", &here)
            // Nobody is there: its database is asked elsewhere.
            .replace("192.168.1.10", "127.0.0.1:1");
        let path = home.join("guard.yaml");
        std::fs::write(&path, format!("{text}listen: 127.0.0.1:0\nprobe_interval: 1s\nscan_interval: 1s\n")).unwrap();
        std::fs::create_dir_all(home.join("secrets")).unwrap();
        for name in ["zlm.secret", "wvp.password"] {
            let secret = home.join("secrets").join(name);
            std::fs::write(&secret, self.server.secret()).unwrap();
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }
}

#[test]
fn the_first_steps_see_what_is_recorded_and_that_the_media_server_answers() {
    let beside = Beside::new();
    beside.server.hooks_to("");
    beside.server.publish("live", "cam");
    beside.server.record("live", "cam", Kind::Mp4);
    let slices: Vec<PathBuf> = (0..3).filter_map(|_| beside.server.cut("live", "cam")).collect();
    assert_eq!(slices.len(), 3);
    let config = beside.step("mode: observe");
    let checked = guard(&["check", "--environment", "-c", config.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.contains("records MP4 in"), "{said}");
    let daemon = beside.start_with(&config);
    wait_for("all recordings are known", || known(&daemon) >= 3);
    wait_for("the media server answers", || {
        daemon.status().is_some_and(|status| status["media_servers"][0]["state"] == "up")
    });
    beside.server.assert_no_secret_in_urls();
    assert!(!beside.home.path().join("rec/record/.storage-guard").exists(), "nothing is written into the tree");
}

#[test]
fn with_the_fourth_step_the_platform_misses_nothing_that_was_recorded_while_it_was_down() {
    let beside = Beside::new();
    std::fs::create_dir_all(beside.home.path().join("rec/record")).unwrap();
    let daemon = beside.start_with(&beside.step("relay:"));
    for event in EVENTS {
        let url = format!("http://127.0.0.1:{}/index/hook/{event}", beside.port);
        beside.server.set(&format!("hook.{event}"), &url);
    }
    let mut slices = beside.record("cam");
    assert_eq!(beside.platform.wait("on_publish", 1).len(), 1, "it was asked itself");
    beside.platform.wait("on_record_mp4", 3);
    beside.platform.down();
    slices.extend((0..3).filter_map(|_| beside.server.cut("live", "cam")));
    assert!(beside.server.push("live", "other"), "a platform that is down keeps nobody from publishing");
    assert!(beside.server.sent().iter().all(|sent| sent.delivered), "the media server has nothing left to tell");
    beside.platform.up();
    beside.platform.wait("on_record_mp4", 6);
    wait_for("nothing waits", || daemon.status().is_some_and(|status| status["relays"][0]["waiting"] == 0));
    let told = beside.platform.taken_of("on_record_mp4");
    let mut told: Vec<String> = told.iter().map(|hook| hook.json()["file_path"].as_str().unwrap().to_owned()).collect();
    told.sort();
    let mut made: Vec<String> = slices.iter().map(|slice| slice.to_str().unwrap().to_owned()).collect();
    made.sort();
    assert_eq!(told, made, "each once");
    assert!(beside.platform.taken().iter().all(|hook| EVENTS.contains(&event_of(hook))));
    // Who may watch is the platform's to say.
    beside.platform.answers("on_play", Reply::json(r#"{"code":401,"msg":"no"}"#));
    let said = beside.server.hook("on_play", &[]).unwrap().said();
    assert_eq!(said, Some(json!({ "code": 401, "msg": "no" })));
}
