//! The machine: time, guarded trees, volumes, and who holds files open. Traits, and the real ones.

mod traits;

pub use traits::*;
