//! The recording switch: carries out what `domain::recording_switch` decides.
//!
//! 1. That a stream's recording is stopped is on record before the media server is asked to: after a crash it is begun again all the same.
//! 2. An answer is not believed: whether it records any more is asked afterwards.
//! 3. That it is begun again is on record once it is.
//! 4. Whoever publishes a stream is answered from memory. What was withheld is put on record right after that, whether or not its media
//!    server can be asked, and it leaves the memory only once a list shows it on record, recorded all the same, or not there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use super::hub::{Hub, lock};
use crate::domain::event::Event;
use crate::domain::history::{Stopped, StreamOf, recording_note};
use crate::domain::layout::LayoutKind;
use crate::domain::live::{LiveStream, MediaServerView, StreamTuple};
use crate::domain::media::MediaServerSettings;
use crate::domain::names::{MediaServerId, StreamId, VolumeId};
use crate::domain::recording_switch::{Fullness, Home, SwitchStep, Switchable, engaged, may_begin, to_start, to_stop};
use crate::domain::retention::{Mode, TreePolicy};
use crate::domain::stream_place::DEFAULT_VHOST;
use crate::domain::units::Timestamp;
use crate::zlmediakit::{ApiError, Client, Recorded, ServerConfig, records_at};

/// What could not be stopped or begun is tried again after this.
const AGAIN: Duration = Duration::from_secs(300);
/// So many withheld streams wait to be put on record; more may begin, since nobody would begin them later.
const WITHHELD: usize = 10_000;
/// A volume that is gone for so long is guarded no more: while the configuration is loaded again, all are gone for a moment.
const MISSING: Duration = Duration::from_secs(600);
/// A withheld stream that is not there by then was not published.
const APPEARS: Duration = Duration::from_secs(60);
/// A list that was asked for before a stream was published is here by then, and says nothing of it.
const LISTED: Duration = Duration::from_secs(10);
/// So many withheld streams are put on record at once.
const AT_ONCE: usize = 256;
/// What could not be put on record is tried again after this.
const REST: Duration = Duration::from_secs(10);

/// What the switch remembers between two steps.
#[derive(Default)]
pub(super) struct Switch {
    memory: Mutex<Memory>,
    /// A stream was withheld that is on no record yet.
    news: Notify,
}

#[derive(Default)]
struct Memory {
    /// Volumes that are critical, or were and are not below their low mark yet.
    engaged: BTreeSet<VolumeId>,
    /// Where the streams of each media server with a switch are recorded; only while a volume is engaged.
    boards: BTreeMap<MediaServerId, Arc<Board>>,
    /// Streams that were not begun, until a list shows what became of them.
    withheld: BTreeMap<StreamOf, Withheld>,
    /// Volumes of stopped streams that are guarded no more, and since when, by the clock that does not jump.
    missing: BTreeMap<VolumeId, Duration>,
    /// At which reading streams of a volume were stopped last.
    asked: BTreeMap<VolumeId, Timestamp>,
    /// Media servers at which a step is being carried out.
    busy: BTreeSet<MediaServerId>,
    /// What failed, and when it may be tried again, by the clock that does not jump.
    failed: HashMap<StreamOf, Duration>,
}

/// A stream that was not begun.
struct Withheld {
    home: Home,
    /// When it was published last, by the clock that does not jump.
    since: Duration,
    /// It was put on record.
    recorded: bool,
}

impl Withheld {
    /// It may be there soon.
    fn young(&self, boot: Duration) -> bool {
        boot.saturating_sub(self.since) < APPEARS
    }

    /// What is listed may have been so before it was published.
    fn ahead(&self, boot: Duration) -> bool {
        boot.saturating_sub(self.since) < LISTED
    }
}

/// Where the streams of one media server are recorded.
struct Board {
    below: i32,
    /// Of streams that have files.
    known: HashMap<String, (Timestamp, Home)>,
    /// Of the others.
    root: Option<(Arc<TreePolicy>, VolumeId)>,
    /// Whether there are virtual hosts; `None` if the media server did not say.
    vhosts: Option<bool>,
}

impl Board {
    /// Where a stream is recorded; `None` if nobody can tell.
    fn home(&self, stream: &StreamTuple) -> Option<Home> {
        let name = stream.name();
        let full = format!("{}/{name}", stream.vhost);
        if let Some((_, home)) = self.known.get(&full).or_else(|| self.known.get(&name)) {
            return Some(home.clone());
        }
        let (policy, volume) = self.root.as_ref()?;
        let named = StreamId::new(if self.vhosts == Some(true) { &full } else { &name });
        Some(home(policy, volume, &named))
    }

    /// A stream that a hook names, as its media server's list names it.
    fn listed(&self, told: &StreamTuple) -> StreamTuple {
        let mut names = told.clone();
        // Without virtual hosts the list has none, and what opens a port for RTP may name one all the same.
        if self.vhosts == Some(false) {
            DEFAULT_VHOST.clone_into(&mut names.vhost);
        }
        names
    }
}

fn home(policy: &TreePolicy, volume: &VolumeId, stream: &StreamId) -> Home {
    let priority = policy.rule_of(stream).map_or(0, |(_, rule)| rule.priority);
    Home { tree: policy.tree.clone(), volume: volume.clone(), mode: policy.mode, priority }
}

/// Names that stand in a line each, and in an address, as they are.
fn plain(stream: &StreamTuple) -> bool {
    [&stream.vhost, &stream.app, &stream.stream].iter().all(|name| !name.chars().any(char::is_control))
}

impl Hub {
    /// Whether a stream that is about to be published may be recorded. Answered from memory, for whoever answers `on_publish`.
    #[must_use]
    pub fn may_record(&self, server: &MediaServerId, stream: &StreamTuple) -> bool {
        let mut memory = lock(&self.switch.memory);
        if memory.engaged.is_empty() {
            return true;
        }
        let Some(board) = memory.boards.get(server).cloned() else { return true };
        let names = board.listed(stream);
        let Some(home) = board.home(&names) else { return true };
        if may_begin(&home, board.below, memory.engaged.contains(&home.volume)) || !plain(&names) {
            return true;
        }
        let (since, stream) = (self.clock.boottime(), (server.clone(), names));
        if memory.withheld.len() >= WITHHELD && !memory.withheld.contains_key(&stream) {
            return true;
        }
        let one = memory.withheld.entry(stream).or_insert(Withheld { home: home.clone(), since, recorded: false });
        (one.home, one.since) = (home, since);
        drop(memory);
        self.switch.news.notify_one();
        self.live.hurry(server);
        false
    }

    /// How full each volume is, and which of them are engaged since.
    fn fullness(&self) -> HashMap<VolumeId, Fullness> {
        let all = self.of_all(|volume, _| Some((volume.name.clone(), Fullness::of(volume))));
        let all: HashMap<VolumeId, Fullness> = all.into_iter().collect();
        // After a restart, a volume where recordings are stopped is engaged still.
        let stopped: BTreeSet<VolumeId> =
            self.with_history(|history| history.stopped.values().map(|stopped| stopped.volume.clone()).collect());
        let mut memory = lock(&self.switch.memory);
        if !all.is_empty() {
            memory.engaged.retain(|volume| all.contains_key(volume));
        }
        for (volume, fullness) in &all {
            let before = memory.engaged.contains(volume) || stopped.contains(volume);
            if engaged(before, *fullness) {
                memory.engaged.insert(volume.clone());
            } else {
                memory.engaged.remove(volume);
            }
        }
        all
    }

    /// Where the streams of a media server are recorded.
    fn board(&self, settings: &MediaServerSettings, config: Option<&ServerConfig>, below: i32) -> Board {
        let root = config.and_then(|config| records_at(settings, config));
        let mut known: HashMap<String, (Timestamp, Home)> = HashMap::new();
        let roots = self.of_all(|volume, tree| {
            let policy = &tree.policy;
            if policy.layout.kind() != LayoutKind::Zlmediakit {
                return None;
            }
            for stream in &tree.survey.streams {
                let touched = stream.touched.unwrap_or_default();
                let here = || (touched, home(policy, &volume.name, &stream.name));
                // The tree that was written last is the one that is written.
                let entry = known.entry(stream.name.as_str().to_owned()).or_insert_with(here);
                if entry.0 < touched {
                    *entry = here();
                }
            }
            let path = Path::new(&tree.path);
            let has = root.as_ref().is_some_and(|root| root.starts_with(path) || path.starts_with(root));
            has.then(|| (policy.clone(), volume.name.clone()))
        });
        let mut roots = roots.into_iter();
        // Of several nobody can tell which a new stream is recorded into.
        let root = roots.next().filter(|_| roots.next().is_none());
        Board { below, known, root, vhosts: config.map(|config| config.vhosts) }
    }
}

/// What one step does.
#[derive(Default)]
struct Work {
    stop: Vec<Switchable<StreamOf>>,
    start: Vec<Switchable<StreamOf>>,
    release: Released,
}

/// What is not stopped because of us any more, and why.
type Released = Vec<(StreamOf, &'static str)>;

/// Puts on record what is withheld, as soon as it is, until nobody answers hooks any more.
pub(super) async fn keep_record(hub: Arc<Hub>, mut answering: watch::Receiver<()>) {
    loop {
        let over = tokio::select! {
            () = hub.switch.news.notified() => false,
            _ = answering.changed() => true,
        };
        let own = hub.clone();
        let kept = spawn_blocking(move || record_withheld(&own)).await.unwrap_or(false);
        if over {
            return;
        }
        if !kept {
            // It is news still, and nobody is told of that more often.
            hub.switch.news.notify_one();
            tokio::select! {
                () = tokio::time::sleep(REST) => {}
                _ = answering.changed() => {}
            }
        }
    }
}

/// Puts on record that streams were withheld; false if that failed. One at a time does this. It may block.
fn record_withheld(hub: &Hub) -> bool {
    let news: Vec<(StreamOf, Home)> = {
        let memory = lock(&hub.switch.memory);
        let news = memory.withheld.iter().filter(|(_, one)| !one.recorded);
        news.map(|(stream, one)| (stream.clone(), one.home.clone())).collect()
    };
    for some in news.chunks(AT_ONCE) {
        // One that was stopped before it ended, and came back, is on record already.
        let new: Vec<(&StreamOf, &Home, String)> = hub.with_history(|history| {
            let new = some.iter().filter(|(stream, _)| !history.stopped.contains_key(stream));
            let why =
                |home: &Home| format!("volume {} is about to fill, and its priority is {}", home.volume, home.priority);
            new.map(|(stream, home)| (stream, home, why(home))).collect()
        });
        let notes = new.iter().map(|(stream, home, why)| recording_note(stream, Some(&stopped_at(hub, home)), why));
        if let Err(error) = hub.journal.append_synced(notes.collect(), hub.now()) {
            let text = format!("it is not on record yet that {} streams are not recorded: {error}", news.len());
            hub.record(&Event::Remark { text, urgent: true });
            return false;
        }
        let mut memory = lock(&hub.switch.memory);
        for (stream, _) in some {
            if let Some(one) = memory.withheld.get_mut(stream) {
                one.recorded = true;
            }
        }
        drop(memory);
        for (stream, _, why) in new {
            tell(hub, stream, SwitchStep::Withheld, why);
        }
    }
    true
}

/// A media server at which a step is being carried out, until this is dropped.
struct Busy<'a>(&'a Hub, MediaServerId);

impl<'a> Busy<'a> {
    fn begin(hub: &'a Hub, server: &MediaServerId) -> Option<Self> {
        lock(&hub.switch.memory).busy.insert(server.clone()).then(|| Self(hub, server.clone()))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(&self.0.switch.memory).busy.remove(&self.1);
    }
}

/// One step for one media server, after it was asked for its streams; nothing while the last one is under way.
pub(super) async fn step(hub: &Arc<Hub>, server: &MediaServerId, client: &Client) {
    let Some(_busy) = Busy::begin(hub, server) else { return };
    let (own, name) = (hub.clone(), server.clone());
    let Ok(work) = spawn_blocking(move || decide(&own, &name)).await else { return };
    for one in work.stop {
        stop(hub, client, one).await;
    }
    for one in work.start {
        start(hub, client, one).await;
    }
    for (stream, why) in work.release {
        if put(hub, stream.clone(), None, why.to_owned()).await {
            tell(hub, &stream, SwitchStep::Released, why.to_owned());
        }
    }
}

fn stopped_at(hub: &Hub, home: &Home) -> Stopped {
    Stopped { since: hub.now(), volume: home.volume.clone(), tree: home.tree.clone() }
}

/// What is to be done for one media server now.
fn decide(hub: &Hub, server: &MediaServerId) -> Work {
    let servers = hub.live.servers();
    let Some((settings, config)) = servers.iter().find(|(settings, _)| settings.name == *server) else {
        return Work::default();
    };
    let switch = settings.recording_switch;
    let stopped: Vec<(StreamOf, Stopped)> = hub.with_history(|history| {
        let own = history.stopped.iter().filter(|((name, _), _)| name == server);
        own.map(|(stream, stopped)| (stream.clone(), stopped.clone())).collect()
    });
    if hub.idle(server, &stopped, |_| switch.is_none()) {
        return Work::default();
    }
    let fullness = hub.fullness();
    if hub.idle(server, &stopped, |memory| memory.engaged.is_empty()) {
        return Work::default();
    }
    let below = switch.map_or(i32::MIN, |switch| switch.below_priority);
    let board = Arc::new(hub.board(settings, config.as_deref(), below));
    let views = hub.live.views();
    let mut memory = lock(&hub.switch.memory);
    match switch {
        Some(_) => memory.boards.insert(server.clone(), board.clone()),
        None => memory.boards.remove(server),
    };
    let Some(view) = views.into_iter().find(|view| view.name == *server && view.up() && view.listed.is_some()) else {
        return Work::default();
    };
    let scene = Scene { view, board, fullness, stopped, switched: switch.is_some(), boot: hub.clock.boottime() };
    memory.failed.retain(|_, until| *until > scene.boot);
    if scene.settle_withheld(&mut memory) {
        hub.switch.news.notify_one();
    }
    let stop = scene.stops(&mut memory);
    let (start, release) = scene.of_stopped(&mut memory, &stop);
    Work { stop, start, release }
}

impl Hub {
    /// Nothing of a media server is or was withheld or stopped, and nothing is going to be, as `quiet` says: its streams are recorded.
    fn idle(&self, server: &MediaServerId, stopped: &[(StreamOf, Stopped)], quiet: impl Fn(&Memory) -> bool) -> bool {
        let mut memory = lock(&self.switch.memory);
        let idle = stopped.is_empty() && quiet(&memory) && !memory.withheld.keys().any(|(name, _)| name == server);
        if idle {
            memory.boards.remove(server);
        }
        idle
    }
}

/// What is known of a media server that answers, when it is decided what is done there.
struct Scene {
    view: MediaServerView,
    board: Arc<Board>,
    fullness: HashMap<VolumeId, Fullness>,
    /// What is on record.
    stopped: Vec<(StreamOf, Stopped)>,
    /// It has a switch.
    switched: bool,
    /// The time, by the clock that does not jump.
    boot: Duration,
}

impl Scene {
    fn listed(&self, stream: &StreamOf) -> Option<&LiveStream> {
        self.view.streams.iter().find(|live| live.names == stream.1)
    }

    fn switchable(&self, stream: StreamOf, home: Home) -> Switchable<StreamOf> {
        let fullness = self.fullness.get(&home.volume).copied().unwrap_or(Fullness::Unknown);
        Switchable { stream, home, fullness }
    }

    /// Forgets what was withheld and needs to be remembered no more; whether some of the rest is on no record.
    fn settle_withheld(&self, memory: &mut Memory) -> bool {
        let on_record = |stream: &StreamOf| self.stopped.iter().any(|(known, _)| known == stream);
        let mut news = false;
        memory.withheld.retain(|stream, one| {
            if stream.0 != self.view.name {
                return true;
            }
            match self.listed(stream) {
                // One that is recorded all the same was begun by somebody else.
                Some(live) if live.mp4 == Some(true) => one.ahead(self.boot),
                Some(_) if on_record(stream) => false,
                Some(_) => {
                    // It may have been, and was released in the moment before it appeared.
                    one.recorded = false;
                    news = true;
                    true
                }
                None => one.young(self.boot) || on_record(stream),
            }
        });
        news
    }

    /// What is recorded, and is not to be any more.
    fn stops(&self, memory: &mut Memory) -> Vec<Switchable<StreamOf>> {
        if !self.switched {
            return Vec::new();
        }
        let recorded = self.view.streams.iter().filter(|stream| stream.mp4 == Some(true) && plain(&stream.names));
        let running = recorded.filter_map(|stream| {
            let home = self.board.home(&stream.names)?;
            Some(self.switchable((self.view.name.clone(), stream.names.clone()), home))
        });
        let running: Vec<_> = running.filter(|one| !memory.failed.contains_key(&one.stream)).collect();
        let stop = to_stop(&running, self.board.below, &|volume| memory.asked.get(volume).copied());
        for one in &stop {
            if let Fullness::Critical(at) = one.fullness {
                memory.asked.insert(one.home.volume.clone(), at);
            }
        }
        stop
    }

    /// What of that which is on record is begun again, and what is released, and why; `stop` is being stopped just now.
    fn of_stopped(&self, memory: &mut Memory, stop: &[Switchable<StreamOf>]) -> (Vec<Switchable<StreamOf>>, Released) {
        let (mut waiting, mut release) = (Vec::new(), Vec::new());
        for (stream, was) in &self.stopped {
            let one = self.was_stopped(stream.clone(), was, memory);
            match self.listed(stream) {
                Some(live) if live.mp4 == Some(true) => {
                    // What is being stopped just now is recorded for a moment still, and what was just published was before it ended.
                    let soon = memory.withheld.contains_key(stream);
                    if !soon && !stop.iter().any(|stopping| stopping.stream == *stream) {
                        release.push((one.stream, "somebody else began its recording again"));
                    }
                }
                // It was published a moment ago.
                None if memory.withheld.get(stream).is_some_and(|one| one.young(self.boot)) => {}
                None if memory.withheld.contains_key(stream) => release.push((one.stream, "its stream did not begin")),
                None if one.fullness == Fullness::Relieved => release.push((
                    one.stream,
                    "its stream has ended; it is recorded when it comes back, as its media server decides",
                )),
                Some(_) if !memory.failed.contains_key(stream) => waiting.push(one),
                Some(_) | None => {}
            }
        }
        (to_start(&waiting), release)
    }

    /// A stream that is on record, and how full its volume is; below its low mark, if nobody would ever begin it again otherwise: without a
    /// switch, or where its volume is guarded no more.
    fn was_stopped(&self, stream: StreamOf, was: &Stopped, memory: &mut Memory) -> Switchable<StreamOf> {
        let priority = self.board.home(&stream.1).map_or(0, |home| home.priority);
        let home = Home { tree: was.tree.clone(), volume: was.volume.clone(), mode: Mode::Enforce, priority };
        let mut one = self.switchable(stream, home);
        let gone = if self.fullness.contains_key(&was.volume) {
            memory.missing.remove(&was.volume);
            false
        } else {
            self.boot.saturating_sub(*memory.missing.entry(was.volume.clone()).or_insert(self.boot)) >= MISSING
        };
        if !self.switched || gone {
            one.fullness = Fullness::Relieved;
        }
        one
    }
}

/// Whether a recording ended, as its media server says when it is asked again: what it answered to the request proves nothing.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Yes,
    No(String),
    Unknown(String),
}

/// What follows from the answers to the request, and to the question whether it is recorded still.
fn ended(answered: Result<bool, ApiError>, recorded: Result<bool, ApiError>) -> Ended {
    match (answered, recorded) {
        (Err(ApiError::NoStream { .. }), _) | (_, Ok(false) | Err(ApiError::NoStream { .. })) => Ended::Yes,
        (Ok(true), Ok(true)) => Ended::No("it answered that it stopped, and records on".to_owned()),
        (Ok(false), Ok(true)) => Ended::No("it answered that it did not".to_owned()),
        (Err(error), Ok(true)) => Ended::No(error.to_string()),
        (Err(error), Err(_)) | (Ok(_), Err(error)) => Ended::Unknown(error.to_string()),
    }
}

async fn stop(hub: &Arc<Hub>, client: &Client, one: Switchable<StreamOf>) {
    let Switchable { stream, home, .. } = one;
    let server = stream.0.clone();
    let why = format!("volume {} is critical, and its priority is {}", home.volume, home.priority);
    if !put(hub, stream.clone(), Some(stopped_at(hub, &home)), why.clone()).await {
        return;
    }
    let answered = client.stop_record(&stream.1, Recorded::Mp4).await;
    match ended(answered, client.is_recording(&stream.1, Recorded::Mp4).await) {
        Ended::Yes => tell(hub, &stream, SwitchStep::Stopped, why),
        // It is recorded still, so nothing has to be begun again.
        Ended::No(error) => {
            put(hub, stream.clone(), None, format!("it could not be stopped: {error}")).await;
            fail(hub, stream, error);
        }
        // It may have been stopped: it stays on record, to be begun again, until the next list says that it is recorded.
        Ended::Unknown(error) => fail(hub, stream, format!("whether it was stopped is not known: {error}")),
    }
    hub.live.hurry(&server);
}

async fn start(hub: &Arc<Hub>, client: &Client, one: Switchable<StreamOf>) {
    let Switchable { stream, home, .. } = one;
    let why = begun_because(hub, &stream.0, &home.volume);
    match client.start_record(&stream.1, Recorded::Mp4).await {
        Ok(true) => {
            if put(hub, stream.clone(), None, why.clone()).await {
                tell(hub, &stream, SwitchStep::Started, why);
            }
        }
        Ok(false) => fail(hub, stream, "it answered that it did not begin".to_owned()),
        // The next list will say that it has ended.
        Err(ApiError::NoStream { .. }) => {}
        Err(error) => fail(hub, stream, error.to_string()),
    }
}

/// Why a recording is begun again.
fn begun_because(hub: &Hub, server: &MediaServerId, volume: &VolumeId) -> String {
    let switched = |settings: &MediaServerSettings| settings.name == *server && settings.recording_switch.is_some();
    if !hub.live.servers().iter().any(|(settings, _)| switched(settings)) {
        "`recording_switch` was taken out of the configuration".to_owned()
    } else if !hub.views().iter().any(|view| view.name == *volume) {
        format!("volume {volume} is not guarded any more")
    } else {
        format!("volume {volume} is below its low mark again")
    }
}

fn fail(hub: &Hub, stream: StreamOf, why: String) {
    tell(hub, &stream, SwitchStep::Failed, why);
    let until = hub.clock.boottime() + AGAIN;
    lock(&hub.switch.memory).failed.insert(stream, until);
}

fn tell(hub: &Hub, (server, stream): &StreamOf, step: SwitchStep, why: String) {
    hub.record(&Event::RecordingSwitched { server: server.clone(), stream: stream.name(), step, why });
}

/// Puts on record that a stream is stopped, or, without `stopped`, that it is not any more.
async fn put(hub: &Arc<Hub>, stream: StreamOf, stopped: Option<Stopped>, why: String) -> bool {
    let own = hub.clone();
    let note = recording_note(&stream, stopped.as_ref(), &why);
    let appended = spawn_blocking(move || own.append(note)).await;
    match appended {
        Ok(Ok(())) => true,
        Ok(Err(refusal)) => {
            let text = format!("the recording of a stream was not switched: {}", refusal.message);
            hub.record(&Event::Remark { text, urgent: true });
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
#[path = "switch_tests.rs"]
mod tests;
