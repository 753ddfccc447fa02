//! The guard beside a media server and a platform: what happens to the two when it is not there.

mod document;

use std::path::{Path, PathBuf};

use crate::support::media_server::{Kind, MediaServer};
use crate::support::platform::{Platform, Reply};
use crate::support::{Daemon, free_port, run, wait_for};

/// A media server, its platform, and a guard that only hears of recordings: everything else goes to the platform without it.
struct Beside {
    home: tempfile::TempDir,
    server: MediaServer,
    platform: Platform,
    port: u16,
}

impl Beside {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (server, platform, port) = (MediaServer::start(home.path()), Platform::start(), free_port());
        platform.answers("on_publish", Reply::json(r#"{"code":0,"enable_mp4":true,"mp4_max_second":5}"#));
        server.hooks_to(&platform.url());
        server.set("hook.on_record_mp4", &format!("http://127.0.0.1:{port}/index/hook/on_record_mp4"));
        Self { home, server, platform, port }
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn config(&self) -> PathBuf {
        let path = self.home.path().join("guard.yaml");
        let text = format!(
            "listen: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nscan_interval: 1s\n\
             trees:\n  - {{ name: live, path: {}, layout: zlmediakit }}\n\
             media_servers:\n  - {{ name: zlm-1, kind: zlmediakit, api: \"{}\", hooks: {{ listen: \"127.0.0.1:{}\" }} }}\n",
            self.state().display(),
            self.home.path().join("rec/record").display(),
            self.server.url(),
            self.port
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn start(&self) -> Daemon {
        self.start_with(&self.config())
    }

    fn start_with(&self, config: &Path) -> Daemon {
        Daemon::start(config, &self.state())
    }

    /// A stream comes, is recorded, and each of its slices gets its name.
    fn record(&self, stream: &str) -> Vec<PathBuf> {
        assert!(self.server.push("live", stream), "{stream} may be published");
        assert!(self.server.is_recording("live", stream, Kind::Mp4));
        let slices: Vec<PathBuf> = (0..3).filter_map(|_| self.server.cut("live", stream)).collect();
        assert_eq!(slices.len(), 3);
        assert!(slices.iter().all(|slice| slice.exists()));
        slices
    }
}

/// How many recordings the guard knows.
fn known(daemon: &Daemon) -> u64 {
    daemon.status().map_or(0, |status| status["trees"][0]["files"].as_u64().unwrap_or(0))
}

/// Promise 14.
#[test]
fn while_the_guard_is_dead_streams_are_published_and_recorded_as_if_nothing_had_happened() {
    let beside = Beside::new();
    std::fs::create_dir_all(beside.home.path().join("rec/record")).unwrap();
    let mut guard = beside.start();
    beside.record("before");
    let heard = |sent: &[crate::support::media_server::Sent]| {
        sent.iter().filter(|sent| sent.event == "on_record_mp4" && sent.delivered).count()
    };
    assert_eq!(heard(&beside.server.sent()), 3);
    wait_for("the guard has seen them", || known(&guard) >= 3);

    run("kill", &["-9", &guard.pid().to_string()]);
    guard.ended();
    let slices = beside.record("meanwhile");
    let sent = beside.server.sent();
    // Nobody heard of these recordings; all else reached the platform at once.
    assert_eq!(heard(&sent), 3);
    let lost: Vec<_> = sent.iter().filter(|sent| !sent.delivered).map(|sent| sent.event.as_str()).collect();
    assert_eq!(lost, ["on_record_mp4"; 3]);
    assert_eq!(beside.platform.taken_of("on_publish").len(), 2);
    assert!(beside.server.is_recording("live", "before", Kind::Mp4), "what ran goes on");

    // The scan finds what no hook told of, and what is being written is not among it.
    let again = beside.start();
    wait_for("the guard has seen them too", || known(&again) >= 6);
    assert!(slices.iter().all(|slice| Path::exists(slice)));
    assert!(["before", "meanwhile"].into_iter().all(|stream| beside.server.live("live", stream).exists()));
}
