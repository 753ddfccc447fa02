//! Shapes of jobs, caps, failures, the journal and alerts. Names and units are those of the contract.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::shapes::Path;
use crate::domain::alert::{Condition, Subject, Wording};
use crate::domain::deletion::{Attempt, Failure as DomainFailure, Seq};
use crate::domain::journal::{Entry, JournalLine, NoteKind};
use crate::domain::silence::{Mute, Silence as DomainSilence};
use crate::domain::units::Timestamp;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It has not begun.
    Queued,
    /// It is being carried out.
    Running,
    /// Only retries are left.
    Waiting,
    /// It is over.
    Done,
    /// A person ended it before all was done.
    Cancelled,
}

/// `GET /api/v1/jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// What it does: `plan`, `deletion`, `adopt`, `quarantine`, `delete`, `restore` or `remove_rows`.
    pub kind: &'static str,
    /// Where it stands.
    pub state: JobState,
    /// How many recordings, or rows, it is about.
    pub total: u64,
    /// Looked for and found as it should be: a deleted file not there any more (those that were gone before are among them), one that was
    /// set aside or put back where it belongs, a row inserted, a row gone.
    pub verified: u64,
    /// Still there, and tried again no more.
    pub failed: u64,
    /// Still there, and tried again later.
    pub waiting: u64,
    /// Spared by a rule.
    pub kept: u64,
    /// Allocated bytes that were to come back.
    pub expected_bytes: u64,
    /// What came back, as measured.
    pub reclaimed_bytes: u64,
    /// When it began.
    pub started: Option<String>,
    /// When it ended.
    pub finished: Option<String>,
    /// Why it ended before all was done; `null` if it did not.
    pub problem: Option<Problem>,
    /// Items that `GET /api/v1/jobs/{id}/items` does not give, since they are too many.
    pub items_left_out: u64,
}

/// Why a job ended before all was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A word that programs can rely on: as in refusals, or `failed`.
    pub code: &'static str,
    /// Object, reason and remedy, for people.
    pub message: String,
}

/// One recording of `GET /api/v1/jobs/{id}/items`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobItem {
    /// Its tree.
    pub tree: String,
    /// Its path below the tree.
    #[serde(flatten)]
    pub path: Path,
    /// `verified`, `already_gone`, `failed` or `kept`; `null` before the first attempt.
    pub outcome: Option<&'static str>,
    /// Why it failed.
    pub cause: Option<&'static str>,
    /// Who has it open.
    pub holder: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub next_attempt: Option<String>,
    /// Allocated bytes.
    pub bytes: u64,
    /// What else there is to say: why it was kept, what the system said.
    pub detail: Option<String>,
}

/// One line of `GET /api/v1/journal`.
#[derive(Debug, Serialize)]
pub struct JournalEntry {
    /// Its number.
    pub seq: u64,
    /// When it was written.
    pub time: String,
    /// `deletion`, or what a note is about.
    pub kind: &'static str,
    /// The tree.
    pub tree: Option<String>,
    /// The volume, where a note concerns one.
    pub volume: Option<String>,
    /// The path below the tree.
    pub path: Option<String>,
    /// Present and true if the path is encoded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub encoded: bool,
    /// The stream.
    pub stream: Option<String>,
    /// Allocated bytes.
    pub bytes: u64,
    /// The rule that chose it.
    pub rule: Option<&'static str>,
    /// What it is counted under.
    pub trigger: Option<&'static str>,
    /// How it ended; `null` for a note, and while it is open.
    pub outcome: Option<&'static str>,
    /// Why it failed.
    pub cause: Option<&'static str>,
    /// Who has it open.
    pub holder: Option<String>,
    /// Why it was chosen, in words.
    pub reason: Option<String>,
    /// What else there is to say: the text of a note, why it was kept, what the system said.
    pub note: Option<String>,
    /// Who wanted it.
    pub who: String,
    /// The job that it belongs to.
    pub job: Option<u64>,
    /// The run that it belongs to.
    pub run: Option<u64>,
    /// Number of the intent.
    pub intent: Option<u64>,
    /// The chain's hash, in hexadecimal digits.
    pub hash: String,
}

/// `GET /api/v1/journal/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Entries that are in order.
    pub entries: u64,
    /// What is wrong; empty when the chain is intact.
    pub faults: Vec<String>,
}

/// One of `GET /api/v1/caps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cap {
    /// The tree.
    pub tree: String,
    /// `run_share` or `orphan_share`.
    pub cap: &'static str,
    /// Bytes that were to go.
    pub wanted: u64,
    /// Bytes that may go.
    pub allowed: u64,
    /// When it tripped.
    pub since: String,
}

/// One of `GET /api/v1/failures`.
#[derive(Debug, Serialize)]
pub struct FailureItem {
    /// Its number.
    pub id: u64,
    /// Its tree.
    pub tree: String,
    /// Its path below the tree.
    #[serde(flatten)]
    pub path: Path,
    /// Its stream.
    pub stream: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// Why it failed last.
    pub cause: &'static str,
    /// What the system said last.
    pub error: String,
    /// Who had it open last.
    pub holder: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub next_attempt: String,
    /// When it first failed.
    pub since: String,
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Its condition has not lasted long enough.
    Pending,
    /// It is told.
    Firing,
    /// It is over.
    Resolved,
}

/// One of `GET /api/v1/alerts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its name.
    pub alert: &'static str,
    /// `info`, `warning` or `critical`.
    pub severity: &'static str,
    /// Where it stands.
    pub state: AlertState,
    /// Since when.
    pub since: String,
    /// The tree or volume.
    pub labels: BTreeMap<&'static str, String>,
    /// A sentence.
    pub summary: String,
    /// Numbers, causes, holders, and what to do.
    pub description: String,
    /// Why nobody is told of it; `null` if everybody is.
    pub muted_by: Option<MutedBy>,
    /// When it was over; `null` while it is not.
    pub ended: Option<String>,
}

/// Why nobody is told of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum MutedBy {
    /// A person does not want to be.
    Silence {
        /// The number of the silence.
        silence: u64,
        /// When it ends.
        until: String,
    },
    /// A critical alert about the same thing fires.
    Alert {
        /// Its name.
        alert: &'static str,
    },
}

impl From<Mute> for MutedBy {
    fn from(mute: Mute) -> Self {
        match mute {
            Mute::Silence { id, until } => Self::Silence { silence: id, until: until.to_string() },
            Mute::Alert(alert) => Self::Alert { alert: alert.as_str() },
        }
    }
}

/// The body of `POST /api/v1/silences`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// Alerts of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// Alerts about this tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// Alerts about this volume, and about the trees on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Every alert: said, since nothing else is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// When it ends by itself.
    #[serde(default)]
    pub until: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// The answer to `POST /api/v1/silences`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SilenceMade {
    /// Its number.
    pub id: u64,
    /// False while the state cannot be written: it is in effect, and a restart would forget it.
    pub durable: bool,
}

/// One of `GET /api/v1/silences`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silence {
    /// Its number.
    pub id: u64,
    /// Alerts of this name only.
    pub alert: Option<&'static str>,
    /// Alerts about this tree only.
    pub tree: Option<String>,
    /// Alerts about this volume, and about the trees on it, only.
    pub volume: Option<String>,
    /// When it ends by itself.
    pub until: String,
    /// Why it was made.
    pub reason: String,
    /// Who made it.
    pub who: String,
    /// When it was made.
    pub created: String,
    /// When it ended; `null` while it is in effect.
    pub ended: Option<String>,
}

impl From<&DomainSilence> for Silence {
    fn from(silence: &DomainSilence) -> Self {
        let matchers = &silence.matchers;
        Self {
            id: silence.id,
            alert: matchers.alert.map(|alert| alert.as_str()),
            tree: matchers.tree.as_ref().map(ToString::to_string),
            volume: matchers.volume.as_ref().map(ToString::to_string),
            until: silence.until.to_string(),
            reason: silence.reason.clone(),
            who: silence.who.clone(),
            created: silence.created.to_string(),
            ended: silence.ended.map(|at| at.to_string()),
        }
    }
}

/// The answer to `POST /api/v1/channels/{name}/test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTest {
    /// The receiver took the message.
    pub delivered: bool,
    /// What was said, line by line, without secrets.
    pub transcript: Vec<String>,
}

/// What an alert is about, as labels.
#[must_use]
pub fn labels(subject: &Subject) -> BTreeMap<&'static str, String> {
    subject.label().into_iter().map(|(label, name)| (label, name.to_owned())).collect()
}

impl Alert {
    /// The alert that a condition has become.
    #[must_use]
    pub fn of(condition: &Condition, wording: Wording, state: AlertState, since: Timestamp) -> Self {
        Self {
            alert: condition.alert.as_str(),
            severity: condition.severity.as_str(),
            state,
            since: since.to_string(),
            labels: labels(&condition.subject),
            summary: wording.summary,
            description: wording.description,
            muted_by: None,
            ended: None,
        }
    }
}

impl From<&DomainFailure> for FailureItem {
    fn from(failure: &DomainFailure) -> Self {
        Self {
            id: failure.id,
            tree: failure.target.tree.to_string(),
            path: Path::from(&failure.target.path),
            stream: failure.target.stream.clone(),
            bytes: failure.target.bytes.0,
            cause: failure.cause.as_str(),
            error: failure.error.clone(),
            holder: failure.holder.as_ref().map(ToString::to_string),
            attempts: failure.attempts,
            next_attempt: failure.next_attempt.to_string(),
            since: failure.since.to_string(),
        }
    }
}

impl From<&JournalLine> for JournalEntry {
    fn from(line: &JournalLine) -> Self {
        let mut entry = Self {
            seq: line.seq.0,
            time: line.at.to_string(),
            kind: "deletion",
            tree: None,
            volume: None,
            path: None,
            encoded: false,
            stream: None,
            bytes: 0,
            rule: None,
            trigger: None,
            outcome: None,
            cause: None,
            holder: None,
            reason: None,
            note: None,
            who: String::new(),
            job: None,
            run: None,
            intent: None,
            hash: hex(&line.hash),
        };
        if let Some(Entry::Note { kind, volume, tree, who, bytes, text, number }) = &line.note {
            entry.kind = kind.as_str();
            entry.volume = volume.as_ref().map(ToString::to_string);
            entry.tree = tree.as_ref().map(ToString::to_string);
            entry.who.clone_from(who);
            entry.bytes = bytes.0;
            entry.note = Some(text.clone());
            if matches!(kind, NoteKind::Restored | NoteKind::Rows) {
                // The first line is the path, as it is shown.
                let (path, how) = text.split_once('\n').unwrap_or((text.as_str(), "put back"));
                (entry.path, entry.note) = (Some(path.to_owned()), Some(how.to_owned()));
            }
            if *kind == NoteKind::Restored {
                // The number is that of the intent that set it aside.
                entry.intent = Some(*number);
            }
        }
        if let Some((Seq(seq), intent)) = &line.intent {
            let (path, encoded) = intent.target.path.show();
            entry.intent = Some(*seq);
            entry.tree = Some(intent.target.tree.to_string());
            entry.path = Some(path);
            entry.encoded = encoded;
            entry.stream = Some(intent.target.stream.clone());
            entry.bytes = intent.target.bytes.0;
            entry.rule = Some(intent.target.rule.as_str());
            entry.trigger = Some(intent.target.trigger.as_str());
            entry.reason = Some(intent.target.reason.clone());
            entry.who.clone_from(&intent.who);
            entry.job = intent.job;
            entry.run = Some(intent.run);
        }
        if let Some(attempt) = &line.attempt {
            entry.outcome = Some(attempt.outcome().as_str());
            match attempt {
                Attempt::Verified { freed, open, .. } => {
                    entry.bytes = freed.0;
                    entry.note = open.then(|| "deleted while a process held it open".to_owned());
                }
                Attempt::AlreadyGone => {}
                Attempt::Kept { why } => entry.note = Some(why.clone()),
                Attempt::Failed { cause, error, holder } => {
                    entry.cause = Some(cause.as_str());
                    entry.note = Some(error.clone());
                    entry.holder = holder.as_ref().map(ToString::to_string);
                }
            }
        }
        entry
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::deletion::{Cause, Holder, RuleKind, Target};
    use crate::domain::journal::Intent;
    use crate::domain::names::TreeId;
    use crate::domain::path::RelPath;
    use crate::domain::units::Bytes;

    fn target(path: &[u8]) -> Target {
        Target {
            tree: TreeId::new("live"),
            path: RelPath::new(path).unwrap(),
            stream: "live/cam".to_owned(),
            recorded: None,
            bytes: Bytes(4096),
            inode: 7,
            fingerprint: 9,
            rule: RuleKind::MaxAge,
            trigger: RuleKind::MaxAge.trigger(),
            reason: "older than 30d".to_owned(),
        }
    }

    fn line(attempt: Option<Attempt>) -> JournalLine {
        let intent = Intent { target: target(b"a\n.mp4"), who: "ops".to_owned(), job: Some(3), run: 8, retry_of: None };
        JournalLine {
            seq: Seq(12),
            at: Timestamp::from_secs(0),
            hash: [0xab; 32],
            intent: Some((Seq(11), intent)),
            attempt,
            note: None,
        }
    }

    fn check(line: &JournalLine, expected: &[(&str, serde_json::Value)]) {
        let shape = serde_json::to_value(JournalEntry::from(line)).unwrap();
        for (key, value) in expected {
            assert_eq!(shape.get(key), Some(value), "{key} of {shape}");
        }
        for key in "seq time tree path stream bytes rule trigger outcome cause who job hash".split(' ') {
            assert!(shape.get(key).is_some(), "{key} is missing");
        }
    }

    #[test]
    fn what_mutes_an_alert_is_a_silence_or_an_alert() {
        use crate::domain::alert::AlertName;
        for (mute, expected) in [
            (
                Mute::Silence { id: 3, until: Timestamp::from_secs(0) },
                serde_json::json!({"silence": 3, "until": "1970-01-01T00:00:00Z"}),
            ),
            (Mute::Alert(AlertName::VolumeExhausted), serde_json::json!({"alert": "VolumeExhausted"})),
        ] {
            assert_eq!(serde_json::to_value(MutedBy::from(mute)).unwrap(), expected);
        }
    }

    #[test]
    fn journal_lines_hold_what_the_contract_names() {
        let failed = Attempt::Failed {
            cause: Cause::InUse,
            error: "text file busy".to_owned(),
            holder: Some(Holder { pid: 41, name: "MediaServer".to_owned() }),
        };
        check(
            &line(Some(failed)),
            &[
                ("path", "a%0A.mp4".into()),
                ("encoded", true.into()),
                ("outcome", "failed".into()),
                ("cause", "in_use".into()),
                ("holder", "MediaServer (pid 41)".into()),
                ("note", "text file busy".into()),
                ("reason", "older than 30d".into()),
                ("trigger", "retention".into()),
                ("job", 3.into()),
                ("intent", 11.into()),
                ("hash", "ab".repeat(32).into()),
            ],
        );
        let freed = Attempt::Verified { freed: Bytes(8192), shared: Bytes::ZERO, open: false };
        check(&line(Some(freed)), &[("bytes", 8192.into()), ("outcome", "verified".into()), ("note", ().into())]);
        check(&line(None), &[("outcome", ().into()), ("kind", "deletion".into())]);
        let note = Entry::Note {
            kind: NoteKind::CapTripped,
            volume: None,
            tree: Some(TreeId::new("live")),
            who: "guard".to_owned(),
            bytes: Bytes(5),
            number: 0,
            text: "run_share".to_owned(),
        };
        check(
            &JournalLine { intent: None, note: Some(note), ..line(None) },
            &[("kind", "cap_tripped".into()), ("path", ().into()), ("note", "run_share".into()), ("bytes", 5.into())],
        );
        for (how, expected) in [(None, "put back"), (Some("it is lost"), "it is lost")] {
            let note = Entry::restored(Seq(11), &target(b"a\n.mp4"), "ops", how);
            check(
                &JournalLine { intent: None, note: Some(note), ..line(None) },
                &[
                    ("kind", "restored".into()),
                    ("path", "a%0A.mp4".into()),
                    ("note", expected.into()),
                    ("intent", 11.into()),
                    ("who", "ops".into()),
                ],
            );
        }
    }
}
