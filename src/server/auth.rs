//! Who is calling, and what they may do.
//!
//! Invariants:
//! 1. What changes something is carried out only for an operator, whatever is configured.
//! 2. A right token always works, also from an address whose wrong ones are refused unread.
//! 3. Tokens are compared by their digests, all of them, in constant time.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::listen::Peer;
use super::records::hex;
use super::refusal::Refusal;
use super::throttle::Throttle;
use crate::domain::secret::Secret;
use crate::domain::settings::{AuthSettings, Role};
use crate::system::Clock;

/// The file of the operator's token in the state directory.
const TOKEN_FILE: &str = "operator.token";
/// A token in that file has at least so many characters.
const SHORTEST: usize = 32;
/// The file is not read further.
const LONGEST: u64 = 4096;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// A viewer, if metrics are protected.
    Metrics,
    /// A viewer, if tokens are configured.
    Reading,
    /// An operator.
    Changing,
}

/// Who calls: a token's name, `operator`, `root`, `uid:N`, or `anonymous`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(pub(super) Arc<str>);

#[derive(Debug)]
struct Bearer {
    name: Arc<str>,
    role: Role,
    sha256: [u8; 32],
}

#[derive(Debug)]
struct Rules {
    bearers: Vec<Bearer>,
    reading_is_open: bool,
    metrics_are_open: bool,
}

impl Rules {
    fn new(settings: &AuthSettings, operator: Option<&Secret>) -> Self {
        let configured = settings.tokens.iter().map(|token| Bearer {
            name: token.name.as_str().into(),
            role: token.role,
            sha256: token.sha256,
        });
        let own = operator.map(|token| Bearer {
            name: "operator".into(),
            role: Role::Operator,
            sha256: digest(token.reveal().as_bytes()),
        });
        Self {
            bearers: configured.chain(own).collect(),
            reading_is_open: settings.tokens.is_empty(),
            metrics_are_open: !settings.protect_metrics,
        }
    }

    /// The bearer of a token. Every digest is compared, so that time tells nothing.
    fn bearer(&self, token: &str) -> Option<&Bearer> {
        let sha256 = digest(token.as_bytes());
        self.bearers.iter().fold(None, |found, bearer| {
            let same = bool::from(bearer.sha256.ct_eq(&sha256));
            let better = found.is_none_or(|other: &Bearer| other.role < bearer.role);
            if same && better { Some(bearer) } else { found }
        })
    }
}

/// Who may use the API.
pub struct Auth {
    rules: ArcSwap<Rules>,
    wrong: Throttle,
    clock: Arc<dyn Clock>,
    own_uid: u32,
}

impl Auth {
    /// From the configured tokens and, if there are none, the operator's own from [`operator_token`].
    #[must_use]
    pub fn new(settings: &AuthSettings, operator: Option<&Secret>, clock: Arc<dyn Clock>) -> Self {
        Self {
            rules: ArcSwap::from_pointee(Rules::new(settings, operator)),
            wrong: Throttle::default(),
            clock,
            own_uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Takes other settings; requests that were admitted go on.
    pub fn replace(&self, settings: &AuthSettings, operator: Option<&Secret>) {
        self.rules.store(Arc::new(Rules::new(settings, operator)));
    }

    /// The clock that its windows are measured with.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Who calls, if they may do what the request needs.
    ///
    /// # Errors
    /// 401 without a good token, 403 for the wrong role or user, 429 after too many wrong tokens.
    pub(super) fn admit(&self, peer: &Peer, headers: &HeaderMap, need: Need) -> Result<Caller, Refusal> {
        let address = match peer {
            Peer::Unix { uid: 0 } => return Ok(Caller("root".into())),
            Peer::Unix { uid } if *uid == self.own_uid => return Ok(Caller(format!("uid:{uid}").into())),
            Peer::Unix { uid } => {
                let message =
                    format!("user {uid} may not use the control socket; only root and the guard's own user may");
                return Err(Refusal::new(403, "forbidden", message));
            }
            Peer::Tcp { remote, .. } => remote.ip(),
        };
        let rules = self.rules.load();
        let needed = match need {
            Need::Nothing => None,
            Need::Metrics => (!rules.metrics_are_open).then_some(Role::Viewer),
            Need::Reading => (!rules.reading_is_open).then_some(Role::Viewer),
            Need::Changing => Some(Role::Operator),
        };
        let Some(needed) = needed else { return Ok(Caller("anonymous".into())) };
        if !headers.contains_key(AUTHORIZATION) {
            return Err(unauthorized("this needs a token: send `Authorization: Bearer TOKEN`"));
        }
        let Some(bearer) = bearer_token(headers).and_then(|token| rules.bearer(token)) else {
            if self.wrong.admit(address, self.clock.boottime()) {
                return Err(unauthorized(
                    "the token is not valid; see `auth.tokens`, or `operator.token` in the state",
                ));
            }
            let message = "too many wrong tokens from this address; wait a minute, or send a right one";
            return Err(Refusal::new(429, "too_many_wrong_tokens", message));
        };
        if bearer.role < needed {
            let message = format!("token `{}` may read; this needs role `operator`", bearer.name);
            return Err(Refusal::new(403, "forbidden", message));
        }
        Ok(Caller(bearer.name.clone()))
    }
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(401, "unauthorized", message)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The token of the one `Authorization: Bearer` header; `None` if anything about it is not as it must be.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next()?, values.next());
    let token = first.to_str().ok()?.strip_prefix("Bearer ")?;
    (second.is_none() && well_formed(token)).then_some(token)
}

/// Whether a text can be sent as a token: `token68` of RFC 9110.
fn well_formed(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b))
}

/// Why there is no operator token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read or made.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what it must be.
    #[error("`{}` {problem}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
}

/// The operator's token from `STATE/operator.token`; made on first contact: 32 random bytes in hexadecimal digits, mode 0600.
///
/// # Errors
/// If it cannot be read or made (a full disk: the control socket works without it), or others than its owner could have read it.
pub fn operator_token(state_dir: &Path) -> Result<Secret, TokenError> {
    let path = state_dir.join(TOKEN_FILE);
    let failed = |action, error: io::Error| TokenError::Io { action, path: path.clone(), source: error };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(state_dir, flags, Mode::empty()).map_err(|error| failed("open", error.into()))?;
    let open = |flags: OFlags| {
        let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&dir, TOKEN_FILE, flags | safe, Mode::from_raw_mode(0o600))
    };
    let there = match open(OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT) => {
            let file =
                open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).map_err(|error| failed("make", error.into()))?;
            return fill(file, &dir).map_err(|error| failed("write", error));
        }
        Err(error) => return Err(failed("open, without following links,", error.into())),
    };
    let unfit = |problem| Err(TokenError::Unfit { path: path.clone(), problem });
    let found = rustix::fs::fstat(&there).map_err(|error| failed("look at", error.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return unfit("is not a regular file; move it away, and a new token is made");
    }
    if found.st_mode & 0o077 != 0 {
        return unfit("can be used by others; its token may be known: remove it, and a new one is made");
    }
    if found.st_uid != 0 && found.st_uid != rustix::process::geteuid().as_raw() {
        return unfit("belongs to another user; remove it, and a new token is made");
    }
    let mut text = String::new();
    File::from(there).take(LONGEST).read_to_string(&mut text).map_err(|error| failed("read", error))?;
    // A crash between making and filling it.
    if text.is_empty() {
        let file = open(OFlags::WRONLY).map_err(|error| failed("open", error.into()))?;
        return fill(file, &dir).map_err(|error| failed("write", error));
    }
    let token = Secret::new(&text);
    if token.reveal().len() < SHORTEST || !well_formed(token.reveal()) {
        return unfit("holds no token of 32 or more letters and digits; remove it, and a new one is made");
    }
    Ok(token)
}

/// Writes a new token.
fn fill(file: OwnedFd, dir: &OwnedFd) -> io::Result<Secret> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let token = hex(&random);
    let mut file = File::from(file);
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    rustix::fs::fsync(dir)?;
    Ok(Secret::new(&token))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};

    use super::*;
    use crate::domain::settings::Token;
    use crate::system::SystemClock;

    fn put(dir: &Path, text: &str, mode: u32) {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(dir.join(TOKEN_FILE)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn check(prepare: impl FnOnce(&Path), expected: Result<Option<&str>, &str>) {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        match (operator_token(dir.path()), expected) {
            (Ok(token), Ok(wanted)) => {
                assert!(wanted.is_none_or(|wanted| wanted == token.reveal()), "another token");
                assert!(token.reveal().len() >= SHORTEST);
                let mode = dir.path().join(TOKEN_FILE).metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o7777, 0o600);
                assert_eq!(operator_token(dir.path()).unwrap(), token, "it stays the same");
            }
            (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
            (got, wanted) => panic!("{got:?} instead of {wanted:?}"),
        }
    }

    #[test]
    fn the_operator_token_is_made_once_and_kept_from_others() {
        let good = "0123456789abcdef0123456789abcdef";
        check(|_| {}, Ok(None));
        check(|dir| put(dir, &format!("{good}\n"), 0o600), Ok(Some(good)));
        check(|dir| put(dir, "", 0o600), Ok(None));
        check(|dir| put(dir, good, 0o640), Err("can be used by others"));
        check(|dir| put(dir, "short", 0o600), Err("holds no token"));
        check(|dir| put(dir, &format!("{good} {good}"), 0o600), Err("holds no token"));
        check(|dir| symlink("/etc/hostname", dir.join(TOKEN_FILE)).unwrap(), Err("without following links"));
        check(|dir| symlink("elsewhere", dir.join(TOKEN_FILE)).unwrap(), Err("without following links"));
        check(|dir| std::fs::create_dir(dir.join(TOKEN_FILE)).unwrap(), Err("is not a regular file"));
    }

    #[test]
    fn of_the_machines_users_only_root_and_our_own_pass() {
        let mut auth = Auth::new(&AuthSettings::default(), None, Arc::new(SystemClock));
        auth.own_uid = 1000;
        let check = |uid, expected: Result<&str, u16>| {
            let got = auth.admit(&Peer::Unix { uid }, &HeaderMap::new(), Need::Changing);
            assert_eq!(got.as_ref().map(|caller| &*caller.0).map_err(|refusal| refusal.status), expected);
        };
        check(0, Ok("root"));
        check(1000, Ok("uid:1000"));
        check(1001, Err(403));
    }

    #[test]
    fn of_two_roles_of_one_token_the_higher_counts() {
        let token = |role, name: &str| Token { name: name.to_owned(), role, sha256: digest(b"x") };
        let tokens = vec![token(Role::Operator, "a"), token(Role::Viewer, "b")];
        let rules = Rules::new(&AuthSettings { tokens, ..AuthSettings::default() }, None);
        assert_eq!(rules.bearer("x").map(|bearer| &*bearer.name), Some("a"));
        assert!(rules.bearer("y").is_none());
    }
}
