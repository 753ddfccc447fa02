//! The digests of a content as it goes by, and what a store's checksum says about it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::domain::archive::Digest;

/// Digests of a content, of the whole and of its parts, as it is read.
pub(super) struct Measure {
    part: u64,
    size: u64,
    whole: Sha256,
    /// Of the part that has begun, and how much of it there is.
    current: Sha256,
    begun: u64,
    /// Of the digests of the parts that are whole, and how many there are.
    digests: Sha256,
    parts: u64,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// Of the whole content.
    pub(super) digest: Digest,
    /// How long it is.
    pub(super) size: u64,
    /// The SHA-256 of the digests of its parts.
    composite: [u8; 32],
    /// How many parts there are.
    parts: u64,
}

impl Measure {
    /// Of a content that is cut into parts of so many bytes.
    pub(super) fn of_parts(part: u64) -> Self {
        let [whole, current, digests] = std::array::from_fn(|_| Sha256::new());
        Self { part: part.max(1), size: 0, whole, current, begun: 0, digests, parts: 0 }
    }

    /// How much has gone by.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = usize::try_from(self.part - self.begun).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.current.update(now);
            self.begun += now.len() as u64;
            if self.begun == self.part {
                self.end_part();
            }
            bytes = later;
        }
    }

    /// All of it has gone by.
    pub(super) fn finish(mut self) -> Measured {
        // An empty content is one empty part.
        if self.begun > 0 || self.parts == 0 {
            self.end_part();
        }
        Measured {
            digest: Digest(self.whole.finalize().into()),
            size: self.size,
            composite: self.digests.finalize().into(),
            parts: self.parts,
        }
    }

    fn end_part(&mut self) {
        self.digests.update(self.current.finalize_reset());
        self.begun = 0;
        self.parts += 1;
    }
}

impl Measured {
    /// Whether a checksum of the store, as `x-amz-checksum-sha256` says it, is this content's; `None` if it was made of other parts, and so
    /// says nothing. `BASE64` is of the whole content, `BASE64-N` of the digests of `N` parts; some stores leave the `-N` out, and either proves
    /// the content.
    pub(super) fn agrees(&self, told: &str) -> Option<bool> {
        let (digest, parts) = match told.split_once('-') {
            Some((digest, parts)) => (digest, Some(parts)),
            None => (told, None),
        };
        let digest = STANDARD.decode(digest).ok()?;
        match parts {
            None => Some(digest == self.digest.0 || digest == self.composite),
            Some(parts) if parts.parse() == Ok(self.parts) => Some(digest == self.composite),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    #[test]
    fn parts_are_those_of_the_content_however_it_is_read() {
        let content: Vec<u8> = (0..100_u8).collect();
        for (part, step) in [(10, 100), (10, 7), (30, 30), (33, 1), (100, 9), (1000, 3)] {
            let mut measure = Measure::of_parts(part);
            content.chunks(step).for_each(|bytes| measure.update(bytes));
            let measured = measure.finish();
            let digests: Vec<[u8; 32]> = content.chunks(usize::try_from(part).unwrap()).map(sha).collect();
            assert_eq!((measured.digest.0, measured.size), (sha(&content), 100));
            assert_eq!((measured.composite, measured.parts), (sha(&digests.concat()), digests.len() as u64), "{part}");
        }
        let empty = Measure::of_parts(10).finish();
        assert_eq!((empty.digest.0, empty.composite, empty.parts), (sha(b""), sha(&sha(b"")), 1));
    }

    #[test]
    fn a_checksum_of_other_parts_says_nothing() {
        let mut measure = Measure::of_parts(4);
        measure.update(b"123456");
        let measured = measure.finish();
        let whole = STANDARD.encode(sha(b"123456"));
        let composite = STANDARD.encode(sha(&[sha(b"1234"), sha(b"56")].concat()));
        for (told, expected) in [
            (whole.clone(), Some(true)),
            (STANDARD.encode(sha(b"other")), Some(false)),
            (format!("{composite}-2"), Some(true)),
            (format!("{whole}-2"), Some(false)),
            (format!("{composite}-3"), None),
            (composite, Some(true)),
            ("no base64".to_owned(), None),
        ] {
            assert_eq!(measured.agrees(&told), expected, "{told}");
        }
    }
}
