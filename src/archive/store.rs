//! What an archive is to those who copy into it and out of it, whatever it is made of.

use std::io;
use std::ops::ControlFlow;

use crate::domain::archive::Digest;
use crate::domain::path::RelPath;
use crate::domain::units::Timestamp;

/// What is copied.
pub struct Parcel<'a> {
    /// Where its copy lies.
    pub key: &'a RelPath,
    /// Its length as it was last seen. Another length at the end is an error.
    pub size: u64,
    /// When its content last changed, in nanoseconds since the epoch: the copy bears the same time, where the archive can keep it.
    pub modified: i64,
    /// Its content, from the first byte on. An error of it is [`ColdError::Source`]. Each reading at its end looks whether it is still what it
    /// was, so whoever reads once more before the copy gets its name knows that it is one of the whole.
    pub content: &'a mut dyn io::Read,
}

/// A copy as an archive lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdObject {
    /// Where it lies.
    pub key: RelPath,
    /// Its length.
    pub size: u64,
    /// When the content of its source last changed, as far as the archive keeps that; else when it was copied.
    pub modified: Timestamp,
    /// The digest that was written down with it, which proves nothing by itself.
    pub digest: Option<Digest>,
    /// How the archive itself tells this content of the key from any other, if it does (S3: the `ETag`).
    pub tag: Option<String>,
    /// It bears what is written with every copy, so that it is nobody else's. A bucket's list does not tell, and [`ColdStore::look`] does.
    pub marked: bool,
}

/// Why something could not be copied, looked at or brought back.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// The source could not be read, changed, or the copying was stopped.
    #[error("the source cannot be read")]
    Source(#[source] io::Error),
    /// There is no room.
    #[error("the archive has no room")]
    Full(#[source] io::Error),
    /// It cannot be used now: unmounted, another disk, unreachable, refusing. Nothing was written, or what was is found by the next call.
    #[error("the archive cannot be used: {0}")]
    Unusable(String),
    /// Under this key lies something else, and it stays.
    #[error("`{key}` is already there, with another content ({found}); it is not overwritten")]
    Taken {
        /// The key.
        key: String,
        /// What is there.
        found: String,
    },
    /// What was read back is not what was written.
    #[error("the copy `{key}` is not what was written: {wrong}")]
    Differs {
        /// The key.
        key: String,
        /// What differs.
        wrong: String,
    },
    /// There is nothing under this key.
    #[error("`{0}` is not in the archive")]
    Absent(String),
    /// Anything else that failed.
    #[error("cannot {action} `{key}`")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// With what.
        key: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An archive. Its calls block, and are made from threads of the archiver alone.
pub trait ColdStore: Send + Sync {
    /// Copies, durably and never over another file, and asks back what was written. Only once that is known to be the same it
    /// returns, with the content's digest and length. A copy with the same content that is there already is verified in the same way, and
    /// not written again. Whatever fails leaves nothing under the key that was not there before; only a store whose answer was lost may have
    /// kept the copy, which the next call finds and verifies.
    ///
    /// # Errors
    /// Why there is no verified copy.
    fn put(&self, parcel: Parcel<'_>) -> Result<(Digest, u64), ColdError>;
    /// Writes the content under `key` into `sink`, and returns its digest and length as they were read.
    ///
    /// # Errors
    /// Why it could not be read; an error of `sink` is [`ColdError::Source`].
    fn get(&self, key: &RelPath, sink: &mut dyn io::Write) -> Result<(Digest, u64), ColdError>;
    /// What lies under `key`; `None` if nothing does.
    ///
    /// # Errors
    /// Why that is not known.
    fn look(&self, key: &RelPath) -> Result<Option<ColdObject>, ColdError>;
    /// All copies below `under`, or all, in no order; `Break` ends it.
    ///
    /// # Errors
    /// Why it is not known whether that is all.
    fn list(
        &self,
        under: Option<&RelPath>,
        each: &mut dyn FnMut(ColdObject) -> ControlFlow<()>,
    ) -> Result<(), ColdError>;
    /// Removes what copying left unfinished, by this process or an earlier one; how many there were. Never while a copy is being made.
    ///
    /// # Errors
    /// Why it could not.
    fn tidy(&self) -> Result<u64, ColdError>;
    /// Removes a copy that has come to its end, if it is still `object`, and looks for it: only once it is not found it returns. Copies in a
    /// directory go through the door instead, as every recording does.
    ///
    /// # Errors
    /// Why it is still there, or why that is not known.
    fn remove(&self, object: &ColdObject) -> Result<(), ColdError>;
}
