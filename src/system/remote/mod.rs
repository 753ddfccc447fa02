//! Trees and volumes that may hang, each worked by a process of its own.
//!
//! A call into a mount that hangs cannot be ended from outside; only the process that made it can be given up. So a tree on a network
//! filesystem, or on a mount that hung once, is worked by a child: our own program, started with a hidden argument, which is asked over
//! its standard input and answers over its standard output.
//!
//! Invariants:
//! - a child inherits three descriptors and nothing else: no lock, no journal, no socket, and no environment;
//! - a path has one child at a time; a new one is started only when the old one is dead, also one that an earlier guard left behind;
//! - an answer that did not come is counted as a break: nobody knows what the last call did, so intents stay open until it was looked;
//! - a child that is not answered for ends by itself: its standard input closes with us.

mod child;
mod hung;
mod isolating;
mod link;
mod shapes;
mod tree;
mod yard;

pub use child::{ARGUMENT, serve};
pub use isolating::{Deadlines, Isolating};
