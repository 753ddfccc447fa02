//! Shapes of orphans, missing files, catalogues and remedies. Names and units are those of the contract.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::query::Params;
use super::refusal::Refusal;
use super::shapes::Path;
use crate::domain::adoption::{Adopted, Adoption};
use crate::domain::deletion::Target;
use crate::domain::names::TreeId;
use crate::domain::orphan::{
    Missing as DomainMissing, Orphan as DomainOrphan, OrphanKind, OrphanState, Playable, Verdict as DomainVerdict,
    Witness,
};
use crate::domain::path::RelPath;
use crate::domain::remedy::{RemedyKind, Which};
use crate::domain::units::Timestamp;

/// So many paths may be named in one request.
const PATHS: usize = 10_000;

/// Which orphans are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrphansWanted {
    /// Of this tree only.
    pub tree: Option<String>,
    /// Of this kind only.
    pub kind: Option<OrphanKind>,
    /// Proven ones only.
    pub proven: bool,
}

impl Params {
    /// `tree`, `kind` and `proven`.
    ///
    /// # Errors
    /// 400 for what is malformed.
    pub(super) fn orphans(&self) -> Result<OrphansWanted, Refusal> {
        let proven = match self.get("proven")? {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let message = format!("`proven` is {other:?}, but must be true or false");
                return Err(Refusal::bad_request("bad_query", message));
            }
        };
        Ok(OrphansWanted {
            tree: self.get("tree")?.map(str::to_owned),
            kind: self.get("kind")?.map(orphan_kind).transpose()?,
            proven,
        })
    }
}

fn orphan_kind(word: &str) -> Result<OrphanKind, Refusal> {
    OrphanKind::from_word(word).ok_or_else(|| {
        Refusal::bad_request("bad_kind", format!("`kind` is {word:?}, but must be uncatalogued or leftover"))
    })
}

/// One of `GET /api/v1/orphans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Its tree.
    pub tree: String,
    /// Its path below the tree.
    #[serde(flatten)]
    pub path: Path,
    /// Its stream.
    pub stream: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// `uncatalogued` or `leftover`.
    pub kind: &'static str,
    /// `reported` or `quarantined`.
    pub state: &'static str,
    /// The scan that first missed it in the catalogue, or first saw it as it is; of one that is set aside: when it was.
    pub first_seen: String,
    /// Whether it is proven, and by what.
    pub verdict: Verdict,
    /// Whether it can be played; `null` if it is no MP4, or nobody looked.
    pub playable: Option<bool>,
    /// It is set aside, and deleted after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_after: Option<String>,
}

/// Whether a file is proven to be an orphan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Nothing is wanted any more.
    pub proven: bool,
    /// What speaks for it.
    pub witnesses: Vec<&'static str>,
    /// What is still wanted.
    pub wanted: Vec<&'static str>,
    /// The same in a sentence.
    pub sentence: String,
}

impl Verdict {
    fn of(verdict: &DomainVerdict, kind: OrphanKind) -> Self {
        let words = |witnesses: &[Witness]| witnesses.iter().map(|witness| witness.as_str()).collect();
        let sentence = if verdict.proven() {
            let spoken: Vec<&str> = verdict.witnesses.iter().map(|witness| speaks(*witness, kind)).collect();
            format!("proven: {}", spoken.join(", "))
        } else if verdict.wanted.is_empty() {
            "not judged yet".to_owned()
        } else {
            let wanted: Vec<&str> = verdict.wanted.iter().map(|witness| wants(*witness, kind)).collect();
            format!("not proven: it waits for {}", wanted.join(", "))
        };
        Self {
            proven: verdict.proven(),
            witnesses: words(&verdict.witnesses),
            wanted: words(&verdict.wanted),
            sentence,
        }
    }
}

/// What a witness says.
fn speaks(witness: Witness, kind: OrphanKind) -> &'static str {
    match (witness, kind) {
        (Witness::Catalogue, _) => "trusted catalogues do not know it",
        (Witness::Age, OrphanKind::Uncatalogued) => "it was there long before they were read",
        (Witness::Age, OrphanKind::Leftover) => "it is older than any slice takes",
        (Witness::TwoScans, OrphanKind::Uncatalogued) => "two scans missed it there",
        (Witness::TwoScans, OrphanKind::Leftover) => "two scans saw it unchanged",
        (Witness::Unopened, _) => "nobody has it open",
        (Witness::HooksDrained, _) => "no hook record of its stream waits",
        (Witness::StreamIdle, _) => "its stream is not live, or went on since",
        (Witness::Grammar, _) => "its name fits the layout",
        (Witness::Clock, _) => "the clock is trusted",
    }
}

/// What is to come before a witness speaks.
fn wants(witness: Witness, kind: OrphanKind) -> &'static str {
    match (witness, kind) {
        (Witness::Catalogue, _) => "a trusted catalogue that can prove absence",
        (Witness::Age, OrphanKind::Uncatalogued) => "a reading of the catalogue that is younger than it by the grace",
        (Witness::Age, OrphanKind::Leftover) => "more age than any slice takes",
        (Witness::TwoScans, OrphanKind::Uncatalogued) => "a second scan that misses it, the grace after the first",
        (Witness::TwoScans, OrphanKind::Leftover) => "a second scan that sees it unchanged",
        (Witness::Unopened, _) => "a look at whether anybody has it open, and nobody to have it",
        (Witness::HooksDrained, _) => "the hook records of its stream to be read",
        (Witness::StreamIdle, _) => "its stream to end, or to go on for a day",
        (Witness::Grammar, _) => "a name that fits the layout",
        (Witness::Clock, _) => "a clock that is trusted",
    }
}

impl From<&DomainOrphan> for Orphan {
    fn from(orphan: &DomainOrphan) -> Self {
        Self {
            tree: orphan.tree.to_string(),
            path: Path::from(&orphan.path),
            stream: orphan.stream.clone(),
            bytes: orphan.bytes.0,
            kind: orphan.kind.as_str(),
            state: OrphanState::Reported.as_str(),
            first_seen: orphan.first_seen.to_string(),
            verdict: Verdict::of(&orphan.verdict, orphan.kind),
            playable: match orphan.playable {
                Playable::Yes => Some(true),
                Playable::No => Some(false),
                Playable::Unknown => None,
            },
            deleted_after: None,
        }
    }
}

impl Orphan {
    /// A catalogue of its tree is not trusted now: nothing is done about it until it is.
    pub fn doubt(&mut self) {
        let reported = self.state == OrphanState::Reported.as_str();
        if !reported || self.kind != OrphanKind::Uncatalogued.as_str() {
            return;
        }
        let catalogue = Witness::Catalogue.as_str();
        self.verdict.witnesses.retain(|word| *word != catalogue);
        if !self.verdict.wanted.contains(&catalogue) {
            self.verdict.wanted.insert(0, catalogue);
        }
        self.verdict.proven = false;
        "not proven now: a catalogue of its tree is not trusted, see `storage-guard catalogue list`"
            .clone_into(&mut self.verdict.sentence);
    }

    /// One that was set aside: that it was proven, and by what, stands in the journal, whose words are given.
    #[must_use]
    pub fn quarantined(target: &Target, since: Timestamp, deleted_after: Option<Timestamp>) -> Self {
        Self {
            tree: target.tree.to_string(),
            path: Path::from(&target.path),
            stream: target.stream.clone(),
            bytes: target.bytes.0,
            kind: OrphanKind::Uncatalogued.as_str(),
            state: OrphanState::Quarantined.as_str(),
            first_seen: since.to_string(),
            verdict: Verdict { proven: true, witnesses: vec![], wanted: vec![], sentence: target.reason.clone() },
            playable: None,
            deleted_after: deleted_after.map(|at| at.to_string()),
        }
    }
}

/// One of `GET /api/v1/missing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Its tree.
    pub tree: String,
    /// Where its file should be, below the tree.
    #[serde(flatten)]
    pub path: Path,
    /// What the catalogue knows the row by.
    pub row: String,
    /// The catalogue.
    pub catalogue: String,
}

impl From<&DomainMissing> for Missing {
    fn from(missing: &DomainMissing) -> Self {
        Self {
            tree: missing.tree.to_string(),
            path: Path::from(&missing.path),
            row: missing.row.to_string(),
            catalogue: missing.catalogue.to_string(),
        }
    }
}

/// The body of `POST /api/v1/orphans/{remedy}` and `POST /api/v1/missing/remove`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemedyRequest {
    /// The tree.
    pub tree: String,
    /// These.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<NamedPath>>,
    /// All of them: said, since nothing else is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// `uncatalogued`, which is meant if nothing is said, or `leftover`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only says which rows would be inserted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A path in a request: as it is, or as lists give one that JSON cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NamedPath {
    /// As it is.
    Plain(String),
    /// Perhaps with `%XX`.
    Shown {
        /// The path.
        path: String,
        /// `%XX` stands in it.
        #[serde(default)]
        encoded: bool,
    },
}

impl NamedPath {
    /// Its text, and whether that is encoded.
    fn text(&self) -> (&str, bool) {
        match self {
            Self::Plain(text) => (text, false),
            Self::Shown { path, encoded } => (path, *encoded),
        }
    }

    /// The paths that are some, and, in words, each that is none.
    pub(super) fn read(all: &[Self]) -> (Vec<RelPath>, Vec<String>) {
        let (mut out, mut malformed) = (Vec::with_capacity(all.len()), Vec::new());
        for (text, encoded) in all.iter().map(Self::text) {
            match RelPath::parse(text, encoded) {
                Ok(path) => out.push(path),
                Err(error) => malformed.push(format!("{text:?} ({error})")),
            }
        }
        (out, malformed)
    }
}

impl From<&RelPath> for NamedPath {
    fn from(path: &RelPath) -> Self {
        match path.show() {
            (text, false) => Self::Plain(text),
            (path, true) => Self::Shown { path, encoded: true },
        }
    }
}

impl RemedyRequest {
    /// Which kind of orphans is meant.
    ///
    /// # Errors
    /// 400 if there is no such kind, or the remedy is about none.
    pub fn orphan_kind(&self, remedy: RemedyKind) -> Result<OrphanKind, Refusal> {
        match (&self.kind, remedy) {
            (None, _) => Ok(OrphanKind::Uncatalogued),
            (Some(_), RemedyKind::RemoveRows) => {
                Err(Refusal::bad_request("bad_kind", "rows without a file are of no `kind`; leave it out"))
            }
            (Some(word), RemedyKind::Adopt | RemedyKind::Quarantine | RemedyKind::Delete | RemedyKind::Restore) => {
                orphan_kind(word)
            }
        }
    }

    /// Whether nothing is to be done, only said.
    ///
    /// # Errors
    /// 400 if that is asked of a remedy that has no rehearsal.
    pub fn rehearsal(&self, remedy: RemedyKind) -> Result<bool, Refusal> {
        match remedy {
            RemedyKind::Adopt => Ok(self.dry_run),
            RemedyKind::Quarantine | RemedyKind::Delete | RemedyKind::Restore | RemedyKind::RemoveRows
                if self.dry_run =>
            {
                let message = "only `adopt` has a `dry_run`; `GET /api/v1/orphans` says what the others are about";
                Err(Refusal::bad_request("bad_dry_run", message))
            }
            RemedyKind::Quarantine | RemedyKind::Delete | RemedyKind::Restore | RemedyKind::RemoveRows => Ok(false),
        }
    }

    /// Which files or rows are meant, each once.
    ///
    /// # Errors
    /// 400 unless exactly one of `paths` and `all` is given, for too many paths, and, naming each, for what is no path below a tree.
    pub fn which(&self) -> Result<Which, Refusal> {
        let bad = |message: String| Err(Refusal::bad_request("bad_paths", message));
        let paths = match (&self.paths, self.all) {
            (Some(paths), false) => paths,
            (None, true) => return Ok(Which::All),
            (Some(_), true) | (None, false) => {
                return bad("give either `paths`, or `all: true`, and not both".to_owned());
            }
        };
        if paths.is_empty() {
            return bad("`paths` is empty; name at least one, or give `all: true`".to_owned());
        }
        if paths.len() > PATHS {
            return bad(format!(
                "`paths` names {}, but at most {PATHS} may be named in one request; send more requests, or give `all: true`",
                paths.len()
            ));
        }
        let (mut seen, mut out, mut wrong) = (BTreeSet::new(), Vec::with_capacity(paths.len()), Vec::new());
        for (text, encoded) in paths.iter().map(NamedPath::text) {
            match RelPath::parse(text, encoded) {
                Ok(path) => {
                    if seen.insert(path.clone()) {
                        out.push(path);
                    }
                }
                Err(error) => wrong.push(format!("{text:?} {error}")),
            }
        }
        if wrong.is_empty() {
            return Ok(Which::Paths(out));
        }
        Err(Refusal::bad_request("bad_path", format!("not paths below a tree: {}", wrong.join("; "))))
    }
}

/// The answer to a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedied {
    /// It is a job with this number.
    Job(u64),
    /// It was only rehearsed.
    Rehearsal(Rehearsal),
}

/// What an adoption would do; nothing was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rehearsal {
    /// How many recordings it is about.
    pub total: u64,
    /// The first [`Rehearsal::SHOWN`] of them.
    pub items: Vec<Rehearsed>,
}

impl Rehearsal {
    /// So many recordings are shown.
    pub const SHOWN: usize = 1000;
}

/// What an adoption would do with one recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rehearsed {
    /// Its tree.
    pub tree: String,
    /// Its path below the tree.
    #[serde(flatten)]
    pub path: Path,
    /// `would_insert`, `known` or `refused`.
    pub outcome: &'static str,
    /// The row that would be inserted.
    pub row: Option<Row>,
    /// Why there is none, or the number of the row that there is already.
    pub detail: Option<String>,
}

/// A row of `wvp_cloud_record`, by the names of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// First part of the stream.
    pub app: String,
    /// The rest of it.
    pub stream: String,
    /// Milliseconds since 1970.
    pub start_time: i64,
    /// Milliseconds since 1970.
    pub end_time: i64,
    /// The media server; `null`: as the other rows of the tree have it.
    pub media_server_id: Option<String>,
    /// Its name.
    pub file_name: String,
    /// Its folder, as the media server sees it.
    pub folder: String,
    /// Where it is, as the media server sees it.
    pub file_path: String,
    /// Bytes.
    pub file_size: i64,
    /// Milliseconds.
    pub time_len: i64,
}

impl Rehearsed {
    /// What would become of one recording; without a row, `adopted` says why.
    #[must_use]
    pub fn of(tree: &TreeId, path: &RelPath, row: Option<&Adoption>, adopted: &Adopted) -> Self {
        let (outcome, detail) = match adopted {
            Adopted::Would | Adopted::Inserted(_) => ("would_insert", None),
            Adopted::Known(number) => ("known", Some(format!("row {number} lists it already"))),
            Adopted::Refused(why) => ("refused", Some(why.clone())),
        };
        let row = row.filter(|_| outcome == "would_insert").map(|row| Row {
            app: row.app.clone(),
            stream: row.stream.clone(),
            start_time: row.start_time,
            end_time: row.end_time,
            media_server_id: row.media_server.clone(),
            file_name: row.file_name.clone(),
            folder: row.folder.clone(),
            file_path: row.file_path.clone(),
            file_size: row.file_size,
            time_len: row.time_len,
        });
        Self { tree: tree.to_string(), path: Path::from(path), outcome, row, detail }
    }
}

#[cfg(test)]
#[path = "orphans_tests.rs"]
mod tests;
