//! A catalogue that cannot be believed: nothing is done about orphans, cleaning under pressure goes on, and it recovers.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::site::{DATABASE, OUTSIDE, Site, all};
use crate::hygiene::{MISSING, UNCATALOGUED, catalogue, metric, scans};
use crate::support::{Daemon, MariaDb, PASSWORD, Postgres, Server, run, wait_for};

const ROWS: &str = "storage_guard_catalogue_rows{catalogue=\"wvp\"}";
const TRUSTED: &str = "storage_guard_catalogue_trusted{catalogue=\"wvp\"}";
/// Recordings; of these, the oldest that a person wants kept, then those that a pattern keeps and no row knows, then rows without a file.
const RECORDINGS: usize = 2_000;
const COLLECTED: usize = 100;
const ORPHANS: usize = 5;
const GONE: usize = 7;

/// Faults 73 to 77, 89: what is wrong with a catalogue never lets a recording go.
#[test]
#[ignore = "needs root and a loop device"]
fn a_mariadb_that_cannot_be_believed_lets_nothing_go() {
    let home = tempfile::tempdir().unwrap();
    let server = MariaDb::start(home.path());
    let trial = Trial::new(&server);
    trial.killed("kill user reader;", "information_schema.processlist where user = 'reader'");
    trial.wrong();
    trial.cleaned();
    trial.accepted();
}

/// Faults 73 to 77, 89: what is wrong with a catalogue never lets a recording go.
#[test]
#[ignore = "needs root and a loop device"]
fn a_postgresql_that_cannot_be_believed_lets_nothing_go() {
    let home = tempfile::tempdir().unwrap();
    let server = Postgres::start(home.path());
    let trial = Trial::new(&server);
    let sessions = "pg_stat_activity where usename = 'reader'";
    trial.killed(&format!("select pg_terminate_backend(pid) from {sessions};"), sessions);
    trial.wrong();
    trial.cleaned();
    trial.accepted();
}

/// Fault 73: a database that says nothing any more while it is read.
#[test]
#[ignore = "needs root and a loop device"]
fn a_database_that_hangs_lets_nothing_go() {
    let home = tempfile::tempdir().unwrap();
    let server = MariaDb::start(home.path());
    Trial::new(&server).stopped();
}

/// A site whose policy deletes orphans as soon as it may, and a guard.
struct Trial<'a> {
    site: Site<'a>,
    daemon: Daemon,
}

impl<'a> Trial<'a> {
    fn new(server: &'a dyn Server) -> Self {
        let mut site = Site::new(server, 100, RECORDINGS, 4);
        let tree = "    protect: [\"rtp/kept-*/**\"]\n    orphans: { action: delete, grace: 1s, max_share: 100% }\n";
        // Its orphans, which a pattern keeps.
        for number in 0..ORPHANS {
            let from = &site.clips[RECORDINGS - 1 - number].path;
            let to = from.replace("rtp/cam-", "rtp/kept-");
            let file = site.tree().join(&to);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            run("cp", &["-p", site.tree().join(from).to_str().unwrap(), file.to_str().unwrap()]);
            let mut clip = site.clips[RECORDINGS - 1 - number].clone();
            clip.path = to;
            site.clips.push(clip);
        }
        let paths = site.clips[..COLLECTED].iter().map(|clip| format!("'{OUTSIDE}/{}'", clip.path));
        let paths: Vec<String> = paths.collect();
        site.sql(&format!("update wvp_cloud_record set collect = true where file_path in ({});", paths.join(",")));
        site.remove_files(RECORDINGS / 2 - GONE..RECORDINGS / 2);
        // What is in no tree takes its part before there is a guard: what fills the volume later are recordings.
        fallocate(&site.volume.path().join("filler"), bytes_up_to(&site, 695));
        let top = "scan_interval: 1s\nwatermarks: { high: 70%, low: 69.5%, critical: 99% }\n\
                   notify: { alerts: { CatalogueUntrusted: { enabled: true, for: 1s, severity: warning } } }\n";
        let config = site.config("reader", tree, "    interval: 1s\n    full: 2s\n", top);
        let daemon = Daemon::start(&config, &site.state());
        let trial = Self { site, daemon };
        trial.believed();
        // What the platform marks as a favourite bears a hold, which outlives the state and the platform's word.
        let first = trial.site.tree().join(&trial.site.clips[0].path);
        wait_for("favourites are held", || {
            crate::holds::mark(&first).is_some_and(|mark| mark["who"] == "the platform")
        });
        assert!(crate::holds::mark(&trial.site.tree().join(&trial.site.clips[COLLECTED].path)).is_none());
        trial.site.sql("create table kept as select * from wvp_cloud_record;");
        trial
    }

    fn says(&self, series: &str) -> String {
        metric(&self.daemon, series)
    }

    /// Waits until it is believed, and all that was found before is found.
    fn believed(&self) {
        wait_for("it is believed", || {
            let found = [TRUSTED, UNCATALOGUED, MISSING].map(|series| self.says(series));
            found == ["1".to_owned(), ORPHANS.to_string(), GONE.to_string()]
        });
    }

    /// The catalogue is not believed, for this reason; for as long as it lasts nothing of it counts.
    fn unbelieved(&self, parts: &[&str], before: &BTreeSet<String>) {
        let mut listed = Value::Null;
        wait_for("it is not believed", || {
            listed = catalogue(&self.daemon);
            listed["trusted"] == false && parts.iter().all(|part| listed["reason"].as_str().unwrap().contains(part))
        });
        scans(&self.daemon, 3);
        wait_for("it fires", || {
            let alerts = all(&self.daemon, "/api/v1/alerts?");
            let ours = alerts.iter().filter(|alert| alert["alert"] == "CatalogueUntrusted" && alert["ended"].is_null());
            let ours: Vec<&Value> = ours.collect();
            assert!(ours.len() <= 1, "{ours:?}");
            ours.iter().any(|alert| alert["state"] == "firing")
        });
        assert_eq!(self.says(TRUSTED), "0");
        assert_eq!(self.says(UNCATALOGUED), ORPHANS.to_string());
        // Rows without a file are looked for between two readings: those that are deleted are missing no more, whatever is believed.
        let missing = self.says(MISSING);
        assert!([GONE.to_string(), "0".to_owned()].contains(&missing), "{missing} {parts:?}");
        assert_eq!(self.says(ROWS), RECORDINGS.to_string(), "as it was last believed");
        assert_eq!(self.site.on_disk(), *before);
        let said = self.site.said(&["catalogue", "list"]);
        assert!(said.contains("NOT TRUSTED") && parts.iter().all(|part| said.contains(part)), "{said}");
        let refused = self.site.guard(&["orphans", "delete", "live", "--all"]);
        let why = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && why.contains("trusted"), "{why}");
        assert_eq!(self.site.on_disk(), *before);
    }

    /// Its sessions are ended while it is read.
    fn killed(&self, kill: &str, sessions: &str) {
        let before = self.site.on_disk();
        self.many_rows();
        wait_for("it is not believed", || {
            let reading = self.site.sql(&format!("select count(*) from {sessions};"));
            if reading.trim() != "0" {
                self.site.sql(kill);
            }
            catalogue(&self.daemon)["trusted"] == false
        });
        assert_eq!(self.site.on_disk(), before);
        self.few_rows();
        self.believed();
        assert_eq!(self.site.on_disk(), before);
    }

    /// It says nothing any more while it is read.
    fn stopped(&self) {
        let before = self.site.on_disk();
        self.many_rows();
        wait_for("it is being read", || {
            let reading = "select count(*) from information_schema.processlist where user = 'reader';";
            self.site.sql(reading).trim() != "0"
        });
        self.site.server.signal(Signal::STOP);
        // Whichever step of a reading it was in.
        self.unbelieved(&["within", "whether the database"], &before);
        self.site.server.signal(Signal::CONT);
        self.few_rows();
        self.believed();
        assert_eq!(self.site.on_disk(), before);
    }

    /// Rows of somewhere else, so that a reading lasts.
    fn many_rows(&self) {
        let numbers = match self.site.server.scheme() {
            "mysql" => "select 'foreign', concat('/elsewhere/', seq, '.mp4'), 'zlm-1' from seq_1_to_200000",
            _ => "select 'foreign', '/elsewhere/' || n || '.mp4', 'zlm-1' from generate_series(1, 200000) n",
        };
        self.site.sql(&format!("insert into wvp_cloud_record (app, file_path, media_server_id) {numbers};"));
    }

    fn few_rows(&self) {
        self.site.sql("delete from wvp_cloud_record where app = 'foreign';");
    }

    /// It answers, and what it says is wrong.
    fn wrong(&self) {
        let before = self.site.on_disk();
        let back = "delete from wvp_cloud_record; insert into wvp_cloud_record select * from kept;";
        let half: Vec<String> = self.site.clips[RECORDINGS / 2..RECORDINGS]
            .iter()
            .map(|clip| format!("'{OUTSIDE}/{}'", clip.path))
            .collect();
        let half = format!("delete from wvp_cloud_record where file_path in ({});", half.join(","));
        let cases: [(&str, &str, &[&str]); 5] = [
            ("delete from wvp_cloud_record;", back, &["has no row for tree `live`", "catalogue accept wvp"]),
            (
                "update wvp_cloud_record set media_server_id = 'zlm-9';",
                back,
                &["none is of `zlm-1`", "zlm-9", "catalogue accept wvp"],
            ),
            (&half, back, &["whose files are still there", "catalogue accept wvp"]),
            (
                "alter table wvp_cloud_record rename column file_path to path;",
                "alter table wvp_cloud_record rename column path to file_path;",
                &["no column `file_path`", "GRANT SELECT"],
            ),
            (
                "alter table wvp_cloud_record rename column collect to collected;",
                "alter table wvp_cloud_record rename column collected to collect;",
                &["no column `collect`", "GRANT SELECT"],
            ),
        ];
        for (wrong, back, parts) in cases {
            self.site.sql(wrong);
            self.unbelieved(parts, &before);
            self.site.sql(back);
            self.believed();
            assert_eq!(self.site.on_disk(), before, "{wrong:.60}");
        }
        self.site.password("wrong");
        self.reload();
        self.unbelieved(&["password"], &before);
        self.site.password(PASSWORD);
        self.reload();
        self.believed();
        assert_eq!(self.site.on_disk(), before);
    }

    fn reload(&self) {
        let socket = self.site.state().join("control.sock");
        let curl = ["-s", "-f", "-X", "POST", "-m", "30", "--unix-socket", socket.to_str().unwrap()];
        let output = Command::new("curl").args(curl).arg("http://localhost/-/reload").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The volume fills while the catalogue is not believed: the oldest go that nobody wanted kept when it was.
    fn cleaned(&self) {
        let before = self.site.on_disk();
        self.site.sql("delete from wvp_cloud_record;");
        self.unbelieved(&["has no row for tree `live`"], &before);
        let recorded = self.site.tree().join(self.site.clips[RECORDINGS - 1].path.replace("-0.mp4", "-1.mp4"));
        fallocate(&recorded, bytes_up_to(&self.site, 703));
        wait_for("the oldest go", || self.site.on_disk().len() < before.len() - 100);
        wait_for("the pressure is over", || self.daemon.pressure() == "normal");
        let now = self.site.on_disk();
        assert!(
            self.site.clips[..COLLECTED].iter().all(|clip| now.contains(&clip.path)),
            "what a person keeps is there"
        );
        assert!(
            self.site.clips[RECORDINGS..].iter().all(|clip| now.contains(&clip.path)),
            "what a pattern keeps is there"
        );
        run("rm", &[recorded.to_str().unwrap()]);
        self.site.sql("insert into wvp_cloud_record select * from kept;");
        self.believed();
    }

    /// A person looks, and says that it is right.
    fn accepted(&self) {
        let before = self.site.on_disk();
        // The newest half is forgotten, and this time that is meant.
        let forgotten: BTreeSet<String> =
            self.site.clips[RECORDINGS / 2..RECORDINGS].iter().map(|clip| clip.path.clone()).collect();
        self.site.drop_rows(RECORDINGS / 2..RECORDINGS);
        self.unbelieved(&["whose files are still there"], &before);
        let said = self.site.said(&["catalogue", "accept", "wvp"]);
        assert!(said.contains("wvp is accepted"), "{said}");
        wait_for("it is believed", || self.says(TRUSTED) == "1");
        let kept: BTreeSet<String> = before.difference(&forgotten).cloned().collect();
        wait_for("what was forgotten goes", || self.site.on_disk() == kept);
        self.believed();
        assert_eq!(self.site.on_disk(), kept);
        // Now it knows nothing at all.
        self.site.sql("delete from wvp_cloud_record;");
        wait_for("it is not believed", || self.says(TRUSTED) == "0");
        scans(&self.daemon, 3);
        assert_eq!(self.site.on_disk(), kept);
        self.site.said(&["catalogue", "accept", "wvp"]);
        wait_for("all go but what a pattern keeps", || self.site.on_disk().len() == ORPHANS);
        let notes = all(&self.daemon, "/api/v1/journal?");
        let accepted = notes.iter().filter(|entry| entry["kind"] == "catalogue_accepted").count();
        assert_eq!(accepted, 2);
    }
}

fn fallocate(file: &Path, bytes: u64) {
    run("fallocate", &["-l", &bytes.to_string(), file.to_str().unwrap()]);
}

/// What is missing until so many thousandths of the volume are used.
fn bytes_up_to(site: &Site<'_>, thousandths: u64) -> u64 {
    let stat = rustix::fs::statvfs(site.volume.path()).unwrap();
    let (used, available) = (stat.f_blocks - stat.f_bfree, stat.f_bavail);
    ((used + available) * thousandths / 1_000 - used) * stat.f_frsize
}

impl Site<'_> {
    fn sql(&self, statements: &str) -> String {
        self.server.sql(DATABASE, statements)
    }
}
