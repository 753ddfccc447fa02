//! The cold tier, as it is listed and asked for.

use serde::{Deserialize, Serialize};

use super::holds::scope;
use super::orphans::NamedPath;
use super::refusal::Refusal;
use super::shapes::Path;
use crate::domain::archive::ArchiveView;
use crate::domain::names::{ArchiveId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::protection::HoldScope;
use crate::domain::units::{Bytes, Timestamp};

/// Which copies are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopiesWanted {
    /// In this archive only.
    pub archive: Option<String>,
    /// Of this tree only.
    pub tree: Option<String>,
    /// Of this stream only.
    pub stream: Option<String>,
}

/// One of `GET /api/v1/archives/copies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchivedCopy {
    /// Where it is.
    pub archive: String,
    /// The tree that it was copied from.
    pub tree: String,
    /// Its path there.
    #[serde(flatten)]
    pub path: Path,
    /// Its stream; empty where the tree is not configured any more.
    pub stream: String,
    /// Bytes that it takes.
    pub bytes: u64,
    /// The time of the recording.
    pub recorded: String,
}

impl ArchivedCopy {
    /// A copy.
    #[must_use]
    pub fn of(
        archive: &ArchiveId,
        tree: &str,
        path: &RelPath,
        stream: &str,
        bytes: Bytes,
        recorded: Timestamp,
    ) -> Self {
        Self {
            archive: archive.to_string(),
            tree: tree.to_owned(),
            path: Path::from(path),
            stream: stream.to_owned(),
            bytes: bytes.0,
            recorded: recorded.to_string(),
        }
    }
}

/// One of `GET /api/v1/archives`, and of `archives` in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Its name.
    pub name: String,
    /// Recordings that are to be copied now.
    pub waiting_files: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// What was copied since the guard was started.
    pub copied_files: u64,
    /// Its bytes.
    pub copied_bytes: u64,
    /// When a recording was last copied, since then.
    pub copied_at: Option<String>,
    /// Why the last one could not be.
    pub problem: Option<String>,
    /// Since when none could be.
    pub problem_since: Option<String>,
}

impl From<&ArchiveView> for Archive {
    fn from(view: &ArchiveView) -> Self {
        Self {
            name: view.name.to_string(),
            waiting_files: view.waiting.files,
            waiting_bytes: view.waiting.bytes.0,
            copied_files: view.copied.files,
            copied_bytes: view.copied.bytes.0,
            copied_at: view.copied_at.map(|at| at.to_string()),
            problem: view.problem.as_ref().map(|problem| problem.text.clone()),
            problem_since: view.problem.as_ref().map(|problem| problem.since.to_string()),
        }
    }
}

/// The body of `POST /api/v1/archive/restore`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// The tree that they are brought back into.
    pub tree: String,
    /// These recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<NamedPath>>,
    /// Recordings of this stream...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// ... that reach into the span from this time...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// ... to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl RestoreRequest {
    /// The tree, and what is wanted of it.
    ///
    /// # Errors
    /// 400 unless either `paths`, or `stream` with `from` and `to`, is given, and for what cannot be meant.
    pub fn wanted(&self) -> Result<(TreeId, HoldScope), Refusal> {
        let (scope, malformed) = scope(self.paths.as_deref(), &self.stream, &self.from, &self.to)?;
        if !malformed.is_empty() {
            let message = format!("no path below a tree: {}; nothing is restored", malformed.join(", "));
            return Err(Refusal::bad_request("bad_path", message));
        }
        Ok((TreeId::new(&self.tree), scope))
    }
}
