//! Media servers: what they tell and ask, and how the guard stands beside one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::deletion::words;
use super::names::MediaServerId;
use super::secret::Secret;

words! {
    /// What a media server reports by its hooks.
    HookEvent {
        /// A stream is to be published; the answer also says whether it is recorded.
        Publish = "on_publish",
        /// Somebody wants to watch a stream.
        Play = "on_play",
        /// Somebody logs in to watch by RTSP.
        RtspAuth = "on_rtsp_auth",
        /// Whether a stream wants a login by RTSP.
        RtspRealm = "on_rtsp_realm",
        /// Somebody wants a stream that is not there.
        StreamNotFound = "on_stream_not_found",
        /// Nobody watches a stream any more.
        StreamNoneReader = "on_stream_none_reader",
        /// Somebody wants a file or a folder by HTTP.
        HttpAccess = "on_http_access",
        /// Somebody logs in to the media server's shell.
        ShellLogin = "on_shell_login",
        /// An RTP port got nothing for a while.
        RtpServerTimeout = "on_rtp_server_timeout",
        /// An MP4 recording was finished.
        RecordMp4 = "on_record_mp4",
        /// An HLS segment was finished.
        RecordTs = "on_record_ts",
        /// The media server has started.
        ServerStarted = "on_server_started",
        /// The media server ends.
        ServerExited = "on_server_exited",
        /// The media server is alive.
        ServerKeepalive = "on_server_keepalive",
        /// A stream came or went.
        StreamChanged = "on_stream_changed",
        /// How much a session carried.
        FlowReport = "on_flow_report",
        /// Sending RTP has ended.
        SendRtpStopped = "on_send_rtp_stopped",
        /// None of these.
        Other = "other",
    }
}

impl HookEvent {
    /// Something waits for the answer: it is relayed at once, and never waits for the store. Of an event that nobody knows it must be
    /// supposed.
    #[must_use]
    pub fn asks(self) -> bool {
        match self {
            Self::Publish
            | Self::Play
            | Self::RtspAuth
            | Self::RtspRealm
            | Self::StreamNotFound
            | Self::StreamNoneReader
            | Self::HttpAccess
            | Self::ShellLogin
            | Self::RtpServerTimeout
            | Self::Other => true,
            Self::RecordMp4
            | Self::RecordTs
            | Self::ServerStarted
            | Self::ServerExited
            | Self::ServerKeepalive
            | Self::StreamChanged
            | Self::FlowReport
            | Self::SendRtpStopped => false,
        }
    }
}

words! {
    /// What is answered to an event that asks while the platform is silent.
    RelayDefault {
        /// It may go on.
        Allow = "allow",
        /// It may not.
        Deny = "deny",
        /// The stream is kept.
        Keep = "keep",
        /// The stream is closed.
        Close = "close",
    }
}

words! {
    /// What became of a hook.
    HookResult {
        /// It was taken: what is to be kept of it is durable.
        Stored = "stored",
        /// It was known.
        Duplicate = "duplicate",
        /// It is not wanted, or there was no room for it.
        Rejected = "rejected",
        /// The platform took it, or answered it.
        Relayed = "relayed",
        /// The platform did not, this time.
        RelayFailed = "relay_failed",
    }
}

words! {
    /// What became of a call to the gateway.
    GatewayResult {
        /// The media server answered it.
        Passed = "passed",
        /// The media server did not answer.
        Unanswered = "unanswered",
        /// A deletion: everything named is gone.
        Done = "done",
        /// A deletion that is still being worked at.
        Working = "working",
        /// A deletion that left something behind.
        Failed = "failed",
        /// A deletion without the right secret.
        Denied = "denied",
        /// A request that cannot be meant, or be told for sure.
        Refused = "refused",
    }
}

/// Where a media server's hooks arrive.
#[derive(Debug, Clone, PartialEq)]
pub struct HookSettings {
    /// Where they are received.
    pub listen: SocketAddr,
    /// The platform's own address for hooks, to which the event's name is added; `None`: nothing is relayed.
    pub relay: Option<String>,
    /// How long the platform may take for an event that asks.
    pub relay_timeout: Duration,
    /// What is answered when it is silent, where that differs from the usual.
    pub relay_default: BTreeMap<HookEvent, RelayDefault>,
}

/// The media servers whose platform hears what they tell.
pub fn with_relay(all: &[MediaServerSettings]) -> impl Iterator<Item = &MediaServerId> {
    let relays = |server: &&MediaServerSettings| server.hooks.as_ref().is_some_and(|hooks| hooks.relay.is_some());
    all.iter().filter(relays).map(|server| &server.name)
}

/// How the gateway before a media server's API works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A deletion that takes longer is answered with its job.
    pub answer_within: Duration,
}

/// Which streams the media server is asked to stop recording at critical pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchSettings {
    /// Those whose priority is lower than this.
    pub below_priority: i32,
}

/// A media server: `media_servers` in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaServerSettings {
    /// Its name, and its `general.mediaServerId`.
    pub name: MediaServerId,
    /// Where its HTTP API is, without a slash at its end.
    pub api: String,
    /// The secret of its API.
    pub secret: Option<Secret>,
    /// Beginnings of paths as it sees them, and what they are here.
    pub path_map: Vec<(PathBuf, PathBuf)>,
    /// Its hooks.
    pub hooks: Option<HookSettings>,
    /// The gateway before its API.
    pub gateway: Option<GatewaySettings>,
    /// Which streams it may be asked to stop recording.
    pub recording_switch: Option<SwitchSettings>,
}
