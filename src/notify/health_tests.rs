//! What is known of the channels over restarts and reloads; without the notifier's tasks, at times that the test says.

use std::time::Duration;

use super::delivery::Outcome;
use super::heartbeat::{Beat, Pulse};
use super::notifier::tests::{Case, channel, down, settings, taken};
use super::standing::ChannelState;
use crate::domain::alert::AlertName;
use crate::domain::alert_book::Change;
use crate::domain::secret::Secret;
use crate::domain::settings::{ChannelKind, ChannelSettings, NotifySettings};

const ALERT: AlertName = AlertName::VolumeExhausted;

fn with(channels: Vec<ChannelSettings>) -> NotifySettings {
    NotifySettings { channels, ..settings(&[]) }
}

fn elsewhere(name: &str) -> ChannelSettings {
    let kind = ChannelKind::Webhook { url: Secret::new("http://127.0.0.1:10/"), secret: None };
    ChannelSettings { kind, ..channel(name) }
}

fn heartbeat() -> ChannelSettings {
    let kind = ChannelKind::Heartbeat { url: Secret::new("http://127.0.0.1:9/"), every: Duration::from_secs(60) };
    ChannelSettings { name: "pulse".to_owned(), kind, per_minute: 60 }
}

/// A case whose first channel has not delivered for as long as it takes, and since when.
fn failing(settings: NotifySettings, outcome: Outcome) -> (Case, crate::domain::units::Timestamp) {
    let case = Case::with(settings);
    case.change(Change::Fired, ALERT);
    case.pass(30);
    let message = case.begin("a").unwrap();
    case.end(&message, outcome);
    let since = case.clock_now();
    case.pass(300);
    assert_eq!(case.notifier.failing_since(), Some(since));
    case.change(Change::Fired, AlertName::DeliveryFailing);
    (case, since)
}

#[test]
fn a_channel_that_fails_is_known_to_after_a_restart_and_withholds_the_heartbeat() {
    for outcome in [down(None), Outcome::GivenUp("HTTP 400".to_owned())] {
        let what = format!("{outcome:?}");
        let (case, since) = failing(with(vec![channel("a"), heartbeat()]), outcome);
        let case = case.restart();
        assert_eq!(case.notifier.failing_since(), Some(since), "{what}");
        let state = case.notifier.channels().remove(0).state;
        assert!(matches!(state, ChannelState::Failing { since: at, .. } if at == since), "{what}: {state:?}");
        case.pass(60);
        case.notifier.looked();
        let beat = case.notifier.pulse(&case.settings.channels[1], Duration::from_secs(60), &mut Pulse::default());
        assert_ne!(beat, Beat::Now, "{what}");
        let message = case.begin("a").unwrap();
        case.end(&message, taken());
        let case = case.restart();
        assert_eq!(case.notifier.failing_since(), None, "{what}");
        let state = case.notifier.channels().remove(0).state;
        assert!(matches!(state, ChannelState::Working { .. }), "{what}: {state:?}");
    }
}

#[test]
fn a_channel_that_works_is_known_to_after_a_restart_whatever_the_others_do() {
    let case = Case::with(settings(&["a", "b"]));
    case.change(Change::Fired, ALERT);
    case.pass(30);
    for (name, outcome) in [("a", down(None)), ("b", taken())] {
        let message = case.begin(name).unwrap();
        case.end(&message, outcome);
    }
    case.pass(600);
    let case = case.restart();
    assert_eq!(case.notifier.failing_since(), None);
    // What is known of a channel goes with it.
    let case = case.restart_with(settings(&["a"]));
    case.pass(0);
    assert!(case.notifier.failing_since().is_some());
    let kept = case.database.read_outbox().unwrap().channels;
    assert_eq!(kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn that_nothing_is_delivered_ends_with_a_delivery_or_the_last_channel_and_not_with_a_reload() {
    let replaced = [
        ("the address changes", with(vec![elsewhere("a")])),
        ("another joins", settings(&["a", "b"])),
        ("another takes its place", settings(&["b"])),
        (
            "it takes longer now",
            NotifySettings { delivery_failing_after: Duration::from_secs(86_400), ..settings(&["a"]) },
        ),
    ];
    for (what, settings_now) in replaced {
        for restarts in [false, true] {
            let what = format!("{what}, restarts: {restarts}");
            let (mut case, since) = failing(settings(&["a"]), down(None));
            if restarts {
                case = case.restart_with(settings_now.clone());
            } else {
                case.notifier.set_settings(settings_now.clone());
            }
            case.pass(0);
            case.pass(31);
            let still = case.notifier.failing_since();
            assert!(still.is_some_and(|at| at >= since), "{what}: {still:?}");
            let name = settings_now.channels.last().unwrap().name.clone();
            if settings_now.channels[0] != channel("a") {
                let message = case.begin(&name).unwrap();
                case.end(&message, down(None));
                assert_eq!(case.notifier.failing_since(), still, "{what}");
            }
            // As when a person has tried it.
            case.notifier.note(&name, None, None);
            assert_eq!(case.notifier.failing_since(), None, "{what}");
        }
    }
    let (case, _) = failing(with(vec![channel("a"), heartbeat()]), down(None));
    case.notifier.note("pulse", None, None);
    assert!(case.notifier.failing_since().is_some(), "a heartbeat delivers no alert");
    case.notifier.set_settings(with(vec![heartbeat()]));
    assert!(case.notifier.failing_since().is_none() && !case.notifier.tells_anybody());
}
