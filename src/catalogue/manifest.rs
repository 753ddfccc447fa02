//! A manifest: a file that lists which recordings should exist.
//!
//! Its form is told by how it begins:
//! - `{` first: JSON lines, `{"path": "...", "collect": true, "start": "2026-11-22T12:21:41+08:00"}`; all but `path` may be left out.
//! - a NUL among its first 64 KiB: one path after the other, each ended by a NUL (`find -print0`).
//! - else: one path a line, as it is, without quoting.
//!
//! In each form the last line (or, with NULs, the last record) is its end mark, `# end COUNT [TIME]`, and it is ended like any other: COUNT
//! is how many paths stand before it, TIME (RFC 3339) is when the list was begun; without it, that is when the file was last written. There are
//! no comments: a line that begins with `#` is a path, unless it is the last. Empty lines are passed over, and not counted. So a manifest
//! that was cut anywhere, or is still being written, is never taken for a whole one. Write it under another name, then rename it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::source::{Pass, Source, Wanted};
use crate::domain::catalogue::{CatalogueRow, Distrust, RowId};
use crate::domain::units::Timestamp;
use crate::system::Clock;

/// How much of the file tells its form; no line is longer.
const WINDOW: usize = 64 * 1024;
/// Rows that are handed over at a time.
const AT_ONCE: usize = 5_000;
/// Clocks of two machines differ by less.
const SLACK: Duration = Duration::from_secs(60);

/// A manifest.
pub(super) struct Manifest {
    file: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Manifest {
    /// The one in a file. Nothing is opened yet.
    pub(super) fn new(file: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { file: file.to_owned(), clock }
    }

    fn partial(&self, what: &str) -> Distrust {
        let error =
            format!("`{}` {what}; a whole manifest ends with the line `# end COUNT [TIME]`", self.file.display());
        Distrust::Partial { error }
    }

    fn shape(&self, what: &str) -> Distrust {
        Distrust::Shape { error: format!("`{}` {what}", self.file.display()) }
    }

    fn unanswered(&self, error: &std::io::Error) -> Distrust {
        let remedy = if error.kind() == ErrorKind::NotFound {
            "look whether `file` is right, and whether it was written"
        } else if error.kind() == ErrorKind::PermissionDenied {
            "let the guard's user read it"
        } else {
            "look at its disk"
        };
        Distrust::Unanswered { error: format!("cannot read `{}`: {error}; {remedy}", self.file.display()) }
    }

    fn open(&self) -> Result<(File, Metadata), Distrust> {
        // A pipe of that name must not make us wait for whoever writes into it.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&self.file);
        let file = opened.map_err(|error| self.unanswered(&error))?;
        let found = file.metadata().map_err(|error| self.unanswered(&error))?;
        if found.is_file() { Ok((file, found)) } else { Err(self.shape("is no file")) }
    }

    fn row(&self, form: Form, number: i64, record: &[u8]) -> Result<CatalogueRow, Distrust> {
        let (path, collect, start) = match form {
            Form::Lines | Form::Nul => (Some(record.to_vec()), false, None),
            Form::Json => {
                let line: Line = serde_json::from_slice(record).map_err(|error| {
                    self.shape(&format!("has a line {number} that is no `{{\"path\": \"...\"}}`: {error}"))
                })?;
                let start = match &line.start {
                    Some(text) => Some(time(text).ok_or_else(|| {
                        self.shape(&format!(
                            "has a `start` in line {number} that is no time such as `2026-11-22T12:21:41+08:00`"
                        ))
                    })?),
                    None => None,
                };
                (line.path.map(String::into_bytes), line.collect, start)
            }
        };
        Ok(CatalogueRow { id: RowId::Number(number), path, media_server: None, collect, start })
    }
}

impl Source for Manifest {
    fn read(
        &mut self,
        _: Wanted,
        each: &mut dyn FnMut(Vec<CatalogueRow>) -> Result<(), Distrust>,
    ) -> Result<Pass, Distrust> {
        let now = self.clock.now();
        let (file, found) = self.open()?;
        let mut reader = BufReader::with_capacity(WINDOW, file);
        let form = Form::of(reader.fill_buf().map_err(|error| self.unanswered(&error))?);
        let mut rows = Vec::new();
        let mut count: i64 = 0;
        // The last record is its end mark, and which one is the last is known once there is no other.
        let mut held: Option<Vec<u8>> = None;
        loop {
            let record = match next(&mut reader, form.end()).map_err(|error| self.unanswered(&error))? {
                Next::Record(record) => record,
                Next::TooLong => return Err(self.shape(&format!("has a line of more than {WINDOW} bytes"))),
                Next::Cut => return Err(self.partial("breaks off within a line")),
                Next::End => break,
            };
            if record.is_empty() {
                continue;
            }
            if let Some(before) = held.replace(record) {
                count = count.saturating_add(1);
                rows.push(self.row(form, count, &before)?);
                if rows.len() >= AT_ONCE {
                    each(std::mem::take(&mut rows))?;
                }
            }
        }
        let after = reader.get_ref().metadata().map_err(|error| self.unanswered(&error))?;
        if state(&after) != state(&found) {
            return Err(self.partial("was written to while it was read"));
        }
        let Some(held) = held else { return Err(self.partial("is empty")) };
        let Some(mark) = EndMark::read(&held) else { return Err(self.partial("has no end mark")) };
        if i64::try_from(mark.count) != Ok(count) {
            return Err(self.partial(&format!("says that it holds {} paths, and holds {count}", mark.count)));
        }
        let written =
            Timestamp::from_millis(found.mtime().saturating_mul(1000).saturating_add(found.mtime_nsec() / 1_000_000));
        let as_of = mark.time.unwrap_or(written);
        if as_of > now.plus(SLACK) {
            return Err(
                self.shape(&format!("is of {as_of}, which is in the future; look at the clock of whoever wrote it"))
            );
        }
        each(rows)?;
        Ok(Pass { as_of: as_of.min(now), last: None })
    }
}

/// What must be the same before and after.
fn state(of: &Metadata) -> (u64, i64, i64, i64, i64) {
    (of.size(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Nul,
    Json,
}

impl Form {
    fn of(begin: &[u8]) -> Self {
        if begin.contains(&0) {
            Self::Nul
        } else if begin.first() == Some(&b'{') {
            Self::Json
        } else {
            Self::Lines
        }
    }

    fn end(self) -> u8 {
        match self {
            Self::Lines | Self::Json => b'\n',
            Self::Nul => 0,
        }
    }
}

#[derive(serde::Deserialize)]
struct Line {
    path: Option<String>,
    #[serde(default)]
    collect: bool,
    start: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct EndMark {
    count: u64,
    time: Option<Timestamp>,
}

impl EndMark {
    fn read(record: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(record).ok()?.strip_prefix("# end ")?.split(' ');
        let count = words.next()?;
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count = if digits { count.parse().ok()? } else { return None };
        let time = match words.next() {
            Some(text) => Some(time(text)?),
            None => None,
        };
        words.next().is_none().then_some(Self { count, time })
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

enum Next {
    /// One record, without its end.
    Record(Vec<u8>),
    TooLong,
    /// The file ends within it.
    Cut,
    End,
}

fn next(reader: &mut BufReader<File>, end: u8) -> std::io::Result<Next> {
    let mut record = Vec::new();
    loop {
        let found = match reader.fill_buf() {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if found.is_empty() {
            return Ok(if record.is_empty() { Next::End } else { Next::Cut });
        }
        let at = found.iter().position(|byte| *byte == end);
        let part = &found[..at.unwrap_or(found.len())];
        if record.len() + part.len() > WINDOW {
            return Ok(Next::TooLong);
        }
        record.extend_from_slice(part);
        let used = part.len() + usize::from(at.is_some());
        reader.consume(used);
        if at.is_some() {
            return Ok(Next::Record(record));
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests write manifests")]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::names::CatalogueId;
    use crate::testkit::{FakeClock, Power};

    const NOW: i64 = 1_800_000_000;

    struct Read {
        rows: Vec<CatalogueRow>,
        result: Result<Pass, Distrust>,
    }

    fn read_file(file: &Path, mut meanwhile: impl FnMut()) -> Read {
        let clock = Arc::new(FakeClock::new(Timestamp::from_secs(NOW), Power::new(std::collections::BTreeMap::new())));
        let mut rows = Vec::new();
        let result = Manifest::new(file, clock).read(Wanted::Whole, &mut |more| {
            rows.extend(more);
            meanwhile();
            Ok(())
        });
        Read { rows, result }
    }

    /// A file that was written an hour ago.
    fn written(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("known.txt");
        std::fs::write(&file, content).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs() - 3600);
        File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
        (home, file)
    }

    fn read(content: &[u8]) -> Read {
        let (_home, file) = written(content);
        read_file(&file, || ())
    }

    fn paths(content: &[u8]) -> Vec<String> {
        let read = read(content);
        assert_eq!(read.result, Ok(Pass { as_of: Timestamp::from_secs(NOW - 3600), last: None }));
        let shown = |row: &CatalogueRow| String::from_utf8_lossy(row.path.as_deref().unwrap_or(b"NULL")).into_owned();
        read.rows.iter().map(shown).collect()
    }

    fn refused(content: &[u8]) -> (&'static str, String) {
        let why = read(content).result.unwrap_err();
        (why.as_str(), why.sentence(&CatalogueId::new("list")))
    }

    #[test]
    fn each_form_is_told_by_how_it_begins() {
        assert_eq!(paths(b"/a/1.mp4\nlive/2.mp4\n# end 2\n"), ["/a/1.mp4", "live/2.mp4"]);
        assert_eq!(paths(b"/a/1.mp4\0live/2\n.mp4\0{\0# end 3\0"), ["/a/1.mp4", "live/2\n.mp4", "{"]);
        assert_eq!(
            paths(b"{\"path\":\"/a/\\u95e8.mp4\"}\n{\"path\":null}\n{}\n# end 3\n"),
            ["/a/门.mp4", "NULL", "NULL"]
        );
        assert_eq!(paths(b"# end 0\n"), [""; 0]);
        assert_eq!(paths(b"# end 0\0"), [""; 0]);
    }

    #[test]
    fn there_are_no_comments_and_only_the_last_line_is_the_end_mark() {
        assert_eq!(paths(b"# a\n# end 1\n\n#b.mp4\n# end 3\n\n"), ["# a", "# end 1", "#b.mp4"]);
        assert_eq!(paths(b" a \r\n\xff\n# end 2\n"), [" a \r", "\u{fffd}"]);
    }

    #[test]
    fn a_line_of_json_says_more() {
        let read =
            read(b"{\"path\":\"a\",\"collect\":true,\"start\":\"2026-11-22T12:21:41+08:00\",\"more\":1}\n# end 1\n");
        let start = Some(Timestamp::from_secs(1_795_321_301));
        let row =
            CatalogueRow { id: RowId::Number(1), path: Some(b"a".to_vec()), media_server: None, collect: true, start };
        assert_eq!(read.rows, [row]);
    }

    #[test]
    fn the_end_mark_says_of_when_it_is() {
        let of = |mark: &str| read(format!("a\n{mark}\n").as_bytes()).result;
        assert_eq!(of("# end 1 2027-01-01T00:00:00Z").unwrap().as_of, Timestamp::from_secs(1_798_761_600));
        let late = Timestamp::from_secs(NOW + 30);
        assert!(
            of(&format!("# end 1 {late}")).unwrap().as_of <= Timestamp::from_secs(NOW + 1),
            "clocks differ a little"
        );
        let wrong = Timestamp::from_secs(NOW + 90);
        assert!(
            matches!(of(&format!("# end 1 {wrong}")), Err(Distrust::Shape { error }) if error.contains("in the future"))
        );
        let (_home, file) = written(b"a\n# end 1\n");
        let at = std::time::UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs() + 3600);
        File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
        assert!(matches!(read_file(&file, || ()).result, Err(Distrust::Shape { .. })));
    }

    #[test]
    fn what_is_not_whole_is_partial_and_says_why() {
        for (content, text) in [
            (&b""[..], "is empty"),
            (b"\n\n", "is empty"),
            (b"a\nb\n", "has no end mark"),
            (b"a\n# end\n", "has no end mark"),
            (b"a\n# end 1 \n", "has no end mark"),
            (b"a\n# end +1\n", "has no end mark"),
            (b"a\n# end 1 yesterday\n", "has no end mark"),
            (b"a\n# end 1\r\n", "has no end mark"),
            (b"a\n# end 99999999999999999999\n", "has no end mark"),
            (b"a\n# end 2\n", "says that it holds 2 paths, and holds 1"),
            (b"a\nb\n# end 1\n", "holds 1 paths, and holds 2"),
            (b"a\n# end 1\nb\n# end 1\n", "holds 1 paths, and holds 3"),
            (b"a\n# end 1", "breaks off within a line"),
            (b"a\0# end 1\n", "breaks off within a line"),
        ] {
            let (kind, error) = refused(content);
            assert!(kind == "partial" && error.contains(text) && error.contains("known.txt"), "{kind}: {error}");
        }
    }

    #[test]
    fn what_is_no_manifest_says_so() {
        for (content, text) in [
            (&b"{\"path\":\"a\"}\nb\n# end 2\n"[..], "has a line 2 that is no"),
            (b"{\"path\":\"a\",\"start\":\"noon\"}\n# end 1\n", "`start` in line 1"),
            (&[b'a'; WINDOW + 9], "a line of more than 65536 bytes"),
        ] {
            let (kind, error) = refused(content);
            assert!(kind == "shape" && error.contains(text), "{kind}: {error}");
        }
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(read_file(home.path(), || ()).result, Err(Distrust::Shape { .. })));
        let absent = read_file(&home.path().join("x"), || ()).result;
        assert!(
            matches!(absent, Err(Distrust::Unanswered { error }) if error.contains("look whether `file` is right"))
        );
        let pipe = home.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(matches!(read_file(&pipe, || ()).result, Err(Distrust::Shape { .. })), "nobody is waited for");
    }

    #[test]
    fn a_file_that_is_written_to_while_it_is_read_is_partial() {
        let content = ["x\n".repeat(AT_ONCE + 1), format!("# end {}\n", AT_ONCE + 1)].concat();
        let (_home, file) = written(content.as_bytes());
        let read = read_file(&file, || File::options().append(true).open(&file).unwrap().write_all(b"\n").unwrap());
        assert!(
            matches!(&read.result, Err(Distrust::Partial { error }) if error.contains("was written to")),
            "{:?}",
            read.result
        );
    }

    proptest! {
        /// Faults 25, 76: whatever is cut off, what is left is never taken for a whole one.
        #[test]
        fn a_manifest_is_believed_whole_or_not_at_all(
            names in proptest::collection::vec("[a-z0-9 #{\"]{1,12}", 0..12),
            form in 0..3,
            timed: bool,
            cut: prop::sample::Index,
        ) {
            let end = if form == 1 { "\0" } else { "\n" };
            let line = |name: &String| match form {
                2 => serde_json::json!({ "path": name }).to_string(),
                _ => format!("a/{name}"),
            };
            let time = if timed { " 2026-11-22T12:21:41+08:00" } else { "" };
            let lines: Vec<_> = names.iter().map(line).chain([format!("# end {}{time}", names.len())]).collect();
            let whole = lines.iter().map(|line| format!("{line}{end}")).collect::<String>();
            let found = read(whole.as_bytes());
            prop_assert!(found.result.is_ok(), "{:?}", found.result);
            prop_assert_eq!(found.rows.len(), names.len());
            let part = &whole.as_bytes()[..cut.index(whole.len())];
            prop_assert!(read(part).result.is_err(), "{:?}", String::from_utf8_lossy(part));
        }
    }
}
