//! A media server that records on a volume of its own, and a guard whose gateway stands before it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::SOON;
use crate::support::media_server::{MediaServer, VHOST};
use crate::support::wire::{Answer, Caller};
use crate::support::{Daemon, Mounted, free_port, json, now, run, wait_for};

/// A day long ago.
pub(super) const OLD: &str = "2026-01-01";

/// A recording's path below the record directory.
pub(super) fn slice(stream: &str, day: &str, at: usize) -> String {
    format!("live/{stream}/{day}/{day}-{:02}-{:02}-{:02}-0.mp4", at / 3600, at / 60 % 60, at % 60)
}

pub(super) struct Site {
    pub(super) server: MediaServer,
    pub(super) volume: Mounted,
    pub(super) port: u16,
    home: tempfile::TempDir,
}

impl Site {
    pub(super) fn new(megabytes: u64) -> Self {
        let volume = Mounted::ext4(megabytes);
        let server = MediaServer::start(volume.path());
        let site = Self { server, volume, port: free_port(), home: tempfile::tempdir().unwrap() };
        // A tree that is to be enforced holds a recording.
        site.file("rec/record", &slice("first", OLD, 0));
        site
    }

    /// Below the volume, which is the media server's own folder.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        std::fs::canonicalize(self.volume.path()).unwrap().join(below)
    }

    pub(super) fn exists(&self, below: &str) -> bool {
        self.path("rec/record").join(below).symlink_metadata().is_ok()
    }

    /// Writes a file that is an hour old, below `root`.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(super) fn file(&self, root: &str, below: &str) -> PathBuf {
        let file = self.path(root).join(below);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, [7; 4096]).unwrap();
        let past = now() - Duration::from_secs(3600);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(past).unwrap();
        file
    }

    /// Writes recordings of a stream of app `live`, and gives their paths below the record directory.
    pub(super) fn record(&self, stream: &str, day: &str, count: usize) -> Vec<String> {
        let paths: Vec<String> = (0..count).map(|at| slice(stream, day, at)).collect();
        paths.iter().for_each(|path| drop(self.file("rec/record", path)));
        paths
    }

    pub(super) fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.home.path().join("guard.yaml")
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("guard.log")).unwrap()
    }

    /// Starts the guard: `mode` is the tree's, `more` is added to its trees.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(super) fn start(&self, mode: &str, answer_within: &str, more: &str) -> Daemon {
        let secret = self.home.path().join("secret");
        std::fs::write(&secret, self.server.secret()).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "mode: {mode}\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nscan_interval: 2s\n\
             cleanup: {{ pause: 0, max_share: 100%, retry: {{ first: 1s, max: 1s }} }}\n\
             watermarks: {{ high: 90%, low: 85%, critical: 95% }}\n\
             trees:\n  - {{ name: live, path: {}, layout: zlmediakit }}\n{more}\
             media_servers:\n  - {{ name: zlm-1, kind: zlmediakit, api: \"{}\", secret_file: {}, \
             gateway: {{ listen: \"127.0.0.1:{}\", answer_within: {answer_within} }} }}\n",
            self.state().display(),
            self.path("rec").display(),
            self.server.url(),
            secret.display(),
            self.port,
        );
        let config = self.config();
        std::fs::write(&config, text).unwrap();
        let daemon = Daemon::start(&config, &self.state());
        wait_for("all trees were scanned", || {
            let status = daemon.status().unwrap();
            status["trees"].as_array().unwrap().iter().all(|tree| tree["last_scan"].is_string())
        });
        daemon
    }

    pub(super) fn caller(&self) -> Caller {
        Caller::to(self.port, SOON).unwrap()
    }

    /// Asks the gateway as the platform does: a form, with the secret in it.
    pub(super) fn post(&self, arguments: &str) -> Answer {
        let body = format!("secret={}&vhost={VHOST}{arguments}", self.server.secret());
        let head = format!(
            "POST /index/api/deleteRecordDirectory HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nConnection: close\r\n",
            body.len()
        );
        self.caller().call(&head, body.as_bytes()).unwrap()
    }

    /// The same, whose answer must be HTTP 200; its body.
    pub(super) fn ask(&self, arguments: &str) -> Value {
        let answer = self.post(arguments);
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json; charset=utf-8"));
        answer.json()
    }

    /// The last thing that the journal has of a recording: outcome and trigger.
    pub(super) fn journal(&self, below: &str) -> Option<(String, String)> {
        let entries = json(&["journal", "list", "--state", self.state().to_str().unwrap()]);
        let path = format!("record/{below}");
        let of = |entry: &&Value| entry["path"] == path && entry["outcome"].is_string();
        let last = entries["items"].as_array().unwrap().iter().rfind(of).cloned()?;
        let text = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
        Some((text("outcome"), text("trigger")))
    }
}

/// An attribute of files, set; taken off when dropped, so that the volume can go.
pub(super) struct Immutable(PathBuf);

impl Immutable {
    pub(super) fn new(path: &Path) -> Self {
        run("chattr", &["+i", path.to_str().unwrap()]);
        Self(path.to_owned())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

/// Something that is mounted over a folder.
pub(super) struct Bound(PathBuf);

impl Bound {
    /// The folder itself, and read-only if so.
    pub(super) fn new(path: &Path, readonly: bool) -> Self {
        let text = path.to_str().unwrap();
        run("mount", &["--bind", text, text]);
        let bound = Self(path.to_owned());
        if readonly {
            run("mount", &["-o", "remount,bind,ro", text]);
        }
        bound
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
