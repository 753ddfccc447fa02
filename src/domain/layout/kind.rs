//! Which layouts there are, and what each makes of a path.

use jiff::tz::TimeZone;

use crate::domain::deletion::words;
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
    /// The template's text; empty for the others.
    template: String,
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

impl Layout {
    /// Stand-in until the grammars arrive.
    pub fn parse(text: &str, extensions: &[String], zone: TimeZone) -> Result<Self, String> {
        let kind = LayoutKind::from_word(text).ok_or("unknown layout")?;
        Ok(Self { kind, template: String::new(), extensions: extensions.to_vec(), zone })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> LayoutKind {
        self.kind
    }
}
