//! Why a remedy is not begun: decided from what is known of its tree, before anything is put into a queue. Whoever carries it out looks
//! at everything again.

use super::names::{CatalogueId, TreeId};
use super::orphan::{Orphan, OrphanKind, Playable};
use super::remedy::RemedyKind;
use super::retention::Mode;
use super::units::Bytes;

/// How a catalogue of a tree stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessing {
    /// Its name.
    pub name: CatalogueId,
    /// Why it is not believed, as a clause; `None` if it is.
    pub distrust: Option<String>,
    /// What it does not know should not exist.
    pub proves_absence: bool,
    /// Its rows can be inserted and removed.
    pub writable: bool,
}

/// What is known of a tree when something is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The tree.
    pub tree: TreeId,
    /// Whether it may be changed.
    pub mode: Mode,
    /// Its catalogues.
    pub catalogues: Vec<Witnessing>,
    /// `orphan_share` has tripped and waits for a person: bytes that were wanted, and bytes that it allows.
    pub tripped: Option<(Bytes, Bytes)>,
}

/// Why a remedy is not begun: object, reason, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// The tree is only observed.
    #[error("the mode is observe: nothing is changed in tree `{0}`; set `mode: enforce` to let the guard act")]
    Observed(TreeId),
    /// Leftovers can be deleted, and nothing else.
    #[error("a leftover is unfinished or empty, so there is nothing to {0}; `delete` it, or leave it where it is")]
    Leftover(RemedyKind),
    /// Nobody says what should exist.
    #[error(
        "tree `{0}` names no catalogue, so nothing says which of its recordings should exist; see `catalogue` in docs/config.md"
    )]
    NoCatalogue(TreeId),
    /// A catalogue is not believed.
    #[error(
        "catalogue `{catalogue}` of tree `{tree}` is not trusted, because {why}; until it is, nothing is done by what it says (`storage-guard catalogue list`)"
    )]
    Untrusted {
        /// The tree.
        tree: TreeId,
        /// The catalogue.
        catalogue: CatalogueId,
        /// Why, as a clause.
        why: String,
    },
    /// No catalogue of the tree can prove that a recording should not exist.
    #[error(
        "the catalogues of tree `{0}` prove presence only, so none of its recordings is proven to be an orphan; to act on them, name a catalogue that knows all recordings"
    )]
    PresenceOnly(TreeId),
    /// No catalogue of the tree can be written.
    #[error(
        "the catalogues of tree `{0}` are only read, so no row is inserted or removed; a catalogue of `kind: wvp` can be written"
    )]
    ReadOnly(TreeId),
    /// A cap waits for a person.
    #[error(
        "the cap orphan_share of tree `{tree}` has tripped: it allows {allowed} of the {wanted} that were to go; if they may: `storage-guard cap acknowledge {tree} orphan_share`"
    )]
    Capped {
        /// The tree.
        tree: TreeId,
        /// Bytes that were wanted.
        wanted: Bytes,
        /// Bytes that it allows.
        allowed: Bytes,
    },
    /// What is named is not proven to be an orphan.
    #[error("not proven to be orphans, so they stay: {0}")]
    Unproven(String),
    /// What is named can be played.
    #[error("leftovers that can be played are reported and never deleted: {0}")]
    Playable(String),
    /// So many rows without a file that the files, not the rows, are in the wrong place.
    #[error(
        "{missing} of the {rows} recordings that the catalogues list in tree `{tree}` have no file: that looks like a wrong `path_map` or an unmounted disk; remove rows by naming them if it is right"
    )]
    Suspicious {
        /// The tree.
        tree: TreeId,
        /// Rows without a file.
        missing: u64,
        /// What the catalogues list.
        rows: u64,
    },
}

impl Objection {
    /// A word that programs can rely on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Observed(_) => "observe",
            Self::Leftover(_) => "bad_kind",
            Self::NoCatalogue(_) => "no_catalogue",
            Self::Untrusted { .. } => "untrusted",
            Self::PresenceOnly(_) | Self::Unproven(_) => "unproven",
            Self::ReadOnly(_) => "read_only_catalogue",
            Self::Capped { .. } => "cap",
            Self::Playable(_) => "playable",
            Self::Suspicious { .. } => "suspicious",
        }
    }
}

impl Standing {
    /// What speaks against a remedy as such, whatever it is about. A rehearsal changes nothing, so it may be made where the tree is only
    /// observed.
    #[must_use]
    pub fn objection(&self, kind: RemedyKind, orphans: OrphanKind, rehearsal: bool) -> Option<Objection> {
        if self.mode != Mode::Enforce && !rehearsal {
            return Some(Objection::Observed(self.tree.clone()));
        }
        match (kind, orphans) {
            // What was set aside is put back whatever anybody knows of it.
            (RemedyKind::Restore, _) => None,
            (RemedyKind::Adopt | RemedyKind::Quarantine, OrphanKind::Leftover) => Some(Objection::Leftover(kind)),
            (RemedyKind::Delete, OrphanKind::Leftover) => self.capped(),
            (RemedyKind::Delete | RemedyKind::Quarantine, OrphanKind::Uncatalogued) => {
                self.disbelieved().or_else(|| self.presence_only()).or_else(|| self.capped())
            }
            (RemedyKind::Adopt, OrphanKind::Uncatalogued) => {
                self.disbelieved().or_else(|| self.presence_only()).or_else(|| self.read_only())
            }
            (RemedyKind::RemoveRows, _) => self.disbelieved().or_else(|| self.read_only()),
        }
    }

    /// Its catalogues, all believed, or why not.
    fn disbelieved(&self) -> Option<Objection> {
        if self.catalogues.is_empty() {
            return Some(Objection::NoCatalogue(self.tree.clone()));
        }
        let found = self.catalogues.iter().find_map(|one| Some((one.name.clone(), one.distrust.clone()?)));
        found.map(|(catalogue, why)| Objection::Untrusted { tree: self.tree.clone(), catalogue, why })
    }

    fn presence_only(&self) -> Option<Objection> {
        let proves = self.catalogues.iter().any(|one| one.proves_absence);
        (!proves).then(|| Objection::PresenceOnly(self.tree.clone()))
    }

    fn read_only(&self) -> Option<Objection> {
        let writable = self.catalogues.iter().any(|one| one.writable);
        (!writable).then(|| Objection::ReadOnly(self.tree.clone()))
    }

    fn capped(&self) -> Option<Objection> {
        self.tripped.map(|(wanted, allowed)| Objection::Capped { tree: self.tree.clone(), wanted, allowed })
    }

    /// All rows without a file are to go: not where they are more than half of what the catalogues list.
    #[must_use]
    pub fn too_many_missing(&self, missing: u64, rows: u64) -> Option<Objection> {
        let tree = self.tree.clone();
        (missing > rows / 2).then_some(Objection::Suspicious { tree, missing, rows })
    }
}

/// What speaks against doing something with these orphans: each that is not proven, and each leftover that can be played, is named.
#[must_use]
pub fn unfit(orphans: &[Orphan]) -> Option<Objection> {
    let unproven = orphans.iter().filter(|orphan| !orphan.verdict.proven()).map(|orphan| {
        let wanted: Vec<&str> = orphan.verdict.wanted.iter().map(|witness| witness.as_str()).collect();
        let wanted = if wanted.is_empty() { "everything".to_owned() } else { wanted.join(", ") };
        format!("`{}` (wanted: {wanted})", orphan.path)
    });
    let playable = orphans.iter().filter(|orphan| match (orphan.kind, orphan.playable) {
        (OrphanKind::Leftover, Playable::Yes) => true,
        (OrphanKind::Leftover, Playable::No | Playable::Unknown) | (OrphanKind::Uncatalogued, _) => false,
    });
    let playable = playable.map(|orphan| format!("`{}`", orphan.path));
    let named = |all: Vec<String>| (!all.is_empty()).then(|| all.join("; "));
    let unproven = named(unproven.collect()).map(Objection::Unproven);
    unproven.or_else(|| named(playable.collect()).map(Objection::Playable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::orphan::{Verdict, Witness};
    use crate::domain::path::RelPath;
    use crate::domain::units::Timestamp;

    fn catalogue(name: &str, distrust: Option<&str>, proves_absence: bool, writable: bool) -> Witnessing {
        Witnessing { name: CatalogueId::new(name), distrust: distrust.map(str::to_owned), proves_absence, writable }
    }

    fn standing(mode: Mode, catalogues: &[Witnessing], tripped: bool) -> Standing {
        Standing {
            tree: TreeId::new("live"),
            mode,
            catalogues: catalogues.to_vec(),
            tripped: tripped.then_some((Bytes(9), Bytes(3))),
        }
    }

    #[test]
    fn each_remedy_meets_the_objections_that_concern_it() {
        use OrphanKind::{Leftover, Uncatalogued};
        use RemedyKind::{Adopt, Delete, Quarantine, RemoveRows, Restore};
        let wvp = catalogue("wvp", None, true, true);
        let doubted = catalogue("wvp", Some("it does not answer: timeout"), true, true);
        let list = catalogue("list", None, true, false);
        let hooks = catalogue("hooks", None, false, false);
        let check = |standing: &Standing, kinds: &[RemedyKind], orphans, expected: Option<&str>| {
            for kind in kinds {
                let objection = standing.objection(*kind, orphans, false);
                assert_eq!(objection.as_ref().map(Objection::code), expected, "{kind} {orphans} of {standing:?}");
            }
        };
        let all = [Adopt, Quarantine, Delete, Restore, RemoveRows];
        let enforce = |catalogues: &[Witnessing], tripped| standing(Mode::Enforce, catalogues, tripped);
        check(&standing(Mode::Observe, std::slice::from_ref(&wvp), false), &all, Uncatalogued, Some("observe"));
        check(&enforce(std::slice::from_ref(&wvp), false), &all, Uncatalogued, None);

        check(&enforce(&[], false), &[Adopt, Quarantine, Delete, RemoveRows], Uncatalogued, Some("no_catalogue"));
        check(&enforce(&[], false), &[Restore], Uncatalogued, None);
        check(&enforce(&[], false), &[Delete], Leftover, None);

        let one_doubted = enforce(&[list.clone(), doubted], false);
        check(&one_doubted, &[Adopt, Quarantine, Delete, RemoveRows], Uncatalogued, Some("untrusted"));
        check(&one_doubted, &[Restore], Uncatalogued, None);
        check(&one_doubted, &[Delete], Leftover, None);

        let told = enforce(std::slice::from_ref(&hooks), false);
        check(&told, &[Adopt, Quarantine, Delete], Uncatalogued, Some("unproven"));
        check(&told, &[RemoveRows], Uncatalogued, Some("read_only_catalogue"));

        let read = enforce(&[list, hooks], false);
        check(&read, &[Adopt, RemoveRows], Uncatalogued, Some("read_only_catalogue"));
        check(&read, &[Quarantine, Delete], Uncatalogued, None);

        // What is inserted, put back, or was no file is not of what a cap counts.
        let capped = enforce(&[wvp], true);
        check(&capped, &[Quarantine, Delete], Uncatalogued, Some("cap"));
        check(&capped, &[Delete], Leftover, Some("cap"));
        check(&capped, &[Adopt, Restore, RemoveRows], Uncatalogued, None);
        check(&capped, &[Adopt, Quarantine], Leftover, Some("bad_kind"));
    }

    #[test]
    fn a_rehearsal_is_made_in_observe_mode_and_by_trusted_catalogues_only() {
        let check = |distrust: Option<&str>, expected: Option<&str>| {
            let standing = standing(Mode::Observe, &[catalogue("wvp", distrust, true, true)], false);
            let objection = standing.objection(RemedyKind::Adopt, OrphanKind::Uncatalogued, true);
            assert_eq!(objection.as_ref().map(Objection::code), expected);
        };
        check(None, None);
        check(Some("it was not read yet"), Some("untrusted"));
    }

    #[test]
    fn every_orphan_that_must_stay_is_named_with_what_is_wanted() {
        let proven = Verdict { witnesses: Witness::ALL.to_vec(), wanted: vec![] };
        let young = Verdict { witnesses: vec![Witness::Grammar], wanted: vec![Witness::Age, Witness::TwoScans] };
        let one = |path: &str, kind, verdict: &Verdict, playable| Orphan {
            tree: TreeId::new("live"),
            path: RelPath::new(path.as_bytes()).unwrap(),
            stream: "live/cam".to_owned(),
            kind,
            bytes: Bytes(4096),
            inode: 1,
            fingerprint: 1,
            touched: Timestamp::from_secs(0),
            first_seen: Timestamp::from_secs(0),
            verdict: verdict.clone(),
            playable,
        };
        let check = |orphans: &[_], expected: Option<&str>| {
            assert_eq!(unfit(orphans).map(|objection| objection.to_string()).as_deref(), expected);
        };
        let kind = OrphanKind::Uncatalogued;
        check(&[], None);
        check(&[one("a", kind, &proven, Playable::Yes)], None);
        check(
            &[
                one("a", kind, &proven, Playable::Yes),
                one("b", kind, &young, Playable::No),
                one("c", kind, &Verdict::default(), Playable::No),
            ],
            Some("not proven to be orphans, so they stay: `b` (wanted: age, two_scans); `c` (wanted: everything)"),
        );
        let kind = OrphanKind::Leftover;
        check(&[one("a", kind, &proven, Playable::No), one("b", kind, &proven, Playable::Unknown)], None);
        check(
            &[one("a", kind, &proven, Playable::Yes), one("b", kind, &proven, Playable::No)],
            Some("leftovers that can be played are reported and never deleted: `a`"),
        );
    }

    #[test]
    fn more_than_half_of_the_rows_without_a_file_are_not_removed_at_once() {
        let standing = standing(Mode::Enforce, &[], false);
        for (missing, rows, refused) in
            [(0, 0, false), (1, 0, true), (1, 2, false), (2, 3, true), (50, 100, false), (51, 100, true)]
        {
            assert_eq!(standing.too_many_missing(missing, rows).is_some(), refused, "{missing} of {rows}");
        }
    }
}
