//! The notifier without its tasks: what they do is done by hand, at times that the test says.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::body::Body;
use super::super::body::tests::condition;
use super::super::delivery::Outcome;
use super::super::queue::Next;
use super::super::sample::samples;
use super::Notifier;
use crate::domain::alert::{AlertName, Condition, Subject};
use crate::domain::alert_book::{Active, AlertState, Change};
use crate::domain::event::{Delivery, Event};
use crate::domain::names::VolumeId;
use crate::domain::secret::Secret;
use crate::domain::settings::{ChannelKind, ChannelSettings, Language, NotifySettings};
use crate::domain::silence::Wanted;
use crate::domain::units::Timestamp;
use crate::store::{Database, Message, MessageKind, MessageState};
use crate::system::Clock;

#[derive(Default)]
pub(in super::super) struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_000_000 + self.0.load(Ordering::SeqCst))
    }

    fn boottime(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst).unsigned_abs())
    }

    fn sleep(&self, _: Duration) {}
}

pub(in super::super) fn channel(name: &str) -> ChannelSettings {
    let kind = ChannelKind::Webhook { url: Secret::new("http://127.0.0.1:9/"), secret: None };
    ChannelSettings { name: name.to_owned(), kind, per_minute: 1000 }
}

pub(in super::super) fn settings(channels: &[&str]) -> NotifySettings {
    NotifySettings { channels: channels.iter().map(|name| channel(name)).collect(), ..NotifySettings::default() }
}

pub(in super::super) struct Case {
    pub(in super::super) notifier: Notifier,
    pub(in super::super) settings: NotifySettings,
    pub(in super::super) database: Arc<Database>,
    pub(in super::super) clock: Arc<TestClock>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Case {
    fn new(channels: &[&str]) -> Self {
        Self::with(settings(channels))
    }

    pub(in super::super) fn with(settings: NotifySettings) -> Self {
        Self::on(Arc::new(Database::memory().unwrap()), Arc::default(), settings)
    }

    fn on(database: Arc<Database>, clock: Arc<TestClock>, settings: NotifySettings) -> Self {
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let told = events.clone();
        let notifier = Notifier::new(settings.clone(), database.clone(), clock.clone(), move |event| {
            told.lock().unwrap().push(event);
        });
        Self { notifier, settings, database, clock, events }
    }

    /// The guard is killed and starts again, which takes a second.
    pub(in super::super) fn restart(self) -> Self {
        let case = Self::on(self.database.clone(), self.clock.clone(), self.settings.clone());
        case.clock.0.fetch_add(1, Ordering::SeqCst);
        case
    }

    /// The same, with another configuration.
    pub(in super::super) fn restart_with(mut self, settings: NotifySettings) -> Self {
        self.settings = settings;
        self.restart()
    }

    pub(in super::super) fn pass(&self, secs: i64) {
        self.clock.0.fetch_add(secs, Ordering::SeqCst);
        self.notifier.plan();
        self.notifier.write();
    }

    pub(in super::super) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(in super::super) fn change(&self, make: impl Fn(Active) -> Change, alert: AlertName) {
        self.change_of(make, alert, "data");
    }

    pub(in super::super) fn change_of(&self, make: impl Fn(Active) -> Change, alert: AlertName, volume: &str) {
        let mut condition = condition(alert, 1, b"x.mp4");
        condition.subject = Subject::Volume(VolumeId::new(volume));
        self.notifier.changed(vec![make(Active { state: AlertState::Firing, since: self.clock.now(), condition })]);
        self.pass(0);
    }

    /// What the channel's task would send now.
    pub(in super::super) fn begin(&self, channel: &str) -> Option<Message> {
        let settings = self.notifier.settings.load_full();
        let next = self.notifier.next(channel, &settings);
        self.notifier.write();
        match next {
            Next::Send(message) => Some(*message),
            Next::At(_) | Next::Idle | Next::Again(_) => None,
        }
    }

    pub(in super::super) fn end(&self, message: &Message, outcome: Outcome) {
        let event = self.notifier.settle(message, outcome, &self.settings);
        self.notifier.write();
        self.notifier.tell(event);
    }

    pub(in super::super) fn results(&self) -> Vec<Delivery> {
        let of = |event: &Event| if let Event::Notified { result, .. } = event { Some(*result) } else { None };
        self.events.lock().unwrap().iter().filter_map(of).collect()
    }

    /// How often somebody was told that the database fails, or works again.
    fn remarks(&self) -> usize {
        self.told().len()
    }

    /// What somebody was told, besides what became of messages.
    pub(in super::super) fn told(&self) -> Vec<String> {
        let text = |event: &Event| if let Event::Remark { text, .. } = event { Some(text.clone()) } else { None };
        self.events.lock().unwrap().iter().filter_map(text).collect()
    }
}

pub(in super::super) fn down(after: Option<u64>) -> Outcome {
    Outcome::Again { error: "HTTP 503".to_owned(), after: after.map(Duration::from_secs), channel: true }
}

pub(in super::super) fn taken() -> Outcome {
    Outcome::Delivered("HTTP 200".to_owned())
}

const ALERT: AlertName = AlertName::VolumeExhausted;

#[test]
fn an_alert_goes_to_every_channel_and_so_does_its_resolution() {
    let case = Case::new(&["a", "b"]);
    case.change(Change::Fired, ALERT);
    case.pass(29);
    assert!(case.begin("a").is_none());
    case.pass(1);
    let sent: Vec<_> = ["a", "b"].map(|name| case.begin(name).unwrap()).into();
    for message in &sent {
        assert_eq!(message.kind, MessageKind::Firing);
        case.end(message, taken());
    }
    assert_ne!(sent[0].id, sent[1].id);
    case.change(Change::Resolved, ALERT);
    case.pass(300);
    for (name, firing) in ["a", "b"].into_iter().zip(&sent) {
        let message = case.begin(name).unwrap();
        assert_eq!((message.kind, message.reply_to.as_ref()), (MessageKind::Resolved, Some(&firing.id)));
        case.end(&message, taken());
        assert!(case.begin(name).is_none());
    }
    assert_eq!(case.results(), [Delivery::Sent; 4]);
}

/// Fault 121.
#[test]
fn killed_at_any_moment_nothing_is_lost_and_the_id_stays() {
    let case = Case::new(&["a"]);
    case.change(Change::Fired, ALERT);
    let case = case.restart();
    case.pass(30);
    let case = case.restart();
    let begun = case.begin("a").unwrap();
    let case = case.restart();
    let again = case.begin("a").unwrap();
    assert_eq!((&again.id, &again.body, again.attempts), (&begun.id, &begun.body, 2));
    case.end(&again, taken());
    let case = case.restart();
    case.pass(1000);
    assert!(case.begin("a").is_none(), "it was sent, and is not repeated yet");
    case.change(Change::Resolved, ALERT);
    let case = case.restart();
    case.pass(300);
    assert_eq!(case.begin("a").unwrap().reply_to, Some(begun.id));
}

/// Fault 122: whether a send was begun or not, both are sent, in order.
#[test]
fn resolved_while_queued_both_are_sent_in_order() {
    let case = Case::new(&["a", "b"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let tried = case.begin("a").unwrap();
    case.end(&tried, down(None));
    case.change(Change::Resolved, ALERT);
    case.pass(600);
    for channel in ["a", "b"] {
        let kinds: Vec<_> = std::iter::from_fn(|| {
            let message = case.begin(channel)?;
            case.end(&message, taken());
            Some(message.kind)
        })
        .collect();
        assert_eq!(kinds, [MessageKind::Firing, MessageKind::Resolved], "{channel}");
    }
}

/// Whoever answers late from the old address speaks for nobody any more.
#[test]
fn what_an_old_receiver_says_after_a_reload_binds_nobody() {
    for said in [down(Some(3600)), Outcome::GivenUp("404 Not Found".to_owned())] {
        let case = Case::new(&["a"]);
        case.change(Change::Fired, ALERT);
        case.pass(30);
        let late = case.begin("a").unwrap();
        let mut moved = settings(&["a"]);
        moved.channels[0].per_minute = 999;
        case.notifier.set_settings(moved);
        case.end(&late, said);
        case.pass(1);
        let again = case.begin("a").unwrap();
        assert_eq!((again.id, again.attempts), (late.id, 2), "the new one is tried at once");
    }
}

#[test]
fn what_waits_is_tried_once_the_channel_works_again() {
    let case = Case::new(&["a"]);
    case.change_of(Change::Fired, ALERT, "first");
    case.change_of(Change::Fired, ALERT, "second");
    case.pass(30);
    for _ in 0..12 {
        let message = case.begin("a").unwrap();
        case.end(&message, down(None));
        case.pass(600);
    }
    let works = case.begin("a").unwrap();
    case.end(&works, taken());
    case.pass(1);
    let other = case.begin("a").unwrap();
    assert_ne!(other.subject, works.subject);
}

/// Fault 117.
#[test]
fn retry_after_holds_the_whole_channel() {
    let case = Case::new(&["a"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let message = case.begin("a").unwrap();
    case.end(&message, down(Some(120)));
    case.change(Change::Fired, AlertName::VolumeReadOnly);
    case.pass(119);
    assert!(case.begin("a").is_none());
    case.pass(1);
    assert_eq!(case.begin("a").unwrap().id, message.id);
}

#[test]
fn a_refused_message_is_dropped_once_and_shown() {
    let case = Case::new(&["a"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let message = case.begin("a").unwrap();
    case.end(&message, Outcome::GivenUp("HTTP 400".to_owned()));
    case.pass(3600);
    assert!(case.begin("a").is_none());
    assert_eq!(case.results(), [Delivery::Dropped]);
    let shown = &case.database.recent_messages(9).unwrap()[0];
    assert_eq!((shown.state, shown.last_error.as_deref()), (MessageState::Dropped, Some("HTTP 400")));
}

#[test]
fn what_cannot_be_delivered_for_so_long_is_given_up() {
    let case = Case::new(&["a"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let message = case.begin("a").unwrap();
    case.end(&message, down(None));
    case.pass(7 * 86_400);
    assert!(case.begin("a").is_none());
    assert_eq!(case.results(), [Delivery::Retried, Delivery::Dropped]);
}

/// Fault 123: the database cannot be written, and alerts go out all the same.
#[test]
fn without_a_database_alerts_live_in_memory_and_are_written_later() {
    let case = Case::new(&["a"]);
    case.database.refuse_writes(true);
    case.change(Change::Fired, ALERT);
    assert!(case.notifier.unwritten().unwrap().contains("cannot write the outbox"));
    assert_eq!(case.remarks(), 1);
    case.pass(30);
    let message = case.begin("a").unwrap();
    case.end(&message, down(None));
    assert!(case.database.recent_messages(9).unwrap().is_empty());
    case.database.refuse_writes(false);
    case.pass(5);
    assert_eq!((case.notifier.unwritten(), case.remarks()), (None, 2));
    assert_eq!(case.database.recent_messages(9).unwrap()[0].id, message.id);
    assert_eq!(case.database.firing().unwrap().len(), 1);
}

/// Fault 124.
#[test]
fn it_is_seen_when_no_channel_works() {
    assert_eq!(Case::new(&[]).notifier.failing_since(), None);
    let case = Case::new(&["a", "b"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let started = case.clock.now();
    for name in ["a", "b"] {
        let message = case.begin(name).unwrap();
        case.end(&message, down(None));
    }
    case.pass(299);
    assert_eq!(case.notifier.failing_since(), None);
    case.pass(1);
    assert_eq!(case.notifier.failing_since(), Some(started));
    assert_eq!(case.notifier.outbox_oldest()[1], ("b".to_owned(), Duration::from_secs(300)));
    let message = case.begin("b").unwrap();
    case.end(&message, taken());
    assert_eq!(case.notifier.failing_since(), None);
    assert_eq!(case.notifier.outbox_oldest()[1], ("b".to_owned(), Duration::ZERO));
}

#[test]
fn a_removed_channel_drops_what_it_had_and_an_added_one_hears_of_what_fires() {
    let case = Case::new(&["a"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    case.notifier.set_settings(settings(&["b"]));
    case.pass(0);
    assert_eq!(case.results(), [Delivery::Dropped]);
    case.pass(30);
    assert_eq!(case.begin("b").unwrap().kind, MessageKind::Firing);
}

#[test]
fn a_channel_is_only_tried_by_its_name() {
    let case = Case::new(&["a"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(case.notifier.test("mail")).unwrap_err();
    assert_eq!(error, "there is no channel `mail` in the configuration; there are: a");
}

/// One message by hand is no burst; what comes after it waits, and is told for how long.
#[test]
fn the_first_message_by_hand_waits_for_no_limit_and_the_second_is_told_when() {
    let limited = || ChannelSettings { per_minute: 1, ..channel("a") };
    let case = Case::with(NotifySettings { channels: vec![limited()], ..settings(&[]) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tried = || runtime.block_on(case.notifier.test("a")).unwrap_err();
    // Nobody listens at the discard port.
    assert!(tried().contains("> POST http://127.0.0.1:9/"));
    assert_eq!(tried(), "channel `a` may send 1 messages a minute; the next in 1m");
    case.pass(61);
    assert!(tried().contains("> POST http://127.0.0.1:9/"));
    // Where the channel has sent what was due, the limit holds too.
    let case = Case::with(NotifySettings { channels: vec![limited()], ..settings(&[]) });
    case.pass(61);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    assert!(case.begin("a").is_some());
    let error = runtime.block_on(case.notifier.test("a")).unwrap_err();
    assert!(error.starts_with("channel `a` may send 1 messages a minute; the next in "), "{error}");
}

/// A channel that was repaired is tried at once, and one that a person has tried is known to work.
#[test]
fn a_channel_that_is_set_up_anew_is_tried_at_once() {
    let case = Case::new(&["a"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let message = case.begin("a").unwrap();
    case.end(&message, down(Some(3600)));
    case.pass(300);
    assert!(case.begin("a").is_none() && case.notifier.failing_since().is_some());
    let mut repaired = settings(&["a"]);
    repaired.channels[0].kind = ChannelKind::Webhook { url: Secret::new("http://127.0.0.1:10/"), secret: None };
    case.notifier.set_settings(repaired);
    assert!(case.notifier.failing_since().is_some(), "whether it works now is not known before");
    let again = case.begin("a").unwrap();
    assert_eq!(again.id, message.id);
    case.end(&again, taken());
    assert_eq!(case.notifier.failing_since(), None);
}

/// A receiver that chokes on one message still gets the others, and is not asked ever faster.
#[test]
fn one_message_that_fails_holds_up_no_other_group() {
    let case = Case::new(&["a"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let first = case.begin("a").unwrap();
    case.end(&first, Outcome::Again { error: "HTTP 500".to_owned(), after: None, channel: false });
    let mut other = condition(AlertName::ClockSuspect, 0, b"x");
    other.subject = Subject::Guard;
    let active = Active { state: AlertState::Firing, since: case.clock.now(), condition: other };
    case.notifier.changed(vec![Change::Fired(active)]);
    case.pass(30);
    // The critical one goes first, as often as it is due.
    let again = case.begin("a").unwrap();
    assert_eq!(again.id, first.id);
    case.end(&again, Outcome::Again { error: "HTTP 500".to_owned(), after: None, channel: false });
    let second = case.begin("a").unwrap();
    assert_eq!(second.alert, AlertName::ClockSuspect);
    case.end(&second, taken());
    // What is accepted hurries the others, once.
    let hurried = case.begin("a").unwrap();
    assert_eq!(hurried.id, first.id);
    case.end(&hurried, Outcome::Again { error: "HTTP 500".to_owned(), after: None, channel: false });
    assert!(case.begin("a").is_none());
    case.pass(30);
    assert_eq!(case.begin("a").unwrap().id, first.id);
}

#[test]
fn messages_say_what_the_api_says_in_the_language_of_the_settings() {
    for language in [Language::English, Language::Chinese] {
        let case = Case::new(&["a"]);
        case.notifier.set_settings(NotifySettings { language, ..case.settings.clone() });
        let condition = samples().remove(0);
        let said = case.notifier.wording(&condition);
        let active = Active { state: AlertState::Firing, since: case.clock.now(), condition };
        case.notifier.changed(vec![Change::Fired(active)]);
        case.pass(30);
        let body: Body = serde_json::from_str(&case.begin("a").unwrap().body).unwrap();
        assert_eq!((body.data.summary, body.data.description), (said.summary.clone(), said.description));
        assert_eq!(said.summary.is_ascii(), language == Language::English, "{}", said.summary);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn what_is_wrong_with_own_templates_is_told_at_the_start_and_at_every_reload() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("VolumeBlind.txt"), "{{ nam }}").unwrap();
    let case = Case::new(&["a"]);
    let told = |case: &Case| {
        let events = case.events.lock().unwrap();
        let urgent = events.iter().filter(
            |event| matches!(event, Event::Remark { text, urgent: true } if text.contains("VolumeBlind.txt:1: undefined value")),
        );
        urgent.count()
    };
    assert_eq!(told(&case), 0);
    let templates = Some(home.path().to_owned());
    case.notifier.set_settings(NotifySettings { templates: templates.clone(), ..case.settings.clone() });
    assert_eq!(told(&case), 1);
    let (database, clock) = (case.database.clone(), case.clock.clone());
    let events = case.events.clone();
    let told_of = move |event| events.lock().unwrap().push(event);
    drop(Notifier::new(NotifySettings { templates, ..case.settings.clone() }, database, clock, told_of));
    assert_eq!(told(&case), 2);
}

fn wanted(all: bool, until: Timestamp) -> Wanted<'static> {
    Wanted { alert: None, tree: None, volume: None, all, until, reason: " a new disk comes " }
}

/// What was queued and not begun is not told either, and is told once the silence is over.
#[test]
fn a_silence_takes_back_what_is_queued() {
    let case = Case::new(&["a", "b"]);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let begun = case.begin("a").unwrap();
    case.end(&begun, down(None));
    let until = case.clock.now().plus(Duration::from_secs(7200));
    let (silence, kept) = case.notifier.silence(&wanted(true, until), "root").unwrap();
    assert_eq!((silence.id, silence.reason.as_str(), kept), (1, "a new disk comes", false));
    case.pass(3600);
    // It may have arrived, so it goes on, and its resolution follows.
    assert_eq!(case.begin("a").unwrap().id, begun.id);
    assert!(case.begin("b").is_none());
    let case = case.restart();
    assert_eq!(case.notifier.silences(), [silence]);
    case.pass(3600);
    assert_eq!(case.begin("b").unwrap().kind, MessageKind::Firing);
}

#[test]
fn silences_are_made_ended_and_over_in_the_open() {
    let case = Case::new(&["a"]);
    let later = |secs| case.clock.now().plus(Duration::from_secs(secs));
    assert!(case.notifier.silence(&wanted(false, later(60)), "root").unwrap_err().contains("say which alerts"));
    for secs in [60, 90, 120] {
        case.notifier.silence(&wanted(true, later(secs)), "ops").unwrap();
    }
    assert_eq!(case.notifier.end_silence(2, "root").unwrap().who, "ops");
    assert!(case.notifier.end_silence(2, "root").is_none() && case.notifier.end_silence(9, "root").is_none());
    case.pass(60);
    let changes: Vec<_> = case.events.lock().unwrap().iter().filter_map(silenced).collect();
    assert_eq!(changes, ["made 1 by ops", "made 2 by ops", "made 3 by ops", "removed 2 by root", "expired 1 by "]);
    let ended: Vec<_> = case.notifier.silences().iter().map(|silence| silence.ended.is_some()).collect();
    assert_eq!(ended, [true, true, false]);
    case.pass(31 * 86_400);
    assert_eq!(case.notifier.silences().len(), 0);
    assert_eq!(case.database.read_outbox().unwrap().silences, []);
    let case = case.restart();
    assert_eq!(
        case.notifier.silence(&wanted(true, case.clock.now().plus(Duration::from_secs(9))), "x").unwrap().0.id,
        1
    );
}

fn silenced(event: &Event) -> Option<String> {
    let Event::Silenced { silence, change, who } = event else { return None };
    Some(format!("{change} {} by {who}", silence.id))
}

/// Fault 123, for silences.
#[test]
fn a_silence_that_cannot_be_written_is_in_effect_and_written_later() {
    let home = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::open(&home.path().join("guard.db")).unwrap().database);
    let case = Case::on(database, Arc::default(), settings(&["a"]));
    let until = case.clock.now().plus(Duration::from_secs(600));
    case.database.refuse_writes(true);
    assert!(!case.notifier.silence(&wanted(true, until), "root").unwrap().1);
    assert_eq!(case.remarks(), 1);
    case.change(Change::Fired, ALERT);
    case.pass(60);
    assert!(case.begin("a").is_none());
    case.database.refuse_writes(false);
    case.pass(1);
    assert_eq!(case.database.read_outbox().unwrap().silences.len(), 1);
    assert!(case.notifier.silence(&wanted(true, until), "root").unwrap().1);
}

#[test]
fn a_silence_of_a_volume_is_for_the_trees_on_it() {
    use crate::domain::alert::Subject;
    use crate::domain::names::{TreeId, VolumeId};
    use crate::domain::silence::Mute;
    let case = Case::new(&["a"]);
    let (live, old) = (TreeId::new("live"), TreeId::new("old"));
    let homes = [(live.clone(), VolumeId::new("data")), (old.clone(), VolumeId::new("cold"))];
    case.notifier.set_homes(homes.into_iter().collect());
    let until = case.clock.now().plus(Duration::from_secs(600));
    let wanted = Wanted { volume: Some("data"), ..wanted(false, until) };
    case.notifier.silence(&wanted, "root").unwrap();
    let fire = |tree: TreeId| {
        let condition = Condition { subject: Subject::Tree(tree), ..condition(ALERT, 0, b"x") };
        let active = Active { state: AlertState::Firing, since: case.clock.now(), condition: condition.clone() };
        case.notifier.changed(vec![Change::Fired(active)]);
        case.notifier.muted_by(&condition)
    };
    assert_eq!((fire(live), fire(old.clone())), (Some(Mute::Silence { id: 1, until }), None));
    case.pass(30);
    let message = case.begin("a").unwrap();
    assert_eq!(message.subject, Subject::Tree(old));
    case.end(&message, taken());
    assert!(case.begin("a").is_none());
}
