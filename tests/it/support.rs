//! Trees and volumes for the tests, gone when the test ends.

pub(crate) mod asking;
mod databases;
pub(crate) mod media_server;
mod monitoring;
pub(crate) mod moto;
pub(crate) mod platform;
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

pub(crate) use databases::{MariaDb, May, PASSWORD, Postgres, Server, Wvp, free_port};
pub(crate) use monitoring::{Alertmanager, Prometheus};

#[expect(clippy::disallowed_methods, reason = "files of a test are as old as the test says, counted from now")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Writes a recording of ZLMediaKit's layout, `age` old, below `tree`; returns its path below it.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
pub(crate) fn recording(tree: &Path, stream: &str, age: Duration, bytes: usize) -> String {
    let at = jiff::Timestamp::try_from(now() - age).unwrap().to_zoned(jiff::tz::TimeZone::system());
    let path = format!("{stream}/{}/{}-0.mp4", at.strftime("%Y-%m-%d"), at.strftime("%Y-%m-%d-%H-%M-%S"));
    let file = tree.join(&path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vec![7; bytes]).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(now() - age).unwrap();
    path
}

/// Runs the program.
pub(crate) fn guard(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_storage-guard")).args(args).output().unwrap()
}

/// Runs the program with `--json` and reads its answer.
pub(crate) fn json(args: &[&str]) -> serde_json::Value {
    let output = guard(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a program of the system, which must succeed.
pub(crate) fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A filesystem in an image, mounted; unmounted when dropped, also when the test fails.
pub(crate) struct Mounted {
    point: PathBuf,
    home: tempfile::TempDir,
}

impl Mounted {
    /// An ext4 of `megabytes`.
    pub(crate) fn ext4(megabytes: u64) -> Self {
        Self::new(megabytes, "mkfs.ext4", &["-q"])
    }

    /// An XFS of `megabytes`.
    pub(crate) fn xfs(megabytes: u64) -> Self {
        Self::new(megabytes, "mkfs.xfs", &["-q"])
    }

    /// A btrfs of `megabytes`.
    pub(crate) fn btrfs(megabytes: u64) -> Self {
        Self::new(megabytes, "mkfs.btrfs", &["-q", "-m", "single"])
    }

    #[expect(clippy::disallowed_methods, reason = "it makes the test's own image")]
    pub(crate) fn new(megabytes: u64, mkfs: &str, options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (image, point) = (home.path().join("image"), home.path().join("mounted"));
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        std::fs::create_dir(&point).unwrap();
        run(mkfs, &[options, &[image.to_str().unwrap()]].concat());
        let mounted = Self { point, home };
        mounted.mount();
        mounted
    }

    /// Mounts it, again.
    pub(crate) fn mount(&self) {
        let image = self.home.path().join("image");
        run("mount", &["-o", "loop", image.to_str().unwrap(), self.point.to_str().unwrap()]);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A failed test must not leave a mount; a failing unmount shows in the next test's `mount`.
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}

/// A guard that runs as a daemon, ended when dropped.
pub(crate) struct Daemon {
    child: std::process::Child,
    state: PathBuf,
}

impl Daemon {
    /// Starts it with a configuration, and waits until it answers.
    pub(crate) fn start(config: &Path, state: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(config.with_extension("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_storage-guard"));
        command.stderr(log);
        Self::under(command, config, state)
    }

    /// The same, started by a command that ends with the program: with other limits, another clock, another log.
    pub(crate) fn under(mut command: Command, config: &Path, state: &Path) -> Self {
        command.args(["run", "-c", config.to_str().unwrap()]).stdout(std::process::Stdio::null());
        let daemon = Self { child: command.spawn().unwrap(), state: state.to_owned() };
        wait_for("the daemon answers", || daemon.status().is_some());
        daemon
    }

    /// Asks a path through the control socket.
    pub(crate) fn get(&self, path: &str) -> String {
        let socket = self.state.join("control.sock");
        let url = format!("http://localhost{path}");
        let curl = ["-s", "-m", "30", "--unix-socket", socket.to_str().unwrap(), &url];
        String::from_utf8(Command::new("curl").args(curl).output().unwrap().stdout).unwrap()
    }

    /// The state of the only volume.
    pub(crate) fn pressure(&self) -> String {
        self.status().map_or_else(String::new, |status| status["volumes"][0]["pressure"].as_str().unwrap().to_owned())
    }

    /// A run has ended at the low mark; before the first look there is no pressure either.
    pub(crate) fn reached_low(&self) -> bool {
        self.status().is_some_and(|status| status["volumes"][0]["last_run"]["result"] == "reached_low")
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        wait_for("the daemon ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `status` says, once it can.
    pub(crate) fn status(&self) -> Option<serde_json::Value> {
        let output = guard(&["status", "--json", "--state", self.state.to_str().unwrap()]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Waits until something is so, within a minute.
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if so() {
            return;
        }
        pause(Duration::from_millis(100));
    }
    panic!("a minute has passed, and still not: {what}");
}

#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// How much a test does: little in the short suite, much in `tests/run --long`.
pub(crate) fn scale(short: u64, long: u64) -> u64 {
    if std::env::var_os("STORAGE_GUARD_LONG").is_some() { long } else { short }
}

/// Prints a figure that `tests/run --long` shows at its end.
#[expect(clippy::print_stdout, reason = "the totals are read from the tests' output")]
pub(crate) fn total(what: &str, count: u64) {
    println!("TOTAL {what}: {count}");
}

/// An authority, and a certificate of it for this machine: authority, certificate, key.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
pub(crate) fn certificate(home: &Path) -> [PathBuf; 3] {
    let [ca, ca_key, request, key, certificate, extensions] =
        ["ca.pem", "ca.key", "request.pem", "key.pem", "cert.pem", "extensions"].map(|name| home.join(name));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let openssl = |args: &[&str]| run("openssl", args);
    let made = ["-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", &path(&ca_key), "-out", &path(&ca)];
    openssl(&[&new[..], &made].concat());
    openssl(&[&new[..], &["-subj", "/CN=localhost", "-keyout", &path(&key), "-out", &path(&request)]].concat());
    std::fs::write(&extensions, "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let signed = ["x509", "-req", "-days", "2", "-CAcreateserial", "-in", &path(&request), "-CA", &path(&ca)];
    let rest = ["-CAkey", &path(&ca_key), "-extfile", &path(&extensions), "-out", &path(&certificate)];
    openssl(&[&signed[..], &rest].concat());
    [ca, certificate, key]
}
