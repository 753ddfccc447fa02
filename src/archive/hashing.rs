//! Hashes in a thread of its own, so that reading and writing go on meanwhile.

use std::sync::mpsc::{channel, sync_channel};

use sha2::{Digest as _, Sha256};

use super::store::ColdError;
use crate::domain::archive::Digest;

/// How much is read and written at once.
pub(super) const PIECE: usize = 1 << 20;
/// So many pieces wait to be hashed at most.
const WAITING: usize = 2;

/// The digest and the length of all that `next` puts into the room that it is given, piece by piece, until it says that it put nothing.
///
/// # Errors
/// Those of `next`.
pub(super) fn hashed(mut next: impl FnMut(&mut [u8]) -> Result<usize, ColdError>) -> Result<(Digest, u64), ColdError> {
    std::thread::scope(|scope| {
        let (full, pieces) = sync_channel::<Vec<u8>>(WAITING);
        let (done, empty) = channel();
        let thread = scope.spawn(move || {
            let mut hash = Sha256::new();
            for piece in pieces {
                hash.update(&piece);
                // Once all is read nobody needs the room any more.
                let _ = done.send(piece);
            }
            Digest(hash.finalize().into())
        });
        let mut length = 0_u64;
        loop {
            let mut piece = empty.try_recv().unwrap_or_default();
            piece.resize(PIECE, 0);
            let read = next(&mut piece)?;
            if read == 0 {
                break;
            }
            length += read as u64;
            piece.truncate(read);
            full.send(piece).expect("the thread takes all that comes");
        }
        drop(full);
        Ok((thread.join().expect("hashing cannot fail"), length))
    })
}
