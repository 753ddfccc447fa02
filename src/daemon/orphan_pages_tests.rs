//! Pages over what is reported and what is set aside.

use proptest::prelude::*;

use super::*;
use crate::domain::deletion::{RuleKind, Target};
use crate::domain::orphan::{Playable, Verdict};
use crate::domain::units::{Bytes, Timestamp};

/// Findings in memory, in the order that the store promises.
#[derive(Default)]
pub(in crate::daemon) struct Fake {
    pub(in crate::daemon) orphans: Vec<Orphan>,
    pub(in crate::daemon) missing: Vec<Missing>,
    pub(in crate::daemon) listed: u64,
    pub(in crate::daemon) witnessing: Vec<Witnessing>,
}

fn place(orphan: &Orphan) -> (TreeId, OrphanKind, RelPath) {
    (orphan.tree.clone(), orphan.kind, orphan.path.clone())
}

fn row(missing: &Missing) -> (TreeId, RelPath, CatalogueId, RowId) {
    (missing.tree.clone(), missing.path.clone(), missing.catalogue.clone(), missing.row.clone())
}

impl Lookout for Fake {
    fn orphans(&self, query: &OrphanQuery) -> Result<Vec<Orphan>, DatabaseError> {
        let mut all: Vec<&Orphan> = self.orphans.iter().collect();
        all.sort_by_key(|orphan| place(orphan));
        let fits = |orphan: &&Orphan| {
            query.tree.as_ref().is_none_or(|tree| orphan.tree == *tree)
                && query.kind.is_none_or(|kind| orphan.kind == kind)
                && (!query.proven || orphan.verdict.proven())
                && query.after.as_ref().is_none_or(|after| place(orphan) > *after)
        };
        Ok(all.into_iter().filter(fits).take(query.limit).cloned().collect())
    }

    fn orphan(&self, tree: &TreeId, kind: OrphanKind, path: &RelPath) -> Result<Option<Orphan>, DatabaseError> {
        let wanted = (tree.clone(), kind, path.clone());
        Ok(self.orphans.iter().find(|orphan| place(orphan) == wanted).cloned())
    }

    fn missing(
        &self,
        tree: Option<&TreeId>,
        after: Option<&Missing>,
        limit: usize,
    ) -> Result<Vec<Missing>, DatabaseError> {
        let mut all: Vec<&Missing> = self.missing.iter().collect();
        all.sort_by_key(|missing| row(missing));
        let fits = |missing: &&Missing| {
            tree.is_none_or(|tree| missing.tree == *tree) && after.is_none_or(|after| row(missing) > row(after))
        };
        Ok(all.into_iter().filter(fits).take(limit).cloned().collect())
    }

    fn missing_in(&self, tree: &TreeId) -> Result<u64, DatabaseError> {
        Ok(self.missing.iter().filter(|missing| missing.tree == *tree).count() as u64)
    }

    fn listed_in(&self, _: &TreeId) -> Result<u64, DatabaseError> {
        Ok(self.listed)
    }

    fn witnessing(&self, _: &TreeId) -> Vec<Witnessing> {
        self.witnessing.clone()
    }
}

pub(in crate::daemon) fn orphan(tree: &str, kind: OrphanKind, path: &[u8], verdict: Verdict) -> Orphan {
    Orphan {
        tree: TreeId::new(tree),
        path: RelPath::new(path).unwrap(),
        stream: "live/cam".to_owned(),
        kind,
        bytes: Bytes(10),
        inode: 1,
        fingerprint: 1,
        touched: Timestamp::from_secs(0),
        first_seen: Timestamp::from_secs(0),
        verdict,
        playable: Playable::Unknown,
    }
}

fn aside(seq: u64) -> SetAside {
    let target = Target {
        tree: TreeId::new("live"),
        path: RelPath::new(format!("aside{seq}").as_bytes()).unwrap(),
        stream: "live/cam".to_owned(),
        recorded: None,
        bytes: Bytes(10),
        inode: 1,
        fingerprint: 1,
        rule: RuleKind::Quarantine,
        trigger: RuleKind::Quarantine.trigger(),
        reason: "no catalogue knows it".to_owned(),
    };
    SetAside { seq: Seq(seq), target, since: Timestamp::from_secs(0) }
}

/// All paths of a list, page by page.
fn walk(limit: usize, mut ask: impl FnMut(&PageQuery) -> (Vec<String>, Option<String>)) -> Vec<String> {
    let (mut out, mut cursor) = (Vec::new(), None);
    loop {
        let (items, next) = ask(&PageQuery { limit, cursor });
        assert!(items.len() <= limit, "a page of {} with a limit of {limit}", items.len());
        assert!(next.is_none() || items.len() == limit, "a page that is not full is the last");
        out.extend(items);
        cursor = next;
        if cursor.is_none() {
            return out;
        }
    }
}

fn all_orphans(found: &Fake, set_aside: u64, kind: Option<OrphanKind>, limit: usize) -> Vec<String> {
    let later = |after: Seq, limit| {
        (1..=set_aside).map(|n| n * 3).filter(|seq| *seq > after.0).take(limit).map(aside).collect()
    };
    let shown = |one: &SetAside| OrphanShape::quarantined(&one.target, one.since, None);
    walk(limit, |page| {
        let query = OrphanQuery { kind, ..OrphanQuery::default() };
        let page = orphan_page(Some(found), query, &later, &shown, page).unwrap();
        (page.items.into_iter().map(|item| format!("{}/{}", item.tree, item.path.path)).collect(), page.next)
    })
}

#[test]
fn reported_ones_come_first_and_those_that_are_set_aside_follow() {
    let of = |kind, path: &[u8]| orphan("live", kind, path, Verdict::default());
    let found = Fake {
        orphans: vec![
            of(OrphanKind::Leftover, b"z"),
            of(OrphanKind::Uncatalogued, b"b"),
            of(OrphanKind::Uncatalogued, b"a"),
        ],
        ..Fake::default()
    };
    let rest = ["live/aside3", "live/aside6"];
    for limit in 1..=6 {
        let all = all_orphans(&found, 2, None, limit);
        assert_eq!(all, [&["live/a", "live/b", "live/z"][..], &rest].concat(), "{limit} a page");
        assert_eq!(all_orphans(&found, 2, Some(OrphanKind::Leftover), limit), ["live/z"]);
        assert_eq!(all_orphans(&Fake::default(), 2, None, limit), rest);
        assert!(all_orphans(&Fake::default(), 0, None, limit).is_empty());
    }
    let shown = |_: &SetAside| panic!("there is none");
    let page = PageQuery { limit: 3, cursor: None };
    let nothing = orphan_page(None, OrphanQuery::default(), &|_, _| Vec::new(), &shown, &page).unwrap();
    assert!(nothing.items.is_empty() && nothing.next.is_none());
}

#[test]
fn a_cursor_that_is_none_is_refused() {
    for text in [
        "",
        "0",
        "r.",
        "r.zz.uncatalogued.61",
        "r.6c.orphan.61",
        "r.6c.leftover.",
        "r.6c.leftover.2e2e",
        "q.",
        "q.-1",
        "é",
        "r.ff.leftover.61",
    ] {
        let page = PageQuery { limit: 3, cursor: Some(text.to_owned()) };
        let shown = |one: &SetAside| OrphanShape::quarantined(&one.target, one.since, None);
        let refused = orphan_page(None, OrphanQuery::default(), &|_, _| Vec::new(), &shown, &page).unwrap_err();
        assert_eq!(refused.code, "bad_cursor", "{text:?}");
        assert_eq!(missing_page(None, None, &page).unwrap_err().code, "bad_cursor", "{text:?}");
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..6).prop_filter("a path", |bytes| RelPath::new(bytes).is_ok())
}

proptest! {
    #[test]
    fn every_orphan_is_given_once_whatever_its_name(
        names in proptest::collection::btree_set((name(), any::<bool>(), "[a-c./é]{1,3}"), 0..20),
        aside in 0_u64..5,
        limit in 1_usize..8,
    ) {
        let kind = |leftover| if leftover { OrphanKind::Leftover } else { OrphanKind::Uncatalogued };
        let orphans: Vec<_> = names.iter().map(|(path, leftover, tree)| orphan(tree, kind(*leftover), path, Verdict::default())).collect();
        let mut wanted: Vec<_> = orphans.clone();
        wanted.sort_by_key(place);
        let mut wanted: Vec<String> = wanted.iter().map(|orphan| format!("{}/{}", orphan.tree, orphan.path)).collect();
        wanted.extend((1..=aside).map(|n| format!("live/aside{}", n * 3)));
        prop_assert_eq!(all_orphans(&Fake { orphans, ..Fake::default() }, aside, None, limit), wanted);
    }

    #[test]
    fn every_missing_row_is_given_once_whatever_it_is_called(
        rows in proptest::collection::btree_set((name(), any::<Option<i64>>(), "[a-c./é]{0,3}"), 0..20),
        limit in 1_usize..8,
    ) {
        let missing: Vec<_> = rows.iter().map(|(path, number, text)| Missing {
            tree: TreeId::new("live"),
            path: RelPath::new(path).unwrap(),
            catalogue: CatalogueId::new(text),
            row: number.map_or_else(|| RowId::Text(text.clone()), RowId::Number),
        }).collect();
        let mut wanted = missing.clone();
        wanted.sort_by_key(row);
        let show = |tree: &str, path: &str, catalogue: &str, row: &str| format!("{tree} {path} {catalogue} {row}");
        let wanted: Vec<String> = wanted
            .iter()
            .map(|one| show(one.tree.as_str(), &one.path.to_string(), one.catalogue.as_str(), &one.row.to_string()))
            .collect();
        let found = Fake { missing, ..Fake::default() };
        let got = walk(limit, |page| {
            let page = missing_page(Some(&found), None, page).unwrap();
            (page.items.iter().map(|one| show(&one.tree, &one.path.path, &one.catalogue, &one.row)).collect(), page.next)
        });
        prop_assert_eq!(got, wanted);
    }
}
