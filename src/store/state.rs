//! The state, opened as far as the disk has room for it (promise 13).

use std::path::Path;
use std::sync::Arc;

use super::journal::{Journal, JournalError};
use super::segment;
use super::state_dir::{StateDir, StateError};

/// A state that this process has.
#[derive(Debug)]
pub struct OpenState {
    /// Its folder.
    pub dir: Arc<StateDir>,
    /// Its journal.
    pub journal: Journal,
    /// What was repaired, found damaged, or has no room yet, in words.
    pub remarks: Vec<String>,
}

/// Why a state cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStateError {
    /// Its folder.
    #[error(transparent)]
    Dir(#[from] StateError),
    /// Its journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Opens the state in `path`, making what is not there. On a disk without any room for a new one it is kept in memory, and made as
/// soon as there is some.
///
/// # Errors
/// If another guard has it, or it cannot be read or made for another reason than want of room.
pub fn open_state(path: &Path) -> Result<OpenState, OpenStateError> {
    let dir = Arc::new(StateDir::open(path)?);
    let folder = path.join("journal");
    let opened = if dir.made() { Some(Journal::open(&folder)) } else { None };
    match opened {
        Some(Ok(opened)) => {
            let remarks = opened.repaired.iter().map(|text| format!("the journal: {text}")).collect();
            Ok(OpenState { dir, journal: opened.journal, remarks })
        }
        // An old journal that cannot be repaired for want of room must not be begun anew.
        Some(Err(error)) if !error.full() || segment::list(&folder).is_ok_and(|all| !all.is_empty()) => {
            Err(error.into())
        }
        Some(Err(_)) | None => {
            let owner = dir.clone();
            let journal = Journal::owing(&folder, move || owner.make().is_ok());
            let text = format!(
                "there is no room for a state in `{}`: the first recordings are deleted one by one, each set aside under a name of ours in its own directory before, and entered in the journal once there is room",
                path.display()
            );
            Ok(OpenState { dir, journal, remarks: vec![text] })
        }
    }
}
