//! Copies recordings to the cold tier, verifies the copies, and only then hands the sources to the runs that delete; brings copies back.

mod store;

pub use store::{ColdError, ColdObject, ColdStore, Parcel};
