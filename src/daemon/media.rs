//! Media servers: their hooks, and what hears them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::hub::Hub;
use super::listening::{DaemonError, listen_for_many};
use crate::domain::event::Event;
use crate::domain::media::{HookEvent, HookSettings, MediaServerSettings};
use crate::domain::names::MediaServerId;
use crate::server::{Limits, serve_tcp};
use crate::store::Database;
use crate::zlmediakit::{HookApp, HookStore, MayRecord, Told, hook_router};

/// A media server whose hooks are received.
struct Heard {
    name: MediaServerId,
    settings: Arc<ArcSwap<HookSettings>>,
}

/// The media servers of the configuration that the guard was started with.
pub(super) struct Media {
    hub: Arc<Hub>,
    /// `None` where no hooks are received.
    store: Option<HookStore>,
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
        let heard: Vec<Heard> = with_hooks(all)
            .map(|(name, hooks)| Heard { name: name.clone(), settings: Arc::new(ArcSwap::from_pointee(hooks.clone())) })
            .collect();
        let recorder = hub.clone();
        let events = Arc::new(move |event: Event| recorder.record(&event));
        let store = match heard.is_empty() {
            true => None,
            false => Some(
                HookStore::start(database, hub.clock.clone(), events)
                    .map_err(|source| DaemonError::Start { what: "keeper of hooks", source })?,
            ),
        };
        Ok(Self { hub: hub.clone(), store, heard })
    }

    /// Listens for hooks until the shutdown.
    pub(super) fn serve(
        &self,
        tasks: &mut JoinSet<()>,
        open_files: u64,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<(), DaemonError> {
        let limits = Limits::for_hooks(open_files, self.heard.len());
        for heard in &self.heard {
            let Some(store) = self.store.clone() else { continue };
            let listener = listen_for_many(heard.settings.load().listen)?;
            let address = listener.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
            tracing::info!(media_server = %heard.name, %address, "Listening for hooks.");
            let (recorder, told, may_record) = (self.hub.clone(), self.told(), self.may_record());
            let app = HookApp {
                media_server: heard.name.clone(),
                settings: heard.settings.clone(),
                store,
                told,
                may_record,
                events: Arc::new(move |event: Event| recorder.record(&event)),
                clock: self.hub.clock.clone(),
            };
            tasks.spawn(serve_tcp(listener, hook_router(app), limits, shutdown.clone()));
        }
        Ok(())
    }

    /// Who hears what media servers tell of themselves and of their streams.
    fn told(&self) -> Told {
        let live = self.hub.live.clone();
        Arc::new(move |server: &MediaServerId, event: HookEvent, body: &Value| live.told(server, event, body))
    }

    /// Who knows which streams may be recorded.
    fn may_record(&self) -> MayRecord {
        let hub = self.hub.clone();
        Arc::new(move |server: &MediaServerId, app: &str, stream: &str| hub.may_record(server, app, stream))
    }

    /// What another configuration wants and cannot have while the guard runs.
    pub(super) fn refuses(&self, all: &[MediaServerSettings]) -> Option<String> {
        let now: Vec<_> = self.heard.iter().map(|heard| (&heard.name, heard.settings.load().listen)).collect();
        let wanted: Vec<_> = with_hooks(all).map(|(name, hooks)| (name, hooks.listen)).collect();
        let text = "the media servers that have hooks, and their hooks.listen, cannot be changed while the guard runs; start it again";
        (now != wanted).then(|| text.to_owned())
    }

    /// Another configuration is in force.
    pub(super) fn set(&self, all: &[MediaServerSettings]) {
        for (name, hooks) in with_hooks(all) {
            if let Some(heard) = self.heard.iter().find(|heard| heard.name == *name) {
                heard.settings.store(Arc::new(hooks.clone()));
            }
        }
    }
}
