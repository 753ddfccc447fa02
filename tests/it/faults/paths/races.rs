//! Somebody swaps directories and files while the guard deletes.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags};
use storage_guard::domain::deletion::{Attempt, RuleKind, Target, Trigger};
use storage_guard::domain::names::TreeId;
use storage_guard::domain::path::RelPath;
use storage_guard::domain::retention::WhenOpen;
use storage_guard::system::door::{Checked, DoorRules, unlink, verify};
use storage_guard::system::{Dir as _, GuardedTree, Kernel, WritableDir as _, survive_lease_breaks};

use super::mixed::{journal, verified};
use crate::reclaim::Bed;
use crate::support::{Mounted, guard, pause, scale, total};

const OLD: Kernel = Kernel { openat2: false, statx: false, renameat2: false };
const RULES: DoorRules =
    DoorRules { when_open: WhenOpen::Wait, without_lease: true, leases: true, may_share: false, name_is_record: false };
/// Names in each directory.
const NAMES: usize = 8;

/// Exchanges pairs of names over and over, each time back again, so that in the end everything stands where it stood.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Swapper {
    /// One thread for each list of pairs. Without a `rest` a swapper can keep the kernel's lookups of a directory busy for minutes.
    fn start(pairs: Vec<Vec<(PathBuf, PathBuf)>>, rest: Duration) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = pairs.into_iter().map(|pairs| {
            let (stop, swaps) = (stop.clone(), swaps.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for (one, other) in &pairs {
                        if exchange(one, other) {
                            swaps.fetch_add(1, Ordering::Relaxed);
                            if rest.is_zero() {
                                std::thread::yield_now()
                            } else {
                                pause(rest)
                            }
                            // Its partner may be out of the way for a moment.
                            while !exchange(one, other) && one.parent().is_some_and(|dir| dir.ends_with("tree")) {}
                            swaps.fetch_add(1, Ordering::Relaxed);
                            wait(rest);
                        }
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { stop, swaps, threads }
    }

    fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn wait(rest: Duration) {
    if rest.is_zero() {
        // Long enough for the guard to come in between: swaps that meet no deletion prove nothing.
        (0..2_000).for_each(|_| std::hint::spin_loop());
    } else {
        pause(rest);
    }
}

#[expect(clippy::disallowed_methods, reason = "it is what the guard is tried with")]
fn exchange(one: &Path, other: &Path) -> bool {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

/// A name of the tree's directory, or of its spare.
fn name(at: usize) -> String {
    format!("{at}.mp4")
}

#[derive(Default)]
struct Counts {
    swaps: u64,
    deleted: u64,
    refused: u64,
}

/// Deletes with the door until so many swaps have met it; nothing but what was planned may be gone.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn check(home: &Path, kernel: Kernel, swaps: u64) -> Counts {
    survive_lease_breaks();
    let (tree, outside) = (home.join("tree"), home.join("outside"));
    let (cam, spare, decoys) = (tree.join("cam"), tree.join("spare"), home.join("decoys"));
    for dir in [&cam, &spare, &outside.join("far"), &decoys] {
        std::fs::create_dir_all(dir).unwrap();
    }
    for at in 0..NAMES {
        std::fs::write(outside.join("far").join(name(at)), "precious").unwrap();
        std::fs::write(outside.join(name(at)), "precious").unwrap();
        std::fs::write(spare.join(name(at)), "decoy").unwrap();
    }
    std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
    // A handle that no swap leads astray; it is how the recorder's side sees its own directory.
    let (cam_dir, spare_dir) = (File::open(&cam).unwrap(), File::open(&spare).unwrap());
    let through = |dir: &File, at: usize| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(dir);
        PathBuf::from(format!("/proc/self/fd/{fd}/{}", name(at)))
    };
    let inode_of = |path: &Path| std::fs::symlink_metadata(path).ok().map(|found| found.ino());
    let decoys: Vec<u64> = (0..NAMES).map(|at| inode_of(&spare.join(name(at))).unwrap()).collect();
    let guarded = GuardedTree::open_with(&tree, kernel).unwrap();
    let directories = vec![(cam.clone(), tree.join("link")), (cam.clone(), outside.join("far"))];
    let files = (0..NAMES).map(|at| (through(&cam_dir, at), through(&spare_dir, at)));
    let swapper = Swapper::start(vec![directories, files.collect()], Duration::ZERO);
    let mut counts = Counts::default();
    let mut seq = 0;
    while swapper.swaps() < swaps || counts.deleted < 50 {
        seq += 1;
        let at = usize::try_from(seq).unwrap() % NAMES;
        let dir = if inode_of(&through(&cam_dir, at)).is_none() { &cam_dir } else { &spare_dir };
        // Where the victim of the round before still stands, it stays the victim.
        if let Ok(mut file) = File::options().write(true).create_new(true).open(through(dir, at)) {
            std::io::Write::write_all(&mut file, b"planned").unwrap();
        }
        let Some(target) = [&cam_dir, &spare_dir].into_iter().find_map(|dir| planned(&through(dir, at), &guarded, at))
        else {
            continue;
        };
        if decoys[at] == target.inode {
            continue;
        }
        let attempt = match verify(&guarded, &target, seq, RULES) {
            Checked::Ready(licence) => unlink(licence),
            Checked::Done(attempt) => attempt,
        };
        match attempt {
            Attempt::Verified { .. } => counts.deleted += 1,
            Attempt::AlreadyGone | Attempt::Kept { .. } | Attempt::Failed { .. } => counts.refused += 1,
        }
    }
    counts.swaps = swapper.swaps();
    drop(swapper);
    // What could not be put back in the middle of it goes back now, as settling would do it.
    let mut restored = 0;
    for aside in guarded.list_aside().unwrap() {
        let file = guarded.open_aside(&aside).unwrap().unwrap();
        let origin = file.attribute(storage_guard::system::door::ORIGIN_ATTRIBUTE).unwrap().unwrap();
        let path = RelPath::new(origin.splitn(4, |byte| *byte == b'\n').nth(3).unwrap()).unwrap();
        let back = guarded.put_back(&aside, &path);
        let taken = back.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists);
        assert!(back.is_ok() || taken, "{back:?}");
        restored += u64::from(back.is_ok());
    }
    let mut found = std::collections::BTreeSet::new();
    for dir in ["tree/cam", "tree/spare", "tree/.storage-guard", "outside/far", "outside"] {
        for entry in std::fs::read_dir(home.join(dir)).into_iter().flatten() {
            found.insert(entry.unwrap().metadata().unwrap().ino());
        }
    }
    let wrong = decoys.iter().filter(|decoy| !found.contains(decoy)).count();
    let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
    let far = if outside.join("far").join(name(0)).exists() { outside.join("far") } else { cam.clone() };
    let escapes = (0..NAMES)
        .flat_map(|at| [outside.join(name(at)), far.join(name(at))])
        .filter(|path| read(path.clone()) != b"precious")
        .count();
    let shown = Command::new("ls").args(["-aliR"]).arg(home).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert_eq!((wrong, escapes), (0, 0), "wrong inodes and escapes, {restored} restored, {kernel:?}: {shown}");
    counts
}

/// The target that a scan would make of a file that stands at `place`.
fn planned(place: &Path, tree: &GuardedTree, at: usize) -> Option<Target> {
    let path = RelPath::new(format!("cam/{}", name(at)).as_bytes()).unwrap();
    // Read by the path, as a scan does; the content tells whether it is one that may be planned.
    let now = tree.look(&path).ok().flatten()?;
    (std::fs::read(place).ok()? == b"planned" && std::fs::symlink_metadata(place).ok()?.ino() == now.inode).then(|| {
        Target {
            tree: TreeId::new("t"),
            path,
            stream: "cam".to_owned(),
            recorded: None,
            bytes: now.allocated,
            inode: now.inode,
            fingerprint: now.fingerprint(),
            rule: RuleKind::Pressure,
            trigger: Trigger::Pressure,
            reason: String::new(),
        }
    })
}

fn report(all: &[Counts]) {
    let sum = |each: fn(&Counts) -> u64| all.iter().map(each).sum();
    total("races: swaps", sum(|counts| counts.swaps));
    total("races: deletions among them", sum(|counts| counts.deleted));
    total("races: refused among them", sum(|counts| counts.refused));
    total("races: escapes", 0);
    total("races: wrong inodes deleted", 0);
}

/// Faults 1, 2.
#[test]
#[ignore = "needs root and a loop device"]
fn whoever_swaps_directories_and_files_loses_nothing_that_was_not_planned() {
    let volume = Mounted::ext4(64);
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut all = Vec::new();
    for (kernel, short, long) in [(Kernel::current(), 4_000, 400_000), (OLD, 1_000, 100_000)] {
        for home in [memory.path(), volume.path()] {
            let home = tempfile::tempdir_in(home).unwrap();
            all.push(check(home.path(), kernel, scale(short, long)));
        }
    }
    report(&all);
}

/// Faults 1, 2.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn a_run_amid_swapped_directories_deletes_nothing_that_its_journal_does_not_know() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let outside = bed.volume.path().join("outside");
    for made in &bed.made {
        let twin = outside.join(made.strip_prefix("live/").unwrap());
        std::fs::create_dir_all(twin.parent().unwrap()).unwrap();
        std::fs::write(twin, "precious").unwrap();
    }
    let link = bed.volume.path().join("link");
    std::os::unix::fs::symlink(outside.join("a"), &link).unwrap();
    let tree = bed.tree().join("live");
    let swapper = Swapper::start(
        vec![vec![(tree.join("a"), link), (tree.join("b"), outside.join("b"))]],
        Duration::from_micros(500),
    );
    let config = bed.config("", "");
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    let swaps = swapper.swaps();
    drop(swapper);
    assert!(output.status.code().is_some(), "{}", String::from_utf8_lossy(&output.stderr));
    total("races: swaps during a run", swaps);
    let deleted = verified(&config);
    let entries = journal(&config);
    for (at, made) in bed.made.iter().enumerate() {
        let said: Vec<_> = entries.iter().filter(|entry| entry["path"] == made.as_str()).collect();
        if bed.exists(at) {
            assert!(!deleted.contains(made), "{made} is there: {said:?}");
        } else {
            // What cannot be synced or looked for, because a link stood in its directory's place, is not called deleted yet.
            let unknown = |entry: &&serde_json::Value| entry["note"].to_string().contains("symbolic links");
            let known = deleted.contains(made) || said.iter().any(unknown);
            assert!(known, "{made} is gone: {said:?}");
        }
        let twin = outside.join(made.strip_prefix("live/").unwrap());
        assert_eq!(std::fs::read(&twin).unwrap_or_default(), b"precious", "{made}");
    }
}

/// Fault 12: a file that was deleted and made again, with the inode, size and time of the one before, is another file.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn a_file_with_the_inode_of_its_predecessor_is_another_file() {
    let volume = Mounted::ext4(64);
    let tree = GuardedTree::open(volume.path()).unwrap();
    let place = volume.path().join("cam").join(name(0));
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    let make = || {
        std::fs::write(&place, "planned").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        File::options().write(true).open(&place).unwrap().set_modified(old).unwrap();
        planned(&place, &tree, 0).unwrap()
    };
    let first = make();
    std::fs::remove_file(&place).unwrap();
    let second = make();
    assert_eq!(first.inode, second.inode, "the filesystem uses inodes again");
    assert!(matches!(verify(&tree, &first, 1, RULES), Checked::Done(Attempt::Kept { .. })));
    assert!(place.exists());
    assert!(matches!(verify(&tree, &second, 2, RULES), Checked::Ready(_)));
}
