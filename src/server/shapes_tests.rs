//! What the status says of orphans and catalogues.

use serde_json::json;

use super::*;
use crate::domain::conditions::tests::{catalogue, catalogued, volume};
use crate::domain::orphan::OrphanTally;
use crate::domain::units::Bytes;

#[test]
fn orphans_are_null_until_they_are_known_and_what_is_without_proof_stands_beside() {
    let tally = |files| DomainTally { files, bytes: Bytes(files * 10) };
    let check = |volume: VolumeView, expected: serde_json::Value| {
        let status = Status::of(&[volume], &[], &[], &History::default());
        let tree = serde_json::to_value(&status.trees[0]).unwrap();
        let keys = ["catalogues", "orphans", "unproven", "quarantined", "leftovers", "missing"];
        assert_eq!(json!(keys.map(|key| tree[key].clone())), expected);
        let read: Status = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        assert_eq!(read, status);
    };
    let none = json!({ "files": 0, "bytes": 0 });
    check(volume(), json!([[], null, none, none, none, 0]));
    check(catalogued("wvp"), json!([["wvp"], null, none, none, none, 0]));
    let mut known = catalogued("wvp");
    known.trees[0].orphans = OrphanTally {
        uncatalogued: Some(tally(1)),
        unproven: tally(2),
        leftovers: tally(3),
        quarantined: tally(4),
        missing: 5,
        growth: None,
    };
    let of = |files: u64| json!({ "files": files, "bytes": files * 10 });
    check(known, json!([["wvp"], of(1), of(2), of(4), of(3), 5]));
}

#[test]
fn a_catalogue_says_why_it_is_not_believed_in_words() {
    let check = |distrust: Option<Distrust>, expected: serde_json::Value| {
        let shape = serde_json::to_value(Catalogue::from(&catalogue("wvp", distrust, Some(0)))).unwrap();
        let keys = [
            "name",
            "kind",
            "trusted",
            "reason",
            "can_accept",
            "rows",
            "foreign_rows",
            "bad_rows",
            "collect",
            "read_at",
        ];
        let at = "1970-01-02T03:46:40Z";
        let values: Vec<_> = keys.iter().map(|key| shape[*key].clone()).collect();
        let (before, after) = (json!(["wvp", "wvp"]), json!([16_000, 3, 2, 1, at]));
        let parts = [before, expected, after].map(|part| part.as_array().unwrap().clone());
        assert_eq!(values, parts.concat());
    };
    check(None, json!([true, null, false]));
    let error = "no route".to_owned();
    check(
        Some(Distrust::Unanswered { error }),
        json!([false, "catalogue `wvp` does not answer: no route; it is asked again by itself", false]),
    );
    let elsewhere = Distrust::Elsewhere { rows: 7, example: "/x/a.mp4".to_owned() };
    let why = "none of the 7 rows of catalogue `wvp` lies in a tree that names it, and these trees hold recordings; one of them is `/x/a.mp4`: correct its `path_map`; only if none of them should lie there, `storage-guard catalogue accept wvp`";
    check(Some(elsewhere), json!([false, why, true]));
}
