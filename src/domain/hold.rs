//! What persons hold, ready to be asked about any recording.

use std::collections::HashMap;
use std::time::Duration;

use super::names::StreamId;
use super::path::RelPath;
use super::protection::{Hold, HoldScope};
use super::recording::{Inventory, Recording};
use super::units::Timestamp;

/// A reason has at most so many characters.
const REASON: usize = 1000;
/// What was changed later than this after its name's time was copied rather than recorded until then.
const SLICE: Duration = Duration::from_secs(86_400);

/// The holds of one tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    all: Vec<Hold>,
    /// Of which of them a path is one.
    paths: HashMap<RelPath, Vec<usize>>,
    /// Below which directories paths of theirs lie.
    above: HashMap<RelPath, Vec<usize>>,
    /// Which of them are about a span of a stream.
    streams: HashMap<StreamId, Vec<usize>>,
}

impl Holds {
    /// These.
    #[must_use]
    pub fn new(all: Vec<Hold>) -> Self {
        let mut out = Self::default();
        for (at, hold) in all.iter().enumerate() {
            match &hold.scope {
                HoldScope::Paths(paths) => paths.iter().for_each(|path| out.enter(path, at)),
                HoldScope::Span { stream, .. } => out.streams.entry(stream.clone()).or_default().push(at),
            }
        }
        out.all = all;
        out
    }

    fn enter(&mut self, path: &RelPath, at: usize) {
        self.paths.entry(path.clone()).or_default().push(at);
        let mut dir = path.split().0;
        while let Some(above) = dir {
            dir = above.split().0;
            let entered = self.above.entry(above).or_default();
            if entered.last() == Some(&at) {
                // So are all above it.
                return;
            }
            entered.push(at);
        }
    }

    /// Nobody holds anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.all.iter()
    }

    /// Those that name a recording; one that is a directory is named with any file in it.
    pub fn naming(&self, path: &RelPath) -> impl Iterator<Item = &Hold> {
        let at = [self.paths.get(path), self.above.get(path)].into_iter().flatten().flatten();
        at.map(|at| &self.all[*at])
    }

    /// Those that are about a span of a stream into which a recording reaches.
    pub fn spanning(&self, stream: &StreamId, reach: Option<Reach>) -> impl Iterator<Item = &Hold> {
        let of_stream = self.streams.get(stream).into_iter().flatten().map(|at| &self.all[*at]);
        of_stream.filter(move |hold| hold.scope.reached_by(reach))
    }

    /// Whether any is about a span of this stream.
    #[must_use]
    pub fn know(&self, stream: &StreamId) -> bool {
        self.streams.contains_key(stream)
    }
}

/// From when to when a recording of an inventory was recorded.
#[must_use]
pub fn reach_of(inventory: &Inventory, seen: &Recording) -> Option<Reach> {
    let mut reach = Reach::of(seen.named, Some(seen.modified))?;
    if let Some(oldest) = inventory.unit(seen.index).and_then(|unit| unit.oldest) {
        reach.from = oldest;
    }
    Some(reach)
}

/// From when to when a recording was recorded, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

impl Reach {
    /// By the time in a name, which is when it was begun, and the last change, which is when it was finished, unless it is a copy.
    /// Nothing is known without either.
    #[must_use]
    pub fn of(named: Option<Timestamp>, modified: Option<Timestamp>) -> Option<Self> {
        let from = named.or(modified)?;
        // What cannot be looked at may have been written for as long as any.
        let to = match modified {
            Some(modified) if modified >= from && modified.since(from) <= SLICE => modified,
            Some(_) => from,
            None => from.plus(SLICE),
        };
        Some(Self { from, to })
    }
}

impl HoldScope {
    /// A recording that reaches so far has a part in it; one of which that is not known may have.
    #[must_use]
    pub fn reached_by(&self, reach: Option<Reach>) -> bool {
        match (self, reach) {
            (Self::Paths(_), _) => false,
            (Self::Span { .. }, None) => true,
            (Self::Span { from, to, .. }, Some(reach)) => *from <= reach.to && reach.from < *to,
        }
    }

    /// What it covers, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Paths(paths) => match paths.as_slice() {
                [one] => format!("`{}`", one.show().0),
                [one, others @ ..] => format!("`{}` and {} more", one.show().0, others.len()),
                [] => "nothing".to_owned(),
            },
            Self::Span { stream, from, to } => format!("stream {stream} from {from} to {to}"),
        }
    }
}

impl Hold {
    /// Whether it has not ended by itself at `at`.
    #[must_use]
    pub fn in_effect(&self, at: Timestamp) -> bool {
        self.until.is_none_or(|until| until > at)
    }
}

/// What can be a person's reason, without the blanks around it.
///
/// # Errors
/// A sentence that says what it must be.
pub fn reason(text: &str) -> Result<&str, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON || text.chars().any(char::is_control) {
        return Err(format!("`reason` must be a line of 1 to {REASON} characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::names::TreeId;
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn hold(id: u64, scope: HoldScope) -> Hold {
        let (reason, who) = ("why".to_owned(), "ops".to_owned());
        Hold { id, tree: TreeId::new("live"), scope, reason, who, made: at(0), until: None }
    }

    #[test]
    fn a_path_is_held_by_its_own_name_and_a_directory_by_what_lies_in_it() {
        let holds = Holds::new(vec![
            hold(1, HoldScope::Paths(vec![path("live/cam/2026-01-01/10/a.ts"), path("live/cam/2026-01-02")])),
            hold(2, HoldScope::Paths(vec![path("live/cam/2026-01-02")])),
        ]);
        let check = |text: &str, expected: &[u64]| {
            let mut found: Vec<u64> = holds.naming(&path(text)).map(|hold| hold.id).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{text}");
        };
        check("live/cam/2026-01-01/10/a.ts", &[1]);
        check("live/cam/2026-01-01", &[1]);
        check("live/cam/2026-01-02", &[1, 2]);
        check("live/cam/2026-01-03", &[]);
        check("live/cam/2026-01-02/10/b.ts", &[]);
        check("live/ca", &[]);
    }

    #[test]
    fn a_span_covers_every_recording_of_its_stream_that_reaches_into_it() {
        let stream = StreamId::new("live/cam");
        let span = HoldScope::Span { stream: stream.clone(), from: at(1000), to: at(2000) };
        let holds = Holds::new(vec![hold(1, span)]);
        let check = |named: Option<i64>, modified: Option<i64>, expected: bool| {
            let reach = Reach::of(named.map(at), modified.map(at));
            assert_eq!(holds.spanning(&stream, reach).count() == 1, expected, "{named:?} {modified:?}");
            assert_eq!(holds.spanning(&StreamId::new("live/other"), reach).count(), 0);
        };
        // Begun before it, and finished in it.
        check(Some(900), Some(1000), true);
        check(Some(900), Some(999), false);
        check(Some(1000), Some(1500), true);
        check(Some(1999), Some(2500), true);
        // The end is not part of it.
        check(Some(2000), Some(2500), false);
        // A copy bears the time at which it was made.
        check(Some(900), Some(900 + 86_401), false);
        check(Some(1500), Some(100), true);
        check(None, Some(1500), true);
        check(None, Some(2000), false);
        // What cannot be looked at may reach into it; where nothing is known, too.
        check(Some(900), None, true);
        check(None, None, true);
    }

    #[test]
    fn an_end_is_exclusive_and_a_reason_is_a_line() {
        let mut one = hold(1, HoldScope::Paths(vec![path("a")]));
        assert!(one.in_effect(at(i64::MAX / 2000)));
        one.until = Some(at(10));
        assert!(one.in_effect(at(9)) && !one.in_effect(at(10)));
        assert_eq!(reason("  a case "), Ok("a case"));
        for bad in ["", " \n", "two\nlines", &"x".repeat(REASON + 1)] {
            assert!(reason(bad).is_err(), "{bad:?}");
        }
    }
}
