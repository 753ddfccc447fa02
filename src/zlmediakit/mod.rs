//! ZLMediaKit: the only room that knows its shapes. What it tells by its hooks, what its API answers, and the gateway that stands before it.

mod answers;
mod client;
mod gateway;
mod hook_store;
mod listener;
mod live;
mod recorded;
mod roots;

pub use client::{ApiError, Client, Recorded, ServerConfig};
pub use gateway::{
    Answer, Answering, Asked, BadUpstream, Deleter, Failed, Fronted, Passing, Upstream, Which, gateway_router,
};
pub use hook_store::{HookStore, QUEUE};
pub use listener::{HookApp, MayRecord, Told, hook_router};
pub use live::{Asking, Live};
pub use recorded::recorded;
pub use roots::{Advice, advise, records_at};
