//! The command line: the only place that prints.

mod args;
mod json;
mod main;
mod screen;

pub use main::main;
