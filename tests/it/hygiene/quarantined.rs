//! Orphans in quarantine, the cap that holds them back, and a state that is lost, with the daemon running.

use std::path::Path;

use serde_json::Value;

use super::{MISSING, Site, UNCATALOGUED, catalogue, items, metric, paths, proven, scans};
use crate::support::{guard, json, run};

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn quarantined(item: &Value) -> bool {
    item["state"] == "quarantined"
}

/// What is set aside outlives a kill; it is put back, never over a newer file, or goes when its time is over.
#[test]
#[ignore = "needs root and a loop device"]
fn what_is_in_quarantine_outlives_a_kill_and_comes_back_or_goes() {
    let site = Site::new(30);
    site.list(site.without(&[2, 9, 17]), true);
    let policy = |quarantine: &str| {
        site.by_manifest(&format!(
            "    orphans: {{ action: quarantine, grace: 1s, max_share: 50%, quarantine: {quarantine} }}\n"
        ))
    };
    let mut daemon = site.start(&policy("1h"));
    let aside = |daemon: &_| paths(daemon, "/api/v1/orphans", quarantined);
    site.wait(&daemon, "three are set aside", || site.bed.gone() == 3 && aside(&daemon).len() == 3);
    site.wait(&daemon, "none is left", || metric(&daemon, UNCATALOGUED) == "0");
    run("kill", &["-9", &daemon.pid().to_string()]);
    assert!(!daemon.ended().success());
    drop(daemon);
    // From here on the catalogue knows them, so that what comes back stays; and somebody records anew under the second's name.
    site.list(site.without(&[]), true);
    write(&site.bed.file(9), "newer");
    let daemon = site.start(&policy("1h"));
    site.wait(&daemon, "the catalogue is read", || catalogue(&daemon)["trusted"] == true);
    scans(&daemon, 1);
    assert_eq!((aside(&daemon).len(), site.bed.gone()), (3, 2));
    site.done(&["orphans", "restore", "live", site.path(2)]);
    assert_eq!(std::fs::metadata(site.bed.file(2)).unwrap().len(), 1 << 20);
    let (text, code) = site.command(&["orphans", "restore", "live", site.path(9)]);
    assert_eq!((code, std::fs::read_to_string(site.bed.file(9)).unwrap().as_str()), (4, "newer"), "{text}");
    scans(&daemon, 2);
    assert_eq!((aside(&daemon).len(), site.bed.gone()), (2, 1));
    drop(daemon);
    // What a catalogue knows by now does not go; once it does not, its time is over.
    let daemon = site.start(&policy("1s"));
    site.wait(&daemon, "the catalogue is read", || catalogue(&daemon)["trusted"] == true);
    scans(&daemon, 3);
    assert_eq!(aside(&daemon).len(), 2);
    drop(daemon);
    site.list(site.without(&[9, 17]), true);
    // What is in quarantine is not missing by our own doing: 17 was set aside by us.
    let daemon = site.start(&policy("1s"));
    site.wait(&daemon, "their time is over", || aside(&daemon).is_empty());
    scans(&daemon, 2);
    assert_eq!((site.bed.gone(), metric(&daemon, MISSING).as_str()), (1, "0"));
    assert_eq!(std::fs::read_to_string(site.bed.file(9)).unwrap(), "newer");
    let (text, code) = site.command(&["journal", "explain", site.path(17)]);
    assert!(code == 0 && text.contains("quarantine"), "{text}");
    drop(daemon);
    let verified = guard(&["journal", "verify", "-c", policy("1s").to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// By command, where the policy only reports.
#[test]
#[ignore = "needs root and a loop device"]
fn a_person_sets_aside_puts_back_and_deletes_what_is_only_reported() {
    let site = Site::new(30);
    site.list(site.without(&[2, 9]), true);
    let daemon = site.start(&site.by_manifest("    orphans: { action: report, grace: 1s }\n"));
    site.wait(&daemon, "two are proven", || paths(&daemon, "/api/v1/orphans", proven).len() == 2);
    scans(&daemon, 2);
    assert_eq!(site.bed.gone(), 0, "the policy is to report");
    let (text, code) = site.command(&["orphans", "delete", "live", site.path(3)]);
    assert!(code != 0 && site.bed.gone() == 0, "it is none: {code} {text}");
    site.done(&["orphans", "quarantine", "live", site.path(2)]);
    assert!(!site.bed.exists(2) && site.bed.exists(9));
    site.done(&["orphans", "restore", "live", "--all"]);
    assert_eq!(site.bed.gone(), 0);
    site.wait(&daemon, "it is proven anew", || paths(&daemon, "/api/v1/orphans", proven).len() == 2);
    site.done(&["orphans", "delete", "live", "--all"]);
    assert!(site.bed.gone() == 2 && !site.bed.exists(2) && !site.bed.exists(9));
    site.wait(&daemon, "none is left", || metric(&daemon, UNCATALOGUED) == "0");
}

/// Promise 9.
#[test]
#[ignore = "needs root and a loop device"]
fn too_many_orphans_wait_for_a_person_also_over_a_restart_and_one_run_is_permitted() {
    let site = Site::new(30);
    let first: Vec<usize> = (0..10).collect();
    let both: Vec<usize> = (0..20).collect();
    site.list(site.without(&first), true);
    let config = site.by_manifest("    orphans: { action: delete, grace: 1s, max_share: 10% }\n");
    let caps = |daemon: &_| items(daemon, "/api/v1/caps");
    let daemon = site.start(&config);
    site.wait(&daemon, "the cap trips", || caps(&daemon).iter().any(|cap| cap["cap"] == "orphan_share"));
    site.wait(&daemon, "it is told", || daemon.get("/api/v1/alerts").contains("CapTripped"));
    let (text, code) = site.command(&["orphans", "delete", "live", "--all"]);
    assert_eq!(code, 5, "{text}");
    scans(&daemon, 2);
    assert_eq!(site.bed.gone(), 0);
    drop(daemon);
    let daemon = site.start(&config);
    scans(&daemon, 3);
    assert_eq!((site.bed.gone(), caps(&daemon).len()), (0, 1));
    site.done(&["cap", "acknowledge", "live", "orphan_share"]);
    site.wait(&daemon, "what was wanted goes", || site.bed.gone() == 10);
    assert!(first.iter().all(|at| !site.bed.exists(*at)));
    site.list(site.without(&both), true);
    site.wait(&daemon, "the cap trips again", || caps(&daemon).len() == 1);
    scans(&daemon, 2);
    assert_eq!(site.bed.gone(), 10, "one run was permitted");
}

/// Faults 73 and 89: who lost what it knew begins anew, and deletes nothing before the grace is over again.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it loses the test's own state")]
fn a_lost_state_proves_everything_anew_and_puts_back_what_was_in_quarantine() {
    const GRACE: i64 = 8;
    let site = Site::new(30);
    site.list(site.without(&[4]), true);
    let config = site.by_manifest("    orphans: { action: quarantine, grace: 1s, max_share: 50%, quarantine: 1h }\n");
    let daemon = site.start(&config);
    site.wait(&daemon, "it is set aside", || site.bed.gone() == 1);
    scans(&daemon, 1);
    drop(daemon);
    std::fs::remove_dir_all(site.bed.state()).unwrap();
    site.list(site.without(&[4, 11]), true);
    let config = site.by_manifest(&format!("    orphans: {{ action: delete, grace: {GRACE}s, max_share: 50% }}\n"));
    // The tree bears the mark of the state that is lost: nothing is done before somebody says that it is ours.
    let daemon = site.start(&config);
    site.wait(&daemon, "it is blind", || {
        daemon.pressure() == "blind" || daemon.get("/api/v1/status").contains("marker")
    });
    assert!(!site.bed.exists(4) && site.bed.exists(11));
    drop(daemon);
    let accepted = guard(&["init", "--accept", "-c", config.to_str().unwrap()]);
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    let daemon = site.start(&config);
    site.wait(&daemon, "it is back under its name", || site.bed.exists(4));
    site.wait(&daemon, "both are sighted anew", || {
        items(&daemon, "/api/v1/orphans").iter().filter(|item| item["kind"] == "uncatalogued").count() == 2
    });
    let sighted = items(&daemon, "/api/v1/orphans");
    let first_seen = |at: usize| {
        let item = sighted.iter().find(|item| item["path"] == site.path(at)).unwrap();
        item["first_seen"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    site.wait(&daemon, "both are gone", || site.bed.gone() == 2);
    assert!(!site.bed.exists(4) && !site.bed.exists(11));
    let entries = json(&["journal", "list", "--state", site.bed.state().to_str().unwrap()]);
    for at in [4, 11] {
        let gone = |entry: &&Value| entry["path"] == site.path(at) && entry["outcome"] == "verified";
        let entry = entries["items"].as_array().unwrap().iter().find(gone).unwrap();
        let time: jiff::Timestamp = entry["time"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second() - first_seen(at).as_second() >= GRACE, "{entry}");
    }
}

/// The commands do the same without a daemon: they read the catalogues themselves, and go on from what was found before.
#[test]
#[ignore = "needs root and a loop device"]
fn commands_deal_with_orphans_while_no_daemon_runs() {
    let site = Site::new(30);
    let absent = "live/a/2026-01-01/2026-01-01-00-00-00-0.mp4";
    site.list(site.without(&[2, 9, 17]).into_iter().chain([absent]), true);
    let config = site.by_manifest("    orphans: { action: report, grace: 1s, max_share: 50% }\n");
    let daemon = site.start(&config);
    site.wait(&daemon, "three are proven", || paths(&daemon, "/api/v1/orphans", proven).len() == 3);
    drop(daemon);
    let config = config.to_str().unwrap();
    let command = |args: &[&str]| {
        let output = guard(&[args, &["-c", config]].concat());
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {text}");
        text.into_owned()
    };
    let orphans = || json(&["orphans", "list", "live", "-c", config])["items"].as_array().unwrap().clone();
    assert_eq!(orphans().iter().filter(|item| proven(item)).count(), 3, "{:?}", orphans());
    assert!(command(&["missing", "list"]).contains(absent));
    assert!(command(&["catalogue", "list"]).contains("list"));
    command(&["orphans", "quarantine", "live", site.path(9)]);
    assert!(site.bed.gone() == 1 && !site.bed.exists(9));
    assert_eq!(orphans().iter().filter(|item| quarantined(item)).count(), 1, "{:?}", orphans());
    command(&["orphans", "restore", "live", "--all"]);
    assert_eq!(site.bed.gone(), 0);
    command(&["orphans", "delete", "live", site.path(2), site.path(17)]);
    assert!(site.bed.gone() == 2 && !site.bed.exists(2) && !site.bed.exists(17));
    // The list loses all; a command tells it, and accepts it.
    site.list([], true);
    assert!(command(&["catalogue", "list"]).contains("catalogue accept list"));
    let refused = guard(&["orphans", "delete", "live", "--all", "-c", config]);
    assert_eq!((refused.status.code(), site.bed.gone()), (Some(5), 2), "{}", String::from_utf8_lossy(&refused.stderr));
    command(&["catalogue", "accept", "list"]);
    assert!(!command(&["catalogue", "list"]).contains("catalogue accept list"));
}

/// What is protected or has another name is told and stays, though no catalogue knows it, and the journal does not fill up with it.
#[test]
#[ignore = "needs root and a loop device"]
fn a_protected_or_linked_orphan_stays_and_is_not_tried_at_each_scan() {
    let site = Site::new(30);
    site.list(site.without(&[2, 9, 17, 23]), true);
    std::fs::hard_link(site.bed.file(23), site.bed.volume.path().join("twin")).unwrap();
    let protect = format!("    protect: [\"{}\"]\n", site.path(9));
    // A person's request is tried too, and so is another policy.
    for (action, times) in [("quarantine", 1), ("delete", 3)] {
        let policy =
            format!("{protect}    orphans: {{ action: {action}, grace: 1s, max_share: 50%, quarantine: 1h }}\n");
        let daemon = site.start(&site.by_manifest(&policy));
        site.wait(&daemon, "the others go", || site.bed.gone() == 2);
        scans(&daemon, 5);
        assert!(site.bed.exists(9) && site.bed.exists(23) && site.bed.gone() == 2);
        let tried = |at: usize| site.journal().iter().filter(|entry| entry["path"] == site.path(at)).count();
        assert_eq!((tried(9), tried(23) <= times), (0, true), "{action}: {} times", tried(23));
        for at in [9, 23] {
            let (text, code) = site.command(&["orphans", "delete", "live", site.path(at)]);
            assert!(code != 0 && site.bed.exists(at), "{code} {text}");
        }
    }
}

/// What is over its time in quarantine and stays there for now costs nothing at each look, and is in nobody's way.
#[test]
#[ignore = "needs root and a loop device"]
fn what_is_protected_in_quarantine_begins_no_run() {
    let site = Site::new(30);
    site.list(site.without(&[2, 9]), true);
    let policy = |quarantine, more: &str| {
        format!("{more}    orphans: {{ action: quarantine, grace: 1s, max_share: 50%, quarantine: {quarantine} }}\n")
    };
    let daemon = site.start(&site.by_manifest(&policy("1h", "")));
    site.wait(&daemon, "both are set aside", || site.bed.gone() == 2);
    drop(daemon);
    let protect = format!("    protect: [\"{}\", \"{}\"]\n", site.path(2), site.path(9));
    let daemon = site.start(&site.by_manifest(&policy("1s", &protect)));
    scans(&daemon, 2);
    let before = site.journal().len();
    scans(&daemon, 5);
    assert_eq!(site.journal().len(), before, "{:#?}", site.journal().last());
    let quarantined = || site.journal().iter().filter(|entry| entry["rule"] == "orphan").count();
    assert_eq!(quarantined(), 0);
    drop(daemon);
    let protect = format!("    protect: [\"{}\"]\n", site.path(2));
    let daemon = site.start(&site.by_manifest(&policy("1s", &protect)));
    site.wait(&daemon, "the other goes", || quarantined() == 1);
    let deleted = site.journal().into_iter().find(|entry| entry["rule"] == "orphan").unwrap();
    assert_eq!(deleted["path"], site.path(9));
    let started = site.journal().into_iter().rev().find(|entry| entry["kind"] == "run_started").unwrap();
    assert!(started["note"].as_str().unwrap().starts_with("1 recordings"), "{started}");
}

/// Another policy and another list take effect with a reload, and without any list nothing is an orphan.
#[test]
#[ignore = "needs root and a loop device"]
fn a_reload_takes_over_another_policy_another_list_or_none() {
    let site = Site::new(30);
    let reload = |daemon: &crate::support::Daemon| run("kill", &["-HUP", &daemon.pid().to_string()]);
    site.list(site.without(&[2, 9]), true);
    let orphans = |action: &str| format!("    orphans: {{ action: {action}, grace: 1s, max_share: 50% }}\n");
    let daemon = site.start(&site.by_manifest(&orphans("report")));
    site.wait(&daemon, "two are proven", || paths(&daemon, "/api/v1/orphans", proven).len() == 2);
    site.by_manifest(&orphans("delete"));
    reload(&daemon);
    site.wait(&daemon, "both go", || site.bed.gone() == 2);
    // Another file, which is not there yet: nothing it does not say counts.
    let other = site.bed.home.path().join("other.txt");
    let config = site.config(&orphans("delete"), &format!("kind: manifest, max_drop: 90%, file: {}", other.display()));
    reload(&daemon);
    site.wait(&daemon, "it is not believed", || catalogue(&daemon)["trusted"] == false);
    scans(&daemon, 3);
    assert_eq!(site.bed.gone(), 2);
    site.list(site.without(&[2, 9, 11]), true);
    std::fs::copy(site.manifest(), &other).unwrap();
    site.wait(&daemon, "what the other list does not know goes", || site.bed.gone() == 3);
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, _) = text.split_once("catalogues:").unwrap();
    write(&config, &before.replace("    catalogue: list\n", "").replace(&orphans("delete"), ""));
    reload(&daemon);
    site.wait(&daemon, "there is no catalogue", || items(&daemon, "/api/v1/catalogues").is_empty());
    scans(&daemon, 2);
    assert_eq!((site.bed.gone(), metric(&daemon, UNCATALOGUED).as_str()), (3, ""));
    assert!(paths(&daemon, "/api/v1/orphans", proven).is_empty());
}
