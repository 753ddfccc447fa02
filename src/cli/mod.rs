//! The commands: what they take, what they print, and how they end. The only place that prints.

mod alerts;
mod archive;
mod args;
mod client;
mod exit;
mod gaps;
mod hold;
mod job;
mod look;
mod main;
mod media;
mod orphans;
mod promises;
mod reclaim;
mod records;
mod run;
mod screen;
mod setup;
mod source;

pub use main::main;
