//! Every row of what is known of `deleteRecordDirectory`: the answer is the capture's, byte for byte, and on the disk is what the real one
//! left there.

use std::path::Path;
use std::process::Command;

use super::Site;
use crate::support::media_server::{Kind, capture, filled, quoted};
use crate::support::{Mounted, run, wait_for};

/// What is asked of which files, what the capture is called that was answered, and what is left. A stream that is named is being
/// recorded, and what it is at is not among what is left.
struct Row<'r> {
    capture: &'r str,
    recording: Option<&'r str>,
    files: &'r [&'r str],
    asked: &'r str,
    left: &'r [&'r str],
}

fn idle<'r>(capture: &'r str, files: &'r [&'r str], asked: &'r str, left: &'r [&'r str]) -> Row<'r> {
    Row { capture, recording: None, files, asked, left }
}

fn recording<'r>(
    capture: &'r str,
    stream: &'r str,
    files: &'r [&'r str],
    asked: &'r str,
    left: &'r [&'r str],
) -> Row<'r> {
    Row { capture, recording: Some(stream), files, asked, left }
}

fn check(row: &Row<'_>) {
    let (site, _home) = Site::new();
    if row.capture.starts_with("m_") {
        site.server.set("protocol.mp4_save_path", site.home.join(".hidden").to_str().unwrap());
    }
    let live = row.recording.map(|stream| {
        site.server.publish("live", stream);
        site.server.record("live", stream, Kind::Mp4);
        site.server.live("live", stream)
    });
    row.files.iter().for_each(|path| drop(site.file(path)));
    answers(&site, row.capture, row.asked);
    let mut left = site.left();
    if let Some(live) = live.filter(|live| live.exists()) {
        let live = live.strip_prefix(&site.home).unwrap().to_str().unwrap();
        left.retain(|path| path != live);
    }
    assert_eq!(left, row.left, "{}", row.capture);
}

/// Asks for a deletion; the answer must be the capture's, whose folder is ours.
fn answers(site: &Site, name: &str, asked: &str) {
    let answer = site.ask("deleteRecordDirectory", asked);
    let expected = capture(&format!("api_deleteRecordDirectory_{name}.json"));
    let expected = expected.replace("/data/zlm", site.home.to_str().unwrap());
    assert_eq!(answer.text(), expected, "{name}");
    assert_eq!(answer.status, 200, "{name}");
}

#[test]
fn a_file_or_a_day_goes_with_every_parent_that_is_empty_then() {
    let [x, y] = ["rec/record/live/a/2026-01-01/x.mp4", "rec/record/live/a/2026-01-01/y.mp4"];
    for row in [
        idle("a_single_file", &[x, y], "&app=live&stream=a&period=2026-01-01&name=x.mp4", &[y]),
        // The record root goes with it; only the folder above, which is nobody's, stays.
        idle("a_last_file", &[y], "&app=live&stream=a&period=2026-01-01&name=y.mp4", &["/"]),
        idle("h_no_period_no_name", &["rec/record/live/h/2026-01-01/x.mp4"], "&app=live&stream=h", &["/"]),
        idle("h_period_any_dir", &["rec/record/live/h/whatever/x.mp4"], "&app=live&stream=h&period=whatever", &["/"]),
        idle(
            "m_hidden_root_idle",
            &[".hidden/record/live/m/2026-11-22/x.mp4"],
            "&app=live&stream=m&period=2026-11-22",
            &["/"],
        ),
        idle(
            "n_right_after_stop",
            &["rec/record/live/n/2026-11-22/x.mp4"],
            "&app=live&stream=n&period=2026-11-22",
            &["/"],
        ),
    ] {
        check(&row);
    }
}

#[test]
fn what_is_not_there_is_answered_like_what_cannot_go() {
    const B: &[&str] = &["rec/record/live/b/2026-01-01/x.mp4"];
    const H: &[&str] = &["rec/record/live/h/2026-01-01/x.mp4"];
    for row in [
        idle("b_absent_name", B, "&app=live&stream=b&period=2026-01-01&name=nope.mp4", B),
        idle("b_absent_day", B, "&app=live&stream=b&period=2026-01-02", B),
        idle("b_absent_stream", B, "&app=live&stream=never&period=2026-01-01", B),
        idle("h_bad_date", H, "&app=live&stream=h&period=2020-13-99", H),
        recording(
            "e_byname_absent_while_recording",
            "e",
            &[],
            "&app=live&stream=e&period=2026-11-22&name=nope.mp4",
            &[],
        ),
    ] {
        check(&row);
    }
}

#[test]
fn while_a_stream_is_recorded_the_code_is_0_whatever_stays() {
    const DAY: &[&str] =
        &["rec/record/live/e/2026-11-22/.2026-11-22-12-29-08-0.mp4", "rec/record/live/e/2026-11-22/one.mp4"];
    const TEMPORARY: &[&str] = &["rec/record/live/e/2026-11-22/.2026-11-22-12-29-08-0.mp4"];
    const OLD: &[&str] = &["rec/record/live/e/2026-01-01/x.mp4", "rec/record/live/e/2026-01-01/y.mp4"];
    const HIDDEN: &[&str] = &[".hidden/record/live/m/2026-11-22/x.mp4"];
    for row in [
        recording("e_today_while_recording", "e", DAY, "&app=live&stream=e&period=2026-11-22", TEMPORARY),
        recording("e_today_again_only_tmp", "e", TEMPORARY, "&app=live&stream=e&period=2026-11-22", TEMPORARY),
        recording("e_old_day_while_recording", "e", OLD, "&app=live&stream=e&period=2026-01-01", &[]),
        recording("e_whole_stream_while_recording", "e", OLD, "&app=live&stream=e", &["rec/record/live/e/2026-01-01/"]),
        recording("e_byname_while_recording", "e", DAY, "&app=live&stream=e&period=2026-11-22&name=one.mp4", TEMPORARY),
        recording("e_nonexistent_day_recording", "e", &[], "&app=live&stream=e&period=2020-13-99", &[]),
        recording("m_hidden_root_recording", "m", HIDDEN, "&app=live&stream=m&period=2026-11-22", HIDDEN),
        recording(
            "k_live_tmp_by_name",
            "k",
            &["rec/record/live/k/2026-11-22/.2026-11-22-12-29-08-0.mp4"],
            "&app=live&stream=k&period=2026-11-22&name=.2026-11-22-12-29-08-0.mp4",
            &[],
        ),
    ] {
        check(&row);
    }
}

#[test]
fn names_climb_wherever_they_want() {
    const TRAV: &str = "rec/record/live/trav/2026-01-01/t.mp4";
    const VICTIM: &str = "rec/record/live/victim/2026-01-01/v.mp4";
    const OUTSIDE: &str = "outside/precious.txt";
    const ALL: &[&str] = &[OUTSIDE, TRAV, VICTIM];
    const SPARED: &[&str] = &[OUTSIDE, TRAV];
    let by_name = "&app=live&stream=trav&period=2026-01-01&name=";
    for (name, asked, left) in [
        ("g_name_other_stream_file", format!("{by_name}../../victim/2026-01-01/v.mp4"), SPARED),
        ("g_name_other_stream_dir", format!("{by_name}../../victim"), SPARED),
        ("g_name_outside_root", format!("{by_name}..%2F..%2F..%2F..%2F../outside/precious.txt"), &[TRAV, VICTIM]),
        ("g_name_dotdot_dotdot", format!("{by_name}../.."), &[OUTSIDE, "rec/record/live/"]),
        ("g_period_dotdot", "&app=live&stream=trav&period=../victim".to_owned(), SPARED),
        ("g_stream_dotdot", "&app=live&stream=../victim&period=2026-01-01".to_owned(), ALL),
        ("g_app_dotdot", "&app=../..&stream=outside".to_owned(), &[OUTSIDE]),
        ("o_stream_dot", "&app=live&stream=.".to_owned(), &[OUTSIDE]),
        ("o_app_dot_stream_dot", "&app=.&stream=.".to_owned(), &[OUTSIDE]),
    ] {
        let (site, _home) = Site::new();
        ALL.iter().for_each(|path| drop(site.file(path)));
        answers(&site, name, &asked);
        let mut left = left.to_vec();
        left.sort_unstable();
        // What became empty on the way out goes as well.
        assert_eq!(site.left(), left, "{name}");
    }
    let (site, _home) = Site::new();
    ALL.iter().for_each(|path| drop(site.file(path)));
    let outside = site.home.join(OUTSIDE);
    answers(&site, "g_name_absolute", &format!("{by_name}{}", outside.display()));
    assert_eq!(site.left(), ALL);
}

#[test]
fn a_path_of_ones_own_is_followed_anywhere() {
    let (site, _home) = Site::new();
    site.file("outside2/keep.txt");
    let asked = format!("&app=a&stream=b&customized_path={}", site.home.join("outside2").display());
    answers(&site, "g_customized_path", &asked);
    site.file("outside2/record/a/b/x.mp4");
    answers(&site, "g_customized_path2", &asked);
    assert_eq!(site.left(), ["outside2/keep.txt"]);
}

#[test]
fn a_link_is_followed_out_of_the_root() {
    let (site, _home) = Site::new();
    site.file("elsewhere/precious.txt");
    site.file("rec/record/live/l/2026-01-01/x.mp4");
    std::os::unix::fs::symlink(site.home.join("elsewhere"), site.home.join("rec/record/live/l/2026-01-01/link"))
        .unwrap();
    answers(&site, "l_symlink_in_day", "&app=live&stream=l&period=2026-01-01");
    assert_eq!(site.left(), ["elsewhere/", "rec/record/live/l/2026-01-01/link"]);
}

#[test]
fn what_is_held_open_is_gone_by_name_only() {
    let (site, _home) = Site::new();
    let held = std::fs::File::open(site.file("rec/record/live/d/2026-01-01/x.mp4")).unwrap();
    answers(&site, "d_open_elsewhere", "&app=live&stream=d&period=2026-01-01&name=x.mp4");
    assert_eq!(site.left(), ["/"]);
    assert_eq!(held.metadata().unwrap().len(), 4096);
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn sparse(path: &Path, bytes: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn what_it_serves_itself_is_gone_by_name_only() {
    let (site, _home) = Site::new();
    let path = site.file("rec/record/live/dl/2026-01-01/x.mp4");
    // More than what sockets hold.
    sparse(&path, 60 << 20);
    let mut viewer = site.caller();
    viewer.send("GET /record/live/dl/2026-01-01/x.mp4 HTTP/1.1\r\nHost: a\r\n", b"").unwrap();
    viewer.bytes(100).unwrap();
    answers(&site, "x_while_zlm_serves_it", "&app=live&stream=dl&period=2026-01-01&name=x.mp4");
    assert_eq!(site.left(), ["/"]);
    let gone = format!("{} (deleted)", path.display());
    let held = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&gone)))
    };
    assert!(held());
    drop(viewer);
    wait_for("the file is closed when the viewer has left", || !held());
}

#[test]
fn the_slice_that_is_being_written_can_be_lost_without_a_word() {
    let (site, _home) = Site::new();
    site.server.publish("live", "k");
    site.server.record("live", "k", Kind::Mp4);
    let live = site.server.live("live", "k");
    let day = live.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
    let name = live.file_name().unwrap().to_str().unwrap();
    let answer = site.ask("deleteRecordDirectory", &format!("&app=live&stream=k&period={day}&name={name}"));
    assert_eq!(answer.json()["code"], 0);
    assert!(!live.exists());
    assert_eq!(
        site.server.cut("live", "k"),
        Some(live.with_file_name(name.trim_start_matches('.'))),
        "nothing was noticed"
    );
}

#[test]
fn who_may_not_ask_learns_nothing_and_deletes_nothing() {
    let (site, _home) = Site::new();
    site.file("rec/record/live/j/2026-01-01/x.mp4");
    let asked = "/index/api/deleteRecordDirectory?vhost=__defaultVhost__&app=live&stream=j&period=2026-01-01";
    for (name, target) in [("j_no_secret", asked.to_owned()), ("j_bad_secret", format!("{asked}&secret=guess"))] {
        let mut caller = site.caller();
        let answer = caller.get(&target).unwrap();
        let cookie = quoted(answer.json()["cookie"].as_str().unwrap());
        let expected = filled(&capture(&format!("api_deleteRecordDirectory_{name}.json")), &[("cookie", cookie)]);
        assert_eq!(answer.text(), expected);
        assert!(caller.closed());
    }
    answers(&site, "j_missing_stream", "&app=live&period=2026-01-01");
    assert_eq!(site.left(), ["rec/record/live/j/2026-01-01/x.mp4"]);
}

/// A volume of its own, on which something cannot go, whatever the user.
fn on_volume(of: impl FnOnce(&Site)) {
    let volume = Mounted::ext4(16);
    let site = Site::at(volume.path());
    run("rmdir", &[volume.path().join("lost+found").to_str().unwrap()]);
    of(&site);
}

/// A file or a folder that nobody can change, until this is dropped.
struct Immutable(String);

impl Immutable {
    fn new(site: &Site, path: &str) -> Self {
        let path = site.home.join(path).display().to_string();
        run("chattr", &["+i", &path]);
        Self(path)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").args(["-i", &self.0]).status();
    }
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_is_immutable_stays_and_the_answer_says_so_only_sometimes() {
    let c = ["rec/record/live/c/2026-01-01/x.mp4", "rec/record/live/c/2026-01-01/y.mp4"].map(str::to_owned);
    let ten = |stream: &str| (0..10).map(|n| format!("rec/record/live/{stream}/2026-11-22/f{n:02}.mp4")).collect();
    let (idle, busy): (Vec<_>, Vec<_>) = (ten("fidle"), ten("frec"));
    let (day, frec) = ("&app=live&stream=c&period=2026-01-01", "&app=live&stream=frec&period=2026-11-22");
    let by_name = format!("{day}&name=x.mp4");
    on_volume(|site| {
        // What the capture is called, which files there are, what is immutable, what is asked, and which files are left.
        let check = |name, files: &[String], immutable: &str, asked: &str, left: &[String]| {
            files.iter().for_each(|path| drop(site.file(path)));
            let kept = Immutable::new(site, immutable);
            answers(site, name, asked);
            let mut found = site.left();
            found.retain(|path| files.contains(path));
            assert_eq!(found, left, "{name}");
            drop(kept);
        };
        check("c_immutable_file", &c, &c[0], &by_name, &c);
        check("c_immutable_dir_byname", &c, "rec/record/live/c/2026-01-01", &by_name, &c);
        check("c_immutable_dir_day", &c, "rec/record/live/c/2026-01-01", day, &c);
        check("f_immutable_one_of_10_idle", &idle, &idle[5], "&app=live&stream=fidle&period=2026-11-22", &idle[5..6]);
        site.server.publish("live", "frec");
        site.server.record("live", "frec", Kind::Mp4);
        check("f_immutable_one_of_10_recording", &busy, &busy[5], frec, &busy[5..6]);
        check("f_immutable_dir_recording", &busy, "rec/record/live/frec/2026-11-22", frec, &busy);
        check("f_immutable_byname_recording", &busy, &busy[5], &format!("{frec}&name=f05.mp4"), &busy);
    });
}

#[test]
#[ignore = "needs root, a loop device and mounts"]
fn a_mount_in_the_way_is_a_failure_even_where_the_files_went() {
    on_volume(|site| {
        let file = site.file("rec/record/live/c/2026-01-02/x.mp4");
        let day = file.parent().unwrap().to_str().unwrap();
        run("mount", &["--bind", day, day]);
        let _mounted = Unmounted(day.to_owned());
        run("mount", &["-o", "remount,bind,ro", day]);
        let asked = "&app=live&stream=c&period=2026-01-02";
        answers(site, "c_ro_mount_byname", &format!("{asked}&name=x.mp4"));
        answers(site, "c_ro_mount_day", asked);
        assert!(file.exists());
        run("mount", &["-o", "remount,bind,rw", day]);
        answers(site, "c_rw_mount_day", asked);
        assert!(!file.exists());
        assert_eq!(site.left(), ["rec/record/live/c/2026-01-02/"]);
    });
}

/// Unmounts a folder, also when the test fails.
struct Unmounted(String);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}
