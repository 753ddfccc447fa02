//! Rows of WVP's table whose files are gone, because we deleted them or otherwise.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use storage_guard::testkit::mp4::Film;

use super::{MISSING, Site, items, metric, paths, proven, scans};
use crate::support::{MariaDb, May, PASSWORD, Postgres, Server, Wvp};

/// The platform's own name of the tree.
const OUTSIDE: &str = "/opt/media/record";

/// Makes the table, with a row for each recording, as WVP writes it.
fn table(server: &dyn Server, site: &Site, may: May) {
    server.create("wvp", Wvp::New);
    server.user("wvp", "guard", may);
    let rows = site.bed.made.iter().enumerate().map(|(at, path)| {
        let parts: Vec<&str> = path.split('/').collect();
        let (start, name) = (1_795_000_000_000_i64 + i64::try_from(at).unwrap() * 60_000, parts[3]);
        format!(
            "('{}', '{}', '', {start}, {}, 'zlm-1', 'wvp-1', '{name}', '{OUTSIDE}/{}/{}/', '{OUTSIDE}/{path}', false, 1048576, 59960)",
            parts[0], parts[1], start + 59_960, parts[0], parts[1]
        )
    });
    let rows: Vec<String> = rows.collect();
    let columns = Wvp::New.columns().join(",");
    server.sql("wvp", &format!("insert into wvp_cloud_record ({columns}) values {};", rows.join(",")));
}

/// The recordings that the table lists.
fn listed(server: &dyn Server) -> BTreeSet<String> {
    let all = server.sql("wvp", "select file_path from wvp_cloud_record;");
    all.lines().map(|line| line.strip_prefix(OUTSIDE).unwrap().trim_start_matches('/').to_owned()).collect()
}

/// The recordings that are on disk.
fn on_disk(site: &Site) -> BTreeSet<String> {
    site.bed.made.iter().filter(|path| site.bed.tree().join(path).exists()).cloned().collect()
}

fn catalogue(server: &dyn Server, site: &Site) -> String {
    format!(
        "kind: wvp, url: \"{}\", username: guard, password: \"{PASSWORD}\", path_map: {{ {OUTSIDE}: {} }}, after_reclaim: remove_row",
        server.url("wvp"),
        site.bed.tree().display()
    )
}

/// After a run for pressure, the platform's list equals the disk.
fn follow(server: &dyn Server) {
    let site = Site::on(100, 75);
    table(server, &site, May::Write);
    let config = site.config("", &catalogue(server, &site));
    let daemon = site.start(&config);
    site.wait(&daemon, "the low mark is reached", || daemon.pressure() == "normal" && site.bed.gone() > 10);
    site.wait(&daemon, "the rows are gone", || listed(server) == on_disk(&site));
    scans(&daemon, 2);
    assert_eq!((listed(server), metric(&daemon, MISSING).as_str()), (on_disk(&site), "0"));
    assert!(items(&daemon, "/api/v1/missing").is_empty() && items(&daemon, "/api/v1/orphans").is_empty());
    let (gone, notes) = (site.bed.gone(), site.journal());
    let of_row = |note: &&serde_json::Value| {
        note["kind"] == "rows" && note["note"].as_str().is_some_and(|text| text.ends_with(" was removed"))
    };
    assert_eq!(notes.iter().filter(of_row).count(), gone);
}

#[test]
#[ignore = "needs root, a loop device, MariaDB and PostgreSQL"]
fn rows_of_recordings_that_went_for_pressure_go_too_and_the_table_equals_the_disk() {
    let home = tempfile::tempdir().unwrap();
    follow(&MariaDb::start(home.path()));
    follow(&Postgres::start(home.path()));
}

#[test]
#[ignore = "needs root, a loop device and MariaDB"]
fn rows_that_may_not_be_removed_stay_and_one_remark_says_which_right_is_wanted() {
    let home = tempfile::tempdir().unwrap();
    let server = MariaDb::start(home.path());
    let site = Site::on(100, 75);
    table(&server, &site, May::Read);
    let daemon = site.start(&site.config("", &catalogue(&server, &site)));
    site.wait(&daemon, "the low mark is reached", || daemon.pressure() == "normal" && site.bed.gone() > 10);
    site.wait(&daemon, "the right is named", || site.log().contains("DELETE"));
    scans(&daemon, 3);
    assert_eq!((listed(&server).len(), metric(&daemon, MISSING).as_str()), (75, "0"), "we deleted them ourselves");
    assert!(items(&daemon, "/api/v1/missing").is_empty());
    let log = site.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("DELETE")).collect();
    assert_eq!(said.len(), 1, "{said:#?}");
}

#[expect(clippy::disallowed_methods, reason = "somebody else removes the test's own file")]
fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// Fault 37, the platform's way: rows without a file are told, and go when a person says so; files are left alone.
#[test]
#[ignore = "needs root, a loop device and PostgreSQL"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn a_row_without_a_file_goes_on_request_unless_its_file_came_back() {
    let home = tempfile::tempdir().unwrap();
    let server = Postgres::start(home.path());
    let site = Site::new(30);
    table(&server, &site, May::Write);
    let away = [3, 7, 12, 20, 28];
    let names = || away.iter().map(|at| site.path(*at).to_owned()).collect::<BTreeSet<_>>();
    away.iter().for_each(|at| remove(&site.bed.file(*at)));
    let daemon = site.start(&site.config_every("1h", "", &catalogue(&server, &site)));
    site.wait(&daemon, "five are missing", || metric(&daemon, MISSING) == "5");
    assert_eq!(paths(&daemon, "/api/v1/missing", |_| true), names());
    let (text, code) = site.command(&["missing", "list", "live"]);
    assert!(code == 0 && names().iter().all(|name| text.contains(name.as_str())), "{text}");
    // One by name, the rest together; of those, one is there again by then.
    site.done(&["missing", "remove", "live", site.path(3)]);
    assert_eq!(listed(&server).len(), 29);
    std::fs::write(site.bed.file(12), "it came back").unwrap();
    let (text, code) = site.command(&["missing", "remove", "live", "--all"]);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains(site.path(12)), "{text}");
    assert_eq!(listed(&server), on_disk(&site));
    let (text, code) = site.command(&["missing", "remove", "live", site.path(5)]);
    assert!(code == 1 || code == 2, "a row whose file is there is none that is missing: {code} {text}");
    assert_eq!((listed(&server).len(), site.bed.gone()), (26, 4));
    site.wait(&daemon, "nothing but what came back is listed", || {
        paths(&daemon, "/api/v1/missing", |_| true).iter().all(|path| path == site.path(12))
    });
}

/// `action: adopt`: what the platform forgot gets its row back, if it can be played; what cannot is told, and stays.
#[test]
#[ignore = "needs root, a loop device and MariaDB"]
fn a_forgotten_recording_is_adopted_by_policy_once_and_only_if_it_plays() {
    let home = tempfile::tempdir().unwrap();
    let server = MariaDb::start(home.path());
    let site = Site::new(30);
    table(&server, &site, May::Write);
    let (plays, broken) = ([4, 15, 22], 9);
    for at in plays {
        let (path, age) = (site.bed.file(at), std::fs::metadata(site.bed.file(at)).unwrap().modified().unwrap());
        #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
        std::fs::write(&path, Film::new(Duration::from_secs(30)).plain()).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(age).unwrap();
    }
    for at in plays.iter().chain([&broken]) {
        server.sql("wvp", &format!("delete from wvp_cloud_record where file_path = '{OUTSIDE}/{}';", site.path(*at)));
    }
    let config = site.config("    orphans: { action: adopt, grace: 1s }\n", &catalogue(&server, &site));
    let daemon = site.start(&config);
    site.wait(&daemon, "three are adopted", || listed(&server).len() == 29);
    scans(&daemon, 3);
    let rows = server.sql("wvp", "select count(*) from wvp_cloud_record;");
    assert_eq!((rows.trim(), listed(&server).contains(site.path(broken)), site.bed.gone()), ("29", false, 0));
    let length = format!("select time_len from wvp_cloud_record where file_path = '{OUTSIDE}/{}';", site.path(15));
    assert_eq!(server.sql("wvp", &length).trim(), "30000");
    assert_eq!(paths(&daemon, "/api/v1/orphans", proven), BTreeSet::from([site.path(broken).to_owned()]));
}

/// A person who cancels is heard between two chunks of rows, also where another session keeps the first one waiting.
#[test]
#[ignore = "needs root, a loop device, MariaDB and curl"]
fn a_cancelled_removal_of_rows_ends_with_the_chunk_that_it_is_at() {
    const ROWS: usize = 1_100;
    let home = tempfile::tempdir().unwrap();
    let server = MariaDb::start(home.path());
    let site = Site::new(10);
    table(&server, &site, May::Write);
    let name =
        |at: usize| format!("live/a/2026-01-01/2026-01-01-{:02}-{:02}-{:02}-0.mp4", at / 3600, at / 60 % 60, at % 60);
    let row = |at: usize| {
        format!(
            "('live', 'a', '', 1, 2, 'zlm-1', 'wvp-1', 'x', '{OUTSIDE}/live/a/', '{OUTSIDE}/{}', false, 1, 1)",
            name(at)
        )
    };
    let rows: Vec<String> = (0..ROWS).map(row).collect();
    let columns = Wvp::New.columns().join(",");
    server.sql("wvp", &format!("insert into wvp_cloud_record ({columns}) values {};", rows.join(",")));
    let daemon = site.start(&site.config_every("1h", "", &catalogue(&server, &site)));
    site.wait(&daemon, "all are missing", || metric(&daemon, MISSING) == ROWS.to_string());
    let waits = "select count(*) from information_schema.innodb_trx where trx_state = 'LOCK WAIT';";
    let held = "select count(*) from information_schema.innodb_trx;";
    let all: Vec<String> = (0..ROWS).map(name).collect();
    let lock = format!(
        "begin; update wvp_cloud_record set call_id = 'x' where file_path = '{OUTSIDE}/{}'; do sleep(5); rollback;",
        name(7)
    );
    std::thread::scope(|scope| {
        scope.spawn(|| server.sql("wvp", &lock));
        site.wait(&daemon, "a row is locked", || server.sql("wvp", held).trim() != "0");
        let asked = ask(&site, "POST", "/api/v1/missing/remove", &serde_json::json!({"tree": "live", "paths": all}));
        let job = asked["job"].as_u64().unwrap_or_else(|| panic!("{asked}"));
        site.wait(&daemon, "the removal waits for the lock", || server.sql("wvp", waits).trim() == "1");
        let cancelled = ask(&site, "DELETE", &format!("/api/v1/jobs/{job}"), &serde_json::Value::Null);
        assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
        site.wait(&daemon, "the job is over", || {
            let job: serde_json::Value = serde_json::from_str(&daemon.get(&format!("/api/v1/jobs/{job}"))).unwrap();
            job["finished"].is_string()
        });
    });
    assert_eq!(listed(&server).len(), 10 + ROWS - 500, "the first chunk, and no other");
}

/// Asks the daemon of a site through its control socket.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn ask(site: &Site, method: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
    let (socket, sent) = (site.bed.state().join("control.sock"), site.bed.home.path().join("body.json"));
    std::fs::write(&sent, body.to_string()).unwrap();
    let mut curl = std::process::Command::new("curl");
    curl.args(["-s", "-m", "30", "-X", method, "-H", "Content-Type: application/json", "--data-binary"]);
    curl.arg(format!("@{}", sent.display())).arg("--unix-socket").arg(socket);
    let output = curl.arg(format!("http://localhost{path}")).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
