//! The door on a real filesystem: what may not go stays, whatever was planned.

use super::*;
use crate::domain::deletion::{RuleKind, Trigger};
use crate::domain::names::TreeId;
use crate::system::{Dir as _, GuardedTree, Kernel};
use std::path::Path;

const WAIT: DoorRules = DoorRules {
    when_open: WhenOpen::Wait,
    without_lease: false,
    leases: true,
    may_share: false,
    name_is_record: false,
};
const DELETE: DoorRules = DoorRules {
    when_open: WhenOpen::Delete,
    without_lease: false,
    leases: true,
    may_share: false,
    name_is_record: false,
};

struct Home {
    dir: tempfile::TempDir,
    tree: GuardedTree,
}

#[expect(clippy::disallowed_methods, reason = "they make the test's own files")]
fn home() -> Home {
    crate::system::survive_lease_breaks();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("cam")).unwrap();
    std::fs::write(dir.path().join("cam/a.mp4"), vec![1; 20_000]).unwrap();
    let tree = GuardedTree::open(dir.path()).unwrap();
    Home { dir, tree }
}

impl Home {
    fn target(&self) -> Target {
        let path = RelPath::new(b"cam/a.mp4").unwrap();
        let now = self.tree.look(&path).unwrap().unwrap();
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
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("cam/a.mp4")
    }

    fn delete(&self, target: &Target, rules: DoorRules) -> Attempt {
        match verify(&self.tree, target, 7, rules) {
            Checked::Ready(verified) => unlink(verified),
            Checked::Done(attempt) => attempt,
        }
    }

    /// What stands in the private folder.
    fn left(&self) -> usize {
        self.tree.list_aside().unwrap().len()
    }
}

fn word(attempt: &Attempt) -> String {
    match attempt {
        Attempt::Verified { open: false, .. } => "verified".to_owned(),
        Attempt::Verified { open: true, .. } => "verified, open".to_owned(),
        Attempt::AlreadyGone => "already gone".to_owned(),
        Attempt::Kept { why } => format!("kept: {why}"),
        Attempt::Failed { cause, .. } => format!("failed: {cause}"),
    }
}

/// Does `before` to the file between the scan and the door, and says what the door made of it.
fn check(rules: DoorRules, before: impl FnOnce(&Path) -> Option<std::fs::File>, expected: &str) {
    let home = home();
    let target = home.target();
    let held = before(&home.file());
    let attempt = home.delete(&target, rules);
    assert_eq!(word(&attempt), expected);
    let gone = matches!(attempt, Attempt::Verified { .. } | Attempt::AlreadyGone);
    assert_eq!(home.file().exists(), !gone);
    assert_eq!(home.left(), 0, "nothing stays set aside");
    drop(held);
}

#[test]
fn an_unchanged_file_that_nobody_has_open_goes() {
    check(WAIT, |_| None, "verified");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it changes the test's own files")]
fn what_changed_since_the_scan_stays() {
    check(
        WAIT,
        |file| std::fs::File::options().append(true).open(file).unwrap().set_len(5).map(|()| None).unwrap(),
        "kept: changed",
    );
    check(
        WAIT,
        |file| {
            std::fs::rename(file, file.with_extension("old")).unwrap();
            std::fs::write(file, b"new").unwrap();
            None
        },
        "kept: changed",
    );
    check(
        WAIT,
        |file| {
            std::fs::hard_link(file, file.with_extension("link")).unwrap();
            None
        },
        "kept: linked",
    );
    check(
        WAIT,
        |file| {
            std::fs::remove_file(file).unwrap();
            None
        },
        "already gone",
    );
    check(
        WAIT,
        |file| {
            std::fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", file).unwrap();
            None
        },
        "failed: changed",
    );
}

/// Fault 10: a pipe without a writer makes nobody wait.
#[test]
#[expect(clippy::disallowed_methods, reason = "it changes the test's own files")]
fn a_pipe_in_the_place_of_a_file_stays() {
    check(
        WAIT,
        |file| {
            std::fs::remove_file(file).unwrap();
            let made = std::process::Command::new("mkfifo").arg(file).status().unwrap();
            assert!(made.success());
            None
        },
        "failed: changed",
    );
}

#[test]
fn what_is_open_waits_and_readers_may_be_overruled() {
    let reader = |file: &Path| Some(std::fs::File::open(file).unwrap());
    let writer = |file: &Path| Some(std::fs::File::options().append(true).open(file).unwrap());
    check(WAIT, reader, "failed: in_use");
    check(WAIT, writer, "failed: in_use");
    check(DELETE, reader, "verified, open");
    check(DELETE, writer, "failed: in_use");
}

#[test]
fn a_hold_stays_with_the_file() {
    check(
        WAIT,
        |file| {
            let handle = std::fs::File::open(file).unwrap();
            rustix::fs::fsetxattr(&handle, HOLD_ATTRIBUTE, b"case 7", rustix::fs::XattrFlags::empty()).unwrap();
            None
        },
        "kept: hold",
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it changes the test's own files")]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("a.mp4"), b"precious").unwrap();
    let home = home();
    let target = home.target();
    let cam = home.dir.path().join("cam");
    std::fs::rename(&cam, home.dir.path().join("other")).unwrap();
    std::os::unix::fs::symlink(outside.path(), &cam).unwrap();
    assert_eq!(word(&home.delete(&target, WAIT)), "failed: changed");
    assert!(outside.path().join("a.mp4").exists());
}

#[test]
fn a_licence_that_is_not_used_puts_the_file_back() {
    let home = home();
    let target = home.target();
    match verify(&home.tree, &target, 7, WAIT) {
        Checked::Ready(verified) => {
            assert!(!home.file().exists());
            drop(verified);
        }
        Checked::Done(attempt) => panic!("{attempt:?}"),
    }
    assert!(home.file().exists());
    assert_eq!(word(&home.delete(&target, WAIT)), "verified");
}

#[test]
fn what_a_crash_left_set_aside_is_finished_only_if_it_is_the_same() {
    let home = home();
    let target = home.target();
    let aside = home.tree.set_aside(&target.path, 9).unwrap();
    let other = Target { fingerprint: 1, ..target.clone() };
    assert_eq!(word(&finish(&home.tree, &aside, &other, WAIT)), "kept: changed");
    assert_eq!(home.left(), 1);
    assert_eq!(word(&finish(&home.tree, &aside, &target, WAIT)), "verified");
    assert_eq!(home.left(), 0);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it changes the test's own files")]
fn a_name_is_never_put_back_over_another_file() {
    let home = home();
    let target = home.target();
    let aside = home.tree.set_aside(&target.path, 9).unwrap();
    std::fs::write(home.file(), b"newer").unwrap();
    assert!(home.tree.put_back(&aside, &target.path).is_err());
    assert_eq!(std::fs::read(home.file()).unwrap(), b"newer");
    std::fs::remove_dir_all(home.dir.path().join("cam")).unwrap();
    home.tree.put_back(&aside, &target.path).unwrap();
    assert!(home.file().exists());
}

#[test]
fn the_marker_is_written_whole_and_a_foreign_private_folder_is_refused() {
    let home = home();
    assert_eq!(home.tree.read_marker().unwrap(), None);
    home.tree.write_marker("one").unwrap();
    home.tree.write_marker("two").unwrap();
    assert_eq!(home.tree.read_marker().unwrap().as_deref(), Some("two"));
    let folder = home.dir.path().join(".storage-guard");
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert!(home.tree.read_marker().is_err());
    assert!(matches!(home.delete(&home.target(), WAIT), Attempt::Failed { .. }));
    assert!(home.file().exists());
}

#[test]
fn a_second_guard_on_a_tree_is_told_who_has_it() {
    let home = home();
    assert_eq!(home.tree.lock().unwrap(), None);
    let second = GuardedTree::open(home.dir.path()).unwrap();
    assert_eq!(second.lock().unwrap(), Some(std::process::id()));
}

#[test]
fn a_long_name_is_set_aside_beside_itself_within_the_limit() {
    let home = home();
    let path = RelPath::new(&[b"cam/".as_slice(), &[b'x'; 255]].concat()).unwrap();
    let Aside::Beside(beside) = home.tree.beside(&path, u64::MAX) else { panic!("not beside") };
    assert_eq!(beside.split().1.len(), 255);
}

#[test]
fn who_begins_to_open_it_gets_it_back() {
    for last in [unlink, quarantine] {
        let home = home();
        let target = home.target();
        let Checked::Ready(verified) = verify(&home.tree, &target, 7, WAIT) else { panic!("it may go") };
        // The open would wait for the lease; asked not to wait, it fails, and the lease is being broken all the same.
        let aside = home.dir.path().join(".storage-guard/7");
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
        let opened = rustix::fs::open(&aside, flags, rustix::fs::Mode::empty());
        assert_eq!(opened.err(), Some(rustix::io::Errno::AGAIN));
        assert_eq!(word(&last(verified)), "failed: in_use");
        assert!(home.file().exists());
        assert_eq!(home.left(), 0);
    }
}

#[test]
fn what_is_left_set_aside_stays_there_with_its_origin_and_is_finished_later() {
    let home = home();
    let target = home.target();
    let Checked::Ready(verified) = verify(&home.tree, &target, 7, WAIT) else { panic!("it may go") };
    assert_eq!(quarantine(verified), Attempt::quarantined());
    let aside = Aside::Private(7);
    assert!(!home.file().exists());
    let held = home.tree.open_aside(&aside).unwrap().unwrap();
    let kept = held.attribute(ORIGIN_ATTRIBUTE).unwrap().unwrap();
    assert!(kept.ends_with(b"\ncam/a.mp4"), "{kept:?}");
    // Who has it open is asked where it lies.
    assert_eq!(
        ready_aside(&home.tree, &aside, &target, WAIT).map_err(|attempt| word(&attempt)),
        Err("failed: in_use".to_owned())
    );
    drop(held);
    assert_eq!(ready_aside(&home.tree, &aside, &target, WAIT), Ok(()));
    assert_eq!(home.left(), 1, "asking touches nothing");
    assert_eq!(word(&finish(&home.tree, &aside, &target, WAIT)), "verified");
    assert_eq!(home.left(), 0);
}

#[test]
fn a_lease_is_not_believed_where_other_machines_write() {
    let far = DoorRules { leases: false, ..WAIT };
    check(far, |_| None, "failed: in_use");
    check(DoorRules { without_lease: true, ..far }, |_| None, "verified");
}

const OLD: Kernel = Kernel { openat2: false, statx: false, renameat2: false };

/// Faults 1, 2, and kernels before Linux 3.15: what the door does is the same.
#[test]
#[expect(clippy::disallowed_methods, reason = "it changes the test's own files")]
fn an_old_kernel_deletes_and_puts_back_the_same() {
    let mut home = home();
    home.tree = GuardedTree::open_with(home.dir.path(), OLD).unwrap();
    let target = home.target();
    let aside = home.tree.set_aside(&target.path, 9).unwrap();
    std::fs::write(home.file(), b"newer").unwrap();
    let refused = home.tree.put_back(&aside, &target.path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!((std::fs::read(home.file()).unwrap(), home.left()), (b"newer".to_vec(), 1));
    std::fs::remove_file(home.file()).unwrap();
    home.tree.put_back(&aside, &target.path).unwrap();
    assert_eq!(word(&home.delete(&target, WAIT)), "verified");
    assert!(!home.file().exists() && home.left() == 0);
    let cam = home.dir.path().join("cam");
    std::fs::rename(&cam, home.dir.path().join("other")).unwrap();
    std::os::unix::fs::symlink("/etc", &cam).unwrap();
    assert!(home.tree.open(&RelPath::new(b"cam/hostname").unwrap()).is_err(), "a link is not followed");
}

/// A crash between the two steps of a put-back without `renameat2`.
#[test]
fn of_two_names_that_a_crash_left_ours_is_taken_away() {
    for kernel in [OLD, Kernel::current()] {
        let mut home = home();
        home.tree = GuardedTree::open_with(home.dir.path(), kernel).unwrap();
        let target = home.target();
        let aside = home.tree.set_aside(&target.path, 9).unwrap();
        std::fs::hard_link(home.dir.path().join(".storage-guard/9"), home.file()).unwrap();
        assert_eq!(word(&finish(&home.tree, &aside, &target, WAIT)), "kept: linked");
        home.tree.put_back(&aside, &target.path).unwrap();
        assert_eq!(home.left(), 0);
        let now = home.tree.look(&target.path).unwrap().unwrap();
        assert_eq!((now.inode, now.links), (target.inode, 1));
    }
}

/// A fingerprint of one kind of kernel is never taken for one of another.
#[test]
fn what_was_planned_with_statx_stays_without_it() {
    let mut home = home();
    let target = home.target();
    home.tree = GuardedTree::open_with(home.dir.path(), OLD).unwrap();
    assert_eq!(word(&home.delete(&target, WAIT)), "kept: changed");
    let old = home.target();
    home.tree = GuardedTree::open(home.dir.path()).unwrap();
    assert_eq!(word(&home.delete(&old, WAIT)), "kept: changed");
    assert!(home.file().exists() && home.left() == 0);
}

/// Fault 17: names are bytes.
#[test]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn a_twin_that_differs_in_case_or_normal_form_is_another_file() {
    let home = home();
    let target = home.target();
    let twins = ["A.mp4", "a.MP4", "\u{e9}.mp4", "e\u{301}.mp4"].map(|name| home.dir.path().join("cam").join(name));
    for twin in &twins {
        std::fs::write(twin, b"twin").unwrap();
    }
    assert_eq!(word(&home.delete(&target, WAIT)), "verified");
    assert!(twins.iter().all(|twin| twin.exists()));
}
