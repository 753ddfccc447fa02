//! Days of HLS: what a stream recorded in one day is one recording, a directory, and goes as one
//! (`docs/decisions/0011-directory-units.md`).

use super::civil::dashed_date;
use super::folder::join;
use super::kind::{Layout, LayoutKind};
use super::names::hour;
use crate::domain::path::RelPath;

/// What lies beside the segments and speaks of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Companion {
    /// It names segments: it goes before them, so that no player finds a list of what is gone.
    Playlist,
    /// What fMP4 segments begin with: it goes after them, so that what stays can be played.
    Init,
}

impl Companion {
    /// What a name in a day's directory, or in an hour's, is.
    #[must_use]
    pub fn of_day(name: &[u8]) -> Option<Self> {
        match name {
            b"init.mp4" => Some(Self::Init),
            [b'.', ..] => None,
            name => name.ends_with(b".m3u8").then_some(Self::Playlist),
        }
    }

    /// What a name in a stream's own directory is: those that ZLMediaKit gives, and no other.
    #[must_use]
    pub fn of_stream(name: &[u8]) -> Option<Self> {
        match name {
            b"init.mp4" => Some(Self::Init),
            b"hls.m3u8" | b"hls_delay.m3u8" | b"hls.fmp4.m3u8" | b"hls.fmp4_delay.m3u8" => Some(Self::Playlist),
            _ => None,
        }
    }
}

impl Layout {
    /// Its recordings are directories: days of segments.
    #[must_use]
    pub fn has_units(&self) -> bool {
        match self.kind {
            LayoutKind::Hls => true,
            LayoutKind::Auto
            | LayoutKind::Zlmediakit
            | LayoutKind::Frigate
            | LayoutKind::Mediamtx
            | LayoutKind::Dated
            | LayoutKind::Plain
            | LayoutKind::Template => false,
            LayoutKind::Archive => self.shelves.iter().any(|(_, layout)| layout.has_units()),
        }
    }

    /// Whether a directory is a recording as a whole: `APP/STREAM…/YYYY-MM-DD`.
    #[must_use]
    pub fn is_unit(&self, dir: &RelPath) -> bool {
        if let Some((_, layout, rest)) = self.shelf(dir) {
            return rest.is_some_and(|rest| layout.is_unit(&rest));
        }
        self.has_units() && is_day(&dir.components().collect::<Vec<_>>())
    }

    /// The stream of a recording, whether it is a file or a directory.
    #[must_use]
    pub fn stream_of(&self, path: &RelPath) -> Option<String> {
        self.stream_of_unit(path).or_else(|| self.recognise(path, 1).map(|found| found.stream))
    }

    /// The stream of a directory that is a recording as a whole.
    #[must_use]
    pub fn stream_of_unit(&self, dir: &RelPath) -> Option<String> {
        if !self.is_unit(dir) {
            return None;
        }
        if let Some((_, layout, rest)) = self.shelf(dir) {
            return layout.stream_of_unit(&rest?);
        }
        let parts: Vec<&[u8]> = dir.components().collect();
        join(&parts[..parts.len() - 1])
    }

    /// The directory that is one recording, and that `path` is, or lies in: a segment of it, its hour, or what speaks of it.
    #[must_use]
    pub fn unit_of(&self, path: &RelPath) -> Option<RelPath> {
        if !self.has_units() {
            return None;
        }
        if let Some((name, layout, rest)) = self.shelf(path) {
            let unit = layout.unit_of(&rest?)?;
            return RelPath::new(&[name.as_bytes(), b"/", unit.as_bytes()].concat()).ok();
        }
        let parts: Vec<&[u8]> = path.components().collect();
        let count = parts.len();
        // As segments are read: the day is the last directory above the hour.
        let end = if count >= 2 && is_day(&parts[..count - 2]) && hour(parts[count - 2]).is_some() {
            count - 2
        } else if is_day(&parts) {
            count
        } else if is_day(&parts[..count - 1]) {
            count - 1
        } else {
            return None;
        };
        RelPath::new(&parts[..end].join(&b'/')).ok()
    }
}

/// A directory in a day's that holds segments.
#[must_use]
pub fn is_hour(name: &[u8]) -> bool {
    hour(name).is_some()
}

fn is_day(parts: &[&[u8]]) -> bool {
    let Some((day, above)) = parts.split_last() else { return false };
    above.len() >= 2 && dashed_date(day).is_some() && join(above).is_some()
}
