//! Copies recordings to the cold tier, verifies the copies, and only then hands the sources to the runs that delete; brings copies back.

mod folder;
mod store;

pub use folder::{ColdFolder, Ready};
pub use store::{ColdError, ColdObject, ColdStore, Parcel};
