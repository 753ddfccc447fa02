//! Copies recordings to the cold tier, verifies the copies, and only then hands the sources to the runs that delete; brings copies back.

mod bucket;
mod store;

pub use bucket::{Bucket, Patience};
pub use store::{ColdError, ColdObject, ColdStore, Parcel};
