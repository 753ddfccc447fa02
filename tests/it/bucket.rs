//! The archive in a bucket, on moto: what is copied is proven, what is broken is never called a copy, and is healed by the next one.
//! Needs moto, which `tests/run` installs.

mod between;
mod faults;
mod guarded;
mod keeping;

use std::io;
use std::time::Duration;

use storage_guard::archive::{Bucket, ColdError, ColdStore, Parcel, Patience};
use storage_guard::domain::archive::{BucketSettings, Digest};
use storage_guard::domain::names::ArchiveId;
use storage_guard::domain::path::RelPath;
use storage_guard::domain::secret::Secret;

use crate::support::moto::{KEY, Moto};
use between::Between;

/// When the sources of the tests last changed, in nanoseconds.
const MODIFIED: i64 = 1_795_000_000_123_456_789;
/// A source that goes in one request.
const SMALL: usize = 100_000;
/// A source that goes in three parts.
const LARGE: usize = (16 << 20) + 12_345;

/// A store, the stand-in before it, and the archive behind both.
struct Site {
    moto: Moto,
    between: Between,
}

impl Site {
    fn new() -> Self {
        Self::before(Moto::start())
    }

    fn before(moto: Moto) -> Self {
        moto.bucket("cold");
        let between = Between::before(moto.port());
        Self { moto, between }
    }

    fn settings(&self) -> BucketSettings {
        BucketSettings {
            bucket: "cold".to_owned(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.between.port())),
            region: None,
            prefix: Some("guard/site-1".to_owned()),
            access_key: Some(Secret::new(KEY.0)),
            secret_key: Some(Secret::new(KEY.1)),
        }
    }

    fn archive(&self) -> Bucket {
        opened(&self.settings())
    }

    /// What the store itself has under a key of the archive.
    fn content(&self, key: &str) -> Option<Vec<u8>> {
        self.moto.content(&format!("/cold/guard/site-1/{key}"))
    }
}

/// The archive with little patience.
fn opened(settings: &BucketSettings) -> Bucket {
    let patience = Patience { answer: Duration::from_secs(2), retry: Duration::from_secs(2) };
    Bucket::open(&ArchiveId::new("cold"), settings, patience).unwrap()
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

/// A content that is no other's.
fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / 65_536) as u8 ^ seed).collect()
}

fn digest(content: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest(sha2::Sha256::digest(content).into())
}

fn put_all(archive: &Bucket, key: &RelPath, mut content: &[u8]) -> Result<(Digest, u64), ColdError> {
    let size = content.len() as u64;
    put(archive, key, size, &mut content)
}

fn put(archive: &Bucket, key: &RelPath, size: u64, content: &mut dyn io::Read) -> Result<(Digest, u64), ColdError> {
    archive.put(Parcel { key, size, modified: MODIFIED, content })
}

fn get(archive: &Bucket, key: &RelPath) -> Result<Vec<u8>, ColdError> {
    let mut out = Vec::new();
    let (read, size) = archive.get(key, &mut out)?;
    assert_eq!((read, size), (digest(&out), out.len() as u64));
    Ok(out)
}
