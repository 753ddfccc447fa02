//! The program as its users meet it: what it prints, and its exit codes.

use crate::support::{guard, json, recording};
use std::process::Command;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for day in 1..=3 {
        for cam in ["live/a", "live/b"] {
            recording(dir.path(), cam, DAY * day, 10_000);
        }
    }
    dir
}

#[test]
fn scan_says_what_is_there() {
    let dir = tree();
    let path = dir.path().to_str().unwrap();
    let status = json(&["scan", "--tree", path]);
    let tree = &status["trees"][0];
    assert_eq!((&tree["files"], &tree["streams"], &tree["layout"]), (&6.into(), &2.into(), &"zlmediakit".into()));
    assert_eq!(tree["complete"], true);
    assert_eq!(status["mode"], "observe");
    assert!(status["volumes"][0]["available_bytes"].as_u64().unwrap() > 0);
    let text = String::from_utf8(guard(&["scan", "--tree", path]).stdout).unwrap();
    assert!(text.contains("6 recordings") && text.contains("live/a: 3 recordings"), "{text}");
}

#[test]
fn a_plan_names_the_oldest_first_and_is_the_same_twice() {
    let dir = tree();
    let path = dir.path().to_str().unwrap();
    let oldest = recording(dir.path(), "live/c", DAY * 30, 10_000);
    let plan = json(&["plan", "--layout", "zlmediakit", "--tree", path]);
    assert_eq!(plan["items"][0]["next"][0]["path"], oldest);
    assert_eq!(plan["items"][0]["next"][0]["stream"], "live/c");
    assert_eq!(plan["items"][0]["id"], json(&["plan", "--tree", path])["items"][0]["id"]);
}

#[test]
fn a_plan_explains_why_one_recording_stays() {
    let dir = tree();
    let path = dir.path().to_str().unwrap();
    let (old, young) = (
        recording(dir.path(), "live/a", DAY * 20, 10_000),
        recording(dir.path(), "live/a", Duration::from_secs(60), 10_000),
    );
    for (wanted, code, said) in [
        (old.as_str(), 0, "it stays for now: nothing asks for its space; it is 20d old"),
        (young.as_str(), 0, "younger than the tree's `min_age`"),
        ("live/a/nothing.mp4", 1, "found no recording"),
        ("../x", 1, "has a component"),
    ] {
        let output = guard(&["plan", "--tree", path, "--explain", wanted]);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(said), "{wanted}: {text}");
    }
}

#[test]
fn odd_names_reach_neither_terminal_nor_json_as_they_are() {
    let dir = tree();
    let name = "live/a/2020-01-01/x\u{1b}[31m\n.mp4";
    let file = dir.path().join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::hard_link(walk_one(dir.path()), &file).unwrap();
    let output = guard(&["plan", "--layout", "dated", "--tree", dir.path().to_str().unwrap()]);
    assert!(output.status.success());
    assert!(!output.stdout.contains(&0x1b), "{}", String::from_utf8_lossy(&output.stdout));
}

fn walk_one(dir: &std::path::Path) -> std::path::PathBuf {
    let mut at = dir.to_owned();
    while at.is_dir() {
        at = std::fs::read_dir(&at).unwrap().next().unwrap().unwrap().path();
    }
    at
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    for (args, code, said) in [
        (&["scan"][..], 2, "--tree"),
        (&["scan", "--tree", "/etc"], 3, "`/etc` is a directory of the system"),
        (&["plan", "--layout", "nonsense", "--tree", "/data/x"], 3, "`nonsense` is no layout"),
        (&["scan", "--tree", "/nonexistent/record"], 1, "cannot open tree `record` at `/nonexistent/record`"),
        (&["--version"], 0, ""),
        (&["completions", "bash"], 0, ""),
        (&["man"], 0, ""),
    ] {
        let output = guard(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
}

#[test]
fn what_is_asked_about_orphans_is_refused_by_rules_with_5_and_by_mistakes_with_2() {
    let (dir, home) = (tree(), tempfile::tempdir().unwrap());
    let (path, state) = (dir.path().to_str().unwrap(), home.path().join("state"));
    let name = dir.path().file_name().unwrap().to_str().unwrap();
    let place = ["--state", state.to_str().unwrap(), "--layout", "zlmediakit", "--tree", path];
    let enforced = [&place[..], &["--enforce"]].concat();
    for (args, place, code, said) in [
        (&["orphans", "list"][..], &place[..], 0, "no orphans"),
        (&["orphans", "list", name, "--kind", "leftover"], &place, 0, "no leftovers"),
        (&["missing", "list", name], &place, 0, "no rows without a file"),
        (&["catalogue", "list"], &place, 0, "no catalogue is configured"),
        (&["orphans", "list", "strange"], &place, 5, "there is no tree `strange`; there are: "),
        (&["orphans", "delete", name, "--all"], &place, 5, "the mode is observe: nothing is changed"),
        (&["missing", "remove", name, "--all"], &place, 5, "the mode is observe: nothing is changed"),
        (&["orphans", "delete", name, "--all"], &enforced, 5, "names no catalogue"),
        (&["orphans", "restore", name, "a.mp4"], &enforced, 1, "are not set aside as orphans of tree"),
        (&["catalogue", "accept", "wvp"], &place, 5, "there is no catalogue `wvp`"),
        (&["orphans", "delete"], &place, 2, "name the tree"),
        (&["orphans", "delete", name], &place, 2, "or give `--all`"),
        (&["orphans", "adopt", name, "../a.mp4"], &place, 2, "has a component that is empty"),
        (&["orphans", "delete", name, "--all", "--kind", "missing"], &place, 2, "uncatalogued, leftover"),
    ] {
        let output = guard(&[args, place].concat());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!((output.status.code(), text.contains(said)), (Some(code), true), "{args:?}: {text}");
    }
    let empty = serde_json::json!({"items": [], "next": null});
    for list in [&["orphans", "list"], &["missing", "list"], &["catalogue", "list"]] {
        assert_eq!(json(&[&list[..], &place[..]].concat()), empty);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn check_tries_the_templates_of_the_user() {
    let home = tempfile::tempdir().unwrap();
    let templates = home.path().join("templates");
    std::fs::create_dir(&templates).unwrap();
    let config = home.path().join("guard.yaml");
    let tree = home.path().join("live");
    let text = format!(
        "state: {{ path: {0}/state }}\ntrees: [{{ name: live, path: {tree} }}]\nnotify: {{ language: zh, templates: {0}/templates }}\n",
        home.path().display(),
        tree = tree.display(),
    );
    std::fs::write(&config, text).unwrap();
    let check = |code, said: &str| {
        let output = guard(&["check", "-c", config.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.contains(said)), (Some(code), true), "{error}");
    };
    check(0, "");
    std::fs::write(templates.join("VolumeBlind.txt"), "卷 {{ name }}\n\n{{ facts.why.text }}\n").unwrap();
    check(0, "");
    std::fs::write(templates.join("VolumeBlind.txt"), "卷 {{ name }}\n\n{{ facts.why.txt }}\n").unwrap();
    check(3, "/templates/VolumeBlind.txt:3: undefined value");
    std::fs::write(templates.join("VolumeBlind.txt"), "卷 {{ name }}\n").unwrap();
    for stranger in ["VolumeBlind.text", "README", "Volume.md", "robot.md~"] {
        std::fs::write(templates.join(stranger), "x").unwrap();
        check(3, &format!("/templates/{stranger}: no template has this name"));
        std::fs::remove_file(templates.join(stranger)).unwrap();
    }
    // A folder in it is none of ours: where files come from a volume of Kubernetes, there is one.
    std::fs::create_dir(templates.join("..data")).unwrap();
    check(0, "");
    std::fs::remove_dir_all(&templates).unwrap();
    check(3, "guard.yaml:3:36: notify.templates names `");
}

#[test]
#[ignore = "needs strace and the right to trace"]
fn observing_writes_nothing_into_a_tree() {
    for command in [&["plan"][..], &["reclaim"], &["run", "--listen", "127.0.0.1:0"]] {
        observes(command);
    }
}

/// Traces a command for some seconds, and looks for what it changes in a tree.
fn observes(command: &[&str]) {
    let (dir, home) = (tree(), tempfile::tempdir().unwrap());
    let log = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new("timeout")
        .args(["--preserve-status", "-s", "TERM", "4", "strace"])
        .args(["-f", "-qq", "-y", "-e", "trace=%file,%desc", "-o"])
        .arg(log.path())
        .arg(env!("CARGO_BIN_EXE_storage-guard"))
        .args(command)
        .args(["--state", home.path().join("state").to_str().unwrap()])
        .args(["--tree", dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(status.stdout.windows(6).any(|text| text == b"live/a"), "{}", String::from_utf8_lossy(&status.stderr));
    let text = std::fs::read_to_string(log.path()).unwrap();
    let touched: Vec<&str> = text.lines().filter(|line| line.contains(dir.path().to_str().unwrap())).collect();
    assert!(touched.iter().any(|line| line.contains("statx")), "the trace shows nothing of the tree");
    const CHANGES: [&str; 12] = [
        "unlink",
        "rename",
        "rmdir",
        "mkdir",
        "link",
        "write",
        "truncate",
        "fallocate",
        "setxattr",
        "removexattr",
        "utimens",
        "O_CREAT",
    ];
    for line in touched {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        let name = call.split('(').next().unwrap_or_default();
        let opens_to_write = line.contains("O_WRONLY") || line.contains("O_RDWR") || line.contains("O_CREAT");
        assert!(!CHANGES.iter().any(|c| name.starts_with(c)) && !opens_to_write, "{line}");
    }
}
