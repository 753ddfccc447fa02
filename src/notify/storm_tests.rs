//! What flaps and what comes by the thousand, from its conditions to what each channel is sent.

use std::time::Duration;

use super::body::tests::condition;
use super::notifier::tests::{Case, channel, settings, taken};
use crate::domain::alarm::Alarm;
use crate::domain::alert::{AlertName, Condition, ITEMS};
use crate::domain::alert_book::{AlertBook, KEEP};
use crate::domain::conditions::conditions;
use crate::domain::conditions::tests::volume;
use crate::domain::deletion::{Cause, Failure, RuleKind, Target};
use crate::domain::history::History;
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::secret::Secret;
use crate::domain::settings::{ChannelKind, ChannelSettings, MailTls, NotifySettings, Robot, Severity};
use crate::domain::units::{Bytes, Timestamp};
use crate::store::{Message, MessageKind};

const HOUR: i64 = 3600;

/// One channel of each kind that is told of alerts.
fn all_kinds() -> Vec<ChannelSettings> {
    let url = || Secret::new("http://127.0.0.1:9/");
    let robot = |robot| ChannelKind::Robot { robot, url: url(), secret: None };
    let kinds = [
        ChannelKind::Webhook { url: url(), secret: None },
        ChannelKind::Email {
            host: "localhost".to_owned(),
            port: 25,
            tls: MailTls::None,
            ca_file: None,
            username: None,
            password: None,
            from: "guard@example.org".to_owned(),
            to: vec!["ops@example.org".to_owned()],
        },
        robot(Robot::Dingtalk),
        robot(Robot::Wecom),
        robot(Robot::Feishu),
        robot(Robot::Slack),
        ChannelKind::Alertmanager { url: url(), every: Duration::from_secs(60), generator_url: None },
        ChannelKind::WvpRedis {
            url: Secret::new("redis://127.0.0.1:9/"),
            username: None,
            password: None,
            ca_file: None,
            gb_id: "34020000001320000001".to_owned(),
            channel: "alarm_receive".to_owned(),
        },
    ];
    let named =
        |kind: ChannelKind| ChannelSettings { name: kind.as_str().to_owned(), per_minute: kind.per_minute(), kind };
    kinds.map(named).into()
}

/// Steps through an hour, a second each; gives what each channel was sent, and when.
fn an_hour(channels: Vec<ChannelSettings>, found: impl Fn(i64) -> Vec<Condition>) -> Vec<Vec<(i64, Message)>> {
    let case = Case::with(NotifySettings { channels, ..settings(&[]) });
    let mut book = AlertBook::new();
    let mut sent = vec![Vec::new(); case.settings.channels.len()];
    for secs in 0..HOUR {
        case.notifier.changed(book.step(&found(secs), |_, _| false, &[], case.clock_now()));
        case.pass(0);
        for (at, of) in case.settings.channels.iter().enumerate() {
            while let Some(message) = case.begin(&of.name) {
                case.end(&message, taken());
                sent[at].push((secs, message));
            }
        }
        case.pass(1);
    }
    sent
}

/// Of each kind of message no two come within `apart`.
fn spaced(sent: &[(i64, Message)], apart: Duration) -> bool {
    [MessageKind::Firing, MessageKind::Resolved].into_iter().all(|kind| {
        let at: Vec<i64> = sent.iter().filter(|(_, message)| message.kind == kind).map(|(at, _)| *at).collect();
        at.windows(2).all(|pair| pair[1] - pair[0] >= i64::try_from(apart.as_secs()).unwrap())
    })
}

/// Fault 120: there for so many seconds and away for so many, over an hour.
fn check_flapping(there: i64, away: i64, alert: AlertName) {
    let found = |secs: i64| {
        let mut found = condition(alert, 0, b"x");
        found.unreclaimed.files = secs.unsigned_abs();
        if secs % (there + away) < there { vec![found] } else { Vec::new() }
    };
    let channels = all_kinds();
    let lasts = away < i64::try_from(KEEP.as_secs()).unwrap();
    for (of, sent) in channels.iter().zip(an_hour(channels.clone(), found)) {
        let what = format!("{} for {there} s of {} s: {sent:?}", of.name, there + away);
        let resolved = sent.iter().filter(|(_, message)| message.kind == MessageKind::Resolved).count();
        if let ChannelKind::WvpRedis { .. } = of.kind {
            // It knows alarms only, and of those no end.
            assert_eq!((sent.is_empty(), resolved), (Alarm::of(alert).is_none(), 0), "{what}");
            assert!(spaced(&sent, NotifySettings::default().group_interval), "{what}");
            continue;
        }
        assert_eq!(resolved == 0, lasts, "{what}");
        assert!(!sent.is_empty() && (!lasts || sent.len() == 1), "{what}");
        // An Alertmanager has a `group_interval` of its own, and is told at once what ends, once it has stayed away.
        let apart = match of.kind {
            ChannelKind::Alertmanager { .. } => KEEP,
            ChannelKind::Email { .. }
            | ChannelKind::Webhook { .. }
            | ChannelKind::Robot { .. }
            | ChannelKind::WvpRedis { .. }
            | ChannelKind::Heartbeat { .. } => NotifySettings::default().group_interval,
        };
        assert!(spaced(&sent, apart), "{what}");
    }
}

#[test]
fn what_flaps_is_at_most_one_pair_an_interval_whatever_the_channel() {
    for alert in [AlertName::CapTripped, AlertName::VolumeExhausted] {
        check_flapping(3, 3, alert);
        check_flapping(10, 25, alert);
        check_flapping(5, 35, alert);
        check_flapping(60, 60, alert);
        check_flapping(200, 100, alert);
    }
}

#[test]
fn a_severity_that_flaps_is_one_message_and_to_an_alertmanager_a_pair_an_interval() {
    let found = |secs: i64| {
        let severity = if secs % 2 == 0 { Severity::Warning } else { Severity::Critical };
        vec![Condition { severity, ..condition(AlertName::CapTripped, 0, b"x") }]
    };
    let channels = all_kinds();
    for (of, sent) in channels.iter().zip(an_hour(channels.clone(), found)) {
        match of.kind {
            ChannelKind::Alertmanager { .. } => {
                // By when it was queued: at the beginning three wait for the channel's turn.
                let of_one = |severity| {
                    let of_one = sent.iter().filter(|(_, message)| message.severity == severity);
                    of_one.map(|(_, message)| (message.created.secs(), message.clone())).collect::<Vec<_>>()
                };
                let interval = NotifySettings::default().group_interval;
                let spaced =
                    [Severity::Warning, Severity::Critical].map(|severity| spaced(&of_one(severity), interval));
                assert!(spaced == [true, true] && sent.len() > 10, "{sent:?}");
            }
            ChannelKind::Email { .. }
            | ChannelKind::Webhook { .. }
            | ChannelKind::Robot { .. }
            | ChannelKind::WvpRedis { .. }
            | ChannelKind::Heartbeat { .. } => assert!(sent.len() <= 2, "{}: {sent:?}", of.name),
        }
    }
}

/// So many deletions have failed for long.
fn failing(count: u64) -> History {
    let failure = |id: u64| {
        let target = Target {
            tree: TreeId::new("live"),
            path: RelPath::new(format!("cam/{id}.mp4").as_bytes()).unwrap(),
            stream: "cam".to_owned(),
            recorded: None,
            bytes: Bytes::MIB,
            inode: id,
            fingerprint: id,
            rule: RuleKind::MaxAge,
            trigger: RuleKind::MaxAge.trigger(),
            reason: "older than 30d".to_owned(),
        };
        let error = "input/output error".to_owned();
        let at = Timestamp::default();
        Failure { id, target, cause: Cause::Io, error, holder: None, attempts: 9, next_attempt: at, since: at }
    };
    let mut history = History::default();
    history.failures.extend((0..count).map(|id| (id, failure(id))));
    history
}

/// Fault 119: one message with counts and examples, and no more than one an interval while the number changes.
#[test]
fn ten_thousand_failing_files_are_one_message_an_interval_at_most() {
    let volumes = [volume()];
    let repeat = Duration::from_secs(600);
    let mut tuned = NotifySettings { repeat_interval: repeat, ..settings(&[]) };
    tuned.channels = vec![channel("hook")];
    let case = Case::with(tuned);
    let mut book = AlertBook::new();
    let mut sent: Vec<(i64, Message, u64)> = Vec::new();
    for minute in 0_i64..60 {
        let count = 10_000 + u64::try_from(minute * 7919 % 500).unwrap();
        let found = conditions(&volumes, &[], &[], &failing(count), case.clock_now());
        case.notifier.changed(book.step(&found, |_, _| false, &[], case.clock_now()));
        case.pass(30);
        if let Some(message) = case.begin("hook") {
            case.end(&message, taken());
            assert!(case.begin("hook").is_none(), "one message for all files");
            sent.push((minute, message, count));
        }
        case.pass(30);
    }
    let minutes: Vec<i64> = sent.iter().map(|(minute, ..)| *minute).collect();
    assert_eq!(minutes, [0, 10, 20, 30, 40, 50]);
    for (_, message, count) in &sent {
        let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        let unreclaimed = &body["data"]["unreclaimed"];
        assert_eq!(body["data"]["alert"], "DeletionFailing");
        assert_eq!((&unreclaimed["files"], &unreclaimed["bytes"]), (&(*count).into(), &(count << 20).into()));
        assert_eq!(unreclaimed["items"].as_array().unwrap().len(), ITEMS);
        assert!(message.body.len() < 20_000);
    }
}
