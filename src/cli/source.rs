//! Whom a command asks: the running daemon, or, where there is none, the trees and the state themselves.

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::Place;
use super::client::Client;
use super::exit::{Failure, complain};
use crate::config::{self, Config, Flags, Problem, ProblemKind};
use crate::daemon::{Catalogues, Guard, Hub, Parts, ask_media_servers, read_catalogues};
use crate::domain::event::Event;
use crate::domain::names::TreeId;
use crate::server::PageQuery;
use crate::store::{Database, Journal, StateDir, open_state};
use crate::system::{Clock, Isolating, Kernel, ProcHolders, SystemClock, Volumes, survive_lease_breaks};

/// The configuration where nothing else is said.
const USUAL: &str = "/etc/storage-guard/storage-guard.yaml";

/// Items that are asked for at once.
pub(super) const PAGE: usize = 1000;

/// What answers a command.
pub(super) enum Source {
    /// A daemon.
    Remote(Client),
    /// This process.
    Local(Box<Local>),
}

/// The guard in this process.
pub(super) struct Local {
    pub(super) guard: Guard,
    pub(super) hub: Arc<Hub>,
    /// Taken for this process; `None` where there is no state yet and none is needed.
    _state: Option<Arc<StateDir>>,
    /// The database of the state; in memory where there is none.
    pub(super) database: Arc<Database>,
    pub(super) config: Config,
    parts: Parts,
}

/// What a command does to the state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads; where there is no state none is made.
    Read,
    /// Writes.
    Write,
}

/// The configuration that a command is told of.
pub(super) fn configuration(place: &Place) -> Result<Config, Failure> {
    let flags = flags(place);
    let here = std::env::current_dir()?;
    if !place.trees.is_empty() {
        return config::for_trees(&flags, &here).map_err(refused_or_wrong);
    }
    let file = match &place.config {
        Some(file) => file.clone(),
        None if Path::new(USUAL).exists() => PathBuf::from(USUAL),
        None => {
            return Err(Failure::Usage(format!(
                "say whose recordings: `--tree PATH`, or `-c FILE` (there is no {USUAL}), or `--state DIR` for a running guard"
            )));
        }
    };
    let mut config = config::load(&file, &|name| std::env::var(name).ok()).map_err(refused_or_wrong)?;
    config::apply_flags(&mut config, &flags).map_err(refused_or_wrong)?;
    Ok(config)
}

pub(super) fn flags(place: &Place) -> Flags {
    Flags {
        trees: place.trees.clone(),
        layout: place.layout.clone(),
        listen: None,
        state: place.state.clone(),
        enforce: place.enforce,
    }
}

/// Trees that are to be enforced with layout `auto` are refused by a safety rule, with what `auto` picks; all else is a
/// configuration to be corrected.
fn refused_or_wrong(problems: Vec<Problem>) -> Failure {
    let mut picked = Vec::new();
    for problem in &problems {
        match &problem.kind {
            ProblemKind::AutoEnforces { tree } => picked.push(setup_pick(tree).unwrap_or_else(|| problem.to_string())),
            ProblemKind::Other => return Failure::Configuration(problems.iter().map(ToString::to_string).collect()),
        }
    }
    Failure::Refused(picked.join("\n"))
}

fn setup_pick(tree: &crate::domain::settings::TreeSettings) -> Option<String> {
    crate::daemon::picked(&Isolating::new(None, Arc::new(SystemClock)), tree).map(|error| error.to_string())
}

/// The state's folder that a command is told of.
pub(super) fn state_of(place: &Place) -> Result<(PathBuf, Option<Config>), Failure> {
    let named = place.config.is_some() || !place.trees.is_empty();
    match &place.state {
        Some(state) if !named => Ok((state.clone(), None)),
        _ => {
            let config = configuration(place)?;
            Ok((config.state.clone(), Some(config)))
        }
    }
}

impl Source {
    /// Gives every page of a list to `each`, and only one of them is in memory. `path` is the call, up to its last `?` or `&`; `of` is the
    /// page where no daemon runs.
    pub(super) fn pages(
        &self,
        path: &str,
        of: impl Fn(&Local, &PageQuery) -> Result<Value, Failure>,
        mut each: impl FnMut(Vec<Value>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut cursor: Option<String> = None;
        loop {
            let page: Value = match self {
                Self::Remote(client) => {
                    let after =
                        cursor.as_ref().map(|cursor| format!("&cursor={}", escaped(cursor))).unwrap_or_default();
                    call(client, Method::GET, &format!("{path}limit={PAGE}{after}"), None)?
                }
                Self::Local(local) => of(local, &PageQuery { limit: PAGE, cursor: cursor.take() })?,
            };
            each(page["items"].as_array().cloned().unwrap_or_default())?;
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// The running daemon, or the trees and the state.
    pub(super) fn open(place: &Place, access: Access) -> Result<Self, Failure> {
        let (state, config) = state_of(place)?;
        if let Some(client) = Client::connect(&state) {
            return Ok(Self::Remote(client));
        }
        let config = match config {
            Some(config) => config,
            None => {
                let configuration = configuration(place);
                configuration.map_err(|_| {
                    Failure::failed(format!(
                        "no guard is running with the state `{}`; without one, say whose recordings: `-c FILE` or `--tree PATH`",
                        state.display()
                    ))
                })?
            }
        };
        match Local::open(&config, access) {
            // One that starts has the state before it can be asked.
            Err(failure) if failure.is_locked() => await_guard(&state).map(Self::Remote).ok_or(failure),
            opened => opened.map(|local| Self::Local(Box::new(local))),
        }
    }
}

/// Waits a while until the guard that has the state can be asked.
fn await_guard(state: &Path) -> Option<Client> {
    (0..50).find_map(|_| {
        SystemClock.sleep(Duration::from_millis(100));
        Client::connect(state)
    })
}

impl Local {
    fn open(config: &Config, access: Access) -> Result<Self, Failure> {
        survive_lease_breaks();
        // Asked here, so that every thread finds the answer.
        let _ = Kernel::current();
        let folder = config.state.join("journal");
        let (state, journal) = if access == Access::Write || folder.is_dir() {
            let opened = open_state(&config.state)?;
            opened.remarks.iter().for_each(|text| complain(text));
            (Some(opened.dir), opened.journal)
        } else {
            (None, Journal::detached(&folder))
        };
        let journal = Arc::new(journal);
        let clock = Arc::new(SystemClock);
        let hub = Arc::new(Hub::new(journal.clone(), clock.clone()));
        let events: Arc<dyn Fn(Event) + Send + Sync> = Arc::new(teller());
        let database = database(state.as_deref(), access)?;
        let catalogues = catalogues(config, state.as_deref(), &database, &journal, clock.clone(), events.as_ref())?;
        hub.set_catalogues(&catalogues);
        hub.set_archives(&config.archives);
        let parts = Parts {
            machine: Arc::new(Isolating::new(state.as_ref().map(|state| state.path()), clock.clone())),
            clock,
            holders: Arc::new(ProcHolders),
            journal,
            state: state.as_ref().map_or("", |state| state.id()).into(),
            events,
            brake: Arc::default(),
            catalogues,
            live: hub.live.clone(),
            writes: access == Access::Write,
            patient: false,
            running: false,
        };
        let guard = Guard::open(config, &parts)?;
        Ok(Self { guard, hub, database, config: config.clone(), parts, _state: state })
    }

    /// The machine that the trees lie on.
    pub(super) fn machine(&self) -> &dyn Volumes {
        self.parts.machine.as_ref()
    }

    /// What the guard works with.
    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Looks once, with a progress bar where somebody can see it, and lets the hub know.
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        // What is being written is asked for first.
        ask_media_servers(&self.config, &self.hub);
        let bar = spinner();
        let seen = self.guard.look(&mut |policy, at| {
            scanning(&bar, &policy.tree, at.files, at.directories);
            ControlFlow::Continue(())
        });
        self.hub.show(seen?);
        // What catalogues say is judged by what is on disk, and then compared with it.
        if !self.config.catalogues.is_empty() {
            bar.set_message("reading catalogues");
            bar.tick();
            read_catalogues(&self.config, &self.parts, &self.hub);
        }
        self.hub.show(self.guard.compare());
        bar.finish_and_clear();
        Ok(())
    }
}

/// Shows that something is worked at, where somebody can see it.
pub(super) fn spinner() -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Says how far the scan of a tree is.
pub(super) fn scanning(bar: &ProgressBar, tree: &TreeId, files: usize, directories: u64) {
    bar.set_message(format!("scanning {tree}: {files} files in {directories} directories"));
    bar.tick();
}

/// The database of the state. Where nothing is written none is made, and one that cannot be used is done without.
fn database(state: Option<&StateDir>, access: Access) -> Result<Arc<Database>, Failure> {
    let Some(state) = state else { return Ok(Arc::new(Database::memory()?)) };
    let path = state.path().join("guard.db");
    if access == Access::Read && !path.exists() {
        return Ok(Arc::new(Database::memory()?));
    }
    match Database::of(&path, state.id()) {
        Ok(opened) => {
            opened.rebuilt.iter().for_each(|text| complain(text));
            Ok(Arc::new(opened.database))
        }
        // Cleaning does not wait for a database: what it keeps is told and remembered, and decides no deletion.
        Err(error) => {
            complain(&format!("{error}; alerts and silences are not kept"));
            Ok(Arc::new(Database::memory()?))
        }
    }
}

/// The catalogues that a configuration names. Without a state all is kept in memory.
fn catalogues(
    config: &Config,
    state: Option<&StateDir>,
    database: &Arc<Database>,
    journal: &Journal,
    clock: Arc<dyn Clock>,
    told: &dyn Fn(Event),
) -> Result<Arc<Catalogues>, Failure> {
    let place = state.map(|state| (state.path(), state.id()));
    let mut opened = Catalogues::open(config, place, database.clone(), &clock, None, told)?;
    opened.catch_up(journal, clock.now(), told);
    Ok(Arc::new(opened))
}

/// What a person should hear of while a command works: remarks, and how far a run is.
fn teller() -> impl Fn(Event) + Send + Sync {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} recordings, {eta} left") {
        bar.set_style(style);
    }
    move |event| match event {
        Event::Remark { text, .. } => complain(&text),
        Event::CapTripped { tree, cap, wanted, allowed } => complain(&format!(
            "the cap {cap} of tree {tree} allows {allowed} of the {wanted} that are to go; if they may: `storage-guard cap acknowledge {tree} {cap}`"
        )),
        Event::RunStarted { files, .. } => {
            bar.set_length(files as u64);
            bar.set_position(0);
        }
        Event::Settled { .. } => bar.inc(1),
        Event::RunEnded { .. } => bar.finish_and_clear(),
        Event::CatalogueDistrusted { catalogue, why } => {
            complain(&why.sentence(&catalogue));
        }
        Event::Probed { .. }
        | Event::Scanned { .. }
        | Event::Measured { .. }
        | Event::Pruned { .. }
        | Event::Closed { .. }
        | Event::CapAcknowledged { .. }
        | Event::FailureClosed { .. }
        | Event::Clock { .. }
        | Event::Reloaded { .. }
        | Event::Alerted { .. }
        | Event::Notified { .. }
        | Event::Beat { .. }
        | Event::CatalogueRead { .. }
        | Event::CatalogueTrusted { .. }
        | Event::Compared { .. }
        | Event::RowsChanged { .. }
        | Event::Hooked { .. }
        | Event::MediaServer { .. }
        | Event::RecordingSwitched { .. }
        | Event::HooksDropped { .. }
        | Event::GatewayAnswered { .. }
        | Event::Silenced { .. }
        | Event::Archived { .. }
        | Event::ArchiveFailed { .. }
        | Event::Held { .. } => {}
    }
}

/// Calls the daemon, and reads its answer.
pub(super) fn call<T: DeserializeOwned>(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<T, Failure> {
    let (status, answer) = client.call(method, path, body)?;
    if (200..300).contains(&status) {
        return Ok(serde_json::from_value(answer)?);
    }
    let sentence = answer["error"]["message"].as_str().map_or_else(|| answer.to_string(), str::to_owned);
    Err(failure(status, sentence))
}

/// What a refusal means for the exit code.
pub(super) fn failure(status: u16, sentence: String) -> Failure {
    match status {
        404 | 409 | 403 => Failure::Refused(sentence),
        _ => Failure::failed(sentence),
    }
}

/// A text as part of a URL.
pub(super) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
