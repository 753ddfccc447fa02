//! What is known of each media server now: whether it can be asked, and which streams it has. It is asked again and again, and its hooks
//! tell in between; nobody waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::client::{ApiError, Client, ServerConfig, any};
use crate::domain::live::{LiveStream, LiveStreams, MediaServerView, Reach, StreamTuple, Unreached};
use crate::domain::media::{HookEvent, MediaServerSettings};
use crate::domain::names::MediaServerId;
use crate::domain::stream_place::DEFAULT_VHOST;
use crate::domain::units::Timestamp;
use crate::system::Clock;

/// After a hook that may change the list, it is asked for so soon: several come at once.
const SOON: Duration = Duration::from_millis(500);
/// Asking takes at most a tenth of a media server's time, however much its hooks tell.
const REST_FACTOR: u32 = 9;
/// A hook adds no stream beyond these: who sends them may be anybody.
const STREAMS: usize = 1 << 17;
/// One whose client cannot be made is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// One media server.
struct Server {
    settings: MediaServerSettings,
    /// Made when it is first needed.
    client: Option<Client>,
    config: Option<Arc<ServerConfig>>,
    view: MediaServerView,
    /// When it is asked next, by the clock that does not jump; not before `rested`.
    due: Duration,
    rested: Duration,
    /// Somebody asks it now, since then.
    asking: Option<Duration>,
    /// Its configuration is to be read: it may be another since it was last reached.
    unread: bool,
    /// Counts its starts and ends, of which an older list knows nothing.
    generation: u64,
    /// What hooks told that no list may have yet, and how many had told before.
    fresh: BTreeMap<StreamTuple, (u64, LiveStream)>,
    told: u64,
}

/// What to ask now, and of whom.
#[derive(Debug)]
pub struct Asking {
    /// The media server.
    pub server: MediaServerId,
    /// How.
    pub client: Client,
    /// Its configuration is wanted too.
    pub config: bool,
    generation: u64,
    told: u64,
}

/// What all media servers are known to do.
pub struct Live {
    clock: Arc<dyn Clock>,
    servers: Mutex<BTreeMap<MediaServerId, Server>>,
    interval: Mutex<Duration>,
}

impl Live {
    /// Of nobody anything is known yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, servers: Mutex::default(), interval: Mutex::default() }
    }

    /// These settings are in force, and each server is asked every `interval`. What is known of a server that stays the same is kept.
    pub fn set(&self, settings: &[MediaServerSettings], interval: Duration) {
        *self.interval.lock().unwrap_or_else(PoisonError::into_inner) = interval;
        let mut servers = self.lock();
        let mut before = std::mem::take(&mut *servers);
        for settings in settings {
            let same = |old: &Server| (&old.settings.api, &old.settings.secret) == (&settings.api, &settings.secret);
            let kept = before.remove(&settings.name).filter(same);
            let mut server = kept.unwrap_or_else(|| Server::new(settings));
            server.settings = settings.clone();
            servers.insert(settings.name.clone(), server);
        }
    }

    /// Takes in what a media server told by a hook. `body` may be anything.
    pub fn told(&self, server: &MediaServerId, event: HookEvent, body: &Value) {
        match event {
            HookEvent::ServerStarted
            | HookEvent::ServerExited
            | HookEvent::StreamChanged
            | HookEvent::ServerKeepalive => {}
            HookEvent::Publish
            | HookEvent::Play
            | HookEvent::RtspAuth
            | HookEvent::RtspRealm
            | HookEvent::StreamNotFound
            | HookEvent::StreamNoneReader
            | HookEvent::HttpAccess
            | HookEvent::ShellLogin
            | HookEvent::RtpServerTimeout
            | HookEvent::RecordMp4
            | HookEvent::RecordTs
            | HookEvent::FlowReport
            | HookEvent::SendRtpStopped
            | HookEvent::Other => return,
        }
        let boot = self.clock.boottime();
        let mut servers = self.lock();
        let Some(server) = servers.get_mut(server) else { return };
        if matches!(event, HookEvent::ServerStarted | HookEvent::ServerExited) {
            // What it had has ended with it; what it has now nobody knows yet.
            server.view.streams.clear();
            server.fresh.clear();
            server.view.exited = event == HookEvent::ServerExited;
            (server.view.listed, server.unread) = (None, true);
            server.generation += 1;
        }
        if event == HookEvent::StreamChanged && body["regist"] == Value::Bool(true) {
            // That one form of a stream has ended says nothing of the others: the next list will.
            server.add(stream_of(body));
        }
        // A sign of life matters only of one that could not be asked.
        if event != HookEvent::ServerKeepalive || server.view.exited || !server.view.up() {
            server.due = server.due.min(boot + SOON);
        }
    }

    /// Who is to be asked now. Each is asked by one at a time, who then says [`Live::asked`]. May block.
    #[must_use]
    pub fn due(&self) -> Vec<Asking> {
        let (boot, now) = (self.clock.boottime(), self.clock.now());
        let mut servers = self.lock();
        let due =
            servers.iter_mut().filter(|(_, server)| server.asking.is_none() && server.due.max(server.rested) <= boot);
        let mut out = Vec::new();
        for (name, server) in due {
            let client = match server.client.take().map_or_else(|| Client::new(&server.settings), Ok) {
                Ok(client) => client,
                Err(error) => {
                    server.view.answered(Some(Unreached::Unanswered { error }), now);
                    server.due = boot + AGAIN;
                    continue;
                }
            };
            server.client = Some(client.clone());
            server.asking = Some(boot);
            let (config, generation, told) = (server.unread, server.generation, server.told);
            out.push(Asking { server: name.clone(), client, config, generation, told });
        }
        out
    }

    /// What a media server answered: its streams, and its configuration if that was asked. Gives whether it could be asked before, and
    /// whether it can be now.
    pub fn asked(
        &self,
        asking: &Asking,
        streams: Result<Vec<LiveStream>, ApiError>,
        config: Option<ServerConfig>,
    ) -> (Reach, Reach) {
        let interval = *self.interval.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, boot) = (self.clock.now(), self.clock.boottime());
        let mut servers = self.lock();
        let Some(server) = servers.get_mut(&asking.server) else { return (Reach::Unasked, Reach::Unasked) };
        let began = server.asking.take().unwrap_or(boot);
        server.rested = boot + boot.saturating_sub(began).saturating_mul(REST_FACTOR);
        server.due = boot + interval;
        let before = server.view.reach.clone();
        server.view.answered(streams.as_ref().err().and_then(ApiError::unreached), now);
        match streams {
            // It started or ended meanwhile: the list is of before or after that, and nobody knows which.
            Ok(_) if server.generation != asking.generation => server.due = boot + SOON,
            Ok(streams) => {
                server.view.streams = streams;
                (server.view.listed, server.view.exited) = (Some(now), false);
                server.fresh.retain(|_, (told, _)| *told > asking.told);
                for (_, stream) in server.fresh.clone().into_values() {
                    server.view.add(stream);
                }
            }
            // What was known may still be so.
            Err(_) => server.unread = true,
        }
        if let Some(config) = config.filter(|_| server.generation == asking.generation) {
            server.unread = false;
            server.view.window = config.window;
            server.config = Some(Arc::new(config));
        }
        (before, server.view.reach.clone())
    }

    /// Looks soon: something was changed there.
    pub fn hurry(&self, server: &MediaServerId) {
        let boot = self.clock.boottime();
        if let Some(server) = self.lock().get_mut(server) {
            server.due = server.due.min(boot + SOON);
        }
    }

    /// Each media server as it was last seen.
    #[must_use]
    pub fn views(&self) -> Vec<MediaServerView> {
        self.lock().values().map(|server| server.view.clone()).collect()
    }

    /// The settings of each, and its configuration as it last said.
    #[must_use]
    pub fn servers(&self) -> Vec<(MediaServerSettings, Option<Arc<ServerConfig>>)> {
        self.lock().values().map(|server| (server.settings.clone(), server.config.clone())).collect()
    }

    /// Each was asked once, or does not answer.
    #[must_use]
    pub fn all_asked(&self) -> bool {
        self.lock().values().all(|server| server.view.reach != Reach::Unasked)
    }

    /// All streams that are live, or perhaps are.
    #[must_use]
    pub fn streams(&self) -> LiveStreams {
        let now = self.clock.now();
        LiveStreams::of(self.lock().values().map(|server| &server.view), now)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MediaServerId, Server>> {
        // What is shared is replaced whole, so a panic elsewhere leaves nothing half-done.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn new(settings: &MediaServerSettings) -> Self {
        Self {
            settings: settings.clone(),
            client: None,
            config: None,
            view: MediaServerView::new(settings.name.clone()),
            due: Duration::ZERO,
            rested: Duration::ZERO,
            asking: None,
            unread: true,
            generation: 0,
            fresh: BTreeMap::new(),
            told: 0,
        }
    }

    /// Takes in a stream that a hook told of.
    fn add(&mut self, stream: Option<LiveStream>) {
        let Some(stream) = stream.filter(|_| self.fresh.len() < STREAMS && self.view.streams.len() < STREAMS) else {
            return;
        };
        self.told += 1;
        self.fresh.insert(stream.names.clone(), (self.told, stream.clone()));
        self.view.exited = false;
        self.view.add(stream);
    }
}

impl MediaServerView {
    fn answered(&mut self, why_not: Option<Unreached>, now: Timestamp) {
        self.reach = match (why_not, &self.reach) {
            (None, Reach::Up { since }) => Reach::Up { since: *since },
            (None, Reach::Unasked | Reach::Down { .. }) => Reach::Up { since: now },
            (Some(why), Reach::Down { since, .. }) => Reach::Down { since: *since, why },
            (Some(why), Reach::Unasked | Reach::Up { .. }) => Reach::Down { since: now, why },
        };
    }

    /// Adds a stream to those that it has, which are in order.
    fn add(&mut self, stream: LiveStream) {
        match self.streams.binary_search_by(|known| known.names.cmp(&stream.names)) {
            Ok(at) => {
                let known = &mut self.streams[at];
                (known.mp4, known.hls) = (any(known.mp4, stream.mp4), any(known.hls, stream.hls));
            }
            Err(at) => self.streams.insert(at, stream),
        }
    }
}

/// The stream that a hook names; `None` if it names none.
pub(super) fn names_of(body: &Value) -> Option<StreamTuple> {
    let word = |key: &str| body[key].as_str().filter(|text| !text.is_empty() && text.len() <= 1024).map(str::to_owned);
    let vhost = word("vhost").unwrap_or_else(|| DEFAULT_VHOST.to_owned());
    Some(StreamTuple { vhost, app: word("app")?, stream: word("stream")? })
}

/// The stream that a body of `on_stream_changed` is about. Whether it is recorded will be seen: its recorders begin a moment later.
fn stream_of(body: &Value) -> Option<LiveStream> {
    let since = body["createStamp"].as_i64().filter(|secs| *secs > 0).map(Timestamp::from_secs);
    Some(LiveStream { names: names_of(body)?, mp4: None, hls: None, since })
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
