//! Deletes as ZLMediaKit does: what it is asked becomes a path unchecked, links are followed, and the answer is that of the last step.
//! It stays below the stand-in's own folder, whatever it is asked.

use std::path::{Path, PathBuf};

/// Where a stream's MP4 recordings are, with a slash at the end. What climbs beyond `root` becomes `root`.
pub(super) fn record_path(root: &str, record: &str, vhost: Option<&str>, app: &str, stream: &str) -> String {
    let root = root.trim_end_matches('/');
    let mut below: Vec<&str> = Vec::new();
    let asked = [vhost.unwrap_or_default(), record, app, stream].join("/");
    for part in asked.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." {
            below.push(part);
        } else if below.pop().is_none() {
            return format!("{root}/");
        }
    }
    let parts = below.iter().map(|part| format!("{part}/"));
    format!("{root}/{}", parts.collect::<String>())
}

/// Where it may delete at all.
pub(super) struct Fence(pub(super) PathBuf);

impl Fence {
    /// A file or folder goes, and then every parent that is empty. The answer is that of the last step on the thing itself: what failed
    /// below it is not told.
    pub(super) fn delete(&self, path: &str) -> i64 {
        let gone = if Path::new(path).is_dir() {
            // Its own path may lead through what goes first.
            if let Ok(real) = std::fs::canonicalize(path) {
                self.empty(&real);
            }
            self.rmdir(path)
        } else {
            self.unlink(path)
        };
        if !gone {
            return -1;
        }
        self.prune(parent(path));
        0
    }

    /// What it does for a stream that is being recorded: every file that is not hidden, whatever comes of it. What is hidden is decided
    /// by the whole path, here from the stand-in's folder on.
    pub(super) fn sweep(&self, path: &str) -> i64 {
        self.sweep_files(Path::new(path));
        self.prune(path);
        0
    }

    fn sweep_files(&self, dir: &Path) {
        for path in children(dir) {
            if path.is_dir() {
                self.sweep_files(&path);
            } else if !self.below(&path).contains("/.") {
                self.unlink(path.to_str().unwrap());
            }
        }
    }

    fn empty(&self, dir: &Path) {
        for path in children(dir) {
            let text = path.to_str().unwrap();
            if path.is_dir() {
                self.empty(&path);
                self.rmdir(text);
            } else {
                self.unlink(text);
            }
        }
    }

    /// Removes a folder, if it is empty, and then its parents likewise.
    fn prune(&self, path: &str) {
        let mut at = path;
        while self.rmdir(at) {
            at = parent(at);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the real one deletes")]
    fn rmdir(&self, path: &str) -> bool {
        self.holds(path) && std::fs::remove_dir(path).is_ok()
    }

    #[expect(clippy::disallowed_methods, reason = "the real one deletes")]
    fn unlink(&self, path: &str) -> bool {
        self.holds(path) && std::fs::remove_file(path).is_ok()
    }

    fn below<'p>(&self, path: &'p Path) -> &'p str {
        path.to_str().unwrap().strip_prefix(self.0.to_str().unwrap()).unwrap_or_default()
    }

    /// What would go lies below the stand-in's folder, and is not that folder.
    fn holds(&self, path: &str) -> bool {
        let Ok(holder) = std::fs::canonicalize(parent(path)) else { return false };
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if matches!(name, "." | "..") {
            return std::fs::canonicalize(path).is_ok_and(|real| real.starts_with(&self.0) && real != self.0);
        }
        holder.starts_with(&self.0)
    }
}

fn parent(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or("/", |(parent, _)| parent)
}

fn children(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}
