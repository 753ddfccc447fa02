//! What programs and people ask over HTTP: listeners, authentication, the API, and its JSON shapes.
//!
//! [`serve_tcp`] and [`serve_unix`] accept connections and hand each request, with its [`Peer`], to a router. The router asks
//! [`Auth`] who is calling, and a [`Backend`] for the answer.

pub mod archive;
mod auth;
mod backend;
mod calls;
mod control;
pub mod deletions;
mod events;
mod feed;
pub mod gaps;
mod gate;
pub mod holds;
pub mod hook_records;
mod listen;
mod media;
pub mod orphans;
pub mod plans;
mod query;
pub mod records;
mod refusal;
pub mod relays;
mod routes;
pub mod shapes;
mod stream;
pub mod streams;
mod throttle;

pub use auth::{Auth, TokenError, operator_token};
pub use backend::{Backend, PageQuery, Plans};
pub use control::{ControlError, ControlSocket, connect_control};
pub use feed::Feed;
pub use listen::{Limits, Peer, serve_gateway, serve_tcp, serve_unix};
pub use refusal::Refusal;
pub use routes::{metrics_router, router};
