//! `docs/zlmediakit.md`, gone through as it is written, with stand-ins in the place of ZLMediaKit and WVP.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Beside, known};
use crate::support::media_server::Kind;
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
