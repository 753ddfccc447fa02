//! What can be said of a tree at this moment, and why an orphan that was proven before may not go now.

use super::inspect::is_told_of;
use crate::catalogue::Known;
use crate::domain::names::{CatalogueId, TreeId};
use crate::domain::orphan::{Orphan, OrphanKind, Playable};
use crate::domain::path::RelPath;
use crate::domain::remedy::RemedyKind;
use crate::domain::units::Timestamp;

/// What can be said of a tree at this moment.
pub(super) struct Now {
    pub(super) known: Result<Vec<Known>, CatalogueId>,
    /// Streams of which something was told that no index holds yet.
    pub(super) undrained: Vec<String>,
    pub(super) clock_trusted: bool,
    /// It was compared with its catalogues by this process.
    pub(super) compared: bool,
    /// What was changed later may be a slice that somebody still finishes: such is reported, and not deleted.
    pub(super) finished: Timestamp,
}

impl Now {
    /// Why a recording is no orphan at this moment, whatever was found before.
    pub(super) fn catalogued(&self, tree: &TreeId, path: &RelPath, stream: &str) -> Option<String> {
        match &self.known {
            Err(name) => Some(format!("catalogue `{name}` is not trusted now")),
            Ok(known) if !known.iter().any(|one| one.kind.proves_absence()) => {
                Some("none of its catalogues can prove that it should not be there".to_owned())
            }
            Ok(_) if is_told_of(&self.undrained, stream) => {
                Some("hook records of its stream wait to be read".to_owned())
            }
            Ok(known) => known.iter().find_map(|one| match one.index.rows_of(tree, path) {
                Ok(rows) if rows.is_empty() => None,
                Ok(_) => Some(format!("catalogue `{}` knows it now", one.name)),
                Err(error) => Some(format!("catalogue `{}` cannot be asked: {error}", one.name)),
            }),
        }
    }
}

/// Why an orphan may not go at this moment, if so.
pub(super) fn hindered(orphan: &Orphan, kind: RemedyKind, now: &Now) -> Option<String> {
    if let Some(why) = orphan.verdict.why_not() {
        return Some(why);
    }
    if !now.clock_trusted {
        return Some("the clock is not trusted".to_owned());
    }
    match orphan.kind {
        OrphanKind::Leftover => match (kind, orphan.playable) {
            (RemedyKind::Delete, Playable::Yes) => Some("it can be played: it is reported only".to_owned()),
            (RemedyKind::Delete, Playable::Unknown) => {
                Some("whether it can be played is not known: it is reported only".to_owned())
            }
            (RemedyKind::Delete, Playable::No) if orphan.touched > now.finished => Some(
                "it is not older than the longest slice known and ten minutes: until then it is reported only"
                    .to_owned(),
            ),
            (RemedyKind::Delete, Playable::No)
            | (RemedyKind::Adopt | RemedyKind::Quarantine | RemedyKind::Restore | RemedyKind::RemoveRows, _) => None,
        },
        OrphanKind::Uncatalogued if !now.compared => {
            Some("its tree was not compared since the guard was started".to_owned())
        }
        OrphanKind::Uncatalogued => now.catalogued(&orphan.tree, &orphan.path, &orphan.stream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::orphan::{Verdict, Witness};
    use crate::domain::units::Bytes;

    /// Known as a leftover within the grace, and deleted only once no recorder that nobody configured can have it any more.
    #[test]
    fn a_leftover_is_deleted_only_once_the_longest_slice_is_over() {
        let now = Now {
            known: Ok(Vec::new()),
            undrained: Vec::new(),
            clock_trusted: true,
            compared: true,
            finished: Timestamp::from_secs(1000),
        };
        let leftover = |secs| Orphan {
            tree: TreeId::new("live"),
            path: RelPath::new(b"live/a/.b.mp4").unwrap(),
            stream: "live/a".to_owned(),
            kind: OrphanKind::Leftover,
            bytes: Bytes::MIB,
            inode: 1,
            fingerprint: 2,
            touched: Timestamp::from_secs(secs),
            first_seen: Timestamp::from_secs(secs),
            verdict: Verdict { witnesses: vec![Witness::Age], wanted: Vec::new() },
            playable: Playable::No,
        };
        for (touched, kind, goes) in [
            (1000, RemedyKind::Delete, true),
            (1001, RemedyKind::Delete, false),
            (1001, RemedyKind::Quarantine, true),
            (1001, RemedyKind::Adopt, true),
        ] {
            assert_eq!(hindered(&leftover(touched), kind, &now).is_none(), goes, "{touched} {kind:?}");
        }
    }
}
