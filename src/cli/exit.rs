//! How a command ends.

use std::io::Write as _;
use std::process::ExitCode;

use crate::daemon::{DaemonError, GuardError};
use crate::domain::cause::chain;
use crate::domain::path::show_bytes;
use crate::domain::text::steers;
use crate::store::{OpenStateError, StateError};

/// Why a command ends otherwise than well.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not called rightly: exit code 2.
    Usage(String),
    /// The configuration is wrong: exit code 3.
    Configuration(Vec<String>),
    /// A safety rule refuses: exit code 5.
    Refused(String),
    /// Anything else: exit code 1.
    Failed(Box<dyn std::error::Error>),
    /// It was said already.
    Said(u8),
}

impl Failure {
    /// Exit code 1 with this sentence.
    pub(super) fn failed(sentence: impl Into<String>) -> Self {
        Self::Failed(sentence.into().into())
    }

    /// Another process has the state.
    pub(super) fn is_locked(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        let error = error.downcast_ref::<OpenStateError>();
        matches!(error, Some(OpenStateError::Dir(StateError::Locked { .. })))
    }

    /// Says it, and gives the exit code.
    pub(super) fn tell(self) -> ExitCode {
        match self {
            Self::Usage(sentence) => {
                complain(&sentence);
                ExitCode::from(2)
            }
            Self::Configuration(problems) => {
                problems.iter().for_each(|problem| complain(problem));
                ExitCode::from(3)
            }
            Self::Refused(sentence) => {
                complain(&sentence);
                ExitCode::from(5)
            }
            Self::Failed(error) => {
                complain(&chain(error.as_ref()));
                ExitCode::FAILURE
            }
            Self::Said(code) => ExitCode::from(code),
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: Box<dyn std::error::Error> = Box::new(error);
        if refuses(error.as_ref()) { Self::Refused(chain(error.as_ref())) } else { Self::Failed(error) }
    }
}

/// Whether an error is a safety rule's.
fn refuses(error: &(dyn std::error::Error + 'static)) -> bool {
    let guard = |error: &GuardError| match error {
        GuardError::Guarded { .. } | GuardError::Auto { .. } | GuardError::NoPlan(_) => true,
        GuardError::Open { .. } | GuardError::Probe { .. } | GuardError::Journal(_) => false,
    };
    if let Some(error) = error.downcast_ref::<GuardError>() {
        return guard(error);
    }
    match (error.downcast_ref::<DaemonError>(), error.downcast_ref::<OpenStateError>()) {
        (Some(DaemonError::Guard(error)), _) => guard(error),
        (_, Some(OpenStateError::Dir(StateError::Locked { .. }))) => true,
        _ => false,
    }
}

/// Says what is wrong.
pub(super) fn complain(sentence: &str) {
    // Nobody is left to tell if the error output is closed.
    let _ = writeln!(std::io::stderr(), "storage-guard: {}", show_bytes(sentence.as_bytes()).0);
}

/// Prints a text for people: names of files can neither turn it round nor hide in it.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    // A tab or an escape of somebody's name or database steers a terminal too; a new line is ours.
    write(&text.replace(|c| steers(c) || (c.is_control() && c != '\n'), "\u{fffd}"))
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `storage-guard scan | head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    write(&format!("{}\n", serde_json::to_string_pretty(value)?))
}
