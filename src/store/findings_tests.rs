//! What is remembered of looks.

use super::*;
use crate::domain::orphan::Witness;
use OrphanKind::{Leftover, Uncatalogued};

fn tree() -> TreeId {
    TreeId::new("live")
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn seen(name: &str, inode: u64) -> Orphan {
    Orphan {
        tree: tree(),
        path: path(name),
        stream: "live/cam".to_owned(),
        kind: Uncatalogued,
        bytes: Bytes(inode * 10),
        inode,
        fingerprint: u64::MAX - inode,
        touched: at(5),
        first_seen: at(0),
        verdict: Verdict::default(),
        playable: Playable::Unknown,
    }
}

fn lost(name: &str, row: i64) -> Missing {
    Missing { tree: tree(), path: path(name), catalogue: CatalogueId::new("wvp"), row: RowId::Number(row) }
}

/// One whole look at a tree.
fn look(findings: &Findings, of: &TreeId, kind: OrphanKind, scan: i64, orphans: &[Orphan], missing: &[Missing]) {
    let mut round = findings.begin(of, kind, at(scan)).unwrap();
    orphans.iter().for_each(|orphan| round.sight(orphan.clone()).unwrap());
    missing.iter().for_each(|row| round.miss(row.clone()).unwrap());
    round.finish().unwrap();
}

fn names(findings: &Findings, query: &OrphanQuery) -> Vec<String> {
    let found = findings.orphans(&OrphanQuery { limit: 100, ..query.clone() }).unwrap();
    found.iter().map(|orphan| orphan.path.to_string()).collect()
}

fn proven() -> Verdict {
    Verdict { witnesses: Witness::ALL.to_vec(), wanted: Vec::new() }
}

fn judge_all(findings: &Findings, verdict: &Verdict, playable: Playable) {
    findings.judge(&tree(), Uncatalogued, &mut |_| Some((verdict.clone(), playable))).unwrap();
}

#[test]
fn the_same_file_keeps_what_is_known_and_another_begins_anew() {
    let findings = Findings::memory().unwrap();
    look(&findings, &tree(), Uncatalogued, 100, &[seen("a", 1), seen("b", 2), seen("c", 3)], &[]);
    let get = |name: &str| findings.orphan(&tree(), Uncatalogued, &path(name)).unwrap();
    assert_eq!(get("a"), Some(Orphan { first_seen: at(100), ..seen("a", 1) }));
    let verdict = Verdict { witnesses: vec![Witness::Age, Witness::Clock], wanted: vec![Witness::TwoScans] };
    judge_all(&findings, &verdict, Playable::No);
    // `b` is another file of another inode now, `c` one that was written to, `d` new; of `a` only what may change does.
    let other = Orphan { fingerprint: 9, ..seen("c", 3) };
    let (grown, told) =
        (Orphan { bytes: Bytes(77), touched: at(6), ..seen("a", 1) }, Orphan { verdict: proven(), ..seen("d", 4) });
    look(&findings, &tree(), Uncatalogued, 200, &[grown.clone(), seen("b", 20), other.clone(), told], &[]);
    assert_eq!(get("a"), Some(Orphan { first_seen: at(100), verdict, playable: Playable::No, ..grown }));
    assert_eq!(get("b"), Some(Orphan { first_seen: at(200), ..seen("b", 20) }));
    assert_eq!(get("c"), Some(Orphan { first_seen: at(200), ..other }));
    assert_eq!(get("d"), Some(Orphan { first_seen: at(200), ..seen("d", 4) }), "nothing is proven before it is judged");
    look(&findings, &tree(), Uncatalogued, 300, &[seen("b", 20)], &[]);
    assert_eq!(names(&findings, &OrphanQuery::default()), ["b"], "what was not seen again is forgotten");
}

#[test]
fn a_look_counts_at_its_end_and_not_at_all_if_it_has_none() {
    let findings = Findings::memory().unwrap();
    look(&findings, &tree(), Uncatalogued, 100, &[seen("a", 1)], &[lost("x", 1)]);
    let mut round = findings.begin(&tree(), Uncatalogued, at(200)).unwrap();
    for i in 0..5_000 {
        round.sight(seen(&format!("n{i:05}"), i)).unwrap();
    }
    round.miss(lost("y", 2)).unwrap();
    assert_eq!(names(&findings, &OrphanQuery::default()), ["a"], "readers see the one before");
    drop(round);
    assert_eq!(names(&findings, &OrphanQuery::default()), ["a"]);
    assert_eq!(findings.missing_in(&tree()).unwrap(), 1);
    let rows = |table: &str| {
        findings
            .read("count", |c| c.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get::<_, i64>(0)))
            .unwrap()
    };
    assert_eq!((rows("orphans"), rows("missing"), rows("slots")), (1, 1, 1), "nothing is left of it");
    let many: Vec<Orphan> = (0..5_000).map(|i| seen(&format!("n{i:05}"), i)).collect();
    look(&findings, &tree(), Uncatalogued, 300, &many, &[]);
    look(&findings, &tree(), Uncatalogued, 400, &many, &[]);
    assert_eq!((rows("orphans"), rows("missing"), rows("slots")), (5_000, 0, 1));
    let found = findings.found(&tree(), Uncatalogued).unwrap();
    assert_eq!(found.unproven, Tally { files: 5_000, bytes: Bytes((0..5_000).map(|i| i * 10).sum()) });
    judge_all(&findings, &proven(), Playable::Yes);
    let found = findings.found(&tree(), Uncatalogued).unwrap();
    assert_eq!((found.proven.files, found.unproven.files), (5_000, 0), "page by page, all are judged");
}

#[test]
fn what_is_forgotten_during_a_look_is_forgotten_by_it_too() {
    let findings = Findings::memory().unwrap();
    look(&findings, &tree(), Uncatalogued, 100, &[seen("a", 1), seen("b", 2)], &[]);
    let mut round = findings.begin(&tree(), Uncatalogued, at(200)).unwrap();
    (0..CHUNK as u64).for_each(|i| round.sight(seen(&format!("a{i}"), i)).unwrap());
    round.sight(seen("b", 2)).unwrap();
    findings.forget(&tree(), &[path("a7"), path("a"), path("never")]).unwrap();
    round.finish().unwrap();
    assert_eq!(findings.orphan(&tree(), Uncatalogued, &path("a7")).unwrap(), None);
    assert_eq!(findings.found(&tree(), Uncatalogued).unwrap().unproven.files, CHUNK as u64);
}

#[test]
fn a_verdict_is_kept_for_the_file_that_was_judged() {
    let findings = Findings::memory().unwrap();
    look(&findings, &tree(), Uncatalogued, 100, &[seen("a", 1), seen("b", 2), seen("c", 3)], &[]);
    findings
        .judge(&tree(), Uncatalogued, &mut |orphan| {
            if orphan.path == path("a") {
                // While it is judged, another file comes under the name of one.
                look(&findings, &tree(), Uncatalogued, 200, &[seen("a", 1), seen("b", 9), seen("c", 3)], &[]);
            }
            (orphan.path != path("c")).then(|| (proven(), Playable::Yes))
        })
        .unwrap();
    let query = OrphanQuery { proven: true, ..OrphanQuery::default() };
    assert_eq!(names(&findings, &query), ["a"]);
    assert_eq!(findings.found(&tree(), Uncatalogued).unwrap().unproven.files, 2);
    assert_eq!(findings.orphan(&tree(), Uncatalogued, &path("a")).unwrap().unwrap().verdict, proven());
    judge_all(&findings, &Verdict { witnesses: Witness::ALL.to_vec(), wanted: vec![Witness::Clock] }, Playable::Yes);
    assert_eq!(names(&findings, &query), Vec::<String>::new());
}

#[test]
fn pages_go_through_trees_kinds_and_paths() {
    let findings = Findings::memory().unwrap();
    let trees = ["a", "b", "c"].map(TreeId::new);
    for of in &trees {
        for kind in [Leftover, Uncatalogued] {
            let orphans: Vec<Orphan> = (0..3).map(|i| Orphan { kind, ..seen(&format!("f{i}"), i) }).collect();
            look(&findings, of, kind, 100, &orphans, &[]);
        }
    }
    let everything = findings.orphans(&OrphanQuery { limit: 100, ..OrphanQuery::default() }).unwrap();
    let key = |orphan: &Orphan| (orphan.tree.clone(), orphan.kind, orphan.path.clone());
    let keys: Vec<_> = everything.iter().map(key).collect();
    assert!(keys.len() == 18 && keys.is_sorted());
    for limit in [1, 2, 5, 17, 18] {
        let (mut query, mut paged) = (OrphanQuery { limit, ..OrphanQuery::default() }, Vec::new());
        loop {
            let page = findings.orphans(&query).unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            query.after = Some(key(last));
            paged.extend(page);
        }
        assert_eq!(paged, everything, "{limit}");
    }
    let one = OrphanQuery { tree: Some(trees[1].clone()), kind: Some(Leftover), limit: 100, ..OrphanQuery::default() };
    let found = findings.orphans(&one).unwrap();
    assert!(found.len() == 3 && found.iter().all(|orphan| orphan.tree == trees[1] && orphan.kind == Leftover));
    findings.keep_only(&trees[..1]).unwrap();
    assert_eq!(findings.orphans(&OrphanQuery { limit: 100, ..OrphanQuery::default() }).unwrap().len(), 6);
}

#[test]
fn missing_files_are_paged_and_those_that_we_deleted_left_out() {
    let findings = Findings::memory().unwrap();
    let by =
        |name: &str, catalogue: &str, row| Missing { catalogue: CatalogueId::new(catalogue), row, ..lost(name, 0) };
    let all = [
        by("a", "hooks", RowId::Number(9)),
        by("a", "wvp", RowId::Number(-2)),
        by("a", "wvp", RowId::Number(10)),
        by("a", "wvp", RowId::Text("1".to_owned())),
        by("b", "wvp", RowId::Number(1)),
        by("c", "wvp", RowId::Number(3)),
    ];
    findings.note_reclaimed(&[(tree(), path("c"))], at(50), Seq(7)).unwrap();
    look(&findings, &tree(), Uncatalogued, 100, &[seen("o", 1)], &all);
    // A look for leftovers says nothing of rows.
    look(&findings, &tree(), Leftover, 100, &[], &[]);
    assert_eq!(findings.missing_in(&tree()).unwrap(), 5);
    for limit in [1, 2, 3, 9] {
        let mut paged: Vec<Missing> = Vec::new();
        loop {
            let page = findings.missing(None, paged.last(), limit).unwrap();
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all[..5], "{limit}");
    }
    findings.forget_missing(&all[1..2]).unwrap();
    assert_eq!(findings.missing_in(&tree()).unwrap(), 4);
    findings.note_reclaimed(&[(tree(), path("a")), (tree(), path("o"))], at(200), Seq(9)).unwrap();
    assert_eq!(findings.missing(Some(&tree()), None, 9).unwrap(), all[4..5]);
    assert_eq!(findings.missing(Some(&TreeId::new("other")), None, 9).unwrap(), []);
    assert_eq!(findings.found(&tree(), Uncatalogued).unwrap(), Found::default(), "what we deleted is no orphan");
    assert_eq!(findings.reclaimed_up_to().unwrap(), Seq(9));
}

#[test]
fn what_we_deleted_comes_oldest_first_and_pages_follow_one_that_was_forgotten() {
    let findings = Findings::memory().unwrap();
    for (name, when) in [("z", 1), ("a", 2), ("m", 2), ("b", 3), ("y", 3)] {
        findings.note_reclaimed(&[(tree(), path(name))], at(when), Seq(when.cast_unsigned())).unwrap();
    }
    let page = |after: Option<(&str, i64)>, limit| {
        let after = after.map(|(name, when)| (path(name), at(when)));
        let page = findings.reclaimed(&tree(), after.as_ref(), limit).unwrap();
        page.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 9), ["z", "a", "m", "b", "y"]);
    assert_eq!(page(None, 3), ["z", "a", "m"]);
    findings.forget_reclaimed(&tree(), &[path("z"), path("m")]).unwrap();
    assert_eq!(page(Some(("m", 2)), 1), ["b"]);
    assert_eq!(page(Some(("b", 3)), 9), ["y"]);
    assert!(findings.was_reclaimed(&tree(), &path("a")).unwrap());
    assert!(!findings.was_reclaimed(&tree(), &path("m")).unwrap());
    assert!(!findings.was_reclaimed(&TreeId::new("other"), &path("a")).unwrap());
}

#[test]
fn growth_is_counted_from_the_most_of_a_day_ago() {
    let hour = |h: i64| at(1_000_000 + h * 3600);
    let findings = Findings::memory().unwrap();
    let growth = |now| findings.growth(&tree(), hour(now)).unwrap();
    assert_eq!(growth(0), None);
    for (h, orphans, inflow) in [(0, 50, 1), (3, 80, 2), (5, 60, 4), (20, 10, 8), (29, 100, 16)] {
        findings.note_growth(&tree(), Bytes(orphans), Bytes(inflow), hour(h)).unwrap();
    }
    for (now, expected) in [
        (23, None),
        (24, Some((0, 14))),
        (29, Some((20, 24))),
        // What is written at the very edge of the day counts as before it.
        (30, Some((20, 24))),
        (34, Some((40, 24))),
        (36, None),
    ] {
        let expected = expected.map(|(grown, inflow)| (Bytes(grown), Bytes(inflow)));
        assert_eq!(growth(now), expected, "hour {now}");
    }
    findings.note_growth(&tree(), Bytes(1), Bytes(0), hour(34)).unwrap();
    let kept =
        findings.read("count", |c| c.query_row("SELECT min(at) FROM growth", [], |r| r.get::<_, i64>(0))).unwrap();
    assert_eq!(kept, hour(3).millis(), "31 hours");
    // A clock that was wrong.
    findings.note_growth(&tree(), Bytes(1), Bytes(0), hour(33)).unwrap();
    assert_eq!(findings.growth(&tree(), hour(33)).unwrap(), Some((Bytes(0), Bytes(24))));
}

/// Faults 72 and 77.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test spoils its own file")]
fn a_file_that_cannot_be_used_is_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("findings.db");
    let fill = || {
        let findings = Findings::open(&file).unwrap();
        let many: Vec<Orphan> = (0..3_000).map(|i| seen(&format!("n{i:05}"), i)).collect();
        look(&findings, &tree(), Uncatalogued, 100, &many, &[lost("x", 1)]);
    };
    let count = || Findings::open(&file).unwrap().found(&tree(), Uncatalogued).unwrap().unproven.files;
    let spoil: [fn(&mut Vec<u8>); 6] = [
        |_| (),
        |bytes| bytes[..32].fill(0),
        |bytes| bytes[100..4000].fill(0x5a),
        |bytes| bytes.truncate(9000),
        |bytes| *bytes = b"these are no findings, but some text of the length of a page".repeat(100),
        |bytes| bytes[60..64].copy_from_slice(&99u32.to_be_bytes()),
    ];
    for (at, spoil) in spoil.iter().enumerate() {
        fill();
        let mut bytes = std::fs::read(&file).unwrap();
        spoil(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(count(), if at == 0 { 3_000 } else { 0 }, "case {at}");
    }
    fill();
    let open = Findings::open(&file).unwrap();
    assert!(matches!(Findings::open(&file), Err(DatabaseError::InUse { .. })), "never taken from who has it");
    // The process ends in the middle of a look.
    let mut round = open.begin(&tree(), Uncatalogued, at(200)).unwrap();
    (0..CHUNK as u64).for_each(|i| round.sight(seen(&format!("m{i}"), i)).unwrap());
    std::mem::forget(round);
    drop(open);
    assert_eq!(count(), 3_000);
    let open = Findings::open(&file).unwrap();
    let rows = open.read("count", |c| c.query_row("SELECT count(*) FROM orphans", [], |r| r.get::<_, i64>(0))).unwrap();
    assert_eq!(rows, 3_000);
    open.read("refuse", |c| c.pragma_update(None, "query_only", true)).unwrap();
    assert!(open.begin(&tree(), Uncatalogued, at(1)).is_err());
}

#[test]
fn every_witness_comes_back() {
    let findings = Findings::memory().unwrap();
    look(&findings, &tree(), Uncatalogued, 100, &[seen("a", 1)], &[]);
    for one in Witness::ALL {
        let others = || Witness::ALL.iter().filter(|other| *other != one).copied().collect::<Vec<_>>();
        for verdict in
            [Verdict { witnesses: vec![*one], wanted: others() }, Verdict { witnesses: others(), wanted: vec![*one] }]
        {
            judge_all(&findings, &verdict, Playable::Yes);
            let back = findings.orphan(&tree(), Uncatalogued, &path("a")).unwrap().unwrap();
            assert_eq!((back.verdict, back.playable), (verdict, Playable::Yes));
        }
    }
}
