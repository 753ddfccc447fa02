//! Section E of the fault catalogue, second half: our own state full, damaged, lost, or somebody else's.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, recording, run, wait_for};

const MIB: usize = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

/// A volume that holds tree and state, and not a byte more.
struct Full {
    bed: Bed,
    config: PathBuf,
}

impl Full {
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
    fn new(volume: Mounted, with_state: bool, each: usize) -> Self {
        let mut bed = Bed::new(volume, 1);
        let config = bed.config("", "");
        let text = std::fs::read_to_string(&config).unwrap();
        let state = bed.volume.path().join("state");
        std::fs::write(&config, text.replace(bed.state().to_str().unwrap(), state.to_str().unwrap())).unwrap();
        if with_state {
            drop(Daemon::start(&config, &state));
        }
        let mut noise = vec![0; 1 << 20];
        let apart = HOUR / 2 * u32::try_from(each).unwrap() / (1 << 20);
        'full: for at in 0.. {
            let path = recording(&bed.tree(), "live/a", 72 * HOUR + apart * at, 0);
            let file = bed.tree().join(&path);
            bed.made.push(path);
            let at = std::fs::metadata(&file).unwrap().modified().unwrap();
            let mut recorded = File::options().write(true).open(&file).unwrap();
            // Noise, so that no filesystem makes it small.
            getrandom::fill(&mut noise).unwrap();
            let written = recorded.write_all(&noise[..each]).and_then(|()| recorded.sync_all());
            recorded.set_modified(at).unwrap();
            if written.is_err() {
                break 'full;
            }
        }
        for size in [1 << 20, 64 << 10, 4 << 10, 1 << 10] {
            let mut filler = File::options().create(true).append(true).open(bed.volume.path().join("filler"));
            while filler
                .as_mut()
                .is_ok_and(|file| file.write_all(&noise[..size]).and_then(|()| file.sync_all()).is_ok())
            {}
        }
        // What was cut off by the full disk is no recording of its length; `made` are those that are there.
        let tree = bed.tree();
        bed.made.retain(|path| tree.join(path).metadata().is_ok_and(|found| found.len() > 0));
        Self { bed, config }
    }

    fn available(&self) -> u64 {
        let space = rustix::fs::statvfs(self.bed.volume.path()).unwrap();
        space.f_bavail * space.f_frsize
    }
}

/// Faults 69, 71: the first bytes are free within five seconds, the low mark is reached, and the journal is complete.
fn check_full(filesystem: &str, with_state: bool, each: usize) {
    let volume = match filesystem {
        "ext4" if each < MIB => Mounted::ext4(64),
        "ext4" => Mounted::ext4(200),
        "xfs" => Mounted::xfs(300),
        _ => Mounted::btrfs(300),
    };
    let full = Full::new(volume, with_state, each);
    let before = full.available();
    assert!(before < 128 << 10, "{before} bytes are still available");
    let config = full.config.to_str().unwrap();
    let log = File::options().create(true).append(true).open(full.config.with_extension("log")).unwrap();
    #[expect(clippy::disallowed_methods, reason = "another process is timed")]
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_storage-guard"))
        .args(["run", "-c", config])
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    wait_for("the first bytes are free", || full.available() > before + (512 << 10));
    let first = began.elapsed();
    wait_low(&full);
    run("kill", &[&child.id().to_string()]);
    let ended = child.wait().unwrap();
    let log = std::fs::read_to_string(full.config.with_extension("log")).unwrap();
    assert!(ended.success(), "{ended}: {log}");
    assert!(first < Duration::from_secs(5), "{first:?}");
    assert!(!log.contains("panicked"), "{log}");
    let verified = guard(&["journal", "verify", "-c", config]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let entries = json(&["journal", "list", "-c", config]);
    let deletions = entries["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "deletion");
    let verified: Vec<_> = deletions.filter(|entry| entry["outcome"] == "verified").collect();
    assert_eq!(verified.len(), full.bed.gone(), "each deletion is on record");
    for entry in verified {
        assert!(!full.bed.tree().join(entry["path"].as_str().unwrap()).exists(), "{entry}");
    }
    let state = full.bed.volume.path().join("state");
    let again = Daemon::start(&full.config, &state);
    assert_eq!(again.pressure(), "normal");
    assert_eq!(state.join("journal/ballast").exists(), filesystem == "btrfs");
    assert!(full.bed.volume.path().join("state/operator.token").metadata().is_ok_and(|token| token.len() > 32));
}

fn wait_low(full: &Full) {
    let space = || rustix::fs::statvfs(full.bed.volume.path()).unwrap();
    wait_for("the low mark is reached", || space().f_bavail * 100 >= space().f_blocks * 40);
}

#[test]
#[ignore = "needs root and a loop device"]
fn on_a_full_ext4_it_frees_space_with_its_state_there() {
    check_full("ext4", true, MIB);
}

#[test]
#[ignore = "needs root and a loop device"]
fn on_a_full_ext4_it_frees_space_without_any_state() {
    check_full("ext4", false, MIB);
}

#[test]
#[ignore = "needs root and a loop device"]
fn on_a_full_xfs_it_frees_space_with_its_state_there() {
    check_full("xfs", true, MIB);
}

#[test]
#[ignore = "needs root and a loop device"]
fn on_a_full_xfs_it_frees_space_without_any_state() {
    check_full("xfs", false, MIB);
}

#[test]
#[ignore = "needs root and a loop device"]
fn on_a_full_btrfs_it_frees_space_with_its_state_there() {
    check_full("btrfs", true, MIB);
}

#[test]
#[ignore = "needs root and a loop device"]
fn on_a_full_btrfs_it_frees_space_without_any_state() {
    check_full("btrfs", false, MIB);
}

/// What a deletion gives back is less than its entries take: the journal never grows beyond what there is room for.
#[test]
#[ignore = "needs root and a loop device"]
fn on_a_full_ext4_of_small_recordings_it_frees_space_without_any_state() {
    check_full("ext4", false, 48 << 10);
}

/// Promise 13: without a journal no unlink comes before a rename in the recording's own directory; killed between the two, the next
/// start puts it back, whether there is room by then or not.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn killed_without_a_journal_what_was_set_aside_is_put_back() {
    let full = Full::new(Mounted::ext4(200), false, MIB);
    let config = full.config.to_str().unwrap();
    let reclaim = |inject: &str| {
        let trace = full.bed.home.path().join("trace");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=renameat2,unlinkat,fsync", "-e", inject])
            .args([env!("CARGO_BIN_EXE_storage-guard"), "reclaim", "-c", config])
            .output()
            .unwrap();
        (output, std::fs::read_to_string(trace).unwrap())
    };
    let (_, trace) = reclaim("inject=unlinkat:signal=KILL:when=1");
    let calls: Vec<&str> = trace.lines().filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim())).collect();
    let renamed = calls.iter().position(|call| call.starts_with("renameat2") && call.contains(".storage-guard-"));
    let renamed = renamed.unwrap_or_else(|| panic!("nothing was set aside beside itself: {trace}"));
    assert!(calls[renamed + 1].starts_with("fsync"), "{trace}");
    assert!(calls[..renamed].iter().all(|call| !call.starts_with("unlinkat")), "{trace}");
    let asides = || {
        let found = Command::new("find").arg(full.bed.tree()).args(["-name", ".storage-guard-*"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().count()
    };
    assert_eq!((asides(), full.bed.gone()), (1, 1));
    let output = guard(&["reclaim", "-c", config]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(asides(), 0);
    let entries = json(&["journal", "list", "-c", config]);
    let deletions = entries["items"].as_array().unwrap().iter().filter(|entry| entry["outcome"] == "verified");
    assert_eq!(deletions.count(), full.bed.gone());
}

/// Fault 70: the state's disk fills while the guard runs; the journal goes on where it was zeroed before, and recovers.
#[test]
#[ignore = "needs root and a loop device"]
fn a_state_whose_disk_fills_goes_on() {
    let bed = Bed::new(Mounted::ext4(200), 20);
    let small = Mounted::ext4(32);
    let state = small.path().join("state");
    let config = bed.config("", "scan_interval: 1s\n");
    replace(&config, bed.state().to_str().unwrap(), state.to_str().unwrap());
    let daemon = Daemon::start(&config, &state);
    let filler = small.path().join("filler");
    let mut file = File::options().create(true).append(true).open(&filler).unwrap();
    while file.write_all(&[7; 1 << 20]).and_then(|()| file.sync_all()).is_ok() {}
    while file.write_all(&[7; 4096]).and_then(|()| file.sync_all()).is_ok() {}
    for at in 0..130 {
        recording(&bed.tree(), "live/d", HOUR + Duration::from_secs(at), 1 << 20);
    }
    wait_for("the low mark is reached", || bed.gone() > 10 && daemon.pressure() == "normal");
    remove(&filler);
    drop(daemon);
    let verified = guard(&["journal", "verify", "-c", config.to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// Fault 59: a sync of the journal that fails is no record; after a while it goes on, and is whole.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_journal_whose_sync_fails_goes_on_by_itself() {
    let bed = Bed::new(Mounted::ext4(100), 75);
    let config = bed.config("", "");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    command.args(["-e", "inject=fdatasync:error=EIO:when=5..6", env!("CARGO_BIN_EXE_storage-guard")]);
    command.stderr(File::options().create(true).append(true).open(config.with_extension("log")).unwrap());
    let daemon = Daemon::under(command, &config, &bed.state());
    wait_for("the low mark is reached", || bed.gone() > 10 && daemon.pressure() == "normal");
    let log = std::fs::read_to_string(config.with_extension("log")).unwrap();
    assert!(log.contains("cannot write the journal"), "{log}");
    run("pkill", &["-TERM", "-P", &daemon.pid().to_string()]);
    drop(daemon);
    let config = config.to_str().unwrap();
    let verified = guard(&["journal", "verify", "-c", config]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let entries = json(&["journal", "list", "-c", config]);
    let deletions: Vec<_> = entries["items"].as_array().unwrap().iter().filter(|e| e["kind"] == "deletion").collect();
    assert!(deletions.iter().all(|entry| !entry["outcome"].is_null()));
    let gone = deletions.iter().filter(|e| e["outcome"] == "verified").count();
    assert_eq!(gone, bed.gone());
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn replace(config: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(config, text.replace(from, to)).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a file of the test")]
fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// Copies a folder with `cp`.
fn copy(from: &Path, to: &Path) {
    run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}

/// Faults 72, 73, 74, 77: whatever became of database or journal is told, nothing is deleted that today's scan does not ask for, and the
/// guard goes on.
#[test]
#[ignore = "needs root and a loop device"]
fn a_database_or_journal_that_was_lost_spoilt_or_replaced_is_told_of() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let (config, state) = (bed.config("", ""), bed.state());
    let log = config.with_extension("log");
    let start = || {
        remove_if_there(&log);
        let daemon = Daemon::start(&config, &state);
        wait_for("it is guarded", || daemon.pressure() == "normal");
        drop(daemon);
        std::fs::read_to_string(&log).unwrap()
    };
    let (database, journal) = (state.join("guard.db"), state.join("journal"));
    let old = bed.home.path().join("old");
    assert!(!start().contains("ERROR"));
    copy(&state, &old);
    assert!(!start().contains("ERROR"), "a usual start has nothing to say");
    let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&database).unwrap();
        change(&mut bytes);
        put(&database, &bytes);
        remove_if_there(&state.join("guard.db-wal"));
    };
    let restore = |part: &str| {
        run("rm", &["-rf", state.join(part).to_str().unwrap(), &format!("{}-wal", state.join(part).display())]);
        run("sh", &["-c", &format!("cp -a {}/{part}* {}", old.display(), state.display())]);
    };
    type Case<'a> = (&'a str, &'a dyn Fn(), &'a str);
    let cases: [Case<'_>; 7] = [
        ("another state's database", &|| give_away(&database), "belonged to another state"),
        ("an older database", &|| restore("guard.db"), "the database is older than the journal"),
        ("a lost database", &|| run("rm", &["-f", database.to_str().unwrap()]), "the database was lost"),
        ("a zeroed header", &|| spoil(&|bytes| bytes[..64].fill(0)), "was corrupt"),
        ("a database without its log", &|| spoil(&|_| ()), "the database was lost"),
        ("an older journal", &|| restore("journal"), "the journal is older than the database"),
        (
            "a lost journal",
            &|| run("rm", &["-rf", journal.to_str().unwrap()]),
            "the journal is older than the database",
        ),
    ];
    for (what, change, told) in cases {
        change();
        let said = start();
        assert!(said.contains(told), "{what}: {said}");
        assert!(!start().contains(told), "{what}: told once");
        assert_eq!(bed.gone(), 0, "{what}");
    }
}

/// Makes a database another state's.
fn give_away(database: &Path) {
    let database = storage_guard::store::Database::open(database).unwrap().database;
    database.put("state", b"0123456789abcdef0123456789abcdef").unwrap();
}

fn remove_if_there(path: &Path) {
    if path.exists() {
        remove(path);
    }
}

#[expect(clippy::disallowed_methods, reason = "it spoils the test's own file")]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Faults 74, 88: the state of another host, or of another tree, does not fit the markers: both trees are blind.
#[test]
#[ignore = "needs root and a loop device"]
fn a_state_that_was_copied_from_another_host_deletes_nothing() {
    let ours = Bed::new(Mounted::ext4(100), 75);
    let (config, state) = (ours.config("", ""), ours.state());
    replace(&config, "mode: enforce", "mode: observe");
    drop(Daemon::start(&config, &state));
    replace(&config, "mode: observe", "mode: enforce");
    let marked = guard(&["init", "-c", config.to_str().unwrap()]);
    assert!(marked.status.success(), "{}", String::from_utf8_lossy(&marked.stderr));
    // Another host with a tree of its own, and this state.
    let theirs = Bed::new(Mounted::ext4(100), 75);
    let their_config = theirs.config("", "");
    let marked = guard(&["init", "-c", their_config.to_str().unwrap()]);
    assert!(marked.status.success(), "{}", String::from_utf8_lossy(&marked.stderr));
    run("rm", &["-rf", theirs.state().to_str().unwrap()]);
    copy(&state, &theirs.state());
    let daemon = Daemon::start(&their_config, &theirs.state());
    wait_for("it is blind", || daemon.pressure() == "blind");
    assert_eq!(theirs.gone(), 0);
}

/// Faults 78, 79: who holds the state is named; the lock of one that was killed is free at once.
#[test]
#[ignore = "needs root and a loop device"]
fn a_second_guard_is_told_who_is_first_and_a_killed_one_leaves_nothing() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let mut daemon = Daemon::start(&config, &bed.state());
    let second = guard(&["run", "-c", config.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(5), "{said}");
    assert!(said.contains(&daemon.pid().to_string()), "{said}");
    run("kill", &["-KILL", &daemon.pid().to_string()]);
    daemon.ended();
    let third = Daemon::start(&config, &bed.state());
    wait_for("it is guarded", || third.pressure() == "normal");
}
