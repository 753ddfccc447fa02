//! The fault catalogue: what goes wrong around a program that deletes recordings, made to happen. Each test cites the numbers of the
//! faults it covers; `docs/faults.md` lists them all.

mod control;
mod crash;
mod daemon;
mod io;
mod mounts;
mod open;
mod paths;
mod remote;
mod space;
mod starved;
mod state;
