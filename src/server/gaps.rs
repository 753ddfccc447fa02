//! Why a span of a stream is missing, as it is asked and shown.

use serde::Serialize;

use super::refusal::Refusal;
use super::shapes::Path;
use crate::domain::gap::{Done, Finding, Proof as DomainProof};
use crate::domain::gap_time::When;
use crate::domain::names::TreeId;

/// What is asked: `GET /api/v1/journal/explain?stream=&time=&to=&tree=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapQuery {
    /// The stream.
    pub stream: String,
    /// The moment or the span.
    pub when: When,
    /// In this tree only.
    pub tree: Option<String>,
}

impl GapQuery {
    /// What is asked, as it was written.
    ///
    /// # Errors
    /// 400 for what is no time.
    pub fn new(stream: &str, time: &str, to: Option<&str>, tree: Option<&str>) -> Result<Self, Refusal> {
        let when = When::parse(time, to).map_err(|why| Refusal::bad_request("bad_time", why))?;
        Ok(Self { stream: stream.to_owned(), when, tree: tree.map(str::to_owned) })
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The stream.
    pub stream: String,
    /// What became of each part of the span, in each tree that knows the stream.
    pub items: Vec<Part>,
    /// Findings beyond those that are given.
    pub left_out: usize,
    /// Always `null`: all that is known is given at once.
    pub next: Option<String>,
}

/// What became of a part of the span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The tree.
    pub tree: String,
    /// `recorded`, `quarantined`, `archived`, `deleted`, `removed`, `never_recorded` or `unknown`.
    pub verdict: &'static str,
    /// From when: of recordings, the beginning of the first.
    pub from: String,
    /// To when: of recordings, the end of the last.
    pub to: String,
    /// Where the last recording ends was not measured: it is not later than that.
    pub estimated: bool,
    /// How many recordings it is; 0 for a hole.
    pub files: u64,
    /// The first recording.
    #[serde(flatten)]
    pub path: Option<Path>,
    /// The last one, if there are several.
    pub last: Option<Path>,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
    /// The deletion of the first, where one is the reason.
    pub deletion: Option<Deletion>,
    /// The answer in a sentence.
    pub summary: String,
    /// What speaks for it, and what is known besides.
    pub evidence: Vec<Evidence>,
}

/// The deletion that explains an absence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deletion {
    /// When it was verified.
    pub time: String,
    /// The rule that chose it.
    pub rule: &'static str,
    /// What it is counted under.
    pub trigger: &'static str,
    /// Why it was chosen, in words; for an orphan with what proved it.
    pub reason: String,
    /// Who wanted it.
    pub who: String,
    /// The run.
    pub run: u64,
    /// The job.
    pub job: Option<u64>,
    /// The journal's entry of the intent.
    pub intent: u64,
    /// The journal's entry of the outcome.
    pub outcome: u64,
    /// The journal's entry of the run's end; `null` while it goes on.
    pub run_ended: Option<u64>,
    /// What came back in the whole run, as measured.
    pub run_reclaimed_bytes: Option<u64>,
}

/// One thing that speaks for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// `disk`, `journal`, `hooks`, `catalogue`, `media_server` or `guard`.
    pub source: &'static str,
    /// When it was said or seen.
    pub time: Option<String>,
    /// The number of the journal's entry.
    pub seq: Option<u64>,
    /// What is said.
    pub text: String,
}

impl Part {
    /// What was found in a tree.
    #[must_use]
    pub fn of(tree: &TreeId, found: &Finding) -> Self {
        Self {
            tree: tree.to_string(),
            verdict: found.verdict.as_str(),
            from: found.from.to_string(),
            to: found.to.to_string(),
            estimated: found.estimated,
            files: found.files,
            path: found.path.as_ref().map(Path::from),
            last: found.last.as_ref().map(Path::from),
            bytes: found.bytes.0,
            deletion: found.done.as_ref().map(Deletion::from),
            summary: found.summary.clone(),
            evidence: found.proofs.iter().map(Evidence::from).collect(),
        }
    }
}

impl From<&Done> for Deletion {
    fn from(done: &Done) -> Self {
        let target = &done.intended.target;
        Self {
            time: done.at.to_string(),
            rule: target.rule.as_str(),
            trigger: target.trigger.as_str(),
            reason: target.reason.clone(),
            who: done.intended.who.clone(),
            run: done.intended.run,
            job: done.intended.job,
            intent: done.intent.0,
            outcome: done.outcome.0,
            run_ended: done.run.as_ref().map(|run| run.seq.0),
            run_reclaimed_bytes: done.run.as_ref().map(|run| run.reclaimed.0),
        }
    }
}

impl From<&DomainProof> for Evidence {
    fn from(proof: &DomainProof) -> Self {
        Self {
            source: proof.source.as_str(),
            time: proof.at.map(|at| at.to_string()),
            seq: proof.seq.map(|seq| seq.0),
            text: proof.text.clone(),
        }
    }
}
