//! A million segments of one HLS stream: `cargo bench --bench segments -- [SEGMENTS]`.
//!
//! The same tree is scanned twice: as `hls`, whose days are one recording each, and as `dated`, where each segment is one; each in a process
//! of its own, so that each peak of memory is its own. What is measured is printed, and written into `docs/performance.md`. Ends with an
//! error if a count is wrong, or if days take more than a tenth of what segments take.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement tells its numbers, and ends where it fails"
)]

#[path = "shared/document.rs"]
mod document;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use storage_guard::domain::layout::Layout;
use storage_guard::domain::names::TreeId;
use storage_guard::domain::survey::survey;
use storage_guard::domain::trust::grouped;
use storage_guard::scan::scan;
use storage_guard::system::{Clock as _, GuardedTree, SystemClock};

const DAYS: u64 = 24;
const HOURS: u64 = 24;
const LAYOUTS: [&str; 2] = ["hls", "dated"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [layout, tree] = args.as_slice() {
        return measure(layout, Path::new(tree));
    }
    let wanted: u64 = args.first().map_or(1_000_000, |text| text.parse().unwrap());
    let memory = Path::new("/dev/shm");
    let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let made = make(home.path(), wanted);
    let [days, segments] = LAYOUTS.map(|layout| {
        let output = Command::new(std::env::current_exe().unwrap()).arg(layout).arg(home.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [files, seconds, kib, kib_before] = numbers[..] else { panic!("{layout}: {text}") };
        assert_eq!(files, made as f64, "{layout}");
        (seconds, (kib - kib_before) / 1024.0)
    });
    let build = if cfg!(debug_assertions) { "a build that is not optimised" } else { "a release build" };
    let table = format!(
        "{} segments in {DAYS} days of one stream, in memory (tmpfs), {build}, one run. Only the ratios mean anything on another machine.\n\n\
         | | a day is a recording (`hls`) | a segment is one (`dated`) | ratio |\n| --- | --- | --- | --- |\n\
         | scan | {:.2} s | {:.2} s | {:.2} |\n| peak memory of the scan | {:.1} MiB | {:.1} MiB | {:.3} |\n",
        grouped(made),
        days.0,
        segments.0,
        days.0 / segments.0,
        days.1,
        segments.1,
        days.1 / segments.1,
    );
    println!("{table}");
    document::write_down("segments", "## A million segments\n\n`cargo bench --bench segments -- [SEGMENTS]`", &table);
    assert!(days.1 < segments.1 / 10.0, "a day takes more than a tenth of what its segments take");
}

/// Makes the tree; says how many segments it has.
#[expect(clippy::disallowed_methods, reason = "it makes the measurement's own files")]
fn make(tree: &Path, wanted: u64) -> u64 {
    let each = wanted / (DAYS * HOURS);
    for day in 1..=DAYS {
        for hour in 0..HOURS {
            let dir = tree.join(format!("live/cam/2026-10-{day:02}/{hour:02}"));
            std::fs::create_dir_all(&dir).unwrap();
            for at in 0..each {
                let second = at * 3600 / each;
                let name = format!("{:02}-{:02}_{at}.ts", second / 60, second % 60);
                std::fs::File::create(dir.join(name)).unwrap().set_len(1).unwrap();
            }
        }
    }
    each * DAYS * HOURS
}

/// Scans the tree, and tells how many segments there are, how long it took, and the peaks of memory in KiB: in the end, and before.
fn measure(layout: &str, tree: &Path) {
    let layout = Layout::parse(layout, &["ts".to_owned()], jiff::tz::TimeZone::UTC).unwrap();
    let dir = GuardedTree::open(tree).unwrap();
    let before = peak();
    let began = SystemClock.boottime();
    let found =
        scan(&dir, &TreeId::new("live"), &layout, &[], &SystemClock, &mut |_| ControlFlow::Continue(())).unwrap();
    let took = SystemClock.boottime().saturating_sub(began).as_secs_f64();
    let files = survey(&found, std::time::Duration::ZERO, SystemClock.now()).recordings.files;
    println!("{files} {took} {} {before}", peak());
}

/// The peak of this process's memory so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
