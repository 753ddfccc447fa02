//! Asks a guard to delete recordings by their names: `cargo bench --bench deletions`.
//!
//! The guard is the program itself, in a process of its own, and its tree is on the disk of the temporary directory. Measured are, for requests
//! of different sizes: from the request to the first file that is gone, to the last one and to the end of the job; by how much the guard's
//! memory grew at most; and, for the ratio, the same number of files unlinked one by one. What is measured is printed, and written into
//! `docs/performance.md`. Ends with an error if a file stays, if a job of 16,000 files takes longer than 100 ms to begin, or if memory grows
//! with the number of files by more than their names take.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement makes its own files, tells its numbers, and ends where it fails"
)]

#[path = "shared/document.rs"]
mod document;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use storage_guard::domain::trust::grouped;

/// Files of a request.
const SIZES: [usize; 4] = [100, 1_000, 16_000, 50_000];
/// A job of 16,000 files begins within this.
const BEGINS: Duration = Duration::from_millis(100);
/// A request holds each name, and its job a little of each item, as far as they are listed.
const BYTES_A_FILE: u64 = 1_000;
/// What one batch may take, and what the allocator keeps.
const BATCH: u64 = 16 << 20;
const KIB: usize = 1024;

fn main() {
    let site = Site::start();
    let rows: Vec<(usize, Measured)> = SIZES.iter().map(|files| (*files, site.measure(*files))).collect();
    let table = table(&rows);
    println!("{table}");
    document::write_down(
        "deletions",
        "## Deleting what is asked for by name\n\n`cargo bench --bench deletions`",
        &table,
    );
    for (files, measured) in &rows {
        let most = BATCH + *files as u64 * BYTES_A_FILE;
        assert!(measured.grew <= most, "{files} files: memory grew by {} of {most} bytes", measured.grew);
    }
    let (_, measured) = rows.iter().find(|(files, _)| *files == 16_000).unwrap();
    assert!(measured.first <= BEGINS, "a job of 16,000 files begins after {:?}", measured.first);
}

struct Measured {
    /// From the request to the first file that is gone.
    first: Duration,
    /// To the last one.
    last: Duration,
    /// To the end of the job.
    over: Duration,
    /// The guard's memory, at its peak, over what it was before.
    grew: u64,
    /// The same files unlinked one by one, and what was written brought to the disk.
    plain: Duration,
}

/// A guard with an empty tree, ended when dropped.
struct Site {
    guard: Child,
    port: u16,
    token: String,
    home: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (tree, config, state) =
            (home.path().join("record"), home.path().join("guard.yaml"), home.path().join("state"));
        std::fs::create_dir(&tree).unwrap();
        let text = format!(
            "mode: enforce\nlisten: 127.0.0.1:{port}\nstate: {{ path: {} }}\nwatermarks: {{ high: 99%, low: 98%, critical: 100% }}\n\
             trees:\n  - {{ name: live, path: {}, layout: zlmediakit }}\n",
            state.display(),
            tree.display(),
        );
        std::fs::write(&config, text).unwrap();
        let program = env!("CARGO_BIN_EXE_storage-guard");
        assert!(Command::new(program).args(["init", "-c", config.to_str().unwrap()]).status().unwrap().success());
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.args(["run", "-c", config.to_str().unwrap()]).stdout(Stdio::null()).stderr(log);
        let mut site = Self { guard: command.spawn().unwrap(), port, token: String::new(), home };
        for _ in 0..600 {
            std::thread::sleep(Duration::from_millis(50));
            let token = std::fs::read_to_string(state.join("operator.token")).unwrap_or_default();
            token.trim().clone_into(&mut site.token);
            if !token.is_empty() && site.ready() {
                return site;
            }
        }
        panic!("the guard does not answer: {}", std::fs::read_to_string(site.home.path().join("log")).unwrap());
    }

    fn ready(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.ask("GET", "/-/ready", "").0 == 200
    }

    fn tree(&self) -> PathBuf {
        self.home.path().join("record")
    }

    /// Asks the guard; gives the status and the body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A figure of the guard's memory, in bytes.
    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.guard.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    fn measure(&self, files: usize) -> Measured {
        let paths = make(&self.tree(), "live/cam", files);
        let plain = {
            let other = self.home.path().join("plain");
            let paths = make(&other, "live/cam", files);
            let began = Instant::now();
            paths.iter().for_each(|path| std::fs::remove_file(other.join(path)).unwrap());
            sync(&other);
            let took = began.elapsed();
            std::fs::remove_dir_all(other).unwrap();
            took
        };
        let body = serde_json::json!({ "tree": "live", "paths": paths }).to_string();
        // The peak begins anew.
        std::fs::write(format!("/proc/{}/clear_refs", self.guard.id()), "5").unwrap();
        let before = self.memory("VmRSS");
        let gone = |path: &str| std::fs::symlink_metadata(self.tree().join(path)).is_err();
        let began = Instant::now();
        let (status, answer) = self.ask("POST", "/api/v1/deletions", &body);
        assert_eq!(status, 202, "{answer}");
        let job = serde_json::from_str::<serde_json::Value>(&answer).unwrap()["job"].as_u64().unwrap();
        let wait = |so: &dyn Fn() -> bool, pause: Duration| {
            while !so() {
                assert!(began.elapsed() < Duration::from_secs(600), "job {job} does not end");
                std::thread::sleep(pause);
            }
            began.elapsed()
        };
        let first = wait(&|| gone(&paths[0]), Duration::from_micros(200));
        let last = wait(&|| gone(paths.last().unwrap()), Duration::from_millis(2));
        let state = || -> serde_json::Value {
            serde_json::from_str(&self.ask("GET", &format!("/api/v1/jobs/{job}"), "").1).unwrap()
        };
        let over = wait(&|| state()["state"] == "done", Duration::from_millis(5));
        let ended = state();
        assert_eq!(ended["verified"].as_u64(), Some(files as u64), "{ended}");
        assert!(paths.iter().all(|path| gone(path)), "a file is still there");
        Measured { first, last, over, grew: self.memory("VmHWM").saturating_sub(before), plain }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// Makes recordings of a KiB, a thousand in a day; gives their paths below the tree, all of them on the disk.
fn make(tree: &Path, stream: &str, files: usize) -> Vec<String> {
    let paths: Vec<String> = (0..files)
        .map(|at| {
            let day = format!("2026-{:02}-{:02}", 1 + at / 28_000, 1 + at / 1000 % 28);
            let second = at % 1000;
            format!("{stream}/{day}/{day}-{:02}-{:02}-{:02}-0.mp4", second / 3600, second / 60 % 60, second % 60)
        })
        .collect();
    for path in &paths {
        let file = tree.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, [7; KIB]).unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(864_000);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    }
    sync(tree);
    paths
}

fn sync(path: &Path) {
    rustix::fs::syncfs(std::fs::File::open(path).unwrap()).unwrap();
}

fn table(rows: &[(usize, Measured)]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut out = format!(
        "One request each, recordings of a KiB, {cores} cores, the disk of the temporary directory. The ratio is to unlinking as many files \
         one by one and syncing once; only ratios mean anything on another machine.\n\n\
         | files | first one gone | last one gone | job over | ratio | memory grew by |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for (files, measured) in rows {
        writeln!(
            out,
            "| {} | {:.0} ms | {:.2} s | {:.2} s | {:.1} | {:.1} MiB |",
            grouped(*files as u64),
            measured.first.as_secs_f64() * 1000.0,
            measured.last.as_secs_f64(),
            measured.over.as_secs_f64(),
            measured.over.as_secs_f64() / measured.plain.as_secs_f64(),
            measured.grew as f64 / f64::from(1 << 20),
        )
        .unwrap();
    }
    out
}
