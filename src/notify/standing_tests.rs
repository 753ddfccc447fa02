//! Channels that are told again, limited, or called while all is well; without their tasks, at times that the test says.

use std::time::Duration;

use super::super::delivery::Outcome;
use super::super::heartbeat::{Beat, Pulse};
use super::super::notifier::tests::{Case, channel, down, settings, taken};
use super::super::queue::Next;
use super::{ChannelState, DroppedMessage};
use crate::domain::alert::AlertName;
use crate::domain::alert_book::{Active, Change};
use crate::domain::event::Delivery;
use crate::domain::secret::Secret;
use crate::domain::settings::{ChannelKind, ChannelSettings, NotifySettings, Severity};
use crate::store::{Message, MessageKind};

const ALERT: AlertName = AlertName::VolumeExhausted;
const MINUTE: Duration = Duration::from_secs(60);

fn manager(name: &str, per_minute: u32) -> ChannelSettings {
    let kind =
        ChannelKind::Alertmanager { url: Secret::new("http://127.0.0.1:9/"), every: MINUTE, generator_url: None };
    ChannelSettings { name: name.to_owned(), kind, per_minute }
}

fn heartbeat(name: &str) -> ChannelSettings {
    let kind = ChannelKind::Heartbeat { url: Secret::new("http://127.0.0.1:9/"), every: MINUTE };
    ChannelSettings { name: name.to_owned(), kind, per_minute: 60 }
}

fn with(channels: Vec<ChannelSettings>) -> Case {
    Case::with(NotifySettings { channels, ..settings(&[]) })
}

/// A case that has run for a while, so that its buckets are full.
fn rested(channels: Vec<ChannelSettings>) -> Case {
    let case = with(channels);
    case.pass(120);
    case
}

/// What the channel would be told again now: names and severities.
fn again(case: &Case, channel: &str) -> Option<Vec<(AlertName, Severity)>> {
    match case.notifier.next(channel, &case.settings) {
        Next::Again(standing) => Some(standing.iter().map(|(told, _)| (told.alert, told.severity)).collect()),
        Next::At(_) | Next::Idle => None,
        Next::Send(message) => panic!("{message:?} is due"),
    }
}

fn end_again(case: &Case, channel: usize, outcome: Outcome) {
    let event = case.notifier.told_again(&case.settings.channels[channel], outcome, &case.settings);
    case.notifier.tell(event);
}

fn worse(mut active: Active) -> Change {
    active.condition.severity = Severity::Critical;
    Change::Updated(active)
}

fn milder(mut active: Active) -> Change {
    active.condition.severity = Severity::Warning;
    Change::Updated(active)
}

/// Sends all that is due; what it was.
fn drain(case: &Case, channel: &str) -> Vec<(MessageKind, Severity)> {
    case.pass(0);
    let one = |message: Message| {
        case.end(&message, taken());
        case.pass(0);
        (message.kind, message.severity)
    };
    std::iter::from_fn(|| case.begin(channel).map(one)).collect()
}

use MessageKind::{Firing, Resolved};
use Severity::{Critical, Warning};

#[test]
fn an_alertmanager_is_told_at_once_again_every_minute_and_no_more_once_it_is_over() {
    let case = rested(vec![manager("am", 60)]);
    case.change(Change::Fired, ALERT);
    assert_eq!(drain(&case, "am"), [(Firing, Critical)]);
    case.pass(59);
    assert_eq!(again(&case, "am"), None);
    case.pass(1);
    assert_eq!(again(&case, "am"), Some(vec![(ALERT, Critical)]));
    end_again(&case, 0, taken());
    assert_eq!(again(&case, "am"), None);
    case.pass(4 * 3600);
    assert!(again(&case, "am").is_some(), "it is not told by messages again, but by this");
    end_again(&case, 0, taken());
    case.change(Change::Resolved, ALERT);
    assert_eq!(drain(&case, "am"), [(Resolved, Critical)]);
    case.pass(3600);
    assert_eq!(again(&case, "am"), None);
    assert_eq!(case.results(), [Delivery::Sent; 4]);
}

#[test]
fn after_a_restart_an_alertmanager_is_told_at_once_what_fires() {
    let case = rested(vec![manager("am", 60)]);
    case.change(Change::Fired, ALERT);
    drain(&case, "am");
    let case = case.restart();
    case.pass(1);
    assert_eq!(again(&case, "am"), Some(vec![(ALERT, Critical)]));
}

#[test]
fn what_an_alertmanager_did_not_hear_of_yet_is_not_told_again() {
    let case = rested(vec![manager("am", 60)]);
    case.change(Change::Fired, ALERT);
    let message = case.begin("am").unwrap();
    case.end(&message, down(None));
    case.pass(600);
    let message = case.begin("am").unwrap();
    case.end(&message, Outcome::Again { error: "HTTP 500".to_owned(), after: Some(MINUTE * 10), channel: false });
    case.pass(300);
    assert_eq!(again(&case, "am"), None);
}

#[test]
fn telling_an_alertmanager_again_counts_for_its_health_and_is_tried_again() {
    let case = rested(vec![manager("am", 60)]);
    case.change(Change::Fired, ALERT);
    drain(&case, "am");
    case.pass(60);
    let failed = case.clock_now();
    for _ in 0..3 {
        assert!(again(&case, "am").is_some());
        end_again(&case, 0, down(Some(30)));
        case.pass(59);
        assert_eq!(again(&case, "am"), None);
        case.pass(1);
    }
    case.pass(120);
    assert_eq!(case.notifier.failing_since(), Some(failed));
    assert!(again(&case, "am").is_some());
    end_again(&case, 0, taken());
    assert_eq!(case.notifier.failing_since(), None);
    // Who refuses it is asked again after a minute, not at once.
    case.pass(60);
    assert!(again(&case, "am").is_some());
    end_again(&case, 0, Outcome::GivenUp("HTTP 400".to_owned()));
    case.pass(59);
    assert_eq!(again(&case, "am"), None);
    case.pass(1);
    assert!(again(&case, "am").is_some());
}

/// To an Alertmanager an alert of another severity is another alert.
#[test]
fn another_severity_ends_the_alert_that_was_and_begins_another() {
    const ALERT: AlertName = AlertName::CapTripped;
    let case = rested(vec![manager("am", 60), channel("hook")]);
    case.change(Change::Fired, ALERT);
    assert_eq!(drain(&case, "am"), [(Firing, Warning)]);
    case.change(worse, ALERT);
    assert_eq!(drain(&case, "am"), [(Resolved, Warning), (Firing, Critical)]);
    case.pass(60);
    assert_eq!(again(&case, "am"), Some(vec![(ALERT, Critical)]));
    end_again(&case, 0, taken());
    case.change(milder, ALERT);
    assert_eq!(drain(&case, "am"), [], "a milder one waits for the group's interval");
    case.pass(60);
    assert_eq!(again(&case, "am"), Some(vec![(ALERT, Critical)]), "it is told again as it was told");
    end_again(&case, 0, taken());
    case.pass(180);
    assert_eq!(drain(&case, "am"), [(Resolved, Critical), (Firing, Warning)]);
    case.change(worse, ALERT);
    assert_eq!(drain(&case, "am"), [(Resolved, Warning), (Firing, Critical)]);
    case.change(milder, ALERT);
    case.change(Change::Resolved, ALERT);
    assert_eq!(drain(&case, "am"), [(Resolved, Critical)], "what ends is what was told");
    // Everybody else is told of the worse one, and of one end.
    case.pass(600);
    assert_eq!(drain(&case, "hook"), [(Firing, Critical), (Resolved, Critical)]);
}

#[test]
fn what_changes_its_severity_before_it_was_told_is_told_in_order() {
    const ALERT: AlertName = AlertName::CapTripped;
    let case = rested(vec![manager("am", 60)]);
    case.change(Change::Fired, ALERT);
    case.change(worse, ALERT);
    assert_eq!(drain(&case, "am"), [(Firing, Warning), (Resolved, Warning), (Firing, Critical)]);
}

/// However little it may send, and however much waits, an Alertmanager is told again before it forgets.
#[test]
fn a_backlog_keeps_nobody_from_being_told_again() {
    let case = rested(vec![manager("am", 1)]);
    case.change(Change::Fired, ALERT);
    drain(&case, "am");
    let mut longest = 0;
    let mut last = 0;
    for secs in 0..3600 {
        case.pass(1);
        if secs % 20 == 0 {
            let make: fn(Active) -> Change = if secs % 40 == 0 { Change::Fired } else { Change::Resolved };
            case.change(make, AlertName::CapTripped);
        }
        match case.notifier.next("am", &case.settings) {
            Next::Again(_) => {
                longest = longest.max(secs - last);
                last = secs;
                end_again(&case, 0, taken());
            }
            Next::Send(message) => case.end(&message, taken()),
            Next::At(_) | Next::Idle => {}
        }
    }
    assert!(longest > 0 && longest < 200, "{longest} s");
}

/// Something critical happens every ten minutes; how long it waits while telling again fails, every time.
fn check_news_while_telling_again_fails(per_minute: u32, outcome: &Outcome, longest: i64) {
    let what = format!("{per_minute} a minute, {outcome:?}");
    let case = Case::with(NotifySettings {
        channels: vec![manager("am", per_minute)],
        retry_max: Duration::from_secs(5),
        ..settings(&[])
    });
    case.pass(120);
    case.change(Change::Fired, ALERT);
    drain(&case, "am");
    let (mut news, mut waited, mut failed) = (0, Vec::new(), 0);
    for secs in 0..7200 {
        if secs % 600 == 590 {
            news = secs;
            case.change_of(Change::Fired, ALERT, &secs.to_string());
        }
        match case.notifier.next("am", &case.settings) {
            Next::Again(_) => {
                failed += 1;
                end_again(&case, 0, outcome.clone());
            }
            Next::Send(message) => {
                waited.push(secs - news);
                case.end(&message, taken());
            }
            Next::At(_) | Next::Idle => {}
        }
        case.pass(1);
    }
    assert_eq!(waited.len(), 12, "{what}: {waited:?}");
    assert!(waited.iter().all(|waited| *waited <= longest), "{what}: {waited:?}");
    assert!((50..=120).contains(&failed), "{what}: it has its turn: {failed}");
}

#[test]
fn news_go_first_though_telling_an_alertmanager_again_fails_every_time() {
    let server_error = Outcome::Again { error: "HTTP 500".to_owned(), after: None, channel: false };
    let refused = Outcome::GivenUp("HTTP 400".to_owned());
    for (per_minute, outcome, longest) in [
        (60, &server_error, 2),
        (60, &refused, 2),
        (60, &down(None), 7),
        (60, &down(Some(30)), 31),
        (1, &server_error, 61),
        (1, &refused, 61),
        (1, &down(None), 61),
    ] {
        check_news_while_telling_again_fails(per_minute, outcome, longest);
    }
}

/// The same with more news than the channel takes: both have their turns.
#[test]
fn a_backlog_and_telling_again_take_turns_though_the_latter_fails() {
    let case = rested(vec![manager("am", 1)]);
    case.change(Change::Fired, ALERT);
    drain(&case, "am");
    for volume in 0..100 {
        case.change_of(Change::Fired, ALERT, &volume.to_string());
    }
    let (mut sent, mut failed) = (0, 0);
    for _ in 0..3600 {
        case.pass(1);
        match case.notifier.next("am", &case.settings) {
            Next::Again(_) => {
                failed += 1;
                end_again(&case, 0, down(None));
            }
            Next::Send(message) => {
                sent += 1;
                case.end(&message, taken());
            }
            Next::At(_) | Next::Idle => {}
        }
    }
    assert!(sent >= 25 && failed >= 15, "{sent} sent, {failed} failed");
}

#[test]
fn no_more_is_begun_in_a_minute_than_the_channel_takes_retries_included() {
    let limited = ChannelSettings { per_minute: 18, ..channel("a") };
    let retry_max = Duration::from_secs(2);
    let mut case = Case::with(NotifySettings { channels: vec![limited], retry_max, ..settings(&[]) });
    case.pass(120);
    for volume in 0..40 {
        case.change_of(Change::Fired, ALERT, &volume.to_string());
    }
    case.pass(30);
    let from = case.clock_now().secs();
    let mut begun = Vec::new();
    for secs in 0..600 {
        if secs % 100 == 99 {
            case = case.restart();
        }
        while let Some(message) = case.begin("a") {
            begun.push((case.clock_now().secs() - from, message.attempts));
            case.end(&message, Outcome::Again { error: "HTTP 500".to_owned(), after: None, channel: false });
        }
        case.pass(1);
    }
    let within = |from: i64| begun.iter().filter(|(at, _)| (from..=from + 60).contains(at)).count();
    let most = (0..600).map(within).max();
    assert!(begun.iter().any(|(_, attempts)| *attempts > 1) && most <= Some(18), "{most:?}");
    assert_eq!(begun.iter().filter(|(at, _)| *at == 0).count(), 6, "some go at once");
    assert!(begun.len() > 100, "and all that the limit allows: {}", begun.len());
}

#[test]
fn what_waits_for_its_turn_keeps_its_order_and_critical_groups_go_first() {
    let limited = ChannelSettings { per_minute: 3, ..channel("a") };
    let case = rested(vec![limited]);
    for (alert, volume) in [
        (AlertName::CapTripped, "mild"),
        (AlertName::SpaceNotReclaimed, "mild"),
        (AlertName::VolumeReadOnly, "bad"),
        (AlertName::VolumeExhausted, "bad"),
    ] {
        case.change_of(Change::Fired, alert, volume);
        case.pass(1);
    }
    case.pass(30);
    let mut order = Vec::new();
    for _ in 0..300 {
        if let Some(message) = case.begin("a") {
            case.end(&message, taken());
            order.push(message.alert);
        }
        case.pass(1);
    }
    let expected =
        [AlertName::VolumeReadOnly, AlertName::VolumeExhausted, AlertName::CapTripped, AlertName::SpaceNotReclaimed];
    assert_eq!(order, expected, "the critical group first, and each in order");
}

#[test]
fn a_channel_says_how_it_does_and_what_it_gave_up() {
    let case = rested(vec![channel("a"), heartbeat("pulse")]);
    let report = |case: &Case| case.notifier.channels().remove(0);
    assert_eq!((report(&case).state, report(&case).kind), (ChannelState::Unknown, "webhook"));
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let message = case.begin("a").unwrap();
    case.end(&message, down(None));
    let since = case.clock_now();
    case.pass(7);
    let failing = ChannelState::Failing { since, error: "HTTP 503".to_owned() };
    let shown = report(&case);
    assert_eq!((shown.state, shown.queued, shown.oldest), (failing, 1, Duration::from_secs(7)));
    let message = case.begin("a").unwrap();
    case.end(&message, Outcome::GivenUp("HTTP 400".to_owned()));
    let shown = report(&case);
    let dropped = DroppedMessage {
        at: message.created,
        alert: ALERT,
        subject: message.subject.clone(),
        kind: Firing,
        error: "HTTP 400".to_owned(),
    };
    assert_eq!((shown.queued, shown.dropped, &shown.last_dropped[..]), (0, 1, &[dropped.clone()][..]));
    let case = case.restart();
    let shown = report(&case);
    assert_eq!((shown.dropped, shown.last_dropped), (0, vec![dropped]), "it is still shown after a restart");
    case.change(Change::Resolved, ALERT);
    case.pass(300);
    let message = case.begin("a").unwrap();
    case.end(&message, taken());
    assert_eq!(report(&case).state, ChannelState::Working { since: case.clock_now() });
}

/// Fault 124.
#[test]
fn the_heartbeat_stops_when_no_other_channel_works_and_when_nobody_looks() {
    let case = rested(vec![channel("a"), heartbeat("pulse")]);
    let mut pulse = Pulse::default();
    let mut beats = |case: &Case, secs: i64, looks: bool| {
        let mut count = 0;
        for _ in 0..secs {
            case.pass(1);
            if looks {
                case.notifier.looked();
            }
            if case.notifier.pulse(&case.settings.channels[1], MINUTE, &mut pulse) == Beat::Now {
                count += 1;
                case.notifier.beaten(&case.settings.channels[1], MINUTE, taken(), &case.settings, &mut pulse);
            }
        }
        count
    };
    assert_eq!(beats(&case, 300, false), 0, "nobody has looked yet");
    assert_eq!(beats(&case, 300, true), 5);
    beats(&case, 11, false);
    assert_eq!(beats(&case, 300, false), 0, "nobody looks any more");
    assert_eq!(beats(&case, 300, true), 5);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let message = case.begin("a").unwrap();
    case.end(&message, down(None));
    assert_eq!(beats(&case, 240, true), 4, "it may be a short outage");
    beats(&case, 60, true);
    assert_eq!(beats(&case, 3600, true), 0);
    let message = case.begin("a").unwrap();
    case.end(&message, taken());
    assert_eq!(beats(&case, 300, true), 5);
    let said = case.told();
    let expected = ["withheld, because the guard does not look", "goes on", "withheld, because no channel", "goes on"];
    assert!(said.len() == 4 && said.iter().zip(expected).all(|(said, part)| said.contains(part)), "{said:?}");
}

#[test]
fn a_heartbeat_that_does_not_arrive_is_told_of_once_and_says_nothing_of_the_other_channels() {
    let case = rested(vec![heartbeat("pulse")]);
    let mut pulse = Pulse::default();
    let mut tried = 0;
    for secs in 0..3600 {
        case.pass(1);
        case.notifier.looked();
        let of = &case.settings.channels[0];
        if case.notifier.pulse(of, MINUTE, &mut pulse) == Beat::Now {
            tried += 1;
            let outcome = if secs < 3000 { down(None) } else { taken() };
            case.notifier.beaten(of, MINUTE, outcome, &case.settings, &mut pulse);
            assert_eq!(case.notifier.failing_since(), None);
        }
    }
    assert!(tried >= 60, "{tried}");
    let said = case.told();
    assert!(said.len() == 2 && said[0].contains("HTTP 503") && said[1].ends_with("arrives again"), "{said:?}");
    assert!(case.begin("pulse").is_none(), "it is told of no alert");
}
