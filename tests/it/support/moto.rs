//! PyPI's moto, a server that speaks S3, with a port of its own, ended when dropped, also when the test fails. `tests/run` installs it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wire::{Answer, Caller};
use super::{free_port, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a test logs in with, where nobody asks who it is.
pub(crate) const KEY: (&str, &str) = ("AKIAEXAMPLEKEY", "example/secret+key");

/// A server, and what it keeps, which ends with it.
pub(crate) struct Moto {
    child: Child,
    port: u16,
    /// Where its log is.
    _home: tempfile::TempDir,
}

impl Moto {
    /// One that believes every signature.
    pub(crate) fn start() -> Self {
        Self::started(&[])
    }

    /// One that checks who asks, after so many requests.
    pub(crate) fn strict_after(requests: u32) -> Self {
        Self::started(&[("INITIAL_NO_AUTH_ACTION_COUNT", requests.to_string())])
    }

    fn started(environment: &[(&str, String)]) -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").expect("somebody runs the tests")).join(".cache"),
            PathBuf::from,
        );
        let program = cache.join("storage-guard-tests/moto/bin/moto_server");
        for _ in 0..5 {
            let (port, home) = (free_port(), tempfile::tempdir().unwrap());
            let log = std::fs::File::options().create(true).append(true).open(home.path().join("log")).unwrap();
            let mut command = Command::new(&program);
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
            command.envs(environment.iter().map(|(name, value)| (name, value))).stderr(log);
            let child = command.spawn().unwrap_or_else(|error| panic!("{}, by tests/run: {error}", program.display()));
            let mut moto = Self { child, port, _home: home };
            let mut ended = false;
            wait_for("moto answers", || {
                ended = moto.child.try_wait().unwrap().is_some();
                ended || Caller::to(port, PATIENCE).and_then(|mut caller| caller.get("/moto-api/")).is_ok()
            });
            // Another one may have taken the port meanwhile.
            if !ended {
                return moto;
            }
        }
        panic!("moto does not start");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Asks it something, at the given service.
    pub(crate) fn asked(&self, service: &str, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        let signed =
            format!("Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/{service}/aws4_request\r\n");
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n{signed}{headers}"
        );
        let answer = Caller::to(self.port, PATIENCE).unwrap().call_for(method, &head, body).unwrap();
        assert!(answer.status < 500, "{}", answer.text());
        answer
    }

    /// Makes a bucket.
    pub(crate) fn bucket(&self, name: &str) {
        assert_eq!(self.asked("s3", "PUT", &format!("/{name}"), "", b"").status, 200);
    }

    /// Puts an object, as somebody else would.
    pub(crate) fn put(&self, target: &str, content: &[u8]) {
        assert_eq!(self.asked("s3", "PUT", target, "", content).status, 200);
    }

    /// The content of an object, if there is one.
    pub(crate) fn content(&self, target: &str) -> Option<Vec<u8>> {
        let answer = self.asked("s3", "GET", target, "", b"");
        (answer.status == 200).then_some(answer.body)
    }

    /// How many uploads in a bucket have begun and not ended.
    pub(crate) fn uploads(&self, bucket: &str) -> usize {
        self.asked("s3", "GET", &format!("/{bucket}?uploads"), "", b"").text().matches("<UploadId>").count()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
