//! The crash and error matrix: a scenario runs again and again from the same state, and each time one of its system calls fails, or
//! is its last. What must be true afterwards stands in [`Bench::broken`].
//!
//! The state is an ext4 in an image: a copy of it has the same inodes, so that identities, markers and open intents stay what they were.

mod cold;
mod operation;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{recording, run};

/// Size of an image; nearly all of it is a hole.
const MEGABYTES: u64 = 48;
const DAY: Duration = Duration::from_secs(86_400);
/// What happens to a call.
const FATES: [&str; 6] = ["signal=KILL", "error=EIO", "error=ENOSPC", "error=EROFS", "error=EACCES", "error=EINTR"];
/// Calls that touch a tree or the state.
const CALLS: [&str; 34] = [
    "open",
    "openat",
    "openat2",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "statx",
    "newfstatat",
    "fstat",
    "getdents64",
    "fcntl",
    "flock",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "fsync",
    "fdatasync",
    "syncfs",
    "ftruncate",
    "fallocate",
    "fsetxattr",
    "fremovexattr",
    "fgetxattr",
    "ioctl",
    "statfs",
    "fstatfs",
];

/// What an image is made with.
#[derive(Clone, Copy)]
pub(crate) struct Disk {
    pub(crate) mkfs: &'static [&'static str],
    pub(crate) megabytes: u64,
    /// Copies of an XFS have one identifier, with which only one of them can be mounted.
    pub(crate) options: &'static str,
    /// The state is not in the image but beside it, as on another disk.
    pub(crate) state_apart: bool,
}

/// Inodes with room for our attribute: a block of its own for it would be given back too.
const PLAIN: Disk = Disk {
    mkfs: &["mkfs.ext4", "-q", "-m", "0", "-b", "4096", "-I", "512", "-O", "^has_journal"],
    megabytes: MEGABYTES,
    options: "loop",
    state_apart: false,
};

/// A filesystem that is copied for every point.
pub(crate) struct Template {
    home: tempfile::TempDir,
    disk: Disk,
    /// Recordings that the policy lets go, and their allocated bytes.
    pub(crate) planned: BTreeMap<String, u64>,
}

/// A copy of a template, mounted; unmounted when dropped.
pub(crate) struct Bench {
    /// The mount point, the configuration and the trace.
    home: tempfile::TempDir,
    /// The image.
    ram: tempfile::TempDir,
    disk: Disk,
    /// Before anything ran: each recording's inode and allocated bytes.
    before: BTreeMap<String, (u64, u64)>,
}

/// One run of the guard that is disturbed, and those that follow.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What is disturbed.
    pub(crate) command: &'static [&'static str],
    /// What runs then, undisturbed, and which exit codes are right.
    pub(crate) after: &'static [(&'static [&'static str], &'static [i32])],
    /// Added to the configuration.
    pub(crate) tree: &'static str,
    pub(crate) cleanup: &'static str,
    /// In the end these of the planned recordings stay: those that the scenario keeps from going.
    pub(crate) stay: fn(&str) -> bool,
}

/// A call, as the recording has it, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) when: u64,
    pub(crate) fate: &'static str,
}

/// In memory: a disk would make every point slow, and a directory of the system is no place for a tree.
fn ram() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Copies a state that lies beside its image, over what an earlier copy left there.
fn copy_state(state: &Path, into: &Path) {
    if state.is_dir() {
        run("rm", &["-rf", into.join("state").to_str().unwrap()]);
        run("cp", &["-a", state.to_str().unwrap(), into.to_str().unwrap()]);
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Template {
    /// An image with two streams: of `live/a` all three go, and their directory; of `live/b` two of three, and then two of another
    /// day; `live/c` stays.
    pub(crate) fn new() -> Self {
        Self::on(PLAIN)
    }

    /// The same on another filesystem.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own image")]
    pub(crate) fn on(disk: Disk) -> Self {
        let mut template = Self { home: ram(), disk, planned: BTreeMap::new() };
        let image = template.image();
        std::fs::File::create(&image).unwrap().set_len(disk.megabytes << 20).unwrap();
        let image = image.to_str().unwrap();
        run(disk.mkfs[0], &[&disk.mkfs[1..], &[image]].concat());
        let bench = Bench::mount(&template);
        let mut planned = Vec::new();
        for (stream, days, count, goes) in
            [("live/a", 30, 3, true), ("live/b", 28, 2, true), ("live/b", 27, 2, true), ("live/c", 3, 2, false)]
        {
            for at in 0..count {
                // Well within one day, whatever the hour of the test.
                let age = DAY * days + Duration::from_secs(60 * at);
                let path = recording(&bench.tree(), stream, age, 5000 + 4096 * usize::try_from(at).unwrap());
                // ZLMediaKit numbers the slices of a day.
                let path = bench.number(&path, at);
                if goes {
                    planned.push(path);
                }
            }
        }
        bench.write_config("", "");
        bench.must(&["init"]);
        let found = bench.recordings();
        template.planned = planned.into_iter().map(|path| (path.clone(), found[&path].1)).collect();
        bench.save(&template);
        template
    }

    fn image(&self) -> PathBuf {
        self.home.path().join("image")
    }

    /// What a person, or an earlier run, does first; it is part of the template from then on.
    pub(crate) fn then(self, change: impl FnOnce(&Bench, &Self)) -> Self {
        let bench = Bench::mount(&self);
        change(&bench, &self);
        bench.save(&self);
        self
    }
}

impl Bench {
    pub(crate) fn mount(template: &Template) -> Self {
        let (home, ram) = (tempfile::tempdir().unwrap(), ram());
        run("cp", &["--sparse=always", template.image().to_str().unwrap(), ram.path().to_str().unwrap()]);
        std::fs::create_dir(home.path().join("mounted")).unwrap();
        let mut bench = Self { home, ram, disk: template.disk, before: BTreeMap::new() };
        copy_state(&template.home.path().join("state"), bench.home.path());
        bench.mount_image("image");
        bench.before = bench.recordings();
        bench
    }

    fn mount_image(&self, name: &str) {
        let image = self.ram.path().join(name);
        run("mount", &["-o", self.disk.options, image.to_str().unwrap(), self.point().to_str().unwrap()]);
    }

    /// Unmounts a filesystem that was shut down, and mounts what its disk holds. A copy of it, since the mount namespace of another
    /// test may still have the old one mounted, and mounting the same image again would find that, shut down.
    pub(crate) fn restart(&self) {
        self.unmount();
        let (image, copy) = (self.ram.path().join("image"), self.ram.path().join("copy"));
        run("cp", &["--sparse=always", image.to_str().unwrap(), copy.to_str().unwrap()]);
        self.mount_image("copy");
    }

    fn unmount(&self) {
        run("umount", &[self.point().to_str().unwrap()]);
    }

    #[expect(clippy::disallowed_methods, reason = "it names the test's own file")]
    fn number(&self, path: &str, at: u64) -> String {
        let named = path.replace("-0.mp4", &format!("-{at}.mp4"));
        std::fs::rename(self.tree().join(path), self.tree().join(&named)).unwrap();
        named
    }

    fn save(self, template: &Template) {
        // Where the mount namespace of another test has it mounted too, unmounting writes nothing.
        run("sync", &["-f", self.point().to_str().unwrap()]);
        self.unmount();
        copy_state(&self.home.path().join("state"), template.home.path());
        run(
            "cp",
            &[
                "--sparse=always",
                self.ram.path().join("image").to_str().unwrap(),
                template.home.path().to_str().unwrap(),
            ],
        );
    }

    pub(crate) fn point(&self) -> PathBuf {
        self.home.path().join("mounted")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.point().join("record")
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("guard.yaml")
    }

    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(crate) fn write_config(&self, tree: &str, cleanup: &str) {
        let state = self.state();
        let share = if cleanup.contains("max_share") { "" } else { "max_share: 100%, " };
        let text = format!(
            "mode: enforce\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\n\
             watermarks: {{ high: 99%, low: 98%, critical: 100% }}\nvolumes: [ {{ name: data, path: {} }} ]\n\
             cleanup: {{ {cleanup}batch_files: 3, pause: 0, {share}retry: {{ first: 1s, max: 1s }} }}\n\
             trees:\n  - name: live\n    path: {}\n    layout: zlmediakit\n{tree}    retention:\n      \
             - {{ stream: \"live/*\", max_age: 15d }}\n",
            state.display(),
            self.point().display(),
            self.tree().display(),
        );
        std::fs::write(self.config(), text).unwrap();
    }

    /// Lets `command`, which may begin with another program, run a guard on this bench; or, after the word [`operation::WORD`], what no
    /// command of the guard does.
    fn on_bench(&self, command: &mut Command, args: &[&str]) -> Output {
        match args {
            [operation::WORD, what] => operation::arguments(command, what, &self.tree(), &self.state()),
            args => command.args(args).arg("-c").arg(self.config()),
        };
        command.output().unwrap()
    }

    fn program(args: &[&str]) -> PathBuf {
        match args.first() {
            Some(&operation::WORD) => std::env::current_exe().unwrap(),
            Some(_) | None => PathBuf::from(env!("CARGO_BIN_EXE_storage-guard")),
        }
    }

    pub(crate) fn guard(&self, args: &[&str]) -> Output {
        self.on_bench(&mut Command::new(Self::program(args)), args)
    }

    fn state(&self) -> PathBuf {
        if self.disk.state_apart { self.home.path().join("state") } else { self.point().join("state") }
    }

    pub(crate) fn must(&self, args: &[&str]) {
        let output = self.guard(args);
        assert!(matches!(output.status.code(), Some(0 | 4)), "{args:?}: {}", text(&output));
    }

    pub(crate) fn json(&self, args: &[&str]) -> Result<serde_json::Value, String> {
        let output = self.guard(&[args, &["--json"]].concat());
        match serde_json::from_slice(&output.stdout) {
            Ok(value) if output.status.success() => Ok(value),
            Ok(_) | Err(_) => Err(format!("{args:?}: {}", text(&output))),
        }
    }

    /// Runs the guard under strace; returns what strace wrote and what the guard said.
    pub(crate) fn trace(&self, args: &[&str], options: &[&str]) -> (String, Output) {
        let out = self.home.path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-qq", "-o", out.to_str().unwrap()]).args(options).arg(Self::program(args));
        let output = self.on_bench(&mut command, args);
        (String::from_utf8_lossy(&std::fs::read(&out).unwrap()).into_owned(), output)
    }

    /// The calls of a run that touch the tree or the state: each by name and by its number among those of its thread.
    pub(crate) fn calls(&self, args: &[&str]) -> BTreeSet<(String, u64)> {
        let filter = format!("trace={}", CALLS.join(","));
        let (trace, output) = self.trace(args, &["-e", &filter]);
        assert!(matches!(output.status.code(), Some(0 | 4)), "{args:?}: {}", text(&output));
        let touched = self.home.path().to_str().unwrap();
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut out = BTreeSet::new();
        for line in trace.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
            if !CALLS.contains(&call) {
                continue;
            }
            let count = counts.entry((thread, call)).or_default();
            *count += 1;
            if arguments.contains(touched) {
                out.insert((call.to_owned(), *count));
            }
        }
        out
    }

    /// All that stands in the tree, except the private folder: inode and allocated bytes by path.
    pub(crate) fn recordings(&self) -> BTreeMap<String, (u64, u64)> {
        let mut out = BTreeMap::new();
        let mut todo = vec![self.tree()];
        while let Some(dir) = todo.pop() {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.map(Result::unwrap) {
                let stat = entry.metadata().unwrap();
                if stat.is_dir() {
                    if entry.file_name() != ".storage-guard" {
                        todo.push(entry.path());
                    }
                    continue;
                }
                let path = entry.path().strip_prefix(self.tree()).unwrap().to_str().unwrap().to_owned();
                out.insert(path, (stat.ino(), stat.blocks() * 512));
            }
        }
        out
    }

    /// What an undisturbed guard does after a disturbance, and all that is not as it must be then.
    pub(crate) fn recover(&self, scenario: &Scenario, planned: &BTreeMap<String, u64>) -> Vec<String> {
        let (mut broken, mut said) = (Vec::new(), Vec::new());
        for (args, right) in scenario.after {
            let output = self.guard(args);
            said.push(format!("{args:?} said: {}", text(&output)));
            if !output.status.code().is_some_and(|code| right.contains(&code)) {
                broken.push(format!("{args:?} ends with {:?}: {}", output.status.code(), text(&output)));
            }
            if text(&output).contains("panicked") {
                broken.push(format!("{args:?} panics: {}", text(&output)));
            }
        }
        self.check(scenario, planned, &mut broken);
        if !broken.is_empty() {
            let entries = self.guard(&["journal", "list"]);
            broken.append(&mut said);
            broken.push(text(&entries));
        }
        broken
    }

    /// The invariants.
    pub(crate) fn check(&self, scenario: &Scenario, planned: &BTreeMap<String, u64>, broken: &mut Vec<String>) {
        let now = self.recordings();
        for (path, (inode, bytes)) in &self.before {
            match now.get(path) {
                Some((inode_now, bytes_now)) if (inode_now, bytes_now) != (inode, bytes) => {
                    broken.push(format!("`{path}` is another file"));
                }
                None if path.contains(".storage-guard") => {}
                None if !planned.contains_key(path) => broken.push(format!("`{path}` is gone and was not planned")),
                None if (scenario.stay)(path) => broken.push(format!("`{path}` is gone and had to stay")),
                Some(_) if planned.contains_key(path) && !(scenario.stay)(path) => {
                    broken.push(format!("`{path}` should have gone in the end"));
                }
                Some(_) | None => {}
            }
        }
        // What an earlier run had set aside is in none of the two, unless it is back where it was.
        for path in now.keys().filter(|path| !self.before.contains_key(*path) && !planned.contains_key(*path)) {
            broken.push(format!("`{path}` was not there before"));
        }
        let mut left: Vec<_> = match std::fs::read_dir(self.tree().join(".storage-guard")) {
            Ok(entries) => entries.map(|entry| entry.unwrap().file_name()).collect(),
            Err(error) => {
                broken.push(format!("the private folder cannot be read: {error}"));
                Vec::new()
            }
        };
        left.retain(|name| name != "marker");
        if !left.is_empty() {
            broken.push(format!("{left:?} are left in the private folder"));
        }
        let verified = self.guard(&["journal", "verify"]);
        if !verified.status.success() {
            broken.push(format!("the journal is not whole: {}", text(&verified)));
        }
        let listed = match self.json(&["journal", "list"]) {
            Ok(listed) => listed,
            Err(why) => return broken.push(why),
        };
        let mut done: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for entry in listed["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "deletion") {
            let path = entry["path"].as_str().unwrap();
            match entry["outcome"].as_str() {
                None => broken.push(format!("the intent of `{path}` is open")),
                Some("verified") => {
                    if done.insert(path, entry["bytes"].as_u64()).is_some() {
                        broken.push(format!("`{path}` was deleted twice"));
                    }
                }
                Some("already_gone") => {
                    done.entry(path).or_insert(None);
                }
                Some(_) => {}
            }
        }
        for (path, bytes) in done.iter() {
            if now.contains_key(*path) {
                broken.push(format!("`{path}` is deleted by the journal, and is there"));
            }
            match (bytes, planned.get(*path)) {
                (Some(bytes), Some(allocated)) if bytes != allocated => {
                    broken.push(format!("`{path}` gave {allocated} back, and the journal says {bytes}"));
                }
                (Some(_) | None, Some(_)) => {}
                (Some(_) | None, None) => {
                    broken.push(format!("`{path}` is deleted by the journal, and was not planned"))
                }
            }
        }
        for path in planned.keys().filter(|path| !now.contains_key(*path) && !done.contains_key(path.as_str())) {
            broken.push(format!("`{path}` is gone, and the journal does not say so"));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Unmounted already, or a failed test must not leave a mount.
        let _ = Command::new("umount").args(["-q", "-l"]).arg(self.point()).output();
    }
}

/// Every `step`-th of the points, as many as wanted, evenly spread.
pub(crate) fn sample<T>(all: Vec<T>, wanted: usize) -> Vec<T> {
    let count = all.len();
    let keep = |at: usize| wanted >= count || (at * wanted / count) != ((at + 1) * wanted / count);
    all.into_iter().enumerate().filter(|(at, _)| keep(*at)).map(|(_, one)| one).collect()
}

/// Runs the matrix of a scenario, `wanted` points of it; returns how many were injected. A broken invariant fails it in the end.
pub(crate) fn matrix(template: &Template, scenario: &Scenario, wanted: u64) -> u64 {
    let bench = Bench::mount(template);
    bench.write_config(scenario.tree, scenario.cleanup);
    let calls = bench.calls(scenario.command);
    let undisturbed = bench.recover(scenario, &template.planned);
    assert!(undisturbed.is_empty(), "{}, undisturbed: {undisturbed:#?}", scenario.name);
    drop(bench);
    let mut points = Vec::new();
    for fate in FATES {
        points.extend(calls.iter().map(|(call, when)| Point { call: call.clone(), when: *when, fate }));
    }
    let points = Mutex::new(sample(points, usize::try_from(wanted).unwrap()));
    let (injected, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(point) = points.lock().unwrap().pop() else { break };
                    match disturbed(template, scenario, &point) {
                        None => {}
                        Some(broken) => {
                            injected.fetch_add(1, Ordering::Relaxed);
                            if !broken.is_empty() {
                                let mut told =
                                    format!("{} {} when={} {}:", scenario.name, point.call, point.when, point.fate);
                                broken.iter().for_each(|what| write!(told, "\n    {what}").unwrap());
                                found.lock().unwrap().push(told);
                            }
                        }
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{} points break an invariant:\n{}", found.len(), found.join("\n"));
    injected.into_inner()
}

/// One point: what it broke, or nothing if it was not met.
fn disturbed(template: &Template, scenario: &Scenario, point: &Point) -> Option<Vec<String>> {
    let bench = Bench::mount(template);
    bench.write_config(scenario.tree, scenario.cleanup);
    let inject = format!("inject={}:{}:when={}", point.call, point.fate, point.when);
    let filter = format!("trace={}", point.call);
    let (trace, output) = bench.trace(scenario.command, &["-e", &filter, "-e", &inject]);
    let met = trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL");
    if !met {
        return None;
    }
    let mut broken = bench.recover(scenario, &template.planned);
    if text(&output).contains("panicked") {
        broken.push(format!("the guard panicked: {}", text(&output)));
    }
    if !broken.is_empty() {
        broken.push(format!("the disturbed run said: {}", text(&output)));
        broken.extend(trace.lines().filter(|line| line.contains("INJECTED")).map(str::to_owned));
    }
    Some(broken)
}

/// Makes a file immutable, or no longer.
pub(crate) fn immutable(file: &Path, flag: &str) {
    run("chattr", &[flag, file.to_str().unwrap()]);
}
