//! The journal on a real filesystem: what was synced is there, and what was changed shows.

use super::*;
use crate::domain::journal::NoteKind;

fn note(text: &str) -> Entry {
    Entry::note(NoteKind::Started, text)
}

fn journal(dir: &Path, batches: &[&[&str]]) -> Journal {
    let opened = Journal::open(dir).unwrap();
    for batch in batches {
        let entries = batch.iter().map(|text| note(text)).collect();
        opened.journal.append_synced(entries, Timestamp::from_secs(1)).unwrap();
    }
    opened.journal
}

fn first_segment(dir: &Path) -> PathBuf {
    segment::list(dir).unwrap()[0].1.clone()
}

/// Changes bytes of a file in place.
fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    File::options().write(true).open(path).unwrap().write_all_at(&bytes, 0).unwrap();
}

fn find(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

#[test]
fn goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    drop(journal(dir.path(), &[&["one", "two"]]));
    let opened = Journal::open(dir.path()).unwrap();
    assert!(!opened.created && opened.repaired.is_empty(), "{:?}", opened.repaired);
    let seqs = opened.journal.append_synced(vec![note("three")], Timestamp::from_secs(2)).unwrap();
    assert_eq!(seqs, [Seq(3)]);
    let found = opened.journal.verify().unwrap();
    assert_eq!((found.entries, found.range, found.faults.len()), (3, Some((Seq(1), Seq(3))), 0));
    let lines = opened.journal.read(&JournalQuery { after: Seq(1), limit: 10, ..JournalQuery::default() }).unwrap();
    assert_eq!(lines.iter().map(|line| line.seq.0).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn fills_one_segment_after_another() {
    let dir = tempfile::tempdir().unwrap();
    let text = "x".repeat(20_000);
    let journal = journal(dir.path(), &[]);
    for _ in 0..6 {
        journal.append_synced((0..50).map(|_| note(&text)).collect(), Timestamp::from_secs(1)).unwrap();
    }
    assert_eq!(segment::list(dir.path()).unwrap().len(), 2);
    drop(journal);
    let found = Journal::open(dir.path()).unwrap().journal.verify().unwrap();
    assert_eq!((found.entries, found.faults), (300, vec![]));
}

/// Changes the first segment of a journal of three batches, and looks for the fault that verifying finds.
fn check(change: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    drop(journal(dir.path(), &[&["alpha"], &["beta"], &["gamma"], &["delta"]]));
    patch(&first_segment(dir.path()), change);
    let faults = verify(dir.path()).unwrap().faults;
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{faults:?}");
}

#[test]
fn a_changed_a_missing_and_an_inserted_entry_show() {
    check(
        |bytes| {
            let at = find(bytes, "beta");
            bytes[at] = b'B';
        },
        "damaged",
    );
    // Changed together with its CRC, as somebody would who knows the format.
    check(
        |bytes| {
            let at = find(bytes, "beta");
            bytes[at] = b'B';
            let begin = find(bytes, "alpha") + find(&bytes[find(bytes, "alpha")..], "}}") + 2;
            let length = u32::from_le_bytes(bytes[begin..begin + 4].try_into().unwrap()) as usize;
            let crc = crc32fast::hash(&bytes[begin + 8..begin + 8 + length]);
            bytes[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
        },
        "was changed",
    );
    // The last entry cut off.
    check(
        |bytes| {
            let begin = find(bytes, "gamma") + find(&bytes[find(bytes, "gamma")..], "}}") + 2;
            bytes[begin..].fill(0);
        },
        "missing at the end",
    );
    // One taken out, the rest moved up.
    check(
        |bytes| {
            let end = |bytes: &[u8], text| find(bytes, text) + find(&bytes[find(bytes, text)..], "}}") + 2;
            let (one, two) = (end(bytes, "alpha"), end(bytes, "beta"));
            bytes.copy_within(two.., one);
        },
        "entry 3 follows entry 1",
    );
}

#[test]
fn a_batch_that_was_not_written_to_its_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    drop(journal(dir.path(), &[&["alpha"], &["beta", "gamma"]]));
    patch(&first_segment(dir.path()), |bytes| {
        let at = find(bytes, "beta");
        bytes[at] = 0;
    });
    let opened = Journal::open(dir.path()).unwrap();
    assert!(opened.repaired.iter().any(|text| text.contains("cut off")), "{:?}", opened.repaired);
    assert_eq!(opened.journal.append_synced(vec![note("again")], Timestamp::from_secs(3)).unwrap(), [Seq(2)]);
    assert_eq!(opened.journal.verify().unwrap().faults, Vec::<String>::new());
}

#[test]
fn a_batch_whose_first_page_was_lost_is_cut_off_too() {
    let dir = tempfile::tempdir().unwrap();
    drop(journal(dir.path(), &[&["alpha"], &["beta", "gamma"]]));
    patch(&first_segment(dir.path()), |bytes| {
        let begin = find(bytes, "alpha") + find(&bytes[find(bytes, "alpha")..], "}}") + 2;
        let end = find(bytes, "beta") + 8;
        bytes[begin..end].fill(0);
    });
    let opened = Journal::open(dir.path()).unwrap();
    assert!(opened.repaired.iter().any(|text| text.contains("cut off")), "{:?}", opened.repaired);
    opened.journal.append_synced(vec![note("again")], Timestamp::from_secs(3)).unwrap();
    assert_eq!(opened.journal.verify().unwrap().faults, Vec::<String>::new());
}

#[test]
fn damage_stays_as_evidence_and_the_chain_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(journal(dir.path(), &[&["alpha"], &["beta"], &["gamma"]]));
    patch(&first_segment(dir.path()), |bytes| {
        let at = find(bytes, "alpha");
        bytes[at] = b'A';
    });
    let opened = Journal::open(dir.path()).unwrap();
    assert!(!opened.repaired.is_empty());
    opened.journal.append_synced(vec![note("later")], Timestamp::from_secs(3)).unwrap();
    assert!(find(&std::fs::read(first_segment(dir.path())).unwrap(), "gamma") > 0);
    assert!(!opened.journal.verify().unwrap().faults.is_empty());
}
