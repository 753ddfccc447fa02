//! Frigate's database and hook records as witnesses.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{MISSING, Site, UNCATALOGUED, catalogue, items, metric, paths, proven, scans};
use crate::support::{Daemon, now};

/// Sends a body as it is, by the control socket; what is answered.
fn post(site: &Site, path: &str, body: &str) -> Value {
    let socket = site.bed.state().join("control.sock");
    let url = format!("http://localhost{path}");
    let mut command = Command::new("curl");
    command.args(["-s", "-m", "30", "-H", "Content-Type: application/json", "--data-binary", "@-", "--unix-socket"]);
    command.arg(socket).arg(url).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stdout)))
}

/// Writes a recording that is hours old.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn file(tree: &Path, path: &str, bytes: usize) {
    let file = tree.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vec![7; bytes]).unwrap();
    let at = now() - Duration::from_secs(5 * 86_400);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_frigate_forgot_goes_and_what_it_lists_in_vain_is_missing() {
    let site = Site::on(64, 0);
    let day =
        jiff::Timestamp::try_from(now() - Duration::from_secs(5 * 86_400)).unwrap().strftime("%Y-%m-%d").to_string();
    let all: Vec<String> = (0..20)
        .map(|at| format!("{day}/{:02}/{}/{:02}.{:02}.mp4", at / 10, ["gate", "yard"][at % 2], at, at))
        .collect();
    all.iter().for_each(|path| file(&site.bed.tree(), path, 4096));
    let database = site.bed.home.path().join("frigate.db");
    let frigate = rusqlite::Connection::open(&database).unwrap();
    let schema = "PRAGMA journal_mode = WAL; CREATE TABLE recordings(id VARCHAR(30) NOT NULL PRIMARY KEY, camera VARCHAR(20) NOT NULL,
        path VARCHAR(255) NOT NULL, start_time DATETIME NOT NULL, end_time DATETIME NOT NULL, duration REAL NOT NULL)";
    frigate.execute_batch(schema).unwrap();
    let insert = |path: &str| {
        let row =
            "INSERT INTO recordings VALUES(?1, 'cam', '/media/frigate/recordings/' || ?1, 1795000000, 1795000010, 10)";
        frigate.execute(row, [path]).unwrap();
    };
    let absent = format!("{day}/00/gate/59.59.mp4");
    all.iter().enumerate().filter(|(at, _)| ![6, 13].contains(at)).for_each(|(_, path)| insert(path));
    insert(&absent);
    let policy = "    orphans: { action: delete, grace: 1s, max_share: 50% }\n";
    let map = format!("path_map: {{ /media/frigate/recordings: {} }}", site.bed.tree().display());
    let config = site.config(policy, &format!("kind: frigate, file: {}, {map}", database.display()));
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap().replace("layout: zlmediakit", "layout: frigate"))
        .unwrap();
    let daemon = site.start(&config);
    let there = |at: usize| site.bed.tree().join(&all[at]).exists();
    site.wait(&daemon, "both are gone", || !there(6) && !there(13));
    site.wait(&daemon, "none is left", || metric(&daemon, UNCATALOGUED) == "0");
    scans(&daemon, 1);
    assert_eq!((0..20).filter(|at| !there(*at)).count(), 2);
    assert_eq!(metric(&daemon, MISSING), "1");
    assert_eq!(paths(&daemon, "/api/v1/missing", |_| true).into_iter().collect::<Vec<_>>(), [absent]);
    // It was only read.
    let rows: i64 = frigate.query_row("SELECT count(*) FROM recordings", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 19);
}

const TOLD: &str = include_str!("../../data/zlmediakit/hook_on_record_mp4.json");
const NEVER_THERE: &str = include_str!("../../data/zlmediakit/hook_on_record_mp4_RENAMEFAILED_file_absent.json");
const ELSEWHERE: &str = include_str!("../../data/zlmediakit/hook_on_record_mp4_DISKFULL_corrupt_slice.json");

/// A tree with the recording of [`TOLD`], its sibling that no hook told of, and a sibling of [`NEVER_THERE`].
fn hooked(site: &Site) -> (Daemon, [&'static str; 3]) {
    let names = [
        "live/test/2026-11-22/2026-11-22-12-21-41-0.mp4",
        "live/test/2026-11-22/2026-11-22-12-20-41-0.mp4",
        "live/immrec/2026-11-22/2026-11-22-12-31-28-0.mp4",
    ];
    for (name, bytes) in names.iter().zip([772_023, 5_000, 5_000]) {
        file(&site.bed.tree(), name, bytes);
    }
    let map = format!("path_map: {{ /data/zlm/rec/record: {} }}", site.bed.tree().display());
    let daemon = site.start(&site.config("    orphans: { grace: 1s }\n", &format!("kind: hooks, {map}")));
    (daemon, names)
}

fn stored(answer: &Value) -> (u64, u64, usize) {
    let number = |key: &str| answer[key].as_u64().unwrap_or_else(|| panic!("{answer}"));
    (number("stored"), number("duplicate"), answer["rejected"].as_array().unwrap().len())
}

/// Fault 37, and promise 7: hooks prove presence only; what they tell of in vain is missing, and its siblings stay.
#[test]
#[ignore = "needs root and a loop device"]
fn a_hook_of_an_absent_file_makes_it_missing_and_what_no_hook_told_of_is_unproven() {
    let site = Site::on(64, 0);
    let (daemon, names) = hooked(&site);
    for body in [TOLD, NEVER_THERE] {
        assert_eq!(stored(&post(&site, "/api/v1/hook-records", body)), (1, 0, 0));
    }
    site.wait(&daemon, "the file that is absent is missing", || metric(&daemon, MISSING) == "1");
    let absent = "live/immrec/2026-11-22/2026-11-22-12-32-28-0.mp4";
    assert_eq!(paths(&daemon, "/api/v1/missing", |_| true).into_iter().collect::<Vec<_>>(), [absent]);
    scans(&daemon, 3);
    let mut untold = [names[1].to_owned(), names[2].to_owned()];
    untold.sort();
    let listed = paths(&daemon, "/api/v1/orphans", |item| item["kind"] == "uncatalogued");
    assert_eq!(listed.into_iter().collect::<Vec<_>>(), untold);
    assert!(paths(&daemon, "/api/v1/orphans", proven).is_empty());
    for remedy in ["delete", "quarantine"] {
        for which in ["--all", names[1]] {
            let (text, code) = site.command(&["orphans", remedy, "live", which]);
            assert!(code == 5 && text.contains("presence only"), "{remedy} {which}: {code} {text}");
        }
    }
    assert!(names.iter().all(|name| site.bed.tree().join(name).exists()));
}

/// Fault 110: none of them hides, adds or deletes anything.
#[test]
#[ignore = "needs root and a loop device"]
fn forged_replayed_foreign_and_disordered_hooks_change_nothing_on_disk() {
    let site = Site::on(64, 0);
    let (daemon, names) = hooked(&site);
    let records = "/api/v1/hook-records";
    let with = |change: &[(&str, Value)]| {
        let mut body: Value = serde_json::from_str(TOLD).unwrap();
        for (key, value) in change {
            body[*key] = value.clone();
        }
        body
    };
    // Later first, then the earlier, then both again; and one that lies below no tree of ours.
    let later = with(&[("start_time", json!(1_795_350_201)), ("hook_index", json!(99))]);
    assert_eq!(stored(&post(&site, records, &later.to_string())), (1, 0, 0));
    assert_eq!(stored(&post(&site, records, TOLD)), (1, 0, 0));
    assert_eq!(stored(&post(&site, records, TOLD)), (0, 1, 0));
    assert_eq!(stored(&post(&site, records, ELSEWHERE)), (1, 0, 0));
    let path = |path: &str| with(&[("file_path", json!(path))]);
    let forged = json!([
        path("/data/zlm/rec/record/../../../etc/passwd"),
        path("relative.mp4"),
        path("/data/zlm/rec/record/live/a\nb.mp4"),
        with(&[("file_size", json!(-1))]),
        "no hook",
    ]);
    assert_eq!(stored(&post(&site, records, &forged.to_string())), (0, 0, 5));
    // Of another media server, about a file of ours.
    assert_eq!(stored(&post(&site, records, &with(&[("mediaServerId", json!("other"))]).to_string())), (1, 0, 0));
    site.wait(&daemon, "all are read", || catalogue(&daemon)["foreign_rows"] == 1);
    scans(&daemon, 2);
    assert_eq!((catalogue(&daemon)["trusted"].clone(), metric(&daemon, MISSING).as_str()), (true.into(), "0"));
    assert!(!paths(&daemon, "/api/v1/orphans", |_| true).contains(names[0]), "{:?}", items(&daemon, "/api/v1/orphans"));
    assert!(names.iter().all(|name| site.bed.tree().join(name).exists()) && Path::new("/etc/passwd").exists());
    assert!(site.journal().iter().all(|entry| entry["kind"] != "deletion"));
}
