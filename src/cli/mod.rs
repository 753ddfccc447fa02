//! The command line: the only place that prints.

mod args;
#[cfg_attr(not(test), expect(dead_code, reason = "the commands that talk to a daemon come with the daemon"))]
mod client;
mod json;
mod main;
mod screen;

pub use main::main;
