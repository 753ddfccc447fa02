//! Readings of volumes, each within a deadline: one thread for each volume asks the mount, so that a mount that hangs makes
//! nobody wait but itself.

mod prober;

pub use prober::Prober;
