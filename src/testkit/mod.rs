//! Fakes of the machine for tests: time, trees and volumes in memory, and a hand on the power switch.

mod clock;
mod disk;
pub mod mp4;
mod policy;
mod power;
mod tree;
mod volumes;

pub use clock::FakeClock;
pub use disk::{Disk, Fake};
pub use policy::policy;
pub use power::{Cut, Power, Strike};
pub use tree::FakeDir;
pub use volumes::{FakeHolders, FakeVolumes};
