//! From what the user says to checked settings, or every problem with it.

mod addresses;
mod archives;
mod auth;
mod catalogues;
mod environment;
mod flags;
mod marks;
mod media_servers;
mod node;
mod notify;
mod others;
mod places;
mod problem;
mod secrets;
mod trees;
mod values;
mod whole;
mod yaml;

pub use environment::check_environment;
pub use flags::{Flags, apply_flags, for_trees};
pub use problem::{Problem, ProblemKind};
pub use values::duration;
pub use whole::{Config, load};
