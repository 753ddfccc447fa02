//! Types and decisions. Nothing here touches a file, a socket, a thread or the time of day.

pub mod units;
pub mod names;
pub mod path;
pub mod secret;
pub mod volume;
pub mod recording;
pub mod layout;
pub mod protection;
pub mod retention;
pub mod deletion;
pub mod journal;
pub mod settings;
pub mod alert;
