//! Which layouts there are, and what each makes of a path.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::civil::{Reader, civil_date, civil_time, dashed_date, moment, whole};
use super::template::Template;
use crate::domain::deletion::words;
use crate::domain::path::RelPath;
use crate::domain::recording::Kind;
use crate::domain::units::Timestamp;

words! {
    /// The layouts by name.
    LayoutKind {
        /// Picked by looking.
        Auto = "auto",
        /// ZLMediaKit's MP4 recordings.
        Zlmediakit = "zlmediakit",
        /// HLS segments in dated directories.
        Hls = "hls",
        /// Frigate's recordings.
        Frigate = "frigate",
        /// MediaMTX's recordings.
        Mediamtx = "mediamtx",
        /// Files below directories that bear a date.
        Dated = "dated",
        /// Any file with a known extension; its stream is its directory.
        Plain = "plain",
        /// A template of the configuration.
        Template = "template",
    }
}

/// A layout, ready to read names.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    kind: LayoutKind,
    name: String,
    template: Option<Template>,
    /// Lower case, without the dot.
    extensions: Vec<String>,
    zone: TimeZone,
}

/// What a layout makes of a file's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// Finished, or under a name that is given to what is being written.
    pub kind: Kind,
    /// The stream.
    pub stream: String,
    /// The time in the name.
    pub named: Option<Timestamp>,
}

/// What a file's own name and its directories say, before the zone makes a moment of it.
struct Named<'a> {
    hidden: bool,
    stream: Vec<&'a [u8]>,
    date: Date,
    time: Time,
}

impl Layout {
    /// A layout by its word in the configuration, or by a template.
    ///
    /// # Errors
    /// Says in a sentence why `text` is neither.
    pub fn parse(text: &str, extensions: &[String], zone: TimeZone) -> Result<Self, String> {
        let (kind, template) = match LayoutKind::from_word(text) {
            Some(kind) if kind != LayoutKind::Template => (kind, None),
            _ if text.contains('{') || text.contains('%') => (LayoutKind::Template, Some(Template::new(text)?)),
            _ => {
                return Err(format!(
                    "`{text}` is no layout; use auto, zlmediakit, hls, frigate, mediamtx, dated, plain, or a template such as `{{stream}}/%Y-%m-%d/%H-%M-%S.mp4`"
                ));
            }
        };
        let extensions = extensions.iter().map(|e| e.to_ascii_lowercase()).collect();
        Ok(Self { kind, name: text.to_owned(), template, extensions, zone })
    }

    /// The same layout with another kind: what `auto` picked.
    #[must_use]
    pub fn with_kind(&self, kind: LayoutKind) -> Self {
        Self { kind, name: kind.as_str().to_owned(), ..self.clone() }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> LayoutKind {
        self.kind
    }

    /// As it is written in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it makes of a file of `size` bytes at `path`; `None` if it does not know it: such a file is never touched.
    #[must_use]
    pub fn recognise(&self, path: &RelPath, size: u64) -> Option<Recognised> {
        let parts: Vec<&[u8]> = path.components().collect();
        let (name, dirs) = parts.split_last()?;
        // Our own names, and NFS's for files that were deleted while open.
        if name.starts_with(b".storage-guard")
            || name.starts_with(b".nfs")
            || dirs.first() == Some(&&b".storage-guard"[..])
        {
            return None;
        }
        let (hidden, stream, named) = match self.kind {
            LayoutKind::Auto => return None,
            LayoutKind::Zlmediakit => self.place(zlmediakit(dirs, name)?, &self.zone)?,
            LayoutKind::Hls => self.place(hls(dirs, name)?, &self.zone)?,
            LayoutKind::Frigate => self.place(frigate(dirs, name)?, &TimeZone::UTC)?,
            LayoutKind::Mediamtx => self.place(mediamtx(dirs, name)?, &self.zone)?,
            LayoutKind::Dated => self.dated(dirs, name)?,
            LayoutKind::Plain => {
                self.known_extension(name)?;
                (false, join(dirs)?, None)
            }
            LayoutKind::Template => {
                let (stream, named) = self.template.as_ref()?.read(path.as_bytes(), &self.zone)?;
                (false, stream, named)
            }
        };
        if stream.is_empty() || stream.split('/').any(|part| part.starts_with('.') || part.is_empty()) {
            return None;
        }
        let kind = if hidden || size == 0 { Kind::Unfinished } else { Kind::Recording };
        Some(Recognised { kind, stream, named })
    }

    /// The date that a directory bears, so that those of today and yesterday are left standing.
    #[must_use]
    pub fn date_of(&self, dir: &RelPath) -> Option<Date> {
        let parts: Vec<&[u8]> = dir.components().collect();
        (1..=parts.len()).rev().find_map(|end| date_at(&parts[..end])).map(|(date, _)| date)
    }

    fn place(&self, named: Named<'_>, zone: &TimeZone) -> Option<(bool, String, Option<Timestamp>)> {
        let at = moment(zone, named.date.to_datetime(named.time))?;
        Some((named.hidden, join(&named.stream)?, Some(at)))
    }

    fn known_extension(&self, name: &[u8]) -> Option<()> {
        let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0)?;
        if name[0] == b'.' {
            return None;
        }
        let extension = std::str::from_utf8(&name[dot + 1..]).ok()?;
        self.extensions.iter().any(|known| known.eq_ignore_ascii_case(extension)).then_some(())
    }

    fn dated(&self, dirs: &[&[u8]], name: &[u8]) -> Option<(bool, String, Option<Timestamp>)> {
        self.known_extension(name)?;
        let (end, (date, width)) = (1..=dirs.len()).rev().find_map(|end| Some((end, date_at(&dirs[..end])?)))?;
        let stem = &name[..name.iter().rposition(|b| *b == b'.')?];
        let at = match time_in(stem, date) {
            Some(time) => moment(&self.zone, date.to_datetime(time))?,
            // Only the day is known: its end counts, so that nothing goes a day too early.
            None => moment(&self.zone, date.tomorrow().ok()?.to_datetime(Time::midnight()))?,
        };
        Some((false, join(&dirs[..end - width])?, Some(at)))
    }
}

/// Directories as a stream's name; UTF-8, no control characters.
fn join(dirs: &[&[u8]]) -> Option<String> {
    let text = String::from_utf8(dirs.join(&b'/')).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

fn unhide(name: &[u8]) -> (bool, &[u8]) {
    match name.strip_prefix(b".") {
        Some(rest) => (true, rest),
        None => (false, name),
    }
}

/// `APP/STREAM…/YYYY-MM-DD/YYYY-MM-DD-HH-MM-SS-N.mp4`, older servers `HH-MM-SS.mp4`; `record/` or `VHOST/record/` may stand
/// before it. While it is written the name begins with a dot.
fn zlmediakit<'a>(dirs: &'a [&'a [u8]], name: &'a [u8]) -> Option<Named<'a>> {
    let (day, above) = dirs.split_last()?;
    let date = dashed_date(day)?;
    let (hidden, name) = unhide(name);
    let stem = name.strip_suffix(b".mp4")?;
    let time = whole(stem, |r| {
        if let Some(rest) = r.0.strip_prefix(*day) {
            r.0 = rest;
            r.literal(b"-")?;
        }
        let time = r.time(b"-")?;
        if r.literal(b"-").is_some() {
            r.number()?;
        }
        Some(time)
    })?;
    let stream = match above {
        [first, rest @ ..] if *first == b"record" => rest.to_vec(),
        [vhost, second, rest @ ..] if *second == b"record" => [&[*vhost], rest].concat(),
        _ => above.to_vec(),
    };
    (stream.len() >= 2).then_some(Named { hidden, stream, date, time })
}

/// `APP/STREAM…/YYYY-MM-DD/HH/MM-SS_N.ts` (or `.mp4`, `.m4s`). Playlists and `init.mp4` are nobody's recording.
fn hls<'a>(dirs: &'a [&'a [u8]], name: &'a [u8]) -> Option<Named<'a>> {
    let [above @ .., day, hour] = dirs else { return None };
    let date = dashed_date(day)?;
    let hour = whole(hour, |r| r.digits(2))?;
    let stem = [&b".ts"[..], b".mp4", b".m4s"].into_iter().find_map(|end| name.strip_suffix(end))?;
    let (minute, second) = whole(stem, |r| {
        let minute = r.digits(2)?;
        r.literal(b"-")?;
        let second = r.digits(2)?;
        r.literal(b"_")?;
        r.number()?;
        Some((minute, second))
    })?;
    let time = civil_time(hour, minute, second)?;
    (above.len() >= 2).then_some(Named { hidden: false, stream: above.to_vec(), date, time })
}

/// `YYYY-MM-DD/HH/CAMERA/MM.SS.mp4`, in UTC.
fn frigate<'a>(dirs: &'a [&'a [u8]], name: &'a [u8]) -> Option<Named<'a>> {
    let [.., day, hour, _] = dirs else { return None };
    let stream = dirs[dirs.len() - 1..].to_vec();
    if dirs.len() > 4 {
        return None;
    }
    let date = dashed_date(day)?;
    let hour = whole(hour, |r| r.digits(2))?;
    let (minute, second) = whole(name.strip_suffix(b".mp4")?, |r| {
        let minute = r.digits(2)?;
        r.literal(b".")?;
        Some((minute, r.digits(2)?))
    })?;
    Some(Named { hidden: false, stream, date, time: civil_time(hour, minute, second)? })
}

/// `PATH…/YYYY-MM-DD_HH-MM-SS-MICROSECONDS.mp4` (or `.ts`).
fn mediamtx<'a>(dirs: &'a [&'a [u8]], name: &'a [u8]) -> Option<Named<'a>> {
    let stem = name.strip_suffix(b".mp4").or_else(|| name.strip_suffix(b".ts"))?;
    let (date, time) = whole(stem, |r| {
        let date = r.date(b"-")?;
        r.literal(b"_")?;
        let time = r.time(b"-")?;
        r.literal(b"-")?;
        r.number()?;
        Some((date, time))
    })?;
    Some(Named { hidden: false, stream: dirs.to_vec(), date, time })
}

/// The date that the last one or three of these directories bear, and how many they are.
fn date_at(dirs: &[&[u8]]) -> Option<(Date, usize)> {
    let last = dirs.last()?;
    if let Some(date) = dashed_date(last).or_else(|| whole(last, |r| r.date(b""))) {
        return Some((date, 1));
    }
    let [.., year, month, day] = dirs else { return None };
    let part = |text: &[u8], count| whole(text, |r: &mut Reader<'_>| r.digits(count));
    Some((civil_date(part(year, 4)?, part(month, 2)?, part(day, 2)?)?, 3))
}

/// The time of day in a name, with the day's date before it or without.
fn time_in(stem: &[u8], date: Date) -> Option<Time> {
    let dashed = date.to_string();
    let compact = dashed.replace('-', "");
    let mut rest = stem;
    for day in [dashed.as_bytes(), compact.as_bytes()] {
        if let Some(after) = rest.strip_prefix(day) {
            rest = after
                .strip_prefix(b"-")
                .or_else(|| after.strip_prefix(b"_"))
                .or_else(|| after.strip_prefix(b"T"))
                .unwrap_or(after);
            break;
        }
    }
    [&b"-"[..], b".", b"_", b":", b""].into_iter().find_map(|between| Reader(rest).time(between))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
