//! The control socket: `STATE/control.sock`, mode 0600, made anew where an old one has nobody behind it.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::system::is_dead;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Its name in the state directory.
const NAME: &str = "control.sock";
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody listens on it.
    #[error("another guard listens on `{}`; stop it, or use another state directory", path.display())]
    Occupied {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("`{}` is not a socket; move it away", path.display())]
    Foreign {
        /// What has the name.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What failed.
        action: &'static str,
        /// The socket, or the state directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The control socket, bound; removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: StdListener,
    dir: OwnedFd,
    path: PathBuf,
    identity: (u64, u64),
}

impl ControlSocket {
    /// Binds it. Nobody but our user and root can connect, from the first moment.
    ///
    /// # Errors
    /// If another guard listens there, something else has the name, or the system refuses.
    pub fn bind(state_dir: &Path) -> Result<Self, ControlError> {
        let path = state_dir.join(NAME);
        let failed = |action, error: Errno| ControlError::Io { action, path: path.clone(), source: error.into() };
        let dir = open_dir(state_dir).map_err(|error| failed("open the directory of", error))?;
        let address = address(&path, &dir).map_err(|error| failed("name", error))?;
        match rustix::fs::statat(&dir, NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("look at", error)),
            Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Socket => {
                return Err(ControlError::Foreign { path });
            }
            Ok(_) => match connect(&address) {
                // A thread of a dead process hangs in the kernel, and keeps its descriptors.
                Ok(stream) if listener_is_dead(&stream) => {
                    remove(&dir).map_err(|error| failed("replace", error))?;
                }
                Ok(_) | Err(Errno::AGAIN) => return Err(ControlError::Occupied { path }),
                Err(Errno::CONNREFUSED) => remove(&dir).map_err(|error| failed("replace", error))?,
                Err(error) => return Err(failed("connect to", error)),
            },
        }
        let socket = socket().map_err(|error| failed("make", error))?;
        // The socket's mode becomes the file's, so that there is no moment at which others could connect.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(|error| failed("protect", error))?;
        rustix::net::bind(&socket, &address).map_err(|error| failed("bind", error))?;
        rustix::net::listen(&socket, BACKLOG).map_err(|error| failed("listen on", error))?;
        let made =
            rustix::fs::statat(&dir, NAME, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| failed("look at", error))?;
        Ok(Self { listener: StdListener::from(socket), dir, path, identity: (made.st_dev, made.st_ino) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// To be accepted from, inside the runtime.
    pub(super) fn listener(&self) -> Result<UnixListener, ControlError> {
        let listener = self.listener.try_clone().and_then(UnixListener::from_std);
        listener.map_err(|source| ControlError::Io { action: "listen on", path: self.path.clone(), source })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Only our own: another guard may have replaced it. If it stays, the next start replaces it.
        if let Ok(there) = rustix::fs::statat(&self.dir, NAME, AtFlags::SYMLINK_NOFOLLOW)
            && (there.st_dev, there.st_ino) == self.identity
        {
            let _ = remove(&self.dir);
        }
    }
}

/// Connects to the control socket of a state directory; the stream does not block.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` if nobody listens; `WouldBlock` if too many wait already.
pub fn connect_control(state_dir: &Path) -> io::Result<UnixStream> {
    let dir = open_dir(state_dir)?;
    Ok(UnixStream::from(connect(&address(&state_dir.join(NAME), &dir)?)?))
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The socket's address; a long path is shortened through the open directory, since an address holds about a hundred bytes.
fn address(path: &Path, dir: &OwnedFd) -> Result<SocketAddrUnix, Errno> {
    match SocketAddrUnix::new(path.as_os_str().as_bytes()) {
        Err(Errno::NAMETOOLONG) => SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd())),
        address => address,
    }
}

/// Who listens at the other end has ended.
fn listener_is_dead(stream: &OwnedFd) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).is_ok_and(is_dead))
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn connect(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let socket = socket()?;
    rustix::net::connect(&socket, address)?;
    Ok(socket)
}

#[expect(clippy::disallowed_methods, reason = "it is our own socket in the state, or a dead one; never a recording")]
fn remove(dir: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::unlinkat(dir, NAME, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn check(prepare: impl FnOnce(&Path), expected: Result<(), &str>) {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        match (ControlSocket::bind(dir.path()), expected) {
            (Ok(socket), Ok(())) => {
                let made = socket.path().symlink_metadata().unwrap();
                assert!(made.file_type().is_socket());
                assert_eq!(made.permissions().mode() & 0o7777, 0o600);
                connect_control(dir.path()).unwrap();
                let again = ControlSocket::bind(dir.path()).unwrap_err();
                assert!(again.to_string().contains("another guard listens"), "{again}");
                let path = socket.path().to_owned();
                drop(socket);
                assert!(path.symlink_metadata().is_err(), "it is left behind");
            }
            (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
            (got, wanted) => panic!("{got:?} instead of {wanted:?}"),
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn a_dead_socket_is_replaced_and_nothing_else() {
        check(|_| {}, Ok(()));
        check(|dir| drop(StdListener::bind(dir.join(NAME)).unwrap()), Ok(()));
        check(|dir| std::fs::write(dir.join(NAME), "x").unwrap(), Err("is not a socket"));
        check(|dir| symlink("/run/other.sock", dir.join(NAME)).unwrap(), Err("is not a socket"));
        check(|dir| std::fs::create_dir(dir.join(NAME)).unwrap(), Err("is not a socket"));
    }

    #[test]
    fn a_long_state_directory_works() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(200));
        std::fs::create_dir(&long).unwrap();
        let socket = ControlSocket::bind(&long).unwrap();
        connect_control(&long).unwrap();
        drop(socket);
        assert_eq!(connect_control(&long).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
