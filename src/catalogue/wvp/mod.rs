//! WVP's table `wvp_cloud_record`, in MariaDB, MySQL or PostgreSQL.
//!
//! - Each call opens a connection of its own, and closes it: a server that was restarted, moved or changed in between is met as it is now,
//!   and no old snapshot is ever read. Readings are read-only sessions.
//! - Every wait has two limits: the server's own for a statement, and ours around each step. What hangs is an error, and its connection is
//!   dropped.
//! - Columns are found by asking. Every value comes as bytes: a path is what stands there, text or not.

mod address;
mod adopt;
mod fault;
mod neighbours;
mod read;
mod rows;
mod schema;
mod session;
mod table;

pub use session::Limits;
pub use table::Table;
