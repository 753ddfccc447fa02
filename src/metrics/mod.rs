//! Every metric of the guard: names, labels, and how events and the last look make them.
//!
//! Counters and histograms grow with events; gauges are taken from what is known when somebody asks. All label values exist, at
//! zero, from the start, so that `rate()` and `absent()` work.

mod counters;
mod exposition;
mod gauges;

pub use counters::Counters;
pub use exposition::{Known, render};
