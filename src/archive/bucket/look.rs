//! What lies under a key, as the store says it.

use std::fmt;
use std::sync::atomic::Ordering;

use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore as _};

use super::super::store::ColdError;
use super::store::Bucket;
use super::wire::Told;
use crate::domain::archive::Digest;
use crate::domain::units::Timestamp;

/// The attribute that holds the content's digest, if it was known when the copy was begun.
pub(super) const DIGEST: &str = "storage-guard-sha256";
/// The attribute that holds when the content of the source last changed, in nanoseconds since the epoch.
pub(super) const MODIFIED: &str = "storage-guard-modified";
/// The attribute that holds how long each part but the last is.
pub(super) const PART: &str = "storage-guard-part";
/// The attribute that tells the copies of one call from those of any other.
pub(super) const MARK: &str = "storage-guard-mark";

/// What was found under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) size: u64,
    /// The store's own tag of this content.
    pub(super) tag: Option<String>,
    /// When the source last changed, or else when the object was made.
    pub(super) modified: Timestamp,
    /// It says when its source last changed, as all copies do.
    pub(super) marked: bool,
    pub(super) digest: Option<Digest>,
    pub(super) part: Option<u64>,
    pub(super) mark: Option<String>,
    /// The SHA-256 that the store keeps, as it says it.
    pub(super) checksum: Option<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.size)?;
        match &self.digest {
            Some(digest) => write!(f, ", SHA-256 {digest}"),
            None => Ok(()),
        }
    }
}

impl Bucket {
    /// What lies under a key; `None` only if nothing does in a bucket that is there.
    pub(super) fn head(&self, path: &Path) -> Result<Option<Found>, ColdError> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let got = match self.wait(0, self.looks.get_opts(path, options)) {
            Ok(got) => got,
            Err(trouble) if trouble.absent() => {
                // A bucket that is not there answers the same, and has lost nothing.
                self.see(path)?;
                return Ok(None);
            }
            Err(trouble) => return Err(self.failed("look at", path, &trouble)),
        };
        self.seen.store(true, Ordering::Relaxed);
        let checksum = got.extensions.get::<Told>().and_then(|told| {
            let value = told.0.get("x-amz-checksum-sha256")?.to_str().ok()?;
            Some(value.to_owned())
        });
        let made = Timestamp::from_millis(got.meta.last_modified.timestamp_millis());
        let attribute = |name| attribute(&got.attributes, name);
        let modified = attribute(MODIFIED).and_then(|nanos| nanos.parse::<i64>().ok());
        Ok(Some(Found {
            size: got.meta.size,
            tag: got.meta.e_tag.clone(),
            marked: modified.is_some(),
            modified: modified.map_or(made, |nanos| Timestamp::from_millis(nanos.div_euclid(1_000_000))),
            digest: attribute(DIGEST).and_then(Digest::parse),
            part: attribute(PART).and_then(|part| part.parse().ok()).filter(|part| *part > 0),
            mark: attribute(MARK).map(str::to_owned),
            checksum,
        }))
    }

    /// Makes sure, once, that the bucket is there.
    fn see(&self, path: &Path) -> Result<(), ColdError> {
        if self.seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let query = [("list-type", "2"), ("max-keys", "1"), ("prefix", path.as_ref())];
        self.ask(&query).map_err(|trouble| self.failed("look for", path, &trouble))?;
        self.seen.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn attribute<'a>(attributes: &'a Attributes, name: &'static str) -> Option<&'a str> {
    attributes.get(&Attribute::Metadata(name.into())).map(AsRef::as_ref)
}
