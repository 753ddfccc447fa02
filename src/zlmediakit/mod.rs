//! ZLMediaKit: the only room that knows its shapes. What it tells by its hooks, what its API answers, and the gateway that stands before it.

mod recorded;

pub use recorded::recorded;
