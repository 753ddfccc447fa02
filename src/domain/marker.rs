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
        if found.filesystem != self.filesystem || found.top != self.top {
            return Some("is that of another filesystem or directory: was it copied here?".to_owned());
        }
        None
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
        check(Some(&Marker { top: 3, ..own.clone() }), Some("another filesystem or directory"));
        assert!(own.fault(Some("nonsense")).is_some());
    }
}
