//! Why one recording goes, or stays.

use super::deletion::SparedReason;
use super::path::RelPath;
use super::plan::{Plan, newest_of_each, spared_because};
use super::units::{Bytes, show_duration};

impl SparedReason {
    /// Why it stays, as the rest of "it stays: …".
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Protected => {
                "a `protect` pattern of the configuration covers it, or the platform marks it as a favourite"
            }
            Self::Hold => "a person's hold covers it",
            Self::Young => "it is younger than the tree's `min_age`",
            Self::Open => "somebody has it open; its deletion is tried again",
            Self::Live => "it is or may be being written, or was left unfinished",
            Self::Newest => "it is the newest of a stream that is live or wrote within a day",
            Self::Keep => "its stream's `keep` covers it, and the volume is not critical",
            Self::Linked => "it has other names (hard links), so deleting it gives nothing back",
            Self::Unrecognised => "the tree's layout does not know its name",
            Self::Quarantined => "it is in quarantine",
            Self::Shared => "snapshots or reflink copies share its blocks, so deleting it gives nothing back",
            Self::ArchivePending => "it is not archived yet",
        }
    }
}

impl Plan {
    /// Why the recording at `path` goes or stays, for each tree that has one of that name; empty if none has.
    #[must_use]
    pub fn explain(&self, path: &RelPath) -> Vec<String> {
        let mut out = Vec::new();
        for (index, tree) in self.trees.iter().enumerate() {
            let at = |path: &RelPath| tree.inventory.files().find(|seen| tree.inventory.path(seen.index) == *path);
            let day = || tree.policy.layout.unit_of(path).and_then(|day| at(&day));
            let Some(seen) = at(path).or_else(day) else { continue };
            let day = seen.unit.then(|| tree.inventory.path(seen.index));
            let whole = day.map(|day| format!(", as all {} files of `{day}` do", seen.files)).unwrap_or_default();
            let name = &tree.policy.tree;
            let stream = tree.inventory.stream(seen.stream);
            let rule = tree.policy.rule_of(stream).map(|(_, rule)| rule);
            let keep = rule.map(|rule| rule.keep).filter(|keep| !keep.is_zero());
            let age = self.made.now.since(seen.recorded());
            let place = self.items.iter().position(|item| item.tree == index && item.file == seen.index);
            out.push(if let Some(at) = place {
                let reason = self.reason(&self.items[at]);
                format!("tree {name}: it goes now{whole}, as number {} of {}: {reason}", at + 1, self.items.len())
            } else if tree.gone.contains(seen.index) {
                format!("tree {name}: it has gone since the last scan{whole}")
            } else if tree.waiting.contains(&seen.index) {
                format!("tree {name}: it stays for now{whole}: its deletion failed or was refused; see `failures list` and `journal explain`")
            } else if let Some(reason) = spared_because(tree, &seen, &self.made) {
                format!("tree {name}: it stays{whole}: {}", reason.sentence())
            } else if newest_of_each(tree, &self.made)[seen.stream.0 as usize] == Some(seen.index) {
                format!("tree {name}: it stays{whole}: {}", SparedReason::Newest.sentence())
            } else if seen.bytes > Bytes::ZERO && tree.gives_back(&seen) == Bytes::ZERO {
                format!("tree {name}: it stays{whole}: {}", SparedReason::Shared.sentence())
            } else if keep.is_some_and(|keep| age < keep) {
                format!("tree {name}: it stays{whole}: {}", SparedReason::Keep.sentence())
            } else {
                let beyond = match keep {
                    Some(keep) => format!("beyond the {} that its stream keeps", show_duration(keep)),
                    None => "nothing keeps its stream".to_owned(),
                };
                format!(
                    "tree {name}: it stays for now{whole}: nothing asks for its space; it is {} old, and may go under pressure ({beyond})",
                    show_duration(age)
                )
            });
        }
        out
    }
}
