//! Names that come from requests, and programs that are called.

use std::path::Path;
use std::process::Command;

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted};

/// Fault 4.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_path_in_a_request_never_leads_out_of_the_tree() {
    let bed = Bed::new(Mounted::ext4(64), 3);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    let log = bed.home.path().join("trace");
    let mut tracer = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=%file", "-o", log.to_str().unwrap(), "-p", &daemon.pid().to_string()])
        .spawn()
        .unwrap();
    let socket = bed.state().join("control.sock");
    let ask = |path: &str| {
        let output = Command::new("curl")
            .args(["-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"])
            .args([socket.to_str().unwrap(), &format!("http://localhost{path}")])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    crate::support::wait_for("it is traced", || {
        ask("/api/v1/status");
        std::fs::metadata(&log).is_ok_and(|found| found.len() > 0)
    });
    for path in [
        "..",
        "../etc/passwd",
        "live/../../etc/passwd",
        "/etc/passwd",
        "live//a",
        "live/./a",
        "%2e%2e/etc/passwd",
        "%2e%2e%2fetc%2fpasswd",
        "live/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "live/a%00.mp4",
        "",
    ] {
        for encoded in ["", "&encoded=true"] {
            let code = ask(&format!("/api/v1/plan/explain?path={path}{encoded}"));
            assert_eq!(code, "400", "{path}{encoded}");
        }
    }
    // Encoded twice, and a backslash, which is a byte like any other: such a recording is not there.
    for path in ["%252e%252e%252fetc%252fpasswd&encoded=true", "%5c..%5cetc%5cpasswd"] {
        let code = ask(&format!("/api/v1/plan/explain?path={path}"));
        assert!(code == "400" || code == "404", "{path}: {code}");
    }
    for path in ["/api/v1/../../etc/passwd", "/api/v1/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd"] {
        assert!(ask(path).starts_with('4'), "{path}");
    }
    let _ = Command::new("kill").arg(tracer.id().to_string()).status();
    let _ = tracer.wait();
    let trace = std::fs::read_to_string(&log).unwrap();
    assert!(!trace.contains("passwd"), "{trace}");
}

/// Fault 16: no name ever meets a shell. The one program that is started is our own, for a volume that may hang.
#[test]
fn no_program_is_started() {
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(at) = pending.pop() {
        if at.is_dir() {
            pending.extend(std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if at.to_str().unwrap().ends_with("_tests.rs") {
            continue;
        }
        let ours = at.ends_with("system/remote/yard.rs");
        let text = std::fs::read_to_string(&at).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        if ours {
            assert_eq!(code.matches("Command::new").count(), 1);
            continue;
        }
        assert!(!code.contains("Command::new"), "{} starts a program", at.display());
        assert!(!code.contains("process::Command"), "{} starts a program", at.display());
    }
}
