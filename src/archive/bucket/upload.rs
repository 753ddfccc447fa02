//! Sends a content: a small one by one request, a larger one in parts, two of them in memory at a time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;

use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{Attribute, Attributes, MultipartId, ObjectStore as _, PutMultipartOptions, PutOptions, PutPayload};
use tokio::task::JoinSet;

use super::super::store::{ColdError, Parcel};
use super::checksum::{Measure, Measured};
use super::look;
use super::store::{Bucket, changed};
use super::trouble::Trouble;
use crate::domain::cause::chain;

/// How long a part is, and the longest content that is sent by one request.
pub(super) const PART: u64 = 8 << 20;
/// No object has more parts.
const PARTS: u64 = 10_000;
/// How many parts are in memory.
const IN_MEMORY: usize = 2;

/// What was sent, and how that ended.
pub(super) struct Sent {
    pub(super) measured: Measured,
    /// What tells it from what others may have sent.
    pub(super) mark: String,
    pub(super) result: Result<(), Trouble>,
}

/// How long the parts of a content are: whole mebibytes, longer only where there would be too many.
pub(super) fn part_length(size: u64) -> u64 {
    size.div_ceil(PARTS).next_multiple_of(1 << 20).max(PART)
}

/// The next bytes of a content, as many as asked for unless it ends.
pub(super) fn read_piece(content: &mut dyn Read, length: u64) -> Result<Vec<u8>, ColdError> {
    let mut piece = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    content.take(length).read_to_end(&mut piece).map_err(ColdError::Source)?;
    Ok(piece)
}

/// What no other call has.
fn fresh_mark() -> Result<String, ColdError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| ColdError::Unusable(format!("there is no chance: {error}")))?;
    Ok(random.iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

impl Bucket {
    /// Sends a content under a key where nothing lies.
    pub(super) fn send(&self, path: &Path, parcel: Parcel<'_>) -> Result<Sent, ColdError> {
        let mark = fresh_mark()?;
        let part = part_length(parcel.size);
        let mut attributes = Attributes::new();
        let mut attribute = |name: &'static str, value: String| {
            attributes.insert(Attribute::Metadata(name.into()), value.into());
        };
        attribute(look::MARK, mark.clone());
        attribute(look::MODIFIED, parcel.modified.to_string());
        attribute(look::PART, part.to_string());
        if parcel.size > part {
            return self.send_parts(path, parcel, part, attributes, mark);
        }
        // One byte more shows that there is more.
        let content = read_piece(parcel.content, part + 1)?;
        let mut measure = Measure::of_parts(part);
        measure.update(&content);
        let measured = measure.finish();
        if measured.size != parcel.size {
            return Err(changed(parcel.size, measured.size));
        }
        attribute(look::DIGEST, measured.digest.to_string());
        let options = PutOptions { attributes, ..PutOptions::default() };
        let sent = self.wait(parcel.size, self.objects.put_opts(path, PutPayload::from(content), options));
        Ok(Sent { measured, mark, result: sent.map(|_| ()) })
    }

    fn send_parts(
        &self,
        path: &Path,
        parcel: Parcel<'_>,
        part: u64,
        attributes: Attributes,
        mark: String,
    ) -> Result<Sent, ColdError> {
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let begun = self.wait(0, self.objects.create_multipart_opts(path, options));
        let id = begun.map_err(|trouble| self.failed("begin to write", path, &trouble))?;
        self.begun().push((path.clone(), id.clone()));
        let (measured, parts) = match self.carry(path, &id, parcel, part) {
            Ok(carried) => carried,
            Err(error) => {
                self.abandon(path, &id);
                return Err(error);
            }
        };
        let result = self.wait(0, self.objects.complete_multipart(path, &id, parts)).map(|_| ());
        match &result {
            Ok(()) => self.forget(path, &id),
            // Where it was completed all the same, there is nothing to abort any more.
            Err(_) => self.abandon(path, &id),
        }
        Ok(Sent { measured, mark, result })
    }

    /// Reads the parts and sends them, the next one being read while the last one is on its way.
    fn carry(
        &self,
        path: &Path,
        id: &MultipartId,
        parcel: Parcel<'_>,
        part: u64,
    ) -> Result<(Measured, Vec<PartId>), ColdError> {
        let mut measure = Measure::of_parts(part);
        let mut done = BTreeMap::new();
        // Dropped, it ends what is still on its way.
        let mut flying: JoinSet<(usize, Result<PartId, Trouble>)> = JoinSet::new();
        let land = |flying: &mut JoinSet<_>, done: &mut BTreeMap<usize, PartId>| {
            match self.runtime().block_on(flying.join_next()) {
                Some(Ok((number, Ok(landed)))) => done.insert(number, landed),
                Some(Ok((_, Err(trouble)))) => return Err(self.failed("write a part of", path, &trouble)),
                Some(Err(error)) => {
                    let trouble = Trouble::Nonsense(error.to_string());
                    return Err(self.failed("write a part of", path, &trouble));
                }
                None => None,
            };
            Ok(())
        };
        for number in 0.. {
            while flying.len() >= IN_MEMORY {
                land(&mut flying, &mut done)?;
            }
            let piece = read_piece(parcel.content, part)?;
            if piece.is_empty() {
                break;
            }
            measure.update(&piece);
            if measure.size() > parcel.size {
                return Err(changed(parcel.size, measure.size()));
            }
            let (objects, path, id) = (self.objects.clone(), path.clone(), id.clone());
            let limit = self.patience.whole(piece.len() as u64);
            let sending = async move {
                let sent = objects.put_part(&path, &id, number, PutPayload::from(piece));
                let sent = tokio::time::timeout(limit, sent).await;
                (number, sent.map_or(Err(Trouble::Late), |sent| sent.map_err(Trouble::Store)))
            };
            flying.spawn_on(sending, self.runtime().handle());
        }
        if measure.size() != parcel.size {
            return Err(changed(parcel.size, measure.size()));
        }
        while !flying.is_empty() {
            land(&mut flying, &mut done)?;
        }
        Ok((measure.finish(), done.into_values().collect()))
    }

    /// Aborts an upload that failed; one that cannot be aborted now is remembered for the next tidying.
    fn abandon(&self, path: &Path, id: &MultipartId) {
        match self.wait(0, self.objects.abort_multipart(path, id)) {
            Ok(()) => self.forget(path, id),
            Err(trouble) if trouble.absent() => self.forget(path, id),
            Err(error) => {
                let error = chain(&self.failed("abort", path, &error));
                tracing::warn!(key = path.as_ref(), error, "What was uploaded of a copy is not removed yet.");
            }
        }
    }

    /// An upload has ended.
    pub(super) fn forget(&self, path: &Path, id: &MultipartId) {
        self.begun().retain(|(at, known)| (at, known) != (path, id));
    }

    pub(super) fn begun(&self) -> std::sync::MutexGuard<'_, Vec<(Path, MultipartId)>> {
        self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn parts_grow_only_where_there_would_be_too_many() {
        for (size, part) in [
            (0, PART),
            (1, PART),
            (PART + 1, PART),
            (PART * PARTS, PART),
            (PART * PARTS + 1, PART + (1 << 20)),
            (5 << 40, 525 << 20),
        ] {
            assert_eq!(part_length(size), part, "{size}");
            assert!(size.div_ceil(part_length(size)) <= PARTS);
        }
    }

    #[test]
    fn a_piece_ends_before_its_length_only_with_the_content() {
        let mut content: &[u8] = b"12345";
        for expected in [&b"123"[..], b"45", b""] {
            assert_eq!(read_piece(&mut content, 3).unwrap(), expected);
        }
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk"))
            }
        }
        assert!(matches!(read_piece(&mut Broken, 3), Err(ColdError::Source(_))));
    }
}
