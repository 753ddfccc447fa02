//! The stand-ins behave as the real ones do: what their captures and the facts' tables say comes out of them.

mod api;
mod deletions;
mod hooks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::media_server::{MediaServer, VHOST};
use crate::support::wire::{Answer, Caller};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A media server with a folder of its own.
struct Site {
    server: MediaServer,
    home: PathBuf,
}

impl Site {
    fn at(home: &Path) -> Self {
        Self { server: MediaServer::start(home), home: std::fs::canonicalize(home).unwrap() }
    }

    fn new() -> (Self, TempDir) {
        let home = tempfile::tempdir().unwrap();
        (Self::at(home.path()), home)
    }

    fn caller(&self) -> Caller {
        Caller::to(self.server.port(), PATIENCE).unwrap()
    }

    /// Asks a call of the API, with the secret and the usual virtual host.
    fn ask(&self, call: &str, arguments: &str) -> Answer {
        let target = format!("/index/api/{call}?secret={}&vhost={VHOST}{arguments}", self.server.secret());
        self.caller().get(&target).unwrap()
    }

    /// Writes a file below its folder.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn file(&self, path: &str) -> PathBuf {
        let file = self.home.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, [7; 4096]).unwrap();
        file
    }

    /// Every file below its folder, and every folder that is empty or a link, but for what `server` is recording.
    fn left(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut pending = vec![self.home.clone()];
        while let Some(dir) = pending.pop() {
            let mut entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).peekable();
            let below = |path: &Path| path.strip_prefix(&self.home).unwrap().to_str().unwrap().to_owned();
            if entries.peek().is_none() {
                out.push(below(&dir) + "/");
            }
            for path in entries {
                if path.is_dir() && !path.is_symlink() {
                    pending.push(path);
                } else {
                    out.push(below(&path));
                }
            }
        }
        out.sort();
        out
    }
}
