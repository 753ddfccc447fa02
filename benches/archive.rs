//! Copies recordings to a second disk, as the archiver does: `cargo bench --bench archive -- [HOT COLD]`.
//!
//! The disks are the directories `HOT` and `COLD`, or else two ext4 on loop devices (which needs root) that pass the cache of the disk below
//! them by. Measured is, in turns, from sources that are in no cache to copies that are known to be right: the library's copying into a
//! directory, which syncs each copy, reads it back from the disk, compares its SHA-256 and gives it its name; and, for the ratio, `cp` of all files,
//! `sync`, dropped caches, and `sha256sum` of the copies. Some builds of `sha256sum` do without the instructions that the processor has for it; so
//! the same is shown with `openssl`, which uses them. What is measured is printed, and written into `docs/performance.md`. Ends with an error if
//! copies differ, or if copying has less than 80 % of the throughput of `cp` and `sha256sum`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement makes its own files, tells its numbers, and ends where it fails"
)]

#[path = "shared/document.rs"]
mod document;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use storage_guard::archive::{ColdFolder, Copying, Throttle, Wanted};
use storage_guard::domain::names::ArchiveId;
use storage_guard::domain::path::RelPath;
use storage_guard::domain::retention::TreePolicy;
use storage_guard::domain::units::{Bytes, Timestamp};
use storage_guard::system::{Clock as _, Dir as _, GuardedTree, SystemClock};
use storage_guard::testkit::policy;

/// Sizes of the recordings, in MiB, again and again.
const SIZES: [usize; 6] = [8, 64, 16, 48, 24, 32];
const FILES: usize = 12;
/// Each way is measured so often; the medians count.
const ROUNDS: usize = 5;
/// Of the rival's throughput.
const WANTED: f64 = 0.8;
const MIB: usize = 1 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let made: Option<[Disk; 2]> = args.is_empty().then(|| [Disk::new(), Disk::new()]);
    let (hot, cold, disks) = match (&made, args.as_slice()) {
        (Some([hot, cold]), _) => (hot.point.clone(), cold.point.clone(), "two ext4 on loop devices over one disk"),
        (None, [hot, cold]) => (hot.into(), cold.into(), "the two directories named"),
        (None, _) => panic!("name two directories, or none"),
    };
    let site = Site::new(hot, cold);
    let mut taken = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        let took = [site.ours(), site.rival(&["sha256sum"]), site.rival(&["openssl", "dgst", "-sha256", "-r"])];
        println!("round {round}: {took:.2?}");
        // The first round finds both disks as no other does.
        if round > 0 {
            taken.iter_mut().zip(took).for_each(|(all, took)| all.push(took));
        }
    }
    let [ours, plain, quick] = taken.map(|mut all| {
        all.sort();
        all[ROUNDS / 2].as_secs_f64()
    });
    let mib = (site.bytes() / MIB) as f64;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "a build that is not optimised" } else { "a release build" };
    let table = format!(
        "{FILES} recordings of 8 to 64 MiB, {mib} MiB of random content in all, {disks}, {cores} cores, {build}, medians of {ROUNDS}. Only the ratio means \
         anything on another machine.\n\n\
         | | time | MiB/s | ours to it |\n| --- | --- | --- | --- |\n\
         | copied, synced one by one, read back, compared, named | {ours:.2} s | {:.0} | |\n\
         | `cp`, `sync`, dropped caches, `sha256sum` | {plain:.2} s | {:.0} | {:.2} |\n\
         | `cp`, `sync`, dropped caches, `openssl dgst -sha256` | {quick:.2} s | {:.0} | {:.2} |\n",
        mib / ours,
        mib / plain,
        plain / ours,
        mib / quick,
        quick / ours,
    );
    println!("{table}");
    document::write_down(
        "archive",
        "## Copying to a second disk\n\n`cargo bench --bench archive -- [HOT COLD]`",
        &table,
    );
    assert!(plain / ours >= WANTED, "copying has {:.2} of the throughput of `cp` and `sha256sum`", plain / ours);
}

/// An ext4 of its own, unmounted when dropped.
struct Disk {
    device: String,
    point: PathBuf,
    _home: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (image, point) = (home.path().join("image"), home.path().join("mounted"));
        std::fs::create_dir(&point).unwrap();
        run("fallocate", &["-l", "1G", text(&image)]);
        let device = run("losetup", &["-f", "--show", "--direct-io=on", text(&image)]).trim().to_owned();
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &device]);
        run("mount", &[&device, text(&point)]);
        Self { device, point, _home: home }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.point).status();
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

/// Recordings on one disk, and their digests.
struct Site {
    hot: PathBuf,
    cold: PathBuf,
    tree: Arc<GuardedTree>,
    policy: Arc<TreePolicy>,
    names: Vec<String>,
    digests: Vec<String>,
}

impl Site {
    fn new(hot: PathBuf, cold: PathBuf) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let names: Vec<String> = (0..FILES).map(|at| format!("2026-11-01-{at:02}-00-00-0.mp4")).collect();
        for (name, size) in names.iter().zip(SIZES.iter().cycle()) {
            let mut film = vec![0; size * MIB];
            random.fill(&mut film);
            std::fs::write(hot.join(name), film).unwrap();
        }
        sync(&hot);
        let policy = policy("live", "dated");
        let tree = Arc::new(GuardedTree::open(&hot).unwrap());
        let digests = names.iter().map(|name| digest_of(&hot.join(name))).collect();
        Self { hot, cold, tree, policy: Arc::new(policy), names, digests }
    }

    fn bytes(&self) -> usize {
        SIZES.iter().cycle().take(FILES).sum::<usize>() * MIB
    }

    /// Both disks as before a copy: nothing of the sources in the cache, nothing to be written.
    fn begin(&self) -> Duration {
        for disk in [&self.hot, &self.cold] {
            sync(disk);
        }
        self.names.iter().for_each(|name| forget(&self.hot.join(name)));
        SystemClock.boottime()
    }

    fn ours(&self) -> Duration {
        let cold = self.cold.join("ours");
        std::fs::create_dir(&cold).unwrap();
        let store = ColdFolder::new(Arc::new(GuardedTree::open(&cold).unwrap()), Arc::new(|_| Ok(())));
        let mut throttle = Throttle::new(None, Arc::new(SystemClock));
        let archive = ArchiveId::new("cold");
        let mut copying =
            Copying { archive: &archive, store: &store, throttle: &mut throttle, stop: &|| false, clock: &SystemClock };
        let began = self.begin();
        let digests: Vec<String> = self
            .names
            .iter()
            .map(|name| {
                let path = RelPath::new(name.as_bytes()).unwrap();
                let seen = self.tree.look(&path).unwrap().unwrap();
                let wanted = Wanted {
                    dir: self.tree.clone(),
                    policy: self.policy.clone(),
                    path,
                    stream: "cam".to_owned(),
                    recorded: Timestamp::from_secs(1),
                    bytes: Bytes(seen.size),
                    source: (seen.inode, seen.fingerprint()),
                    unit: false,
                    urgent: false,
                };
                copying.copy(&wanted).unwrap().digest.to_string()
            })
            .collect();
        let took = SystemClock.boottime().saturating_sub(began);
        assert_eq!(digests, self.digests);
        for (name, digest) in self.names.iter().zip(&self.digests) {
            assert_eq!(digest_of(&cold.join("live").join(name)), *digest);
        }
        std::fs::remove_dir_all(cold).unwrap();
        took
    }

    /// `hasher` prints as `sha256sum` does.
    fn rival(&self, hasher: &[&str]) -> Duration {
        let cold = self.cold.join("rival");
        std::fs::create_dir(&cold).unwrap();
        let all =
            |dir: &Path| -> Vec<String> { self.names.iter().map(|name| text(&dir.join(name)).to_owned()).collect() };
        let began = self.begin();
        let (sources, copies) = (all(&self.hot), all(&cold));
        let mut from: Vec<&str> = sources.iter().map(String::as_str).collect();
        from.push(text(&cold));
        run("cp", &from);
        run("sync", &["-f", text(&cold)]);
        copies.iter().for_each(|copy| forget(Path::new(copy)));
        let told =
            run(hasher[0], &hasher[1..].iter().copied().chain(copies.iter().map(String::as_str)).collect::<Vec<_>>());
        let took = SystemClock.boottime().saturating_sub(began);
        assert!(told.lines().map(|line| &line[..64]).eq(self.digests.iter().map(String::as_str)), "{told}");
        std::fs::remove_dir_all(cold).unwrap();
        took
    }
}

fn digest_of(path: &Path) -> String {
    run("sha256sum", &[text(path)])[..64].to_owned()
}

/// Runs a program; gives what it printed.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The kernel keeps nothing of it.
fn forget(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

fn sync(path: &Path) {
    rustix::fs::syncfs(std::fs::File::open(path).unwrap()).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
