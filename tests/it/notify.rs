//! Alerts to real receivers on loopback: HTTP that checks signatures, and a mail server with STARTTLS.

mod outage;
mod peers;
mod robots;
mod wvp_redis;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use storage_guard::domain::alert::{AlertName, Case, Condition, Subject, UnreclaimedItem};
use storage_guard::domain::alert_book::{Active, AlertState, Change};
use storage_guard::domain::deletion::Unreclaimed;
use storage_guard::domain::event::{Delivery, Event};
use storage_guard::domain::fact::Facts;
use storage_guard::domain::names::{TreeId, VolumeId};
use storage_guard::domain::path::RelPath;
use storage_guard::domain::recording::Tally;
use storage_guard::domain::secret::Secret;
use storage_guard::domain::settings::{ChannelKind, ChannelSettings, MailTls, NotifySettings};
use storage_guard::domain::units::{Bytes, Timestamp};
use storage_guard::notify::Notifier;
use storage_guard::store::{Database, MessageState};
use storage_guard::system::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::support::{Mounted, certificate};

pub(crate) const KEY: &[u8] = b"twenty-four bytes of key";
const PATIENCE: Duration = Duration::from_secs(20);

/// One request, as the receiver saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    /// The request in these bytes, once its head is there.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Some(Self { line, headers, body: body.to_owned() })
    }

    /// Nothing of its body is missing.
    fn whole(&self) -> bool {
        let length = self.header("content-length");
        length.is_empty() || length.parse() == Ok(self.body.len())
    }

    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The signature must fit id, time and body.
    pub(crate) fn verify(&self) {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY).unwrap();
        let (id, at) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        mac.update(format!("{id}.{at}.{}", self.body).as_bytes());
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(self.header("webhook-signature"), expected);
    }
}

/// Answers each connection with the next of `answers` (the last one again and again), and hands over what it saw. An empty
/// answer resets the connection, `hang` never answers.
pub(crate) async fn receiver(answers: &'static [&'static str]) -> (u16, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().port(), receive(listener, answers))
}

pub(crate) fn receive(listener: TcpListener, answers: &'static [&'static str]) -> mpsc::UnboundedReceiver<Seen> {
    let (told, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut held = Vec::new();
        for at in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let request = loop {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..n]);
                if let Some(request) = Seen::parse(&bytes)
                    && (request.whole() || n == 0)
                {
                    break request;
                }
            };
            let _ = told.send(request);
            let answer = answers[at.min(answers.len() - 1)];
            if answer == "hang" {
                held.push(stream);
            } else if !answer.is_empty() {
                let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(text.as_bytes()).await;
            }
        }
    });
    seen
}

fn webhook(port: u16) -> ChannelSettings {
    let secret = Secret::new(&format!("whsec_{}", STANDARD.encode(KEY)));
    let url = Secret::new(&format!("http://127.0.0.1:{port}/in?token=canary"));
    ChannelSettings {
        name: "hook".to_owned(),
        kind: ChannelKind::Webhook { url, secret: Some(secret) },
        per_minute: 1000,
    }
}

fn settings(channels: Vec<ChannelSettings>) -> NotifySettings {
    NotifySettings {
        group_wait: Duration::ZERO,
        group_interval: Duration::ZERO,
        retry_first: Duration::from_millis(20),
        retry_max: Duration::from_millis(50),
        timeout: Duration::from_secs(5),
        channels,
        ..NotifySettings::default()
    }
}

fn alert(name: &[u8]) -> Active {
    let item = UnreclaimedItem {
        tree: TreeId::new("live"),
        path: RelPath::new(name).unwrap(),
        bytes: Bytes::gib(1),
        cause: Unreclaimed::HeldOpen,
        failure: None,
        detail: String::new(),
        holder: Some("ffmpeg (pid 7)".to_owned()),
    };
    let condition = Condition {
        alert: AlertName::SpaceNotReclaimed,
        severity: AlertName::SpaceNotReclaimed.severity(),
        subject: Subject::Volume(VolumeId::new("data")),
        case: Case::Open,
        facts: Facts::new(),
        unreclaimed: Tally { files: 1, bytes: Bytes::gib(1) },
        items: vec![item],
    };
    Active { state: AlertState::Firing, since: Timestamp::from_secs(1), condition }
}

/// What was told of one attempt.
#[derive(Debug)]
struct Told {
    result: Delivery,
    detail: String,
}

/// A notifier that runs, until it is dropped.
struct Running {
    notifier: Arc<Notifier>,
    database: Arc<Database>,
    events: mpsc::UnboundedReceiver<Told>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(settings: NotifySettings, database: Database) -> Self {
        let (told, events) = mpsc::unbounded_channel();
        let database = Arc::new(database);
        let notifier = Notifier::new(settings, database.clone(), Arc::new(SystemClock), move |event| {
            if let Event::Notified { result, detail, .. } = event {
                let _ = told.send(Told { result, detail });
            }
        });
        let (stop, stopped) = watch::channel(false);
        let notifier = Arc::new(notifier);
        let task = tokio::spawn(notifier.clone().run(stopped));
        Self { notifier, database, events, stop, task }
    }

    async fn event(&mut self) -> Told {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap();
        assert!(!event.detail.contains("canary") && !event.detail.contains("secret"), "{event:?}");
        event
    }

    /// The next events must be these.
    async fn expect(&mut self, results: &[Delivery]) -> Told {
        let mut last = None;
        for expected in results {
            let event = self.event().await;
            assert_eq!(event.result, *expected, "{event:?}");
            last = Some(event);
        }
        last.unwrap()
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

fn memory() -> Database {
    Database::memory().unwrap()
}

use Delivery::{Dropped, Retried, Sent};

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_and_tried_again_with_the_same_id() {
    let (port, mut seen) = receiver(&["500 Oops", "", "429 Slow\r\nRetry-After: 0", "200 OK"]).await;
    let mut running = Running::start(settings(vec![webhook(port)]), memory());
    running.notifier.changed(vec![Change::Fired(alert(b"a/\xff.mp4"))]);
    running.expect(&[Retried, Retried, Retried, Sent]).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let request = seen.recv().await.unwrap();
        request.verify();
        assert_eq!(request.line, "POST /in?token=canary HTTP/1.1");
        assert_eq!(request.header("content-type"), "application/json");
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["type"], "alert.firing");
        assert_eq!(body["data"]["unreclaimed"]["items"][0]["path"], "a/%FF.mp4");
        ids.push((request.header("webhook-id").to_owned(), request.body));
    }
    assert!(ids[0].0.starts_with("msg_") && ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    running.notifier.changed(vec![Change::Resolved(alert(b"a.mp4"))]);
    running.expect(&[Sent]).await;
    let request = seen.recv().await.unwrap();
    assert!(request.body.starts_with(r#"{"type":"alert.resolved""#));
    assert_ne!(request.header("webhook-id"), ids[0].0);
    assert!(seen.try_recv().is_err());
    running.stop().await;
}

/// Faults 109 and 117.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_redirected_is_dropped_once_and_shown() {
    let (elsewhere, mut lured) = receiver(&["200 OK"]).await;
    let location: &'static str =
        Box::leak(format!("307 Go\r\nLocation: http://127.0.0.1:{elsewhere}/").into_boxed_str());
    for (answer, said) in
        [("400 Bad", "400 Bad Request"), (location, "redirects are not followed"), ("410 Gone", "410 Gone")]
    {
        let (port, mut seen) = receiver(Box::leak(Box::new([answer]))).await;
        let mut running = Running::start(settings(vec![webhook(port)]), memory());
        running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
        let event = running.expect(&[Dropped]).await;
        assert!(event.detail.contains(said), "{event:?}");
        let shown = &running.database.recent_messages(9).unwrap();
        assert_eq!((shown.len(), shown[0].state), (1, MessageState::Dropped));
        running.stop().await;
        assert!(seen.recv().await.is_some());
        assert!(seen.try_recv().is_err(), "it was sent once");
    }
    assert!(lured.try_recv().is_err(), "no redirect was followed");
}

/// Fault 116, with restarts while the receiver is down.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_delivered_in_order_after_an_outage_and_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("guard.db");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let by = || {
        let delivery_failing_after = Duration::from_millis(1);
        NotifySettings { delivery_failing_after, ..settings(vec![webhook(port)]) }
    };
    let mut running = Running::start(by(), Database::open(&path).unwrap().database);
    running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
    let event = running.expect(&[Retried, Retried]).await;
    assert!(event.detail.contains("Connection refused"), "{event:?}");
    assert!(running.notifier.failing_since().is_some());
    assert!(running.notifier.outbox_oldest()[0].1 > Duration::ZERO);
    running.notifier.changed(vec![Change::Resolved(alert(b"a.mp4"))]);
    running.expect(&[Retried]).await;
    running.stop().await;

    let database = Database::open(&path).unwrap().database;
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut seen = receive(listener, &["200 OK"]);
    let mut running = Running::start(by(), database);
    running.expect(&[Sent, Sent]).await;
    for kind in ["alert.firing", "alert.resolved"] {
        let request = seen.recv().await.unwrap();
        request.verify();
        assert!(request.body.contains(kind), "{}", request.body);
    }
    assert_eq!(running.notifier.failing_since(), None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_costs_its_timeout_and_stops_nobody() {
    let (port, _seen) = receiver(&["hang"]).await;
    let by = NotifySettings { timeout: Duration::from_millis(100), ..settings(vec![webhook(port)]) };
    let mut running = Running::start(by, memory());
    running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
    let event = running.expect(&[Retried]).await;
    assert!(event.detail.contains("no answer within 100ms"), "{event:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_changed_while_it_runs() {
    let (first, _) = receiver(&["503 Later"]).await;
    let (second, mut seen) = receiver(&["204 Fine"]).await;
    let mut running = Running::start(settings(vec![webhook(first)]), memory());
    running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
    running.expect(&[Retried]).await;
    running.notifier.set_settings(settings(vec![webhook(second)]));
    loop {
        let event = running.event().await;
        if event.result == Sent {
            break;
        }
    }
    seen.recv().await.unwrap().verify();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_tried_on_demand_and_its_transcript_holds_no_secret() {
    let (port, mut seen) = receiver(&["200 OK", "401 Who"]).await;
    let notifier = Notifier::new(settings(vec![webhook(port)]), Arc::new(memory()), Arc::new(SystemClock), |_| {});
    let said = notifier.test("hook").await.unwrap();
    assert!(said.contains("200 OK") && said.ends_with("delivered") && !said.contains("canary"), "{said}");
    let request = seen.recv().await.unwrap();
    request.verify();
    assert!(request.body.contains("alert.test"));
    let said = notifier.test("hook").await.unwrap_err();
    assert!(said.contains("401 Unauthorized") && said.ends_with("not delivered") && !said.contains("canary"), "{said}");
}

/// A mail server of the system's Python, ended when dropped.
pub(crate) struct MailServer {
    child: Child,
    pub(crate) port: u16,
    lines: Receiver<String>,
}

impl MailServer {
    pub(crate) fn start(mode: &str, certificate: &[&Path]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/notify/smtp.py");
        let mut command = Command::new("/usr/bin/python3");
        let mut child = command.arg(script).arg(mode).args(certificate).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| told.send(line).is_ok()));
        let port = lines.recv_timeout(PATIENCE).unwrap().parse().unwrap();
        Self { child, port, lines }
    }

    /// The next mail.
    pub(crate) fn mail(&self) -> serde_json::Value {
        serde_json::from_str(&self.lines.recv_timeout(PATIENCE).unwrap()).unwrap()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mail(port: u16, tls: MailTls, ca_file: Option<&Path>, password: Option<&str>) -> ChannelSettings {
    let kind = ChannelKind::Email {
        host: "localhost".to_owned(),
        port,
        tls,
        ca_file: ca_file.map(Path::to_owned),
        username: password.map(|_| "guard".to_owned()),
        password: password.map(Secret::new),
        from: "Storage Guard <guard@example.org>".to_owned(),
        to: vec!["Wu <wu@example.org>".to_owned(), "li@example.org".to_owned()],
    };
    ChannelSettings { name: "mail".to_owned(), kind, per_minute: 1000 }
}

fn header<'a>(mail: &'a str, name: &str) -> &'a str {
    let found = mail.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no `{name}` in {mail}")).trim()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3-aiosmtpd"]
async fn a_mail_goes_out_encrypted_and_its_resolution_answers_it() {
    let home = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = certificate(home.path());
    let server = MailServer::start("starttls", &[&certificate, &key]);
    let channel = mail(server.port, MailTls::Required, Some(&ca), Some("secret"));
    let mut running = Running::start(settings(vec![channel]), memory());
    running.notifier.changed(vec![Change::Fired(alert(b"<img src=x>\r\n.mp4"))]);
    running.expect(&[Sent]).await;
    let firing = server.mail();
    assert_eq!((&firing["tls"], &firing["login"]), (&true.into(), &true.into()));
    assert_eq!(firing["to"], serde_json::json!(["wu@example.org", "li@example.org"]));
    let text = firing["data"].as_str().unwrap();
    let host = storage_guard::system::host_name();
    assert_eq!(header(text, "Subject"), format!("[FIRING warning] SpaceNotReclaimed data on {host}"));
    assert_eq!(header(text, "Auto-Submitted"), "auto-generated");
    let [plain, html] = ["text", "html"].map(|part| firing[part].as_str().unwrap().replace("\r\n", "\n"));
    assert!(
        plain.contains("held by ffmpeg (pid 7)") && plain.contains("1 recordings, 1 GiB.\nTheir space comes back"),
        "{plain:?}"
    );
    assert!(html.contains("&lt;img src=x&gt;%0D%0A.mp4") && !html.contains("<img"), "{html}");

    running.notifier.changed(vec![Change::Resolved(alert(b"a.mp4"))]);
    running.expect(&[Sent]).await;
    let resolved = server.mail();
    let answer = resolved["data"].as_str().unwrap();
    assert_eq!(header(answer, "Subject"), format!("[RESOLVED warning] SpaceNotReclaimed data on {host}"));
    let over = resolved["text"].as_str().unwrap();
    assert!(over.contains("It is over. What was last seen:") && !over.contains("a.mp4"), "{over}");
    let first = header(text, "Message-ID");
    assert!(first.starts_with("<msg_") && first.ends_with("@example.org>"), "{first}");
    assert_eq!((header(answer, "In-Reply-To"), header(answer, "References")), (first, first));
    assert_ne!(header(answer, "Message-ID"), first);
    let said = running.notifier.test("mail").await.unwrap();
    assert!(said.contains("message: 250 taken") && said.contains("login: 235") && !said.contains("secret"), "{said}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3-aiosmtpd"]
async fn a_mail_server_that_cannot_be_trusted_gets_nothing() {
    let home = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = certificate(home.path());
    let encrypted = MailServer::start("starttls", &[&certificate, &key]);
    let plain = MailServer::start("plain", &[]);
    let between = MailServer::start("between", &[&certificate, &key]);
    for (server, channel, said) in [
        // Words that came readable are no answers of the encrypted conversation.
        (&between, mail(between.port, MailTls::Required, Some(&ca), Some("secret")), "STARTTLS"),
        // Fault 113: an unknown authority.
        (&encrypted, mail(encrypted.port, MailTls::Required, None, Some("secret")), "certificate"),
        // It offers no STARTTLS.
        (&plain, mail(plain.port, MailTls::Required, Some(&ca), Some("secret")), "STARTTLS"),
        // It speaks no TLS at all.
        (&plain, mail(plain.port, MailTls::Implicit, Some(&ca), None), "connect"),
        // A wrong password is mended by a person, and the mail is not lost meanwhile.
        (&encrypted, mail(encrypted.port, MailTls::Required, Some(&ca), Some("wrong")), "535"),
    ] {
        let mut running = Running::start(settings(vec![channel]), memory());
        running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
        let event = running.expect(&[Retried]).await;
        assert!(event.detail.contains(said), "{event:?}");
        running.stop().await;
        assert!(server.lines.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3-aiosmtpd"]
async fn every_kind_of_mail_server_is_spoken_to() {
    let home = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = certificate(home.path());
    for (mode, files, tls, result) in [
        ("implicit", &[certificate.as_path(), &key][..], MailTls::Implicit, Sent),
        ("plain", &[], MailTls::None, Sent),
        ("picky", &[], MailTls::None, Sent),
        ("rude", &[], MailTls::None, Sent),
        ("refuse", &[], MailTls::None, Dropped),
        ("busy", &[], MailTls::None, Retried),
        ("mute", &[], MailTls::None, Retried),
    ] {
        let server = MailServer::start(mode, files);
        let channel = mail(server.port, tls, Some(&ca), None);
        let by = NotifySettings { timeout: Duration::from_secs(1), ..settings(vec![channel]) };
        let mut running = Running::start(by, memory());
        running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
        let event = running.expect(&[result]).await;
        if result == Sent {
            let mail = server.mail();
            assert_eq!(mail["tls"], tls == MailTls::Implicit, "{event:?}");
            let one_refused =
                event.detail.contains("not to all: RCPT TO li@example.org") && event.detail.contains("550");
            assert_eq!((mail["to"].as_array().unwrap().len() == 1, one_refused), (mode == "picky", mode == "picky"));
        }
        running.stop().await;
        // Whoever has accepted a mail is not sent it again, whatever comes after.
        assert!(server.lines.try_recv().is_err());
    }
}

/// A recipient who is refused for now is waited for a while, and then keeps the mail from nobody else.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3-aiosmtpd"]
async fn a_recipient_that_is_refused_for_now_does_not_keep_a_mail_from_the_others_for_long() {
    let server = MailServer::start("grey", &[]);
    let mut running = Running::start(settings(vec![mail(server.port, MailTls::None, None, None)]), memory());
    running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
    let event = running.expect(&[Retried, Retried, Retried, Retried, Sent]).await;
    assert!(event.detail.contains("not to all: RCPT TO li@example.org"), "{event:?}");
    assert_eq!(server.mail()["to"], serde_json::json!(["wu@example.org"]));
    running.stop().await;
}

/// Promise 13 and fault 69: with 0 bytes left the database opens, refuses what it cannot keep, and alerts go out.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it fills the test's own disk")]
async fn on_a_full_disk_alerts_are_delivered_from_memory() {
    let disk = Mounted::ext4(8);
    let path = disk.path().join("guard.db");
    Database::open(&path).unwrap().database.put("key", b"value").unwrap();
    let mut ballast = std::fs::File::create(disk.path().join("ballast")).unwrap();
    while std::io::Write::write_all(&mut ballast, &[7; 512]).is_ok() {}
    let database = Database::open(&path).unwrap().database;
    assert_eq!(database.get("key").unwrap().as_deref(), Some(&b"value"[..]));
    assert!(database.put("key", &[7; 100_000]).unwrap_err().full());

    let (port, mut seen) = receiver(&["200 OK"]).await;
    let mut running = Running::start(settings(vec![webhook(port)]), database);
    running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
    running.expect(&[Sent]).await;
    seen.recv().await.unwrap().verify();
    assert!(running.notifier.unwritten().is_some());
    running.stop().await;
    assert!(Database::open(&disk.path().join("another.db")).is_err());
}
