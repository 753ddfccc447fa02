//! Talks to the running daemon over its control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::server::connect_control;

/// How long a call may take in all; longer than the daemon's own deadline.
const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of an answer; a plan of a million recordings fits.
const ANSWER: usize = 512 << 20;
/// Between two attempts while too many wait to be served.
const CROWDED: Duration = Duration::from_millis(50);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The socket cannot be connected to.
    #[error("cannot connect to the daemon of `{}`; is it running, and as which user?", state.display())]
    Connect {
        /// The state directory.
        state: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("the daemon of `{}` broke off the conversation; see its log", state.display())]
    Broken {
        /// The state directory.
        state: PathBuf,
        /// What hyper says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("the daemon of `{}` did not answer within {} s; see its log", state.display(), after.as_secs())]
    Late {
        /// The state directory.
        state: PathBuf,
        /// How long it had.
        after: Duration,
    },
    /// The answer is too large.
    #[error("the answer holds more than {ANSWER} bytes; ask for less with `limit`")]
    TooLarge,
    /// What is asked cannot be put into a request.
    #[error("cannot ask for `{path}`")]
    Unaskable {
        /// What is asked.
        path: String,
        /// What is wrong.
        source: http::Error,
    },
    /// There are no resources for a conversation.
    #[error("cannot start a conversation with the daemon")]
    Runtime {
        /// What the system says.
        source: io::Error,
    },
}

/// A daemon that listens.
#[derive(Debug)]
pub(super) struct Client {
    state: PathBuf,
    deadline: Duration,
}

impl Client {
    /// The daemon of a state directory; `None` if there is no socket, nobody listens on it, or this user may not use it.
    pub(super) fn connect(state_dir: &Path) -> Option<Self> {
        match connect_control(state_dir) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => None,
            _ => Some(Self { state: state_dir.to_owned(), deadline: DEADLINE }),
        }
    }

    /// The same, waiting for an answer for so long.
    pub(super) fn patient(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Calls; gives the status and the answer, which is a text where it is no JSON.
    ///
    /// # Errors
    /// If there is no answer. A refusal is an answer.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<(u16, Value), ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| ClientError::Runtime { source })?;
        runtime.block_on(async {
            let conversation = self.converse(method, path, body);
            tokio::time::timeout(self.deadline, conversation)
                .await
                .unwrap_or_else(|_| Err(ClientError::Late { state: self.state.clone(), after: self.deadline }))
        })
    }

    async fn converse(&self, method: Method, path: &str, body: Option<Value>) -> Result<(u16, Value), ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body));
        let request = request.map_err(|source| ClientError::Unaskable { path: path.to_owned(), source })?;

        let stream = TokioIo::new(self.stream().await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| self.broken(error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { ClientError::TooLarge } else { self.broken(error) }
            })?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(connection, answer);
        let mut open = true;
        let (status, body) = loop {
            tokio::select! {
                answered = &mut answer => break answered?,
                // How the connection ends is seen by whoever waits for the answer.
                _ = &mut connection, if open => open = false,
            }
        };
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
    }

    async fn stream(&self) -> Result<UnixStream, ClientError> {
        let failed = |source| ClientError::Connect { state: self.state.clone(), source };
        loop {
            match connect_control(&self.state) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(CROWDED).await,
                stream => return UnixStream::from_std(stream.map_err(failed)?).map_err(failed),
            }
        }
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { state: self.state.clone(), source: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::domain::deletion::Outcome;
    use crate::domain::journal::JournalQuery;
    use crate::domain::remedy::RemedyKind;
    use crate::domain::settings::AuthSettings;
    use crate::server::deletions::DeletionRequest;
    use crate::server::holds::{Hold, HoldMade, HoldRequest};
    use crate::server::hook_records::HookKept;
    use crate::server::orphans::{Missing, Orphan, OrphansWanted, Remedied, RemedyRequest};
    use crate::server::records::{
        Alert, Cap, ChannelTest, FailureItem, Job, JobItem, JournalEntry, NewSilence, Silence, SilenceMade,
    };
    use crate::server::shapes::{Catalogue, Channel, Page, Status, StreamStanding};
    use crate::server::{Auth, Backend, ControlSocket, Feed, Limits, PageQuery, Plans, Refusal, router, serve_unix};
    use crate::store::HookRecord;
    use crate::system::SystemClock;

    /// A daemon that reads a request, answers with these bytes, and hangs up; or keeps silent.
    fn check(answer: Option<&'static str>, expected: Result<(u16, Value), &str>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let client = Client::connect(dir.path()).unwrap().patient(Duration::from_millis(300));
        let daemon = std::thread::spawn(move || {
            // The first connection is `connect`'s own.
            let _ = listener.accept().unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).unwrap();
            request.truncate(n);
            match answer {
                Some(text) => stream.write_all(text.as_bytes()).unwrap(),
                None => drop(stream.read(&mut [0])),
            }
            String::from_utf8(request).unwrap()
        });
        let got = client.call(Method::POST, "/api/v1/x?y=1", Some(serde_json::json!({"a": 1})));
        match (got, expected) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
            (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
            (got, wanted) => panic!("{got:?} instead of {wanted:?}"),
        }
        let request = daemon.join().unwrap();
        assert!(request.starts_with("POST /api/v1/x?y=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("content-type: application/json"), "{request}");
    }

    #[test]
    fn answers_come_back_and_what_is_none_is_an_error() {
        let json = "HTTP/1.1 409 Conflict\r\ncontent-length: 12\r\n\r\n{\"error\": 1}";
        check(Some(json), Ok((409, serde_json::json!({"error": 1}))));
        check(Some("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n"), Ok((200, "ready\n".into())));
        check(Some("HTTP/1.1 200 OK\r\n\r\n[1, 2]"), Ok((200, serde_json::json!([1, 2]))));
        check(Some("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), Err("broke off"));
        check(Some("hello"), Err("broke off"));
        check(Some(""), Err("broke off"));
        check(None, Err("did not answer within"));
    }

    /// A daemon that has nothing to tell.
    struct Idle;

    impl Backend for Idle {
        fn ready(&self) -> bool {
            true
        }

        fn metrics(&self) -> String {
            String::new()
        }

        fn status(&self) -> Status {
            Status {
                mode: "observe".to_owned(),
                delivery_failing_since: None,
                relays: vec![],
                alerts: None,
                volumes: vec![],
                trees: vec![],
                catalogues: vec![],
                archives: vec![],
                media_servers: vec![],
            }
        }

        fn plans(&self, _: Option<&str>) -> Result<Plans, Refusal> {
            Ok(Plans::All(Page { items: vec![], next: None }))
        }

        fn streams(&self, _: Option<&str>) -> Result<Vec<StreamStanding>, Refusal> {
            Ok(vec![])
        }

        fn apply(&self, id: &str, _: &str) -> Result<u64, Refusal> {
            Err(Refusal::conflict("observing", format!("plan `{id}` is not carried out in observe mode")))
        }

        fn job(&self, id: u64) -> Result<Job, Refusal> {
            Err(Refusal::not_found(format!("there is no job {id}")))
        }

        fn job_items(&self, id: u64, _: Option<Outcome>, _: &PageQuery) -> Result<Page<JobItem>, Refusal> {
            Err(self.job(id).unwrap_err())
        }

        fn delete(&self, request: &DeletionRequest, _: &str) -> Result<u64, Refusal> {
            Err(Refusal::not_found(format!("there is no tree `{}`", request.tree)))
        }

        fn job_feed(&self, id: u64) -> Result<Arc<Feed>, Refusal> {
            Err(self.job(id).unwrap_err())
        }

        fn cancel(&self, id: u64, _: &str) -> Result<Job, Refusal> {
            self.job(id)
        }

        fn gap(&self, asked: &crate::server::gaps::GapQuery) -> Result<crate::server::gaps::Gap, Refusal> {
            Err(Refusal::not_found(format!("there is no stream `{}`", asked.stream)))
        }

        fn verify(&self) -> Result<crate::server::records::Verification, Refusal> {
            Ok(crate::server::records::Verification { entries: 0, faults: Vec::new() })
        }

        fn explain(&self, path: &str, _: bool) -> Result<Vec<String>, Refusal> {
            Ok(vec![path.to_owned()])
        }

        fn journal(&self, _: &JournalQuery) -> Result<Page<JournalEntry>, Refusal> {
            Ok(Page { items: vec![], next: None })
        }

        fn caps(&self) -> Vec<Cap> {
            vec![]
        }

        fn channels(&self) -> Vec<Channel> {
            vec![]
        }

        fn acknowledge(&self, _: &str, _: &str, _: &str) -> Result<(), Refusal> {
            Ok(())
        }

        fn failures(&self, _: &PageQuery) -> Result<Page<FailureItem>, Refusal> {
            Ok(Page { items: vec![], next: None })
        }

        fn retry(&self, _: Option<u64>, _: &str) -> Result<u64, Refusal> {
            Ok(0)
        }

        fn close(&self, _: u64, _: &str, _: &str) -> Result<(), Refusal> {
            Ok(())
        }

        fn holds(&self) -> Vec<Hold> {
            Vec::new()
        }

        fn hold(&self, _: &HoldRequest, _: &str) -> Result<HoldMade, Refusal> {
            Err(Refusal::not_found("there is no tree"))
        }

        fn let_go(&self, id: u64, _: &str) -> Result<(), Refusal> {
            Err(Refusal::not_found(format!("there is no hold {id}")))
        }

        fn orphans(&self, _: &OrphansWanted, _: &PageQuery) -> Result<Page<Orphan>, Refusal> {
            Ok(Page { items: vec![], next: None })
        }

        fn missing(&self, _: Option<&str>, _: &PageQuery) -> Result<Page<Missing>, Refusal> {
            Ok(Page { items: vec![], next: None })
        }

        fn remedy(&self, _: RemedyKind, request: &RemedyRequest, _: &str) -> Result<Remedied, Refusal> {
            Err(Refusal::conflict("observe", format!("tree `{}` is only observed", request.tree)))
        }

        fn catalogues(&self) -> Vec<Catalogue> {
            vec![]
        }

        fn accept(&self, name: &str, _: &str) -> Result<(), Refusal> {
            Err(Refusal::not_found(format!("there is no catalogue `{name}`")))
        }

        fn keep_hooks(&self, _: &[HookRecord]) -> Result<Vec<HookKept>, Refusal> {
            Err(Refusal::conflict("no_hooks", "no catalogue is made of hook records"))
        }

        fn alerts(&self) -> Vec<Alert> {
            vec![]
        }

        fn silences(&self, _: bool) -> Vec<Silence> {
            vec![]
        }

        fn silence(&self, _: &NewSilence, _: &str) -> Result<SilenceMade, Refusal> {
            Ok(SilenceMade { id: 1, durable: true })
        }

        fn end_silence(&self, id: u64, _: &str) -> Result<(), Refusal> {
            Err(Refusal::not_found(format!("there is no silence {id}")))
        }

        fn test_channel(&self, _: &str) -> Result<ChannelTest, Refusal> {
            Ok(ChannelTest { delivered: true, transcript: vec![] })
        }

        fn reload(&self, _: &str) -> Result<(), Vec<String>> {
            Ok(())
        }
    }

    #[test]
    fn client_and_server_understand_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let auth = Arc::new(Auth::new(&AuthSettings::default(), None, Arc::new(SystemClock)));
        let limits = Limits::default();
        let all = router(Arc::new(Idle), auth, &limits);
        let (stop, stopped) = watch::channel(false);
        let served = runtime.spawn(serve_unix(ControlSocket::bind(dir.path()).unwrap(), all, limits, stopped));

        let client = Client::connect(dir.path()).unwrap();
        let check = |method, path: &str, body, status, pointer: &str, expected: Value| {
            let (got, answer) = client.call(method, path, body).unwrap();
            assert_eq!((got, answer.pointer(pointer)), (status, Some(&expected)), "{path}: {answer}");
        };
        check(Method::GET, "/api/v1/status", None, 200, "/mode", "observe".into());
        check(Method::GET, "/-/healthy", None, 200, "", "healthy\n".into());
        check(Method::POST, "/api/v1/plans/p/apply", None, 409, "/error/code", "observing".into());
        let reason = Some(serde_json::json!({"reason": "it is gone"}));
        check(Method::POST, "/api/v1/failures/3/close", reason, 200, "/closed", 3.into());
        assert!(matches!(client.call(Method::GET, "no path", None), Err(ClientError::Unaskable { .. })));

        stop.send(true).unwrap();
        runtime.block_on(served).unwrap().unwrap();
        assert!(Client::connect(dir.path()).is_none());
    }

    #[test]
    fn nobody_there_is_no_client() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Client::connect(dir.path()).is_none());
        drop(UnixListener::bind(dir.path().join("control.sock")).unwrap());
        assert!(Client::connect(dir.path()).is_none());
    }
}
