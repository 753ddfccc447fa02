//! storage-guard keeps the disks of recording servers from filling up, and can prove what it did.
//!
//! The rooms, in reading order; `docs/architecture.md` says who may use whom.

pub mod archive;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod metrics;
pub mod notify;
pub mod probe;
pub mod reclaim;
pub mod scan;
pub mod server;
pub mod store;
pub mod system;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod zlmediakit;
