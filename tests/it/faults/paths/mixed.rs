//! What lies in a tree and is none of ours, what refuses to go, and where the space does not come back.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, recording, run, wait_for};

const DAY: Duration = Duration::from_secs(86_400);
const MIB: usize = 1 << 20;

/// All entries of the journal.
pub(super) fn journal(config: &Path) -> Vec<serde_json::Value> {
    let listed = guard(&["journal", "list", "--json", "-c", config.to_str().unwrap()]);
    let entries: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    entries["items"].as_array().unwrap().clone()
}

/// Paths of the recordings that went, as the journal says.
pub(super) fn verified(config: &Path) -> BTreeSet<String> {
    paths(config, "verified")
}

fn paths(config: &Path, outcome: &str) -> BTreeSet<String> {
    let entries = journal(config);
    let found = entries.iter().filter(|entry| entry["kind"] == "deletion" && entry["outcome"] == outcome);
    found.map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
}

/// How many files are set aside in the private folder of a tree.
pub(super) fn left(tree: &Path) -> usize {
    let Ok(folder) = std::fs::read_dir(tree.join(".storage-guard")) else { return 0 };
    folder.filter(|entry| entry.as_ref().unwrap().file_name() != "marker").count()
}

/// A mount, taken away when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(options: &[&str], at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        run("mount", &[options, &[at.to_str().unwrap()]].concat());
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Fault 3.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it moves the test's own files")]
fn a_root_that_is_replaced_or_becomes_a_link_is_blind() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let other = bed.volume.path().join("other");
    let made = recording(&other, "live/a", DAY * 30, MIB);
    let config = bed.config("    budget: 5MiB\n", "").with_file_name("guard.yaml");
    let text = std::fs::read_to_string(&config).unwrap().replace("    budget: 5MiB\n", "");
    std::fs::write(&config, &text).unwrap();
    let daemon = Daemon::start(&config, &bed.state());
    let volume = || daemon.status().map(|status| status["volumes"][0].clone()).unwrap_or_default();
    wait_for("it is guarded", || volume()["pressure"] == "normal");
    let away = bed.volume.path().join("away");
    std::fs::rename(bed.tree(), &away).unwrap();
    std::os::unix::fs::symlink(&other, bed.tree()).unwrap();
    wait_for("a link is no root", || volume()["pressure"] == "blind");
    std::fs::remove_file(bed.tree()).unwrap();
    std::fs::rename(&other, bed.tree()).unwrap();
    // Though it now asks for space, the other directory bears no marker.
    std::fs::write(&config, text.replace("layout: zlmediakit\n", "layout: zlmediakit\n    budget: 1B\n")).unwrap();
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    wait_for("another directory is no root", || {
        volume()["blind_because"].as_str().is_some_and(|why| why.contains("marker"))
    });
    assert!(bed.tree().join(made).exists() && !bed.tree().join(".storage-guard").exists());
    assert!(bed.made.iter().all(|made| away.join(made).exists()));
}

/// Faults 5, 9, 10, 24, 25: a run, and everything about it that it has to leave alone.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn what_is_no_recording_of_the_tree_survives_a_run() {
    let bed = Bed::new(Mounted::ext4(400), 270);
    let neighbour = bed.volume.path().join("record_backup");
    let kept = recording(&neighbour, "live/a", DAY * 300, MIB);
    let day = bed.file(0).parent().unwrap().to_owned();
    let named = |name: &str| day.join(format!("2020-01-01-{name}.mp4"));
    run("mkfifo", &[named("00-00-00-0").to_str().unwrap()]);
    run("mknod", &[named("00-00-01-0").to_str().unwrap(), "b", "7", "200"]);
    let _socket = std::os::unix::net::UnixListener::bind(named("00-00-02-0")).unwrap();
    std::fs::create_dir(named("00-00-03-0")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", named("00-00-04-0")).unwrap();
    let strange = [
        named("00-00-00-0"),
        named("00-00-01-0"),
        named("00-00-02-0"),
        named("00-00-03-0"),
        named("00-00-04-0"),
        day.join("notes.txt"),
        day.join("photo.jpg"),
        bed.tree().join("index.db"),
        bed.tree().join("live/a/.keep"),
    ];
    for file in &strange[5..] {
        write(file, "foreign");
    }
    std::fs::hard_link(bed.file(1), bed.volume.path().join("twin")).unwrap();
    let config = bed.config("", "");
    let scanned = json(&["scan", "-c", config.to_str().unwrap()]);
    let tree = &scanned["trees"][0];
    assert_eq!((&tree["symlinks"], &tree["special"]), (&1.into(), &3.into()), "{tree}");
    // The recorder deletes beside us, from the other end of what will go.
    let ahead: Vec<(String, PathBuf)> = (2..60).rev().map(|at| (bed.made[at].clone(), bed.file(at))).collect();
    let beside = std::thread::spawn(move || {
        let gone = ahead.into_iter().filter(|(_, file)| {
            crate::support::pause(Duration::from_millis(2));
            std::fs::remove_file(file).is_ok()
        });
        gone.map(|(made, _)| made).collect::<BTreeSet<String>>()
    });
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    let theirs = beside.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let ours = verified(&config);
    assert!(ours.is_disjoint(&theirs), "counted as ours: {:?}", ours.intersection(&theirs));
    assert!(paths(&config, "failed").is_empty(), "what is gone already is no failure");
    let gone: BTreeSet<String> = bed.made.iter().filter(|made| !bed.tree().join(made).exists()).cloned().collect();
    assert_eq!(gone, ours.union(&theirs).cloned().collect());
    assert!(strange.iter().all(|file| std::fs::symlink_metadata(file).is_ok()), "{strange:?}");
    assert!(neighbour.join(kept).exists() && bed.exists(1));
    assert_eq!(left(&bed.tree()), 0);
}

/// Faults 6, 7, 8, 11: other mounts inside the tree are neither scanned nor counted, nor is anything deleted through them; with the
/// calls of an old kernel too.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn mounts_inside_the_tree_are_passed_over() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let (far, same) = (tempfile::tempdir().unwrap(), bed.volume.path().join("same"));
    let mut precious: Vec<PathBuf> = Vec::new();
    let mut keep = |top: &Path| precious.push(top.join(recording(top, "x", DAY * 400, 1000)));
    keep(far.path());
    keep(&same);
    let live = bed.tree().join("live");
    let _mounts = [
        Mount::new(&["--bind", far.path().to_str().unwrap()], &live.join("far")),
        Mount::new(&["--bind", same.to_str().unwrap()], &live.join("same")),
        Mount::new(&["-t", "tmpfs", "none"], &live.join("memory")),
        // A loop of directories.
        Mount::new(&["--bind", bed.tree().to_str().unwrap()], &live.join("loop")),
    ];
    keep(&live.join("memory"));
    let config = bed.config("", "");
    let path = config.to_str().unwrap();
    let old = ["openat2:error=ENOSYS", "statx:error=ENOSYS", "renameat2:error=ENOSYS"];
    for inject in [&[][..], &old[1..2], &old] {
        let args = ["scan", "--json", "-c", path];
        let output = if inject.is_empty() { guard(&args) } else { super::kernels::traced(inject, &args) };
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let tree = &status["trees"][0];
        assert_eq!(tree["files"], 300, "{tree}");
        let mut mounts: Vec<&str> =
            tree["mounts"].as_array().unwrap().iter().map(|mount| mount.as_str().unwrap()).collect();
        mounts.sort_unstable();
        assert_eq!(mounts, ["live/far", "live/loop", "live/memory", "live/same"], "{inject:?}");
        assert_eq!(tree["complete"], true, "{tree}");
    }
    let output = super::kernels::traced(&old, &["reclaim", "-c", path]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(bed.gone() > 50 && precious.iter().all(|file| file.exists()), "{precious:?}");
}

/// Faults 18, 19: one that may only grow is one failure, and its directory goes on.
#[test]
#[ignore = "needs root and a loop device"]
fn an_append_only_file_fails_once_and_the_next_goes() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    run("chattr", &["+a", bed.file(0).to_str().unwrap()]);
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    run("chattr", &["-a", bed.file(0).to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(bed.exists(0) && !bed.exists(1));
    let failures = json(&["failures", "list", "-c", config.to_str().unwrap()]);
    let failures = failures["items"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!((&failures[0]["cause"], &failures[0]["path"]), (&"locked".into(), &bed.made[0].as_str().into()));
}

/// Runs the program as a user with no rights but that to ask for leases.
fn as_nobody(program: &Path, args: &[&str]) -> std::process::Output {
    Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all,+lease",
            "--ambient-caps=-all,+lease",
        ])
        .arg(program)
        .args(args)
        .output()
        .unwrap()
}

/// Fault 20.
#[test]
#[ignore = "needs root, a loop device and setpriv"]
fn files_of_another_owner_in_a_sticky_directory_stay_and_the_rest_goes() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    for path in [bed.volume.path().parent().unwrap(), bed.volume.path(), bed.home.path()] {
        run("chmod", &["a+rx", path.to_str().unwrap()]);
    }
    std::fs::create_dir_all(bed.state()).unwrap();
    let nobody = |path: &Path| run("chown", &["-R", "65534:65534", path.to_str().unwrap()]);
    [bed.tree(), bed.state()].iter().for_each(|path| nobody(path));
    let program = bed.home.path().join("storage-guard");
    std::fs::copy(env!("CARGO_BIN_EXE_storage-guard"), &program).unwrap();
    // Not the first day, of which there may be a few minutes only.
    let sticky = bed.file(40).parent().unwrap().to_owned();
    let inside: Vec<usize> = (0..300).filter(|at| bed.file(*at).parent() == Some(&sticky)).collect();
    run("chown", &["-R", "0:0", sticky.to_str().unwrap()]);
    std::fs::set_permissions(&sticky, PermissionsExt::from_mode(0o1777)).unwrap();
    let output = as_nobody(&program, &["reclaim", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(inside.len() > 3 && inside.iter().all(|at| bed.exists(*at)), "{inside:?}");
    assert!(bed.gone() > 50);
    let failures = json(&["failures", "list", "-c", config.to_str().unwrap()]);
    let failures = failures["items"].as_array().unwrap();
    assert!(!failures.is_empty() && failures.len() <= 2, "{failures:?}");
    assert!(failures.iter().all(|failure| failure["cause"] == "permission"), "{failures:?}");
}

/// Fault 21.
#[test]
#[ignore = "needs root and a loop device"]
fn in_a_layered_tree_deletions_that_free_nothing_end_the_run() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let top = bed.volume.path();
    for dir in ["upper", "work"] {
        std::fs::create_dir_all(top.join(dir)).unwrap();
    }
    let merged = tempfile::tempdir().unwrap();
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        bed.tree().display(),
        top.join("upper").display(),
        top.join("work").display()
    );
    let _mount = Mount::new(&["-t", "overlay", "overlay", "-o", &layers], merged.path());
    let config = bed.config("", "");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(bed.tree().to_str().unwrap(), merged.path().to_str().unwrap());
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(&config, text).unwrap();
    let output = guard(&["reclaim", "--json", "-c", config.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(output.status.code(), Some(4), "{report} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["items"][0]["result"], "stalled", "{report}");
    let gone = bed.made.iter().filter(|made| !merged.path().join(made).exists()).count();
    assert!(gone <= 10, "{gone} were deleted in the hope of space");
    assert_eq!(bed.gone(), 0, "the lower layer is whole");
}

/// Fault 23.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn a_private_folder_that_somebody_else_made_is_refused_and_the_tree_is_blind() {
    let check = |make: &dyn Fn(&Path)| {
        let bed = Bed::new(Mounted::ext4(64), 46);
        let config = bed.config("", "");
        make(&bed.tree().join(".storage-guard"));
        let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(bed.gone(), 0);
        let daemon = Daemon::start(&config, &bed.state());
        let mut why = String::new();
        wait_for("it is blind", || {
            let status = daemon.status().unwrap();
            why = status["volumes"][0]["blind_because"].as_str().unwrap_or_default().to_owned();
            why.contains("marker")
        });
        assert_eq!(bed.gone(), 0);
        why
    };
    let outside = tempfile::tempdir().unwrap();
    check(&|folder| std::os::unix::fs::symlink(outside.path(), folder).unwrap());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    let why = check(&|folder| {
        std::fs::create_dir(folder).unwrap();
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
    });
    assert!(why.contains("not a folder of this user with mode 0700"), "{why}");
    check(&|folder| {
        std::fs::create_dir(folder).unwrap();
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(folder, Some(65_534), Some(65_534)).unwrap();
        assert_eq!(std::fs::metadata(folder).unwrap().uid(), 65_534);
    });
    check(&|folder| std::fs::write(folder, "a file").unwrap());
}
