//! One directory as a layout sees it. What its path says is read once, so that a million names cost little.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::civil::{Calendar, dashed_date};
use super::kind::{Layout, LayoutKind};
use super::names::{date_at, frigate, frigate_day, hls, hour, mediamtx, time_in, unhide, zlmediakit};
use crate::domain::path::RelPath;
use crate::domain::recording::Kind;
use crate::domain::units::Timestamp;

/// A directory of a tree, ready to read the names in it.
#[derive(Debug)]
pub struct Folder<'a> {
    layout: &'a Layout,
    place: Place,
    /// The stream of all its files; empty where each name has its own.
    stream: String,
    calendar: Calendar,
    /// For old Frigate, whose times are local: the zone beside UTC.
    local: Option<Calendar>,
    /// Its path with a slash behind, and for templates the name that was read last.
    path: Vec<u8>,
    path_len: usize,
}

/// What a folder makes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// Finished, or under a name that is given to what is being written.
    pub kind: Kind,
    /// The stream.
    pub stream: &'a str,
    /// The time in the name.
    pub named: Option<Timestamp>,
}

/// What the path of a directory says about the files in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// No file here is a recording of this layout.
    Nowhere,
    Zlmediakit(Date),
    Hls(Date, i64),
    Frigate(Date, i64),
    Mediamtx,
    Dated(Date),
    Plain,
    Template,
}

impl<'a> Folder<'a> {
    pub(super) fn new(layout: &'a Layout, dir: Option<&RelPath>) -> Self {
        let parts: Vec<&[u8]> = dir.map(|dir| dir.components().collect()).unwrap_or_default();
        let (place, stream) = place(layout.kind, &parts).unwrap_or((Place::Nowhere, String::new()));
        let mut path = Vec::new();
        if let (Place::Template, Some(dir)) = (place, dir) {
            path.extend_from_slice(dir.as_bytes());
            path.push(b'/');
        }
        let old =
            matches!(place, Place::Frigate(..)) && parts.len() >= 4 && frigate_day(&parts[..parts.len() - 2]).is_some();
        let zone = if matches!(place, Place::Frigate(..)) { TimeZone::UTC } else { layout.zone.clone() };
        Self {
            layout,
            place,
            stream,
            calendar: Calendar::new(zone),
            local: old.then(|| Calendar::new(layout.zone.clone())),
            path_len: path.len(),
            path,
        }
    }

    /// What the layout makes of a file of `size` bytes; `None` if it does not know it: such a file is never touched.
    pub fn read(&mut self, name: &[u8], size: u64) -> Option<Found<'_>> {
        // Our own names, and NFS's for files that were deleted while open.
        if name.starts_with(b".storage-guard") || name.starts_with(b".nfs") {
            return None;
        }
        let mut unfinished = size == 0;
        let named = match self.place {
            Place::Nowhere => return None,
            Place::Zlmediakit(date) => {
                let (hidden, name) = unhide(name);
                unfinished |= hidden;
                Some(self.calendar.moment(date, zlmediakit(name, date)?)?)
            }
            Place::Hls(date, hour) => Some(self.calendar.moment(date, hls(name, hour)?)?),
            Place::Frigate(date, hour) => {
                let time = frigate(name, hour)?;
                let utc = self.calendar.moment(date, time)?;
                // Whether an old tree was written in local time cannot be seen: the later of both, so that nothing goes early.
                let local = self.local.as_mut().and_then(|local| local.moment(date, time));
                Some(local.map_or(utc, |local| local.max(utc)))
            }
            Place::Mediamtx => {
                let (date, time) = mediamtx(name)?;
                Some(self.calendar.moment(date, time)?)
            }
            Place::Dated(day) => {
                self.layout.known_extension(name)?;
                let stem = &name[..name.iter().rposition(|b| *b == b'.')?];
                Some(match time_in(stem, day) {
                    Some((date, time)) => self.calendar.moment(date, time)?,
                    // Only the day is known: its end counts, so that nothing goes a day too early.
                    None => self.calendar.end_of(day)?,
                })
            }
            Place::Plain => {
                self.layout.known_extension(name)?;
                None
            }
            Place::Template => {
                self.path.truncate(self.path_len);
                self.path.extend_from_slice(name);
                let (stream, named) = self.layout.template.as_ref()?.read(&self.path, &mut self.calendar)?;
                let stream = std::str::from_utf8(stream).ok().filter(|stream| fit(stream))?;
                let kind = if unfinished { Kind::Unfinished } else { Kind::Recording };
                return Some(Found { kind, stream, named: Some(named) });
            }
        };
        let kind = if unfinished { Kind::Unfinished } else { Kind::Recording };
        Some(Found { kind, stream: &self.stream, named })
    }
}

/// What the directories above a file say, and the stream of all files there; `None` if no file there is a recording.
fn place(kind: LayoutKind, dirs: &[&[u8]]) -> Option<(Place, String)> {
    if dirs.first() == Some(&&b".storage-guard"[..]) {
        return None;
    }
    match kind {
        LayoutKind::Auto | LayoutKind::Archive => None,
        LayoutKind::Zlmediakit => {
            let (day, above) = dirs.split_last()?;
            let stream = zlmediakit_stream(above);
            (stream.len() >= 2).then_some(())?;
            Some((Place::Zlmediakit(dashed_date(day)?), join(&stream)?))
        }
        LayoutKind::Hls => {
            let [above @ .., day, at] = dirs else { return None };
            (above.len() >= 2).then_some(())?;
            Some((Place::Hls(dashed_date(day)?, hour(at)?), join(above)?))
        }
        LayoutKind::Frigate => {
            let [above @ .., at, camera] = dirs else { return None };
            let date = match above {
                // At the tree's top, or one directory below it.
                [day] | [_, day] if let Some(date) = dashed_date(day) => date,
                [_, _] | [_, _, _] => frigate_day(above)?,
                _ => return None,
            };
            Some((Place::Frigate(date, hour(at)?), join(&[camera])?))
        }
        LayoutKind::Mediamtx => Some((Place::Mediamtx, join(dirs)?)),
        LayoutKind::Dated => {
            let (end, (date, width)) = (1..=dirs.len()).rev().find_map(|end| Some((end, date_at(&dirs[..end])?)))?;
            Some((Place::Dated(date), join(&dirs[..end - width])?))
        }
        LayoutKind::Plain => Some((Place::Plain, join(dirs)?)),
        LayoutKind::Template => Some((Place::Template, String::new())),
    }
}

/// `APP/STREAM…`, without the `record/` or `VHOST/record/` that may stand before it. A stream whose own name is `record` is
/// told apart by what would be left: an app and a stream at least.
fn zlmediakit_stream<'a>(above: &[&'a [u8]]) -> Vec<&'a [u8]> {
    match above {
        [first, rest @ ..] if *first == b"record" && rest.len() >= 2 => rest.to_vec(),
        [vhost, second, rest @ ..] if *second == b"record" && rest.len() >= 2 => {
            let mut stream = vec![*vhost];
            stream.extend_from_slice(rest);
            stream
        }
        _ => above.to_vec(),
    }
}

/// Directories as a stream's name.
pub(super) fn join(dirs: &[&[u8]]) -> Option<String> {
    String::from_utf8(dirs.join(&b'/')).ok().filter(|stream| fit(stream))
}

/// A stream's name has no control characters, and none of its components is empty or hidden (so none is `..`).
fn fit(stream: &str) -> bool {
    !stream.chars().any(char::is_control) && stream.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}
