//! The machine: time, guarded trees and volumes. Traits, and the real ones.

mod clock;
pub mod door;
mod ffi;
mod held;
mod holders;
mod incoming;
mod kernel;
pub mod mountinfo;
pub mod mp4;
mod passed;
mod process;
pub mod remote;
mod traits;
mod tree;
mod tree_change;
mod unit;
mod volumes;

pub use clock::SystemClock;
pub use held::survive_lease_breaks;
pub use holders::ProcHolders;
pub use kernel::Kernel;
pub use passed::{PassedSocket, passed_sockets};
pub use process::{hangs_below, host_name, is_dead, raise_open_files};
pub use remote::{Deadlines, Isolating};
pub use traits::*;
pub use tree::GuardedTree;
pub use tree_change::lock_holder;
pub use unit::{Beside, Hour, UnitListing, any_segment, list_hour, list_unit};
pub use volumes::SystemVolumes;
