//! Layouts: how recorders name their files. Grammars only; nothing here touches a disk.

mod civil;
mod kind;
mod pick;
mod template;

pub use kind::{Layout, LayoutKind, Recognised};
pub use pick::{Pick, pick};
