//! Faults that meet what should exist: catalogues, orphans and leftovers, with the daemon running and a policy that deletes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use storage_guard::testkit::mp4::Film;

use crate::hygiene::{MISSING, Site, UNCATALOGUED, catalogue, items, metric, proven, scans};
use crate::misbehaving::{Op, Stage, Trouble};
use crate::reclaim::Holder;
use crate::support::{now, recording, run, wait_for};

const DAY: Duration = Duration::from_secs(86_400);
/// All that is proven goes, however much it is.
const DELETE: &str = "    orphans: { action: delete, grace: 1s, max_share: 100% }\n";

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn write(path: &Path, bytes: &[u8], age: Duration) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(now() - age).unwrap();
}

/// Fault 25: what is no recording is not compared, so no catalogue need know it.
#[test]
#[ignore = "needs root and a loop device"]
fn what_is_no_recording_is_no_orphan_though_no_catalogue_knows_it() {
    let site = Site::new(30);
    let dir = site.bed.file(0).parent().unwrap().to_owned();
    let name = site.bed.file(0).file_name().unwrap().to_str().unwrap().to_owned();
    let foreign: Vec<PathBuf> =
        ["notes.txt", "index.m3u8", "cover.jpg", &format!("{name}.bak"), &format!("copy of {name}"), "backup.mp4"]
            .iter()
            .map(|name| dir.join(name))
            .chain([site.bed.tree().join("dump.mp4"), site.bed.tree().join("live/readme")])
            .collect();
    foreign.iter().for_each(|file| write(file, b"precious", 20 * DAY));
    site.list(site.without(&[5]), true);
    let daemon = site.start(&site.by_manifest(DELETE));
    site.wait(&daemon, "the orphan goes", || site.bed.gone() == 1);
    scans(&daemon, 3);
    assert!(!site.bed.exists(5) && site.bed.gone() == 1);
    let lost: Vec<_> = foreign.iter().filter(|file| !file.exists()).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Fault 35: only what is unplayable, unheld and older than the longest slice and ten minutes goes.
#[test]
#[ignore = "needs root and a loop device"]
fn a_stale_unfinished_file_goes_by_policy_unless_it_plays_is_held_or_is_young() {
    let site = Site::new(30);
    site.list(site.without(&[]), true);
    let hidden = |stream: &str, age: Duration, bytes: &[u8]| {
        let path = recording(&site.bed.tree(), stream, age, 1);
        let shown = site.bed.tree().join(&path);
        let file = shown.with_file_name(format!(".{}", shown.file_name().unwrap().to_str().unwrap()));
        #[expect(clippy::disallowed_methods, reason = "it names the test's own file")]
        std::fs::rename(&shown, &file).unwrap();
        write(&file, bytes, age);
        file
    };
    // As a killed recorder leaves it: the data, and no index of it.
    let film = Film::new(Duration::from_secs(10));
    let whole = film.plain();
    let torn = film.killed();
    let (stale, held) = (hidden("live/d", 3 * DAY, &torn), hidden("live/e", 3 * DAY, &torn));
    let (young, plays) = (hidden("live/f", Duration::from_secs(120), &torn), hidden("live/g", 3 * DAY, &whole));
    let _writer = Holder::new(&held, true);
    let daemon = site.start(&site.by_manifest("    leftovers: { action: delete, grace: 1s }\n"));
    site.wait(&daemon, "the stale one goes", || !stale.exists());
    scans(&daemon, 3);
    assert!(held.exists() && young.exists() && plays.exists());
    assert_eq!(site.bed.gone(), 0);
    let gone: Vec<_> = site.journal().into_iter().filter(|entry| entry["outcome"] == "verified").collect();
    assert!(gone.len() == 1 && gone[0]["rule"] == "leftover", "{gone:?}");
}

/// Fault 58: what was not seen is not missing, and what was seen is no orphan, until a scan is whole.
#[test]
#[ignore = "needs root, a loop device and FUSE"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn a_scan_that_was_read_halfway_makes_no_verdict() {
    use std::os::unix::fs::MetadataExt as _;
    let stage = Stage::new(64, 60);
    let manifest = stage.home().join("known.txt");
    let camera = stage.disk.below().join("record/live/b");
    stage.disk.set(Op::Readdir, Trouble::Halfway(libc::EIO), Some(std::fs::metadata(&camera).unwrap().ino()));
    let all: String = stage.made.iter().skip(2).map(|path| format!("{path}\n")).collect();
    std::fs::write(&manifest, format!("{all}# end 58\n")).unwrap();
    let rest = format!(
        "    catalogue: list\n{DELETE}catalogues:\n  - {{ name: list, kind: manifest, interval: 1s, file: {} }}\n",
        manifest.display()
    );
    let daemon = stage.daemon(&rest);
    wait_for("the scan is incomplete", || {
        daemon.status().is_some_and(|status| status["trees"][0]["complete"] == false)
    });
    scans(&daemon, 4);
    let list = |call| items(&daemon, call);
    assert!(list("/api/v1/missing").is_empty() && list("/api/v1/orphans").is_empty() && stage.gone() == 0);
    stage.disk.behave();
    wait_for("a whole scan proves both", || stage.gone() == 2);
    scans(&daemon, 2);
    assert!(!stage.exists(0) && !stage.exists(1) && stage.gone() == 2 && list("/api/v1/missing").is_empty());
}

/// Fault 76: nothing goes, somebody is told, and only a person makes it believed.
#[test]
#[ignore = "needs root and a loop device"]
fn an_empty_catalogue_deletes_nothing_and_is_told_until_a_person_accepts_it() {
    let site = Site::new(30);
    site.list(site.without(&[]), true);
    let config = site.by_manifest("    orphans: { action: delete, grace: 1s, max_share: 10% }\n");
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(
        &config,
        std::fs::read_to_string(&config).unwrap() + "notify: { alerts: { CatalogueUntrusted: { for: 0s } } }\n",
    )
    .unwrap();
    let daemon = site.start(&config);
    site.wait(&daemon, "it is trusted", || catalogue(&daemon)["trusted"] == true);
    scans(&daemon, 2);
    site.list([], true);
    site.wait(&daemon, "it is not believed", || catalogue(&daemon)["trusted"] == false);
    let reason = catalogue(&daemon)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("has no row for tree `live`, which holds 30 recordings"), "{reason}");
    site.wait(&daemon, "somebody is told", || daemon.get("/api/v1/alerts").contains("CatalogueUntrusted"));
    scans(&daemon, 4);
    assert_eq!((site.bed.gone(), metric(&daemon, UNCATALOGUED).as_str()), (0, "0"), "the last trusted values stay");
    let (text, code) = site.command(&["orphans", "delete", "live", "--all"]);
    assert_eq!(code, 5, "{text}");
    let (text, _) = site.command(&["catalogue", "list"]);
    assert!(text.contains("catalogue accept list"), "{text}");
    site.done(&["catalogue", "accept", "list"]);
    site.wait(&daemon, "it is trusted", || catalogue(&daemon)["trusted"] == true);
    assert!(site.journal().iter().any(|entry| entry["kind"] == "catalogue_accepted"), "{:?}", site.journal());
    // Now all are orphans, which is more than the cap allows.
    site.wait(&daemon, "the cap trips", || {
        items(&daemon, "/api/v1/caps").iter().any(|cap| cap["cap"] == "orphan_share")
    });
    scans(&daemon, 2);
    assert_eq!(site.bed.gone(), 0);
}

/// Fault 77: what a newer version found is found anew, and its grace begins anew.
#[test]
#[ignore = "needs root and a loop device"]
fn findings_and_an_index_of_a_newer_version_are_not_read() {
    let site = Site::new(30);
    site.list(site.without(&[8]), true);
    let config = site.by_manifest("    orphans: { action: report, grace: 1s }\n");
    let first_seen = || {
        let daemon = site.start(&config);
        site.wait(&daemon, "it is proven", || items(&daemon, "/api/v1/orphans").iter().any(proven));
        let item = items(&daemon, "/api/v1/orphans")[0].clone();
        assert_eq!(item["path"], site.path(8));
        item["first_seen"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let before = first_seen();
    assert_eq!(first_seen(), before, "a restart changes nothing");
    let state = site.bed.state();
    for file in ["findings.db", "catalogues/list.db"] {
        let newer = rusqlite::Connection::open(state.join(file)).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
    }
    assert!(first_seen() > before);
}

/// Fault 89, with the marker still there: rows are not missing by the thousand, and are not removed.
#[test]
#[ignore = "needs root and a loop device"]
fn an_emptied_tree_that_kept_its_marker_makes_no_row_missing() {
    let site = Site::new(30);
    site.list(site.without(&[]), true);
    let daemon = site.start(&site.by_manifest(DELETE));
    site.wait(&daemon, "it is trusted", || catalogue(&daemon)["trusted"] == true);
    scans(&daemon, 2);
    run("find", &[site.bed.tree().join("live").to_str().unwrap(), "-delete"]);
    assert!(site.bed.tree().join(".storage-guard").exists());
    scans(&daemon, 4);
    assert!(items(&daemon, "/api/v1/missing").is_empty(), "{}", daemon.get("/api/v1/missing"));
    assert_eq!(metric(&daemon, MISSING), "0");
    assert_eq!(catalogue(&daemon)["trusted"], true, "it is not the list that is in doubt");
}
