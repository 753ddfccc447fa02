//! What a person, or the platform by the gateway, wants deleted.
//!
//! Neither `min_age` nor the newest recording of a stream stands against it; all else that protects a recording does (promise 3).

use std::collections::HashMap;

use jiff::civil::Date;

use super::deletion::Trigger;
use super::layout::{Folder, Layout};
use super::names::{StreamId, TreeId};
use super::path::RelPath;
use super::units::Timestamp;

/// So many paths may be named in one request.
pub const PATHS: usize = 50_000;

/// A request to delete recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Of which tree.
    pub tree: TreeId,
    /// Which of them.
    pub wanted: Wanted,
    /// Who it is counted under: [`Trigger::Operator`] or [`Trigger::Gateway`].
    pub trigger: Trigger,
}

/// Where a tree is, and how its names are read: elsewhere, or read otherwise, the names of a demand are those of other recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// Its path.
    pub path: String,
    /// How its layout reads names: [`Layout::reading`].
    pub layout: String,
}

/// Which recordings of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// These. One that is not there is gone already.
    Paths(Vec<RelPath>),
    /// All of a stream, as its directories hold them when they are read.
    Stream(OfStream),
}

/// Recordings of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfStream {
    /// The stream.
    pub stream: StreamId,
    /// Of this day only: the date that their directory bears, or, where no directory bears one, their own.
    pub period: Option<Date>,
    /// Only those whose time is before this.
    pub before: Option<Timestamp>,
    /// Only those below this directory; `None`: wherever recordings of the stream can lie.
    pub within: Option<RelPath>,
}

impl OfStream {
    /// Whether it is about a recording of its stream. `recorded` is the time in its name, else the file's.
    #[must_use]
    pub fn takes(&self, layout: &Layout, path: &RelPath, recorded: Timestamp) -> bool {
        self.before.is_none_or(|before| recorded < before)
            && self.period.is_none_or(|day| layout.day_of(path, recorded) == Some(day))
    }

    /// Whether it can be about a directory that is one recording. Whether that ends before [`OfStream::before`], only its files tell.
    #[must_use]
    pub fn takes_unit(&self, layout: &Layout, unit: &RelPath) -> bool {
        layout.stream_of_unit(unit).is_some_and(|stream| stream == self.stream.as_str())
            && self.period.is_none_or(|day| layout.date_of(unit) == Some(day))
    }
}

impl Wanted {
    /// What is asked for, as the journal keeps it.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Paths(paths) => format!("{} paths that were named", paths.len()),
            Self::Stream(OfStream { stream, period, before, within: _ }) => {
                let of = period.map(|day| format!(" of {day}")).unwrap_or_default();
                let before = before.map(|at| format!(" before {at}")).unwrap_or_default();
                format!("stream {stream}{of}{before}")
            }
        }
    }

    /// Why each of its recordings goes, as the journal keeps it.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Paths(_) => "it was asked for by its path".to_owned(),
            Self::Stream(_) => format!("asked for: {}", self.words()),
        }
    }
}

/// Of these paths, those that cannot be recordings of a tree with this layout. Whether a file is there is not asked.
#[must_use]
pub fn strangers(layout: &Layout, paths: &[RelPath]) -> Vec<RelPath> {
    // What a directory's path says is read once for all of its files.
    let mut folders: HashMap<Option<RelPath>, Folder<'_>> = HashMap::new();
    let mut strange = |path: &&RelPath| {
        if layout.has_units() {
            return !layout.is_unit(path);
        }
        let (dir, name) = path.split();
        folders.entry(dir).or_insert_with_key(|dir| layout.folder(dir.as_ref())).read(name, 1).is_none()
    };
    paths.iter().filter(|path| strange(path)).cloned().collect()
}

/// Whether a text can be the name of a stream: no part of it is empty or hidden, and nothing in it is a control character.
#[must_use]
pub fn is_stream(text: &str) -> bool {
    !text.chars().any(char::is_control) && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

/// A day as the name of a directory gives it: `2026-11-22`, and a date that there is.
#[must_use]
pub fn day(text: &str) -> Option<Date> {
    let form = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    if form { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn layout(text: &str) -> Layout {
        Layout::parse(text, &["mp4".to_owned()], TimeZone::get("Asia/Shanghai").unwrap()).unwrap()
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_what_the_layout_knows_can_be_a_recording() {
        let layout = layout("zlmediakit");
        for (text, fits) in [
            ("live/cam/2026-11-22/2026-11-22-12-21-41-0.mp4", true),
            ("live/cam/2026-11-22/.2026-11-22-12-21-41-0.mp4", true),
            ("live/cam/2026-11-22", false),
            ("live/cam/2026-11-22/notes.txt", false),
            ("live/cam/2026-11-23/2026-11-22-12-21-41-0.mp4", false),
            (".storage-guard/12", false),
            ("2026-11-22/2026-11-22-12-21-41-0.mp4", false),
        ] {
            assert_eq!(strangers(&layout, &[path(text)]).is_empty(), fits, "{text}");
        }
    }

    #[test]
    fn of_a_day_that_goes_whole_no_part_is_a_recording() {
        let layout = layout("hls");
        for (text, fits) in [
            ("live/cam/2026-11-22", true),
            ("live/cam/2026-11-22/12", false),
            ("live/cam/2026-11-22/12/21-41_7.ts", false),
            ("live/cam/2026-11-22/hls.m3u8", false),
            ("live/cam/hls.m3u8", false),
            ("live/cam", false),
            ("live/cam/2026-02-30", false),
        ] {
            assert_eq!(strangers(&layout, &[path(text)]).is_empty(), fits, "{text}");
        }
    }

    #[test]
    fn a_day_is_a_date_that_there_is() {
        for (text, fine) in [
            ("2026-11-22", true),
            ("2024-02-29", true),
            ("2026-02-29", false),
            ("2026-13-01", false),
            ("2026-1-1", false),
            ("20261122", false),
            ("2026-11-22T00:00:00", false),
            ("../../../x", false),
            ("", false),
        ] {
            assert_eq!(day(text).is_some(), fine, "{text}");
        }
    }

    #[test]
    fn a_stream_has_no_hidden_part_and_no_empty_one() {
        for (text, fine) in [
            ("live/cam", true),
            ("cam", true),
            ("门/a b", true),
            ("", false),
            ("/live/cam", false),
            ("live//cam", false),
            ("live/..", false),
            ("live/.hidden", false),
            ("live/cam\n", false),
        ] {
            assert_eq!(is_stream(text), fine, "{text:?}");
        }
    }

    #[test]
    fn a_day_is_the_directorys_and_before_is_exclusive() {
        let layout = layout("zlmediakit");
        let file = path("live/cam/2026-11-22/2026-11-22-00-00-10-0.mp4");
        let recorded = layout.recognise(&file, 1).unwrap().named.unwrap();
        let check = |period: Option<&str>, before: Option<i64>, expected| {
            let wanted = OfStream {
                stream: StreamId::new("live/cam"),
                period: period.and_then(day),
                before: before.map(|by| Timestamp::from_secs(recorded.secs() + by)),
                within: None,
            };
            assert_eq!(wanted.takes(&layout, &file, recorded), expected, "{wanted:?}");
        };
        check(None, None, true);
        check(Some("2026-11-22"), None, true);
        check(Some("2026-11-21"), None, false);
        check(None, Some(1), true);
        check(None, Some(0), false);
        check(Some("2026-11-22"), Some(-1), false);
        // Where no directory bears a date the recording's own counts, where the cameras are.
        let plain = self::layout("plain");
        let at: jiff::Timestamp = "2026-11-21T23:00:00Z".parse().unwrap();
        let recorded = Timestamp::from_millis(at.as_millisecond());
        assert_eq!(plain.day_of(&path("cam/a.mp4"), recorded), day("2026-11-22"));
    }
}
