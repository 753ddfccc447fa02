//! The media servers, as the API shows them.

use serde::{Deserialize, Serialize};

use crate::domain::history::History;
use crate::domain::live::{LiveStream, MediaServerView, Reach};

/// A media server, as it was last seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaServer {
    /// Its name.
    pub name: String,
    /// `up`, `down`, or `unasked` before the first answer.
    pub state: String,
    /// Since when.
    pub since: Option<String>,
    /// Why it cannot be asked.
    pub reason: Option<String>,
    /// When it last said which streams it has; what follows is of then.
    pub listed: Option<String>,
    /// Its streams.
    pub streams: usize,
    /// Those that it records to MP4.
    pub recorded_mp4: usize,
    /// Those that it records to HLS.
    pub recorded_hls: usize,
    /// Those that it does not record because of this guard.
    pub not_recorded: Vec<NotRecorded>,
}

/// A stream that is not recorded, so that the disk does not fill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotRecorded {
    /// The stream, as its media server names it.
    pub stream: String,
    /// Since when.
    pub since: String,
    /// The volume that was about to fill.
    pub volume: String,
}

impl MediaServer {
    /// What is shown of it.
    #[must_use]
    pub fn of(view: &MediaServerView, history: &History) -> Self {
        let (state, since, reason) = match &view.reach {
            Reach::Unasked => ("unasked", None, None),
            Reach::Up { since } => ("up", Some(since), None),
            Reach::Down { since, why } => ("down", Some(since), Some(why.to_string())),
        };
        let recorded =
            |of: fn(&LiveStream) -> Option<bool>| view.streams.iter().filter(|stream| of(stream) == Some(true)).count();
        let stopped = history.stopped.iter().filter(|((server, _), _)| *server == view.name);
        let not_recorded = stopped.map(|((_, stream), stopped)| NotRecorded {
            stream: stream.name(),
            since: stopped.since.to_string(),
            volume: stopped.volume.to_string(),
        });
        Self {
            name: view.name.to_string(),
            state: state.to_owned(),
            since: since.map(ToString::to_string),
            reason,
            listed: view.listed.map(|at| at.to_string()),
            streams: view.streams.len(),
            recorded_mp4: recorded(|stream| stream.mp4),
            recorded_hls: recorded(|stream| stream.hls),
            not_recorded: not_recorded.collect(),
        }
    }
}
