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

    /// What is wrong with the marker that was found, if this one is wanted; completes "the identity marker of tree `x` …".
    #[must_use]
    pub fn fault(&self, found: Option<&str>) -> Option<String> {
        let Some(text) = found else { return Some("is missing".to_owned()) };
        let Some(found) = Self::parse(text) else { return Some("cannot be read".to_owned()) };
        if found.state != self.state {
            return Some(format!("is that of another guard's state ({})", found.state));
        }
        if found.tree != self.tree {
            return Some(format!("is that of tree `{}`", found.tree));
        }
        if found.top != self.top {
            return Some("is that of another directory: was it copied here?".to_owned());
        }
        // A marker from a kernel that did not tell promised no more than the rest, and all of that is right.
        if found.filesystem.is_empty() || found.filesystem == self.filesystem {
            return None;
        }
        if self.filesystem.is_empty() {
            return Some(format!(
                "names filesystem {}, and the kernel does not tell which one this is",
                found.filesystem
            ));
        }
        Some("is that of another filesystem: was it copied here?".to_owned())
    }

    /// Whether the marker that was found is this one but for the filesystem's UUID, which was not known when it was written.
    #[must_use]
    pub fn completes(&self, found: &str) -> bool {
        let without = Self { filesystem: String::new(), ..self.clone() };
        !self.filesystem.is_empty() && Self::parse(found).is_some_and(|found| found == without)
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
            assert!(fault.unwrap_or_default().contains(expected.unwrap_or_default()));
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
            assert!(fault.unwrap_or_default().contains(expected.unwrap_or_default()));
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
