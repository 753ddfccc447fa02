//! What is known of something that is wrong: facts under constant names, of which each language makes its own sentences.

use std::collections::BTreeMap;
use std::time::Duration;

use super::canary::ProbeFault;
use super::catalogue::Distrust;
use super::deletion::words;
use super::ending::Ending;
use super::live::Unreached;
use super::units::{Bytes, Timestamp};
use super::volume::Unusable;

words! {
    /// Name of a fact, as templates and rows write it.
    FactName {
        /// Bytes that an unprivileged writer has.
        Available = "available",
        /// Bytes of the whole volume.
        Size = "size",
        /// Bytes to the low mark, or that did not come back.
        Missing = "missing",
        /// Inodes to the low mark.
        MissingInodes = "missing_inodes",
        /// How long it has lasted.
        Lasting = "lasting",
        /// Since when.
        Since = "since",
        /// How the last run ended.
        LastRun = "last_run",
        /// Bytes of the deficit that others caused.
        Foreign = "foreign",
        /// The largest directories of others.
        Largest = "largest",
        /// All directories of others were looked at.
        Complete = "complete",
        /// Recordings whose blocks are shared.
        SharedFiles = "shared_files",
        /// Bytes that a snapshot or a reflink shares.
        Shared = "shared",
        /// Why it is so.
        Why = "why",
        /// What the system said.
        Detail = "detail",
        /// A path.
        Path = "path",
        /// A tree.
        Tree = "tree",
        /// What differs: a word.
        Difference = "difference",
        /// What was found instead.
        Found = "found",
        /// The cap.
        Cap = "cap",
        /// Bytes that were to be deleted.
        Wanted = "wanted",
        /// Bytes that are allowed.
        Allowed = "allowed",
        /// Processes that have files open.
        Holders = "holders",
        /// Causes, and how many files each concerns.
        Causes = "causes",
        /// Bytes that were deleted.
        Deleted = "deleted",
        /// Recordings that could not be deleted.
        Failed = "failed",
        /// Bytes of recordings that could not be deleted.
        FailedBytes = "failed_bytes",
        /// Where the tree lies.
        Directory = "directory",
        /// Recordings that were not begun.
        Left = "left",
        /// Bytes of deleted files that are still open.
        Open = "open",
        /// Bytes of a probe file.
        Probe = "probe",
        /// What a catalogue is.
        Kind = "kind",
        /// Trees that a catalogue is a witness for.
        Trees = "trees",
        /// Rows of a catalogue, at its last trusted reading or, within a reason, as found.
        Rows = "rows",
        /// When a catalogue was last read and trusted.
        LastRead = "last_read",
        /// One of several.
        Example = "example",
        /// A media server.
        MediaServer = "media_server",
        /// Rows that are gone while their files are there.
        Lost = "lost",
        /// A share, as configured.
        Share = "share",
        /// Recordings of a tree.
        Recordings = "recordings",
        /// Bytes by which orphans grew within a day.
        Grown = "grown",
        /// Bytes that were recorded meanwhile.
        Recorded = "recorded",
        /// Recordings that are proven to be uncatalogued.
        Uncatalogued = "uncatalogued",
        /// Their bytes.
        UncataloguedBytes = "uncatalogued_bytes",
        /// Unfinished files that nobody touches any more.
        Leftovers = "leftovers",
        /// Their bytes.
        LeftoverBytes = "leftover_bytes",
        /// How many streams it is about.
        Streams = "streams",
        /// The first of them.
        Names = "names",
        /// Volumes.
        Volumes = "volumes",
        /// How long the worst stream is to be kept.
        Promised = "promised",
        /// How far back it reaches.
        Achieved = "achieved",
        /// An archive.
        Archive = "archive",
        /// How long everything that is promised can be kept, where that is shorter.
        Fits = "fits",
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A word of a closed list, a name, or what the system said.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// A number of files or inodes.
    Count(u64),
    /// Yes or no.
    Flag(bool),
    /// A span of time.
    Span(Duration),
    /// A moment.
    Time(Timestamp),
    /// Names.
    Names(Vec<String>),
    /// Words or names with a number each.
    Counts(Vec<(String, u64)>),
    /// Names with bytes each.
    Sizes(Vec<(String, Bytes)>),
    /// A reason, with facts of its own.
    Reason(Reason),
}

/// Facts by name.
pub type Facts = BTreeMap<FactName, Fact>;

/// A value of one of our enums that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The word for it.
    pub word: String,
    /// The same as a clause in English.
    pub text: String,
    /// Its numbers and names.
    pub facts: Facts,
}

impl Reason {
    fn new<const N: usize>(word: &str, why: &impl ToString, facts: [(FactName, Fact); N]) -> Self {
        Self { word: word.to_owned(), text: why.to_string(), facts: Facts::from(facts) }
    }
}

fn text(of: &impl ToString) -> Fact {
    Fact::Text(of.to_string())
}

impl From<&Unusable> for Reason {
    fn from(why: &Unusable) -> Self {
        match why {
            Unusable::NotYet => Self::new("not_yet", why, []),
            Unusable::Failed(detail) => Self::new("failed", why, [(FactName::Detail, text(detail))]),
            Unusable::TimedOut(span) => Self::new("timed_out", why, [(FactName::Lasting, Fact::Span(*span))]),
            Unusable::NoSize => Self::new("no_size", why, []),
            Unusable::Replaced { path, difference } => {
                let facts = [(FactName::Path, text(path)), (FactName::Difference, text(difference))];
                Self::new("replaced", why, facts)
            }
            Unusable::Marker { tree, fault } => {
                let found = fault.found().map(|found| (FactName::Found, text(&found)));
                let mut reason = Self::new("marker", why, [(FactName::Tree, text(tree))]);
                reason.facts.insert(FactName::Difference, text(&fault.word()));
                reason.facts.extend(found);
                reason
            }
            Unusable::ReadOnly => Self::new("read_only", why, []),
        }
    }
}

impl From<&Ending> for Reason {
    fn from(why: &Ending) -> Self {
        match why {
            Ending::Unbegun => Self::new("unbegun", why, []),
            Ending::ReachedLow => Self::new("reached_low", why, []),
            Ending::Asked => Self::new("asked", why, []),
            // What made the volume unusable says more than that the run ended for it.
            Ending::Unusable(unusable) => Self::from(unusable),
            Ending::Stopped { left } => Self::new("stopped", why, [(FactName::Left, Fact::Count(*left))]),
            Ending::ProcessLost { tree } => Self::new("process_lost", why, [(FactName::Tree, text(tree))]),
            Ending::AllShared { shared, deleted } => {
                let facts = [(FactName::Shared, Fact::Bytes(*shared)), (FactName::Deleted, Fact::Bytes(*deleted))];
                Self::new("all_shared", why, facts)
            }
            Ending::PartlyShared { missing, shared } => {
                let facts = [(FactName::Missing, Fact::Bytes(*missing)), (FactName::Shared, Fact::Bytes(*shared))];
                Self::new("partly_shared", why, facts)
            }
            Ending::Unexplained { missing } => {
                Self::new("unexplained", why, [(FactName::Missing, Fact::Bytes(*missing))])
            }
            Ending::HeldOpen { open } => Self::new("held_open", why, [(FactName::Open, Fact::Bytes(*open))]),
            Ending::Short { missing, inodes, failed } => {
                let facts = [
                    (FactName::Missing, Fact::Bytes(*missing)),
                    (FactName::MissingInodes, Fact::Count(*inodes)),
                    (FactName::Failed, Fact::Count(*failed)),
                ];
                Self::new("short", why, facts)
            }
        }
    }
}

impl From<&ProbeFault> for Reason {
    fn from(why: &ProbeFault) -> Self {
        match why {
            ProbeFault::NotWritten { tree, bytes, error } => {
                let facts = [
                    (FactName::Tree, text(tree)),
                    (FactName::Probe, Fact::Bytes(*bytes)),
                    (FactName::Detail, text(error)),
                ];
                Self::new("not_written", why, facts)
            }
            ProbeFault::NotDeleted { tree, error } => {
                Self::new("not_deleted", why, [(FactName::Tree, text(tree)), (FactName::Detail, text(error))])
            }
            ProbeFault::NotBack { tree, bytes, missing } => {
                let facts = [
                    (FactName::Tree, text(tree)),
                    (FactName::Probe, Fact::Bytes(*bytes)),
                    (FactName::Missing, Fact::Bytes(*missing)),
                ];
                Self::new("not_back", why, facts)
            }
        }
    }
}

impl From<&Unreached> for Reason {
    fn from(why: &Unreached) -> Self {
        match why {
            Unreached::Unanswered { error } | Unreached::Garbled { error } => {
                Self::new(why.as_str(), why, [(FactName::Detail, text(error))])
            }
            Unreached::Refused => Self::new(why.as_str(), why, []),
        }
    }
}

impl From<&Distrust> for Reason {
    fn from(why: &Distrust) -> Self {
        let detail = |error: &String| [(FactName::Detail, text(error))];
        match why {
            Distrust::NotYet => Self::new(why.as_str(), why, []),
            Distrust::Unanswered { error }
            | Distrust::Partial { error }
            | Distrust::Shape { error }
            | Distrust::Index { error } => Self::new(why.as_str(), why, detail(error)),
            Distrust::OtherServer { wanted, found } => {
                let facts = [(FactName::MediaServer, text(wanted)), (FactName::Found, Fact::Names(found.clone()))];
                Self::new(why.as_str(), why, facts)
            }
            Distrust::Elsewhere { rows, example } => {
                let facts = [(FactName::Rows, Fact::Count(*rows)), (FactName::Example, text(example))];
                Self::new(why.as_str(), why, facts)
            }
            Distrust::Empty { tree, files } => {
                let facts = [(FactName::Tree, text(tree)), (FactName::Recordings, Fact::Count(*files))];
                Self::new(why.as_str(), why, facts)
            }
            Distrust::Dropped { lost, before, allowed } => {
                let facts = [
                    (FactName::Lost, Fact::Count(*lost)),
                    (FactName::Rows, Fact::Count(*before)),
                    (FactName::Share, text(allowed)),
                ];
                Self::new(why.as_str(), why, facts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::marker::MarkerFault;
    use super::super::names::TreeId;
    use super::*;

    #[test]
    fn a_reason_keeps_its_word_its_clause_and_its_numbers() {
        let check = |reason: Reason, word: &str, clause: &str, facts: &[FactName]| {
            assert_eq!((reason.word.as_str(), reason.text.as_str()), (word, clause));
            assert_eq!(reason.facts.keys().copied().collect::<Vec<_>>(), facts);
        };
        let marker = |fault| Unusable::Marker { tree: "live".to_owned(), fault };
        check(Reason::from(&Unusable::NoSize), "no_size", "it reports a size of zero", &[]);
        check(
            Reason::from(&marker(MarkerFault::Missing)),
            "marker",
            "the identity marker of tree `live` is missing; if this is right, run `storage-guard init --accept live`",
            &[FactName::Tree, FactName::Difference],
        );
        check(
            Reason::from(&marker(MarkerFault::OtherTree("b".to_owned()))),
            "marker",
            "the identity marker of tree `live` is that of tree `b`; if this is right, run `storage-guard init --accept live`",
            &[FactName::Tree, FactName::Difference, FactName::Found],
        );
        check(
            Reason::from(&Ending::Unusable(Unusable::Failed("gone".to_owned()))),
            "failed",
            "it cannot be read: gone",
            &[FactName::Detail],
        );
        let fault = ProbeFault::NotBack { tree: TreeId::new("live"), bytes: Bytes::mib(64), missing: Bytes::mib(60) };
        check(
            Reason::from(&fault),
            "not_back",
            "60 MiB of a probe file of 64 MiB did not come back when it was deleted in tree `live`",
            &[FactName::Missing, FactName::Tree, FactName::Probe],
        );
    }
}
