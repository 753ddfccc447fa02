//! Requests for remedies, and what lists say.

use serde_json::{Value, json};

use super::*;
use crate::domain::catalogue::{CatalogueKind, CatalogueView, Distrust, RowCounts};
use crate::domain::names::CatalogueId;
use crate::domain::units::{Bytes, Percent};
use crate::server::shapes::Catalogue;

fn request(body: &Value) -> Result<RemedyRequest, String> {
    serde_json::from_value(body.clone()).map_err(|error| error.to_string())
}

#[test]
fn a_request_names_paths_or_all_and_each_wrong_path_is_told() {
    let check = |body: Value, expected: Result<Which, &str>| {
        let got = request(&body).and_then(|request| request.which().map_err(|refusal| refusal.message));
        match (got, expected) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{body}"),
            (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{body}: {error}"),
            (got, wanted) => panic!("{body}: {got:?} instead of {wanted:?}"),
        }
    };
    let paths = |names: &[&[u8]]| Ok(Which::Paths(names.iter().map(|name| RelPath::new(name).unwrap()).collect()));
    check(json!({"tree": "live", "all": true}), Ok(Which::All));
    check(json!({"tree": "live", "paths": ["a/b.mp4", "a/b.mp4", "50%.mp4"]}), paths(&[b"a/b.mp4", b"50%.mp4"]));
    check(json!({"tree": "live", "paths": [{"path": "a%FF%0A", "encoded": true}]}), paths(&[b"a\xff\n"]));
    check(json!({"tree": "live", "paths": [{"path": "50%.mp4"}]}), paths(&[b"50%.mp4"]));
    check(json!({"tree": "live"}), Err("either `paths`, or `all: true`"));
    check(json!({"tree": "live", "paths": ["a"], "all": true}), Err("either `paths`, or `all: true`"));
    check(json!({"tree": "live", "paths": []}), Err("`paths` is empty"));
    check(json!({"tree": "live", "paths": vec!["a"; PATHS + 1]}), Err("give `all: true`"));
    check(json!({"tree": "live", "paths": ["../x", "a", "/etc/passwd"]}), Err("\"../x\" has a component"));
    check(json!({"tree": "live", "paths": ["../x", "a", "/etc/passwd"]}), Err("\"/etc/passwd\" is absolute"));
    check(json!({"tree": "live", "paths": [{"path": "%2e%2e/x", "encoded": true}]}), Err("has a component"));
    check(json!({"all": true}), Err("missing field `tree`"));
    check(json!({"tree": "live", "all": true, "force": true}), Err("unknown field `force`"));
}

#[test]
fn a_kind_or_a_rehearsal_is_asked_only_of_what_has_one() {
    let check = |body: Value, remedy, expected: Result<(OrphanKind, bool), &str>| {
        let request = request(&body).unwrap();
        let got = request.orphan_kind(remedy).and_then(|kind| Ok((kind, request.rehearsal(remedy)?)));
        assert_eq!(got.map_err(|refusal| refusal.code), expected, "{remedy} {body}");
    };
    let all = |more: Value| {
        let mut body = json!({"tree": "live", "all": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    check(all(json!({})), RemedyKind::Delete, Ok((OrphanKind::Uncatalogued, false)));
    check(all(json!({"kind": "leftover"})), RemedyKind::Delete, Ok((OrphanKind::Leftover, false)));
    check(all(json!({"kind": "missing"})), RemedyKind::Delete, Err("bad_kind"));
    check(all(json!({"kind": "leftover"})), RemedyKind::RemoveRows, Err("bad_kind"));
    check(all(json!({"dry_run": true})), RemedyKind::Adopt, Ok((OrphanKind::Uncatalogued, true)));
    for remedy in [RemedyKind::Delete, RemedyKind::Quarantine, RemedyKind::Restore, RemedyKind::RemoveRows] {
        check(all(json!({"dry_run": true})), remedy, Err("bad_dry_run"));
    }
}

fn orphan(verdict: DomainVerdict, playable: Playable) -> DomainOrphan {
    DomainOrphan {
        tree: TreeId::new("live"),
        path: RelPath::new(b"live/cam/a\n.mp4").unwrap(),
        stream: "live/cam".to_owned(),
        kind: OrphanKind::Uncatalogued,
        bytes: Bytes(4096),
        inode: 1,
        fingerprint: 2,
        touched: Timestamp::from_secs(0),
        first_seen: Timestamp::from_secs(60),
        verdict,
        playable,
    }
}

#[test]
fn an_orphan_bears_the_names_of_the_contract_and_says_what_it_waits_for() {
    let verdict = DomainVerdict { witnesses: vec![Witness::Grammar], wanted: vec![Witness::TwoScans] };
    assert_eq!(
        serde_json::to_value(Orphan::from(&orphan(verdict, Playable::Unknown))).unwrap(),
        json!({
            "tree": "live", "path": "live/cam/a%0A.mp4", "encoded": true, "stream": "live/cam", "bytes": 4096,
            "kind": "uncatalogued", "state": "reported", "first_seen": "1970-01-01T00:01:00Z", "playable": null,
            "verdict": {
                "proven": false, "witnesses": ["grammar"], "wanted": ["two_scans"],
                "sentence": "not proven: it waits for a second scan that misses it, the grace after the first",
            },
        })
    );
    let all = DomainVerdict { witnesses: Witness::ALL.to_vec(), wanted: vec![] };
    for (verdict, playable, proven, sentence) in [
        (all, Playable::Yes, true, "proven: trusted catalogues do not know it, it was there long before"),
        (DomainVerdict::default(), Playable::No, false, "not judged yet"),
    ] {
        let shape = Orphan::from(&orphan(verdict, playable));
        assert_eq!((shape.verdict.proven, shape.playable), (proven, Some(proven)));
        assert!(shape.verdict.sentence.starts_with(sentence), "{}", shape.verdict.sentence);
    }
}

#[test]
fn a_catalogue_that_is_not_believed_says_why_and_what_to_do() {
    let view = |distrust: Option<Distrust>| CatalogueView {
        name: CatalogueId::new("wvp"),
        kind: CatalogueKind::Wvp,
        since: distrust.as_ref().map(|_| Timestamp::from_secs(60)),
        distrust,
        counts: RowCounts { rows: 4, foreign: 3, bad: 2, collect: 1 },
        read_at: Some(Timestamp::from_secs(0)),
        remark: None,
    };
    assert_eq!(
        serde_json::to_value(Catalogue::from(&view(None))).unwrap(),
        json!({
            "name": "wvp", "kind": "wvp", "trusted": true, "reason": null, "since": null, "can_accept": false,
            "rows": 4, "foreign_rows": 3, "bad_rows": 2, "collect": 1, "read_at": "1970-01-01T00:00:00Z", "remark": null,
        })
    );
    let error = || "timeout".to_owned();
    let check = |why: Distrust, can_accept: bool, said: &[&str]| {
        let shape = Catalogue::from(&view(Some(why)));
        assert_eq!((shape.trusted, shape.can_accept), (false, can_accept));
        let reason = shape.reason.unwrap();
        said.iter().for_each(|word| assert!(reason.contains(word), "{reason}"));
        assert_eq!(reason.contains("catalogue accept wvp"), can_accept, "{reason}");
    };
    check(Distrust::NotYet, false, &["not read yet"]);
    check(Distrust::Unanswered { error: error() }, false, &["does not answer: timeout", "asked again"]);
    check(Distrust::Partial { error: error() }, false, &["in part: timeout"]);
    check(Distrust::Shape { error: error() }, false, &["not what it should be: timeout"]);
    check(Distrust::Index { error: error() }, false, &["timeout", "state's folder"]);
    let found = vec!["zlm-2".to_owned()];
    check(Distrust::OtherServer { wanted: "zlm-1".to_owned(), found }, true, &["zlm-1", "zlm-2", "media_server"]);
    check(Distrust::Elsewhere { rows: 9, example: "/x/a.mp4".to_owned() }, true, &["/x/a.mp4", "path_map"]);
    check(Distrust::Empty { tree: TreeId::new("live"), files: 7 }, true, &["tree `live`", "7 recordings"]);
    check(Distrust::Dropped { lost: 5, before: 10, allowed: Percent::new(30) }, true, &["5 of 10 rows", "30"]);
}

#[test]
fn a_rehearsal_shows_the_row_or_why_there_is_none() {
    let row = Adoption {
        app: "live".to_owned(),
        stream: "cam".to_owned(),
        start_time: 1000,
        end_time: 3000,
        media_server: None,
        file_name: "a.mp4".to_owned(),
        folder: "/rec/live/cam/".to_owned(),
        file_path: "/rec/live/cam/a.mp4".to_owned(),
        file_size: 5,
        time_len: 2000,
    };
    let check = |row: Option<&Adoption>, adopted, expected: &[(&str, Value)]| {
        let path = RelPath::new(b"live/cam/a.mp4").unwrap();
        let shape = serde_json::to_value(Rehearsed::of(&TreeId::new("live"), &path, row, &adopted)).unwrap();
        expected.iter().for_each(|(at, value)| assert_eq!(shape.pointer(at), Some(value), "{at} of {shape}"));
    };
    check(
        Some(&row),
        Adopted::Would,
        &[("/outcome", "would_insert".into()), ("/row/end_time", 3000.into()), ("/row/media_server_id", Value::Null)],
    );
    let known = [("/outcome", "known".into()), ("/row", Value::Null), ("/detail", "row 7 lists it already".into())];
    check(Some(&row), Adopted::Known(7), &known);
    let why = "it cannot be played".to_owned();
    check(None, Adopted::Refused(why.clone()), &[("/outcome", "refused".into()), ("/detail", why.into())]);
}
