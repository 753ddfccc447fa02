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

/// A journal of several segments is gone through one by one, and what concerns nobody is not even parsed.
#[test]
fn what_may_concern_a_stream_is_handed_over_from_all_segments() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |text: String| Entry::note(NoteKind::Rows, text);
    let journal = journal(dir.path(), &[]);
    let filler = "x".repeat(20_000);
    let at = Timestamp::from_secs(1);
    for n in 0..6 {
        journal.append_synced((0..50).map(|_| rows(format!("live/other/{filler}"))).collect(), at).unwrap();
        journal.append_synced(vec![rows(format!("live/cam-7/{n}.mp4"))], at).unwrap();
    }
    journal.append_synced(vec![note("started")], at).unwrap();
    let (mut found, mut steps) = (Vec::new(), Vec::new());
    let about = |found: &mut Vec<u64>, steps: &mut Vec<(usize, usize)>| {
        let mut each = |recorded: Recorded| found.push(recorded.seq.0);
        journal.about("cam-7", &mut each, &mut |read, all| steps.push((read, all))).unwrap()
    };
    assert_eq!(about(&mut found, &mut steps), [""; 0]);
    // The first of all says since when there is a journal.
    assert_eq!(found, [1, 51, 102, 153, 204, 255, 306, 307]);
    assert_eq!(steps, [(0, 2), (1, 2), (2, 2)]);
    patch(&first_segment(dir.path()), |bytes| {
        let at = find(bytes, "cam-7");
        bytes[at] = b'C';
    });
    found.clear();
    let faults = about(&mut found, &mut steps);
    assert!(faults[0].contains("what follows entry 50 is damaged"), "{faults:?}");
    assert_eq!(found, [1, 102, 153, 204, 255, 306, 307]);
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

fn texts(journal: &Journal) -> Vec<String> {
    let lines = journal.read(&JournalQuery { limit: 100, ..JournalQuery::default() }).unwrap();
    let text = |line: JournalLine| match line.note {
        Some(Entry::Note { text, .. }) => text,
        other => panic!("{other:?}"),
    };
    lines.into_iter().map(text).collect()
}

/// Fault 59: what could not be written or synced does not count, though it may have reached the disk; the journal goes on.
#[test]
fn after_a_failed_write_it_goes_on_without_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), &[&["one"], &["two"]]);
    let at = Timestamp::from_secs;
    // The write succeeds on the disk, and the guard is told that it failed.
    let path = first_segment(dir.path());
    let whole = {
        let twin = tempfile::tempdir().unwrap();
        std::fs::copy(&path, twin.path().join("x")).unwrap();
        journal.append_synced(vec![note("lost")], at(2)).unwrap();
        let written = std::fs::read(&path).unwrap();
        let before = std::fs::read(twin.path().join("x")).unwrap();
        let offset = journal.lock().segment.as_ref().unwrap().offset;
        (written, before.iter().rposition(|byte| *byte != 0).unwrap() + 1, offset)
    };
    {
        let mut inner = journal.lock();
        inner.standing = Standing::Broken;
        inner.segment.as_mut().unwrap().offset = whole.1;
        inner.tried = at(2);
    }
    assert!(matches!(journal.append_synced(vec![note("early")], at(5)), Err(JournalError::Closed(_))));
    journal.append_synced(vec![note("three")], at(13)).unwrap();
    assert_eq!(texts(&journal), ["one", "two", "three"]);
    assert_eq!(journal.verify().unwrap().faults, Vec::<String>::new());
    assert_eq!(segment::list(dir.path()).unwrap().len(), 2, "it goes on in a new segment");
    let history = journal.with_history(Clone::clone);
    drop(journal);
    let again = Journal::open(dir.path()).unwrap();
    assert!(again.repaired.is_empty(), "{:?}", again.repaired);
    assert_eq!(again.journal.with_history(Clone::clone), history, "memory and disk agree");
}

#[test]
fn a_segment_that_takes_nothing_closes_it_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), &[&["one"]]);
    let at = Timestamp::from_secs;
    // Opened for reading, it refuses every write.
    journal.lock().segment.as_mut().unwrap().file = File::open(first_segment(dir.path())).unwrap();
    assert!(journal.append_synced(vec![note("lost")], at(100)).is_err());
    journal.append_synced(vec![note("two")], at(120)).unwrap();
    assert_eq!(texts(&journal), ["one", "two"]);
    assert!(journal.verify().unwrap().faults.is_empty());
}

/// Fault 69: without room for a journal, entries wait, keep their order and their times, and are written before any other.
#[test]
fn what_there_was_no_room_for_is_written_once_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state/journal");
    let room = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = room.clone();
    let journal = Journal::owing(&folder, move || asked.load(std::sync::atomic::Ordering::Relaxed));
    let at = Timestamp::from_secs;
    assert_eq!(journal.append_synced(vec![note("one"), note("two")], at(5)).unwrap(), [Seq(1), Seq(2)]);
    assert_eq!(journal.append_synced(vec![note("three")], at(6)).unwrap(), [Seq(3)]);
    assert!(journal.owes() && !folder.exists());
    let waiting = journal.with_history(Clone::clone);
    room.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(journal.append_synced(vec![note("four")], at(7)).unwrap(), [Seq(4)]);
    assert!(!journal.owes());
    assert_eq!(texts(&journal), ["one", "two", "three", "four"]);
    assert!(journal.verify().unwrap().faults.is_empty());
    drop(journal);
    let again = Journal::open(&folder).unwrap();
    assert!(again.repaired.is_empty());
    let query = JournalQuery { limit: 100, ..JournalQuery::default() };
    let times: Vec<i64> = again.journal.read(&query).unwrap().iter().map(|line| line.at.secs()).collect();
    assert_eq!((times, waiting.last), (vec![5, 5, 6, 7], Seq(3)));
}
