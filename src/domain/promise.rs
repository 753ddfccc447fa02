//! What streams are promised, and what they have: how far back each reaches, and whose promise was broken.
//!
//! A stream reaches back to its oldest recording. A young one does not reach back as far as its `keep` either, and nothing is wrong with
//! that; so what breaks a promise is not that a stream is short, but that something was deleted which its `keep` covered. Then it reaches
//! back only to there, whatever older recordings are left, until it has recorded for as long as was promised again.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

use super::history::{History, Loss};
use super::names::{StreamId, TreeId};
use super::recording::Tally;
use super::retention::TreePolicy;
use super::survey::Survey;
use super::units::{Bytes, Timestamp};

/// A stream, with its promise and what it has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The tree.
    pub tree: TreeId,
    /// The stream.
    pub stream: StreamId,
    /// Its finished recordings; none are left of a stream that lost all.
    pub recordings: Tally,
    /// The time of the oldest.
    pub oldest: Option<Timestamp>,
    /// The time of the newest.
    pub newest: Option<Timestamp>,
    /// Bytes recorded in a second, over the last day.
    pub inflow: Bytes,
    /// It writes now.
    pub live: bool,
    /// Its rule's priority.
    pub priority: i32,
    /// How long its rule promises to keep it; zero without a promise.
    pub promised: Duration,
    /// How far back it reaches, without what was deleted of its promise.
    pub achieved: Duration,
    /// What was deleted that its promise still covers.
    pub lost: Option<Loss>,
}

impl Standing {
    /// Its promise is broken.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.lost.is_some()
    }

    /// What is missing to its promise; zero where it is kept.
    #[must_use]
    pub fn short(&self) -> Duration {
        self.promised.saturating_sub(self.achieved)
    }

    /// The worst first: broken promises, then what is short, then what has least beyond its promise, then what is promised nothing.
    fn order(&self) -> (bool, bool, Reverse<Duration>, Duration, &str) {
        let beyond = self.achieved.saturating_sub(self.promised);
        (!self.broken(), self.promised.is_zero(), Reverse(self.short()), beyond, self.stream.as_str())
    }
}

/// The streams of a tree, the worst first. A stream that lost all it had is among them, as long as its promise covers that.
#[must_use]
pub fn standings(policy: &TreePolicy, survey: &Survey, history: &History, now: Timestamp) -> Vec<Standing> {
    let promise =
        |stream: &StreamId| policy.rule_of(stream).map_or((Duration::ZERO, 0), |(_, rule)| (rule.keep, rule.priority));
    let lost = |stream: &str, promised: Duration| {
        let loss = history.lost.get(&(policy.tree.clone(), stream.to_owned()))?;
        (now.since(loss.recorded) < promised).then_some(*loss)
    };
    let back_to = |at: Option<Timestamp>| at.map_or(Duration::ZERO, |at| now.since(at));
    let mut out: Vec<Standing> = survey
        .streams
        .iter()
        .map(|stream| {
            let (promised, priority) = promise(&stream.name);
            let lost = lost(stream.name.as_str(), promised);
            let reach = back_to(stream.oldest);
            Standing {
                tree: policy.tree.clone(),
                stream: stream.name.clone(),
                recordings: stream.recordings,
                oldest: stream.oldest,
                newest: stream.newest,
                inflow: stream.inflow(),
                live: stream.live,
                priority,
                promised,
                achieved: lost.map_or(reach, |loss| reach.min(now.since(loss.recorded))),
                lost,
            }
        })
        .collect();
    let known: HashSet<&str> = survey.streams.iter().map(|stream| stream.name.as_str()).collect();
    let vanished = history.lost.keys().filter(|(tree, name)| *tree == policy.tree && !known.contains(name.as_str()));
    out.extend(vanished.filter_map(|(_, name)| {
        let stream = StreamId::new(name);
        let (promised, priority) = promise(&stream);
        let lost = Some(lost(name, promised)?);
        Some(Standing {
            tree: policy.tree.clone(),
            stream,
            recordings: Tally::default(),
            oldest: None,
            newest: None,
            inflow: Bytes::ZERO,
            live: false,
            priority,
            promised,
            achieved: Duration::ZERO,
            lost,
        })
    }));
    sort(&mut out);
    out
}

/// Puts streams, also of several trees, into their order: the worst first.
pub fn sort(standings: &mut [Standing]) {
    standings.sort_by(|one, other| one.order().cmp(&other.order()).then(one.tree.cmp(&other.tree)));
}

/// What the worst stream of a tree is promised, and what it has; without any promise nothing is promised, and the tree's oldest recording
/// says how far it reaches back.
#[must_use]
pub fn worst(standings: &[Standing]) -> (Duration, Duration) {
    match standings.first().filter(|worst| !worst.promised.is_zero()) {
        Some(worst) => (worst.promised, worst.achieved),
        None => (Duration::ZERO, standings.iter().map(|one| one.achieved).max().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conditions::tests::kept;
    use crate::domain::survey::StreamSurvey;

    const DAY: i64 = 86_400;
    const NOW: i64 = 100 * DAY;

    fn ago(days: i64) -> Timestamp {
        Timestamp::from_secs(NOW - days * DAY)
    }

    fn stream(name: &str, oldest: Option<i64>) -> StreamSurvey {
        StreamSurvey {
            name: StreamId::new(name),
            recordings: Tally { files: u64::from(oldest.is_some()), bytes: Bytes::MIB },
            lately: Tally::default(),
            over: Duration::from_secs(86_400),
            oldest: oldest.map(ago),
            newest: oldest.map(|_| ago(0)),
            touched: None,
            live: false,
        }
    }

    /// Streams with the age in days of their oldest recording, and losses with how old the newest of them is now; then, the worst first,
    /// each stream with what it is promised, what it has, and whether its promise is broken.
    fn check(streams: &[(&str, Option<i64>)], lost: &[(&str, i64)], expected: &[(&str, u64, u64, bool)]) {
        // `gate/*` three days, `yard/*` ten, nothing else is promised anything.
        let policy = kept(&[("gate/*", 3), ("yard/*", 10)]);
        let survey =
            Survey { streams: streams.iter().map(|(name, days)| stream(name, *days)).collect(), ..Survey::default() };
        let mut history = History::default();
        for (name, days) in lost {
            let loss = Loss { recorded: ago(*days), at: ago(0) };
            history.lost.insert((policy.tree.clone(), (*name).to_owned()), loss);
            history.lost.insert((TreeId::new("other"), (*name).to_owned()), loss);
        }
        let found = standings(&policy, &survey, &history, Timestamp::from_secs(NOW));
        let days = |span: Duration| span.as_secs() / 86_400;
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.stream.as_str(), days(one.promised), days(one.achieved), one.broken()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_young_stream_is_short_and_has_lost_nothing() {
        check(&[("gate/a", Some(1))], &[], &[("gate/a", 3, 1, false)]);
        check(&[("gate/a", None)], &[], &[("gate/a", 3, 0, false)]);
    }

    #[test]
    fn what_was_deleted_of_a_promise_breaks_it_until_as_much_was_recorded_again() {
        check(&[("gate/a", Some(2))], &[("gate/a", 2)], &[("gate/a", 3, 2, true)]);
        check(&[("gate/a", Some(3))], &[("gate/a", 3)], &[("gate/a", 3, 3, false)]);
        // What is held from long ago fills no gap.
        check(&[("gate/a", Some(90))], &[("gate/a", 2)], &[("gate/a", 3, 2, true)]);
        check(&[("gate/a", Some(90))], &[("gate/a", 5)], &[("gate/a", 3, 90, false)]);
        // Without a promise none is broken: its rule was taken away, or its `keep` lowered.
        check(&[("hall/a", Some(2))], &[("hall/a", 1)], &[("hall/a", 0, 2, false)]);
    }

    #[test]
    fn a_stream_that_lost_everything_is_told_of_as_long_as_it_was_promised() {
        check(&[], &[("yard/a", 9)], &[("yard/a", 10, 0, true)]);
        check(&[], &[("yard/a", 10)], &[]);
    }

    #[test]
    fn the_worst_stands_first() {
        check(
            &[("hall/a", Some(1)), ("gate/a", Some(3)), ("gate/b", Some(2)), ("yard/a", Some(2)), ("yard/b", Some(40))],
            &[("gate/b", 2)],
            &[
                ("gate/b", 3, 2, true),
                ("yard/a", 10, 2, false),
                ("gate/a", 3, 3, false),
                ("yard/b", 10, 40, false),
                ("hall/a", 0, 1, false),
            ],
        );
    }
}
