//! The identity marker of a tree: what tells it from a mount point without its disk, and from another guard's tree.

use super::names::TreeId;

/// What a tree's private folder says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Name of the tree.
    pub tree: TreeId,
    /// Id of the state that guards it.
    pub state: String,
    /// UUID of its filesystem; empty where the kernel does not tell.
    pub filesystem: String,
    /// Inode of its top.
    pub top: u64,
}

impl Marker {
    /// The text of the marker's file.
    #[must_use]
    pub fn show(&self) -> String {
        format!(
            "storage-guard 1\ntree {}\nstate {}\nfilesystem {}\ntop {}\n",
            self.tree, self.state, self.filesystem, self.top
        )
    }

    /// Reads the text of a marker's file; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        (lines.next()? == "storage-guard 1").then_some(())?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        let (tree, state) = (field("tree")?, field("state")?);
        let (filesystem, top) = (field("filesystem")?, field("top")?.parse().ok()?);
        Some(Self { tree: TreeId::new(&tree), state, filesystem, top })
    }

    /// What is wrong with the marker that was found, if this one is wanted.
    #[must_use]
    pub fn fault(&self, found: Option<&str>) -> Option<MarkerFault> {
        let Some(text) = found else { return Some(MarkerFault::Missing) };
        let Some(found) = Self::parse(text) else { return Some(MarkerFault::Garbled) };
        if found.state != self.state {
            return Some(MarkerFault::OtherState(found.state));
        }
        if found.tree != self.tree {
            return Some(MarkerFault::OtherTree(found.tree.to_string()));
        }
        if found.top != self.top {
            return Some(MarkerFault::OtherDirectory);
        }
        // A marker from a kernel that did not tell promised no more than the rest, and all of that is right.
        if found.filesystem.is_empty() || found.filesystem == self.filesystem {
            return None;
        }
        if self.filesystem.is_empty() {
            return Some(MarkerFault::Incomparable(found.filesystem));
        }
        Some(MarkerFault::OtherFilesystem)
    }

    /// Whether the marker that was found is this one but for the filesystem's UUID, which was not known when it was written.
    #[must_use]
    pub fn completes(&self, found: &str) -> bool {
        let without = Self { filesystem: String::new(), ..self.clone() };
        !self.filesystem.is_empty() && Self::parse(found).is_some_and(|found| found == without)
    }
}

/// What is wrong with a marker; completes "the identity marker of tree `x` …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkerFault {
    /// There is none.
    #[error("is missing")]
    Missing,
    /// There is none yet, and the root filesystem is where a tree's disk would be missed.
    #[error("is missing, and the tree lies on the root filesystem, where an unmounted disk looks the same")]
    OnRoot,
    /// There is none yet, and nothing shows that this is the right disk.
    #[error("is missing, and the tree holds no recording of its layout yet: is the right disk mounted?")]
    Empty,
    /// The system does not let it be read.
    #[error("cannot be read ({0})")]
    Unreadable(String),
    /// There is none, and the system does not let it be written.
    #[error("cannot be written ({0})")]
    Unwritable(String),
    /// What can be read is no marker.
    #[error("cannot be read")]
    Garbled,
    /// Another guard wrote it.
    #[error("is that of another guard's state ({0})")]
    OtherState(String),
    /// It is another tree's.
    #[error("is that of tree `{0}`")]
    OtherTree(String),
    /// It was copied.
    #[error("is that of another directory: was it copied here?")]
    OtherDirectory,
    /// It was copied.
    #[error("is that of another filesystem: was it copied here?")]
    OtherFilesystem,
    /// The kernel does not tell the filesystem's UUID, so that nobody can compare.
    #[error("names filesystem {0}, and the kernel does not tell which one this is")]
    Incomparable(String),
}

impl MarkerFault {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::OnRoot => "on_root",
            Self::Empty => "empty",
            Self::Unreadable(_) => "unreadable",
            Self::Unwritable(_) => "unwritable",
            Self::Garbled => "garbled",
            Self::OtherState(_) => "other_state",
            Self::OtherTree(_) => "other_tree",
            Self::OtherDirectory => "other_directory",
            Self::OtherFilesystem => "other_filesystem",
            Self::Incomparable(_) => "incomparable",
        }
    }

    /// What was found, or what the system said.
    #[must_use]
    pub fn found(&self) -> Option<&str> {
        match self {
            Self::Unreadable(found)
            | Self::Unwritable(found)
            | Self::OtherState(found)
            | Self::OtherTree(found)
            | Self::Incomparable(found) => Some(found),
            Self::Missing
            | Self::OnRoot
            | Self::Empty
            | Self::Garbled
            | Self::OtherDirectory
            | Self::OtherFilesystem => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_and_says_what_is_wrong_with_another() {
        let own = Marker { tree: TreeId::new("a b"), state: "s1".to_owned(), filesystem: String::new(), top: 2 };
        assert_eq!(Marker::parse(&own.show()).as_ref(), Some(&own));
        let check = |found: Option<&Marker>, expected: Option<&str>| {
            let text = found.map(Marker::show);
            let fault = own.fault(text.as_deref());
            assert_eq!(fault.is_none(), expected.is_none(), "{fault:?}");
            let fault = fault.map(|fault| fault.to_string()).unwrap_or_default();
            assert!(fault.contains(expected.unwrap_or_default()), "{fault}");
        };
        check(Some(&own), None);
        check(None, Some("missing"));
        check(Some(&Marker { state: "s2".to_owned(), ..own.clone() }), Some("another guard's state"));
        check(Some(&Marker { tree: TreeId::new("x"), ..own.clone() }), Some("tree `x`"));
        check(Some(&Marker { top: 3, ..own.clone() }), Some("another directory"));
        assert!(own.fault(Some("nonsense")).is_some());
    }

    #[test]
    fn without_a_uuid_it_is_accepted_and_completed_but_one_that_cannot_be_compared_is_not() {
        let bare = Marker { tree: TreeId::new("a"), state: "s1".to_owned(), filesystem: String::new(), top: 2 };
        let check = |wanted: &str, found: &Marker, expected: Option<&str>, completes: bool| {
            let wanted = Marker { filesystem: wanted.to_owned(), ..bare.clone() };
            let fault = wanted.fault(Some(&found.show()));
            assert_eq!(fault.is_none(), expected.is_none(), "{fault:?}");
            let fault = fault.map(|fault| fault.to_string()).unwrap_or_default();
            assert!(fault.contains(expected.unwrap_or_default()), "{fault}");
            assert_eq!(wanted.completes(&found.show()), completes);
        };
        let on = |uuid: &str| Marker { filesystem: uuid.to_owned(), ..bare.clone() };
        check("", &bare, None, false);
        check("0a", &bare, None, true);
        check("0a", &on("0a"), None, false);
        check("0a", &on("0b"), Some("another filesystem"), false);
        check("", &on("0a"), Some("the kernel does not tell"), false);
        check("0a", &Marker { top: 3, ..bare.clone() }, Some("another directory"), false);
        check("0a", &Marker { state: "s2".to_owned(), ..bare.clone() }, Some("another guard's state"), false);
        check("0a", &Marker { tree: TreeId::new("b"), ..bare.clone() }, Some("tree `b`"), false);
    }
}
