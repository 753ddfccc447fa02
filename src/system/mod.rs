//! The machine: time, guarded trees and volumes. Traits, and the real ones.

mod clock;
pub mod mountinfo;
mod traits;
mod tree;
mod volumes;

pub use clock::SystemClock;
pub use traits::*;
pub use tree::GuardedTree;
pub use volumes::SystemVolumes;
