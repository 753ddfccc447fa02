//! One file of the journal: a header that continues the chain, then frames, then zeros.
//!
//! A segment is written full of zeros before it is used, so that appending to it needs no space on a disk that has none left.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::record::{Framed, decode, decode_if};
use crate::domain::deletion::Seq;
use crate::domain::journal::Recorded;
use crate::system::is_full;

/// Sizes that are tried, the largest first: the later ones are for a disk that is nearly full.
const SIZES: [usize; 3] = [4 << 20, 512 << 10, 64 << 10];
/// First bytes of a segment.
const MAGIC: &[u8; 8] = b"SGJRNL1\n";
/// Length of the header.
pub(super) const HEADER: usize = 64;
/// End of a segment's name.
pub(super) const END: &str = ".seg";

/// The name of the segment that begins with an entry.
pub(super) fn name(first: Seq) -> String {
    format!("{:020}{END}", first.0)
}

/// All segments of a folder, in order of their first entries.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(Seq, PathBuf)>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let first = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(END));
        if let Some(first) = first.and_then(|digits| digits.parse().ok()) {
            out.push((Seq(first), path));
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// Makes a file full of zeros, synced, as large as the disk allows.
#[expect(clippy::disallowed_methods, reason = "a file of ours that could not be filled is taken away again")]
pub(super) fn prepare(path: &Path) -> io::Result<File> {
    let mut last = io::Error::from(io::ErrorKind::StorageFull);
    for size in SIZES {
        let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        match file.write_all_at(&vec![0; size], 0).and_then(|()| file.sync_all()) {
            Ok(()) => return Ok(file),
            Err(error) if is_full(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    let _ = std::fs::remove_file(path);
    Err(last)
}

/// The header of a segment whose first entry is `first` and follows the hash `before`.
pub(super) fn header(first: Seq, before: &[u8; 32]) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(MAGIC);
    out[8..16].copy_from_slice(&first.0.to_le_bytes());
    out[16..48].copy_from_slice(before);
    let crc = crc32fast::hash(&out[..48]);
    out[48..52].copy_from_slice(&crc.to_le_bytes());
    out
}

/// What a segment's header says.
fn read_header(bytes: &[u8]) -> Option<(Seq, [u8; 32])> {
    let head = bytes.get(..HEADER)?;
    let crc = u32::from_le_bytes(head[48..52].try_into().ok()?);
    (&head[..8] == MAGIC && crc32fast::hash(&head[..48]) == crc).then_some(())?;
    Some((Seq(u64::from_le_bytes(head[8..16].try_into().ok()?)), head[16..48].try_into().ok()?))
}

/// Where a chain stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The last entry.
    pub(super) seq: Seq,
    /// Its hash.
    pub(super) hash: [u8; 32],
    /// The last batch.
    pub(super) batch: u32,
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// With zeros, or at its end; the next frame goes to this offset.
    Clean(usize),
    /// With a batch that was not written to its end: a crash. What follows the offset was never relied on.
    Torn(usize),
}

/// Walks a segment from `at`, handing over every entry and every fault.
pub(super) fn walk(
    name: &str,
    bytes: &[u8],
    at: &mut Position,
    each: &mut dyn FnMut(Recorded),
    fault: &mut dyn FnMut(String),
) -> Tail {
    walk_if(name, bytes, at, &mut |_, _| true, each, fault)
}

/// [`walk`] that reads and hands over only the entries that are wanted by their number and their text.
pub(super) fn walk_if(
    name: &str,
    bytes: &[u8],
    at: &mut Position,
    wanted: &mut dyn FnMut(Seq, &[u8]) -> bool,
    each: &mut dyn FnMut(Recorded),
    fault: &mut dyn FnMut(String),
) -> Tail {
    // After damage the chain is taken up again where the next frame is whole.
    let mut lost = false;
    match read_header(bytes) {
        Some((first, before)) => {
            let next = at.seq.0 + 1;
            if first.0 != next {
                let missing = first.0.saturating_sub(1);
                fault(format!("segment `{name}`: entries {next} to {missing} are missing before it"));
            } else if before != at.hash {
                fault(format!("segment `{name}`: its header does not continue the chain"));
            }
            (at.seq, at.hash) = (Seq(first.0.saturating_sub(1)), before);
        }
        None => {
            fault(format!("segment `{name}`: its header is damaged"));
            lost = true;
        }
    }
    let mut offset = HEADER;
    loop {
        match decode_if(&bytes[offset.min(bytes.len())..], &at.hash, wanted) {
            Framed::End if bytes.get(offset..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0)) => {
                return Tail::Clean(offset);
            }
            // Also zeros with something behind them: pages of one batch reach the disk in any order.
            Framed::End | Framed::Broken => match later_batch(bytes, offset, at.batch) {
                None => return Tail::Torn(offset),
                Some(next) => {
                    fault(format!("segment `{name}`: what follows entry {} is damaged", at.seq.0));
                    (offset, lost) = (next, true);
                }
            },
            Framed::Whole { batch, recorded, passed, seq, hash, chained, length } => {
                if !lost && seq.0 != at.seq.0 + 1 {
                    fault(format!("segment `{name}`: entry {} follows entry {}", seq.0, at.seq.0));
                } else if !lost && !chained {
                    fault(format!("segment `{name}`: entry {} was changed, or one before it", seq.0));
                }
                lost = false;
                match *recorded {
                    Some(recorded) => each(recorded),
                    None if passed => {}
                    None => fault(format!("segment `{name}`: entry {} cannot be read by this version", seq.0)),
                }
                *at = Position { seq, hash, batch };
                offset += length;
            }
        }
    }
}

/// Where the next whole frame is, if one behind a broken frame belongs to a later batch than the broken one can: then the frame
/// was whole once, and was damaged. Otherwise its batch was not written to its end.
fn later_batch(bytes: &[u8], broken: usize, before: u32) -> Option<usize> {
    let mut first = None;
    let mut at = broken + 1;
    while let Some(zeros) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte != 0)) {
        // A frame begins with its length, whose first byte is the least one and may be zero.
        at = (at + zeros).saturating_sub(3).max(at);
        match decode(&bytes[at..], &[0; 32]) {
            Framed::Whole { batch, length, .. } => {
                first.get_or_insert(at);
                if batch > before.saturating_add(1) {
                    return first;
                }
                at += length;
            }
            Framed::End | Framed::Broken => at += 1,
        }
    }
    None
}
