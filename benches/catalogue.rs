//! Compares a tree with a catalogue of as many rows: `cargo bench --bench catalogue -- [FILES]` (1,000,000 if not said).
//!
//! Beside the guard's way, rows in an index on disk and sums of folders, goes the naive one: all rows in a map in memory, and a probe for each
//! file. Both read the same rows and the same inventory, each in a process of its own, so that each peak of memory is its own. What is measured
//! is printed, and written into `docs/performance.md`. Ends with an error if a result is wrong, or if the guard's way needs more than 256 MiB
//! beyond the inventory.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement tells its numbers, and ends where it fails"
)]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use storage_guard::catalogue::{Comparison, Known, Outcome, compare};
use storage_guard::domain::catalogue::{CatalogueKind, RowId};
use storage_guard::domain::names::{CatalogueId, TreeId};
use storage_guard::domain::path::RelPath;
use storage_guard::domain::path_set::DigestKey;
use storage_guard::domain::recording::{FileIdentity, Gone, Inventory, InventoryBuilder, Kind, Sighting};
use storage_guard::domain::trust::grouped;
use storage_guard::domain::units::{Bytes, Timestamp};
use storage_guard::domain::volume::Unusable;
use storage_guard::store::{CatalogueIndex, Findings, IndexRow, IndexState};
use storage_guard::system::{Dir, DirEntry};

/// Streams that record at the same time.
const STREAMS: u64 = 200;
/// Files in the folder of a stream's day.
const A_DAY: u64 = 1_250;
/// Files that no row knows, and rows without a file, where some are wanted.
const CHANGED: u64 = 1_000;
/// Rows that are entered at once.
const CHUNK: usize = 5_000;
/// What the guard may need beyond the inventory.
const ALLOWED_KIB: u64 = 256 * 1024;
/// When the first file begins: 2026-01-01.
const BEGIN: i64 = 1_767_225_600;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    if arg(0) == "child" {
        let files = arg(2).parse().unwrap();
        let (home, changed) = (Path::new(arg(3)), arg(4).parse().unwrap());
        return match arg(1) {
            "index" => read_into_index(files, home, false),
            "shuffled" => read_into_index(files, home, true),
            "guard" => compare_with_index(files, home, changed),
            "naive" => compare_in_memory(files, changed),
            other => panic!("no such child: {other}"),
        };
    }
    let files: u64 = match arg(0) {
        "" => 1_000_000,
        text => text.replace(['_', ','], "").parse().expect("the number of files is a number"),
    };
    assert!(files >= 100 * CHANGED, "fewer than {} files measure nothing", 100 * CHANGED);
    let runs: usize = if files > 2_000_000 { 1 } else { 3 };
    let measured = measure(files, runs);
    let table = table(files, runs, &measured);
    println!("{table}");
    write_down(files, &table);
    for part in ["read_kib", "shuffled_read_kib", "guard_kib", "guard_changed_kib"] {
        let kib = measured[part];
        assert!(
            kib <= ALLOWED_KIB as f64,
            "{part}: {kib} KiB beyond the inventory; no more than {ALLOWED_KIB} are allowed"
        );
    }
}

/// Path, folder and name of a file, by its number: files of all streams come in turns, as they do from recorders.
struct Numbered {
    stream: u64,
    day: u64,
    in_day: u64,
}

impl Numbered {
    fn new(number: u64) -> Self {
        let slot = number / STREAMS;
        Self { stream: number % STREAMS, day: slot / A_DAY, in_day: slot % A_DAY }
    }

    fn date(day: u64) -> String {
        let at = jiff::Timestamp::from_second(BEGIN + day.cast_signed() * 86_400).unwrap();
        at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d").to_string()
    }

    /// `other` makes it another file of the same second.
    fn name(&self, date: &str, other: bool, out: &mut String) {
        let second = self.in_day * 86_400 / A_DAY;
        out.clear();
        let (hour, minute, rest) = (second / 3600, second / 60 % 60, second % 60);
        write!(out, "{date}-{hour:02}-{minute:02}-{rest:02}-{}.mp4", u8::from(other)).unwrap();
    }
}

/// Whether a file is missing on disk, and whether there is another beside it that no row knows. Spread over all folders: the worst case.
fn changes(number: u64, files: u64) -> (bool, bool) {
    let step = files / CHANGED - 1;
    let counted = number / step < CHANGED;
    (counted && number.is_multiple_of(step), counted && number % step == 1)
}

/// Every row, by rising number, or all mixed up.
fn each_row(files: u64, shuffled: bool, each: &mut dyn FnMut(u64, &str)) {
    /// A prime, so that every number comes once.
    const STRIDE: u64 = 7_368_787;
    let (mut path, mut name, mut date) = (String::new(), String::new(), (u64::MAX, String::new()));
    for at in 0..files {
        let number = if shuffled { at * STRIDE % files } else { at };
        let file = Numbered::new(number);
        if date.0 != file.day {
            date = (file.day, Numbered::date(file.day));
        }
        file.name(&date.1, false, &mut name);
        path.clear();
        write!(path, "live/cam{:03}/{}/{name}", file.stream, date.1).unwrap();
        each(number, &path);
    }
}

fn tree() -> TreeId {
    TreeId::new("live")
}

/// What a scan of the tree would find.
fn inventory(files: u64, changed: bool) -> Inventory {
    let mut builder = InventoryBuilder::new(tree(), Timestamp::from_secs(BEGIN));
    let live = builder.directory(builder.top(), b"live");
    let mut name = String::new();
    let days = files.div_ceil(STREAMS * A_DAY);
    for stream in 0..STREAMS {
        let camera = format!("cam{stream:03}");
        let stream_name = format!("live/{camera}");
        let above = builder.directory(live, camera.as_bytes());
        for day in 0..days {
            let date = Numbered::date(day);
            let dir = builder.directory(above, date.as_bytes());
            for at in 0..A_DAY {
                // No filesystem lists names in order.
                let in_day = at * 577 % A_DAY;
                let number = (day * A_DAY + in_day) * STREAMS + stream;
                if number >= files {
                    continue;
                }
                let (missing, another) = if changed { changes(number, files) } else { (false, false) };
                let file = Numbered { stream, day, in_day };
                for other in [(!missing).then_some(false), another.then_some(true)].into_iter().flatten() {
                    file.name(&date, other, &mut name);
                    let nanos = (BEGIN + (day * 86_400 + in_day * 69).cast_signed()) * 1_000_000_000;
                    let identity = FileIdentity {
                        inode: number + 100,
                        birth: nanos,
                        modified: nanos,
                        size: 4096,
                        allocated: Bytes(4096),
                        links: 1,
                        ..FileIdentity::default()
                    };
                    let named = Some(Timestamp::from_millis(nanos / 1_000_000));
                    let (name, kind) = (name.as_bytes(), Kind::Recording);
                    builder.file(dir, &Sighting { name, stream: &stream_name, kind, named, identity: &identity });
                }
            }
        }
    }
    builder.finish(Timestamp::from_secs(BEGIN))
}

/// A tree in which nothing is found that the scan has not found.
struct Nothing;

impl Dir for Nothing {
    fn read(&self, _: Option<&RelPath>, _: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn look(&self, _: &RelPath) -> io::Result<Option<FileIdentity>> {
        Ok(None)
    }

    fn top(&self) -> io::Result<FileIdentity> {
        Ok(FileIdentity::default())
    }

    fn still_there(&self) -> Result<(), Unusable> {
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("/nothing")
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement asks the real time")]
fn now() -> Instant {
    Instant::now()
}

/// How long something takes, and what it gives.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = now();
    let given = work();
    (begin.elapsed(), given)
}

fn tell(name: &str, value: f64) {
    println!("{name} {value}");
}

/// A line of `/proc/self/status`, in KiB.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    found.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// The peak counts from here on; gives what is in use.
#[expect(clippy::disallowed_methods, reason = "it is no file, but a switch of the kernel")]
fn forget_peak() -> u64 {
    // Where this cannot be done, the peak of what came before counts too: then more is told than was needed.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    memory("VmRSS:")
}

fn tell_peak(name: &str, before: u64) {
    tell(name, memory("VmHWM:").saturating_sub(before) as f64);
}

const KEY: DigestKey = DigestKey(42);

fn read_into_index(files: u64, home: &Path, shuffled: bool) {
    let before = forget_peak();
    let place = home.join("wvp.index");
    let (took, ()) = timed(|| {
        let index = CatalogueIndex::create(Some(&home.join("new.index")), KEY).unwrap();
        let mut rows = Vec::with_capacity(CHUNK);
        each_row(files, shuffled, &mut |number, path| {
            let start = Some(Timestamp::from_secs(BEGIN + number.cast_signed()));
            let row = IndexRow { id: RowId::Number(number.cast_signed()), collect: false, start };
            rows.push((tree(), RelPath::new(path.as_bytes()).unwrap(), row));
            if rows.len() == CHUNK {
                index.put(&rows).unwrap();
                rows.clear();
            }
        });
        index.put(&rows).unwrap();
        index.set_state(&IndexState::default()).unwrap();
        index.take_place(&place).unwrap();
    });
    tell("read", took.as_secs_f64());
    tell_peak("read_kib", before);
    tell("bytes", std::fs::metadata(&place).unwrap().len() as f64);
}

fn compare_with_index(files: u64, home: &Path, changed: bool) {
    let inventory = inventory(files, changed);
    let before = forget_peak();
    let (opened, index) = timed(|| CatalogueIndex::open(&home.join("wvp.index"), KEY).unwrap().unwrap());
    let scratch = tempfile::tempdir_in(home).unwrap();
    let findings = Findings::open(&scratch.path().join("findings.db")).unwrap();
    let name = CatalogueId::new("wvp");
    let known = [Known { name, kind: CatalogueKind::Wvp, index: Arc::new(index), as_of: Timestamp::default() }];
    let gone = Gone::default();
    let what = Comparison { inventory: &inventory, gone: &gone, known: &known, dir: &Nothing, findings: &findings };
    let (first, outcome) = timed(|| compare(&what, &mut || true).unwrap());
    let (second, again) = timed(|| compare(&what, &mut || true).unwrap());
    assert_eq!(outcome, again);
    let Outcome::Compared { folders, unknown, missing } = outcome else { panic!("{outcome:?}") };
    let expected = if changed { CHANGED } else { 0 };
    assert_eq!((unknown, missing), (expected, expected), "a wrong result");
    tell("opened", opened.as_secs_f64());
    tell("first", first.as_secs_f64());
    tell("second", second.as_secs_f64());
    tell("folders", folders as f64);
    tell_peak("kib", before);
    tell("inventory", inventory.bytes_per_file() as f64);
}

fn compare_in_memory(files: u64, changed: bool) {
    let inventory = inventory(files, changed);
    let before = forget_peak();
    let mut rows: HashMap<String, bool> = HashMap::new();
    let (read, ()) = timed(|| {
        each_row(files, false, &mut |_, path| {
            rows.insert(path.to_owned(), false);
        });
    });
    let mut compare = || {
        rows.values_mut().for_each(|seen| *seen = false);
        let mut unknown = Vec::new();
        for file in inventory.files() {
            let path = inventory.path(file.index);
            match rows.get_mut(std::str::from_utf8(path.as_bytes()).unwrap()) {
                Some(seen) => *seen = true,
                None => unknown.push(path),
            }
        }
        let missing: Vec<&String> = rows.iter().filter(|(_, seen)| !**seen).map(|(path, _)| path).collect();
        (unknown.len() as u64, missing.len() as u64)
    };
    let (first, found) = timed(&mut compare);
    let (second, again) = timed(&mut compare);
    let expected = if changed { CHANGED } else { 0 };
    assert!(found == (expected, expected) && found == again, "a wrong result");
    tell("read", read.as_secs_f64());
    tell("first", first.as_secs_f64());
    tell("second", second.as_secs_f64());
    tell_peak("kib", before);
}

/// Runs a part in a process of its own.
fn child(what: &str, files: u64, home: &Path, changed: bool) -> BTreeMap<String, f64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", what, &files.to_string()]).arg(home).arg(changed.to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// Everything, some times in turns: medians of times, and the most of memory.
fn measure(files: u64, runs: usize) -> BTreeMap<String, f64> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..runs {
        let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut note = |prefix: &str, found: BTreeMap<String, f64>| {
            found.into_iter().for_each(|(name, value)| all.entry(format!("{prefix}{name}")).or_default().push(value));
        };
        note("", child("index", files, home.path(), false));
        note("shuffled_", child("shuffled", files, other.path(), false));
        for (changed, suffix) in [(false, ""), (true, "changed_")] {
            note(&format!("guard_{suffix}"), child("guard", files, home.path(), changed));
            note(&format!("naive_{suffix}"), child("naive", files, home.path(), changed));
        }
    }
    let one = |name: &str, mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        if name.ends_with("kib") { values[values.len() - 1] } else { values[values.len() / 2] }
    };
    all.into_iter().map(|(name, values)| (name.clone(), one(&name, values))).collect()
}

fn table(files: u64, runs: usize, measured: &BTreeMap<String, f64>) -> String {
    let get = |name: &str| measured[name];
    let mut out = String::new();
    let runs = if runs == 1 { "one run".to_owned() } else { format!("median of {runs} runs") };
    let count = grouped(files);
    writeln!(out, "### {count} files against {count} rows\n").unwrap();
    writeln!(
        out,
        "{STREAMS} streams, {} recordings a folder, {runs}. The tree is an inventory as a scan leaves it, so that no disk is measured but the index's. \"In memory\" is the naive way: all rows in a map of paths, and a probe for each file. Only the ratio \
         means anything on another machine.\n",
        grouped(A_DAY)
    )
    .unwrap();
    out.push_str("| | storage-guard | in memory | ratio |\n| --- | --- | --- | --- |\n");
    let mut times = |what: &str, ours: &str, rival: &str| {
        let (ours, rival) = (get(ours), get(rival));
        writeln!(out, "| {what} | {ours:.3} s | {rival:.3} s | {:.2} |", ours / rival).unwrap();
    };
    times("rows read", "read", "naive_read");
    times("rows read that come in no order", "shuffled_read", "naive_read");
    times("first comparison", "guard_first", "naive_first");
    times("second comparison, nothing changed", "guard_second", "naive_second");
    let some = grouped(CHANGED);
    times(
        &format!("first comparison, {some} unknown and {some} missing"),
        "guard_changed_first",
        "naive_changed_first",
    );
    times("second comparison of these", "guard_changed_second", "naive_changed_second");
    let mut kib = |what: &str, ours: f64, rival: f64| {
        let mib = |kib: f64| kib / 1024.0;
        writeln!(out, "| {what} | {:.1} MiB | {:.1} MiB | {:.3} |", mib(ours), mib(rival), ours / rival).unwrap();
    };
    let most = get("guard_kib").max(get("guard_changed_kib"));
    kib("peak memory beyond the inventory, rows read", get("read_kib").max(get("shuffled_read_kib")), get("naive_kib"));
    kib("peak memory beyond the inventory, compared", most, get("naive_kib").max(get("naive_changed_kib")));
    let rows = files as f64;
    writeln!(
        out,
        "\nRows are read into the index at {} a second, and take {:.1} bytes each on disk; opening it, with a check of all its pages, takes {:.3} s. The changes \
         are spread over {} folders, each of which is then looked at name by name. The inventory itself takes {} bytes a file.",
        grouped((rows / get("read")) as u64),
        get("bytes") / rows,
        get("guard_opened"),
        grouped(get("guard_changed_folders") as u64),
        get("guard_inventory"),
    )
    .unwrap();
    out
}

/// Puts the table into the document, in the place of the last one of as many files.
#[expect(clippy::disallowed_methods, reason = "it writes a document anew")]
fn write_down(files: u64, table: &str) {
    const HEAD: &str = "# Performance\n\nMeasured by the programs in `benches/`, which write their results here: do not edit the tables.\n";
    const SECTION: &str = "## Comparing a tree with a catalogue\n\n`cargo bench --bench catalogue -- [FILES]`\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    let (first, last) = ("<!-- catalogue: begin -->", "<!-- catalogue: end -->");
    if !text.contains(first) {
        write!(text, "\n{first}\n{SECTION}{last}\n").unwrap();
    }
    let (begin, end) = (format!("<!-- catalogue {files}: begin -->"), format!("<!-- catalogue {files}: end -->"));
    let body = format!("{begin}\n{table}{end}\n");
    let text = match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) => format!("{}{body}{}", &text[..from], text[to + end.len()..].trim_start_matches('\n')),
        _ => text.replacen(last, &format!("\n{body}{last}"), 1),
    };
    std::fs::write(path, text).unwrap();
}
