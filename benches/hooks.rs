//! Sends a guard hooks as a media server does: `cargo bench --bench hooks -- [RATE] [SECONDS]` (10,000 a second for 20 seconds if not said).
//!
//! The guard is the program itself, in a process of its own; whoever sends shares its cores. Each hook is an `on_record_mp4` as it was captured,
//! of another recording each, and is answered once it is on the disk. Measured are: the given rate, with a connection for each hook as
//! ZLMediaKit has it, and with connections that are kept; as many as go, likewise; and, for the ratio, hooks written one by one into the same kind of
//! database on the same disk. What is measured is printed, and written into `docs/performance.md`. Ends with an error if a hook is not taken, if
//! the rate is not held, or if one in a hundred waits for more than 100 ms.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement tells its numbers, and ends where it fails"
)]

#[path = "shared/document.rs"]
mod document;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use storage_guard::domain::trust::grouped;
use storage_guard::domain::units::Timestamp;
use storage_guard::store::{Database, HookRecord, ToldHook};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// A recording, as the media server told of it.
const HOOK: &str = include_str!("../tests/data/zlmediakit/hook_on_record_mp4.json");
/// Cameras.
const STREAMS: u64 = 200;
/// Hooks that may be under way at once.
const LANES: u64 = 512;
/// One in a hundred may wait so long.
const PATIENCE: Duration = Duration::from_millis(100);
/// Hooks that are written one by one, for the ratio.
const ONE_BY_ONE: usize = 200;
/// Loopback addresses that are connected to in turn: one alone has too few ports for a connection a hook.
const ADDRESSES: u64 = 16;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, usual: u64| {
        args.get(at).map_or(usual, |text| text.replace(['_', ','], "").parse().expect("it is a number"))
    };
    let (rate, seconds) = (number(0, 10_000), number(1, 20));
    let site = Site::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut first = 0;
    let mut run = |kept: bool, rate: Option<u64>, seconds: u64| {
        let measured = runtime.block_on(drive(site.port, first, kept, rate, seconds));
        first += measured.sent;
        measured
    };
    run(false, Some(rate / 10), 2);
    let rows = [
        ("a connection for each hook", run(false, Some(rate), seconds)),
        ("kept connections", run(true, Some(rate), seconds)),
        ("a connection for each hook, as many as go", run(false, None, seconds / 2)),
        ("kept connections, as many as go", run(true, None, seconds / 2)),
    ];
    let alone = one_by_one(site.home.path());
    let table = table(rate, seconds, &rows, alone);
    println!("{table}");
    document::write_down("hooks", "## Receiving hooks\n\n`cargo bench --bench hooks -- [RATE] [SECONDS]`", &table);
    for (what, measured) in &rows {
        assert_eq!(measured.refused, 0, "{what}: hooks that were not taken");
    }
    for (what, measured) in &rows[..2] {
        assert!(measured.rate() >= rate as f64 * 0.98, "{what}: {:.0} hooks a second of {rate}", measured.rate());
        assert!(measured.at(0.99) < PATIENCE, "{what}: one in a hundred waits {:?}", measured.at(0.99));
    }
    let ratio = rows[2].1.rate() / alone;
    assert!(ratio > 2.0, "hooks together are only {ratio:.1} times as fast as one by one");
}

/// A guard that listens for hooks, ended when dropped.
struct Site {
    guard: Child,
    port: u16,
    home: tempfile::TempDir,
}

impl Site {
    #[expect(clippy::disallowed_methods, reason = "it makes its own configuration, and waits for another process")]
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (tree, config) = (home.path().join("record"), home.path().join("guard.yaml"));
        std::fs::create_dir(&tree).unwrap();
        let text = format!(
            "listen: 127.0.0.1:0\nstate: {{ path: {} }}\ntrees:\n  - {{ name: live, path: {}, layout: zlmediakit }}\nmedia_servers:\n  \
             - {{ name: zlm-1, kind: zlmediakit, api: \"http://127.0.0.1:1\", hooks: {{ listen: \"0.0.0.0:{port}\" }} }}\n",
            home.path().join("state").display(),
            tree.display(),
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_storage-guard"));
        command.args(["run", "-c", config.to_str().unwrap()]).stdout(Stdio::null()).stderr(log);
        let site = Self { guard: command.spawn().unwrap(), port, home };
        for _ in 0..600 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return site;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the guard does not listen: {}", std::fs::read_to_string(site.home.path().join("log")).unwrap());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// What was measured.
struct Measured {
    waits: Vec<Duration>,
    took: Duration,
    sent: u64,
    refused: u64,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.waits.len() as f64 / self.took.as_secs_f64()
    }

    /// So large a part of the hooks waited no longer than this.
    fn at(&self, part: f64) -> Duration {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get((last as f64 * part) as usize).copied().unwrap_or_default()
    }
}

/// The request that tells of a recording.
fn request(number: u64) -> Vec<u8> {
    let (stream, slice) = (number % STREAMS, number / STREAMS);
    let body = HOOK
        .replace("live/test", &format!("live/cam{stream:03}"))
        .replace("\"test\"", &format!("\"cam{stream:03}\""))
        .replace("12-21-41-0.mp4", &format!("12-21-41-{slice}.mp4"))
        .replace("1795350101", &(1_795_350_101 + slice).to_string());
    format!(
        "POST /index/hook/on_record_mp4 HTTP/1.1\r\nHost: guard\r\nAccept: */*\r\nAccept-Language: zh-CN,zh;q=0.8\r\n\
         Connection: keep-alive\r\nUser-Agent: ZLMediaKit(git hash:unknown)\r\nX-VHOST: __defaultVhost__\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends a request, and reads its answer to its end; whether the hook was taken.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> std::io::Result<bool> {
    stream.write_all(request).await?;
    let mut held = 0;
    loop {
        let read = stream.read(&mut buffer[held..]).await?;
        if read == 0 {
            return Ok(false);
        }
        held += read;
        if buffer[..held].ends_with(b"}") {
            return Ok(
                buffer.starts_with(b"HTTP/1.1 200") && buffer[..held].ends_with(br#"{"code":0,"msg":"success"}"#)
            );
        }
    }
}

/// Sends hooks from `first` on, at a rate or as many as go. A hook's wait begins when it was due, not when it could be sent.
async fn drive(port: u16, first: u64, kept: bool, rate: Option<u64>, seconds: u64) -> Measured {
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now() + Duration::from_millis(50);
    let end = begin + Duration::from_secs(seconds);
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let next = next.clone();
        lanes.spawn(async move {
            let (mut waits, mut refused, mut connection) = (Vec::new(), 0, None);
            let mut buffer = vec![0; 4096];
            sleep_until(begin).await;
            for turn in 0.. {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let due = match rate {
                    Some(rate) => begin + Duration::from_nanos((turn * LANES + lane) * 1_000_000_000 / rate),
                    None => Instant::now(),
                };
                if due >= end {
                    break;
                }
                let request = request(first + number);
                sleep_until(due).await;
                let address = format!("127.0.0.{}", 1 + number % ADDRESSES);
                let taken = async {
                    let mut stream = match connection.take() {
                        Some(stream) => stream,
                        None => TcpStream::connect((address, port)).await?,
                    };
                    stream.set_nodelay(true)?;
                    let taken = exchange(&mut stream, &request, &mut buffer).await?;
                    connection = kept.then_some(stream);
                    std::io::Result::Ok(taken)
                };
                match taken.await {
                    Ok(true) => waits.push(due.elapsed()),
                    Ok(false) | Err(_) => refused += 1,
                }
            }
            (waits, refused)
        });
    }
    let (mut waits, mut refused) = (Vec::new(), 0);
    while let Some(lane) = lanes.join_next().await {
        let (theirs, no) = lane.unwrap();
        waits.extend(theirs);
        refused += no;
    }
    let took = begin.elapsed();
    waits.sort();
    Measured { waits, took, sent: next.load(Ordering::Relaxed), refused }
}

/// How many records a second are durable if each is written alone.
fn one_by_one(home: &Path) -> f64 {
    let database = Database::open(&home.join("alone.db")).unwrap().database;
    let begin = Instant::now();
    for number in 0..ONE_BY_ONE {
        let record = HookRecord {
            path: format!("/data/zlm/rec/record/live/cam/2026-11-22/2026-11-22-12-21-41-{number}.mp4").into_bytes(),
            start: Timestamp::from_secs(number as i64),
            media_server: "zlm-1".to_owned(),
            stream: "live/cam".to_owned(),
            size: 772_023,
            length: 6_966,
        };
        let told = ToldHook { record: Some(record), outgoing: None };
        assert!(database.take_hooks(&[told], Timestamp::default()).unwrap().each[0].new);
    }
    ONE_BY_ONE as f64 / begin.elapsed().as_secs_f64()
}

fn table(rate: u64, seconds: u64, rows: &[(&str, Measured)], alone: f64) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut out = String::new();
    writeln!(
        out,
        "{} hooks a second for {seconds} seconds, {STREAMS} streams, no more than {LANES} under way at once, on {cores} cores that guard and sender share. \
         The wait of a hook begins when it was due. As many as go: each of the {LANES} is sent as soon as the one before it was answered. One by one: {} \
         records a second, each in a transaction of its own on the same disk; the ratio is to that, and only it means anything on another machine.\n",
        grouped(rate),
        grouped(alone as u64),
    )
    .unwrap();
    out.push_str("| | a second | median wait | 99 of 100 | longest | not taken | ratio |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for (what, measured) in rows {
        let millis = |part| measured.at(part).as_secs_f64() * 1000.0;
        writeln!(
            out,
            "| {what} | {} | {:.1} ms | {:.1} ms | {:.1} ms | {} | {:.1} |",
            grouped(measured.rate() as u64),
            millis(0.5),
            millis(0.99),
            millis(1.0),
            measured.refused,
            measured.rate() / alone,
        )
        .unwrap();
    }
    out
}
