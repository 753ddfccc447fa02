//! Which layouts there are, and what each makes of a path.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::folder::Folder;
use super::names::{date_at, frigate_day};
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
    pub(super) kind: LayoutKind,
    name: String,
    pub(super) template: Option<Template>,
    /// Lower case, without the dot.
    extensions: Vec<String>,
    pub(super) zone: TimeZone,
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

    /// Where the clock shows the times in its names.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What the meaning of its names depends on: itself, and where its times are.
    #[must_use]
    pub fn reading(&self) -> String {
        format!("{} at {}", self.name, self.zone.iana_name().unwrap_or("a fixed time"))
    }

    /// One directory as this layout sees it (`None`: the tree's top). A scan asks once for each directory.
    #[must_use]
    pub fn folder(&self, dir: Option<&RelPath>) -> Folder<'_> {
        Folder::new(self, dir)
    }

    /// What it makes of a file of `size` bytes at `path`; `None` if it does not know it: such a file is never touched.
    #[must_use]
    pub fn recognise(&self, path: &RelPath, size: u64) -> Option<Recognised> {
        let (dir, name) = path.split();
        let mut folder = self.folder(dir.as_ref());
        let found = folder.read(name, size)?;
        Some(Recognised { kind: found.kind, stream: found.stream.to_owned(), named: found.named })
    }

    /// The date that a directory bears, so that those of today and yesterday are left standing.
    #[must_use]
    pub fn date_of(&self, dir: &RelPath) -> Option<Date> {
        let parts: Vec<&[u8]> = dir.components().collect();
        let usual = (1..=parts.len())
            .rev()
            .find_map(|end| date_at(&parts[..end]).map(|(date, _)| date).or_else(|| frigate_day(&parts[..end])));
        usual.or_else(|| self.template.as_ref()?.date_of(dir.as_bytes()))
    }

    pub(super) fn known_extension(&self, name: &[u8]) -> Option<()> {
        let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0)?;
        if name[0] == b'.' {
            return None;
        }
        let extension = std::str::from_utf8(&name[dot + 1..]).ok()?;
        self.extensions.iter().any(|known| known.eq_ignore_ascii_case(extension)).then_some(())
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
