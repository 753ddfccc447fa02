//! What the screens say.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::domain::catalogue::Distrust;
use crate::domain::conditions::tests::{catalogue, catalogued, kept, volume};
use crate::domain::history::History;
use crate::domain::names::{StreamId, TreeId};
use crate::domain::orphan::OrphanTally;
use crate::domain::recording::Tally as Found;
use crate::domain::status::{Cut, VolumeView};
use crate::domain::survey::StreamSurvey;
use crate::server::shapes::DroppedMessage;

fn channel(state: &str) -> Channel {
    Channel {
        name: "hook".to_owned(),
        kind: "webhook".to_owned(),
        state: state.to_owned(),
        since: Some("2026-01-01T00:00:00Z".to_owned()),
        queued: 0,
        oldest_seconds: 0,
        last_error: None,
        dropped: 0,
        last_dropped: vec![],
    }
}

#[test]
fn that_nothing_is_delivered_stands_on_the_first_line_and_why_with_each_channel() {
    let since = "2026-01-01T00:00:00Z";
    let dropped = DroppedMessage {
        time: since.to_owned(),
        alert: "CapTripped".to_owned(),
        labels: BTreeMap::from([("tree".to_owned(), "live".to_owned())]),
        state: "firing".to_owned(),
        error: "400 Bad Request".to_owned(),
    };
    let failing = Channel {
        queued: 3,
        oldest_seconds: 90,
        last_error: Some("503".to_owned()),
        dropped: 1,
        last_dropped: vec![dropped],
        ..channel("failing")
    };
    let status = |since: Option<&str>| Status {
        mode: "observe".to_owned(),
        relays: vec![],
        alerts: None,
        delivery_failing_since: since.map(str::to_owned),
        volumes: vec![],
        trees: vec![],
        catalogues: vec![],
        archives: vec![],
        media_servers: vec![],
    };
    for (since, channels, expected) in [
        (None, vec![], "mode observe\n".to_owned()),
        (
            None,
            vec![channel("working"), channel("unknown")],
            format!(
                "mode observe\nchannel hook (webhook): working since {since}\nchannel hook (webhook): nothing was sent yet\n"
            ),
        ),
        (
            Some(since),
            vec![failing],
            format!(
                "ALERTS ARE NOT DELIVERED since {since}: no channel works; the channels below say why\nmode observe\nchannel hook (webhook): FAILING since {since}: 503; 3 messages wait, the oldest for 1m30s\n  DROPPED: 1 messages since the guard was started\n  dropped: CapTripped of live, firing, made {since}: 400 Bad Request\n"
            ),
        ),
    ] {
        assert_eq!(super::status(&status(since), None, &channels).unwrap(), expected);
    }
}

#[test]
fn what_fires_stands_near_the_top_the_worst_first_and_not_too_much_of_it() {
    let alert = |name: &str, severity: &str, labels: Value, muted_by: Value| {
        let since = "2026-01-01T00:00:00Z";
        json!({ "alert": name, "severity": severity, "since": since, "labels": labels, "summary": "it is so", "muted_by": muted_by })
    };
    let check = |firing: &[Value], expected: &str| {
        let mut out = String::new();
        describe_alerts(&mut out, Some(firing)).unwrap();
        assert_eq!(out, expected);
    };
    check(&[], "alerts: none\n");
    check(
        &[
            alert("ClockSuspect", "info", json!({}), Value::Null),
            alert("RecordingLocked", "warning", json!({ "tree": "live" }), json!({ "silence": 3 })),
            alert("VolumeExhausted", "critical", json!({ "volume": "data" }), Value::Null),
        ],
        "alerts: 3 firing (1 critical)
  VolumeExhausted of volume data (critical), from 2026-01-01T00:00:00Z: it is so
  RecordingLocked of tree live (warning), from 2026-01-01T00:00:00Z, MUTED: it is so
  ClockSuspect (info), from 2026-01-01T00:00:00Z: it is so
",
    );
    let many: Vec<Value> =
        (0..12).map(|n| alert("CapTripped", "warning", json!({ "tree": n.to_string() }), Value::Null)).collect();
    let mut out = String::new();
    describe_alerts(&mut out, Some(&many)).unwrap();
    assert_eq!(out.lines().count(), 12, "{out}");
    assert!(out.ends_with("\n  and 2 more; see `storage-guard alerts list`\n"), "{out}");
}

fn found(files: u64) -> Found {
    Found { files, bytes: Bytes::gib(files) }
}

/// The lines of a screen that are about orphans and catalogues.
fn about_orphans(screen: &str) -> Vec<&str> {
    let words = ["ORPHANS", "orphan", "catalogue", "leftover", "MISSING"];
    screen.lines().filter(|line| words.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn what_should_not_be_there_is_counted_with_the_command_that_says_more() {
    let check = |orphans: OrphanTally, expected: &[&str]| {
        let mut volume = catalogued("wvp");
        volume.trees[0].orphans = orphans;
        let now = Status::of(&[volume], &[], &[], &History::default());
        let scan = super::scan(&now).unwrap();
        assert_eq!(about_orphans(&scan), expected);
        // The status says the same, further in.
        let status = super::status(&now, None, &[]).unwrap();
        assert_eq!(about_orphans(&status), expected.iter().map(|line| format!("  {line}")).collect::<Vec<_>>());
    };
    check(
        OrphanTally::default(),
        &[
            "  orphans: not known, until a trusted catalogue that can prove it was compared; see `storage-guard catalogue list`",
        ],
    );
    check(OrphanTally { uncatalogued: Some(found(0)), ..OrphanTally::default() }, &[]);
    check(
        OrphanTally {
            uncatalogued: Some(found(1000)),
            unproven: found(7),
            leftovers: found(3),
            quarantined: found(4),
            missing: 12,
            growth: None,
        },
        &[
            "  1000 ORPHANS, 1000 GiB, which no catalogue knows; see `storage-guard orphans list live`",
            "  7 recordings, 7 GiB, that no catalogue knows, without proof; `storage-guard orphans list live` says what is wanted",
            "  4 files, 4 GiB, set aside as orphans; `storage-guard orphans restore live PATH` puts one back",
            "  3 leftovers, 3 GiB; see `storage-guard orphans list live --kind leftover`",
            "  12 MISSING: rows without a file that nobody here deleted; see `storage-guard missing list live`",
        ],
    );
}

/// Fault 106: what a database or a row says ends no line and steers no terminal.
#[test]
fn a_catalogue_says_whether_it_is_believed_why_not_and_what_can_be_done() {
    let shown = |views: &[_]| {
        let now = Status::of(&[], views, &[], &History::default());
        let scan = super::scan(&now).unwrap();
        assert!(super::status(&now, None, &[]).unwrap().ends_with(&scan));
        scan
    };
    let mut well = catalogue("wvp", None, Some(0));
    well.remark = Some("90 more favourites than before".to_owned());
    let mut unread = catalogue("hooks", Some(Distrust::NotYet), None);
    (unread.counts, unread.since) = (Default::default(), None);
    let empty = Distrust::Empty { tree: TreeId::new("live"), files: 7 };
    let down = Distrust::Unanswered { error: "gone\n\u{1b}[31mfor good".to_owned() };
    let views = [well, unread, catalogue("list", Some(empty), Some(0)), catalogue("db", Some(down), Some(0))];
    let advice = "  nothing is called an orphan by it meanwhile";
    let rows = "16000 rows at 1970-01-02T03:46:40Z, 3 of others, 2 without a usable path";
    let since = "1970-01-02T03:46:35Z";
    let expected = format!(
        "catalogue wvp (wvp): {rows}\n  take care: 90 more favourites than before\n\
         catalogue hooks (wvp): NOT TRUSTED: catalogue `hooks` was not read yet; its first reading is under way, or begins soon; no rows yet\n{advice}\n\
         catalogue list (wvp): NOT TRUSTED since {since}: catalogue `list` has no row for tree `live`, which holds 7 recordings: look whether its rows were deleted, and whether `path_map` and `media_server` are right; only if it is right that it knows none of them, `storage-guard catalogue accept list`; {rows}\n\
         {advice}\n\
         catalogue db (wvp): NOT TRUSTED since {since}: catalogue `db` does not answer: gone%0A%1B[31mfor good; it is asked again by itself; {rows}\n{advice}\n"
    );
    assert_eq!(shown(&views), expected);
}

#[test]
fn a_volume_says_whether_its_promises_fit_and_a_plan_which_cap_cuts_it() {
    let mut view = volume();
    let policy = kept(&[("cam", 30)]);
    let day = StreamSurvey {
        name: StreamId::new("cam"),
        recordings: Found::default(),
        lately: found(2),
        over: Duration::from_secs(86_400),
        oldest: None,
        newest: None,
        touched: None,
        live: false,
    };
    view.trees[0].survey.streams = vec![day];
    let said = |view: &VolumeView| {
        let shown = super::scan(&Status::of(std::slice::from_ref(view), &[], &[], &History::default())).unwrap();
        shown.lines().filter(|line| line.contains("promises")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(said(&view), Vec::<String>::new(), "nothing is promised");
    view.trees[0].policy = Arc::new(policy);
    // 100 GiB that are all ours, and the low mark at 88 % of them.
    let space = &mut view.reading.as_mut().unwrap().space;
    (space.free, space.available) = (Bytes::gib(9), Bytes::gib(9));
    view.trees[0].survey.recordings = found(91);
    let fits = "what `keep` promises fits: up to 30d at the inflow of the last day need 59.9 GiB, and there is room for 88 GiB";
    assert_eq!(said(&view), [format!("  {fits}")]);
    view.trees[0].survey.recordings = found(41);
    let not = "what `keep` promises does not fit: up to 30d at the inflow of the last day need 59.9 GiB, and there is room for 38 GiB; 19d";
    assert!(said(&view)[0].starts_with(&format!("  PROMISES: {not}")), "{:?}", said(&view));

    let cut = Cut { tree: TreeId::new("live"), wanted: Bytes::gib(3), allowed: Bytes::GIB, tripped: true };
    let plan = Plan {
        id: "p".to_owned(),
        volume: "data".to_owned(),
        next: vec![],
        target_bytes: 7,
        items: vec![],
        spared: vec![],
        shortfall_bytes: 0,
        cut: vec![],
    };
    let mut out = String::new();
    one_plan(&mut out, &plan.cut_by(&[cut])).unwrap();
    assert_eq!(
        out,
        "plan p for data: nothing has to go now\n  CUT: cap run_share of tree live: wanted 3 GiB, allowed 1 GiB; it tripped and waits for a person: if this plan is right, `storage-guard cap acknowledge live run_share`\n"
    );
}
