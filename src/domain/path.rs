//! Paths below a tree: bytes, never trusted, never absolute.

use std::fmt::Write as _;

/// Why a text is not a path below a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Nothing was given.
    #[error("is empty")]
    Empty,
    /// It starts with a slash.
    #[error("is absolute; give it relative to the tree")]
    Absolute,
    /// A component is empty, `.` or `..`.
    #[error("has a component that is empty, `.` or `..`")]
    Component,
    /// It holds a NUL byte.
    #[error("holds a NUL byte")]
    Nul,
    /// `%XX` was announced and is malformed.
    #[error("is not well encoded: `%` must be followed by two hexadecimal digits")]
    Encoding,
}

/// A path of a file or directory below a tree's top: one or more components, none empty, `.` or `..`, no NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// Takes `bytes` if they are such a path.
    ///
    /// # Errors
    /// Says what is wrong with it otherwise.
    pub fn new(bytes: &[u8]) -> Result<Self, BadPath> {
        if bytes.is_empty() {
            return Err(BadPath::Empty);
        }
        if bytes[0] == b'/' {
            return Err(BadPath::Absolute);
        }
        if bytes.contains(&0) {
            return Err(BadPath::Nul);
        }
        if bytes.split(|b| *b == b'/').any(|c| c.is_empty() || c == b"." || c == b"..") {
            return Err(BadPath::Component);
        }
        Ok(Self(bytes.into()))
    }

    /// Reads a path as it stands in a request: plain, or with `%XX` when `encoded`.
    ///
    /// # Errors
    /// As [`RelPath::new`], and when the encoding is malformed.
    pub fn parse(text: &str, encoded: bool) -> Result<Self, BadPath> {
        if !encoded {
            return Self::new(text.as_bytes());
        }
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                out.push(byte);
                continue;
            }
            let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else { return Err(BadPath::Encoding) };
            out.push(u8::try_from(high * 16 + low).map_err(|_| BadPath::Encoding)?);
        }
        Self::new(&out)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory it lies in (`None` at the tree's top) and its last component.
    #[must_use]
    pub fn split(&self) -> (Option<Self>, &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => (Some(Self(self.0[..at].into())), &self.0[at + 1..]),
            None => (None, &self.0),
        }
    }

    /// Its components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// A name in a folder (`None`: the top), wherever both come from.
    ///
    /// # Errors
    /// If together they are no path.
    pub fn within(dir: Option<&Self>, name: &[u8]) -> Result<Self, BadPath> {
        match dir {
            Some(dir) => Self::new(&[dir.as_bytes(), b"/", name].concat()),
            None => Self::new(name),
        }
    }

    /// Whether it lies in a directory, at any depth.
    #[must_use]
    pub fn lies_in(&self, dir: &Self) -> bool {
        self.0.strip_prefix(&*dir.0).is_some_and(|rest| rest.first() == Some(&b'/'))
    }

    /// This path with one more component.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut out = Vec::with_capacity(self.0.len() + 1 + name.len());
        out.extend_from_slice(&self.0);
        out.push(b'/');
        out.extend_from_slice(name);
        Self(out.into())
    }

    /// How it is shown and sent: as it is, or, if it is not UTF-8 or holds control characters, with such bytes and `%`
    /// written `%XX`, and `true`.
    #[must_use]
    pub fn show(&self) -> (String, bool) {
        show_bytes(&self.0)
    }
}

/// [`RelPath::show`] for any bytes: a single name, or an absolute path.
#[must_use]
pub fn show_bytes(bytes: &[u8]) -> (String, bool) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(char::is_control)
    {
        return (text.to_owned(), false);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '%' {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
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
    (out, true)
}

impl std::fmt::Display for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().0)
    }
}

impl std::fmt::Debug for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_a_tree_pass() {
        for (text, expected) in [
            ("a/b.mp4", None),
            ("-rf", None),
            ("a b/*", None),
            ("", Some(BadPath::Empty)),
            ("/etc/passwd", Some(BadPath::Absolute)),
            ("a/../b", Some(BadPath::Component)),
            ("./a", Some(BadPath::Component)),
            ("a//b", Some(BadPath::Component)),
            ("a/", Some(BadPath::Component)),
            ("a\0b", Some(BadPath::Nul)),
        ] {
            assert_eq!(RelPath::parse(text, false).err(), expected, "{text:?}");
        }
        assert_eq!(RelPath::parse("%2e%2e/x", true).err(), Some(BadPath::Component));
        assert_eq!(RelPath::parse("%2", true).err(), Some(BadPath::Encoding));
    }

    #[test]
    fn any_name_survives_being_shown_and_parsed() {
        for bytes in [&b"plain.mp4"[..], b"new\nline", b"50%.mp4", b"\xff\xfe.mp4", "\u{202e}x".as_bytes(), b"50%\n"] {
            let path = RelPath::new(bytes).unwrap();
            let (text, encoded) = path.show();
            assert!(!text.chars().any(char::is_control));
            assert_eq!(RelPath::parse(&text, encoded).unwrap(), path);
        }
    }
}
