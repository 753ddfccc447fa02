//! What no rule may delete: globs of the configuration, and holds of persons.

use globset::{GlobBuilder, GlobMatcher};

use super::names::{StreamId, TreeId};
use super::path::RelPath;
use super::units::Timestamp;

/// A glob over paths or stream names: `*` stays within a component, `**` crosses them. Bytes, not letters.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// Says what is wrong with the pattern.
    pub fn new(text: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| error.kind().to_string())?;
        Ok(Self { text: text.to_owned(), matcher: glob.compile_matcher() })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches a path below the tree.
    #[must_use]
    pub fn matches_path(&self, path: &RelPath) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        self.matcher.is_match(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// Whether it matches a stream's name.
    #[must_use]
    pub fn matches_stream(&self, stream: &StreamId) -> bool {
        self.matcher.is_match(stream.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A person's protection of recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub id: u64,
    /// Of recordings of this tree.
    pub tree: TreeId,
    /// What it covers.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub who: String,
    /// When it was made.
    pub made: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// What a hold covers, or a person wants back from an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldScope {
    /// These files.
    Paths(Vec<RelPath>),
    /// Recordings of a stream within a span of time.
    Span {
        /// The stream.
        stream: StreamId,
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        to: Timestamp,
    },
}

/// Name of the extended attribute that keeps a hold with its file.
pub const HOLD_ATTRIBUTE: &str = "user.storage_guard.hold";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_component() {
        for (pattern, path, expected) in [
            ("live/vip-*/**", "live/vip-1/2026-01-01/a.mp4", true),
            ("live/vip-*/**", "live/vip/2026-01-01/a.mp4", false),
            ("live/*", "live/cam/a.mp4", false),
            ("**/*.mp4", "a/b/c.mp4", true),
        ] {
            let matched = Pattern::new(pattern).unwrap().matches_path(&RelPath::new(path.as_bytes()).unwrap());
            assert_eq!(matched, expected, "{pattern} {path}");
        }
        assert!(Pattern::new("live/[").is_err());
    }
}
