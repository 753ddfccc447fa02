//! The recording switch: carries out what `domain::recording_switch` decides.
//!
//! 1. That a stream's recording is stopped is on record before the media server is asked to: after a crash it is begun again all the same.
//! 2. An answer is not believed: whether it records any more is asked afterwards.
//! 3. That it is begun again is on record once it is.
//! 4. Whoever publishes a stream is answered from memory; what was withheld is put on record at the next step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::hub::{Hub, lock};
use crate::domain::event::Event;
use crate::domain::history::{Stopped, StreamOf, recording_note};
use crate::domain::layout::LayoutKind;
use crate::domain::live::{LiveStream, StreamTuple};
use crate::domain::media::MediaServerSettings;
use crate::domain::names::{MediaServerId, StreamId, VolumeId};
use crate::domain::recording_switch::{Fullness, Home, SwitchStep, Switchable, engaged, may_begin, to_start, to_stop};
use crate::domain::retention::{Mode, TreePolicy};
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
/// Of a stream whose virtual host nobody names.
const DEFAULT_VHOST: &str = "__defaultVhost__";

/// What the switch remembers between two steps.
#[derive(Default)]
pub(super) struct Switch(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    /// Volumes that are critical, or were and are not below their low mark yet.
    engaged: BTreeSet<VolumeId>,
    /// Where the streams of each media server with a switch are recorded; only while a volume is engaged.
    boards: BTreeMap<MediaServerId, Arc<Board>>,
    /// Streams that were not begun, by app and stream, where they are recorded, and when that was, by the clock that does not jump.
    withheld: BTreeMap<(MediaServerId, String, String), (Home, Duration)>,
    /// Volumes of stopped streams that are guarded no more, and since when, by the clock that does not jump.
    missing: BTreeMap<VolumeId, Duration>,
    /// At which reading streams of a volume were stopped last.
    asked: BTreeMap<VolumeId, Timestamp>,
    /// Media servers at which a step is being carried out.
    busy: BTreeSet<MediaServerId>,
    /// What failed, and when it may be tried again, by the clock that does not jump.
    failed: HashMap<StreamOf, Duration>,
}

/// Where the streams of one media server are recorded.
struct Board {
    below: i32,
    /// Of streams that have files.
    known: HashMap<String, (Timestamp, Home)>,
    /// Of the others.
    root: Option<(Arc<TreePolicy>, VolumeId)>,
    vhosts: bool,
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
        let named = StreamId::new(if self.vhosts { &full } else { &name });
        Some(home(policy, volume, &named))
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
    pub fn may_record(&self, server: &MediaServerId, app: &str, stream: &str) -> bool {
        let mut memory = lock(&self.switch.0);
        if memory.engaged.is_empty() {
            return true;
        }
        let Some(board) = memory.boards.get(server).cloned() else { return true };
        let names = StreamTuple { vhost: DEFAULT_VHOST.to_owned(), app: app.to_owned(), stream: stream.to_owned() };
        let Some(home) = board.home(&names) else { return true };
        if may_begin(&home, board.below, memory.engaged.contains(&home.volume)) || !plain(&names) {
            return true;
        }
        if memory.withheld.len() >= WITHHELD {
            return true;
        }
        memory.withheld.insert((server.clone(), names.app, names.stream), (home, self.clock.boottime()));
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
        let mut memory = lock(&self.switch.0);
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
        Board { below, known, root, vhosts: config.is_some_and(|config| config.vhosts) }
    }
}

/// What one step does.
#[derive(Default)]
struct Work {
    /// Put on record that these were not begun.
    withheld: Vec<(StreamOf, Home)>,
    stop: Vec<Switchable<StreamOf>>,
    start: Vec<Switchable<StreamOf>>,
    /// Not stopped because of us any more, and why.
    release: Vec<(StreamOf, &'static str)>,
}

/// A media server at which a step is being carried out, until this is dropped.
struct Busy<'a>(&'a Hub, MediaServerId);

impl<'a> Busy<'a> {
    fn begin(hub: &'a Hub, server: &MediaServerId) -> Option<Self> {
        lock(&hub.switch.0).busy.insert(server.clone()).then(|| Self(hub, server.clone()))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(&self.0.switch.0).busy.remove(&self.1);
    }
}

/// One step for one media server, after it was asked for its streams; nothing while the last one is under way.
pub(super) async fn step(hub: &Arc<Hub>, server: &MediaServerId, client: &Client) {
    let Some(_busy) = Busy::begin(hub, server) else { return };
    let (own, name) = (hub.clone(), server.clone());
    let Ok(work) = spawn_blocking(move || decide(&own, &name)).await else { return };
    for (stream, home) in work.withheld {
        let why = format!("volume {} is about to fill, and its priority is {}", home.volume, home.priority);
        if put(hub, stream.clone(), Some(stopped_at(hub, &home)), why.clone()).await {
            tell(hub, &stream, SwitchStep::Withheld, why);
        }
    }
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
    let below = settings.recording_switch.map(|switch| switch.below_priority);
    let stopped: Vec<(StreamOf, Stopped)> = hub.with_history(|history| {
        let own = history.stopped.iter().filter(|((name, _), _)| name == server);
        own.map(|(stream, stopped)| (stream.clone(), stopped.clone())).collect()
    });
    if below.is_none() && stopped.is_empty() {
        lock(&hub.switch.0).boards.remove(server);
        return Work::default();
    }
    let fullness = hub.fullness();
    let idle = |memory: &Memory| {
        memory.engaged.is_empty() && stopped.is_empty() && !memory.withheld.keys().any(|(name, ..)| name == server)
    };
    if idle(&lock(&hub.switch.0)) {
        lock(&hub.switch.0).boards.remove(server);
        return Work::default();
    }
    let board = Arc::new(hub.board(settings, config.as_deref(), below.unwrap_or(i32::MIN)));
    let views = hub.live.views();
    let Some(view) = views.iter().find(|view| view.name == *server).filter(|view| view.up() && view.listed.is_some())
    else {
        lock(&hub.switch.0).boards.insert(server.clone(), board);
        return Work::default();
    };
    let boot = hub.clock.boottime();
    let mut memory = lock(&hub.switch.0);
    memory.failed.retain(|_, until| *until > boot);
    match below {
        Some(_) => memory.boards.insert(server.clone(), board.clone()),
        None => memory.boards.remove(server),
    };
    let recorded = |stream: &&LiveStream| stream.mp4 == Some(true) && plain(&stream.names);
    let there = |names: &StreamTuple| view.streams.iter().find(|stream| stream.names == *names);
    let mut work = Work::default();
    let news = |stream: &StreamOf| !stopped.iter().any(|(known, _)| known == stream);
    memory.withheld.retain(|(name, app, stream), (home, since)| {
        if name != server {
            return true;
        }
        let found = view.streams.iter().find(|live| live.names.app == *app && live.names.stream == *stream);
        let Some(live) = found else { return boot.saturating_sub(*since) < APPEARS };
        let stream = (server.clone(), live.names.clone());
        // One that is recorded all the same was begun by somebody else.
        if live.mp4 != Some(true) && news(&stream) {
            work.withheld.push((stream, home.clone()));
        }
        false
    });

    let switchable = |stream: StreamOf, home: Home| {
        let fullness = fullness.get(&home.volume).copied().unwrap_or(Fullness::Unknown);
        Switchable { stream, home, fullness }
    };
    if below.is_some() {
        let running = view.streams.iter().filter(recorded).filter_map(|stream| {
            let names = &stream.names;
            Some(switchable((server.clone(), names.clone()), board.home(names)?))
        });
        let running: Vec<_> = running.filter(|one| !memory.failed.contains_key(&one.stream)).collect();
        work.stop = to_stop(&running, board.below, &|volume| memory.asked.get(volume).copied());
        for one in &work.stop {
            if let Fullness::Critical(at) = one.fullness {
                memory.asked.insert(one.home.volume.clone(), at);
            }
        }
    }
    let mut waiting = Vec::new();
    for (stream, was) in stopped {
        let priority = board.home(&stream.1).map_or(0, |home| home.priority);
        let home = Home { tree: was.tree, volume: was.volume, mode: Mode::Enforce, priority };
        let mut one = switchable(stream, home);
        let gone = match fullness.contains_key(&one.home.volume) {
            true => {
                memory.missing.remove(&one.home.volume);
                false
            }
            false => boot.saturating_sub(*memory.missing.entry(one.home.volume.clone()).or_insert(boot)) >= MISSING,
        };
        // Without a switch, or where its volume is guarded no more, nobody would ever begin it again.
        if below.is_none() || gone {
            one.fullness = Fullness::Relieved;
        }
        match there(&one.stream.1) {
            Some(live) if live.mp4 == Some(true) => {
                // What is being stopped just now is recorded for a moment still.
                if !work.stop.iter().any(|stopping| stopping.stream == one.stream) {
                    work.release.push((one.stream, "somebody else began its recording again"));
                }
            }
            None if one.fullness == Fullness::Relieved => {
                work.release.push((
                    one.stream,
                    "its stream has ended; it is recorded when it comes back, as its media server decides",
                ));
            }
            Some(_) if !memory.failed.contains_key(&one.stream) => waiting.push(one),
            Some(_) | None => {}
        }
    }
    work.start = to_start(&waiting);
    work
}

/// Whether a recording ended, as its media server says when it is asked again: what it answered to the request proves nothing.
enum Ended {
    Yes,
    No(String),
    Unknown(String),
}

async fn stop(hub: &Arc<Hub>, client: &Client, one: Switchable<StreamOf>) {
    let Switchable { stream, home, .. } = one;
    let server = stream.0.clone();
    let why = format!("volume {} is critical, and its priority is {}", home.volume, home.priority);
    if !put(hub, stream.clone(), Some(stopped_at(hub, &home)), why.clone()).await {
        return;
    }
    let stopped = client.stop_record(&stream.1, Recorded::Mp4).await;
    let ended = match (&stopped, client.is_recording(&stream.1, Recorded::Mp4).await) {
        (Err(ApiError::NoStream { .. }), _) | (_, Ok(false) | Err(ApiError::NoStream { .. })) => Ended::Yes,
        (Ok(true), Ok(true)) => Ended::No("it answered that it stopped, and records on".to_owned()),
        (Ok(false), Ok(true)) => Ended::No("it answered that it did not".to_owned()),
        (Err(error), Ok(true)) => Ended::No(error.to_string()),
        (Err(error), Err(_)) => Ended::Unknown(error.to_string()),
        (Ok(_), Err(error)) => Ended::Unknown(error.to_string()),
    };
    match ended {
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
    let why = format!("volume {} is below its low mark again", home.volume);
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

fn fail(hub: &Hub, stream: StreamOf, why: String) {
    tell(hub, &stream, SwitchStep::Failed, why);
    let until = hub.clock.boottime() + AGAIN;
    lock(&hub.switch.0).failed.insert(stream, until);
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
