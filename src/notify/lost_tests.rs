//! A resolution is sent if and only if its firing was, or may have been; without the notifier's tasks, at times that the test says.

use std::time::Duration;

use super::delivery::Outcome;
use super::notifier::tests::{Case, channel, down, settings, taken};
use super::queue::{LIMIT, Next};
use crate::domain::alert::AlertName;
use crate::domain::alert_book::{Active, Change};
use crate::domain::secret::Secret;
use crate::domain::settings::{ChannelKind, ChannelSettings, NotifySettings, Severity};
use crate::store::{Message, MessageKind, MessageState, UNHEARD};

/// A warning.
const ALERT: AlertName = AlertName::CapTripped;
const WEEK: i64 = 7 * 86_400;

use MessageKind::{Firing, Resolved};

fn refused() -> Outcome {
    Outcome::GivenUp("HTTP 400".to_owned())
}

fn hook(url: &str, secret: Option<&str>) -> ChannelSettings {
    let kind = ChannelKind::Webhook { url: Secret::new(url), secret: secret.map(Secret::new) };
    ChannelSettings { kind, ..channel("a") }
}

fn manager() -> ChannelSettings {
    let url = Secret::new("http://127.0.0.1:9/");
    let kind = ChannelKind::Alertmanager { url, every: Duration::from_secs(60), generator_url: None };
    ChannelSettings { kind, ..channel("a") }
}

/// A case with one alert, whose first message waits, and buckets that are full.
fn fired(of: ChannelSettings) -> Case {
    let case = Case::with(NotifySettings { channels: vec![of], ..settings(&["b"]) });
    case.pass(600);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    case
}

fn worse(mut active: Active) -> Change {
    active.condition.severity = Severity::Critical;
    Change::Updated(active)
}

/// Sends all that is due, and tells again what fires: but nothing of which the channel never heard.
fn drain(case: &Case) -> Vec<Message> {
    case.pass(0);
    let settings = case.notifier.settings.load_full();
    let mut sent = Vec::new();
    loop {
        match case.notifier.next("a", &settings) {
            Next::Send(message) => {
                case.end(&message, taken());
                sent.push(*message);
            }
            Next::Again(standing) => {
                let owed = case.database.read_outbox().unwrap().told;
                let heard = |told: AlertName| owed.iter().any(|(_, alert, _, line)| *alert == told && !line.lost);
                assert!(standing.iter().all(|(told, _)| heard(told.alert)), "{standing:?} of {owed:?}");
                case.notifier.told_again(&settings.channels[0], taken(), &settings);
            }
            Next::At(_) | Next::Idle => return sent,
        }
    }
}

fn kinds(messages: &[Message]) -> Vec<MessageKind> {
    messages.iter().map(|message| message.kind).collect()
}

fn end(case: Case, outcome: Outcome) -> Case {
    let message = case.begin("a").unwrap();
    case.end(&message, outcome);
    case
}

fn cut_off(case: Case) -> Case {
    case.begin("a").unwrap();
    case.restart()
}

fn wait(case: Case, secs: i64) -> Case {
    case.pass(secs);
    assert!(case.begin("a").is_none());
    case
}

/// So many messages of another channel are queued that there is no room for the next one.
fn crowd_out(case: Case) -> Case {
    let both = vec![channel("a"), channel("b")];
    case.notifier.set_settings(NotifySettings { channels: both, ..case.settings.clone() });
    let filler = |n: usize| {
        let of = case.database.recent_messages(1).unwrap().remove(0);
        Message { channel: "b".to_owned(), id: format!("filler_{n}"), severity: Severity::Critical, ..of }
    };
    let one = filler(0);
    let mut state = case.notifier.lock();
    for n in 1..LIMIT {
        let id = format!("filler_{n}");
        state.queue.push(Message { id, ..one.clone() }, Duration::from_secs(600));
    }
    drop(state);
    case.pass(30);
    case.notifier.set_settings(case.settings.clone());
    case.pass(0);
    case
}

/// What is sent once the alert is over, after its first message fared like that.
fn check(what: &str, fare: impl Fn(Case) -> Case, expected: &[MessageKind]) {
    for restarts in [false, true] {
        let mut case = fare(fired(channel("a")));
        if restarts {
            case.pass(0);
            case = case.restart();
        }
        case.change(Change::Resolved, ALERT);
        case.pass(600);
        assert_eq!(kinds(&drain(&case)), expected, "{what}, restarts: {restarts}");
        let loaded = case.database.read_outbox().unwrap();
        assert!(loaded.told.is_empty() && loaded.alerts.is_empty(), "{what}: {loaded:?}");
    }
}

#[test]
fn a_resolution_follows_what_was_or_may_have_been_told_and_nothing_else() {
    check("accepted", |case| end(case, taken()), &[Resolved]);
    check("refused at its only attempt", |case| end(case, refused()), &[]);
    check(
        "refused after an attempt that failed",
        |case| {
            let case = end(case, down(None));
            case.pass(600);
            end(case, refused())
        },
        &[Resolved],
    );
    check("refused after an attempt that was cut off", |case| end(cut_off(case), refused()), &[Resolved]);
    check("expired before any attempt", |case| wait(case, WEEK), &[]);
    check("expired after an attempt", |case| wait(end(case, down(None)), WEEK), &[Resolved]);
    check("dropped for want of room", crowd_out, &[]);
}

#[test]
fn a_resolution_that_waits_behind_what_is_refused_is_taken_back_and_not_counted() {
    let case = fired(channel("a"));
    let message = case.begin("a").unwrap();
    case.change(Change::Resolved, ALERT);
    case.pass(600);
    assert_eq!(case.notifier.channels()[0].queued, 2);
    case.end(&message, refused());
    case.pass(600);
    assert!(case.begin("a").is_none());
    let shown = case.notifier.channels().remove(0);
    assert_eq!((shown.queued, shown.dropped), (0, 1));
    let taken_back = case.database.recent_messages(1).unwrap().remove(0);
    assert_eq!((taken_back.kind, taken_back.state), (Resolved, MessageState::Dropped));
    assert_eq!(taken_back.last_error.as_deref(), Some(UNHEARD));
    assert_eq!(case.database.read_outbox().unwrap().dropped.len(), 1);
}

#[test]
fn what_was_refused_is_told_again_after_the_repeat_interval_or_when_it_is_worse_as_if_for_the_first_time() {
    for of in [channel("a"), manager()] {
        for rises in [false, true] {
            let what = format!("{}, rises: {rises}", of.kind.as_str());
            let case = fired(of.clone());
            let first = case.begin("a").unwrap();
            case.end(&first, refused());
            let case = case.restart();
            // Another alert of the same group takes it not along, nor does telling again.
            case.change(Change::Fired, AlertName::SpaceNotReclaimed);
            case.pass(299);
            let along = drain(&case);
            assert_eq!(along.iter().map(|m| m.alert).collect::<Vec<_>>(), [AlertName::SpaceNotReclaimed], "{what}");
            if rises {
                case.change(worse, ALERT);
            }
            let next = first.created.plus(case.settings.repeat_interval).since(case.clock_now());
            case.pass(if rises { 0 } else { i64::try_from(next.as_secs()).unwrap() - 1 });
            let is_of = |message: &Message| message.alert == ALERT;
            assert_eq!(drain(&case).iter().any(is_of), rises, "{what}: only a worse one");
            case.pass(300);
            drain(&case);
            let sent = case.database.recent_messages(20).unwrap();
            let again = sent.into_iter().find(|m| m.alert == ALERT && m.id != first.id).expect(&what);
            assert_eq!((again.kind, again.reply_to), (Firing, None), "{what}");
            case.change(Change::Resolved, ALERT);
            case.pass(600);
            let over: Vec<_> = drain(&case).into_iter().filter(is_of).collect();
            assert_eq!((kinds(&over), over[0].reply_to.as_ref()), (vec![Resolved], Some(&again.id)), "{what}");
        }
    }
}

#[test]
fn what_waits_behind_a_refused_message_becomes_the_first() {
    let case = fired(channel("a"));
    let first = case.begin("a").unwrap();
    case.change(worse, ALERT);
    case.pass(300);
    case.end(&first, refused());
    let second = drain(&case).remove(0);
    assert_eq!((second.kind, second.severity, second.reply_to), (Firing, Severity::Critical, None));
    let case = case.restart();
    case.change(Change::Resolved, ALERT);
    case.pass(600);
    let over = drain(&case);
    assert_eq!((kinds(&over), over[0].reply_to.as_ref()), (vec![Resolved], Some(&second.id)));
}

/// What another configuration of the channel is sent, at once and once the alert is over.
fn check_moved(what: &str, before: impl Fn(Case) -> Case, same: [&[MessageKind]; 2], other: [&[MessageKind]; 2]) {
    for (to, expected) in [(hook("http://127.0.0.1:8/", Some("new")), same), (hook("http://127.0.0.1:7/", None), other)]
    {
        let case = before(fired(hook("http://127.0.0.1:8/", None)));
        case.notifier.set_settings(NotifySettings { channels: vec![to], ..case.settings.clone() });
        case.pass(0);
        let case = case.restart();
        case.pass(30);
        let sent = drain(&case);
        assert!(
            sent.first().is_none_or(|first| first.kind == Resolved || first.reply_to.is_none()),
            "{what}: {sent:?}"
        );
        assert_eq!(kinds(&sent), expected[0], "{what}");
        case.change(Change::Resolved, ALERT);
        case.pass(600);
        assert_eq!(kinds(&drain(&case)), expected[1], "{what}, once it is over");
    }
}

#[test]
fn another_receiver_is_told_what_fires_as_new_and_no_resolution_alone() {
    let over = |case: Case, secs| {
        case.change(Change::Resolved, ALERT);
        case.pass(secs);
        case
    };
    check_moved("told", |case| end(case, taken()), [&[], &[Resolved]], [&[Firing], &[Resolved]]);
    check_moved("queued", |case| case, [&[Firing], &[Resolved]], [&[Firing], &[Resolved]]);
    check_moved("tried", |case| end(case, down(None)), [&[Firing], &[Resolved]], [&[Firing], &[Resolved]]);
    check_moved("lost", |case| end(case, refused()), [&[], &[]], [&[Firing], &[Resolved]]);
    check_moved("over", |case| over(end(case, taken()), 1), [&[], &[Resolved]], [&[], &[]]);
    check_moved("its end is queued", |case| over(end(case, taken()), 600), [&[Resolved], &[]], [&[], &[]]);
    let worse_queued = |case| {
        let case = end(case, taken());
        case.change(worse, ALERT);
        case.pass(300);
        case
    };
    let told_worse = |case: &Case| {
        case.notifier.set_settings(NotifySettings {
            channels: vec![hook("http://127.0.0.1:7/", None)],
            ..case.settings.clone()
        });
        drain(case).remove(0)
    };
    let message = told_worse(&worse_queued(fired(hook("http://127.0.0.1:8/", None))));
    assert_eq!((message.severity, message.reply_to), (Severity::Critical, None), "it is the first that it hears");
}
