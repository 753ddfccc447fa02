//! The daemon: workers, listeners, signals, reload.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::alerts::{Alerts, compare, open_database};
use super::archiver::Archivers;
use super::callbacks;
use super::catalogues::Catalogues;
use super::gateway::Gateways;
use super::guard::{Guard, Parts};
use super::hub::{Hub, lock};
use super::listening::{DaemonError, attend_control, listen};
use super::live;
use super::media::Media;
use super::reading::Readers;
use super::systemd;
use super::token::operator;
use super::work::Worker;
use crate::config::{Config, Problem};
use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::domain::journal::{Entry, NoteKind};
use crate::domain::status::{TreeView, VolumeView};
use crate::domain::units::show_duration;
use crate::reclaim::Brake;
use crate::server::{
    Auth, Backend, ControlError, ControlSocket, Limits, metrics_router, operator_token, router, serve_tcp,
};
use crate::system::raise_open_files;

/// Tasks that do not end are left behind after this.
const GRACE: Duration = Duration::from_secs(6);
/// A worker that has been silent for so long hangs.
const STUCK: Duration = Duration::from_secs(120);

/// Reads the configuration again.
pub type Reread = Box<dyn Fn() -> Result<Config, Vec<Problem>> + Send + Sync>;

struct Running {
    config: Config,
    workers: Vec<Worker>,
    readers: Readers,
    archivers: Archivers,
    catalogues: Arc<Catalogues>,
    stop: Arc<AtomicBool>,
}

/// The guard, watching.
pub struct Daemon {
    pub(super) hub: Arc<Hub>,
    pub(super) parts: Parts,
    state: PathBuf,
    pub(super) reread: Reread,
    auth: Arc<Auth>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) media: Media,
    gateways: Gateways,
    running: Mutex<Running>,
    /// A reload was asked for and has not begun: more of the same are one.
    pub(super) asked: AtomicBool,
    /// One reload after the other.
    pub(super) turn: Mutex<()>,
    /// The guard ends: no reload begins any more.
    ending: AtomicBool,
    /// The disk of the state does not answer, and that was told.
    silent: AtomicBool,
    /// Somebody looks after what is stuck or could not be made yet.
    tending: AtomicBool,
    /// The operator's token could not be made yet.
    tokenless: AtomicBool,
    /// Files that the process may have open.
    open_files: u64,
}

impl Daemon {
    /// Opens everything and starts the workers.
    ///
    /// # Errors
    /// What cannot be opened or started.
    pub fn start(
        config: Config,
        state: PathBuf,
        mut parts: Parts,
        hub: Arc<Hub>,
        reread: Reread,
    ) -> Result<Arc<Self>, DaemonError> {
        let now = parts.clock.now();
        let (before, storm) = parts.journal.with_history(|history| (history.last_start, history.restart_storm(now)));
        if storm {
            parts.brake = Arc::new(Brake::on(parts.clock.as_ref()));
            let text = "the guard was started three times within five minutes; for the next five it deletes one batch a minute";
            hub.record(&Event::Remark { text: text.to_owned(), urgent: true });
        }
        let database = open_database(&state.join("guard.db"), &parts.state, &hub)?;
        let told = |event: Event| hub.record(&event);
        let place = Some((state.as_path(), parts.state.as_ref()));
        let mut catalogues = Catalogues::open(&config, place, database.clone(), &parts.clock, None, &told)?;
        catalogues.catch_up(&parts.journal, now, &told);
        parts.catalogues = Arc::new(catalogues);
        hub.set_catalogues(&parts.catalogues);
        hub.live.set(&config.media_servers, config.probe_interval);
        let guard = Guard::open(&config, &parts)?;
        parts.catalogues.forget_others(&told);
        let note = Entry::note(NoteKind::Started, format!("version {}", env!("CARGO_PKG_VERSION")));
        parts.journal.append_synced(vec![note], now)?;
        let operator = operator(&config, &state, &hub);
        let auth = Arc::new(Auth::new(&config.auth, operator.as_ref(), parts.clock.clone()));
        let tokenless = AtomicBool::new(operator.is_none() && config.auth.tokens.is_empty());
        compare(&database, &parts.journal, before, &hub);
        let gateways = Gateways::of(&config, &hub, &parts.machine);
        let media = Media::start(&config.media_servers, database.clone(), &hub)?;
        let alerts = Arc::new(Alerts::new(hub.clone(), &config.notify, database, state.join("guard.db")));
        alerts.set_homes(guard.homes());
        let running = run(config, guard, &hub, &parts, Readers::default())?;
        Ok(Arc::new(Self {
            hub,
            parts,
            state,
            reread,
            auth,
            alerts,
            media,
            gateways,
            running: Mutex::new(running),
            asked: AtomicBool::new(false),
            turn: Mutex::default(),
            ending: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            tending: AtomicBool::new(false),
            tokenless,
            open_files: raise_open_files(),
        }))
    }

    /// Serves until a signal ends it. `ready` is called once every volume was looked at.
    ///
    /// # Errors
    /// If a listener cannot be opened.
    pub fn serve(self: &Arc<Self>, ready: Box<dyn FnOnce(&Hub) + Send>) -> Result<(), DaemonError> {
        let failed = |what| move |source| DaemonError::Start { what, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(failed("runtime"))?;
        let result = runtime.block_on(self.clone().attend(ready));
        self.stop_workers();
        runtime.shutdown_timeout(GRACE);
        result
    }

    async fn attend(self: Arc<Self>, ready: Box<dyn FnOnce(&Hub) + Send>) -> Result<(), DaemonError> {
        let (end, shutdown) = watch::channel(false);
        let limits = Limits::within(self.open_files);
        let backend: Arc<dyn Backend> = self.clone();
        let (listeners, state) = {
            let running = lock(&self.running);
            (running.config.listeners, self.state.clone())
        };
        let mut tasks = tokio::task::JoinSet::new();
        let full = router(backend.clone(), self.auth.clone(), &limits);
        let listener = listen(listeners.main).await?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "Listening.");
        }
        tasks.spawn(serve_tcp(listener, full.clone(), limits, shutdown.clone()));
        if let Some(address) = listeners.metrics {
            let only = metrics_router(backend, self.auth.clone(), &limits);
            tasks.spawn(serve_tcp(listen(address).await?, only, limits, shutdown.clone()));
        }
        self.media.serve(&mut tasks, self.open_files, &shutdown)?;
        self.gateways.serve(&mut tasks, self.open_files, &shutdown)?;
        let control = match ControlSocket::bind(&state) {
            Ok(control) => Some(control),
            Err(error @ (ControlError::Occupied { .. } | ControlError::Foreign { .. })) => return Err(error.into()),
            // There is no room for it: the guard makes some, and takes requests over TCP meanwhile (promise 13).
            Err(error @ ControlError::Io { .. }) => {
                tracing::error!(error = chain(&error), "There is no control socket yet; it is tried again.");
                None
            }
        };
        tasks.spawn(attend_control(control, state, full, limits, shutdown.clone()));
        let hub = self.hub.clone();
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            while !hub.ready() {
                ticks.tick().await;
            }
            systemd::ready();
            while !hub.views().iter().all(VolumeView::seen) {
                ticks.tick().await;
            }
            let _ = tokio::task::spawn_blocking(move || ready(&hub)).await;
        });
        tasks.spawn(systemd::tell(self.hub.clone(), shutdown.clone()));
        tasks.spawn(self.alerts.notifier.clone().run(shutdown.clone()));
        tasks.spawn(live::watch(self.hub.clone(), shutdown.clone()));
        tasks.spawn(callbacks::tell(self.hub.clone(), shutdown.clone()));
        let quiet = Arc::new(AtomicBool::new(false));
        let (alerts, quieten) = (self.alerts.clone(), quiet.clone());
        std::thread::Builder::new()
            .name("alerts".to_owned())
            .spawn(move || alerts.watch(&quieten))
            .map_err(|source| DaemonError::Start { what: "alerts", source })?;
        self.heed_signals().await?;
        quiet.store(true, Ordering::Relaxed);
        systemd::stopping();
        self.ending.store(true, Ordering::Relaxed);
        lock(&self.running).stop.store(true, Ordering::Relaxed);
        self.hub.with_jobs(|jobs| jobs.close_feeds());
        let _ = end.send(true);
        let _ = tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
        Ok(())
    }

    /// Returns at the first SIGTERM or SIGINT; a second one ends the process at once.
    async fn heed_signals(self: &Arc<Self>) -> Result<(), DaemonError> {
        let failed = |source| DaemonError::Start { what: "signal handlers", source };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    // Both touch the state, whose disk may hang.
                    if !self.tending.swap(true, Ordering::Relaxed) {
                        let daemon = self.clone();
                        tokio::task::spawn_blocking(move || {
                            daemon.make_token();
                            daemon.isolate_what_is_stuck();
                            daemon.tending.store(false, Ordering::Relaxed);
                        });
                    }
                    if self.hub.take_reopen() || self.lost_a_worker() {
                        let daemon = self.clone();
                        tokio::task::spawn_blocking(move || daemon.reopen());
                    }
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    if !self.asked.swap(true, Ordering::Relaxed) {
                        let daemon = self.clone();
                        tokio::task::spawn_blocking(move || daemon.reload("SIGHUP"));
                    }
                }
            }
        }
        tracing::info!("Stopping; a second signal ends it at once.");
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            std::process::exit(130);
        });
        Ok(())
    }

    /// Makes the operator's token once there is room for it.
    fn make_token(&self) {
        if !self.tokenless.load(Ordering::Relaxed) {
            return;
        }
        let Ok(running) = self.running.try_lock() else { return };
        if let Ok(token) = operator_token(&self.state) {
            self.auth.replace(&running.config.auth, running.config.auth.tokens.is_empty().then_some(&token));
            self.tokenless.store(false, Ordering::Relaxed);
        }
    }

    fn stop_workers(&self) {
        let mut running = lock(&self.running);
        running.stop.store(true, Ordering::Relaxed);
        for worker in std::mem::take(&mut running.workers) {
            let _ = worker.end(self.parts.clock.as_ref());
        }
        let _ = std::mem::take(&mut running.readers).end(self.parts.clock.as_ref());
        std::mem::take(&mut running.archivers).end(self.parts.clock.as_ref());
    }

    /// A worker that has made no progress for long hangs in a call: its trees are opened again, each by a process of its own. The
    /// worker is left behind, and its trees stay blind until it lets go of them.
    fn isolate_what_is_stuck(&self) {
        let stuck: Vec<_> = self.hub.silent().into_iter().filter(|(_, silent)| *silent > STUCK).collect();
        if stuck.is_empty() {
            return;
        }
        // Who waits for the journal does not hang in its own disk.
        if self.hub.journal.answers() {
            self.silent.store(false, Ordering::Relaxed);
        } else if self.silent.swap(true, Ordering::Relaxed) {
            return;
        } else {
            let text = "the disk of the state does not answer; nothing is deleted, and no alert is sent, until it does";
            self.hub.record(&Event::Remark { text: text.to_owned(), urgent: true });
            return;
        }
        let isolate = |tree: &TreeView| self.parts.machine.isolate(Path::new(&tree.path));
        let views = self.hub.views();
        for (volume, silent) in stuck {
            let trees = views.iter().filter(|view| view.name == volume).flat_map(|view| &view.trees);
            if trees.filter(|tree| isolate(tree)).count() > 0 {
                let text = format!(
                    "the worker of volume {volume} has hung for {}; a process of its own works it from now on",
                    show_duration(silent)
                );
                self.hub.record(&Event::Remark { text, urgent: true });
                self.hub.ask_reopen();
            }
        }
    }

    /// A worker ended though nobody told it to. Not asked while a reload is under way.
    fn lost_a_worker(&self) -> bool {
        let Ok(running) = self.running.try_lock() else { return false };
        let lost = !running.stop.load(Ordering::Relaxed) && running.workers.iter().any(Worker::lost);
        if lost {
            let text = "the worker of a volume ended; everything is opened again".to_owned();
            self.hub.record(&Event::Remark { text, urgent: true });
        }
        lost
    }

    /// Opens everything again: a tree came back.
    fn reopen(&self) {
        let _turn = lock(&self.turn);
        let config = lock(&self.running).config.clone();
        let text = match self.change(config) {
            Ok(()) => "all trees were opened again".to_owned(),
            Err(problems) => problems.join("; "),
        };
        self.hub.record(&Event::Remark { text, urgent: false });
    }

    /// Puts another configuration in force; if its trees cannot be opened, the old one again.
    pub(super) fn change(&self, config: Config) -> Result<(), Vec<String>> {
        let mut running = lock(&self.running);
        if self.ending.load(Ordering::Relaxed) {
            return Err(vec!["the guard is ending".to_owned()]);
        }
        let mut problems = Vec::new();
        if config.state != running.config.state {
            problems.push("state.path cannot be changed while the guard runs; start it again".to_owned());
        }
        if config.listeners != running.config.listeners {
            problems
                .push("listen and metrics_listen cannot be changed while the guard runs; start it again".to_owned());
        }
        problems.extend(self.media.refuses(&config.media_servers));
        problems.extend(self.gateways.refuses(&config.media_servers));
        if !problems.is_empty() {
            return Err(problems);
        }
        running.stop.store(true, Ordering::Relaxed);
        std::mem::take(&mut running.archivers).end(self.parts.clock.as_ref());
        let old: Vec<_> = std::mem::take(&mut running.workers)
            .into_iter()
            .filter_map(|worker| worker.end(self.parts.clock.as_ref()))
            .collect();
        let before = running.config.clone();
        let kept: Vec<_> = old.into_iter().map(|volume| (volume.key.clone(), volume.leave())).collect();
        let mut readers = std::mem::take(&mut running.readers);
        let catalogues = running.catalogues.clone();
        let told = |event: Event| self.hub.record(&event);
        let mut begin = |config: Config| -> Result<Running, DaemonError> {
            let place = Some((self.state.as_path(), self.parts.state.as_ref()));
            let hooks = catalogues.hooks.clone();
            let clock = &self.parts.clock;
            let opened = Catalogues::open(&config, place, hooks, clock, Some(catalogues.as_ref()), &told)?;
            let parts = Parts { running: true, catalogues: Arc::new(opened), ..self.parts.clone() };
            let mut guard = Guard::open(&config, &parts)?;
            parts.catalogues.forget_others(&told);
            self.hub.live.set(&config.media_servers, config.probe_interval);
            self.hub.set_catalogues(&parts.catalogues);
            for volume in &mut guard.volumes {
                if let Some(at) = kept.iter().position(|(key, _)| *key == volume.key) {
                    volume.inherit(kept[at].1.clone());
                }
            }
            self.hub.clear();
            self.alerts.set_homes(guard.homes());
            run(config, guard, &self.hub, &parts, std::mem::take(&mut readers))
        };
        let wanted = begin(config.clone());
        match wanted {
            Ok(new) => {
                *running = new;
                let operator = operator(&config, &self.state, &self.hub);
                self.auth.replace(&config.auth, operator.as_ref());
                self.alerts.set(&config.notify);
                self.media.set(&config.media_servers);
                self.gateways.set(&config);
                Ok(())
            }
            Err(error) => {
                let mut problems = vec![chain(&error)];
                match begin(before) {
                    Ok(old) => *running = old,
                    Err(error) => {
                        problems.push(format!("the old configuration cannot go on either: {}", chain(&error)));
                        // A worker that hangs may still hold its tree; it is tried again until it lets go.
                        self.hub.ask_reopen();
                    }
                }
                Err(problems)
            }
        }
    }
}

fn run(config: Config, guard: Guard, hub: &Arc<Hub>, parts: &Parts, before: Readers) -> Result<Running, DaemonError> {
    let (volumes, trees) = guard.names();
    let channels: Vec<String> = config.notify.channels.iter().map(|channel| channel.name.clone()).collect();
    hub.counters.begin(&volumes, &trees, &channels);
    hub.counters.begin_hooks(config.media_servers.iter().map(|server| &server.name));
    let fronted = config.media_servers.iter().filter(|server| server.gateway.is_some());
    hub.counters.begin_gateways(fronted.map(|server| &server.name));
    Archivers::clear(&config, hub);
    for text in &config.dormant {
        hub.record(&Event::Remark { text: text.clone(), urgent: false });
    }
    hub.set_callbacks(&config.auth);
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for volume in guard.volumes {
        let worker = Worker::start(volume, hub, config.probe_interval, &stop)
            .map_err(|source| DaemonError::Start { what: "worker", source })?;
        workers.push(worker);
    }
    hub.forget_queues();
    hub.resume_demands();
    let readers = Readers::start(&config, parts, hub, before)
        .map_err(|source| DaemonError::Start { what: "reader of a catalogue", source })?;
    let archivers =
        Archivers::start(&config, parts, hub).map_err(|source| DaemonError::Start { what: "archive", source })?;
    Ok(Running { config, workers, readers, archivers, catalogues: parts.catalogues.clone(), stop })
}
