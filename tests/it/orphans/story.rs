//! The story of the design: the platform says that it deleted, did not, and forgot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::site::{Site, all, orphans, settled};
use crate::hygiene::{MISSING, UNCATALOGUED, catalogue, metric};
use crate::support::{Daemon, MariaDb, Postgres, Server, pause, wait_for};

const RECORDINGS: usize = 16_000;
/// What the platform's nightly deletion is about.
const NIGHTLY: usize = 5_000;
/// Of these, files that it did not delete.
const KEPT: usize = 1_000;
const GRACE: Duration = Duration::from_secs(10);

fn instant() -> jiff::Timestamp {
    jiff::Timestamp::try_from(crate::support::now()).unwrap()
}

/// A time as the guard writes it: as a text, a fraction would come before none.
fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_mariadb_forgot_is_found_adopted_and_deleted() {
    let home = tempfile::tempdir().unwrap();
    replay(&MariaDb::start(home.path()));
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_postgresql_forgot_is_found_adopted_and_deleted() {
    let home = tempfile::tempdir().unwrap();
    replay(&Postgres::start(home.path()));
}

/// The only figure behind each name, as the list has it.
fn listed(items: &[Value]) -> BTreeMap<String, u64> {
    items.iter().map(|item| (item["path"].as_str().unwrap().to_owned(), item["bytes"].as_u64().unwrap())).collect()
}

fn replay(server: &dyn Server) {
    let site = Site::new(server, 300, RECORDINGS, 8);
    let tree = format!("    orphans: {{ action: report, grace: {}s }}\n", GRACE.as_secs());
    let config = site.config("writer", &tree, "    interval: 1s\n    full: 2s\n", "scan_interval: 2s\n");
    let daemon = Daemon::start(&config, &site.state());
    settled(&daemon, 0);
    assert_eq!(orphans(&daemon), Vec::<Value>::new());

    // The night: of the list's first thousand not one file is deleted, the answer is `code 0` all the same, and all rows go.
    let left: Vec<String> = site.clips[..KEPT].iter().map(|clip| clip.path.clone()).collect();
    let mut sorted = left.clone();
    sorted.sort();
    let originals = site.rows(&sorted);
    assert_eq!(originals.len(), KEPT);
    site.remove_files(KEPT..NIGHTLY);
    site.drop_rows(0..NIGHTLY);

    let dropped = instant();
    let mut scans = BTreeSet::new();
    wait_for("what was forgotten is listed", || {
        let status = daemon.status().unwrap();
        let scan = status["trees"][0]["last_scan"].as_str().unwrap().to_owned();
        // A scan before the catalogue was read again cannot know.
        if time(&catalogue(&daemon)["read_at"]) > dropped {
            scans.insert(scan);
        }
        orphans(&daemon).len() == KEPT
    });
    // The one that was there when it was read, and two more.
    assert!(scans.len() <= 3, "{scans:?}");
    let found = orphans(&daemon);
    let allocated = |path: &str| {
        use std::os::unix::fs::MetadataExt as _;
        site.tree().join(path).symlink_metadata().unwrap().blocks() * 512
    };
    let expected: BTreeMap<String, u64> = left.iter().map(|path| (path.clone(), allocated(path))).collect();
    assert_eq!(listed(&found), expected);
    assert_eq!(found.len(), KEPT);
    let over = found.iter().map(|item| time(&item["first_seen"])).min().unwrap() + GRACE;
    let proven = || all(&daemon, "/api/v1/orphans?tree=live&proven=true&").len();
    let mut asked = 0;
    loop {
        let (listed, told) = (proven(), metric(&daemon, UNCATALOGUED));
        if instant() >= over {
            break;
        }
        assert_eq!((listed, told.as_str()), (0, "0"), "the grace is not over");
        asked += 1;
        pause(Duration::from_millis(100));
    }
    assert!(asked > 0, "the grace was over before it could be asked");
    wait_for("all are proven", || proven() == KEPT);
    wait_for("the gauge says so", || metric(&daemon, UNCATALOGUED) == KEPT.to_string());
    let bytes = metric(&daemon, "storage_guard_orphan_bytes{tree=\"live\",kind=\"uncatalogued\"}");
    assert_eq!(bytes, expected.values().sum::<u64>().to_string());
    assert_eq!(metric(&daemon, MISSING), "0");
    assert!(orphans(&daemon).iter().all(|item| item["playable"] == true && item["kind"] == "uncatalogued"));

    adopt(&site, &daemon, &sorted, &originals);
    delete(&site, &daemon, &sorted[10..]);
}

/// Ten get their rows back, once.
fn adopt(site: &Site<'_>, daemon: &Daemon, sorted: &[String], originals: &[String]) {
    let before = site.count();
    let ten: Vec<&str> = sorted[..10].iter().map(String::as_str).collect();
    let shown = site.said(&[&["orphans", "adopt", "live", "--dry-run"], &ten[..]].concat());
    assert!(ten.iter().all(|path| shown.contains(path)), "{shown}");
    assert_eq!(site.count(), before, "a rehearsal writes nothing");
    let said = site.said(&[&["orphans", "adopt", "live"], &ten[..]].concat());
    assert!(said.contains("10 of 10 recordings have their row"), "{said}");
    assert_eq!(site.rows(&sorted[..10]), originals[..10], "they equal the originals");
    let again = site.guard(&[&["orphans", "adopt", "live"], &ten[..]].concat());
    let why = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && why.contains("these are not recordings that no catalogue knows"), "{why}");
    assert_eq!(site.count(), before + 10, "nothing is inserted twice");
    let rest = (sorted.len() - 10).to_string();
    wait_for("the ten are no orphans any more", || metric(daemon, UNCATALOGUED) == rest);
}

/// The others go, verified, and nothing else.
fn delete(site: &Site<'_>, daemon: &Daemon, others: &[String]) {
    let before = site.on_disk();
    let rows = site.count();
    let said = site.said(&["orphans", "delete", "live", "--all"]);
    assert!(said.contains(&format!("{0} of {0} files deleted and looked for", others.len())), "{said}");
    let gone: BTreeSet<String> = before.difference(&site.on_disk()).cloned().collect();
    assert_eq!(gone, others.iter().cloned().collect());
    wait_for("no orphan is left", || metric(daemon, UNCATALOGUED) == "0");
    assert_eq!(orphans(daemon), Vec::<Value>::new());
    assert_eq!(site.count(), rows);
    let on_record: Value =
        serde_json::from_str(&site.said(&["journal", "list", "--outcome", "verified", "--json"])).unwrap();
    let deleted = on_record["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "deletion");
    let deleted: BTreeSet<&str> = deleted.map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!(deleted, others.iter().map(String::as_str).collect());
    for path in [&others[0], &others[others.len() / 2], &others[others.len() - 1]] {
        let told = site.said(&["journal", "explain", path]);
        for part in [
            "orphan verified",
            path,
            "no catalogue knows it (wvp as of",
            "witnesses: catalogue age two_scans",
            "by root",
        ] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
    }
    assert_eq!(metric(daemon, MISSING), "0");
}
