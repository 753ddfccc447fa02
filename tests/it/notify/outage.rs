//! A receiver that is away for a day, and a guard that is killed again and again: nothing is lost, and the order stays.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use storage_guard::domain::alert::{AlertName, Condition, Subject};
use storage_guard::domain::alert_book::AlertBook;
use storage_guard::domain::event::Event;
use storage_guard::domain::names::{TreeId, VolumeId};
use storage_guard::domain::settings::{NotifySettings, Severity};
use storage_guard::domain::units::Timestamp;
use storage_guard::notify::Notifier;
use storage_guard::store::{Database, MessageState};
use storage_guard::system::{Clock, SystemClock};
use tokio::sync::watch;

use super::{PATIENCE, Seen, alert, settings, webhook};
use crate::support::{pause, scale, total};

/// This test itself, when it runs as the guard that is killed: how far its clock is ahead, its life, how many of them the
/// receiver is away, its last life, and the port.
const LIFE: &str = "STORAGE_GUARD_TEST_LIFE";
/// Where it keeps its database.
const HOME: &str = "STORAGE_GUARD_TEST_HOME";
const NAME: &str = "notify::outage::a_day_without_a_receiver_and_many_kills_lose_no_alert_and_keep_the_order";
const DAY: u64 = 86_400;
/// How far the clock moves between two looks at what is wrong.
const TICK: u64 = 30;
/// So many looks without anything to do, and the last life ends.
const IDLE: u32 = 14;
const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The machine's clock, some way ahead of it.
#[derive(Debug)]
struct Ahead(AtomicU64);

impl Ahead {
    fn span(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.span())
    }

    fn boottime(&self) -> Duration {
        SystemClock.boottime() + self.span()
    }

    fn sleep(&self, span: Duration) {
        SystemClock.sleep(span);
    }
}

/// What is wrong in a life; no alert has the same name and subject as another. On the day of the outage something begins in each
/// life that has a subject of its own and lasts for three lives, and now and then something that lasts until all was told and shares
/// its subject with all such; and in every life something that is over in the next one. What shares its subject is no worse than the
/// rest, which else would be muted.
fn wrong(life: u64, away: u64, last: u64) -> Vec<Condition> {
    let episode = |at: u64, subject: Subject| {
        let which = AlertName::ALL[usize::try_from(at).unwrap() % AlertName::ALL.len()];
        let severity = which.severity();
        Condition { alert: which, severity, subject, ..alert(b"a.mp4").condition }
    };
    let alike = |condition: Condition| Condition { severity: Severity::Warning, ..condition };
    if life > last {
        return Vec::new();
    }
    let own = (life.saturating_sub(2)..=life).filter(|begun| *begun < away);
    let own = own.map(|begun| episode(begun, Subject::Volume(VolumeId::new(&format!("own {begun}")))));
    let lasting = (0..10).filter(|at| at * away / 10 <= life);
    let lasting = lasting.map(|at| episode(at, Subject::Volume(VolumeId::new("lasting")))).map(alike);
    let brief = (life < last).then(|| episode(life, Subject::Tree(TreeId::new(&format!("brief {}", life / 15)))));
    own.chain(lasting).chain(brief.map(alike)).collect()
}

/// Whether in this life what is new waits until all else is told, so that nothing else is written when it is sent.
fn rested(life: u64, away: u64, last: u64) -> bool {
    life >= u64::midpoint(away, last)
}

/// An alert's name and what it is about.
type Episode = (String, String);

fn of(alert: AlertName, subject: &Subject) -> Episode {
    let about = match subject {
        Subject::Guard => String::new(),
        Subject::Volume(name) => name.to_string(),
        Subject::Tree(name) => name.to_string(),
        Subject::Catalogue(name) => name.to_string(),
        Subject::MediaServer(name) => name.to_string(),
    };
    (alert.to_string(), about)
}

/// The guard's part: looks at what is wrong, and tells, until it is killed. Its last life ends when nothing is left to tell.
#[expect(clippy::print_stdout, reason = "whoever kills it counts its looks")]
fn live(numbers: &str) {
    let numbers: Vec<u64> = numbers.split(' ').map(|word| word.parse().unwrap()).collect();
    let [ahead, life, away, last, port] = numbers[..] else { panic!("{numbers:?}") };
    let clock = Arc::new(Ahead(AtomicU64::new(ahead)));
    let home = std::env::var_os(HOME).unwrap();
    let database = Arc::new(Database::open(&Path::new(&home).join("guard.db")).unwrap().database);
    let mut book = AlertBook::restore(database.firing().unwrap());
    let short = Duration::from_millis(20);
    let week = Duration::from_secs(7 * DAY);
    let by = NotifySettings {
        group_wait: short,
        group_interval: short,
        repeat_interval: week,
        give_up_after: week,
        ..settings(vec![webhook(u16::try_from(port).unwrap())])
    };
    let (told, events) = channel();
    let notifier = Notifier::new(by, database, clock.clone(), move |event| {
        if let Event::Notified { detail, .. } = event {
            let _ = told.send(detail);
        }
    });
    let notifier = Arc::new(notifier);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = runtime.spawn(notifier.clone().run(stopped));
    let (mut now, mut idle) = (life, 0);
    let mut brief = !rested(life, away, last);
    while now <= last || idle < IDLE {
        brief |= idle >= 3;
        let mut wrong = wrong(now, away, last);
        wrong.retain(|condition| brief || !matches!(condition.subject, Subject::Tree(_)));
        let changes = book.step(&wrong, |_, _| false, &[], clock.now());
        let waits = notifier.outbox_oldest().iter().any(|(_, age)| *age > Duration::ZERO);
        idle = if changes.is_empty() && !waits { idle + 1 } else { 0 };
        // In the last life, once all is told, it is all over.
        if now == last && idle == IDLE {
            (now, idle) = (last + 1, 0);
        }
        notifier.changed(changes);
        println!("TICK {}", clock.span().as_secs());
        // Time passes with what is tried, so that nothing is over before it was.
        let _ = events.recv_timeout(Duration::from_millis(100));
        clock.0.fetch_add(TICK, Ordering::Relaxed);
    }
    stop.send_replace(true);
    runtime.block_on(running).unwrap();
}

/// A guard that lives, until it is killed or dropped.
struct Life {
    child: Child,
    ticks: Receiver<u64>,
    /// How often it has looked, and how far its clock was ahead then.
    looks: u64,
    ahead: u64,
}

impl Life {
    fn begin(home: &Path, ahead: u64, numbers: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env(HOME, home);
        command.env(LIFE, format!("{ahead} {numbers}")).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (told, ticks) = channel();
        std::thread::spawn(move || {
            let ticks =
                output.lines().map_while(Result::ok).filter_map(|line| line.split("TICK ").nth(1)?.parse().ok());
            for tick in ticks {
                if told.send(tick).is_err() {
                    break;
                }
            }
        });
        Self { child, ticks, looks: 0, ahead }
    }

    /// Waits until it has looked so often.
    fn look(&mut self, times: u64) {
        while self.looks < times {
            self.ahead = self.ticks.recv_timeout(PATIENCE).unwrap();
            self.looks += 1;
        }
    }

    /// Waits a moment for it to look.
    fn look_on(&mut self) {
        match self.ticks.recv_timeout(Duration::from_millis(1)) {
            Ok(ahead) => (self.ahead, self.looks) = (ahead, self.looks + 1),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("it has ended by itself"),
        }
    }

    /// Kills it; returns how far its clock was ahead.
    fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ticks.iter().last().unwrap_or(self.ahead)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is ours, and refuses connections until somebody listens.
struct Door {
    socket: rustix::fd::OwnedFd,
    port: u16,
}

impl Door {
    fn closed() -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
        let address = std::net::SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        Self { socket, port: address.port() }
    }

    fn open(self) -> TcpListener {
        rustix::net::listen(&self.socket, 64).unwrap();
        let listener = TcpListener::from(self.socket);
        listener.set_nonblocking(true).unwrap();
        listener
    }
}

/// The next request, if somebody is there. Whoever is killed half-way sends none.
fn request(listener: &TcpListener) -> Option<(Seen, TcpStream)> {
    let mut stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
        Err(error) => panic!("{error}"),
    };
    stream.set_nonblocking(false).unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let n = stream.read(&mut part).unwrap_or(0);
        bytes.extend_from_slice(&part[..n]);
        match Seen::parse(&bytes).filter(Seen::whole) {
            Some(seen) => return Some((seen, stream)),
            None if n == 0 => return None,
            None => {}
        }
    }
}

/// What arrived.
struct Arrived {
    id: String,
    text: String,
    firing: bool,
    episode: Episode,
}

impl Arrived {
    fn new(seen: &Seen) -> Self {
        seen.verify();
        let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
        let labels = body["data"]["labels"].as_object().unwrap();
        let about = labels.values().next().map_or("", |about| about.as_str().unwrap());
        Self {
            id: seen.header("webhook-id").to_owned(),
            text: seen.body.clone(),
            firing: body["type"] == "alert.firing",
            episode: (body["data"]["alert"].as_str().unwrap().to_owned(), about.to_owned()),
        }
    }
}

/// Faults 116, 121 and 122.
#[test]
fn a_day_without_a_receiver_and_many_kills_lose_no_alert_and_keep_the_order() {
    if let Ok(numbers) = std::env::var(LIFE) {
        return live(&numbers);
    }
    let (away, back) = (scale(20, 200), scale(6, 24));
    let last = away + back;
    let home = tempfile::tempdir().unwrap();
    let door = Door::closed();
    let port = door.port;
    let mut random = fastrand::Rng::with_seed(117);
    let begin = |ahead: u64, life: u64| Life::begin(home.path(), ahead, &format!("{life} {away} {last} {port}"));
    let mut ahead = 0;
    for life in 0..away {
        let mut living = begin(ahead, life);
        // Every second life is long enough to try what is new.
        let looks = if life % 2 == 0 { random.u64(0..10) } else { random.u64(20..40) };
        living.look(looks);
        pause(Duration::from_micros(random.u64(0..30_000)));
        ahead = living.kill() + DAY / away;
    }
    assert!(ahead >= DAY, "a day has passed");

    let listener = door.open();
    let mut arrived = Vec::new();
    for life in away..last {
        let mut living = begin(ahead, life);
        // Killed when a message has come, before the answer or right after it: one of those that waited, or the first of what is new.
        let new = wrong(life, away, last).pop().map(|wrong| of(wrong.alert, &wrong.subject));
        let (mut left, answers) = (random.u32(1..4), random.bool());
        let mut deadly = |message: &Arrived| {
            left -= u32::from(left > 0);
            if rested(life, away, last) { Some(&message.episode) == new.as_ref() } else { left == 0 }
        };
        let open = loop {
            let Some((seen, mut stream)) = request(&listener) else {
                living.look_on();
                assert!(living.looks < 9000, "nothing comes");
                continue;
            };
            let message = Arrived::new(&seen);
            let killed = deadly(&message);
            arrived.push(message);
            if !killed || answers {
                let _ = stream.write_all(FINE);
            }
            if killed {
                break stream;
            }
        };
        ahead = living.kill() + DAY / away;
        drop(open);
    }
    let mut living = begin(ahead, last);
    while living.child.try_wait().unwrap().is_none() {
        match request(&listener) {
            Some((seen, mut stream)) => {
                arrived.push(Arrived::new(&seen));
                stream.write_all(FINE).unwrap();
            }
            None => pause(Duration::from_millis(1)),
        }
    }
    assert!(living.child.wait().unwrap().success());
    check(home.path(), &arrived, (away, last));
    total("kills while a receiver was away for a day, and when it was back", last);
}

/// What arrived is what was owed.
fn check(home: &Path, arrived: &[Arrived], (away, last): (u64, u64)) {
    let database = Database::open(&home.join("guard.db")).unwrap().database;
    let left = database.read_outbox().unwrap();
    assert!(left.messages.is_empty() && left.alerts.is_empty() && left.told.is_empty(), "{left:?}");

    let mut first: BTreeMap<&str, &Arrived> = BTreeMap::new();
    let mut order: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for message in arrived {
        match first.get(message.id.as_str()) {
            Some(known) => assert_eq!(known.text, message.text, "the same id is the same message"),
            None => {
                first.insert(&message.id, message);
                order.entry(&message.episode.1).or_default().push(&message.id);
            }
        }
    }
    let twice = arrived.len() - first.len();
    let kills = last - away;
    assert!(twice as u64 <= kills, "{twice} came twice, and it was killed {kills} times meanwhile");

    let mut kept = database.recent_messages(u32::MAX).unwrap();
    kept.sort_by_key(|message| message.seq);
    let mut sent: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for message in &kept {
        match message.state {
            MessageState::Queued => panic!("{message:?}"),
            MessageState::Sent => sent.entry(&first[message.id.as_str()].episode.1).or_default().push(&message.id),
            MessageState::Dropped => {
                let why = message.last_error.as_deref().unwrap();
                assert!(why.starts_with("superseded"), "{message:?}");
                assert!(
                    !first.contains_key(message.id.as_str()),
                    "it may have arrived, and was taken back: {message:?}"
                );
            }
        }
    }
    assert_eq!(order, sent, "each group in the order in which it was queued");

    // Each firing once, and then its resolution once; of the brief ones, also neither.
    let mut told: BTreeMap<&Episode, Vec<bool>> = BTreeMap::new();
    for id in order.values().flatten() {
        told.entry(&first[id].episode).or_default().push(first[id].firing);
    }
    assert!(told.values().all(|kinds| *kinds == [true, false]), "{told:?}");
    let wrong = (0..=last).flat_map(|life| wrong(life, away, last));
    let owed: BTreeSet<Episode> = wrong.map(|wrong| of(wrong.alert, &wrong.subject)).collect();
    let silent: Vec<&Episode> = owed.iter().filter(|episode| !told.contains_key(episode)).collect();
    assert!(silent.iter().all(|(_, about)| about.starts_with("brief")), "{silent:?}");
    for episode in &silent {
        // It was over before it could be queued at all.
        let shown = kept.iter().find(|message| of(message.alert, &message.subject) == **episode);
        assert!(shown.is_none(), "{shown:?}");
    }
    total("alerts told after a day without receiver, each with its resolution", told.len() as u64);
    total("alerts that were over before they could be queued", silent.len() as u64);
    total("messages that came twice", twice as u64);
}
