//! What is refused, and why, before anything is put into a queue.

use serde_json::json;

use super::*;
use crate::daemon::orphan_pages::tests::{Fake, orphan};
use crate::daemon::queue::Queue;
use crate::daemon::systemd::Pulse;
use crate::domain::conditions::tests::volume;
use crate::domain::orphan::{Playable, Verdict, Witness};
use crate::domain::retention::Mode;
use crate::store::Journal;
use crate::system::SystemClock;

fn proven() -> Verdict {
    Verdict { witnesses: Witness::ALL.to_vec(), wanted: vec![] }
}

fn young() -> Verdict {
    Verdict { witnesses: vec![Witness::Grammar], wanted: vec![Witness::Age] }
}

fn missing(path: &str, row: i64) -> Missing {
    Missing {
        tree: TreeId::new("live"),
        path: RelPath::new(path.as_bytes()).unwrap(),
        catalogue: CatalogueId::new("wvp"),
        row: RowId::Number(row),
    }
}

fn standing() -> Standing {
    Standing { tree: TreeId::new("live"), mode: Mode::Enforce, catalogues: vec![], tripped: None }
}

fn looked(
    found: &Fake,
    kind: RemedyKind,
    orphans: OrphanKind,
    paths: Option<&[&str]>,
) -> Result<(), (u16, &'static str, String)> {
    let which = match paths {
        None => Which::All,
        Some(paths) => Which::Paths(paths.iter().map(|path| RelPath::new(path.as_bytes()).unwrap()).collect()),
    };
    let remedy = Remedy { kind, orphans, tree: TreeId::new("live"), which };
    let refused = |refusal: Refusal| (refusal.status, refusal.code, refusal.message);
    examine(Some(found), &remedy, &standing(), Vec::new()).map_err(refused)
}

#[test]
fn each_path_that_is_no_orphan_or_not_proven_is_named() {
    use OrphanKind::{Leftover, Uncatalogued};
    let mut playable = orphan("live", Leftover, b"can", proven());
    playable.playable = Playable::Yes;
    let found = Fake {
        orphans: vec![
            orphan("live", Uncatalogued, b"a", proven()),
            orphan("live", Uncatalogued, b"young", young()),
            orphan("live", Leftover, b"left", proven()),
            orphan("other", Uncatalogued, b"elsewhere", proven()),
            playable,
        ],
        ..Fake::default()
    };
    let check = |orphans, paths: &[&str], expected: Option<(u16, &str, &[&str])>| {
        for kind in [RemedyKind::Adopt, RemedyKind::Quarantine, RemedyKind::Delete] {
            let got = looked(&found, kind, orphans, Some(paths));
            let Some((status, code, said)) = expected else {
                assert_eq!(got, Ok(()), "{kind} {paths:?}");
                continue;
            };
            let (got, word, message) = got.unwrap_err();
            assert_eq!((got, word), (status, code), "{kind} {paths:?}: {message}");
            said.iter().for_each(|text| assert!(message.contains(text), "{kind} {paths:?}: {message}"));
        }
    };
    check(Uncatalogued, &["a"], None);
    check(
        Uncatalogued,
        &["a", "x", "left", "elsewhere"],
        Some((400, "not_an_orphan", &["`x`", "`left`", "`elsewhere`"])),
    );
    check(Uncatalogued, &["a", "young"], Some((409, "unproven", &["`young` (wanted: age)"])));
    check(Leftover, &["left"], None);
    check(Leftover, &["left", "can"], Some((409, "playable", &["`can`"])));
    check(Leftover, &["a"], Some((400, "not_an_orphan", &["leftovers of tree `live`: `a`"])));
}

#[test]
fn where_all_are_meant_and_none_is_proven_that_is_said() {
    let check = |verdicts: &[Verdict], expected: Option<&str>| {
        let orphans = verdicts.iter().enumerate();
        let orphans = orphans
            .map(|(n, verdict)| orphan("live", OrphanKind::Uncatalogued, n.to_string().as_bytes(), verdict.clone()));
        let found = Fake { orphans: orphans.collect(), ..Fake::default() };
        let got = looked(&found, RemedyKind::Delete, OrphanKind::Uncatalogued, None);
        assert_eq!(got.err().map(|(_, code, _)| code), expected, "{verdicts:?}");
    };
    check(&[], None);
    check(&[proven()], None);
    check(&[young(), proven()], None);
    check(&[young(), young()], Some("unproven"));
}

/// Fault 76: where most rows have no file, the files are elsewhere, and the rows stay.
#[test]
fn rows_are_removed_by_name_or_where_they_are_the_lesser_part() {
    let check = |listed, paths: Option<&[&str]>, expected: Option<(&str, &str)>| {
        let found =
            Fake { missing: vec![missing("a", 1), missing("a", 2), missing("c", 3)], listed, ..Fake::default() };
        let got = looked(&found, RemedyKind::RemoveRows, OrphanKind::Uncatalogued, paths);
        match (got, expected) {
            (Ok(()), None) => {}
            (Err((_, code, message)), Some((wanted, said))) => {
                assert_eq!(code, wanted);
                assert!(message.contains(said), "{message}");
            }
            (got, wanted) => panic!("{got:?} instead of {wanted:?}"),
        }
    };
    check(6, None, None);
    check(5, None, Some(("suspicious", "3 of the 5 recordings")));
    check(0, None, Some(("suspicious", "path_map")));
    check(5, Some(&["a", "c"]), None);
    check(5, Some(&["a", "b", "d"]), Some(("not_missing", "`b`, `d`")));
}

#[test]
fn what_is_put_back_was_set_aside() {
    let remedy = Remedy {
        kind: RemedyKind::Restore,
        orphans: OrphanKind::Uncatalogued,
        tree: TreeId::new("live"),
        which: Which::All,
    };
    assert_eq!(examine(None, &remedy, &standing(), vec![]), Ok(()));
    let strange = vec![RelPath::new(b"a").unwrap()];
    let refused = examine(None, &remedy, &standing(), strange).unwrap_err();
    assert_eq!((refused.status, refused.code), (400, "not_quarantined"));
    assert!(refused.message.contains("`a`"), "{refused}");
}

/// A hub with one volume, whose only tree is `live`; nobody works it.
fn hub(mode: Mode, catalogues: &[&str]) -> (tempfile::TempDir, Hub) {
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::open(&home.path().join("journal")).unwrap().journal;
    let hub = Hub::new(Arc::new(journal), Arc::new(SystemClock));
    let mut view = volume();
    let policy = Arc::make_mut(&mut view.trees[0].policy);
    policy.mode = mode;
    policy.catalogues = catalogues.iter().map(|name| CatalogueId::new(name)).collect();
    hub.show(vec![view]);
    (home, hub)
}

fn request(body: serde_json::Value) -> RemedyRequest {
    serde_json::from_value(body).unwrap()
}

#[test]
fn a_hub_refuses_what_its_trees_and_catalogues_do_not_allow() {
    let all = || json!({"tree": "live", "all": true});
    let check = |mode, catalogues: &[&str], kind, body: serde_json::Value, expected: Option<(u16, &str)>| {
        let (_home, hub) = hub(mode, catalogues);
        let got = hub.prepare(kind, &request(body.clone()));
        assert_eq!(got.err().map(|refusal| (refusal.status, refusal.code)), expected, "{kind} {body}");
    };
    use RemedyKind::{Adopt, Delete, RemoveRows, Restore};
    for kind in [Adopt, Delete, Restore, RemoveRows] {
        check(Mode::Observe, &[], kind, all(), Some((409, "observe")));
        check(Mode::Enforce, &[], kind, json!({"tree": "dead", "all": true}), Some((404, "not_found")));
        check(Mode::Enforce, &[], kind, json!({"tree": "live"}), Some((400, "bad_paths")));
        check(Mode::Enforce, &[], kind, json!({"tree": "live", "paths": ["../x"]}), Some((400, "bad_path")));
    }
    for kind in [Adopt, Delete, RemoveRows] {
        check(Mode::Enforce, &[], kind, all(), Some((409, "no_catalogue")));
        // Until it is known what a catalogue says, nothing is done by it.
        check(Mode::Enforce, &["wvp"], kind, all(), Some((409, "untrusted")));
    }
    check(Mode::Enforce, &[], Restore, all(), None);
    check(Mode::Enforce, &[], Restore, json!({"tree": "live", "paths": ["a"]}), Some((400, "not_quarantined")));
    let leftovers = json!({"tree": "live", "all": true, "kind": "leftover"});
    check(Mode::Enforce, &[], Delete, leftovers.clone(), None);
    check(Mode::Enforce, &[], Adopt, leftovers, Some((400, "bad_kind")));
    // A rehearsal changes nothing, so observe mode allows it.
    let rehearsal = json!({"tree": "live", "all": true, "dry_run": true});
    check(Mode::Observe, &["wvp"], Adopt, rehearsal, Some((409, "untrusted")));
}

#[test]
fn a_tripped_cap_holds_deletions_until_a_person_lets_go_of_it() {
    use crate::domain::history::CapTrip;
    let (_home, hub) = hub(Mode::Enforce, &[]);
    let leftovers = request(json!({"tree": "live", "all": true, "kind": "leftover"}));
    let tree = TreeId::new("live");
    let trip = CapTrip {
        cap: Cap::OrphanShare,
        tree: tree.clone(),
        wanted: Bytes(9),
        allowed: Bytes(3),
        held: Bytes(100),
        available: Bytes(100),
        since: Timestamp::from_secs(0),
    };
    hub.journal.with_history_mut(|history| history.caps.insert((tree, Cap::OrphanShare), trip));
    let refused = hub.prepare(RemedyKind::Delete, &leftovers).unwrap_err();
    assert_eq!((refused.status, refused.code), (409, "cap"));
    assert!(refused.message.contains("cap acknowledge live orphan_share"), "{refused}");
    hub.acknowledge("live", "orphan_share", "ops").unwrap();
    assert!(hub.prepare(RemedyKind::Delete, &leftovers).is_ok());
}

#[test]
fn without_catalogues_lists_are_empty_and_nobody_reads_hook_records() {
    let (_home, hub) = hub(Mode::Enforce, &[]);
    let page = PageQuery { limit: 10, cursor: None };
    assert!(hub.orphans(&OrphansWanted::default(), &page).unwrap().items.is_empty());
    assert!(hub.missing(Some("live"), &page).unwrap().items.is_empty());
    assert!(hub.catalogues().is_empty());
    let wanted = OrphansWanted { tree: Some("dead".to_owned()), ..OrphansWanted::default() };
    for refused in [hub.orphans(&wanted, &page).unwrap_err(), hub.missing(Some("dead"), &page).unwrap_err()] {
        assert_eq!((refused.status, refused.message.as_str()), (404, "there is no tree `dead`; there are: live"));
    }
    let refused = hub.accept("wvp", "ops").unwrap_err();
    assert_eq!((refused.status, refused.message.as_str()), (404, "there is no catalogue `wvp`; there are: none"));
    let refused = hub.keep_hooks(&[]).unwrap_err();
    assert_eq!((refused.status, refused.code), (409, "no_hooks"));
    assert!(refused.message.contains("`kind: hooks`"), "{refused}");
}

#[test]
fn a_remedy_is_a_job_in_the_queue_of_its_volume_and_a_full_or_closed_queue_leaves_none() {
    let (_home, hub) = hub(Mode::Enforce, &[]);
    let queue = Arc::new(Queue::holding(1));
    hub.seat(hub.views().remove(0), Some(queue.clone()), Arc::new(Pulse::default()));
    let leftovers = request(json!({"tree": "live", "all": true, "kind": "leftover"}));
    let Ok(Remedied::Job(job)) = hub.remedy(RemedyKind::Delete, &leftovers, "ops") else { panic!("no job") };
    assert_eq!(hub.job(job).unwrap().kind, "delete");
    let refused = hub.remedy(RemedyKind::Delete, &leftovers, "ops").unwrap_err();
    assert_eq!((refused.status, refused.code), (503, "queue_full"));
    assert!(hub.job(job + 1).is_err(), "a job is left behind");
    let Some(Command::Remedy { job: queued, remedy, who }) = queue.drain().pop() else { panic!("nothing is queued") };
    assert_eq!((queued, remedy.which, who.as_str()), (job, Which::All, "ops"));
    // A reload took the queue away from whoever had found it.
    let refused = hub.remedy(RemedyKind::Delete, &leftovers, "ops").unwrap_err();
    assert_eq!((refused.status, refused.code), (503, "stopping"));
}

fn hook(media_server: &str) -> HookRecord {
    HookRecord {
        path: b"/rec/a.mp4".to_vec(),
        start: Timestamp::from_secs(0),
        media_server: media_server.to_owned(),
        stream: "live/cam".to_owned(),
        size: 1,
        length: 1,
    }
}

/// Fault 110: what another media server tells is not taken.
#[test]
fn records_are_taken_of_the_media_servers_that_catalogues_name() {
    let check = |servers: &[Option<&str>], records: &[&str], kept: &[bool], expected: &[&str]| {
        let servers: Vec<_> = servers.iter().map(|server| server.map(str::to_owned)).collect();
        let records: Vec<_> = records.iter().map(|server| hook(server)).collect();
        let taken = records.iter().filter(|record| takes(&servers, record)).count();
        assert_eq!(taken, kept.len());
        let got: Vec<String> =
            answers(&records, &servers, kept.to_vec()).iter().map(|one| format!("{one:?}")).collect();
        assert_eq!(got.len(), expected.len());
        got.iter().zip(expected).for_each(|(got, wanted)| assert!(got.contains(wanted), "{got}"));
    };
    check(&[None], &["zlm-1", "zlm-2"], &[true, false], &["Stored", "Duplicate"]);
    check(&[Some("zlm-1")], &["zlm-2", "zlm-1"], &[true], &["`zlm-2`, but records are taken of zlm-1 only", "Stored"]);
    check(&[Some("zlm-1"), Some("zlm-2")], &["zlm-2", "zlm-3"], &[true], &["Stored", "zlm-1, zlm-2 only"]);
    check(&[Some("zlm-1"), None], &["zlm-3"], &[true], &["Stored"]);
}
