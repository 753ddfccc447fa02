//! What must outlive us: the journal, which is the truth, and the database beside it.

mod alert_rows;
mod ballast;
mod catalogue_file;
mod catalogue_index;
mod catalogue_read;
mod catalogue_write;
mod database;
mod fact_rows;
mod findings;
mod findings_file;
mod health_rows;
mod hook_outbox;
mod hook_records;
mod journal;
mod orphan_rows;
mod outbox;
mod reading;
mod record;
mod round;
mod segment;
mod silence_rows;
mod state;
mod state_dir;

pub use alert_rows::{StoredAlert, Told};
pub use catalogue_index::{CatalogueIndex, FolderNumber, IndexRow, IndexState};
pub use database::{Database, DatabaseError, OpenedDatabase};
pub use findings::{Findings, Found, OrphanQuery};
pub use health_rows::StoredHealth;
pub use hook_outbox::{Backlog, Outgoing, TakenHook, TakenHooks, ToldHook, WaitingHook};
pub use hook_records::HookRecord;
pub use journal::{Journal, JournalError, Opened};
pub use outbox::{Batch, Loaded, MUTED, Message, MessageKind, MessageState, SUPERSEDED, UNHEARD};
pub use round::Round;
pub use state::{OpenState, OpenStateError, open_state};
pub use state_dir::{StateDir, StateError};
