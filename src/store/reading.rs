//! Reads the journal back: lines for people, and the check of its chain.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use super::journal::{HEAD, JournalError, show};
use super::record::may_concern;
use super::segment::{self, Position, Tail, walk, walk_if};
use crate::domain::deletion::Seq;
use crate::domain::journal::{Entry, JournalLine, JournalQuery, OpenIntent, Recorded, Verification};

pub(super) fn read_head(folder: &Path) -> Option<Position> {
    let bytes = std::fs::read(folder.join(HEAD)).ok()?;
    let crc = u32::from_le_bytes(bytes.get(40..44)?.try_into().ok()?);
    (crc32fast::hash(&bytes[..40]) == crc).then_some(())?;
    let seq = Seq(u64::from_le_bytes(bytes[..8].try_into().ok()?));
    Some(Position { seq, hash: bytes[8..40].try_into().ok()?, batch: 0 })
}

pub(super) fn cut_off(head: &Position, at: &Position) -> Option<String> {
    (head.seq > at.seq).then(|| format!("entries {} to {} are missing at the end", at.seq.0 + 1, head.seq.0))
}

/// Reads lines of the journal in `folder`; nobody may be writing it.
pub(super) fn read(folder: &Path, query: &JournalQuery) -> Result<Vec<JournalLine>, JournalError> {
    let failed = |source| JournalError::Io { action: "read", path: folder.to_owned(), source };
    let segments = match segment::list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    // An outcome stands at most one segment after its intent.
    let begin = segments.iter().rposition(|(first, _)| first.0 <= query.after.0 + 1).unwrap_or(0).saturating_sub(1);
    let mut open: BTreeMap<Seq, OpenIntent> = BTreeMap::new();
    let mut out: Vec<JournalLine> = Vec::new();
    for (_, path) in &segments[begin.min(segments.len())..] {
        let bytes = std::fs::read(path).map_err(failed)?;
        let mut at = Position::default();
        let mut each = |recorded: Recorded| {
            let line = match recorded.entry {
                Entry::Intent(intent) => {
                    open.insert(recorded.seq, OpenIntent { seq: recorded.seq, at: recorded.at, intent });
                    return;
                }
                Entry::Outcome { intent, attempt } => JournalLine {
                    seq: recorded.seq,
                    at: recorded.at,
                    hash: recorded.hash,
                    intent: open.remove(&intent).map(|open| (open.seq, open.intent)),
                    attempt: Some(attempt),
                    note: None,
                },
                note @ Entry::Note { .. } => JournalLine {
                    seq: recorded.seq,
                    at: recorded.at,
                    hash: recorded.hash,
                    intent: None,
                    attempt: None,
                    note: Some(note),
                },
            };
            if out.len() < query.limit && wanted(query, &line) {
                out.push(line);
            }
        };
        walk("", &bytes, &mut at, &mut each, &mut |_| ());
        if out.len() >= query.limit {
            return Ok(out);
        }
    }
    for (_, open) in open {
        let line = JournalLine {
            seq: open.seq,
            at: open.at,
            hash: [0; 32],
            intent: Some((open.seq, open.intent)),
            attempt: None,
            note: None,
        };
        if out.len() < query.limit && wanted(query, &line) {
            out.push(line);
        }
    }
    Ok(out)
}

/// Hands over what may concern `mention` (letters and digits, which stand in the text of an entry as they are), and the first entry, the oldest first: one segment is in memory at a time. `done` hears how many
/// of how many segments were read. Gives what is damaged or missing, in words.
pub(super) fn about(
    folder: &Path,
    mention: &str,
    each: &mut dyn FnMut(Recorded),
    done: &mut dyn FnMut(usize, usize),
) -> Result<Vec<String>, JournalError> {
    let failed = |source| JournalError::Io { action: "read", path: folder.to_owned(), source };
    let segments = match segment::list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    let open: RefCell<BTreeSet<Seq>> = RefCell::default();
    let (mut at, mut faults, mut first) = (Position::default(), Vec::new(), true);
    for (count, (_, path)) in segments.iter().enumerate() {
        done(count, segments.len());
        let bytes = std::fs::read(path).map_err(failed)?;
        let mut wanted = |_: Seq, body: &[u8]| {
            std::mem::replace(&mut first, false)
                || may_concern(body, mention.as_bytes(), |seq| open.borrow().contains(&seq))
        };
        let mut each = |recorded: Recorded| {
            match &recorded.entry {
                Entry::Intent(_) => drop(open.borrow_mut().insert(recorded.seq)),
                Entry::Outcome { intent, .. } => drop(open.borrow_mut().remove(intent)),
                Entry::Note { .. } => {}
            }
            each(recorded);
        };
        walk_if(&show(path), &bytes, &mut at, &mut wanted, &mut each, &mut |fault| faults.push(fault));
    }
    done(segments.len(), segments.len());
    Ok(faults)
}

fn wanted(query: &JournalQuery, line: &JournalLine) -> bool {
    let target = line.intent.as_ref().map(|(_, intent)| &intent.target);
    let tree = match (&line.note, target) {
        (Some(Entry::Note { tree, .. }), _) => tree.as_ref().map(ToString::to_string),
        (_, target) => target.map(|target| target.tree.to_string()),
    };
    line.seq > query.after
        && query.since.is_none_or(|since| line.at >= since)
        && query.tree.as_ref().is_none_or(|wanted| tree.as_ref() == Some(wanted))
        && query.stream.as_ref().is_none_or(|wanted| target.is_some_and(|target| &target.stream == wanted))
        && query.outcome.is_none_or(|wanted| line.attempt.as_ref().is_some_and(|attempt| attempt.outcome() == wanted))
}

/// Checks the journal in `folder`; nobody may be writing it.
pub(super) fn verify(folder: &Path) -> Result<Verification, JournalError> {
    let failed = |source| JournalError::Io { action: "read", path: folder.to_owned(), source };
    let mut at = Position::default();
    let mut out = Verification { entries: 0, range: None, faults: Vec::new() };
    for (_, path) in segment::list(folder).map_err(failed)? {
        let bytes = std::fs::read(&path).map_err(failed)?;
        let name = show(&path);
        let (mut entries, mut range) = (0, out.range);
        let mut faults = Vec::new();
        let mut each = |recorded: Recorded| {
            entries += 1;
            range = Some((range.map_or(recorded.seq, |(first, _)| first), recorded.seq));
        };
        let tail = walk(&name, &bytes, &mut at, &mut each, &mut |fault| faults.push(fault));
        if let Tail::Torn(_) = tail {
            faults.push(format!("segment `{name}`: its end was not written whole"));
        }
        (out.entries, out.range) = (out.entries + entries, range);
        out.faults.append(&mut faults);
    }
    if let Some(head) = read_head(folder) {
        if let Some(fault) = cut_off(&head, &at) {
            out.faults.push(fault);
        } else if head.seq == at.seq && head.hash != at.hash {
            out.faults.push(format!("entry {} is not the one that was written", at.seq.0));
        }
    }
    Ok(out)
}
