//! Integration tests: one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod alerting;
mod alerts;
mod architecture;
mod chain;
mod cli;
mod config;
mod crash;
mod dashboards;
mod faults;
mod matrix;
mod misbehaving;
mod notify;
mod reclaim;
mod reclaim_model;
mod safety;
mod server;
mod standing;
mod support;
mod volume;
