//! The gateway, which stands for the media server's HTTP API: everything passes through, and deletions of recordings are carried out by us.
//!
//! Invariants:
//! 1. A connection to the media server carries one request and nothing behind it. What a client sends reaches it only as we have read it,
//!    so that nothing can be hidden from us in a length, a line end or a body.
//! 2. What the media server could take for a deletion of recordings, in whatever spelling, is never passed on before its arguments were
//!    validated; what cannot be told for sure is refused.
//! 3. Nothing that a client sends becomes a path. Arguments are names and dates; where they lie is found among the trees.

mod answer;
mod arguments;
mod asked;
mod call;
mod proxy;
mod router;

pub use answer::{Answer, Failed};
pub use asked::{Asked, Which};
pub use proxy::{BadUpstream, Upstream};
pub use router::{Answering, Deleter, Fronted, Passing, gateway_router};
