//! Copies recordings to the cold tier, verifies the copies, and only then hands the sources to the runs that delete; brings copies back.

mod bucket;
mod copy;
mod folder;
mod hashing;
mod restore;
mod store;

pub use bucket::{Bucket, Patience};
pub use copy::{Copying, Throttle, Wanted, digest_of_unit};
pub use folder::{ColdFolder, Ready};
pub use restore::{Back, bring_back};
pub use store::{ColdError, ColdObject, ColdStore, Parcel};
