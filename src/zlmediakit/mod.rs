//! ZLMediaKit: the only room that knows its shapes. What it tells by its hooks, what its API answers, and the gateway that stands before it.

mod answers;
mod client;
mod courier;
mod gateway;
mod hook_store;
mod listener;
mod live;
mod platform;
mod recorded;
mod roots;
mod scrub;

pub use client::{ApiError, Client, Recorded, ServerConfig};
pub use courier::{Courier, Outlet};
pub use gateway::{
    Answer, Answering, Asked, BadUpstream, Deleter, Failed, Fronted, Passing, Upstream, Which, gateway_router,
};
pub use hook_store::{HookStore, QUEUE};
pub use listener::{HookApp, MayRecord, Told, hook_router};
pub use live::{Asking, Live};
pub use platform::Relayed;
pub use recorded::recorded;
#[cfg(test)]
pub(crate) use recorded::tests as recorded_tests;
pub use roots::{Advice, advise, records_at};
