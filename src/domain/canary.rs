//! The reclaim canary: a file that is written and deleted while all is well, to see whether deleting gives space back at all.

use super::names::TreeId;
use super::units::Bytes;
use super::volume::{Marks, Space};

/// The probe file, on large volumes.
const LARGEST: Bytes = Bytes::mib(64);
/// Less is lost in what every filesystem writes by itself.
const LEAST: Bytes = Bytes::MIB;

/// How large the probe file may be; `None` where there is too little room for one. It never brings a volume to its high mark.
#[must_use]
pub fn size(space: &Space, marks: &Marks) -> Option<Bytes> {
    let bytes = LARGEST.min(space.size.scaled(1, 100));
    let left = space.available.saturating_sub(bytes);
    let roomy = space.available >= bytes.saturating_mul(16) && space.available >= space.size.scaled(1, 20);
    (bytes >= LEAST && roomy && left > marks.thresholds(space).high).then_some(bytes)
}

/// What became of a probe file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// Its space came back.
    Back,
    /// It did not: so much is missing.
    Missing(Bytes),
    /// Others wrote so much meanwhile that nobody can tell.
    Unclear,
}

/// What is wrong with a volume, as its probe file showed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFault {
    /// It could not be written.
    #[error("a probe file of {bytes} could not be written in tree `{tree}`: {error}")]
    NotWritten {
        /// In this tree.
        tree: TreeId,
        /// Its size.
        bytes: Bytes,
        /// What the system said.
        error: String,
    },
    /// It could not be deleted.
    #[error("a probe file could not be deleted in tree `{tree}`: {error}")]
    NotDeleted {
        /// In this tree.
        tree: TreeId,
        /// What the system said.
        error: String,
    },
    /// Its space did not come back.
    #[error("{missing} of a probe file of {bytes} did not come back when it was deleted in tree `{tree}`")]
    NotBack {
        /// In this tree.
        tree: TreeId,
        /// Its size.
        bytes: Bytes,
        /// What is missing.
        missing: Bytes,
    },
}

/// Judges a probe file of `bytes`: `with` and `without` are the free bytes before and after its deletion, `written` is what was written
/// to the device between the two.
#[must_use]
pub fn judge(bytes: Bytes, with: Bytes, without: Bytes, written: Option<Bytes>) -> Measured {
    let back = without.saturating_sub(with);
    if back >= bytes.scaled(1, 2) {
        return Measured::Back;
    }
    if back.saturating_add(written.unwrap_or_default()) >= bytes.scaled(1, 2) {
        return Measured::Unclear;
    }
    Measured::Missing(bytes.saturating_sub(back))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_file_is_small_and_never_fills_a_volume() {
        let check = |size_mib, available_mib, expected: Option<u64>| {
            let space = Space {
                size: Bytes::mib(size_mib),
                free: Bytes::mib(available_mib),
                available: Bytes::mib(available_mib),
                ..Space::default()
            };
            assert_eq!(size(&space, &Marks::default()), expected.map(Bytes::mib), "{size_mib} {available_mib}");
        };
        check(100 << 10, 50 << 10, Some(64));
        check(400, 200, Some(4));
        check(99, 99, None);
        // A rolling recorder's volume lives between its marks.
        check(100 << 10, 12 << 10, Some(64));
        // Too little is left: of the volume, or above its high mark.
        check(400, 50, None);
        check(100 << 10, 900, None);
        check(100 << 10, 10 << 10, None);
        check(0, 0, None);
    }

    #[test]
    fn what_does_not_come_back_is_missing_unless_others_wrote() {
        let check = |rise: u64, written: Option<u64>, expected| {
            let with = Bytes::mib(500);
            let measured = judge(Bytes::mib(64), with, with.saturating_add(Bytes::mib(rise)), written.map(Bytes::mib));
            assert_eq!(measured, expected, "{rise} {written:?}");
        };
        check(64, Some(0), Measured::Back);
        check(40, Some(500), Measured::Back);
        check(0, Some(1), Measured::Missing(Bytes::mib(64)));
        check(10, None, Measured::Missing(Bytes::mib(54)));
        check(0, Some(60), Measured::Unclear);
    }
}
