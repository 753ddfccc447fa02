//! A filesystem that misbehaves: a FUSE pass-through over a directory, with a switch for each operation. It forgets nothing it is told
//! to do: entries and attributes are asked for anew each time, inode numbers are those of the directory below, and free space is a size
//! of the test's less what the files below take, so that a deletion shows in `statvfs`.
#![expect(clippy::disallowed_methods, reason = "it is the filesystem, and carries out what it is asked to")]

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

mod pass;

use self::pass::{Backing, PassThrough};
use crate::support::{Daemon, guard, recording};

/// A hang that nobody ends, ends itself.
const LONGEST: Duration = Duration::from_secs(150);

/// What a program may ask the filesystem for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Lookup,
    Getattr,
    Setattr,
    Readdir,
    Open,
    Read,
    Write,
    Fsync,
    Fsyncdir,
    Mkdir,
    Rmdir,
    Unlink,
    /// All but the next.
    Rename,
    /// A rename of what was set aside.
    PutBack,
    Statfs,
    Xattr,
}

impl Op {
    pub(crate) const ALL: [Self; 16] = [
        Self::Lookup,
        Self::Getattr,
        Self::Setattr,
        Self::Readdir,
        Self::Open,
        Self::Read,
        Self::Write,
        Self::Fsync,
        Self::Fsyncdir,
        Self::Mkdir,
        Self::Rmdir,
        Self::Unlink,
        Self::Rename,
        Self::PutBack,
        Self::Statfs,
        Self::Xattr,
    ];
}

/// How an operation goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It fails.
    Fails(i32),
    /// A directory gives half of its entries, and then this error.
    Halfway(i32),
    /// It takes so long.
    Slow(Duration),
    /// It does not come back before the trouble is over.
    Hangs,
    /// It says that it was done, and is not.
    Lies,
    /// A bit of what is read or written is another.
    Flips,
}

#[derive(Default)]
struct Switches {
    /// What is wrong, and with which inode; `None`: with all.
    troubles: Mutex<HashMap<Op, (Trouble, Option<u64>)>>,
    changed: Condvar,
    calls: Mutex<HashMap<Op, u64>>,
    ended: AtomicBool,
}

impl Switches {
    fn of(&self, op: Op, inode: u64) -> Option<Trouble> {
        let troubles = self.troubles.lock().unwrap();
        troubles.get(&op).filter(|(_, only)| only.is_none_or(|only| only == inode)).map(|(trouble, _)| *trouble)
    }

    /// Nothing goes wrong any more.
    fn behave(&self) {
        self.troubles.lock().unwrap().clear();
        self.changed.notify_all();
    }

    /// Waits as long as the operation hangs; but not forever, so that a test that fails comes to its end.
    fn wait(&self, op: Op) {
        let hangs = |troubles: &mut HashMap<Op, (Trouble, Option<u64>)>| {
            !self.ended.load(Ordering::Relaxed) && matches!(troubles.get(&op), Some((Trouble::Hangs, _)))
        };
        drop(self.changed.wait_timeout_while(self.troubles.lock().unwrap(), LONGEST, hangs).unwrap());
    }
}

/// The filesystem, mounted; unmounted when dropped, also when the test fails.
pub(crate) struct Misbehaving {
    backing: Arc<Backing>,
    point: PathBuf,
    session: Option<fuser::BackgroundSession>,
    home: tempfile::TempDir,
}

/// From now on what this thread mounts is seen by it and the programs that it starts alone: a mount that hangs must not get in the
/// way of other tests, nor stay behind. What is to be unmounted at the end must be mounted after this.
#[expect(deprecated, reason = "of the parts that may be left, only the one that is about descriptors is unsafe")]
pub(crate) fn unshare_mounts() {
    use rustix::mount::MountPropagationFlags as Propagation;
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    rustix::mount::mount_change("/", Propagation::PRIVATE | Propagation::REC).unwrap();
}

/// Ends all trouble when dropped: a program that hangs in the kernel does not end before.
pub(crate) struct Release(Arc<Backing>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.switches.ended.store(true, Ordering::Relaxed);
        self.0.switches.behave();
    }
}

/// A daemon whose disk lets go of it before it is to end.
pub(crate) struct Watched {
    _release: Release,
    daemon: Daemon,
}

impl std::ops::Deref for Watched {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl Misbehaving {
    /// One of `megabytes`.
    pub(crate) fn new(megabytes: u64) -> Self {
        unshare_mounts();
        let home = tempfile::tempdir().unwrap();
        let (root, point) = (home.path().join("backing"), home.path().join("mounted"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&point).unwrap();
        let backing = Arc::new(Backing::new(&root, megabytes << 20));
        let mut config = fuser::Config::default();
        config.mount_options = vec![fuser::MountOption::FSName("misbehaving".to_owned())];
        let session = fuser::spawn_mount(PassThrough(backing.clone()), &point, &config).unwrap();
        Self { backing, point, session: Some(session), home }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// The directory below, where nothing goes wrong.
    pub(crate) fn below(&self) -> &Path {
        self.backing.root()
    }

    /// An operation goes wrong from now on, for all files or for the one with this inode number.
    pub(crate) fn set(&self, op: Op, trouble: Trouble, only: Option<u64>) {
        self.backing.switches.troubles.lock().unwrap().insert(op, (trouble, only));
    }

    /// All operations go wrong from now on.
    pub(crate) fn set_all(&self, trouble: Trouble) {
        self.backing.switches.troubles.lock().unwrap().extend(Op::ALL.map(|op| (op, (trouble, None))));
    }

    /// Nothing goes wrong any more, and what hangs goes on.
    pub(crate) fn behave(&self) {
        self.backing.switches.behave();
    }

    /// Starts a daemon that may come to hang on it.
    pub(crate) fn daemon(&self, config: &Path, state: &Path) -> Watched {
        Watched { daemon: Daemon::start(config, state), _release: Release(self.backing.clone()) }
    }

    /// How often an operation was asked for.
    pub(crate) fn calls(&self, op: Op) -> u64 {
        self.backing.switches.calls.lock().unwrap().get(&op).copied().unwrap_or_default()
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.backing.switches.ended.store(true, Ordering::Relaxed);
        self.behave();
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.point).status();
        drop(self.session.take());
    }
}

/// A tree of recordings on it, and a home for configuration and state beside it.
pub(crate) struct Stage {
    pub(crate) disk: Misbehaving,
    /// Paths below the tree, the oldest first.
    pub(crate) made: Vec<String>,
}

/// Bytes of each of its recordings.
pub(crate) const EACH: usize = 256 << 10;

impl Stage {
    /// `count` recordings over ten days, of three cameras, on a filesystem of `megabytes`.
    pub(crate) fn new(megabytes: u64, count: u32) -> Self {
        let disk = Misbehaving::new(megabytes);
        let tree = disk.below().join("record");
        let hour = Duration::from_secs(3600);
        let made = (0..count).map(|at| {
            let age = 240 * hour * (count - at) / count + 60 * hour;
            recording(&tree, ["live/a", "live/b", "live/c"][at as usize % 3], age, EACH)
        });
        let made = made.collect();
        Self { made, disk }
    }

    pub(crate) fn home(&self) -> &Path {
        self.disk.home.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home().join("state")
    }

    /// A file as the filesystem below has it.
    pub(crate) fn file(&self, at: usize) -> PathBuf {
        self.disk.below().join("record").join(&self.made[at])
    }

    pub(crate) fn inode(&self, at: usize) -> u64 {
        std::fs::symlink_metadata(self.file(at)).unwrap().ino()
    }

    pub(crate) fn exists(&self, at: usize) -> bool {
        std::fs::symlink_metadata(self.file(at)).is_ok()
    }

    pub(crate) fn gone(&self) -> usize {
        (0..self.made.len()).filter(|at| !self.exists(*at)).count()
    }

    /// Writes the configuration, with marks at 70 and 50 %; `rest` is added.
    pub(crate) fn config(&self, rest: &str) -> PathBuf {
        let path = self.home().join("guard.yaml");
        let text = format!(
            "mode: enforce\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nscan_interval: 1s\n\
             watermarks: {{ high: 70%, low: 50%, critical: 99% }}\n\
             cleanup: {{ batch_files: 5, pause: 0, max_share: 100%, retry: {{ first: 1s, max: 2s }} }}\n\
             trees:\n  - name: live\n    path: {}\n    layout: zlmediakit\n{rest}",
            self.state().display(),
            self.disk.path().join("record").display(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn daemon(&self, rest: &str) -> Watched {
        self.disk.daemon(&self.config(rest), &self.state())
    }

    /// What a command of the program answers.
    pub(crate) fn ask(&self, what: &[&str]) -> serde_json::Value {
        let state = self.state();
        let output = guard(&[what, &["--json", "--state", state.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{what:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Its failed deletions.
    pub(crate) fn failures(&self) -> Vec<serde_json::Value> {
        self.ask(&["failures", "list"])["items"].as_array().unwrap().clone()
    }

    /// Names in the private folder, the marker left out.
    pub(crate) fn aside(&self) -> Vec<std::ffi::OsString> {
        let folder = self.disk.below().join("record/.storage-guard");
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter(|name| name != "marker").collect()
    }
}
