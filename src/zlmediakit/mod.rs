//! ZLMediaKit: the only room that knows its shapes. What it tells by its hooks, what its API answers, and the gateway that stands before it.

mod client;
mod live;
mod recorded;

pub use client::{ApiError, Client, Recorded, ServerConfig};
pub use live::{Asking, Live};
pub use recorded::recorded;
