//! Layouts: how recorders name their files. Grammars only; nothing here touches a disk.

mod civil;
mod day;
mod folder;
mod kind;
mod names;
mod pick;
mod roots;
mod template;

pub use day::{Companion, is_hour};
pub use folder::{Folder, Found};
pub use kind::{Layout, LayoutKind, Recognised};
pub use pick::{Pick, pick};
