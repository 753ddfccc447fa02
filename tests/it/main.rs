//! Integration tests: one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod alerting;
mod alerts;
mod architecture;
mod catalogue_wvp;
mod chain;
mod cli;
mod comparison;
mod config;
mod crash;
mod dashboards;
mod deletions;
mod faults;
mod gateway;
mod holds;
mod hooks;
mod hygiene;
mod matrix;
mod media_server;
mod misbehaving;
mod neighbour;
mod notify;
mod orphans;
mod quarantine;
mod reclaim;
mod reclaim_model;
mod safety;
mod server;
mod stand_ins;
mod standing;
mod support;
mod units;
mod volume;
mod year;
