//! Builds the guard from its settings, and lets it watch.

mod guard;

pub use guard::{Guard, GuardError, TreeView, VolumeView};
