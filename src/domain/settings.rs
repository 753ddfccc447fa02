//! What the configuration decides for the rooms, as values that have been checked.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::alarm::Alarm;
use super::alert::{AlertName, Condition};
use super::catalogue::{AfterReclaim, CatalogueKind};
use super::names::{CatalogueId, TreeId, VolumeId};
use super::retention::TreePolicy;
use super::secret::Secret;
use super::units::{Bytes, Percent, Timestamp};
use super::volume::Marks;

/// How often a failed deletion is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After the first failure.
    pub first: Duration,
    /// The longest pause within the first day.
    pub max: Duration,
    /// The pause from the second day on.
    pub after_a_day: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            max: Duration::from_secs(15 * 60),
            after_a_day: Duration::from_secs(6 * 3600),
        }
    }
}

/// A span of the day, minutes after midnight in the tree's time zone; it may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first minute.
    pub from: u16,
    /// The first minute after it.
    pub to: u16,
}

impl Window {
    /// Whether a minute of the day lies in it.
    #[must_use]
    pub fn contains(self, minute: u16) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }

    /// Whether it is open at a moment, by the clocks of `zone`.
    #[must_use]
    pub fn open(self, now: Timestamp, zone: &TimeZone) -> bool {
        let Ok(at) = jiff::Timestamp::from_millisecond(now.millis()) else { return false };
        let time = zone.to_datetime(at).time();
        self.contains(u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs()))
    }
}

impl std::fmt::Display for Window {
    /// As it is configured: `01:00-05:00`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// How runs are carried out: `cleanup` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Files in a batch at most.
    pub batch_files: usize,
    /// Bytes in a batch at most.
    pub batch_bytes: Bytes,
    /// Between batches, unless the volume is critical.
    pub pause: Duration,
    /// Of a tree's bytes, deleted by the guard itself in 24 h.
    pub max_share: Percent,
    /// Deletions in a second at most; 0 for no limit.
    pub max_files_per_second: u32,
    /// When runs that are not for pressure happen.
    pub window: Option<Window>,
    /// How failures are tried again.
    pub retry: RetryPolicy,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self {
            batch_files: 500,
            batch_bytes: Bytes::gib(50),
            pause: Duration::from_millis(200),
            max_share: Percent::new(20),
            max_files_per_second: 0,
            window: None,
            retry: RetryPolicy::default(),
        }
    }
}

/// A tree, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeSettings {
    /// Its name.
    pub name: TreeId,
    /// Its top.
    pub path: PathBuf,
    /// Its rules. Layout `auto` is still unresolved here.
    pub policy: TreePolicy,
}

/// Where a catalogue is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogueSource {
    /// WVP's table, in MariaDB, MySQL or PostgreSQL.
    Wvp {
        /// The database; secret, since it may hold a login.
        url: Secret,
        /// Who reads it, unless the address says.
        username: Option<String>,
        /// Their password.
        password: Option<Secret>,
    },
    /// Frigate's database, only ever read.
    Frigate {
        /// Its file.
        file: PathBuf,
    },
    /// What hooks told us.
    Hooks,
    /// A file of paths.
    Manifest {
        /// The file.
        file: PathBuf,
    },
}

impl CatalogueSource {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> CatalogueKind {
        match self {
            Self::Wvp { .. } => CatalogueKind::Wvp,
            Self::Frigate { .. } => CatalogueKind::Frigate,
            Self::Hooks => CatalogueKind::Hooks,
            Self::Manifest { .. } => CatalogueKind::Manifest,
        }
    }
}

/// A catalogue, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueSettings {
    /// Its name.
    pub name: CatalogueId,
    /// Where it is read from.
    pub source: CatalogueSource,
    /// Rows of other media servers are left alone.
    pub media_server: Option<String>,
    /// Beginnings of paths as the media server sees them, and what they are here.
    pub path_map: Vec<(PathBuf, PathBuf)>,
    /// The largest share of its rows that may be gone at once while their files are there.
    pub max_drop: Percent,
    /// How often it is read.
    pub interval: Duration,
    /// How often it is read whole.
    pub full: Duration,
    /// What becomes of rows whose files we deleted.
    pub after_reclaim: AfterReclaim,
}

/// A volume, as configured; the others are found from the trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSettings {
    /// Its name.
    pub name: VolumeId,
    /// A path on it.
    pub path: PathBuf,
    /// Its marks.
    pub marks: Marks,
}

/// How to speak to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// STARTTLS, or no mail.
    Required,
    /// TLS from the first byte.
    Implicit,
    /// None: only towards loopback, and never with a login.
    None,
}

/// Where a channel delivers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelKind {
    /// SMTP.
    Email {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Encryption.
        tls: MailTls,
        /// A certificate authority to trust besides the system's: a PEM file.
        ca_file: Option<PathBuf>,
        /// Login.
        username: Option<String>,
        /// Its password.
        password: Option<Secret>,
        /// Sender.
        from: String,
        /// Recipients.
        to: Vec<String>,
    },
    /// A signed HTTP POST (Standard Webhooks 1.0).
    Webhook {
        /// Target; secret, since it may hold a token.
        url: Secret,
        /// Key of the signature.
        secret: Option<Secret>,
    },
    /// An Alertmanager, which is told again and again what fires.
    Alertmanager {
        /// Its address, without `/api/v2/alerts`; secret, since it may hold a login.
        url: Secret,
        /// How often it is told again. It forgets what it was not told of for five times as long.
        every: Duration,
        /// Where people find this guard, for the link that it shows.
        generator_url: Option<String>,
    },
    /// A robot in a chat.
    Robot {
        /// Whose.
        robot: Robot,
        /// Target, which is the key too.
        url: Secret,
        /// Key of the signature, where the robot wants one.
        secret: Option<Secret>,
    },
    /// The Redis channel of WVP, which tells alarms to the platforms above it.
    WvpRedis {
        /// Its address; secret, since it may hold a login.
        url: Secret,
        /// A login that is not in the address.
        username: Option<String>,
        /// Its password.
        password: Option<Secret>,
        /// A certificate authority to trust besides the system's: a PEM file.
        ca_file: Option<PathBuf>,
        /// The GB/T 28181 id in whose name alarms are told.
        gb_id: String,
        /// What WVP listens to.
        channel: String,
    },
    /// A dead man's switch: an address that is called while all is well.
    Heartbeat {
        /// Target; secret, since it holds a token.
        url: Secret,
        /// How often it is called.
        every: Duration,
    },
}

/// Whose robot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Robot {
    /// DingTalk.
    Dingtalk,
    /// WeCom.
    Wecom,
    /// Feishu, and Lark.
    Feishu,
    /// Slack, and what takes its format.
    Slack,
}

impl Robot {
    /// Whether its chat can ask for a signature; else it has no secret but its address.
    #[must_use]
    pub fn signs(self) -> bool {
        match self {
            Self::Dingtalk | Self::Feishu => true,
            Self::Wecom | Self::Slack => false,
        }
    }
}

impl ChannelKind {
    /// The word for it in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Email { .. } => "email",
            Self::Webhook { .. } => "webhook",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Robot { robot: Robot::Dingtalk, .. } => "dingtalk",
            Self::Robot { robot: Robot::Wecom, .. } => "wecom",
            Self::Robot { robot: Robot::Feishu, .. } => "feishu",
            Self::Robot { robot: Robot::Slack, .. } => "slack",
            Self::WvpRedis { .. } => "wvp_redis",
            Self::Heartbeat { .. } => "heartbeat",
        }
    }

    /// How many messages a minute the receiver takes, unless the configuration says otherwise: robots that get more than 20 fall
    /// silent for ten minutes, and a person reads no more either.
    #[must_use]
    pub fn per_minute(&self) -> u32 {
        match self {
            Self::Robot { robot: Robot::Dingtalk | Robot::Wecom, .. } => 18,
            Self::Robot { robot: Robot::Feishu | Robot::Slack, .. }
            | Self::Email { .. }
            | Self::Webhook { .. }
            | Self::Alertmanager { .. }
            | Self::WvpRedis { .. }
            | Self::Heartbeat { .. } => 60,
        }
    }
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Its name.
    pub name: String,
    /// Where to.
    pub kind: ChannelKind,
    /// No more messages than this go out in a minute.
    pub per_minute: u32,
}

impl ChannelSettings {
    /// Whether it is told of alerts; a heartbeat is not.
    #[must_use]
    pub fn told(&self) -> bool {
        !matches!(self.kind, ChannelKind::Heartbeat { .. })
    }
}

/// How a channel is told of the alerts of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long the first message waits for others.
    pub wait: Duration,
    /// Between messages.
    pub interval: Duration,
    /// Until what still fires is told again; `None` if by other means.
    pub repeat: Option<Duration>,
    /// Of the receiver's alerts the severity is a part, so that one with another severity is another alert: it begins at once when
    /// it is worse, and otherwise no sooner than this after the last message.
    pub renamed: Option<Duration>,
    /// It is told that an alert is over.
    pub ends: bool,
}

/// The language of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Chinese.
    Chinese,
}

/// Severity of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// To be looked at within a day.
    Warning,
    /// To be looked at now.
    Critical,
}

impl Severity {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Info, Self::Warning, Self::Critical];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity that a word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.as_str() == word)
    }
}

/// What the configuration changes about one alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertTuning {
    /// Which.
    pub alert: AlertName,
    /// Raised at all.
    pub enabled: bool,
    /// How long its condition must last.
    pub hold_for: Option<Duration>,
    /// Instead of its own.
    pub severity: Option<Severity>,
}

/// How alerts are delivered: `notify` in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// Changes to single alerts.
    pub tuning: Vec<AlertTuning>,
    /// How long the first message of a group waits for others.
    pub group_wait: Duration,
    /// Between messages of a group.
    pub group_interval: Duration,
    /// Until a firing group is told again.
    pub repeat_interval: Duration,
    /// For each send.
    pub timeout: Duration,
    /// After the first failed send.
    pub retry_first: Duration,
    /// The longest pause between sends.
    pub retry_max: Duration,
    /// A message that old is dropped, and shown as dropped.
    pub give_up_after: Duration,
    /// No channel worked for so long: `DeliveryFailing`.
    pub delivery_failing_after: Duration,
    /// The language of messages.
    pub language: Language,
    /// A folder whose files replace the built-in texts of the same name.
    pub templates: Option<PathBuf>,
    /// Where what to do about each alert is written: the alert's name follows as an anchor.
    pub runbook: String,
    /// The channels.
    pub channels: Vec<ChannelSettings>,
}

impl NotifySettings {
    /// The channel of a name.
    #[must_use]
    pub fn channel(&self, name: &str) -> Option<&ChannelSettings> {
        self.channels.iter().find(|channel| channel.name == name)
    }

    /// Whether a channel is told of something that is wrong. WVP is told of alarms only.
    #[must_use]
    pub fn hears(&self, channel: &str, condition: &Condition) -> bool {
        match self.channel(channel).map(|channel| &channel.kind) {
            Some(ChannelKind::WvpRedis { .. }) => Alarm::found(condition).is_some(),
            Some(
                ChannelKind::Email { .. }
                | ChannelKind::Webhook { .. }
                | ChannelKind::Alertmanager { .. }
                | ChannelKind::Robot { .. }
                | ChannelKind::Heartbeat { .. },
            )
            | None => true,
        }
    }

    /// How a channel is told. An Alertmanager groups, waits and repeats by itself.
    #[must_use]
    pub fn pace(&self, channel: &str) -> Pace {
        match self.channel(channel).map(|channel| &channel.kind) {
            Some(ChannelKind::Alertmanager { .. }) => Pace {
                wait: Duration::ZERO,
                interval: Duration::ZERO,
                repeat: None,
                renamed: Some(self.group_interval),
                ends: true,
            },
            kind @ (Some(
                ChannelKind::Email { .. }
                | ChannelKind::Webhook { .. }
                | ChannelKind::Robot { .. }
                | ChannelKind::WvpRedis { .. }
                | ChannelKind::Heartbeat { .. },
            )
            | None) => Pace {
                wait: self.group_wait,
                interval: self.group_interval,
                repeat: Some(self.repeat_interval.max(self.group_interval).max(Duration::from_secs(1))),
                renamed: None,
                ends: !matches!(kind, Some(ChannelKind::WvpRedis { .. })),
            },
        }
    }
}

impl Default for NotifySettings {
    fn default() -> Self {
        Self {
            tuning: Vec::new(),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(300),
            repeat_interval: Duration::from_secs(4 * 3600),
            timeout: Duration::from_secs(10),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(600),
            give_up_after: Duration::from_secs(7 * 86_400),
            delivery_failing_after: Duration::from_secs(300),
            language: Language::English,
            templates: None,
            runbook: "docs/operations.md".to_owned(),
            channels: Vec::new(),
        }
    }
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Viewer,
    /// Change.
    Operator,
}

/// A token for the API, known by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who bears it.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
}

/// Who may use the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// `/metrics` asks for a token too.
    pub protect_metrics: bool,
    /// Key of the signature of callbacks.
    pub callback_secret: Option<Secret>,
    /// Hosts that callbacks may go to.
    pub callback_hosts: Vec<String>,
}

/// Where the servers listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listeners {
    /// Metrics, API, pages.
    pub main: SocketAddr,
    /// `/metrics` and `/-/` alone.
    pub metrics: Option<SocketAddr>,
}

impl Listeners {
    /// Whether the main listener can be reached from this machine only.
    #[must_use]
    pub fn local(&self) -> bool {
        match self.main.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        }
    }
}
