//! Every row of what is known of `deleteRecordDirectory`, answered truthfully: HTTP, `code`, what is on disk, what the journal says
//! (promises 2, 3, 4 and 12).

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::site::{Bound, Immutable, OLD, Site, slice};
use crate::support::media_server::{Kind, capture};
use crate::support::{Daemon, json, now, wait_for};

/// Files of row i.
const MANY: usize = 10_000;

fn code(answer: &Value) -> i64 {
    answer["code"].as_i64().unwrap_or_else(|| panic!("{answer}"))
}

fn failed(answer: &Value) -> Vec<String> {
    let all = answer["failed"].as_array().unwrap_or_else(|| panic!("{answer}"));
    all.iter().map(|one| one["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// What the journal has of a recording that went by a call.
fn verified() -> Option<(String, String)> {
    Some(("verified".to_owned(), "gateway".to_owned()))
}

/// Rows a, b, e, h, m and n: what can go, goes; what is not there is gone.
fn what_can_go_goes(site: &Site) {
    let files = site.record("a", OLD, 2);
    let one = |path: &str| site.ask(&format!("&app=live&stream=a&period={OLD}&name={}", name(path)));
    let answer = one(&files[0]);
    assert_eq!((code(&answer), answer["deleted"].clone()), (0, 1.into()), "{answer}");
    let told: Value = serde_json::from_str(&capture("api_deleteRecordDirectory_a_single_file.json")).unwrap();
    let real =
        told["path"].as_str().unwrap().replace("/data/zlm", site.path("").to_str().unwrap().trim_end_matches('/'));
    assert_eq!(
        answer["path"].as_str().unwrap(),
        real.replace("x.mp4", name(&files[0])),
        "as the media server writes it"
    );
    assert!(!site.exists(&files[0]) && site.exists(&files[1]));
    assert_eq!(site.journal(&files[0]), verified());
    let last = one(&files[1]);
    assert!(code(&last) == 0 && !site.exists(&files[1]) && site.path("rec/record").is_dir(), "{last}");
    // Again, and what never was: it is gone, and nothing was deleted for it.
    for asked in [
        format!("&app=live&stream=a&period={OLD}&name={}", name(&files[0])),
        format!("&app=live&stream=a&period={OLD}&name={OLD}-23-59-59-9.mp4"),
        "&app=live&stream=a&period=2026-01-02".to_owned(),
        format!("&app=live&stream=never&period={OLD}"),
        "&app=live&stream=never".to_owned(),
    ] {
        let answer = site.ask(&asked);
        assert_eq!((code(&answer), answer["deleted"].clone()), (0, 0.into()), "{asked}: {answer}");
    }
    let files = [site.record("h", OLD, 2), site.record("h", "2026-01-02", 1)].concat();
    let other = site.record("h2", OLD, 1);
    let answer = site.ask("&app=live&stream=h");
    assert_eq!((code(&answer), answer["deleted"].clone()), (0, 3.into()), "{answer}");
    assert!(files.iter().all(|path| !site.exists(path)) && site.exists(&other[0]));
    let stream = answer["path"].as_str().unwrap();
    assert!(stream.ends_with("/rec/record/live/h/"), "{stream}");
    files.iter().for_each(|path| assert_eq!(site.journal(path), verified()));
    assert_eq!(site.journal(&slice("never", OLD, 0)), None, "nothing is on record of what never was");
    // A root that is hidden itself, given as the platform's own; the stream is not recorded, and then it is.
    let root = site.path(".hidden/rec");
    for recorded in [false, true] {
        site.file(".hidden/rec/record", &slice("m", OLD, usize::from(recorded)));
        if recorded {
            site.server.publish("live", "m");
            site.server.record("live", "m", Kind::Mp4);
        }
        let answer = site.ask(&format!("&app=live&stream=m&period={OLD}&customized_path={}", root.display()));
        assert_eq!((code(&answer), answer["deleted"].clone()), (0, 1.into()), "{answer}");
        let file = slice("m", OLD, usize::from(recorded));
        assert!(!root.join("record").join(&file).exists() && site.journal(&file) == verified());
    }
    site.server.unpublish("live", "m");
}

/// Rows e, k and n: what is being written stays and is told of; all else that is named goes.
fn what_is_being_written_stays(site: &Site) {
    site.server.publish("live", "e");
    site.server.record("live", "e", Kind::Mp4);
    let live = site.server.live("live", "e");
    let today = live.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let hidden = live.file_name().unwrap().to_str().unwrap().to_owned();
    let files = [site.record("e", &today, 2), site.record("e", OLD, 2)].concat();
    let absent = site.ask(&format!("&app=live&stream=e&period={OLD}&name={OLD}-23-00-00-0.mp4"));
    assert_eq!(code(&absent), 0, "{absent}");
    let one = site.ask(&format!("&app=live&stream=e&period={today}&name={}", name(&files[0])));
    assert!(code(&one) == 0 && !site.exists(&files[0]), "{one}");
    let day = site.ask(&format!("&app=live&stream=e&period={today}"));
    assert_eq!((code(&day), day["live"].clone()), (0, vec![live.to_str().unwrap()].into()), "{day}");
    assert!(!site.exists(&files[1]) && live.exists());
    let again = site.ask(&format!("&app=live&stream=e&period={today}"));
    assert_eq!((code(&again), again["deleted"].clone(), again["live"][0].is_string()), (0, 0.into(), true), "{again}");
    let old = site.ask(&format!("&app=live&stream=e&period={OLD}"));
    assert!(code(&old) == 0 && !site.exists(&files[2]) && old.get("live").is_none(), "{old}");
    site.record("e", OLD, 2);
    let whole = site.ask("&app=live&stream=e");
    assert!(code(&whole) == 0 && !site.exists(&files[3]) && whole["live"][0].is_string(), "{whole}");
    let by_name = site.ask(&format!("&app=live&stream=e&period={today}&name={hidden}"));
    assert!(code(&by_name) == -300 && live.exists(), "{by_name}");
    site.server.unpublish("live", "e");
    let after = site.ask(&format!("&app=live&stream=e&period={today}"));
    let finished = format!("live/e/{today}/{}", &hidden[1..]);
    assert!(code(&after) == 0 && !site.exists(&finished), "{after}");
    files.iter().chain([&finished]).for_each(|path| assert_eq!(site.journal(path), verified(), "{path}"));
    assert_eq!(site.journal(&format!("live/e/{today}/{hidden}")), None, "what is being written was never intended");
}

/// Rows c and f: what cannot go is named, with its cause, whether or not the stream is being recorded.
fn what_cannot_go_is_named(site: &Site) {
    let files = site.record("c", OLD, 1);
    let locked = Immutable::new(&site.path("rec/record").join(&files[0]));
    let by_name = format!("&app=live&stream=c&period={OLD}&name={}", name(&files[0]));
    let answer = site.ask(&by_name);
    assert_eq!(
        (code(&answer), answer["deleted"].clone(), failed(&answer)),
        (-1, 0.into(), vec![name(&files[0]).to_owned()])
    );
    assert!(
        answer["failed"][0]["cause"] == "locked" && answer["msg"].is_string() && site.exists(&files[0]),
        "{answer}"
    );
    assert_eq!(site.journal(&files[0]), Some(("failed".to_owned(), "gateway".to_owned())));
    drop(locked);
    wait_for("it is tried again, and goes", || !site.exists(&files[0]));
    assert_eq!(code(&site.ask(&by_name)), 0);

    for (stream, recorded) in [("fidle", false), ("frec", true)] {
        if recorded {
            site.server.publish("live", stream);
            site.server.record("live", stream, Kind::Mp4);
        }
        let files = site.record(stream, "2026-11-20", 10);
        let locked = Immutable::new(&site.path("rec/record").join(&files[5]));
        let day = site.ask(&format!("&app=live&stream={stream}&period=2026-11-20"));
        assert_eq!(
            (code(&day), day["deleted"].clone(), failed(&day)),
            (-1, 9.into(), vec![name(&files[5]).to_owned()]),
            "{day}"
        );
        assert_eq!(files.iter().filter(|path| site.exists(path)).count(), 1);
        let outcome = |path: &String| site.journal(path).map(|(outcome, _)| outcome);
        assert_eq!((outcome(&files[5]).as_deref(), outcome(&files[4]).as_deref()), (Some("failed"), Some("verified")));
        let one = site.ask(&format!("&app=live&stream={stream}&period=2026-11-20&name={}", name(&files[5])));
        assert!(code(&one) == -1 && one["failed"][0]["cause"] == "locked" && site.exists(&files[5]), "{one}");
        drop(locked);
        let files = site.record(stream, "2026-11-21", 3);
        let locked = Immutable::new(site.path("rec/record").join(&files[0]).parent().unwrap());
        let day = site.ask(&format!("&app=live&stream={stream}&period=2026-11-21"));
        assert_eq!((code(&day), day["deleted"].clone()), (-1, 0.into()), "{day}");
        assert!(failed(&day).len() == 3 && files.iter().all(|path| site.exists(path)), "{day}");
        let one = site.ask(&format!("&app=live&stream={stream}&period=2026-11-21&name={}", name(&files[0])));
        assert!(code(&one) == -1 && site.exists(&files[0]), "{one}");
        files.iter().for_each(|path| assert_eq!(outcome(path).as_deref(), Some("failed"), "{path}"));
        drop(locked);
        if recorded {
            site.server.unpublish("live", stream);
        }
    }

    for readonly in [true, false] {
        let files = site.record("mount", "2026-01-02", 1);
        let bound = Bound::new(site.path("rec/record").join(&files[0]).parent().unwrap(), readonly);
        for asked in [format!("&name={}", name(&files[0])), String::new()] {
            let answer = site.ask(&format!("&app=live&stream=mount&period=2026-01-02{asked}"));
            assert_eq!((code(&answer), failed(&answer).len()), (-1, 1), "{answer}");
            let detail = answer["failed"][0]["detail"].as_str().unwrap();
            assert!(detail.contains("mounted") && site.exists(&files[0]), "{answer}");
        }
        assert_eq!(site.journal(&files[0]), None, "nothing was intended beyond a mount");
        drop(bound);
    }
}

/// Rows d and d': a file that somebody reads stays, the media server itself included, and whoever reads it is named.
fn what_is_held_open_is_not_called_gone(site: &Site) {
    let check = |file: &str, release: &mut dyn FnMut()| {
        let stream = file.split('/').nth(1).unwrap();
        let answer = site.ask(&format!("&app=live&stream={stream}&period={OLD}&name={}", name(file)));
        assert_eq!((code(&answer), answer["failed"][0]["cause"].clone()), (-1, "in_use".into()), "{answer}");
        let holder = answer["failed"][0]["holder"].as_str().unwrap_or_default();
        assert!(holder.contains(&std::process::id().to_string()) && site.exists(file), "{answer}");
        assert_eq!(site.journal(file), Some(("failed".to_owned(), "gateway".to_owned())));
        release();
        wait_for("it is tried again, and goes", || !site.exists(file));
        wait_for("the journal says so", || site.journal(file) == verified());
    };
    let files = site.record("d", OLD, 1);
    let mut held = std::fs::File::open(site.path("rec/record").join(&files[0])).ok();
    check(&files[0], &mut || drop(held.take()));
    // A download from the media server, which nobody takes further: more than sockets hold is left of it.
    let files = site.record("download", OLD, 1);
    let mut long = std::fs::File::options().write(true).open(site.path("rec/record").join(&files[0])).unwrap();
    long.write_all(&vec![7; 32 << 20]).unwrap();
    long.set_modified(now() - Duration::from_secs(3600)).unwrap();
    drop(long);
    let mut client = TcpStream::connect(("127.0.0.1", site.server.port())).ok();
    let mut first = [0; 1];
    let socket = client.as_mut().unwrap();
    write!(socket, "GET /record/{} HTTP/1.1\r\nHost: a\r\n\r\n", files[0]).unwrap();
    socket.read_exact(&mut first).unwrap();
    check(&files[0], &mut || drop(client.take()));
}

/// Row i: ten thousand files go, whether or not the stream is recorded, and who calls the media server meanwhile waits for none of it.
fn very_many_go_and_hold_nobody_up(site: &Site) {
    for (stream, recorded) in [("iidle", false), ("irec", true)] {
        if recorded {
            site.server.publish("live", stream);
            site.server.record("live", stream, Kind::Mp4);
        }
        let files = site.record(stream, OLD, MANY);
        let asked = format!("&app=live&stream={stream}&period={OLD}");
        let (answer, meanwhile) = std::thread::scope(|scope| {
            let deletion = scope.spawn(|| site.ask(&asked));
            let mut meanwhile = 0;
            let version = format!("/index/api/version?secret={}", site.server.secret());
            while !deletion.is_finished() {
                assert_eq!(site.caller().get(&version).unwrap().status, 200);
                meanwhile += usize::from(!deletion.is_finished());
            }
            (deletion.join().unwrap(), meanwhile)
        });
        let answer = match code(&answer) {
            // A machine that has much else to do.
            1 => {
                wait_for("the job goes on to its end", || files.iter().all(|path| !site.exists(path)));
                site.ask(&asked)
            }
            _ => {
                assert_eq!(answer["deleted"], MANY, "{answer}");
                answer
            }
        };
        assert_eq!(code(&answer), 0, "{answer}");
        assert!(meanwhile > 0, "nobody was answered before the deletion was over");
        assert!(files.iter().all(|path| !site.exists(path)));
        let left = site.ask(&format!("&app=live&stream={stream}"));
        assert_eq!((code(&left), left["deleted"].clone(), left["live"].is_array()), (0, 0.into(), recorded), "{left}");
        let entries = json(&["journal", "list", "--state", site.state().to_str().unwrap()]);
        let gone: HashSet<&str> = (entries["items"].as_array().unwrap().iter())
            .filter(|entry| entry["outcome"] == "verified" && entry["trigger"] == "gateway")
            .filter_map(|entry| entry["path"].as_str()?.strip_prefix("record/"))
            .collect();
        assert!(files.iter().all(|path| gone.contains(path.as_str())), "each is on record");
        if recorded {
            site.server.unpublish("live", stream);
        }
    }
}

/// Row l, and what else lies in a directory.
fn links_are_not_followed_and_what_is_no_recording_stays(site: &Site) {
    let files = site.record("l", OLD, 1);
    let victim = site.file("elsewhere", &slice("victim", OLD, 0));
    let day = site.path("rec/record").join(&files[0]).parent().unwrap().to_owned();
    std::os::unix::fs::symlink(victim.parent().unwrap(), day.join("link")).unwrap();
    let notes = site.file("rec/record", &format!("live/l/{OLD}/notes.txt"));
    std::os::unix::fs::symlink(victim.parent().unwrap(), day.with_file_name("2026-01-02")).unwrap();
    let answer = site.ask(&format!("&app=live&stream=l&period={OLD}"));
    assert_eq!((code(&answer), answer["deleted"].clone()), (0, 1.into()), "{answer}");
    assert_eq!(answer["left"].as_array().unwrap().len(), 2, "{answer}");
    assert!(victim.exists() && notes.exists() && !site.exists(&files[0]));
    assert_eq!((site.journal(&files[0]), site.journal(&slice("victim", OLD, 0))), (verified(), None));
    for asked in [
        format!("&period=2026-01-02&name={}", "2026-01-02-00-00-00-0.mp4"),
        "&period=2026-01-02".to_owned(),
        String::new(),
    ] {
        let answer = site.ask(&format!("&app=live&stream=l{asked}"));
        assert_eq!(code(&answer), -1, "what a link leads to was not looked at: {answer}");
        assert!(victim.exists());
    }
}

/// Rows g, h, j and o: a refused argument deletes nothing, and is named.
fn what_could_be_a_path_deletes_nothing(site: &Site, daemon: &Daemon) {
    site.record("trav", OLD, 1);
    site.record("victim", OLD, 1);
    site.file("rec/record", "live/h3/whatever/x.mp4");
    site.file("outside", "precious.txt");
    site.file("outside2", "record/a/b/2026-01-01/2026-01-01-00-00-00-0.mp4");
    let tree = |site: &Site| {
        let mut out = Vec::new();
        let mut pending = vec![site.path("")];
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
                if entry.file_type().unwrap().is_dir() { pending.push(entry.path()) } else { out.push(entry.path()) }
            }
        }
        out.retain(|path| !path.to_str().unwrap().contains(".storage-guard"));
        out.sort();
        out
    };
    let before = tree(site);
    let asked_before = daemon.get("/api/v1/journal?limit=1000").len();
    let check = |arguments: &str, expected: i64, said: &str| {
        let answer = site.ask(arguments);
        assert_eq!(code(&answer), expected, "{arguments}: {answer}");
        assert!(answer["msg"].as_str().unwrap().contains(said), "{arguments}: {answer}");
        assert_eq!(tree(site), before, "{arguments}");
    };
    let trav = "&app=live&stream=trav&period=2026-01-01";
    check(&format!("{trav}&name=../../victim/2026-01-01/v.mp4"), -300, "`name`");
    check(&format!("{trav}&name=..%2f..%2fvictim"), -300, "`name`");
    check(&format!("{trav}&name=../../../../../outside/precious.txt"), -300, "`name`");
    check(&format!("{trav}&name=../.."), -300, "`name`");
    check(&format!("{trav}&name={}/outside/precious.txt", site.path("").display()), -300, "`name`");
    check("&app=live&stream=trav&period=../victim", -300, "`period`");
    check("&app=live&stream=../victim&period=2026-01-01", -300, "`stream`");
    check("&app=../..&stream=outside", -300, "`app`");
    check("&app=live&stream=.", -300, "`stream`");
    check("&app=.&stream=.", -300, "`app`");
    check("&app=live&stream=h3&period=2020-13-99", -300, "`period`");
    check("&app=live&stream=h3&period=whatever", -300, "`period`");
    check("&app=live", -300, "Required parameter missed");
    check(&format!("&app=a&stream=b&customized_path={}", site.path("outside2").display()), -1, "lies in no tree");
    check("&app=live&stream=trav&customized_path=../rec", -300, "`customized_path`");
    site.server.publish("live", "h3");
    site.server.record("live", "h3", Kind::Mp4);
    let live = site.server.live("live", "h3");
    let recorded = site.ask("&app=live&stream=h3&period=2020-13-99");
    assert!(code(&recorded) == -300 && live.exists(), "{recorded}");
    site.server.unpublish("live", "h3");
    // Without the secret, or with another: the media server's own answer.
    let told: Value = serde_json::from_str(&capture("api_deleteRecordDirectory_j_bad_secret.json")).unwrap();
    for secret in ["", "secret=&", "secret=wrong&"] {
        let target = format!("/index/api/deleteRecordDirectory?{secret}vhost=v&app=live&stream=victim");
        let answer = site.caller().get(&target).unwrap();
        let body = answer.json();
        assert_eq!((answer.status, &body["code"], &body["msg"]), (200, &told["code"], &told["msg"]));
        assert_eq!(body["cookie"].as_str().unwrap().len(), told["cookie"].as_str().unwrap().len());
    }
    let missing =
        site.caller().get(&format!("/index/api/deleteRecordDirectory?secret={}", site.server.secret())).unwrap();
    let told: Value = serde_json::from_str(&capture("api_deleteRecordDirectory_j_missing_stream.json")).unwrap();
    assert_eq!(missing.json(), told);
    assert!(site.exists(&slice("victim", OLD, 0)) && site.exists(&slice("trav", OLD, 0)));
    assert_eq!(daemon.get("/api/v1/journal?limit=1000").len(), asked_before, "nothing was even intended");
}

#[test]
#[ignore = "needs root and a loop device"]
fn every_row_of_the_table_is_answered_with_what_is_on_disk() {
    let site = Site::new(128);
    site.file(".hidden/rec/record", &slice("first", OLD, 0));
    let hidden = format!("  - {{ name: hidden, path: {}, layout: zlmediakit }}\n", site.path(".hidden/rec").display());
    let daemon = site.start("enforce", "15s", &hidden);
    // What is not ours passes.
    let version = site.caller().get(&format!("/index/api/version?secret={}", site.server.secret())).unwrap();
    assert_eq!(version.text(), capture("api_version.json"));
    what_can_go_goes(&site);
    what_is_being_written_stays(&site);
    what_cannot_go_is_named(&site);
    what_is_held_open_is_not_called_gone(&site);
    links_are_not_followed_and_what_is_no_recording_stays(&site);
    what_could_be_a_path_deletes_nothing(&site, &daemon);
    very_many_go_and_hold_nobody_up(&site);
    assert!(site.server.requests_for("deleteRecordDirectory").is_empty(), "the media server was never asked to delete");
    assert!(site.exists(&slice("first", OLD, 0)));
    let checked = json(&["journal", "verify", "--state", site.state().to_str().unwrap()]);
    assert_eq!(checked["faults"].as_array().map(Vec::len), Some(0), "{checked}");
    let counted = |result: &str| {
        let text = daemon.get("/metrics");
        let of = format!("storage_guard_gateway_calls_total{{media_server=\"zlm-1\",result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&of).map(|n| n.parse::<u64>().unwrap())).unwrap()
    };
    assert!(counted("passed") > 1 && counted("done") > 9 && counted("failed") > 9 && counted("refused") > 15);
    assert_eq!((counted("denied"), counted("unanswered")), (3, 0));
    assert!(!site.log().contains(&site.server.secret()), "no secret is in the log");
}
