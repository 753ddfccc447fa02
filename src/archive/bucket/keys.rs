//! Which key of the bucket a copy has, and which copy a key belongs to.

use std::fmt::Write as _;

use object_store::path::Path;

use crate::domain::path::RelPath;

/// More bytes no key of S3 may have.
const LONGEST: usize = 1024;

/// The keys of an archive: a prefix, and below it one for each path.
#[derive(Debug)]
pub(super) struct Keys {
    /// What all of them begin with, the slash included; empty without a prefix.
    start: String,
}

impl Keys {
    /// Those below a prefix.
    pub(super) fn below(prefix: Option<&str>) -> Result<Self, String> {
        let Some(prefix) = prefix else { return Ok(Self { start: String::new() }) };
        let same = Path::parse(prefix).is_ok_and(|path| !prefix.is_empty() && path.as_ref() == prefix);
        if !same || prefix.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!(
                "`{prefix}` is no prefix: it has an empty part, `.`, `..`, white space or a slash at an end"
            ));
        }
        Ok(Self { start: format!("{prefix}/") })
    }

    /// Whether there is a prefix, below which nobody else keeps anything.
    pub(super) fn own(&self) -> bool {
        !self.start.is_empty()
    }

    /// The key of a path.
    pub(super) fn of(&self, path: &RelPath) -> Result<Path, String> {
        let key = format!("{}{}", self.start, encoded(path));
        if key.len() > LONGEST {
            return Err(format!("its key would have {} bytes, and no key may have more than {LONGEST}", key.len()));
        }
        Path::parse(&key).map_err(|error| error.to_string())
    }

    /// What all keys below a path begin with, or all keys.
    pub(super) fn under(&self, path: Option<&RelPath>) -> String {
        path.map_or_else(|| self.start.clone(), |path| format!("{}{}/", self.start, encoded(path)))
    }

    /// The path whose key this is; `None` if it is no key of ours.
    pub(super) fn path(&self, key: &str) -> Option<RelPath> {
        let rest = key.strip_prefix(&self.start)?;
        let path = RelPath::parse(rest, true).ok()?;
        // A path has one key: whoever writes it otherwise is somebody else.
        (encoded(&path) == rest).then_some(path)
    }
}

/// A path as it stands in a key: `%`, white space, and what is no text in XML, byte by byte as `%XX`.
fn encoded(path: &RelPath) -> String {
    let mut out = String::with_capacity(path.as_bytes().len() + 8);
    for chunk in path.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() || c.is_whitespace() || matches!(c, '\u{FFFE}' | '\u{FFFF}') {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "%{byte:02X}");
                }
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_is_whole_components() {
        for (prefix, fine) in [
            ("a", true),
            ("a/b", true),
            ("50%", true),
            ("", false),
            ("/a", false),
            ("a/", false),
            ("a//b", false),
            ("a/../b", false),
            (" a", false),
            ("a\nb", false),
        ] {
            assert_eq!(Keys::below(Some(prefix)).is_ok(), fine, "{prefix:?}");
        }
    }

    #[test]
    fn a_key_is_readable_where_it_can_be() {
        let keys = Keys::below(Some("guard/cam-07")).unwrap();
        for (path, expected) in [
            (&b"live/cam/2026-11-20/a.mp4"[..], "guard/cam-07/live/cam/2026-11-20/a.mp4"),
            ("live/门口/a.mp4".as_bytes(), "guard/cam-07/live/门口/a.mp4"),
            (b"live/50%41/a b.mp4", "guard/cam-07/live/50%2541/a%20b.mp4"),
            (b"live/\xff\n.mp4", "guard/cam-07/live/%FF%0A.mp4"),
        ] {
            assert_eq!(keys.of(&RelPath::new(path).unwrap()).unwrap().as_ref(), expected);
        }
        assert!(keys.of(&RelPath::new(&[b'a'; 1020]).unwrap()).unwrap_err().contains("1033 bytes"));
    }

    #[test]
    fn what_is_no_key_of_ours_belongs_to_nobody() {
        let keys = Keys::below(Some("p")).unwrap();
        for key in ["", "p", "p/", "q/a", "pa/a", "p/a//b", "p/../a", "p/a b", "p/%41", "p/%2", "p/%zz", "p/%0a"] {
            assert_eq!(keys.path(key), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn every_path_has_a_key_of_its_own(
            parts in prop::collection::vec(prop::collection::vec(1_u8..=255, 1..12), 1..5),
            prefix in prop::option::of("[a-z%]{1,3}(/[a-z]{1,3})?"),
        ) {
            let keys = Keys::below(prefix.as_deref()).unwrap();
            if let Ok(path) = RelPath::new(&parts.join(&b'/')) {
                let key = keys.of(&path).unwrap();
                prop_assert_eq!(keys.path(key.as_ref()), Some(path));
            }
        }
    }
}
