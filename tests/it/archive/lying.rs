//! A second disk that fails or lies at any step of a copy, and sources that change meanwhile: no copy counts, nothing is under its name, and once
//! all behave it is copied.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use storage_guard::archive::{ColdError, ColdFolder, Copying, Throttle, Wanted};
use storage_guard::domain::archive::ArchivedCopy;
use storage_guard::domain::names::ArchiveId;
use storage_guard::domain::path::RelPath;
use storage_guard::domain::retention::TreePolicy;
use storage_guard::domain::units::{Bytes, Timestamp};
use storage_guard::system::{Dir as _, GuardedTree, SystemClock};
use storage_guard::testkit::policy;

use super::Cold;
use crate::misbehaving::{Misbehaving, Op, Trouble};
use crate::support::{Daemon, Mounted, pause, wait_for};

const MIB: usize = 1 << 20;

/// A recording as it is now, to be copied.
pub(crate) fn wanted(tree: &Arc<GuardedTree>, policy: &Arc<TreePolicy>, path: &str) -> Wanted {
    let path = RelPath::new(path.as_bytes()).unwrap();
    let seen = tree.look(&path).unwrap().unwrap();
    Wanted {
        dir: tree.clone(),
        policy: policy.clone(),
        path,
        stream: "cam".to_owned(),
        recorded: Timestamp::from_secs(1),
        bytes: Bytes(seen.size),
        source: (seen.inode, seen.fingerprint()),
        unit: false,
        urgent: false,
    }
}

/// One source, and a filesystem that misbehaves to copy it to.
struct Site {
    disk: Misbehaving,
    hot: tempfile::TempDir,
    tree: Arc<GuardedTree>,
    policy: Arc<TreePolicy>,
    store: ColdFolder,
}

const NAME: &str = "cam/2026-11-01-00-00-00-0.mp4";

impl Site {
    fn new() -> Self {
        let disk = Misbehaving::new(64);
        let hot = tempfile::tempdir().unwrap();
        std::fs::create_dir(hot.path().join("cam")).unwrap();
        let mut film = vec![0; 3 * MIB + 77];
        fastrand::Rng::with_seed(5).fill(&mut film);
        std::fs::write(hot.path().join(NAME), film).unwrap();
        let store = ColdFolder::new(Arc::new(GuardedTree::open(disk.path()).unwrap()), Arc::new(|_| Ok(())));
        let tree = Arc::new(GuardedTree::open(hot.path()).unwrap());
        Self { disk, hot, tree, policy: Arc::new(policy("live", "dated")), store }
    }

    fn source(&self) -> PathBuf {
        self.hot.path().join(NAME)
    }

    /// Where the copy lies, as the directory below has it.
    fn copy(&self) -> PathBuf {
        self.disk.below().join("live").join(NAME)
    }

    /// Copies the source; `between` is called with the number of each reading of it, before that.
    fn put(&self, between: &dyn Fn(u32)) -> Result<ArchivedCopy, ColdError> {
        let wanted = wanted(&self.tree, &self.policy, NAME);
        let readings = Cell::new(0);
        let stop = || {
            readings.set(readings.get() + 1);
            between(readings.get());
            false
        };
        let archive = ArchiveId::new("cold");
        let mut throttle = Throttle::new(None, Arc::new(SystemClock));
        let mut copying = Copying {
            archive: &archive,
            store: &self.store,
            throttle: &mut throttle,
            stop: &stop,
            clock: &SystemClock,
        };
        copying.copy(&wanted)
    }

    /// It fails for a reason that says `word`, and leaves nothing but the source.
    fn fails(&self, what: &str, word: &str, between: &dyn Fn(u32)) {
        let text = match self.put(between) {
            Ok(copy) => panic!("{what}: it was copied: {copy:?}"),
            Err(error) => storage_guard::domain::cause::chain(&error),
        };
        assert!(text.contains(word), "{what}: {text}");
        assert!(self.source().exists() && !self.copy().exists(), "{what}: {text}");
        let left = std::fs::read_dir(self.disk.below().join(".storage-guard")).into_iter().flatten().count();
        assert_eq!(left, 0, "{what}: something was left");
    }

    /// It is copied, byte for byte.
    fn succeeds(&self, what: &str) {
        let copy = self.put(&|_| ()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let (source, there) = (std::fs::read(self.source()).unwrap(), std::fs::read(self.copy()).unwrap());
        assert!(source == there && copy.size == source.len() as u64, "{what}: the copy is another");
    }
}

/// Faults 62 to 64.
#[test]
#[ignore = "needs root and FUSE"]
fn whatever_a_second_disk_fails_to_do_or_only_says_it_did_no_copy_counts() {
    use Trouble::{Fails, Flips, Lies};
    let before = [
        (Op::Read, Flips, "is not what was written"),
        (Op::Write, Flips, "is not what was written"),
        (Op::Write, Lies, "is not what was written"),
        (Op::PutBack, Lies, "is not what was written"),
        (Op::Read, Fails(libc::EIO), "cannot read back"),
        (Op::Write, Fails(libc::EIO), "cannot begin a copy"),
        (Op::Fsync, Fails(libc::EIO), "cannot sync"),
        (Op::Fsync, Fails(libc::ENOSPC), "has no room"),
        (Op::Setattr, Fails(libc::EIO), "cannot sync"),
        (Op::Xattr, Fails(libc::EIO), "cannot sync"),
        (Op::PutBack, Fails(libc::EIO), "cannot name"),
        (Op::PutBack, Fails(libc::EROFS), "cannot name"),
        (Op::Lookup, Fails(libc::EIO), "cannot look at"),
    ];
    for (op, trouble, word) in before {
        let site = Site::new();
        site.disk.set(op, trouble, None);
        let what = format!("{op:?} {trouble:?}");
        site.fails(&what, word, &|_| ());
        site.disk.behave();
        site.succeeds(&what);
    }
    // In the middle, once some of it is written.
    for (trouble, word) in
        [(Fails(libc::EIO), "cannot write"), (Fails(libc::ENOSPC), "has no room"), (Lies, "not what was written")]
    {
        let site = Site::new();
        let what = format!("{trouble:?} in the middle");
        site.fails(&what, word, &|reading| {
            if reading == 3 {
                site.disk.set(Op::Write, trouble, None);
            }
        });
        site.disk.behave();
        site.succeeds(&what);
    }
}

/// The content is verified then, and its name may be lost with the power: so it is no copy yet.
#[test]
#[ignore = "needs root and FUSE"]
fn a_copy_whose_name_is_not_durable_counts_once_it_was_read_again_and_is() {
    let site = Site::new();
    site.disk.set(Op::Fsyncdir, Trouble::Fails(libc::EIO), None);
    assert!(matches!(site.put(&|_| ()), Err(ColdError::Failed { .. })));
    // It is there now, and is found; as long as its directories cannot be synced it does not count.
    assert!(matches!(site.put(&|_| ()), Err(ColdError::Failed { .. })));
    site.disk.behave();
    // Nor does it while the disk reads it wrongly, and it is not overwritten.
    site.disk.set(Op::Read, Trouble::Flips, None);
    assert!(matches!(site.put(&|_| ()), Err(ColdError::Taken { .. })));
    site.disk.behave();
    site.succeeds("in the end");
    assert_eq!(std::fs::read_dir(site.disk.below().join(".storage-guard")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root and FUSE"]
fn a_source_that_changes_while_it_is_copied_is_copied_anew() {
    use std::io::{Seek as _, Write as _};
    let append = |path: PathBuf| std::fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
    let change = |path: PathBuf| {
        let mut file = std::fs::File::options().write(true).open(path).unwrap();
        file.seek(std::io::SeekFrom::Start(9)).unwrap();
        file.write_all(b"other").unwrap();
    };
    let cut = |path: PathBuf| std::fs::File::options().write(true).open(path).unwrap().set_len(MIB as u64).unwrap();
    for (what, change) in [("grows", append as fn(PathBuf)), ("changes", change), ("shrinks", cut)] {
        let site = Site::new();
        site.fails(what, "it changed", &|reading| {
            if reading == 2 {
                change(site.source());
            }
        });
        site.succeeds(what);
    }
    // All of it was read already, and it is being read back: the copy would be one of what is not there any more.
    let site = Site::new();
    site.disk.set(Op::Read, Trouble::Slow(Duration::from_millis(50)), None);
    let over = std::thread::scope(|scope| {
        let path = site.source();
        let calls = || site.disk.calls(Op::Read);
        let before = calls();
        let changing = scope.spawn(move || {
            wait_for("it is read back", || calls() > before);
            append(path);
        });
        site.fails("grows at the end", "it grew", &|_| ());
        changing.is_finished()
    });
    assert!(over, "it did not change in time");
    site.disk.behave();
    site.succeeds("grows at the end");
}

#[test]
#[ignore = "needs root and two loop devices"]
fn the_guard_copies_a_recording_anew_that_changed_while_it_was_copied() {
    let mut cold = Cold::new(Mounted::ext4(64), Mounted::ext4(64), 3);
    let config = cold.config("after: 1d, max_bytes_per_second: 512KiB", "scan_interval: 1s\n");
    let _daemon = Daemon::start(&config, &cold.bed.state());
    let private = cold.disk.path().join(".storage-guard");
    let coming = || {
        let names = std::fs::read_dir(&private).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name()).any(|name| name.as_encoded_bytes().starts_with(b"incoming-"))
    };
    wait_for("the first is being copied", coming);
    pause(Duration::from_millis(300));
    let at = (0..3).find(|at| !cold.copy(*at).exists()).unwrap();
    let (path, file) = (cold.bed.made[at].clone(), cold.bed.file(at));
    let old = std::fs::metadata(&file).unwrap().modified().unwrap();
    cold.content.get_mut(&path).unwrap().extend(b"more of it");
    {
        use std::io::Write as _;
        let mut file = std::fs::File::options().append(true).open(&file).unwrap();
        file.write_all(b"more of it").unwrap();
        file.set_modified(old + Duration::from_secs(5)).unwrap();
    }
    wait_for("all have moved", || cold.bed.gone() == 3);
    assert_eq!(cold.copies(), 3, "each is what its source was in the end");
}

/// As on a network filesystem: the guard's trees there are worked by a child, and copies come in all the same.
#[test]
#[ignore = "needs root, a loop device and FUSE"]
fn a_second_disk_that_a_process_of_its_own_works_takes_copies_and_gives_them_back() {
    let disk = Misbehaving::new(64);
    let bed = crate::reclaim::Bed::new(Mounted::ext4(64), 6);
    let before: Vec<Vec<u8>> = (0..6).map(|at| std::fs::read(bed.file(at)).unwrap()).collect();
    let archives = format!(
        "scan_interval: 1s\narchives:\n  - {{ name: cold, kind: directory, path: {}, after: 1d }}\n",
        disk.path().display()
    );
    let config = bed.config("    archive: cold\n", &archives);
    let daemon = disk.daemon(&config, &bed.state());
    wait_for("all have moved", || bed.gone() == 6);
    for (path, film) in bed.made.iter().zip(&before) {
        assert!(std::fs::read(disk.path().join("live").join(path)).unwrap() == *film, "{path}");
    }
    let job = super::restore_from(&bed, &serde_json::json!({"tree": "live", "paths": [bed.made[2]]}));
    let over = crate::support::asking::until(&daemon, job, "done");
    assert_eq!(over["verified"], 1, "{over}");
    assert!(std::fs::read(bed.file(2)).unwrap() == before[2]);
}
