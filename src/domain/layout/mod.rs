//! Layouts: how recorders name their files. Grammars only; nothing here touches a disk.

mod civil;
mod folder;
mod kind;
mod names;
mod pick;
mod roots;
mod template;

pub use folder::{Folder, Found};
pub use kind::{Layout, LayoutKind, Recognised};
pub use pick::{Pick, pick};
