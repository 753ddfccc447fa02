//! What must outlive us: the journal, which is the truth, and the database beside it.

mod journal;
mod record;
mod segment;
mod state_dir;

pub use journal::{Journal, JournalError, Opened};
pub use state_dir::{StateDir, StateError};
