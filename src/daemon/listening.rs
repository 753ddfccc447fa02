//! What the daemon listens on, and why it cannot run.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use super::guard::GuardError;
use crate::server::{ControlError, ControlSocket, Limits, serve_unix};
use crate::store::{DatabaseError, JournalError};

/// Between attempts to make the control socket on a disk without room for it.
const CONTROL: Duration = Duration::from_secs(2);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A tree or volume.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A listener.
    #[error(
        "cannot listen on {address}; if another program uses it, choose another with `listen`, `--listen` or `hooks.listen`"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// What hooks are relayed to.
    #[error("{0}")]
    Relay(String),
    /// The runtime, a thread, or a signal.
    #[error("cannot start the daemon's {what}")]
    Start {
        /// What cannot be started.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Serves the control socket, once it can be made.
pub(super) async fn attend_control(
    mut control: Option<ControlSocket>,
    state: PathBuf,
    router: axum::Router,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(CONTROL);
    while control.is_none() {
        tokio::select! {
            _ = ticks.tick() => control = ControlSocket::bind(&state).ok(),
            _ = shutdown.changed() => return,
        }
    }
    if let Some(control) = control
        && let Err(error) = serve_unix(control, router, limits, shutdown).await
    {
        tracing::error!(%error, "The control socket is closed.");
    }
}

/// The same, with room for many connections at once that nobody has accepted yet.
pub(super) fn listen_for_many(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    /// The system allows fewer (`net.core.somaxconn`).
    const WAITING: u32 = 16_384;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(WAITING)
    });
    bound.map_err(|source| DaemonError::Listen { address, source })
}

pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address).await.map_err(|source| DaemonError::Listen { address, source })
}

/// Where it listens, for the log.
pub(super) fn address_of(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|_| String::new(), |address| address.to_string())
}
