//! Sockets that the service manager opened for us, and keeps open while we are away.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

use super::ffi;

/// A listening socket that was passed to this process.
#[derive(Debug)]
pub struct PassedSocket {
    /// Its name: `FileDescriptorName=` of its unit.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The socket.
    pub listener: TcpListener,
}

/// The sockets of TCP that systemd passed to this process (`LISTEN_FDS`). They are given once: later there are none.
///
/// # Errors
/// If what the environment says of them makes no sense.
pub fn passed_sockets() -> io::Result<Vec<PassedSocket>> {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    if GIVEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for (number, name) in sd_notify::listen_fds_with_names()? {
        let listener = TcpListener::from(ffi::passed(number));
        // What is no socket of TCP has no such address, and is closed.
        if let Ok(address) = listener.local_addr() {
            listener.set_nonblocking(true)?;
            out.push(PassedSocket { name, address, listener });
        }
    }
    Ok(out)
}
