//! What waits for the platforms behind media servers, as the status has it.

use serde::{Deserialize, Serialize};

use crate::domain::relay::RelayView;

/// What waits for the platform behind a media server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// The media server.
    pub media_server: String,
    /// Hooks that it told and the platform did not take yet.
    pub waiting: u64,
    /// When the first of them was told; `null` if none waits.
    pub oldest: Option<String>,
    /// Those of them that the platform refuses while it takes others: they are tried again each hour.
    pub set_aside: u64,
    /// Hooks that were dropped since the guard was started, for want of room.
    pub dropped: u64,
    /// Since when the platform takes nothing; `null` if it does.
    pub failing_since: Option<String>,
    /// Why.
    pub error: Option<String>,
    /// Since when there is no `hooks.relay` for what waits; `null` if there is one.
    pub unrelayed_since: Option<String>,
    /// When what waits is dropped, unless there is a relay again.
    pub kept_until: Option<String>,
}

impl From<&RelayView> for Relay {
    fn from(view: &RelayView) -> Self {
        let status = &view.status;
        Self {
            media_server: view.media_server.to_string(),
            waiting: status.waiting,
            oldest: status.oldest.map(|at| at.to_string()),
            set_aside: status.aside,
            dropped: status.dropped,
            failing_since: status.failing.map(|at| at.to_string()),
            error: status.error.clone(),
            unrelayed_since: view.unrelayed.map(|at| at.to_string()),
            kept_until: view.kept_until().map(|at| at.to_string()),
        }
    }
}
