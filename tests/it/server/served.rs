//! A server on port 0, its backend that only remembers what it was asked, and bytes to and from it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;
use sha2::Digest as _;
use storage_guard::domain::deletion::Outcome;
use storage_guard::domain::journal::JournalQuery;
use storage_guard::domain::remedy::RemedyKind;
use storage_guard::domain::secret::Secret;
use storage_guard::domain::settings::{AuthSettings, Role, Token};
use storage_guard::domain::units::Timestamp;
use storage_guard::server::deletions::DeletionRequest;
use storage_guard::server::gaps::{Gap, GapQuery};
use storage_guard::server::holds::{Hold, HoldMade, HoldRequest};
use storage_guard::server::hook_records::HookKept;
use storage_guard::server::orphans::{Missing, Orphan, OrphansWanted, Rehearsal, Remedied, RemedyRequest, Verdict};
use storage_guard::server::records::{
    Alert, AlertState, Cap, ChannelTest, FailureItem, Job, JobItem, JobState, JournalEntry, MutedBy, NewSilence,
    Silence, SilenceMade,
};
use storage_guard::server::shapes::{Catalogue, Channel, Page, Path, Plan, Status, StreamStanding};
use storage_guard::server::{
    Auth, Backend, ControlSocket, Feed, Limits, PageQuery, Plans, Refusal, metrics_router, router, serve_tcp,
    serve_unix,
};
use storage_guard::store::HookRecord;
use storage_guard::system::Clock;
use tokio::sync::watch;

pub(super) const OPERATOR: &str = "the-operators-own-token";

#[derive(Default)]
pub(super) struct Fake {
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) unready: AtomicBool,
    pub(super) undelivered: Mutex<Option<String>>,
    pub(super) stuck: Mutex<bool>,
    pub(super) released: Condvar,
    pub(super) feed: Arc<Feed>,
}

impl Fake {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    /// Until it is released.
    fn wait(&self) {
        let mut stuck = self.stuck.lock().unwrap();
        while *stuck {
            stuck = self.released.wait(stuck).unwrap();
        }
    }

    pub(super) fn release(&self) {
        *self.stuck.lock().unwrap() = false;
        self.released.notify_all();
    }
}

fn plan(volume: &str) -> Plan {
    Plan {
        id: "p1".to_owned(),
        volume: volume.to_owned(),
        next: vec![],
        target_bytes: 7,
        items: vec![],
        spared: vec![],
        shortfall_bytes: 0,
        cut: vec![],
    }
}

fn job(id: u64, state: JobState) -> Job {
    Job {
        id,
        state,
        total: 2,
        verified: 1,
        failed: 0,
        waiting: 1,
        kept: 0,
        expected_bytes: 10,
        reclaimed_bytes: 5,
        started: Some("2026-01-01T00:00:00Z".to_owned()),
        finished: None,
        kind: "delete",
        problem: None,
        items_left_out: 0,
    }
}

fn path(path: &str) -> Path {
    Path { path: path.to_owned(), encoded: false }
}

fn failure(id: u64) -> FailureItem {
    FailureItem {
        id,
        tree: "live".to_owned(),
        path: path("a.mp4"),
        stream: "live/cam".to_owned(),
        bytes: 9,
        cause: "in_use",
        error: "busy".to_owned(),
        holder: Some("MediaServer (pid 1)".to_owned()),
        attempts: 3,
        next_attempt: "2026-01-01T00:00:00Z".to_owned(),
        since: "2026-01-01T00:00:00Z".to_owned(),
    }
}

impl Backend for Fake {
    fn ready(&self) -> bool {
        !self.unready.load(Ordering::Relaxed)
    }

    fn metrics(&self) -> String {
        "storage_guard_enforcing 1\n".repeat(200)
    }

    fn status(&self) -> Status {
        let delivery_failing_since = self.undelivered.lock().unwrap().clone();
        Status {
            mode: "observe".to_owned(),
            delivery_failing_since,
            relays: vec![],
            alerts: None,
            volumes: vec![],
            trees: vec![],
            catalogues: vec![],
            archives: vec![],
            media_servers: vec![],
        }
    }

    fn plans(&self, volume: Option<&str>) -> Result<Plans, Refusal> {
        match volume {
            None => Ok(Plans::All(Page { items: vec![plan("/a"), plan("/b"), plan("/c")], next: None })),
            Some("/a") => Ok(Plans::One(Box::new(plan("/a")))),
            Some("stuck") => {
                self.note("stuck".to_owned());
                self.wait();
                Ok(Plans::One(Box::new(plan("stuck"))))
            }
            Some("broken") => panic!("the backend's own fault"),
            Some(other) => Err(Refusal::not_found(format!("there is no volume `{other}`"))),
        }
    }

    fn streams(&self, _: Option<&str>) -> Result<Vec<StreamStanding>, Refusal> {
        Ok(vec![])
    }

    fn apply(&self, id: &str, who: &str) -> Result<u64, Refusal> {
        self.note(format!("apply {id} by {who}"));
        if id == "p1" { Ok(42) } else { Err(Refusal::conflict("changed", "an item would no longer be deleted now")) }
    }

    fn job(&self, id: u64) -> Result<Job, Refusal> {
        if id == 42 { Ok(job(id, JobState::Waiting)) } else { Err(Refusal::not_found(format!("there is no job {id}"))) }
    }

    fn job_items(&self, id: u64, outcome: Option<Outcome>, page: &PageQuery) -> Result<Page<JobItem>, Refusal> {
        self.job(id)?;
        let item = |n: u64| JobItem {
            tree: "live".to_owned(),
            path: path(&format!("{n}.mp4")),
            outcome: outcome.map(Outcome::as_str),
            cause: None,
            holder: None,
            attempts: 1,
            next_attempt: None,
            bytes: n,
            detail: None,
        };
        page.page((1..=250).map(item), |item| item.bytes)
    }

    fn delete(&self, request: &DeletionRequest, who: &str) -> Result<u64, Refusal> {
        self.note(format!("delete in {} by {who}", request.tree));
        let (_, malformed) = request.demand()?;
        if malformed.is_empty() { Ok(42) } else { Err(Refusal::bad_request("not_a_recording", malformed.join(", "))) }
    }

    fn job_feed(&self, id: u64) -> Result<Arc<Feed>, Refusal> {
        self.job(id)?;
        Ok(self.feed.clone())
    }

    fn cancel(&self, id: u64, who: &str) -> Result<Job, Refusal> {
        self.note(format!("cancel {id} by {who}"));
        Ok(Job { state: JobState::Cancelled, ..self.job(id)? })
    }

    fn gap(&self, asked: &GapQuery) -> Result<Gap, Refusal> {
        self.note(format!("gap of {}", asked.stream));
        Ok(Gap { stream: asked.stream.clone(), items: vec![], left_out: 0, next: None })
    }

    fn verify(&self) -> Result<storage_guard::server::records::Verification, Refusal> {
        Ok(storage_guard::server::records::Verification { entries: 0, faults: Vec::new() })
    }

    fn explain(&self, path: &str, _: bool) -> Result<Vec<String>, Refusal> {
        Ok(vec![path.to_owned()])
    }

    fn journal(&self, query: &JournalQuery) -> Result<Page<JournalEntry>, Refusal> {
        self.note(format!("journal {:?} after {} limit {}", query.tree, query.after.0, query.limit));
        Ok(Page { items: vec![], next: None })
    }

    fn caps(&self) -> Vec<Cap> {
        let cap = |tree: &str| Cap {
            tree: tree.to_owned(),
            cap: "run_share",
            wanted: 2,
            allowed: 1,
            since: "2026-01-01T00:00:00Z".to_owned(),
        };
        vec![cap("live"), cap("archive")]
    }

    fn acknowledge(&self, tree: &str, cap: &str, who: &str) -> Result<(), Refusal> {
        self.note(format!("acknowledge {tree} {cap} by {who}"));
        Ok(())
    }

    fn failures(&self, page: &PageQuery) -> Result<Page<FailureItem>, Refusal> {
        page.page((1..=3).map(failure), |item| item.id)
    }

    fn retry(&self, id: Option<u64>, who: &str) -> Result<u64, Refusal> {
        self.note(format!("retry {id:?} by {who}"));
        Ok(if id.is_some() { 1 } else { 3 })
    }

    fn close(&self, id: u64, reason: &str, who: &str) -> Result<(), Refusal> {
        self.note(format!("close {id} by {who}: {reason}"));
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

    fn orphans(&self, wanted: &OrphansWanted, page: &PageQuery) -> Result<Page<Orphan>, Refusal> {
        self.note(format!("orphans {wanted:?} after {:?} limit {}", page.cursor, page.limit));
        if wanted.tree.as_deref() == Some("none") {
            return Err(Refusal::not_found("there is no tree `none`; there are: live"));
        }
        let orphan = Orphan {
            tree: "live".to_owned(),
            path: Path { path: "live/cam/a%0A.mp4".to_owned(), encoded: true },
            stream: "live/cam".to_owned(),
            bytes: 4096,
            kind: "uncatalogued",
            state: "reported",
            first_seen: "2026-01-01T00:00:00Z".to_owned(),
            verdict: Verdict {
                proven: false,
                witnesses: vec!["grammar"],
                wanted: vec!["two_scans"],
                sentence: "not proven".to_owned(),
            },
            playable: Some(true),
            deleted_after: None,
        };
        Ok(Page { items: vec![orphan], next: Some("r.6c.uncatalogued.61".to_owned()) })
    }

    fn missing(&self, tree: Option<&str>, page: &PageQuery) -> Result<Page<Missing>, Refusal> {
        self.note(format!("missing of {tree:?} after {:?}", page.cursor));
        let missing = Missing {
            tree: "live".to_owned(),
            path: path("live/cam/b.mp4"),
            row: "7".to_owned(),
            catalogue: "wvp".to_owned(),
        };
        Ok(Page { items: vec![missing], next: None })
    }

    fn remedy(&self, kind: RemedyKind, request: &RemedyRequest, who: &str) -> Result<Remedied, Refusal> {
        let which = request.which()?;
        self.note(format!("{kind} {which:?} of {} by {who}", request.tree));
        match request.tree.as_str() {
            "live" if request.dry_run => Ok(Remedied::Rehearsal(Rehearsal { total: 3, items: vec![] })),
            "live" => Ok(Remedied::Job(42)),
            _ => Err(Refusal::conflict("untrusted", "catalogue `wvp` is not trusted")),
        }
    }

    fn catalogues(&self) -> Vec<Catalogue> {
        let catalogue = |name: &str, trusted: bool| Catalogue {
            name: name.to_owned(),
            kind: "wvp".to_owned(),
            trusted,
            reason: (!trusted).then(|| "it does not answer: timeout".to_owned()),
            since: None,
            can_accept: false,
            rows: 4,
            foreign_rows: 3,
            bad_rows: 2,
            collect: 1,
            read_at: None,
            remark: None,
        };
        vec![catalogue("wvp", true), catalogue("other", false)]
    }

    fn accept(&self, name: &str, who: &str) -> Result<(), Refusal> {
        self.note(format!("accept {name} by {who}"));
        if name == "wvp" { Ok(()) } else { Err(Refusal::not_found(format!("there is no catalogue `{name}`"))) }
    }

    fn keep_hooks(&self, records: &[HookRecord]) -> Result<Vec<HookKept>, Refusal> {
        let mut seen = std::collections::BTreeSet::new();
        let mut out = Vec::new();
        for record in records {
            let (server, stream, path) = (&record.media_server, &record.stream, String::from_utf8_lossy(&record.path));
            self.note(format!("hook {server} {stream} {path} {} {} {}", record.start, record.size, record.length));
            if stream == "live/unkept" {
                return Err(Refusal::unavailable("hooks", "hook records cannot be kept"));
            }
            out.push(if seen.insert(record.path.clone()) { HookKept::Stored } else { HookKept::Duplicate });
        }
        Ok(out)
    }

    fn alerts(&self) -> Vec<Alert> {
        vec![Alert {
            alert: "VolumeBlind",
            severity: "critical",
            state: AlertState::Firing,
            since: "2026-01-01T00:00:00Z".to_owned(),
            labels: BTreeMap::from([("volume", "/a".to_owned())]),
            summary: "No reading".to_owned(),
            description: "It is unmounted".to_owned(),
            muted_by: Some(MutedBy::Silence { silence: 3, until: "2026-01-01T00:00:00Z".to_owned() }),
            ended: None,
        }]
    }

    fn channels(&self) -> Vec<Channel> {
        vec![Channel {
            name: "hook".to_owned(),
            kind: "webhook".to_owned(),
            state: "failing".to_owned(),
            since: Some("2026-01-01T00:00:00Z".to_owned()),
            queued: 3,
            oldest_seconds: 60,
            last_error: Some("503 Service Unavailable".to_owned()),
            dropped: 0,
            last_dropped: vec![],
        }]
    }

    fn silences(&self, ended: bool) -> Vec<Silence> {
        let silence = |id| Silence {
            id,
            alert: Some("VolumeBlind"),
            tree: None,
            volume: Some("/a".to_owned()),
            until: "2026-01-01T00:00:00Z".to_owned(),
            reason: "a new disk".to_owned(),
            who: "ops".to_owned(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            ended: None,
        };
        (if ended { 2 } else { 3 }..=3).map(silence).collect()
    }

    fn silence(&self, wanted: &NewSilence, who: &str) -> Result<SilenceMade, Refusal> {
        self.note(format!("silence {:?} until {} by {who}: {}", wanted.volume, wanted.until, wanted.reason));
        Ok(SilenceMade { id: 4, durable: true })
    }

    fn end_silence(&self, id: u64, who: &str) -> Result<(), Refusal> {
        self.note(format!("end silence {id} by {who}"));
        if id == 3 { Ok(()) } else { Err(Refusal::not_found(format!("there is no silence {id}"))) }
    }

    fn test_channel(&self, name: &str) -> Result<ChannelTest, Refusal> {
        self.note(format!("test {name}"));
        self.wait();
        Ok(ChannelTest { delivered: false, transcript: vec!["POST http://***".to_owned()] })
    }

    fn reload(&self, who: &str) -> Result<(), Vec<String>> {
        self.note(format!("reload by {who}"));
        if self.unready.load(Ordering::Relaxed) { Err(vec!["a: 1".to_owned(), "b: 2".to_owned()]) } else { Ok(()) }
    }
}

#[derive(Default)]
pub(super) struct FakeClock(pub(super) AtomicU64);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(0)
    }

    fn boottime(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn sleep(&self, _: Duration) {}
}

/// A server that stops when dropped.
pub(super) struct Served {
    pub(super) backend: Arc<Fake>,
    pub(super) clock: Arc<FakeClock>,
    pub(super) address: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) state: tempfile::TempDir,
    pub(super) stop: watch::Sender<bool>,
    pub(super) ended: Option<tokio::task::JoinHandle<()>>,
    pub(super) runtime: Option<tokio::runtime::Runtime>,
}

impl Served {
    pub(super) fn new() -> Self {
        Self::with(&AuthSettings::default(), Limits::default())
    }

    pub(super) fn with(settings: &AuthSettings, limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (backend, clock) = (Arc::new(Fake::default()), Arc::new(FakeClock::default()));
        let own = settings.tokens.is_empty().then(|| Secret::new(OPERATOR));
        let auth = Arc::new(Auth::new(settings, own.as_ref(), clock.clone()));
        let listener = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let (main, metrics) = (listener(), listener());
        let addresses = (main.local_addr().unwrap(), metrics.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        let state = tempfile::tempdir().unwrap();
        let all = router(backend.clone(), auth.clone(), &limits);
        let some = metrics_router(backend.clone(), auth, &limits);
        let ended = runtime.spawn(serve_tcp(main, all.clone(), limits, stopped.clone()));
        runtime.spawn(serve_tcp(metrics, some, limits, stopped.clone()));
        let socket = ControlSocket::bind(state.path()).unwrap();
        runtime.spawn(async move { serve_unix(socket, all, limits, stopped).await.unwrap() });
        Self {
            backend,
            clock,
            address: addresses.0,
            metrics: addresses.1,
            state,
            stop,
            ended: Some(ended),
            runtime: Some(runtime),
        }
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream
    }

    /// Sends bytes and reads what comes until the server closes.
    pub(super) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that answers before it has read all may close meanwhile.
        let _ = stream.write_all(bytes);
        Answer::read(&mut stream)
    }

    pub(super) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.raw(request(method, path, headers, body).as_bytes())
    }

    /// As the operator, with a JSON body if there is one.
    pub(super) fn operate(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = format!("Authorization: Bearer {OPERATOR}\r\nContent-Type: application/json\r\n");
        self.ask(method, path, &headers, body)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.backend.asked.lock().unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.backend.release();
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

pub(super) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}{length}\r\n{body}")
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Reads to the end; status 0 if the server closed without a word.
    pub(super) fn read(stream: &mut impl std::io::Read) -> Self {
        let mut bytes = Vec::new();
        // A server that closes with unread bytes resets the connection, and the answer may be lost with it.
        if let Err(error) = stream.read_to_end(&mut bytes) {
            panic!("the server neither answers nor closes properly: {error}");
        }
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self { status, head, body: bytes.get(end + 4..).unwrap_or_default().to_vec() }
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.head, String::from_utf8_lossy(&self.body)))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub(super) fn timed_out<T>(result: &std::io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

pub(super) fn tokens() -> AuthSettings {
    let token = |name: &str, role, text: &str| Token {
        name: name.to_owned(),
        role,
        sha256: sha2::Sha256::digest(text.as_bytes()).into(),
    };
    AuthSettings {
        tokens: vec![token("watch", Role::Viewer, "view-token"), token("ops", Role::Operator, "operate-token")],
        ..AuthSettings::default()
    }
}
