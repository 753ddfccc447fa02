//! Trees and volumes that hang: each is worked by a child, which is given up when it does not answer.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use storage_guard::domain::path::RelPath;
use storage_guard::domain::recording::FileIdentity;
use storage_guard::domain::units::{Bytes, Timestamp};
use storage_guard::domain::volume::Unusable;
use storage_guard::system::{
    Aside, Deadlines, GuardedTree, Isolating, Lease, LeaseKind, SystemClock, Volumes as _, WritableDir,
};

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, pause, recording, run, scale, total, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_storage-guard");
const HOUR: Duration = Duration::from_secs(3600);

/// Puts a path into the list of what hung once, so that a child works it.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn isolate(state: &Path, place: &Path) {
    run("mkdir", &["-p", "-m", "700", state.to_str().unwrap()]);
    let mut line = place.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    std::fs::write(state.join("hung"), line).unwrap();
}

/// The children on record: process and path.
fn children(state: &Path) -> Vec<(u32, PathBuf)> {
    let text = std::fs::read_to_string(state.join("children")).unwrap_or_default();
    let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words.map(|words| (words[0].parse().unwrap(), PathBuf::from(words[2]))).collect()
}

/// The only child on record.
fn child(state: &Path) -> u32 {
    let all = children(state);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].0
}

fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args([name, &pid.to_string()]).status();
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !matches!(rest.trim().chars().next(), Some('Z' | 'X')))
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn short() -> Deadlines {
    let quick = Duration::from_millis(400);
    Deadlines { call: quick, sync: quick, reading: quick, opening: Duration::from_secs(10) }
}

/// A machine whose children are the real program, and a tree in a folder that one of them works.
struct Isolated {
    state: tempfile::TempDir,
    home: tempfile::TempDir,
    machine: Isolating,
}

impl Isolated {
    fn new() -> Self {
        let (state, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        isolate(state.path(), home.path());
        let machine = Isolating::with(Path::new(PROGRAM), Some(state.path()), Arc::new(SystemClock), short());
        Self { state, home, machine }
    }

    fn open(&self) -> Arc<dyn WritableDir> {
        self.machine.open_tree(self.home.path()).unwrap()
    }
}

/// A tree with what a tree may hold.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn furnish(top: &Path) {
    std::fs::create_dir_all(top.join("cam/empty")).unwrap();
    std::fs::write(top.join("cam/a.mp4"), vec![1; 8192]).unwrap();
    std::fs::write(top.join("cam/b.mp4"), b"b").unwrap();
    std::fs::write(top.join(std::ffi::OsStr::from_bytes(b"odd\xff\n.mp4")), b"odd").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", top.join("link")).unwrap();
}

fn error<T>(result: std::io::Result<T>) -> String {
    let error = result.err().expect("it fails");
    format!("{:?} {:?}", error.kind(), error.raw_os_error())
}

/// Everything that a tree can do, and what comes of it; what differs between two trees of the same content is left out.
fn check(tree: &dyn WritableDir) -> Vec<String> {
    let mut out = Vec::new();
    let mut say = |text: String| out.push(text);
    let of = |found: Option<FileIdentity>| found.map(|f| (f.size, f.allocated.0, f.links));
    let listing = |dir: Option<&RelPath>| {
        let mut seen = Vec::new();
        tree.read(dir, &mut |entry| {
            let size = if entry.name.ends_with(b"4") { entry.identity.size } else { 0 };
            seen.push(format!("{} {:?} {size}", entry.name.escape_ascii(), entry.kind));
        })
        .map(|()| {
            seen.sort();
            seen
        })
    };
    let (a, b) = (path("cam/a.mp4"), path("cam/b.mp4"));
    let beside = tree.beside(&a, 7);
    say(format!("{:?} {:?}", listing(None).unwrap(), listing(Some(&path("cam"))).unwrap()));
    say(format!("{} {}", error(listing(Some(&path("link")))), error(listing(Some(&path("gone"))))));
    say(format!("{:?} {:?}", of(tree.look(&a).unwrap()), of(tree.look(&path("no/file")).unwrap())));
    say(error(tree.look(&path("link/x"))));
    assert!(tree.top().unwrap().inode > 0 && tree.still_there() == Ok(()));
    say(format!("{:?} {:?}", tree.filesystem_uuid(), tree.lock().unwrap()));
    say(format!("{:?} {:?}", tree.read_marker().unwrap(), tree.list_aside().unwrap()));
    tree.write_marker("marked\n").unwrap();
    say(format!("{:?}", tree.read_marker().unwrap()));

    assert!(tree.open(&path("cam/gone")).unwrap().is_none());
    say(format!("{} {}", error(tree.open(&path("link"))), error(tree.open(&path("cam")))));
    let file = tree.open(&a).unwrap().unwrap();
    assert_eq!(file.identity().unwrap(), tree.look(&a).unwrap().unwrap());
    say(format!("{:?} {} {:?}", file.attribute("user.x").unwrap(), file.locked(), file.shared()));
    let mut whole = vec![0; 100_000];
    let mut read = |offset| file.read_at(offset, &mut whole).map(|length| whole[..length].to_vec());
    let all = read(0).unwrap();
    say(format!("{} {}", all.len(), all.iter().all(|byte| *byte == 1)));
    say(format!("{:?} {:?} {}", read(8190).unwrap(), read(8192).unwrap(), error(read(u64::MAX))));
    assert_eq!(file.read_at(0, &mut []).unwrap(), 0);
    file.set_attribute("user.x", b"\0\xff").unwrap();
    say(format!("{:?}", file.attribute("user.x").unwrap()));
    file.remove_attribute("user.x").unwrap();
    file.remove_attribute("user.x").unwrap();
    let lease = file.lease(LeaseKind::NoOpener).unwrap();
    say(format!("{lease:?} {}", file.undisturbed(LeaseKind::NoOpener)));
    file.release().unwrap();
    let other = File::open(tree.path().join("cam/a.mp4")).unwrap();
    assert_eq!(file.lease(LeaseKind::NoOpener).unwrap(), Lease::Conflict, "somebody has it open");
    drop(other);

    let aside = tree.set_aside(&a, 7).unwrap();
    assert_eq!(aside, Aside::Private(7));
    say(format!("{:?} {:?}", of(tree.look_aside(&aside).unwrap()), tree.list_aside().unwrap()));
    say(error(tree.put_back(&aside, &b)));
    tree.put_back(&aside, &path("new/folder/a.mp4")).unwrap();
    say(error(tree.set_aside(&a, 7)));
    let aside = tree.set_aside_on_record(&path("new/folder/a.mp4"), 8).unwrap();
    say(format!("{aside:?}"));
    tree.put_back(&aside, &a).unwrap();
    let (this, another) = (tree.look(&a).unwrap().unwrap(), tree.look(&b).unwrap().unwrap());
    say(error(tree.set_aside_only(&a, 9, &another, false)));
    let aside = tree.set_aside_only(&a, 9, &this, true).unwrap();
    say(format!("{aside:?}"));
    tree.write_canary(Bytes(5000)).unwrap();
    assert_eq!(std::fs::metadata(tree.path().join(".storage-guard/canary")).unwrap().len(), 5000);
    tree.remove_canary().unwrap();
    assert!(!tree.path().join(".storage-guard/canary").exists());
    assert_eq!(tree.open_aside(&aside).unwrap().unwrap().identity().unwrap().size, 8192);
    tree.unlink_aside(&aside).unwrap();
    say(format!("{} {:?}", error(tree.unlink_aside(&aside)), tree.look_aside(&aside).unwrap()));
    assert!(tree.open_aside(&beside).unwrap().is_none());
    say(format!("{} {beside:?}", error(tree.remove_dir(&path("cam")))));
    tree.remove_dir(&path("cam/empty")).unwrap();
    tree.sync_dir(Some(&path("cam"))).unwrap();
    tree.sync_dir(Some(&path("gone"))).unwrap();
    tree.sync_dir(None).unwrap();
    tree.sync_aside().unwrap();
    tree.sync_filesystem().unwrap();
    assert_eq!(tree.breaks(), 0);
    out
}

/// Fault 60: a child does with a tree what the guard itself does.
#[test]
fn a_tree_that_a_child_works_is_the_same_tree() {
    let bed = Isolated::new();
    let plain = tempfile::tempdir().unwrap();
    furnish(plain.path());
    furnish(bed.home.path());
    let tree = bed.open();
    assert!(lives(child(bed.state.path())));
    let expected = check(&GuardedTree::open(plain.path()).unwrap());
    assert_eq!(check(tree.as_ref()), expected);
    let reading = bed.machine.read(bed.home.path(), Timestamp::from_secs(7)).unwrap();
    assert!(reading.at == Timestamp::from_secs(7) && reading.space.size > reading.space.available);
    let pid = child(bed.state.path());
    let second = bed.open();
    assert!(second.top().is_ok() && child(bed.state.path()) == pid, "who looks at it too asks the same child");
    drop(second);
    assert!(tree.top().is_ok());
    let described = bed.machine.describe(bed.home.path()).unwrap();
    assert_eq!(described, storage_guard::system::SystemVolumes.describe(bed.home.path()).unwrap());
}

/// Fault 60: the child ends when nobody asks any more, and a large directory comes whole.
#[test]
fn a_child_reads_large_directories_and_ends_with_its_tree() {
    let bed = Isolated::new();
    for at in 0..3000 {
        File::options().create_new(true).write(true).open(bed.home.path().join(format!("{at}.mp4"))).unwrap();
    }
    let tree = bed.open();
    let pid = child(bed.state.path());
    let mut names = BTreeSet::new();
    tree.read(None, &mut |entry| assert!(names.insert(entry.name))).unwrap();
    assert_eq!(names.len(), 3000);
    let file = File::options().write(true).open(bed.home.path().join("7.mp4")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9], 199_999).unwrap();
    let held = tree.open(&path("7.mp4")).unwrap().unwrap();
    let (mut buffer, mut at, mut pieces) = (vec![1; 500_000], 0, 0);
    loop {
        let read = held.read_at(at as u64, &mut buffer[at..]).unwrap();
        assert!(read <= 65_536, "an answer has its bounds");
        (at, pieces) = (at + read, pieces + 1);
        if read == 0 {
            break;
        }
    }
    assert!(at == 200_000 && pieces == 5 && buffer[199_999] == 9 && buffer[..199_999].iter().all(|byte| *byte == 0));
    drop(held);
    drop(tree);
    assert!(!lives(pid) && children(bed.state.path()).is_empty());
}

/// Fault 60: no answer is an error within the deadline, never "not there"; the next reading works with a new child, which has taken the
/// tree again.
#[test]
fn a_call_that_gets_no_answer_ends_with_its_deadline() {
    let bed = Isolated::new();
    furnish(bed.home.path());
    let tree = bed.open();
    assert_eq!(tree.lock().unwrap(), None);
    let held = tree.open(&path("cam/a.mp4")).unwrap().unwrap();
    let first = child(bed.state.path());
    signal("-STOP", first);
    assert_eq!(tree.look(&path("cam/a.mp4")).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(tree.breaks(), 1);
    let at_once = tree.look(&path("cam/gone.mp4")).unwrap_err();
    assert_eq!(at_once.kind(), ErrorKind::BrokenPipe);
    assert!(tree.unlink_aside(&Aside::Private(1)).is_err() && held.identity().is_err());
    wait_for("the child that did not answer is dead", || !lives(first));

    bed.machine.read(bed.home.path(), Timestamp::default()).unwrap();
    let second = child(bed.state.path());
    assert_ne!(first, second);
    assert!(tree.look(&path("cam/a.mp4")).unwrap().is_some());
    assert_eq!(tree.still_there(), Ok(()));
    let other = GuardedTree::open(bed.home.path()).unwrap();
    assert_eq!(other.lock().unwrap(), Some(second), "the new child has taken it again");
    assert!(held.identity().is_err(), "what the first one held is lost");
    assert_eq!(tree.breaks(), 1);
}

/// Faults 60, 73: a child that finds another directory than the one before says so, and nothing in it is touched.
#[test]
fn a_new_child_that_finds_another_directory_touches_nothing() {
    let bed = Isolated::new();
    let top = bed.home.path().join("record");
    furnish(&top);
    isolate(bed.state.path(), &top);
    let machine = Isolating::with(Path::new(PROGRAM), Some(bed.state.path()), Arc::new(SystemClock), short());
    let tree = machine.open_tree(&top).unwrap();
    signal("-KILL", child(bed.state.path()));
    run("mv", &[top.to_str().unwrap(), bed.home.path().join("old").to_str().unwrap()]);
    furnish(&top);
    assert!(tree.look(&path("cam/a.mp4")).is_err());
    assert!(matches!(tree.still_there(), Err(Unusable::Replaced { .. })));
    assert!(tree.look(&path("cam/a.mp4")).is_err());
    assert!(tree.set_aside(&path("cam/a.mp4"), 1).is_err() && tree.open(&path("cam/a.mp4")).is_err());
    assert!(top.join("cam/a.mp4").exists());
}

/// Fault 60: a volume that the guard itself asked, and that did not answer once, is worked by a child when its tree is opened again.
#[test]
fn a_volume_that_did_not_answer_is_worked_by_a_child_from_then_on() {
    let (state, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let machine = |state: &Path| Isolating::with(Path::new(PROGRAM), Some(state), Arc::new(SystemClock), short());
    let first = machine(state.path());
    let tree = first.open_tree(home.path()).unwrap();
    assert_eq!(tree.lock().unwrap(), None);
    assert!(children(state.path()).is_empty());
    assert!(first.isolate(home.path()), "it is news");
    assert!(!first.isolate(home.path()), "it is none");
    assert!(matches!(first.read(home.path(), Timestamp::default()), Err(Unusable::Failed(_))), "it is not touched");
    drop(tree);
    let tree = first.open_tree(home.path()).unwrap();
    let pid = child(state.path());
    assert_eq!(tree.lock().unwrap(), None);
    assert!(!first.isolate(home.path()), "it is isolated already");
    // Another guard, of the same state, after this one was killed: the child that it left is ended first.
    let second = machine(state.path());
    signal("-STOP", pid);
    let again = second.open_tree(home.path()).unwrap();
    assert!(!lives(pid));
    assert_eq!(again.lock().unwrap(), None);
}

/// Fault 60: the hidden argument is for the guard alone.
#[test]
fn nobody_but_the_guard_starts_a_child() {
    let help = guard(&["--help"]);
    let completions = guard(&["completions", "bash"]);
    for output in [help, completions, guard(&["man"])] {
        assert!(!String::from_utf8_lossy(&output.stdout).contains("tree-worker"));
    }
    let command = format!("{PROGRAM} tree-worker /");
    let refused = Command::new("script").args(["-qec", &command, "/dev/null"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stdout));
}

/// A volume whose tree a child works.
fn isolated_bed(count: u32) -> Bed {
    let bed = Bed::new(Mounted::ext4(400), count);
    isolate(&bed.state(), bed.volume.path());
    bed
}

fn files_in_private_folder(bed: &Bed) -> usize {
    let entries = std::fs::read_dir(bed.tree().join(".storage-guard")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name() != "marker").count()
}

/// The chain is whole, no intent is open, nothing is left aside, and what is gone is on record, once.
fn check_settled(bed: &Bed, config: &Path) {
    let config = config.to_str().unwrap();
    let verified = guard(&["journal", "verify", "-c", config]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let entries = json(&["journal", "list", "-c", config]);
    let items = entries["items"].as_array().unwrap();
    let deletions: Vec<_> = items.iter().filter(|item| item["kind"] == "deletion").collect();
    assert!(!deletions.is_empty() && deletions.iter().all(|item| item["outcome"].is_string()), "{entries}");
    let mut on_record: Vec<&str> = deletions
        .iter()
        .filter(|item| item["outcome"] == "verified")
        .map(|item| item["path"].as_str().unwrap())
        .collect();
    on_record.sort_unstable();
    let mut gone: Vec<&str> =
        (0..bed.made.len()).filter(|at| !bed.exists(*at)).map(|at| bed.made[at].as_str()).collect();
    gone.sort_unstable();
    assert_eq!(on_record, gone);
    assert_eq!(files_in_private_folder(bed), 0);
}

/// Fault 60: a reclaim through a child ends like one without.
#[test]
#[ignore = "needs root and a loop device"]
fn a_reclaim_through_a_child_ends_like_one_without() {
    let check = |bed: Bed| {
        let config = bed.config("", "");
        let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        bed.at_the_low_mark();
        check_settled(&bed, &config);
        bed.oldest_are_gone(&BTreeSet::new());
        assert!(children(&bed.state()).is_empty(), "the child ended with the command");
        bed.gone()
    };
    let plain = check(Bed::new(Mounted::ext4(400), 300));
    let bed = isolated_bed(300);
    let state = bed.state();
    assert_eq!(check(bed), plain);
    assert!(!state.join("children").exists(), "the bed is gone");
}

/// Lets the guard delete no more than so many files a second.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn slowly(config: &Path, files: u32) {
    let pace = format!("pause: 0, max_files_per_second: {files}");
    let text = std::fs::read_to_string(config).unwrap().replace("pause: 0", &pace);
    std::fs::write(config, text).unwrap();
}

/// Fault 60: a child is killed in the middle of its batches, again and again; what it was at is looked for, and the run goes on.
#[test]
#[ignore = "needs root and a loop device"]
fn a_child_that_is_killed_in_the_middle_of_a_batch_leaves_nothing_unsettled() {
    let bed = isolated_bed(300);
    let config = bed.config("", "");
    slowly(&config, 40);
    let daemon = Daemon::start(&config, &bed.state());
    let mut kills = 0;
    let mut before = 0;
    wait_for("the low mark is reached", || {
        let gone = bed.gone();
        if gone > before + 5 && kills < 5 {
            children(&bed.state()).iter().for_each(|(pid, _)| signal("-KILL", *pid));
            (kills, before) = (kills + 1, gone);
        }
        // A volume that was blind for a moment begins again at its high mark.
        kills == 5 && pressure(&daemon, "live").0 == "normal"
    });
    assert!(bed.gone() > 20 && kills >= 3, "only {kills} children were killed");
    wait_for("all is settled", || files_in_private_folder(&bed) == 0);
    drop(daemon);
    check_settled(&bed, &config);
    total("children killed in the middle of a batch", kills);
}

/// The configuration of a bed, with a second tree on another volume that is only observed.
fn with_a_neighbour(bed: &Bed) -> PathBuf {
    let neighbour = bed.home.path().join("neighbour");
    recording(&neighbour, "live/a", 80 * HOUR, 1000);
    let rest = format!("  - {{ name: neighbour, path: {}, layout: zlmediakit, mode: observe }}\n", neighbour.display());
    bed.config("", &rest)
}

/// The pressure of the volume that holds a tree, and why it is blind.
fn pressure(daemon: &Daemon, tree: &str) -> (String, String) {
    let Some(status) = daemon.status() else { return Default::default() };
    let volumes = status["volumes"].as_array().unwrap();
    let trees = status["trees"].as_array().unwrap();
    let of = trees.iter().find(|one| one["name"] == tree).unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == of["volume"]).unwrap();
    let text = |name: &str| volume[name].as_str().unwrap_or_default().to_owned();
    (text("pressure"), text("blind_because"))
}

/// The volume of a tree is not blind. The neighbour's is the machine's own disk, which may be as full as it likes.
fn judged(daemon: &Daemon, tree: &str) -> bool {
    ["normal", "reclaiming", "exhausted"].contains(&pressure(daemon, tree).0.as_str())
}

/// Fault 60: a child that hangs makes only its own volume blind, and is replaced; it inherited nothing, and ends with the guard, also
/// with one that is killed.
#[test]
#[ignore = "needs root and a loop device"]
fn a_child_that_hangs_is_replaced_and_nothing_else_waits() {
    let bed = isolated_bed(100);
    let config = with_a_neighbour(&bed);
    let mut daemon = Daemon::start(&config, &bed.state());
    wait_for("both are well", || judged(&daemon, "neighbour") && pressure(&daemon, "live").0 == "normal");
    let first = child(&bed.state());
    let inherited: Vec<PathBuf> = std::fs::read_dir(format!("/proc/{first}/fd"))
        .unwrap()
        // What it opens for a moment may be closed again; what it inherited stays.
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|to| !to.starts_with(bed.tree()))
        .collect();
    assert_eq!(inherited.len(), 3, "{inherited:?}");
    assert!(inherited.iter().all(|to| to.starts_with("/dev/null") || to.to_string_lossy().starts_with("pipe:")));

    signal("-STOP", first);
    // Blind from the reading that got no answer until the next one, which another child answers.
    let log = config.with_extension("log");
    let blind = "A volume cannot be judged";
    let mut stopped = first;
    wait_for("its volume is blind", || {
        // One that was stopped in the middle of a scan is replaced before it is asked for the space.
        if let Some((another, _)) = children(&bed.state()).first().filter(|(pid, _)| *pid != stopped) {
            signal("-STOP", *another);
            stopped = *another;
        }
        std::fs::read_to_string(&log).unwrap().contains(blind)
    });
    assert_eq!(std::fs::read_to_string(&log).unwrap().matches(blind).count(), 1, "and no other is");
    assert!(judged(&daemon, "neighbour"));
    assert!(daemon.get("/metrics").contains("storage_guard_"));
    wait_for("another child works it", || pressure(&daemon, "live").0 == "normal");
    let second = child(&bed.state());
    assert!(second != first && !lives(first));

    // The guard is killed while its child is stopped: the next one starts, and the old child is gone.
    signal("-STOP", second);
    signal("-KILL", daemon.pid());
    daemon.ended();
    let mut daemon = Daemon::start(&config, &bed.state());
    wait_for("its volume is well", || pressure(&daemon, "live").0 == "normal");
    assert!(!lives(second));

    let third = child(&bed.state());
    signal("-KILL", daemon.pid());
    daemon.ended();
    wait_for("the child ends by itself", || !lives(third));
}

/// Writes to a filesystem hang while this lives.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Self {
        run("fsfreeze", &["-f", at.to_str().unwrap()]);
        Self(at)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.0).status();
    }
}

/// Fault 60: a call that hangs in the kernel, where not even SIGKILL ends it. Only its tree is blind, also for the next guard, which starts
/// nevertheless and says which process hangs; once that is gone the tree is settled, and guarded on.
#[test]
#[ignore = "needs root, a loop device and fsfreeze"]
fn a_process_that_hangs_in_the_kernel_makes_only_its_tree_blind_also_after_a_restart() {
    let bed = isolated_bed(300);
    let config = with_a_neighbour(&bed);
    slowly(&config, 10);
    let mut daemon = Daemon::start(&config, &bed.state());
    wait_for("a run is under way", || bed.gone() >= 3);
    let pid = child(&bed.state());
    // From now on every change waits, and cannot be interrupted.
    let frozen = Frozen::new(bed.volume.path());
    wait_for("its volume is blind", || pressure(&daemon, "live").0 == "blind");
    let gone = bed.gone();
    assert!(lives(pid), "it hangs in the kernel");
    wait_for("it is said which process hangs", || pressure(&daemon, "live").1.contains(&format!("process {pid}")));
    assert!(judged(&daemon, "neighbour"));
    assert!(daemon.get("/metrics").contains("storage_guard_"));
    signal("-KILL", daemon.pid());
    daemon.ended();

    let again = Daemon::start(&config, &bed.state());
    wait_for("its volume is known to be blind", || pressure(&again, "live").1.contains(&format!("process {pid}")));
    assert!(judged(&again, "neighbour"));
    assert!(lives(pid) && bed.gone() == gone);
    drop(frozen);
    wait_for("the run goes on to its end", || pressure(&again, "live").0 == "normal" && bed.gone() > gone + 20);
    assert!(!lives(pid));
    drop(again);
    check_settled(&bed, &config);
}

/// Fault 60: a thread of the guard itself hangs in the kernel, in a volume that was well until then. The others are opened again and go on;
/// its tree is blind until the thread lets go, and is worked by a child from then on.
#[test]
#[ignore = "needs root, a loop device and fsfreeze"]
fn a_thread_that_hangs_in_the_kernel_is_left_behind_and_its_tree_gets_a_child() {
    // The guard gives a silent worker two minutes.
    if scale(0, 1) == 0 {
        return;
    }
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = with_a_neighbour(&bed);
    slowly(&config, 10);
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("a run is under way", || bed.gone() >= 3);
    assert!(children(&bed.state()).is_empty());
    let frozen = Frozen::new(bed.volume.path());
    pause(Duration::from_secs(110));
    wait_for("its volume is blind", || pressure(&daemon, "live").0 == "blind");
    assert!(pressure(&daemon, "live").1.contains("it hung"), "{:?}", pressure(&daemon, "live"));
    assert!(judged(&daemon, "neighbour"));
    let gone = bed.gone();
    pause(Duration::from_secs(5));
    let log = std::fs::read_to_string(config.with_extension("log")).unwrap();
    assert_eq!(log.matches("opened again\"").count(), 1, "nobody else is disturbed again and again: {log}");
    drop(frozen);
    wait_for("the run goes on to its end", || pressure(&daemon, "live").0 == "normal" && bed.gone() > gone + 20);
    assert!(lives(child(&bed.state())));
    drop(daemon);
    check_settled(&bed, &config);
}

/// Fault 60: a guard that is killed while one of its disks hangs is dead, and a thread of it keeps all its locks; the next guard leaves
/// that one tree alone, guards the other, and takes the first up again once its disk answers.
#[test]
#[ignore = "needs root and a loop device"]
fn what_a_dead_guard_left_hanging_makes_only_its_tree_blind() {
    let (bed, other) = (Bed::new(Mounted::ext4(64), 40), Bed::new(Mounted::ext4(64), 40));
    let rest = format!("  - {{ name: other, path: {}, layout: zlmediakit }}\n", other.tree().display());
    let config = bed.config("", &rest);
    let text =
        std::fs::read_to_string(&config).unwrap().replace("batch_files: 5", "batch_files: 5, max_files_per_second: 2");
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(&config, text).unwrap();
    let mut daemon = Daemon::start(&config, &bed.state());
    wait_for("both are being reclaimed", || bed.gone() > 0 && other.gone() > 0);
    let frozen = Frozen::new(bed.volume.path());
    let hangs = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let states = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        states.into_iter().any(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('D')))
    };
    wait_for("a thread hangs in the kernel", hangs);
    signal("-KILL", daemon.pid());
    let gone = other.gone();
    let again = Daemon::start(&config, &bed.state());
    wait_for("the other is reclaimed on", || other.gone() > gone && judged(&again, "other"));
    let (state, why) = pressure(&again, "live");
    assert_eq!(state, "blind", "{why}");
    assert!(why.contains("which is dead, hangs in the kernel"), "{why}");
    drop(frozen);
    wait_for("the first is reclaimed again", || pressure(&again, "live").0 == "normal");
    daemon.ended();
    drop(again);
    let verified = guard(&["journal", "verify", "-c", config.to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
