//! What arguments mean, and what is printed.

use std::os::unix::ffi::OsStringExt as _;

use clap::Parser as _;

use super::*;
use crate::cli::args::{Cli, Command};

/// The request that a command line makes, as JSON; or why it is none.
fn asked(line: &[&[u8]]) -> Result<Value, String> {
    let arguments = line.iter().map(|word| OsString::from_vec(word.to_vec()));
    let cli = Cli::try_parse_from([OsString::from("storage-guard")].into_iter().chain(arguments));
    let command = cli.map_err(|error| error.to_string())?.command;
    let request = if let Command::Orphans { command: Orphans::Adopt { which, kind, dry_run } } = &command {
        request(which, Some(kind), *dry_run)
    } else if let Command::Orphans { command: Orphans::Delete { which, kind } | Orphans::Restore { which, kind } } =
        &command
    {
        request(which, Some(kind), false)
    } else if let Command::Missing { command: Missing::Remove(which) } = &command {
        request(which, None, false)
    } else {
        panic!("{command:?}")
    };
    match request {
        Ok(request) => Ok(serde_json::to_value(request).unwrap()),
        Err(Failure::Usage(text)) => Err(text),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_command_line_becomes_the_request_of_the_api() {
    let check = |line: &[&[u8]], expected: Result<Value, &str>| match (asked(line), expected) {
        (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
        (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{error}"),
        (got, wanted) => panic!("{got:?} instead of {wanted:?}"),
    };
    check(
        &[b"orphans", b"delete", b"live", b"live/cam/a.mp4", b"b\xff.mp4"],
        Ok(json!({
            "tree": "live", "kind": "uncatalogued",
            "paths": ["live/cam/a.mp4", {"path": "b%FF.mp4", "encoded": true}],
        })),
    );
    check(
        &[b"orphans", b"delete", b"live", b"--encoded", b"b%FF.mp4", b"50%25.mp4"],
        Ok(json!({
            "tree": "live", "kind": "uncatalogued", "paths": [{"path": "b%FF.mp4", "encoded": true}, "50%.mp4"],
        })),
    );
    check(
        &[b"orphans", b"delete", b"live", b"--all", b"--kind", b"leftover"],
        Ok(json!({"tree": "live", "kind": "leftover", "all": true})),
    );
    check(
        &[b"orphans", b"adopt", b"live", b"--all", b"--dry-run"],
        Ok(json!({"tree": "live", "kind": "uncatalogued", "all": true, "dry_run": true})),
    );
    check(&[b"missing", b"remove", b"live", b"--all"], Ok(json!({"tree": "live", "all": true})));
    check(&[b"orphans", b"delete"], Err("name the tree"));
    check(&[b"orphans", b"delete", b"--all"], Err("name the tree"));
    check(&[b"orphans", b"delete", b"live"], Err("or give `--all`"));
    check(&[b"orphans", b"restore", b"live", b"a.mp4", b"--all"], Err("not both"));
    check(&[b"orphans", b"delete", b"live", b"../a.mp4"], Err("has a component"));
    check(&[b"orphans", b"delete", b"live", b"--encoded", b"a%zz"], Err("well encoded"));
    check(&[b"orphans", b"delete", b"live", b"--all", b"--kind", b"missing"], Err("missing"));
    check(&[b"orphans", b"delete", b"live", b"--all", b"--dry-run"], Err("--dry-run"));
    check(&[b"missing", b"remove", b"live", b"--all", b"--kind", b"leftover"], Err("--kind"));
}

fn orphan(state: &str, proven: bool, playable: Value, deleted_after: Value) -> Value {
    json!({
        "tree": "live", "path": "live/cam/a.mp4", "bytes": 2048, "state": state, "playable": playable,
        "first_seen": "1970-01-01T00:00:00Z", "deleted_after": deleted_after,
        "verdict": {"proven": proven, "sentence": if proven { "proven: it is so" } else { "not proven: it waits" }},
    })
}

#[test]
fn a_list_says_what_each_is_and_what_to_do_next() {
    let now = Timestamp::from_secs(7200);
    let check = |kind: &str, items: &[Value], lines: &[&str], end: &[&str]| {
        let (mut out, mut sum) = (String::new(), Sum::default());
        items.iter().for_each(|item| describe(&mut out, item, now));
        items.iter().for_each(|item| sum.add(item));
        assert_eq!(out.lines().collect::<Vec<_>>(), lines);
        let shown = sum.show(kind);
        end.iter().for_each(|text| assert!(shown.contains(text), "{shown}"));
    };
    check("uncatalogued", &[], &[], &["no orphans", "catalogue list"]);
    check("leftover", &[], &[], &["no leftovers"]);
    check(
        "uncatalogued",
        &[
            orphan("reported", true, true.into(), Value::Null),
            orphan("reported", false, Value::Null, Value::Null),
            orphan("quarantined", true, Value::Null, "1970-01-08T00:00:00Z".into()),
        ],
        &[
            "live `live/cam/a.mp4`, 2 KiB, can be played, since 1970-01-01T00:00:00Z (2h ago): proven: it is so",
            "live `live/cam/a.mp4`, 2 KiB, since 1970-01-01T00:00:00Z (2h ago): not proven: it waits",
            "live `live/cam/a.mp4`, 2 KiB, SET ASIDE 1970-01-01T00:00:00Z (2h ago), deleted after 1970-01-08T00:00:00Z: proven: it is so",
        ],
        &["3 files, 6 KiB: 1 proven, 1 set aside", "adopt | quarantine | delete", "orphans restore"],
    );
    check(
        "leftover",
        &[orphan("reported", true, false.into(), Value::Null)],
        &["live `live/cam/a.mp4`, 2 KiB, CANNOT be played, since 1970-01-01T00:00:00Z (2h ago): proven: it is so"],
        &["orphans delete TREE PATH… | --all --kind leftover"],
    );
    let shown = Sum { files: 1, ..Sum::default() }.show("uncatalogued");
    assert!(!shown.contains("what to do"), "nothing is done about what is not proven: {shown}");
}

#[test]
fn a_catalogue_is_shown_with_why_it_is_not_trusted() {
    let check = |reason: Value, since: Value, expected: &str| {
        let item = json!({
            "name": "wvp", "kind": "wvp", "trusted": reason.is_null(), "reason": reason, "since": since, "rows": 4,
            "foreign_rows": 3, "bad_rows": 2, "collect": 1, "read_at": null, "remark": "more are kept than before",
        });
        let mut out = String::new();
        describe_catalogue(&mut out, &item);
        assert_eq!(out, expected);
    };
    let rest = "  never read: 4 rows, 1 of them to be kept; 3 in no tree of ours, 2 without a usable path\n  take note: more are kept than before\n";
    check(Value::Null, Value::Null, &format!("wvp (wvp): trusted\n{rest}"));
    check(
        "it does not answer".into(),
        "1970-01-01T00:00:00Z".into(),
        &format!("wvp (wvp): NOT TRUSTED since 1970-01-01T00:00:00Z, because it does not answer\n{rest}"),
    );
}

#[test]
fn a_rehearsal_shows_each_row_and_that_nothing_was_written() {
    let shown = show_rehearsal(&json!({"total": 5, "items": [
        {"path": "a.mp4", "outcome": "would_insert", "row": {"app": "live", "file_size": 5}, "detail": null},
        {"path": "b.mp4", "outcome": "known", "row": null, "detail": "row 7 lists it already"},
    ]}));
    assert_eq!(
        shown,
        "`a.mp4`: would be inserted: app=\"live\" file_size=5
`b.mp4`: known: row 7 lists it already
dry run of 5 recordings, of which 2 are shown: 1 rows would be inserted; nothing was written
"
    );
}
