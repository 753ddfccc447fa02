//! Accepts connections and serves them, within limits that no peer can stretch.
//!
//! Invariants: a listener ends by its shutdown only; a peer that sends or takes nothing loses its connection; what one address
//! can hold is less than what there is.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::control::{ControlError, ControlSocket};
use super::stream::{Progressing, part};
use super::throttle::network;

/// Headers and the first line may hold so much.
const HEADERS: usize = 64 << 10;
/// The first pause after an `accept` that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a listener and its router allow. The defaults are right; tests use shorter ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of a listener.
    pub connections: usize,
    /// Of these, connections of one address.
    pub per_peer: usize,
    /// How long headers may take to arrive, and how long a connection may be idle.
    pub header_read: Duration,
    /// How long a peer may take nothing of an answer.
    pub write_stall: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of a body that names recordings to delete.
    pub paths_bytes: usize,
    /// How long a body may take to arrive.
    pub body_read: Duration,
    /// API calls at once.
    pub calls: usize,
    /// How long a call may take.
    pub call_deadline: Duration,
    /// How long connections may go on after the shutdown.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            per_peer: 64,
            header_read: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            body_bytes: 1 << 20,
            paths_bytes: 8 << 20,
            body_read: Duration::from_secs(30),
            calls: 16,
            call_deadline: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// What a process may hold that may have so many files open: connections take at most half of what the guard itself does not
    /// need, so that neither keeps the other from working (fault 56).
    #[must_use]
    pub fn within(open_files: u64) -> Self {
        /// State, trees, listeners, the runtime.
        const OWN: u64 = 24;
        let usual = Self::default();
        let half = usize::try_from(open_files.saturating_sub(OWN) / 2).unwrap_or(usize::MAX);
        let connections = usual.connections.min(half).max(4);
        Self { connections, per_peer: usual.per_peer.min(connections / 2), ..usual }
    }

    /// What the listener of a media server's hooks allows, in a process that may have so many files open, and as many listeners of this
    /// kind. One media server brings a connection for each hook, and all of them from one address: more of them may wait than the queue
    /// holds, so that it is the queue that says when it is full. A tenth is left for other addresses.
    #[must_use]
    pub fn for_hooks(open_files: u64, listeners: usize) -> Self {
        /// More than the queue of hooks holds.
        const MOST: usize = 10_240;
        /// What the guard needs itself, and what its other listeners may hold.
        const OTHERS: u64 = 24 + 3 * 256;
        let all = usize::try_from(open_files.saturating_sub(OTHERS) / 3 * 2).unwrap_or(usize::MAX);
        let connections = (all / listeners.max(1)).clamp(16, MOST);
        let usual = Self::default();
        Self {
            connections,
            per_peer: connections - connections / 10,
            header_read: Duration::from_secs(5),
            write_stall: Duration::from_secs(10),
            ..usual
        }
    }

    /// What a gateway before a media server allows, in a process that may have so many files open, and as many gateways. The platform
    /// brings many calls at once from one address; each may need two descriptors. What passes may last for days, and a peer may pause.
    #[must_use]
    pub fn for_gateways(open_files: u64, gateways: usize) -> Self {
        const MOST: usize = 4096;
        /// What the guard needs itself, and what its other listeners may hold.
        const OTHERS: u64 = 24 + 3 * 256;
        let all = usize::try_from(open_files.saturating_sub(OTHERS) / 6).unwrap_or(usize::MAX);
        let connections = (all / gateways.max(1)).clamp(16, MOST);
        Self {
            connections,
            per_peer: connections - connections / 10,
            header_read: Duration::from_secs(30),
            write_stall: Duration::from_secs(3600),
            ..Self::default()
        }
    }
}

/// Who is at the other end; an extension of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Somebody over TCP.
    Tcp {
        /// Their address.
        remote: SocketAddr,
        /// Ours, as they reached it.
        local: SocketAddr,
    },
    /// A user of this machine, over the control socket.
    Unix {
        /// Their number.
        uid: u32,
    },
}

impl Peer {
    /// Whether they came over the loopback interface.
    pub(super) fn over_loopback(&self) -> bool {
        match self {
            Self::Tcp { local, .. } => local.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => false,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { remote, .. } => write!(f, "{remote}"),
            Self::Unix { uid } => write!(f, "uid:{uid}"),
        }
    }
}

/// Whether answers may turn a connection into another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upgrades {
    Never,
    /// By an answer with status 101, whose handler then takes the connection over.
    Allowed,
}

/// Serves a TCP listener until the shutdown says `true`, or its sender is gone.
pub async fn serve_tcp(listener: TcpListener, router: Router, limits: Limits, shutdown: watch::Receiver<bool>) {
    serve(&listener, router, limits, Upgrades::Never, shutdown).await;
}

/// Serves a gateway likewise: an answer with status 101 hands the connection to its handler. It keeps its place until it ends.
pub async fn serve_gateway(listener: TcpListener, router: Router, limits: Limits, shutdown: watch::Receiver<bool>) {
    serve(&listener, router, limits, Upgrades::Allowed, shutdown).await;
}

/// Serves the control socket likewise, and removes it at the end.
///
/// # Errors
/// If the socket cannot be listened on.
pub async fn serve_unix(
    socket: ControlSocket,
    router: Router,
    limits: Limits,
    shutdown: watch::Receiver<bool>,
) -> Result<(), ControlError> {
    let listener = socket.listener()?;
    serve(&listener, router, limits, Upgrades::Never, shutdown).await;
    Ok(())
}

/// What connections come from.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, remote) = Self::accept(self).await?;
        let local = stream.local_addr()?;
        // Answers are small and whole; waiting to merge them only delays them.
        stream.set_nodelay(true)?;
        Ok((stream, Peer::Tcp { remote, local }))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, Peer::Unix { uid }))
    }
}

async fn serve<L: Accept>(
    listener: &L,
    router: Router,
    limits: Limits,
    upgrades: Upgrades,
    shutdown: watch::Receiver<bool>,
) {
    let peers = Peers::default();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stopped(shutdown.clone()));
    let mut pause = Duration::ZERO;
    let mut resume = Instant::now();
    loop {
        let accepted = async {
            if !pause.is_zero() {
                sleep_until(resume).await;
            }
            listener.accept().await
        };
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accepted => match accepted {
                Ok((stream, peer)) => {
                    pause = Duration::ZERO;
                    let place = if connections.len() < limits.connections { peers.enter(&peer, limits.per_peer) } else { None };
                    let Some(place) = place else {
                        debug!(%peer, "A connection beyond the limit was closed.");
                        continue;
                    };
                    let served = connection(stream, peer, router.clone(), limits, upgrades, shutdown.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                // The peer gave up first: no fault of ours.
                Err(error) if gone(&error) => {}
                Err(error) => {
                    if pause.is_zero() {
                        warn!(%error, "A connection cannot be accepted; it will be tried again.");
                    }
                    pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    resume = Instant::now() + pause;
                }
            },
        }
    }
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.grace, all_ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Returns once the shutdown is asked for.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error says that the sender is gone, and with it whoever wanted us.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | NotConnected | InvalidInput)
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    router: Router,
    limits: Limits,
    upgrades: Upgrades,
    shutdown: watch::Receiver<bool>,
) {
    let from = peer.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(from.clone());
        Box::pin(router.clone().oneshot(request))
    });
    let (open, closed) = oneshot::channel();
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(HEADERS)
        .preserve_header_case(upgrades == Upgrades::Allowed)
        .serve_connection(TokioIo::new(Progressing::new(stream, limits.write_stall, open)), service);
    let mut stop = pin!(stopped(shutdown));
    let mut stopping = false;
    let (ended, stream) = match upgrades {
        Upgrades::Never => {
            let ended = loop {
                tokio::select! {
                    ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
                    () = &mut stop, if !stopping => {
                        stopping = true;
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                }
            };
            (ended, Some(connection.into_parts().io.into_inner()))
        }
        Upgrades::Allowed => {
            let mut connection = connection.with_upgrades();
            let ended = loop {
                tokio::select! {
                    ended = &mut connection => break ended,
                    () = &mut stop, if !stopping => {
                        stopping = true;
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                }
            };
            (ended, connection.into_parts().map(|parts| parts.io.into_inner()))
        }
    };
    match (ended, stream) {
        (Err(error), _) if error.is_timeout() => debug!(%peer, %error, "A slow connection was closed."),
        (Err(error), _) if !error.is_parse() => debug!(%peer, %error, "A connection broke."),
        _ if stopping => {}
        (_, Some(stream)) => part(stream).await,
        // Its handler has it now: it keeps its place until it is dropped there, or everything ends.
        (_, None) => {
            tokio::select! {
                _ = closed => {}
                () = &mut stop => {}
            }
        }
    }
}

/// How many connections each address has.
#[derive(Debug, Default, Clone)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Peers {
    /// A place for one more connection, if the peer has one left. Users of the control socket have no limit of their own.
    fn enter(&self, peer: &Peer, most: usize) -> Option<Place> {
        let Peer::Tcp { remote, .. } = peer else { return Some(Place { held: None }) };
        let address = network(remote.ip());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { held: Some((self.clone(), address)) })
    }
}

/// A connection's place, given back when dropped, also by a panic.
#[derive(Debug)]
struct Place {
    held: Option<(Peers, IpAddr)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((peers, address)) = self.held.take() else { return };
        let mut counts = peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::sync::Notify;

    use super::*;

    /// Fails in all the ways an `accept` fails, then accepts one connection.
    struct Failing {
        calls: AtomicUsize,
        stream: Mutex<Option<DuplexStream>>,
        never: Notify,
    }

    impl Accept for Failing {
        type Stream = DuplexStream;

        async fn accept(&self) -> io::Result<(DuplexStream, Peer)> {
            const ERRORS: [i32; 5] = [libc::ECONNABORTED, libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ECONNRESET];
            if let Some(error) = ERRORS.get(self.calls.fetch_add(1, Ordering::Relaxed)) {
                return Err(io::Error::from_raw_os_error(*error));
            }
            let stream = self.stream.lock().unwrap().take();
            match stream {
                Some(stream) => Ok((stream, Peer::Unix { uid: 0 })),
                None => {
                    self.never.notified().await;
                    Err(io::ErrorKind::Other.into())
                }
            }
        }
    }

    #[tokio::test]
    async fn a_listener_outlives_every_failure_to_accept() {
        let (mut ours, theirs) = tokio::io::duplex(4096);
        let listener = Failing { calls: AtomicUsize::new(0), stream: Mutex::new(Some(theirs)), never: Notify::new() };
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", axum::routing::get(|| async { "served" }));
        let client = async {
            ours.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("served"), "{answer}");
            drop(stop);
        };
        tokio::join!(serve(&listener, router, Limits::default(), Upgrades::Never, stopped), client);
    }
}
