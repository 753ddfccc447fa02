//! Types and decisions. Nothing here touches a file, a socket, a thread or the time of day.

pub mod alert;
pub mod alert_book;
pub mod backoff;
pub mod clock_watch;
pub mod conditions;
pub mod deletion;
pub mod event;
pub mod history;
pub mod journal;
pub mod layout;
pub mod ledger;
pub mod limits;
pub mod marker;
pub mod names;
pub mod path;
pub mod plan;
pub mod pressure;
pub mod protection;
pub mod recording;
pub mod retention;
pub mod secret;
pub mod settings;
pub mod status;
pub mod survey;
pub mod units;
pub mod volume;
