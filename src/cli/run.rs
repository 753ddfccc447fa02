//! `run`: the daemon.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;

use super::args::Place;
use super::exit::{Failure, complain, print};
use super::screen;
use super::source::{configuration, flags};
use crate::config;
use crate::daemon::{Catalogues, Daemon, Hub, Parts};
use crate::domain::event::Event;
use crate::server::Plans;
use crate::store::{OpenState, open_state};
use crate::system::{Isolating, Kernel, ProcHolders, SystemClock, survive_lease_breaks};

/// Log lines that may wait to be written.
const LINES: usize = 16_384;

/// `run`.
pub(super) fn run(place: &Place, listen: Option<SocketAddr>) -> Result<(), Failure> {
    survive_lease_breaks();
    // Asked here, so that every thread finds the answer.
    let _ = Kernel::current();
    let _log = begin_log();
    let mut config = configuration(place)?;
    if let Some(address) = listen {
        config.listeners.main = address;
    }
    let OpenState { dir: state, journal, remarks } = open_state(&config.state)?;
    let journal = Arc::new(journal);
    let clock = Arc::new(SystemClock);
    let hub = Arc::new(Hub::new(journal.clone(), clock.clone()));
    for text in remarks {
        hub.record(&Event::Remark { text, urgent: true });
    }
    let recorder = hub.clone();
    let parts = Parts {
        machine: Arc::new(Isolating::new(Some(state.path()), clock.clone())),
        clock,
        holders: Arc::new(ProcHolders),
        journal,
        state: state.id().into(),
        events: Arc::new(move |event: Event| recorder.record(&event)),
        brake: Arc::default(),
        catalogues: Arc::new(Catalogues::none()?),
        live: hub.live.clone(),
        writes: true,
        patient: true,
        running: false,
    };
    let (again, main) = (place.clone(), config.listeners.main);
    let reread = Box::new(move || {
        let flags = config::Flags { listen: Some(main), ..flags(&again) };
        if !again.trees.is_empty() {
            return config::for_trees(&flags, &std::env::current_dir().unwrap_or_default());
        }
        let file = again.config.clone().unwrap_or_else(|| "/etc/storage-guard/storage-guard.yaml".into());
        let mut config = config::load(&file, &|name| std::env::var(name).ok())?;
        if listen.is_none() {
            config::apply_flags(&mut config, &config::Flags { listen: None, ..flags })?;
        } else {
            config::apply_flags(&mut config, &flags)?;
        }
        Ok(config)
    });
    let daemon = Daemon::start(config, state.path().to_owned(), parts, hub, reread)?;
    daemon.serve(Box::new(|hub: &Hub| {
        if let Err(Failure::Failed(error)) = first_screen(hub) {
            complain(&error.to_string());
        }
    }))?;
    Ok(())
}

fn first_screen(hub: &Hub) -> Result<(), Failure> {
    let plans = match hub.plans(None) {
        Ok(Plans::All(page)) => page.items,
        Ok(Plans::One(plan)) => vec![*plan],
        Err(refusal) => return Err(Failure::failed(refusal.message)),
    };
    print(&screen::first(&hub.status(), &plans)?)
}

/// Log lines go to the error output, with colours only where somebody sees them. A thread of its own writes them: when nobody takes
/// them, or the disk that they go to is full, they are lost, and nobody waits.
fn begin_log() -> tracing_appender::non_blocking::WorkerGuard {
    let (lines, written) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let filter = tracing_subscriber::EnvFilter::try_from_env("STORAGE_GUARD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(lines)
        .try_init();
    written
}
