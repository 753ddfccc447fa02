//! A guard that keeps its cold tier in a bucket: what is old moves, comes back the same, and comes to its end; whatever the store does
//! meanwhile, no source goes without a copy.
#![expect(clippy::disallowed_methods, reason = "it makes the test's own files")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::Site;
use super::between::On::{Any, Put, Range};
use super::between::What::{CutAnswer, CutUpload, FlippedAnswer, FlippedUpload, Refused, Unheard};
use super::between::{ALWAYS, Fault, fault};
use crate::archive::archive_of;
use crate::reclaim::Bed;
use crate::support::asking::{ask, until};
use crate::support::moto::KEY;
use crate::support::{Daemon, Mounted, guard, json as printed, now, run, wait_for};

const DAY: Duration = Duration::from_secs(86_400);

/// A bed whose recordings differ from each other, and a bucket.
struct Guarded {
    bed: Bed,
    site: Site,
    content: BTreeMap<String, Vec<u8>>,
}

impl Guarded {
    fn new(count: u32) -> Self {
        let bed = Bed::new(Mounted::ext4(64), count);
        let mut content = BTreeMap::new();
        for path in &bed.made {
            let file = bed.tree().join(path);
            let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
            let mut film = vec![0; 1 << 20];
            fastrand::Rng::with_seed(content.len() as u64).fill(&mut film);
            std::fs::write(&file, &film).unwrap();
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
            content.insert(path.clone(), film);
        }
        run("sync", &["-f", bed.volume.path().to_str().unwrap()]);
        Self { bed, site: Site::new(), content }
    }

    fn config(&self, archive: &str, rest: &str) -> PathBuf {
        let bucket = format!(
            "{rest}archives:\n  - {{ name: bucket, kind: s3, bucket: cold, prefix: guard/site-1, endpoint: \
             \"http://127.0.0.1:{}\", access_key: {}, secret_key: {}, {archive} }}\n",
            self.site.between.port(),
            KEY.0,
            KEY.1
        );
        let path = self.bed.config("    archive: bucket\n", &bucket);
        run("chmod", &["600", path.to_str().unwrap()]);
        path
    }

    fn state(&self) -> String {
        self.bed.state().to_str().unwrap().to_owned()
    }

    fn copy(&self, path: &str) -> Option<Vec<u8>> {
        self.site.content(&format!("live/{path}"))
    }

    /// No recording is in neither place, and none changed.
    fn nothing_is_lost(&self) {
        for (at, path) in self.bed.made.iter().enumerate() {
            match std::fs::read(self.bed.file(at)) {
                Ok(found) => assert!(found == self.content[path], "{path} changed"),
                Err(_) => assert!(self.copy(path).is_some_and(|copy| copy == self.content[path]), "{path} is lost"),
            }
        }
    }

    /// Breaks something, and waits until so many more have moved.
    fn under(&self, what: &str, faults: &[Fault], moved: usize) {
        let before = self.bed.gone();
        self.site.between.breaks(faults);
        wait_for(what, || {
            self.nothing_is_lost();
            self.bed.gone() >= before + moved
        });
    }

    /// Puts a copy into the bucket, as a guard made it or somebody else; gives its path in the tree.
    fn put(&self, stream: &str, age: Duration, changed: Option<Duration>) -> String {
        let time = |age: Duration| jiff::Timestamp::try_from(now() - age).unwrap();
        let at = time(age).to_zoned(jiff::tz::TimeZone::system());
        let path = format!("{stream}/{}/{}-0.mp4", at.strftime("%Y-%m-%d"), at.strftime("%Y-%m-%d-%H-%M-%S"));
        let mark = changed.map(|age| format!("x-amz-meta-storage-guard-modified: {}\r\n", time(age).as_nanosecond()));
        let target = format!("/cold/guard/site-1/live/{path}");
        let answer = self.site.moto.asked("s3", "PUT", &target, &mark.unwrap_or_default(), &[7; 1000]);
        assert_eq!(answer.status, 200);
        path
    }
}

fn problem(daemon: &Daemon) -> String {
    archive_of(daemon)["problem"].as_str().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "needs root, a loop device and moto"]
fn what_is_old_moves_to_the_bucket_and_comes_back_the_same() {
    let place = Guarded::new(20);
    let config = place.config("after: 1d", "scan_interval: 1s\n");
    let daemon = Daemon::start(&config, &place.bed.state());
    place.under("all have moved", &[], 20);
    let list =
        |rest: &[&str]| printed(&[&["archive", "list", "--state", &place.state()], rest].concat())["items"].clone();
    let count = |rest: &[&str]| list(rest).as_array().unwrap().len();
    assert_eq!((count(&[]), count(&["live"]), count(&["live", "--stream", "live/b"])), (20, 20, 7));
    assert_eq!(count(&["--archive", "bucket"]), 20);
    assert_eq!(list(&["live", "--stream", "live/c"])[0]["stream"], "live/c");
    // Page by page, none twice.
    let (mut found, mut next) = (Vec::new(), String::new());
    loop {
        let page: Value = serde_json::from_str(&daemon.get(&format!("/api/v1/archives/copies?limit=3{next}"))).unwrap();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        found.extend(items.iter().map(|item| item["path"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&cursor={}", percent_encoding::utf8_percent_encode(cursor, percent_encoding::NON_ALPHANUMERIC));
    }
    let mut made = place.bed.made.clone();
    made.sort();
    assert_eq!(found, made);
    let why = guard(&["journal", "explain", &made[0], "--state", &place.state()]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("archive `bucket`") && why.contains("SHA-256"), "{why}");

    // By path, on a line that breaks once; then those of a stream.
    place.site.between.breaks(&[fault(Range, CutAnswer, 1)]);
    let out = guard(&["archive", "restore", "live", &place.bed.made[5], "--state", &place.state()]);
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let span =
        json!({"tree": "live", "stream": "live/b", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    let answer = ask(&place.bed.state(), "POST", "/api/v1/archive/restore", &span);
    let over = until(&daemon, answer.body["job"].as_u64().unwrap(), "done");
    assert_eq!((&over["verified"], &over["failed"]), (&json!(7), &json!(0)), "{over}");
    let back: Vec<usize> = (0..20).filter(|at| place.bed.exists(*at)).collect();
    assert_eq!(back, [1, 4, 5, 7, 10, 13, 16, 19]);
    place.nothing_is_lost();

    // A bucket that does not list is no empty one, with a guard and without.
    place.site.between.breaks(&[fault(Any, Refused(403, "AccessDenied"), ALWAYS)]);
    let refused = ask(&place.bed.state(), "GET", "/api/v1/archives/copies", &json!(null));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("403"), "{}", refused.body);
    drop(daemon);
    let config = config.to_str().unwrap();
    let local = guard(&["archive", "list", "-c", config]);
    assert_eq!(local.status.code(), Some(1), "{}", String::from_utf8_lossy(&local.stderr));
    let check = || {
        let out = guard(&["check", "--environment", "-c", config]);
        (out.status.code(), [out.stdout, out.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
    };
    let (code, said) = check();
    assert!(code == Some(3) && said.contains("s3:ListBucket") && !said.contains(KEY.1), "{said}");
    place.site.between.breaks(&[]);
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("bucket `cold` answers"), "{said}");
    assert_eq!(printed(&["archive", "list", "-c", config])["items"].as_array().unwrap().len(), 20);
}

#[test]
#[ignore = "needs root, a loop device and moto"]
fn whatever_the_store_does_the_sources_stay_until_their_copies_are_proven() {
    let place = Guarded::new(18);
    place.site.between.breaks(&[fault(Any, Refused(403, "AccessDenied"), ALWAYS)]);
    let config = place.config("after: 1d, max_bytes_per_second: 1MiB", "scan_interval: 1s\n");
    let daemon = Daemon::start(&config, &place.bed.state());
    wait_for("it is said", || problem(&daemon).contains("403"));
    assert_eq!(place.bed.gone(), 0);
    // What is wrong is taken back, and made again later.
    for (name, faults) in [
        ("another bit arrives", fault(Put, FlippedUpload, 1)),
        ("another bit comes back", fault(Range, FlippedAnswer, 1)),
    ] {
        place.site.between.breaks(&[faults]);
        wait_for(name, || problem(&daemon).contains("is not what was written"));
        place.nothing_is_lost();
        place.under("others move meanwhile", &[], 1);
    }
    place.under("busy for a while", &[fault(Any, Refused(503, "SlowDown"), 4)], 2);
    place.under("cut on the way", &[fault(Put, CutUpload, 2)], 2);
    place.under("taken, and no answer came", &[fault(Put, Unheard, 2)], 2);
    wait_for("all have moved", || place.bed.gone() == 18);
    place.nothing_is_lost();
    assert_eq!((problem(&daemon), place.site.moto.uploads("cold")), (String::new(), 0));
}

#[test]
#[ignore = "needs root, a loop device and moto"]
fn copies_that_come_to_their_end_go_on_record_and_within_the_cap() {
    let place = Guarded::new(3);
    let old: Vec<String> = (0..3).map(|at| place.put("live/a", DAY * (400 + at), Some(DAY * (400 + at)))).collect();
    let young = place.put("live/a", DAY * 300, Some(DAY * 300));
    let held = place.put("live/c", DAY * 410, Some(DAY * 410));
    let theirs = place.put("live/b", DAY * 420, None);
    let misnamed = place.put("live/b", DAY * 430, Some(DAY * 30));
    place.site.moto.put("/cold/guard/site-1/other/live/a/2020-01-01/2020-01-01-00-00-00-0.mp4", b"another tree's");
    let config = place.config("after: 200d, max_age: 365d", "");
    let hold = ["hold", "add", "live", "--stream", "live/c", "--reason", "case 7", "-c", config.to_str().unwrap()];
    let out = guard(&[&hold[..], &["--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let daemon = Daemon::start(&config, &place.bed.state());
    wait_for("the old ones are gone", || old.iter().all(|path| place.copy(path).is_none()));
    let stay = [&young, &held, &theirs, &misnamed];
    assert!(stay.iter().all(|path| place.copy(path).is_some()));
    assert!(place.site.content("other/live/a/2020-01-01/2020-01-01-00-00-00-0.mp4").is_some());
    let notes = |kind: &str| {
        let all = printed(&["journal", "list", "--state", &place.state()]);
        let of_kind = all["items"].as_array().unwrap().iter().filter(|entry| entry.to_string().contains(kind));
        of_kind.map(Value::to_string).collect::<Vec<_>>()
    };
    wait_for("it is on record", || notes("archive_removed").len() == 3);
    assert_eq!((notes("archive_removing").len(), notes("archive_kept").len()), (3, 0));
    for path in &old {
        let said = |kind: &str| notes(kind).iter().any(|note| note.contains(path) && note.contains("max_age"));
        assert!(said("archive_removing") && said("archive_removed"), "{path}");
    }
    drop(daemon);

    // Too much for a day waits for a person.
    let more: Vec<String> = (0..3).map(|at| place.put("live/a", DAY * (400 + at), Some(DAY * (400 + at)))).collect();
    let text = std::fs::read_to_string(&config).unwrap().replace("max_share: 100%", "max_share: 10%");
    std::fs::write(&config, text).unwrap();
    let _daemon = Daemon::start(&config, &place.bed.state());
    let caps = || printed(&["cap", "list", "--state", &place.state()])["items"].clone();
    wait_for("the cap trips", || caps()[0]["tree"] == "bucket");
    assert!(more.iter().all(|path| place.copy(path).is_some()));
    let out = guard(&["cap", "acknowledge", "bucket", "run_share", "--state", &place.state()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    wait_for("a person lets them go", || more.iter().all(|path| place.copy(path).is_none()));
    assert!(stay.iter().all(|path| place.copy(path).is_some()));
}
