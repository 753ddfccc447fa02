//! What should exist: hook records, WVP's table, Frigate's database, a manifest; whether they can be believed; and how they compare with
//! what a scan found.
//!
//! 1. A [`Source`] is read: whole, or what is new.
//! 2. Its [`Keeper`] puts each row where it belongs, builds an index of them, and judges whether it can be believed. Only then does the new
//!    index take the place of the old.
//! 3. [`compare()`] goes folder by folder through what a scan found and the indexes of a tree's catalogues. What differs is a finding.
//! 4. Findings become orphans by the witnesses of `domain::verdict`.

mod change;
mod compare;
mod frigate;
mod gather;
mod hooks;
mod keeper;
mod manifest;
mod place;
mod reading;
mod source;
mod wvp;

pub use compare::{Comparison, Outcome, compare, sight_leftovers};
pub use keeper::{Happened, Keeper, Known, Presence};
pub use source::{Pass, Rows, RowsError, Source, Wanted, open_source};
pub use wvp::{Limits as WvpLimits, Table as WvpTable};
