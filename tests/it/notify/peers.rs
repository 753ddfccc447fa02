//! Receivers that misbehave: each costs no more than its deadline, and is followed by the right next step.

use std::time::Duration;

use storage_guard::domain::alert::Subject;
use storage_guard::domain::alert_book::Change;
use storage_guard::domain::event::Delivery;
use storage_guard::domain::names::VolumeId;
use storage_guard::domain::settings::{ChannelSettings, MailTls, NotifySettings};
use storage_guard::store::{Message, MessageState};
use storage_guard::system::{Clock as _, SystemClock};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{PATIENCE, Running, Seen, alert, mail, memory, settings, webhook};

/// Each send may take so long.
const TIMEOUT: Duration = Duration::from_millis(400);
/// A loaded machine is that late.
const SLACK: Duration = Duration::from_secs(5);
/// The first pause before a message is sent again, and the longest after one failure.
const PAUSE: Duration = Duration::from_secs(60);

/// What comes after a send.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// It was delivered.
    Done,
    /// It is sent again, after the usual pause.
    Again,
    /// It is sent again, and not before the receiver wants it.
    After(Duration),
    /// It is given up, and shown.
    Never,
}

/// A message as a receiver got it: its id and its text.
#[derive(Debug, PartialEq)]
struct Got {
    id: String,
    text: String,
}

/// A receiver, the first connection to which goes wrong. All others are served.
struct Peer {
    port: u16,
    got: mpsc::UnboundedReceiver<Got>,
}

impl Peer {
    async fn http(way: &'static str) -> Self {
        // Whoever is left half-way by the guard has nobody to tell.
        Self::new(way, |stream, way, told| async move { speak_http(stream, way, &told).await.unwrap_or_default() })
            .await
    }

    async fn smtp(way: &'static str) -> Self {
        Self::new(way, |stream, way, told| async move { speak_smtp(stream, way, &told).await.unwrap_or_default() })
            .await
    }

    async fn new<F>(way: &'static str, speak: fn(TcpStream, &'static str, mpsc::UnboundedSender<Got>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, got) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut way = way;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(speak(stream, way, told.clone()));
                way = "serve";
            }
        });
        Self { port, got }
    }

    async fn got(&mut self) -> Got {
        tokio::time::timeout(PATIENCE, self.got.recv()).await.unwrap().unwrap()
    }
}

/// Never says anything more, and keeps the connection.
async fn hang(stream: TcpStream) -> std::io::Result<()> {
    std::future::pending::<()>().await;
    drop(stream);
    Ok(())
}

async fn speak_http(mut stream: TcpStream, way: &str, told: &mpsc::UnboundedSender<Got>) -> std::io::Result<()> {
    match way {
        "hangs at once" => return hang(stream).await,
        "resets at once" => return stream.set_zero_linger(),
        _ => {}
    }
    let mut bytes = Vec::new();
    let seen = loop {
        stream.read_buf(&mut bytes).await?;
        if let Some(seen) = Seen::parse(&bytes).filter(Seen::whole) {
            break seen;
        }
    };
    seen.verify();
    let _ = told.send(Got { id: seen.header("webhook-id").to_owned(), text: seen.body });
    match way {
        "hangs" => return hang(stream).await,
        "resets" => return stream.set_zero_linger(),
        "closes" => return Ok(()),
        "says half and closes" => return stream.write_all(b"HTTP/1.1 200 O").await,
        "says half and hangs" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-").await?;
            return hang(stream).await;
        }
        "drips" => loop {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
        "speaks no HTTP" => return stream.write_all(b"220 mail.example.org ESMTP\r\n").await,
        "says more than anybody reads" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 4096]).await?;
            }
        }
        "has a head without end" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream.write_all(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").await?;
            }
        }
        _ => {}
    }
    let answer = if way == "serve" { "200 OK" } else { way };
    stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await
}

async fn speak_smtp(stream: TcpStream, way: &str, told: &mpsc::UnboundedSender<Got>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    // What is said instead of the usual answer to a command.
    let (command, instead) = way.split_once(": ").unwrap_or(("", way));
    let mut line = "CONNECT\r\n".to_owned();
    loop {
        let word = line.split([' ', ':', '\r']).next().unwrap_or_default().to_uppercase();
        let usual = match word.as_str() {
            "CONNECT" => "220 here",
            "EHLO" => "250-here\r\n250 STARTTLS",
            "DATA" => "354 go on",
            "STARTTLS" => "220 go on",
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        match if word == command { instead } else { usual } {
            "hangs" => return hang(stream.into_inner()).await,
            "closes" => return Ok(()),
            "resets" => return stream.get_ref().set_zero_linger(),
            "says lines without end" => loop {
                stream.get_mut().write_all(b"250-and\r\n").await?;
                tokio::task::yield_now().await;
            },
            "drips" => loop {
                stream.get_mut().write_all(b"2").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            },
            said => stream.get_mut().write_all(format!("{said}\r\n").as_bytes()).await?,
        }
        line.clear();
        if word == "DATA" && command != "DATA" {
            let mut text = String::new();
            while !text.ends_with("\r\n.\r\n") {
                if command == "TEXT" || stream.read_line(&mut text).await? == 0 {
                    return Ok(());
                }
            }
            let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap_or_default().to_owned();
            // What divides the parts of a mail is chosen anew for each attempt.
            let divider = text.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("--");
            let text = text.replace(divider, "DIVIDER");
            let _ = told.send(Got { id, text });
            line.push_str("END\r\n");
        } else if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
    }
}

/// Sends an alert to `first`, looks at what comes of it, and then lets the channel be changed to `mended`, by which what waits is
/// sent at once. `heard` says whether the peer got the message in the first attempt already.
async fn check(mut peer: Peer, first: ChannelSettings, mended: ChannelSettings, row: Row) {
    let Row(way, step, said, heard) = row;
    let by = |channel| NotifySettings {
        timeout: TIMEOUT,
        retry_first: PAUSE,
        retry_max: 10 * PAUSE,
        ..settings(vec![channel])
    };
    let mut running = Running::start(by(first), memory());
    let begun = SystemClock.boottime();
    running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
    let told = running.event().await;
    let took = SystemClock.boottime().saturating_sub(begun);
    assert!(took < TIMEOUT + SLACK, "{way}: {took:?}");
    assert!(told.detail.contains(said), "{way}: {told:?}");
    let kept: Message = running.database.recent_messages(9).unwrap().remove(0);
    assert_eq!(kept.attempts, 1, "{way}");
    let pause = kept.next_attempt.since(SystemClock.now()) + SLACK;
    let (result, state) = match step {
        Step::Done => (Delivery::Sent, MessageState::Sent),
        Step::Again => {
            assert!(pause >= PAUSE && pause <= 2 * PAUSE + SLACK, "{way}: {pause:?}");
            (Delivery::Retried, MessageState::Queued)
        }
        Step::After(wanted) => {
            assert!(pause >= wanted && pause <= wanted + SLACK, "{way}: {pause:?}");
            (Delivery::Retried, MessageState::Queued)
        }
        Step::Never => (Delivery::Dropped, MessageState::Dropped),
    };
    assert_eq!((told.result, kept.state), (result, state), "{way}: {told:?}");
    if step != Step::Done {
        assert!(kept.last_error.as_deref().is_some_and(|error| error.contains(said)), "{way}: {kept:?}");
    }
    let before = if heard { Some(peer.got().await) } else { None };
    assert!(peer.got.try_recv().is_err(), "{way}: it was sent twice");

    running.notifier.set_settings(by(mended));
    let again = matches!(step, Step::Again | Step::After(_));
    if !again {
        let mut other = alert(b"a.mp4");
        other.condition.subject = Subject::Volume(VolumeId::new("other"));
        running.notifier.changed(vec![Change::Fired(other)]);
    }
    running.expect(&[Delivery::Sent]).await;
    let after = peer.got().await;
    match before {
        Some(before) if again => assert_eq!(before, after, "{way}: the same message has the same id"),
        Some(before) => assert_ne!(before.id, after.id, "{way}: it is not sent again"),
        None => assert!(after.id.contains("msg_"), "{way}: {after:?}"),
    }
    running.stop().await;
    assert!(peer.got.try_recv().is_err(), "{way}: it was sent twice");
}

/// How the peer behaves, what comes of it, what is said about it, and whether the peer got the message.
struct Row(&'static str, Step, &'static str, bool);

use Step::{After, Again, Done, Never};

/// Faults 117 and 118.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_webhook_answers_is_followed_by_the_right_step_within_its_deadline() {
    for row in [
        Row("hangs at once", Again, "no answer within 400ms", false),
        Row("hangs", Again, "no answer within 400ms", true),
        Row("says half and hangs", Again, "no answer within 400ms", true),
        Row("drips", Again, "no answer within 400ms", true),
        Row("resets at once", Again, "onnection", false),
        Row("resets", Again, "onnection", true),
        Row("closes", Again, "onnection", true),
        Row("says half and closes", Again, "", true),
        Row("speaks no HTTP", Again, "", true),
        Row("has a head without end", Again, "", true),
        Row("says more than anybody reads", Done, "200 OK", true),
        Row("204 No Content", Done, "204", true),
        Row("429 Slow\r\nRetry-After: 300", After(Duration::from_secs(300)), "429", true),
        // Nobody keeps us waiting for a day.
        Row("429 Slow\r\nRetry-After: 90000", After(Duration::from_secs(3600)), "429", true),
        Row("429 Slow\r\nRetry-After: soon", Again, "429", true),
        Row("429 Slow", Again, "429", true),
        Row("500 Oops", Again, "500", true),
        Row("500 Oops\r\nRetry-After: 300", After(Duration::from_secs(300)), "500", true),
        Row("503 Later\r\nRetry-After: 0", Again, "503", true),
        Row("408 Slow", Again, "408", true),
        Row("425 Early", Again, "425", true),
        Row("400 Bad", Never, "400 Bad Request", true),
        Row("301 Moved\r\nLocation: /elsewhere", Never, "redirects are not followed", true),
        Row("401 Who", Never, "401", true),
        Row("404 Where", Never, "404", true),
        Row("413 Long", Never, "413", true),
    ] {
        let peer = Peer::http(row.0).await;
        let first = webhook(peer.port);
        let mended = ChannelSettings { per_minute: 999, ..first.clone() };
        check(peer, first, mended, row).await;
    }
}

/// Fault 118, and what a mail server can do.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_mail_server_says_is_followed_by_the_right_step_within_its_deadline() {
    for (tls, row) in [
        (MailTls::None, Row("CONNECT: hangs", Again, "no answer within 400ms", false)),
        (MailTls::None, Row("CONNECT: drips", Again, "no answer within 400ms", false)),
        (MailTls::None, Row("CONNECT: says lines without end", Again, "", false)),
        (MailTls::None, Row("CONNECT: resets", Again, "connect", false)),
        (MailTls::None, Row("CONNECT: HTTP/1.1 400 Bad Request", Again, "connect", false)),
        (MailTls::None, Row("CONNECT: 421 busy", Again, "421", false)),
        (MailTls::None, Row("CONNECT: 554 not you", Again, "554", false)),
        (MailTls::None, Row("EHLO: hangs", Again, "no answer within 400ms", false)),
        (MailTls::Required, Row("EHLO: 250 here", Again, "STARTTLS", false)),
        (MailTls::Required, Row("STARTTLS: 454 not now", Again, "STARTTLS", false)),
        (MailTls::Required, Row("STARTTLS: 502 never", Again, "STARTTLS", false)),
        (MailTls::Required, Row("STARTTLS: hangs", Again, "no answer within 400ms", false)),
        (MailTls::Required, Row("STARTTLS: 220 go on\r\n220 here is no TLS", Again, "STARTTLS", false)),
        (MailTls::None, Row("MAIL: 452 full", Again, "452", false)),
        (MailTls::None, Row("MAIL: 530 log in first", Again, "530", false)),
        (MailTls::None, Row("MAIL: 550 not from you", Never, "550", false)),
        (MailTls::None, Row("RCPT: 450 grey", Again, "450", false)),
        (MailTls::None, Row("RCPT: 550 nobody", Never, "550", false)),
        (MailTls::None, Row("RCPT: closes", Again, "RCPT", false)),
        (MailTls::None, Row("DATA: 451 not now", Again, "451", false)),
        (MailTls::None, Row("DATA: 554 never", Never, "554", false)),
        (MailTls::None, Row("DATA: hangs", Again, "no answer within 400ms", false)),
        (MailTls::None, Row("TEXT: closes", Again, "message", false)),
        (MailTls::None, Row("END: closes", Again, "message", true)),
        (MailTls::None, Row("END: resets", Again, "message", true)),
        (MailTls::None, Row("END: hangs", Again, "no answer within 400ms", true)),
        (MailTls::None, Row("END: 452 full", Again, "452", true)),
        (MailTls::None, Row("END: 554 spam", Never, "554", true)),
        // From here on the server has it, whatever it does next.
        (MailTls::None, Row("QUIT: hangs", Done, "250", true)),
        (MailTls::None, Row("QUIT: resets", Done, "250", true)),
    ] {
        let peer = Peer::smtp(row.0).await;
        let first = mail(peer.port, tls, None, None);
        let mended = ChannelSettings { per_minute: 999, ..mail(peer.port, MailTls::None, None, None) };
        check(peer, first, mended, row).await;
    }
}
