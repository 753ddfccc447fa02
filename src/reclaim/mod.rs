//! Carries plans out through the door, batch by batch, measures what came back, and settles what a crash left open.

mod batch;
mod brake;
mod handle;
mod orphans;
mod proof;
mod prune;
mod quarantine;
mod run;
mod settle;
mod unit;

pub use batch::{Engine, Settled, Stop};
pub use brake::Brake;
pub use handle::{Proven, TreeHandle, Trees, bears_hold, held};
pub use orphans::OrphanWish;
pub use quarantine::{Expiries, WayBack};
pub use run::{LAG, Order, Run, RunReport};
pub use settle::{SettleReport, settle};
