//! What a platform is told in place of its media server, and what happens when it does not take it.
//!
//! Events are delivered in their order, one after the other, again and again until the platform took them. A platform that does not answer is
//! waited for. One that answers, and yet refuses an event, must not hold up all that come after it: after some patience the next one is tried,
//! and if the platform takes that, it was the event's fault, which is put aside and tried again later.

use std::collections::BTreeSet;
use std::time::Duration;

use super::media::HookEvent;
use super::names::MediaServerId;
use super::units::Timestamp;

/// The first wait after a failed delivery; each further one is twice as long …
const FIRST: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(30);
/// An event whose refusal looks final holds up the others for so long at most.
const FINAL: Duration = Duration::from_secs(30);
/// One at which the platform fails.
const FAULT: Duration = Duration::from_secs(300);
/// What waits, and has no relay any more, is dropped after this.
pub const ABANDONED: Duration = Duration::from_secs(7 * 86_400);
/// What was put aside is tried again after this.
pub const ASIDE: Duration = Duration::from_secs(3600);

/// What a platform made of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It took it, whatever it thinks of it: the media server would not ask again either.
    Taken,
    /// It answered with this status, and did not take it.
    Refused(u16),
    /// It did not answer.
    Silent,
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Forget the event, and go on with the next.
    Next,
    /// Try the same again after this.
    Wait(Duration),
    /// Try the one behind it now; if that is taken, put this one aside.
    Past,
    /// Put it aside, and go on with the next.
    Aside,
}

/// The line of events for one platform: how its first one does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    failures: u32,
    /// Since when the platform answers, and refuses.
    refused: Option<Duration>,
    /// Events that it refused for good while it took others.
    unwanted: BTreeSet<HookEvent>,
}

impl Line {
    /// What to do after an attempt at the first of the line; `aside` if it was put aside before.
    pub fn after(&mut self, event: HookEvent, aside: bool, heard: Heard, now: Duration) -> Step {
        match heard {
            Heard::Taken => {
                (self.failures, self.refused) = (0, None);
                self.unwanted.remove(&event);
                Step::Next
            }
            Heard::Silent => {
                self.refused = None;
                Step::Wait(self.wait())
            }
            Heard::Refused(_) if aside => Step::Aside,
            Heard::Refused(status) if is_final(status) && self.unwanted.contains(&event) => Step::Aside,
            Heard::Refused(status) => {
                let since = *self.refused.get_or_insert(now);
                let patience = if is_final(status) { FINAL } else { FAULT };
                let wait = self.wait();
                if now.saturating_sub(since) >= patience { Step::Past } else { Step::Wait(wait) }
            }
        }
    }

    /// The platform took the one behind the first: the first is put aside.
    pub fn passed(&mut self, first: HookEvent, status: u16) {
        (self.failures, self.refused) = (0, None);
        if is_final(status) {
            self.unwanted.insert(first);
        }
    }

    /// How long to wait after one more failure.
    pub fn wait(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// Whether a status says that the same will never be taken; those of a server that has too much to do say nothing of the kind.
fn is_final(status: u16) -> bool {
    (300..500).contains(&status) && ![408, 425, 429].contains(&status)
}

/// How the relay to a media server's platform does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// Events that wait for the platform.
    pub waiting: u64,
    /// When the first of them was told.
    pub oldest: Option<Timestamp>,
    /// Those of them that the platform refuses.
    pub aside: u64,
    /// Events that were dropped since the guard was started, for want of room.
    pub dropped: u64,
    /// Since when no delivery succeeds.
    pub failing: Option<Timestamp>,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// The same, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayView {
    /// The media server.
    pub media_server: MediaServerId,
    /// How its relay does.
    pub status: RelayStatus,
    /// Since when there is none any more, though something waits for it.
    pub unrelayed: Option<Timestamp>,
}

impl RelayView {
    /// When what waits is dropped, unless there is a relay again.
    #[must_use]
    pub fn kept_until(&self) -> Option<Timestamp> {
        self.unrelayed.map(|since| since.plus(ABANDONED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MP4: HookEvent = HookEvent::RecordMp4;
    const FLOW: HookEvent = HookEvent::FlowReport;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_silent_platform_is_waited_for_ever_longer_and_never_passed() {
        let mut line = Line::default();
        let waits: Vec<_> = (0..8).map(|at| line.after(MP4, false, Heard::Silent, secs(at * 3600))).collect();
        assert_eq!(waits[..6], [1, 2, 4, 8, 16, 30].map(|wait| Step::Wait(secs(wait))));
        assert_eq!(waits[7], Step::Wait(LONGEST));
        assert_eq!(line.after(MP4, false, Heard::Taken, secs(9)), Step::Next);
        assert_eq!(line.after(MP4, false, Heard::Silent, secs(9)), Step::Wait(FIRST), "a success begins anew");
    }

    #[test]
    fn who_refuses_one_event_gets_the_next_after_some_patience() {
        for (status, patience) in [(404, 30), (400, 30), (302, 30), (500, 300), (503, 300), (429, 300), (200, 300)] {
            let mut line = Line::default();
            let mut at = |now| line.after(FLOW, false, Heard::Refused(status), secs(now));
            assert_eq!(at(100), Step::Wait(FIRST), "{status}");
            assert!(matches!(at(100 + patience - 1), Step::Wait(_)), "{status}");
            assert_eq!(at(100 + patience), Step::Past, "{status}");
        }
        let mut line = Line::default();
        line.after(FLOW, false, Heard::Refused(404), secs(0));
        line.after(FLOW, false, Heard::Silent, secs(20));
        assert!(matches!(line.after(FLOW, false, Heard::Refused(404), secs(40)), Step::Wait(_)), "it was away");
    }

    #[test]
    fn an_event_that_is_refused_for_good_holds_up_the_others_once() {
        let mut line = Line::default();
        line.passed(FLOW, 404);
        assert_eq!(line.after(FLOW, false, Heard::Refused(404), secs(0)), Step::Aside);
        assert!(matches!(line.after(MP4, false, Heard::Refused(404), secs(0)), Step::Wait(_)));
        assert!(matches!(line.after(FLOW, false, Heard::Refused(500), secs(0)), Step::Wait(_)));
        assert_eq!(line.after(FLOW, true, Heard::Refused(500), secs(0)), Step::Aside, "once an hour, and no longer");
        assert_eq!(line.after(FLOW, true, Heard::Taken, secs(0)), Step::Next);
        assert!(matches!(line.after(FLOW, false, Heard::Refused(404), secs(0)), Step::Wait(_)), "it is wanted again");
    }
}
