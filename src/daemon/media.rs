//! Media servers: their hooks, what hears them, and what their platforms are told.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::abandoned::Abandoned;
use super::hub::Hub;
use super::listening::{DaemonError, address_of, listen_for_many};
use super::switch::keep_record;
use crate::domain::event::Event;
use crate::domain::live::StreamTuple;
use crate::domain::media::{HookEvent, HookSettings, MediaServerSettings};
use crate::domain::names::MediaServerId;
use crate::domain::relay::RelayView;
use crate::server::{Limits, serve_tcp};
use crate::store::Database;
use crate::system::{PassedSocket, passed_sockets};
use crate::zlmediakit::{Courier, HookApp, HookStore, MayRecord, Outlet, Relayed, Told, hook_router};

/// A media server whose hooks are received.
struct Heard {
    name: MediaServerId,
    relayed: Arc<ArcSwap<Relayed>>,
    outlet: Arc<Outlet>,
}

/// The media servers of the configuration that the guard was started with.
pub(super) struct Media {
    hub: Arc<Hub>,
    database: Arc<Database>,
    /// `None` where no hooks are received.
    store: Option<HookStore>,
    abandoned: Arc<Abandoned>,
    heard: Vec<Heard>,
}

/// The media servers whose hooks are received, and the settings of these.
fn with_hooks(all: &[MediaServerSettings]) -> impl Iterator<Item = (&MediaServerId, &HookSettings)> {
    all.iter().filter_map(|server| server.hooks.as_ref().map(|hooks| (&server.name, hooks)))
}

impl Media {
    /// Begins to keep what hooks tell. Nobody listens yet.
    pub(super) fn start(
        all: &[MediaServerSettings],
        database: Arc<Database>,
        hub: &Arc<Hub>,
    ) -> Result<Self, DaemonError> {
        let heard = with_hooks(all).map(|(name, hooks)| {
            let relayed = relayed(name, hooks)?;
            Ok(Heard { name: name.clone(), relayed: Arc::new(ArcSwap::from_pointee(relayed)), outlet: Arc::default() })
        });
        let heard = heard.collect::<Result<Vec<Heard>, String>>().map_err(DaemonError::Relay)?;
        let store = match heard.is_empty() {
            true => None,
            false => {
                let outlets = heard.iter().map(|heard| (heard.name.clone(), heard.outlet.clone())).collect();
                let started = HookStore::start(database.clone(), hub.clock.clone(), recorder(hub), outlets);
                Some(started.map_err(|source| DaemonError::Start { what: "keeper of hooks", source })?)
            }
        };
        let abandoned = Arc::new(Abandoned::new(hub.clone(), database.clone()));
        abandoned.set(all);
        Ok(Self { hub: hub.clone(), database, store, abandoned, heard })
    }

    /// Listens for hooks, and delivers what they tell, until the shutdown.
    pub(super) fn serve(
        &self,
        tasks: &mut JoinSet<()>,
        open_files: u64,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<(), DaemonError> {
        tasks.spawn(self.abandoned.clone().watch(shutdown.clone()));
        let Some(store) = &self.store else { return Ok(()) };
        let limits = Limits::for_hooks(open_files, self.heard.len());
        let mut passed =
            passed_sockets().map_err(|source| DaemonError::Start { what: "sockets that systemd opened", source })?;
        // It is closed once nobody answers any more.
        let (answering, answered) = watch::channel(());
        tasks.spawn(keep_record(self.hub.clone(), answered));
        for heard in &self.heard {
            let listener = self.listener(heard, &mut passed)?;
            let app = HookApp {
                media_server: heard.name.clone(),
                relayed: heard.relayed.clone(),
                outlet: heard.outlet.clone(),
                store: store.clone(),
                told: self.told(),
                may_record: self.may_record(),
                events: recorder(&self.hub),
                clock: self.hub.clock.clone(),
            };
            let (answering, serving) =
                (answering.clone(), serve_tcp(listener, hook_router(app), limits, shutdown.clone()));
            tasks.spawn(async move {
                serving.await;
                drop(answering);
            });
            let courier = Courier {
                media_server: heard.name.clone(),
                relayed: heard.relayed.clone(),
                database: self.database.clone(),
                outlet: heard.outlet.clone(),
                events: recorder(&self.hub),
                clock: self.hub.clock.clone(),
            };
            tasks.spawn(courier.run(shutdown.clone()));
        }
        for socket in passed {
            let (name, address) = (socket.name, socket.address);
            let text = format!(
                "systemd opened a socket `{name}` at {address}, which no media server's hooks ask for; it is closed"
            );
            self.hub.record(&Event::Remark { text, urgent: false });
        }
        Ok(())
    }

    /// The socket of a media server: the one that systemd keeps open for it, if there is one.
    fn listener(&self, heard: &Heard, passed: &mut Vec<PassedSocket>) -> Result<TcpListener, DaemonError> {
        let wanted = heard.relayed.load().settings().listen;
        let named = passed.iter().position(|socket| socket.name == heard.name.as_str());
        let found = named.or_else(|| passed.iter().position(|socket| socket.address == wanted));
        let (listener, from) = match found.map(|at| passed.remove(at)) {
            None => (listen_for_many(wanted)?, "own"),
            Some(socket) => {
                if socket.address != wanted {
                    let (name, address) = (&heard.name, socket.address);
                    let text = format!(
                        "hooks of media server `{name}` are received at {address}, where systemd listens, and not at {wanted}, as `hooks.listen` says"
                    );
                    self.hub.record(&Event::Remark { text, urgent: false });
                }
                let taken = TcpListener::from_std(socket.listener);
                (taken.map_err(|source| DaemonError::Listen { address: wanted, source })?, "systemd")
            }
        };
        tracing::info!(media_server = %heard.name, address = %address_of(&listener), socket = from, "Listening for hooks.");
        Ok(listener)
    }

    /// Who hears what media servers tell of themselves and of their streams.
    fn told(&self) -> Told {
        let live = self.hub.live.clone();
        Arc::new(move |server: &MediaServerId, event: HookEvent, body: &Value| live.told(server, event, body))
    }

    /// Who knows which streams may be recorded.
    fn may_record(&self) -> MayRecord {
        let hub = self.hub.clone();
        Arc::new(move |server: &MediaServerId, stream: &StreamTuple| hub.may_record(server, stream))
    }

    /// How the relays do; what waits is told also where nothing is relayed any more.
    pub(super) fn relays(&self) -> Vec<RelayView> {
        let all = self.heard.iter().map(|heard| (heard, heard.outlet.status()));
        let shown = all.filter(|(heard, status)| status.waiting > 0 || heard.relayed.load().settings().relay.is_some());
        let view =
            |(heard, status): (&Heard, _)| RelayView { media_server: heard.name.clone(), status, unrelayed: None };
        shown.map(view).collect()
    }

    /// The same, and what waits for platforms that have no relay any more, or whose media server is none of ours now.
    pub(super) fn relays_and_abandoned(&self) -> Vec<RelayView> {
        let mut all = self.relays();
        for abandoned in self.abandoned.views() {
            match all.iter_mut().find(|view| view.media_server == abandoned.media_server) {
                Some(view) => view.unrelayed = abandoned.unrelayed,
                None => all.push(abandoned),
            }
        }
        all
    }

    /// What another configuration wants and cannot have while the guard runs.
    pub(super) fn refuses(&self, all: &[MediaServerSettings]) -> Option<String> {
        let now: Vec<_> =
            self.heard.iter().map(|heard| (&heard.name, heard.relayed.load().settings().listen)).collect();
        let wanted: Vec<_> = with_hooks(all).map(|(name, hooks)| (name, hooks.listen)).collect();
        if now != wanted {
            let text = "the media servers that have hooks, and their hooks.listen, cannot be changed while the guard runs; start it again";
            return Some(text.to_owned());
        }
        with_hooks(all).find_map(|(name, hooks)| relayed(name, hooks).err())
    }

    /// Another configuration is in force.
    pub(super) fn set(&self, all: &[MediaServerSettings]) {
        self.abandoned.set(all);
        for (name, hooks) in with_hooks(all) {
            let Some(heard) = self.heard.iter().find(|heard| heard.name == *name) else { continue };
            if *heard.relayed.load().settings() == *hooks {
                continue;
            }
            match relayed(name, hooks) {
                Ok(relayed) => {
                    heard.relayed.store(Arc::new(relayed));
                    heard.outlet.changed();
                }
                Err(text) => self.hub.record(&Event::Remark { text, urgent: true }),
            }
        }
    }
}

fn relayed(name: &MediaServerId, hooks: &HookSettings) -> Result<Relayed, String> {
    Relayed::new(hooks.clone()).map_err(|why| format!("media server `{name}`: {why}"))
}

fn recorder(hub: &Arc<Hub>) -> Arc<dyn Fn(Event) + Send + Sync> {
    let hub = hub.clone();
    Arc::new(move |event: Event| hub.record(&event))
}
