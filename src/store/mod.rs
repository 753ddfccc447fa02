//! What must outlive us: the journal, which is the truth, and the database beside it.

mod alert_rows;
mod ballast;
mod database;
mod fact_rows;
mod health_rows;
mod journal;
mod outbox;
mod reading;
mod record;
mod segment;
mod silence_rows;
mod state;
mod state_dir;

pub use alert_rows::{StoredAlert, Told};
pub use database::{Database, DatabaseError, OpenedDatabase};
pub use health_rows::StoredHealth;
pub use journal::{Journal, JournalError, Opened};
pub use outbox::{Batch, Loaded, MUTED, Message, MessageKind, MessageState, SUPERSEDED, UNHEARD};
pub use state::{OpenState, OpenStateError, open_state};
pub use state_dir::{StateDir, StateError};
