//! Walks trees and leaves an inventory: through their handles, never following links, never leaving the mount.

mod foreign;
mod of_stream;
mod walk;

pub use foreign::{Largest, largest};
pub use of_stream::{OfStreamFound, StreamWalk};
pub use walk::{Progress, Stopped, sample, scan};
