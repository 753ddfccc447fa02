//! Builds the guard from its configuration, and lets it watch.

mod absent;
mod alerts;
mod canary;
mod foreign;
mod guard;
mod hub;
mod jobs;
mod log;
mod retry;
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
pub use guard::{Done, Guard, GuardError, Marked, Parts, init, picked};
pub use hub::Hub;
pub use serve::{Daemon, DaemonError, Reread};
