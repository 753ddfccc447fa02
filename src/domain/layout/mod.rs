//! Layouts: how recorders name their files. Grammars only; nothing here touches a disk.

mod kind;

pub use kind::{Layout, LayoutKind, Recognised};
