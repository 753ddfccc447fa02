//! An archive in a bucket of a store that speaks S3, whoever made it.
//!
//! What a copy is, so that it can be proven without trust in this process or its memory:
//! 1. A file of at most one part ([`upload::PART`]) is one PUT, a larger one is a multipart upload. Every request bears the SHA-256 of
//!    its body, which the store compares. Both are made only where nothing lies yet (`If-None-Match: *`).
//! 2. The store is then asked for the length and the checksum that it keeps: of a PUT the SHA-256 of the content, of a multipart upload
//!    the SHA-256 of its parts' digests, which is known here too. A store that says none has the copy read back.
//! 3. The copy's attributes are set before its content is known to its end: the time of its source; the length of its parts, by which
//!    the checksum can be computed again from the content alone; a mark of the very call that made it; and the content's digest if it
//!    was one PUT. For a multipart upload the digest is left out: tags need another permission, a second object would be another thing to
//!    lose, and copying in place writes everything twice. The store's checksum proves the same, and the guard's own records bear the digest.
//! 4. Only what bears the mark of this call is ever removed again after a failure.

mod checksum;
mod keys;
mod listing;
mod look;
mod read;
mod store;
mod trouble;
mod upload;
mod wire;

pub use store::Bucket;
pub use wire::Patience;
