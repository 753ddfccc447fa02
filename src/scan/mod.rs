//! Walks trees and leaves an inventory: through their handles, never following links, never leaving the mount.

mod walk;

pub use walk::{Progress, Stopped, sample, scan};
