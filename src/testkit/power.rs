//! Ends the guard at any of its calls, or lets one of them fail.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The guard ends before the call.
    Cut,
    /// The call does nothing and fails with this error number.
    Refuse(i32),
    /// The call does its work and fails with this error number all the same, as over a network.
    Lie(i32),
    /// Somebody else does something before the call; the number is the test's.
    Meddle(u32),
}

/// The payload of the panic that ends the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut;

/// What somebody else does.
type Meddler = Arc<dyn Fn(u32) + Send + Sync>;

/// Counts the calls of all fakes that share it, and strikes at those that it was told to.
#[derive(Default)]
pub struct Power(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    calls: u64,
    off: bool,
    last: &'static str,
    strikes: BTreeMap<u64, Strike>,
    meddler: Option<Meddler>,
}

impl std::fmt::Debug for Power {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Power({} calls)", self.calls())
    }
}

impl Power {
    /// Strikes at the calls with these numbers; the first is 1.
    #[must_use]
    pub fn new(strikes: BTreeMap<u64, Strike>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner { strikes, ..Inner::default() })))
    }

    /// Who meddles.
    pub fn meddle(&self, meddler: Meddler) {
        self.lock().meddler = Some(meddler);
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Whether the guard was ended.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// The last call that was carried out.
    pub fn last(&self) -> &'static str {
        self.lock().last
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call. Once the power is off nothing happens any more: what is dropped while the guard ends changes nothing.
    pub(super) fn step<T>(&self, name: &'static str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.lock();
        if inner.off {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        inner.calls += 1;
        let call = inner.calls;
        let strike = inner.strikes.get(&call).copied();
        if strike == Some(Strike::Cut) {
            inner.off = true;
            drop(inner);
            std::panic::resume_unwind(Box::new(Cut));
        }
        inner.last = name;
        let meddler = inner.meddler.clone();
        drop(inner);
        match strike {
            Some(Strike::Refuse(error)) => Err(io::Error::from_raw_os_error(error)),
            Some(Strike::Lie(error)) => {
                act()?;
                Err(io::Error::from_raw_os_error(error))
            }
            Some(Strike::Meddle(number)) => {
                if let Some(meddler) = meddler {
                    meddler(number);
                }
                act()
            }
            Some(Strike::Cut) | None => act(),
        }
    }
}
