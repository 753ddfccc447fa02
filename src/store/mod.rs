//! What must outlive us: the database of alerts, their outbox, and small values by key.

mod alert_rows;
mod database;
mod outbox;

pub use alert_rows::{StoredAlert, Told};
pub use database::{Database, DatabaseError, Opened};
pub use outbox::{Batch, Loaded, Message, MessageKind, MessageState};
