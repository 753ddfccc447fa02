//! Builds the guard from its configuration, and lets it watch.

mod absent;
mod alerts;
mod canary;
mod catalogues;
mod foreign;
mod guard;
mod hub;
mod inspect;
mod job_items;
mod jobs;
mod listening;
mod log;
mod media;
mod moment;
mod orphan_calls;
mod orphan_pages;
mod reading;
mod remedies;
mod retry;
mod rows;
mod runs;
mod serve;
mod share;
mod sharing;
mod systemd;
mod tree;
mod volume;
mod work;

pub use crate::notify::template_problems;
pub use alerts::Alerts;
pub use catalogues::{Catalogues, StatePlace};
pub use guard::{Done, Guard, GuardError, Marked, Parts, init, picked};
pub use hub::Hub;
pub use listening::DaemonError;
pub use reading::read_catalogues;
pub use serve::{Daemon, Reread};
