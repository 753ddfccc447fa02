//! A socket that outlives the guard: while it restarts, hooks wait and are taken afterwards.

use std::process::{Child, Command, Stdio};

use super::{Heard, captures, count, send};
use crate::support::{Daemon, guard, wait_for};

/// A manager that holds the socket, and starts the guard at the first hook; ended when dropped.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs systemd-socket-activate"]
fn hooks_that_arrive_while_the_guard_is_away_wait_in_the_socket_that_systemd_holds() {
    let heard = Heard::new();
    let config = heard.config("", "", "");
    let address = format!("127.0.0.1:{}", heard.port);
    let log = std::fs::File::options().create(true).append(true).open(heard.home().join("guard.log")).unwrap();
    let mut command = Command::new("systemd-socket-activate");
    command.args([
        "-l",
        &address,
        "--fdname=zlm-1",
        env!("CARGO_BIN_EXE_storage-guard"),
        "run",
        "-c",
        config.to_str().unwrap(),
    ]);
    let manager = Manager(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    wait_for("the socket is there", || heard.log().contains("Listening on"));
    // Nobody is there yet; the hook waits until the guard is.
    let body = captures()["hook_on_record_mp4"].clone();
    let (port, first) = (heard.port, body.clone());
    let waiting = std::thread::spawn(move || send(port, "/index/hook/on_record_mp4", &first).unwrap());
    assert_eq!(waiting.join().unwrap().code(), 0);
    let state = heard.state();
    wait_for("it answers", || guard(&["status", "--json", "--state", state.to_str().unwrap()]).status.success());
    assert!(heard.log().contains("socket=\"systemd\""), "{}", heard.log());
    for number in 1..20 {
        assert_eq!(heard.send("on_record_mp4", &body.replace("-0.mp4", &format!("-{number}.mp4"))).code(), 0);
    }
    drop(manager);
    let daemon = Daemon::start(&config, &state);
    assert_eq!(heard.send("on_record_mp4", &body).code(), 0);
    assert_eq!(count(&daemon, "on_record_mp4", "duplicate"), 1, "what waited was kept");
}

/// The units that are shipped say what systemd understands.
#[test]
#[ignore = "needs systemd-analyze"]
#[expect(clippy::disallowed_methods, reason = "it writes the test's own files")]
fn the_units_are_what_systemd_understands() {
    let home = tempfile::tempdir().unwrap();
    let units = ["storage-guard.service", "storage-guard-hooks.socket"].map(|name| {
        let text = std::fs::read_to_string(std::path::Path::new("packaging").join(name)).unwrap();
        let path = home.path().join(name);
        std::fs::write(&path, text.replace("/usr/local/bin/storage-guard", env!("CARGO_BIN_EXE_storage-guard")))
            .unwrap();
        path
    });
    let output = Command::new("systemd-analyze").arg("verify").args(units).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
