//! The dashboards on real data: two guards with something to tell, a Prometheus, and `grafana/draw`, which draws them with Grafana's own
//! panel components. `STORAGE_GUARD_PICTURES=grafana/pictures` keeps the pictures, and takes longer over them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::{dashboards, panels_of, repository};
use crate::notify::receiver;
use crate::support::{Daemon, Mounted, Prometheus, pause, recording, run, total, wait_for};

const HOUR: Duration = Duration::from_secs(3600);
const MIB: usize = 1 << 20;

/// A guard with a small volume of its own; the guard goes first when it is dropped.
struct Site {
    daemon: Daemon,
    volume: Mounted,
    address: String,
}

impl Site {
    /// `trees` is the rest of the configuration but for the channel; `%` in it is the volume's path.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
    fn start(home: &Path, name: &str, volume: Mounted, hook: u16, trees: &str) -> Self {
        let (config, state) = (home.join(format!("{name}.yaml")), home.join(name));
        let point = volume.path().to_str().unwrap();
        let text = format!(
            "listen: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nscan_interval: 5s\n\
             watermarks: {{ high: 80%, low: 70%, critical: 95%, full_within: 0 }}\n\
             volumes: [ {{ name: disk1, path: {point} }} ]\n\
             cleanup: {{ batch_files: 20, pause: 1s, max_share: 100%, retry: {{ first: 1s, max: 30s }} }}\n{}\
             notify:\n  group_wait: 1s\n  group_interval: 10s\n  repeat_interval: 1m\n  channels:\n    \
             - {{ name: hook, kind: webhook, url: \"http://127.0.0.1:{hook}/in\" }}\n",
            state.display(),
            trees.replace('%', point),
        );
        std::fs::write(&config, text).unwrap();
        let daemon = Daemon::start(&config, &state);
        let log = std::fs::read_to_string(config.with_extension("log")).unwrap();
        let address = log.lines().find_map(|line| line.split("Listening.").nth(1)?.split("address=").nth(1));
        let address = address.unwrap_or_else(|| panic!("{log}")).trim().to_owned();
        Self { daemon, volume, address }
    }

    fn tree(&self) -> PathBuf {
        self.volume.path().join("record")
    }
}

fn draw(prometheus: &Prometheus, output: &Path, minutes: u64, guard: &str) -> Output {
    let mut command = Command::new(repository("grafana/draw/run"));
    command.arg(prometheus.url()).arg(output).args([&minutes.to_string(), guard]);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, loop devices, prometheus, Node.js and chromium; runs in `tests/run --long`"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
async fn every_panel_is_drawn_with_data() {
    let home = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("STORAGE_GUARD_PICTURES");
    let (minutes, pictures) = match &kept {
        Some(folder) => (12, repository(folder.to_str().unwrap())),
        None => (3, home.path().join("pictures")),
    };
    let (hook, _hooks) = receiver(&["204 No Content"]).await;

    let volume = Mounted::ext4(400);
    let tree = volume.path().join("record");
    let locked = tree.join(recording(&tree, "live/a", 3 * HOUR, MIB));
    let mut known = Vec::new();
    for at in 0..125 {
        let age = Duration::from_secs(7200 - 40 * at);
        known.extend(["live/a", "live/b"].map(|stream| recording(&tree, stream, age, MIB)));
    }
    let list = home.path().join("known.txt");
    std::fs::write(&list, format!("{}\n# end {}\n", known.join("\n"), known.len())).unwrap();
    // What a recorder left when it was killed.
    let left = tree.join(recording(&tree, "live/b", 200 * HOUR, 3 * MIB));
    let name = left.file_name().unwrap().to_str().unwrap();
    std::fs::rename(&left, left.with_file_name(format!(".{name}"))).unwrap();
    recording(&volume.path().join("export"), "live/door", 4 * HOUR, 5 * MIB);
    run("chattr", &["+i", locked.to_str().unwrap()]);
    let trees = format!(
        "mode: enforce\ncatalogues: [ {{ name: list, kind: manifest, file: {} }} ]\ntrees:\n  \
         - {{ name: live, path: %/record, layout: zlmediakit, min_age: 1m, catalogue: list, \
         retention: [ {{ stream: \"live/*\", keep: 5m }} ] }}\n  \
         - {{ name: export, path: %/export, layout: zlmediakit, protect: [\"live/door/**\"] }}\n",
        list.display()
    );
    let busy = Site::start(home.path(), "cam-01", volume, hook, &trees);

    let volume = Mounted::ext4(400);
    for at in 0..100 {
        recording(&volume.path().join("record"), "live/gate", 24 * HOUR - Duration::from_secs(400 * at), 2 * MIB);
    }
    let trees = "mode: observe\ntrees:\n  - { name: gate, path: %/record, layout: zlmediakit }\n";
    let quiet = Site::start(home.path(), "cam-02", volume, hook, trees);

    let guards = [("cam-01", &*busy.address), ("cam-02", &*quiet.address)];
    let prometheus = Prometheus::start(home.path(), &guards, None);
    // Enough for some runs; on a busy disk a run waits before its second batch.
    for at in 0..200 {
        recording(&busy.tree(), ["live/a", "live/b"][at % 2], Duration::ZERO, MIB);
        if at % 4 == 0 {
            recording(&quiet.tree(), "live/gate", Duration::ZERO, MIB);
        }
        pause(Duration::from_millis(300 * minutes));
    }
    wait_for("a run has reached the low mark", || busy.daemon.reached_low());

    let output = draw(&prometheus, &pictures, minutes, "cam-01");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut panels = 0;
    for (file, dashboard) in dashboards() {
        // One volume is shown, so no row comes twice.
        let count = panels_of(&dashboard).len();
        assert!(said.contains(&format!("{file}.json: {count} panels, 0 empty or in error")), "{count}: {said}");
        let picture = std::fs::read(pictures.join(file).with_extension("png")).unwrap();
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 50_000, "{} bytes", picture.len());
        panels += count as u64;
    }
    total("panels drawn with Grafana's components", panels);

    // Where there is no data, it says so: nothing is known of a guard of that name.
    let output = draw(&prometheus, &home.path().join("of nobody"), minutes, "cam-03");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("\"Available space and marks\" is empty") || said.contains("\"Recordings\" is empty"),
        "{said}"
    );

    run("chattr", &["-i", locked.to_str().unwrap()]);
}
