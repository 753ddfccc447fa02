//! Streams with what they are promised, and volumes with what of that fits, as they are shown.

use serde::{Deserialize, Serialize};

use crate::domain::forecast::Promises as DomainPromises;
use crate::domain::promise::Standing;

/// One of `GET /api/v1/streams`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Its tree.
    pub tree: String,
    /// Its name.
    pub stream: String,
    /// Its recordings.
    pub files: u64,
    /// Their allocated bytes.
    pub bytes: u64,
    /// The time of the oldest.
    pub oldest: Option<String>,
    /// The time of the newest.
    pub newest: Option<String>,
    /// Bytes recorded in a second, over the last day.
    pub inflow: u64,
    /// How long its `keep` promises to keep it; 0 without a promise.
    pub promised_seconds: u64,
    /// How far back it reaches, without what was deleted of its promise.
    pub achieved_seconds: u64,
    /// Something was deleted that its promise covers.
    pub broken: bool,
    /// Its rule's priority.
    pub priority: i32,
    /// It is being recorded now.
    pub live: bool,
}

impl From<&Standing> for Stream {
    fn from(standing: &Standing) -> Self {
        Self {
            tree: standing.tree.to_string(),
            stream: standing.stream.to_string(),
            files: standing.recordings.files,
            bytes: standing.recordings.bytes.0,
            oldest: standing.oldest.map(|at| at.to_string()),
            newest: standing.newest.map(|at| at.to_string()),
            inflow: standing.inflow.0,
            promised_seconds: standing.promised.as_secs(),
            achieved_seconds: standing.achieved.as_secs(),
            broken: standing.broken(),
            priority: standing.priority,
            live: standing.live,
        }
    }
}

/// What is promised on a volume, and what of it fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promises {
    /// All of it.
    pub fits: bool,
    /// The longest `keep` of a stream that flows.
    pub promised_seconds: u64,
    /// The longest span that fits: every stream can be kept for it, or for its own `keep` where that is shorter.
    pub fits_seconds: u64,
    /// Bytes that all promises need.
    pub needed_bytes: u64,
    /// Bytes that there is room for.
    pub room_bytes: u64,
    /// The same in a sentence.
    pub sentence: String,
}

impl From<DomainPromises> for Promises {
    fn from(promises: DomainPromises) -> Self {
        Self {
            fits: promises.fit(),
            promised_seconds: promises.promised.as_secs(),
            fits_seconds: promises.fits.as_secs(),
            needed_bytes: promises.needed.0,
            room_bytes: promises.room.0,
            sentence: promises.sentence(),
        }
    }
}
