//! Quarantine on real filesystems: set aside, known after a restart, deleted where it lies or put back, and never in anybody's way.

mod pauses;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storage_guard::domain::deletion::{Attempt, Cap, Cause, RuleKind, Seq, Target};
use storage_guard::domain::event::Event;
use storage_guard::domain::journal::{Entry, GUARD, Intent, JournalLine, JournalQuery, NoteKind};
use storage_guard::domain::names::{TreeId, VolumeId};
use storage_guard::domain::path::RelPath;
use storage_guard::domain::path_set::{DigestKey, PathSet};
use storage_guard::domain::protection::Pattern;
use storage_guard::domain::recording::Tally;
use storage_guard::domain::retention::{Mode, TreePolicy};
use storage_guard::domain::settings::Cleanup;
use storage_guard::domain::units::{Bytes, Percent, Timestamp};
use storage_guard::reclaim::{Brake, Engine, Expiries, OrphanWish, Settled, TreeHandle, Trees, settle};
use storage_guard::store::{Journal, JournalError};
use storage_guard::system::{GuardedTree, survive_lease_breaks};
use storage_guard::testkit::{FakeClock, FakeHolders, Power, policy};

use crate::support::{Mounted, run};

const NOW: i64 = 1_800_000_000;

fn tree() -> TreeId {
    TreeId::new("live")
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

/// A tree, a state, and a guard's engine.
struct Place {
    state: tempfile::TempDir,
    top: PathBuf,
    engine: Engine,
    clock: Arc<FakeClock>,
    policy: TreePolicy,
    favourites: Arc<PathSet>,
    told: Arc<Mutex<Vec<Event>>>,
}

fn engine(state: &Path, clock: &Arc<FakeClock>, told: &Arc<Mutex<Vec<Event>>>) -> Engine {
    let told = told.clone();
    Engine {
        journal: Arc::new(Journal::open(state).unwrap().journal),
        clock: clock.clone(),
        holders: Arc::new(FakeHolders::default()),
        events: Arc::new(move |event| told.lock().unwrap().push(event)),
        cleanup: Cleanup { batch_files: 2, pause: Duration::ZERO, ..Cleanup::default() },
        brake: Arc::new(Brake::default()),
    }
}

/// Deletes what is in quarantine under these numbers, as far as that can be tried; what stays there is among what comes back.
pub(crate) fn expire(engine: &Engine, trees: &Trees, which: &[Seq], who: &str) -> Result<Vec<Settled>, JournalError> {
    let Expiries { ready, kept } = engine.expiries(trees, which)?;
    let intent = |seq, target| Intent { target, who: who.to_owned(), job: None, run: 2, retry_of: Some(seq) };
    let mut out: Vec<Settled> =
        kept.into_iter().map(|(seq, target, attempt)| Settled { seq, intent: intent(seq, target), attempt }).collect();
    let intents: Vec<Intent> = ready.into_iter().map(|(seq, target)| intent(seq, target)).collect();
    for some in intents.chunks(engine.cleanup.batch_files.min(engine.journal.room()).max(1)) {
        out.extend(engine.batch(trees, some.to_vec(), &|| false)?);
    }
    Ok(out)
}

impl Place {
    fn new(top: &Path) -> Self {
        survive_lease_breaks();
        let (state, told) = (tempfile::tempdir().unwrap(), Arc::default());
        let clock = Arc::new(FakeClock::new(Timestamp::from_secs(NOW), Power::new(Default::default())));
        let policy = policy("live", "plain");
        let engine = engine(state.path(), &clock, &told);
        Self { state, top: top.to_owned(), engine, clock, policy, favourites: Arc::default(), told }
    }

    /// Another process takes over.
    fn restart(&mut self) {
        self.engine = engine(self.state.path(), &self.clock, &self.told);
    }

    fn trees(&self) -> Trees {
        let dir = Arc::new(GuardedTree::open(&self.top).unwrap());
        let mut go_on = |_| std::ops::ControlFlow::Continue(());
        let found =
            storage_guard::scan::scan(dir.as_ref(), &tree(), &self.policy.layout, &[], self.clock.as_ref(), &mut go_on)
                .unwrap();
        let handle = TreeHandle {
            dir,
            policy: Arc::new(self.policy.clone()),
            may_share: false,
            leases: true,
            sighted: Arc::new(|_| true),
            sighted_units: std::collections::BTreeSet::new(),
            beside: found.passed_over.beside.clone(),
            favourites: self.favourites.clone(),
            holds: Arc::default(),
            proven: Arc::new(|_| Ok(())),
        };
        Trees::from([(tree(), handle)])
    }

    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn write(&self, name: &str, text: &str) {
        let file = self.top.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.top.join(name)).ok()
    }

    fn intent(&self, name: &str, rule: RuleKind) -> Intent {
        let now = self.trees()[&tree()].dir.look(&path(name)).unwrap().unwrap();
        let target = Target {
            tree: tree(),
            path: path(name),
            stream: "cam".to_owned(),
            recorded: None,
            bytes: now.allocated,
            inode: now.inode,
            fingerprint: now.fingerprint(),
            rule,
            trigger: rule.trigger(),
            reason: "no catalogue knows it".to_owned(),
        };
        Intent { target, who: GUARD.to_owned(), job: None, run: 1, retry_of: None }
    }

    fn batch(&self, name: &str, rule: RuleKind) -> Attempt {
        let intents = vec![self.intent(name, rule)];
        self.engine.batch(&self.trees(), intents, &|| false).unwrap().remove(0).attempt
    }

    fn quarantine(&self, name: &str) -> Seq {
        assert_eq!(self.batch(name, RuleKind::Quarantine), Attempt::quarantined());
        assert_eq!(self.read(name), None);
        *self.known().last().unwrap()
    }

    /// The numbers of what is in quarantine.
    fn known(&self) -> Vec<Seq> {
        self.engine.journal.with_history(|history| history.quarantined.keys().copied().collect())
    }

    fn failures(&self) -> Vec<(u64, Cause)> {
        self.engine.journal.with_history(|history| history.failures.values().map(|f| (f.id, f.cause)).collect())
    }

    fn expire(&self, seq: Seq, who: &str) -> Vec<Settled> {
        expire(&self.engine, &self.trees(), &[seq], who).unwrap()
    }

    /// The only outcome.
    fn expired(&self, seq: Seq) -> Attempt {
        let mut settled = self.expire(seq, GUARD);
        assert_eq!(settled.len(), 1);
        settled.remove(0).attempt
    }

    fn retry(&self) -> Vec<Attempt> {
        let failures = self.engine.journal.with_history(|history| history.failures.values().cloned().collect());
        let settled = self.engine.retry(&self.trees(), failures, (3, GUARD), &|| false).unwrap();
        settled.into_iter().map(|one| one.attempt).collect()
    }

    fn restore(&self, seq: Seq) -> Result<(), String> {
        self.engine.restore(&self.trees(), &[seq], "ops").unwrap().remove(0).1
    }

    /// Settles as after a start; returns what became of open intents, and what was left.
    fn settle(&mut self) -> (Vec<Attempt>, Vec<String>) {
        self.restart();
        let report = settle(&self.engine, &self.trees()).unwrap();
        (report.settled.into_iter().map(|one| one.attempt).collect(), report.left)
    }

    fn append(&self, entry: Entry) -> Seq {
        self.engine.journal.append_synced(vec![entry], Timestamp::from_secs(NOW)).unwrap()[0]
    }

    /// All that is on record after the first lines.
    fn lines(&self) -> Vec<JournalLine> {
        self.engine.journal.read(&JournalQuery { limit: usize::MAX, ..JournalQuery::default() }).unwrap()
    }

    /// How the last restored note has it, and by whom.
    fn restored(&self) -> Option<(String, String)> {
        self.lines().into_iter().rev().find_map(|line| match line.note {
            Some(Entry::Note { kind: NoteKind::Restored, text, who, .. }) => Some((text, who)),
            _ => None,
        })
    }

    /// What stands in the private folder, and beside recordings.
    fn aside(&self) -> usize {
        let trees = self.trees();
        trees[&tree()].dir.list_aside().unwrap().len() + trees[&tree()].beside.len()
    }
}

fn on_temp(test: impl FnOnce(Place)) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    place.write("cam/a.mp4", "first");
    test(place);
}

fn verified(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Verified { .. })
}

fn failed(attempt: &Attempt) -> Option<Cause> {
    match attempt {
        Attempt::Failed { cause, .. } => Some(*cause),
        Attempt::Verified { .. } | Attempt::AlreadyGone | Attempt::Kept { .. } => None,
    }
}

fn kept(why: &str) -> Attempt {
    Attempt::Kept { why: why.to_owned() }
}

/// Quarantine from the beginning to each of its ends, with a new file of the same name.
fn check_ends(mut place: Place) {
    for name in ["cam/a.mp4", "cam/b.mp4"] {
        place.write(name, "first");
    }
    let (gone, back) = (place.quarantine("cam/a.mp4"), place.quarantine("cam/b.mp4"));
    place.write("cam/a.mp4", "second");
    place.write("cam/b.mp4", "second");
    assert_eq!(place.settle(), (vec![], vec![]), "what is known is left alone");
    assert_eq!((place.known(), place.aside()), (vec![gone, back], 2));

    // Promises 2 and 4: it goes where it lies, and the other file of its name has nothing to do with it.
    assert!(verified(&place.expired(gone)));
    assert_eq!((place.read("cam/a.mp4").as_deref(), place.known(), place.aside()), (Some("second"), vec![back], 1));
    assert!(place.expire(gone, GUARD).is_empty(), "it is in quarantine no more");

    let refused = place.restore(back).unwrap_err();
    assert!(refused.contains("another file bears the name `cam/b.mp4`"), "{refused}");
    assert_eq!((place.read("cam/b.mp4").as_deref(), place.known()), (Some("second"), vec![back]));
    run("rm", &[place.top.join("cam/b.mp4").to_str().unwrap()]);
    place.restore(back).unwrap();
    assert_eq!((place.read("cam/b.mp4").as_deref(), place.known(), place.aside()), (Some("first"), vec![], 0));
    assert_eq!(place.restored(), Some(("cam/b.mp4".to_owned(), "ops".to_owned())));
    assert!(place.restore(back).unwrap_err().contains("nothing is in quarantine"));
    assert_eq!(place.settle(), (vec![], vec![]));
    assert!(verified(&place.batch("cam/b.mp4", RuleKind::Orphan)), "it is a file like any other again");
}

#[test]
fn a_file_in_quarantine_is_deleted_where_it_lies_or_goes_back_and_never_over_another() {
    on_temp(check_ends);
}

#[test]
fn its_directory_is_made_again_and_its_origin_is_forgotten() {
    on_temp(|place| {
        place.write("cam/2026/x.mp4", "deep");
        let seq = place.quarantine("cam/2026/x.mp4");
        run("rmdir", &[place.top.join("cam/2026").to_str().unwrap()]);
        place.restore(seq).unwrap();
        assert_eq!(place.read("cam/2026/x.mp4").as_deref(), Some("deep"));
        let file = place.trees()[&tree()].dir.open(&path("cam/2026/x.mp4")).unwrap().unwrap();
        assert_eq!(file.attribute("user.storage_guard.origin").ok().flatten(), None);
    });
}

/// Nothing was to be deleted: nothing is counted as failed, and nothing is tried again as a deletion.
#[test]
fn what_cannot_be_set_aside_lies_where_it_lay_and_is_no_failed_deletion() {
    on_temp(|place| {
        let changed = place.intent("cam/a.mp4", RuleKind::Quarantine);
        place.write("cam/a.mp4", "written since");
        let settled = place.engine.batch(&place.trees(), vec![changed], &|| false).unwrap();
        assert_eq!(settled[0].attempt, kept("changed"));
        assert_eq!((place.known(), place.failures(), place.aside()), (vec![], vec![], 0));
        assert!(place.read("cam/a.mp4").is_some());
    });
}

/// The failed deletion goes first: looked for by its name it would be taken for gone, and its retry would pull it out of quarantine.
#[test]
fn what_fails_to_be_deleted_is_not_set_aside() {
    on_temp(|place| {
        let intent = place.intent("cam/a.mp4", RuleKind::MaxAge);
        let seq = place.append(Entry::Intent(intent));
        let attempt = Attempt::Failed { cause: Cause::Locked, error: "no".to_owned(), holder: None };
        place.append(Entry::Outcome { intent: seq, attempt });
        assert!(matches!(place.batch("cam/a.mp4", RuleKind::Quarantine), Attempt::Kept { .. }));
        assert_eq!((place.known(), place.read("cam/a.mp4").as_deref()), (vec![], Some("first")));
        assert!(place.retry().iter().all(verified) && place.read("cam/a.mp4").is_none());
    });
}

/// A crash after the file was set aside, or before.
#[test]
fn an_open_quarantine_is_finished_or_undone_as_today_has_it() {
    let check = |aside: bool, today: fn(&mut Place), expected: (Vec<Attempt>, usize, bool)| {
        on_temp(|mut place| {
            let seq = place.append(Entry::Intent(place.intent("cam/a.mp4", RuleKind::Quarantine)));
            if aside {
                place.trees()[&tree()].dir.set_aside(&path("cam/a.mp4"), seq.0).unwrap();
            }
            today(&mut place);
            let (settled, left) = place.settle();
            let there = place.read("cam/a.mp4").is_some();
            assert_eq!((settled, place.known().len(), there), expected, "{left:?}");
            assert_eq!(place.settle().0, [], "once is enough");
            assert!(place.failures().is_empty());
        });
    };
    check(true, |_| (), (vec![Attempt::quarantined()], 1, false));
    check(false, |_| (), (vec![kept("the guard was stopped before it began")], 0, true));
    check(
        true,
        |place| place.policy.protect = vec![Pattern::new("cam/**").unwrap()],
        (vec![kept("protected")], 0, true),
    );
    check(true, favour, (vec![kept("protected")], 0, true));
    // It is reported, and nothing is touched.
    check(true, |place| place.policy.mode = Mode::Observe, (vec![], 0, false));
    // Somebody else removed it: nobody here did.
    check(
        false,
        |place| run("rm", &[place.top.join("cam/a.mp4").to_str().unwrap()]),
        (vec![Attempt::AlreadyGone], 0, false),
    );
}

/// The platform marks it as a favourite.
fn favour(place: &mut Place) {
    place.favourites = Arc::new(PathSet::new(DigestKey(7), std::iter::once(path("cam/a.mp4"))));
}

/// A crash after the intent to delete what is in quarantine, before or after it was unlinked, with a new file of its name or without.
#[test]
fn an_open_deletion_in_quarantine_is_looked_for_where_the_file_lies() {
    let check = |unlinked: bool, today: fn(&mut Place), goes: bool, stays: usize| {
        for newer in [false, true] {
            on_temp(|mut place| {
                let mut intent = place.intent("cam/a.mp4", RuleKind::Orphan);
                let seq = place.quarantine("cam/a.mp4");
                intent.retry_of = Some(seq);
                place.append(Entry::Intent(intent));
                if newer {
                    place.write("cam/a.mp4", "second");
                }
                if unlinked {
                    let dir = &place.trees()[&tree()].dir;
                    dir.unlink_aside(&dir.list_aside().unwrap()[0]).unwrap();
                }
                today(&mut place);
                let (settled, _) = place.settle();
                assert_eq!(settled.first().is_some_and(verified), goes, "{settled:?}");
                assert_eq!((place.known().len(), place.aside()), (stays, stays), "{settled:?}");
                assert_eq!(place.read("cam/a.mp4").as_deref(), newer.then_some("second"));
            });
        }
    };
    check(false, |_| (), true, 0);
    check(true, |_| (), true, 0);
    // Promise 3: it is not deleted, and stays where it is.
    check(false, favour, false, 1);
    check(false, |place| place.policy.protect = vec![Pattern::new("cam/**").unwrap()], false, 1);
    check(false, |place| place.policy.mode = Mode::Observe, false, 1);
}

/// A crash between the way back and its record; and somebody who takes things out of the private folder.
#[test]
fn what_is_not_set_aside_any_more_is_put_on_record() {
    on_temp(|mut place| {
        let seq = place.quarantine("cam/a.mp4");
        let dir = place.trees()[&tree()].dir.clone();
        let aside = dir.list_aside().unwrap().remove(0);
        dir.put_back(&aside, &path("cam/a.mp4")).unwrap();
        assert_eq!(place.settle(), (vec![], vec![]));
        let (text, who) = place.restored().unwrap();
        assert!(text.starts_with("cam/a.mp4\nit stood under its name again") && who == GUARD, "{text}");
        assert_eq!((place.known(), place.read("cam/a.mp4").as_deref()), (vec![], Some("first")));
        assert!(place.expire(seq, GUARD).is_empty() && place.read("cam/a.mp4").is_some());

        // A deletion meets it before any settling does.
        let seq = place.quarantine("cam/a.mp4");
        let aside = dir.list_aside().unwrap().remove(0);
        dir.put_back(&aside, &path("cam/a.mp4")).unwrap();
        assert!(place.expire(seq, GUARD).is_empty());
        assert_eq!((place.known(), place.read("cam/a.mp4").as_deref()), (vec![], Some("first")));

        place.quarantine("cam/a.mp4");
        dir.unlink_aside(&dir.list_aside().unwrap()[0]).unwrap();
        assert_eq!(place.settle(), (vec![], vec![]));
        let (text, _) = place.restored().unwrap();
        assert!(text.contains("neither set aside nor under its name"), "{text}");
        assert_eq!(place.known(), []);
    });
}

/// A journal that is lost knows of no quarantine: what it set aside goes back.
#[test]
fn without_the_journal_what_was_set_aside_goes_back() {
    on_temp(|mut place| {
        place.quarantine("cam/a.mp4");
        place.state = tempfile::tempdir().unwrap();
        let (_, left) = place.settle();
        assert!(left.iter().any(|text| text.contains("it was put back as `cam/a.mp4`")), "{left:?}");
        assert_eq!((place.read("cam/a.mp4").as_deref(), place.aside()), (Some("first"), 0));
    });
}

/// Promise 3, by anybody's request.
#[test]
fn a_favourite_passes_no_door() {
    on_temp(|mut place| {
        let seq = place.quarantine("cam/a.mp4");
        favour(&mut place);
        for who in [GUARD, "ops"] {
            let before = place.lines().len();
            let settled = place.expire(seq, who);
            assert_eq!(settled[0].attempt, kept("protected"), "{who}");
            assert_eq!(place.lines().len(), before, "nothing was intended, so nothing is on record");
        }
        place.restore(seq).unwrap();
        for rule in [RuleKind::Requested, RuleKind::Orphan, RuleKind::Quarantine, RuleKind::Pressure] {
            assert_eq!(place.batch("cam/a.mp4", rule), kept("protected"), "{rule}");
        }
        let seq = place.append(Entry::Intent(place.intent("cam/a.mp4", RuleKind::MaxAge)));
        let attempt = Attempt::Failed { cause: Cause::Locked, error: "no".to_owned(), holder: None };
        place.append(Entry::Outcome { intent: seq, attempt });
        assert_eq!(place.retry(), [kept("protected")]);
        let seq = place.append(Entry::Intent(place.intent("cam/a.mp4", RuleKind::MaxAge)));
        place.trees()[&tree()].dir.set_aside(&path("cam/a.mp4"), seq.0).unwrap();
        assert_eq!(place.settle().0, [kept("protected")]);
        assert_eq!(place.read("cam/a.mp4").as_deref(), Some("first"));
    });
}

/// Promise 9.
#[test]
fn a_tripped_cap_of_orphans_lets_nothing_pass_until_a_person_acknowledges_it_and_then_one_run() {
    on_temp(|mut place| {
        let tally = |files| Tally { files, bytes: Bytes(files * 4096) };
        let wish = |wanted, max_share| OrphanWish {
            volume: VolumeId::new("data"),
            tree: tree(),
            max_share: Percent::new(max_share),
            held: tally(100),
            wanted: tally(wanted),
            available: Bytes(5),
        };
        let allowed = |place: &Place, wanted, share| place.engine.orphans_allowed(&wish(wanted, share)).unwrap();
        assert!(allowed(&place, 10, 10) && allowed(&place, 100, 100));
        assert!(!allowed(&place, 11, 10));
        let tripped = |event: &Event| matches!(event, Event::CapTripped { cap: Cap::OrphanShare, .. });
        assert_eq!(place.told.lock().unwrap().iter().filter(|event| tripped(event)).count(), 1);
        place.restart();
        assert!(!allowed(&place, 1, 10), "it waits for a person, also after a restart");
        assert_eq!(place.told.lock().unwrap().iter().filter(|event| tripped(event)).count(), 1);
        place.append(Entry::Note {
            kind: NoteKind::CapAcknowledged,
            volume: None,
            tree: Some(tree()),
            who: "ops".to_owned(),
            bytes: tally(11).bytes,
            number: 0,
            text: Cap::OrphanShare.to_string(),
        });
        place.restart();
        assert!(allowed(&place, 11, 10));
        place.quarantine("cam/a.mp4");
        place.restart();
        assert!(allowed(&place, 10, 10));
        assert!(!allowed(&place, 11, 10), "the run has begun, and a second is not permitted");
    });
}

/// What a process has open, or what is immutable, is not set aside; in quarantine it is a failure that is tried again where it lies.
fn check_hindered(volume: &Mounted, hinder: &dyn Fn(&Path) -> Box<dyn FnOnce()>, cause: Cause) {
    let mut place = Place::new(&top(volume));
    place.write("cam/a.mp4", "first");
    let end = hinder(&place.top.join("cam/a.mp4"));
    assert_eq!(failed(&place.batch("cam/a.mp4", RuleKind::Quarantine)), Some(cause));
    assert_eq!((place.known(), place.failures(), place.read("cam/a.mp4").is_some()), (vec![], vec![], true));
    end();
    let seq = place.quarantine("cam/a.mp4");
    place.write("cam/a.mp4", "second");
    let end = hinder(&place.top.join(format!(".storage-guard/{}", seq.0)));
    assert_eq!(failed(&place.expired(seq)), Some(cause));
    assert_eq!(place.failures(), [(seq.0, cause)]);
    assert_eq!(place.retry(), [], "the door would refuse it again");
    place.restart();
    assert_eq!((place.settle().0, place.failures(), place.known()), (vec![], vec![(seq.0, cause)], vec![seq]));
    end();
    assert!(place.retry().iter().all(verified));
    assert_eq!((place.failures(), place.known(), place.aside()), (vec![], vec![], 0));
    assert_eq!(place.read("cam/a.mp4").as_deref(), Some("second"));
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_reader_keeps_a_file_from_quarantine_and_from_its_deletion_there() {
    let volume = Mounted::ext4(64);
    let open = |file: &Path| {
        let file = std::fs::File::open(file).unwrap();
        Box::new(move || drop(file)) as Box<dyn FnOnce()>
    };
    check_hindered(&volume, &open, Cause::InUse);
}

#[test]
#[ignore = "needs root and a loop device"]
fn an_immutable_file_is_not_set_aside_and_its_deletion_there_waits() {
    let volume = Mounted::ext4(64);
    let lock = |file: &Path| {
        let file = file.to_str().unwrap().to_owned();
        run("chattr", &["+i", &file]);
        Box::new(move || run("chattr", &["-i", &file])) as Box<dyn FnOnce()>
    };
    check_hindered(&volume, &lock, Cause::Locked);
}

#[test]
#[ignore = "needs root and a loop device"]
fn on_ext4_a_name_taken_again_is_nobodys_loss() {
    let volume = Mounted::ext4(64);
    check_ends(Place::new(&top(&volume)));
}

/// A rename out of a subvolume answers EXDEV: what is set aside beside itself is found there too.
#[test]
#[ignore = "needs root and a loop device"]
fn in_a_subvolume_it_is_set_aside_beside_itself_and_found_there() {
    let volume = Mounted::btrfs(120);
    let top = top(&volume);
    run("btrfs", &["-q", "subvolume", "create", top.join("cam").to_str().unwrap()]);
    check_ends(Place::new(&top));
    let mut place = Place::new(&top);
    place.write("cam/c.mp4", "first");
    let seq = place.quarantine("cam/c.mp4");
    assert!(place.read(&format!("cam/.storage-guard-{}-c.mp4", seq.0)).is_some());
    // Its deletion is begun, and the guard killed.
    let target = place.engine.journal.with_history(|history| history.quarantined[&seq].target.clone());
    let target = Target { rule: RuleKind::Orphan, ..target };
    place.append(Entry::Intent(Intent { target, who: GUARD.to_owned(), job: None, run: 2, retry_of: Some(seq) }));
    let settled = place.settle().0;
    assert!(settled.len() == 1 && settled.iter().all(verified), "{settled:?}");
    assert_eq!((place.known(), place.aside(), place.read("cam/c.mp4")), (vec![], 0, None));
}

fn top(volume: &Mounted) -> PathBuf {
    let top = volume.path().join("record");
    std::fs::create_dir_all(&top).unwrap();
    top
}

/// Promise 3, where leases are not to be had or not believed: whoever wants a file gone, it goes only if it was seen as it is before that.
#[test]
fn where_no_lease_tells_a_file_goes_only_if_a_scan_saw_it_as_it_is() {
    let delete = |rule: RuleKind, sighted: bool| {
        let mut got = None;
        on_temp(|place| {
            let intent = place.intent("cam/a.mp4", rule);
            let mut trees = place.trees();
            let handle = trees.get_mut(&tree()).unwrap();
            handle.leases = false;
            handle.sighted = Arc::new(move |_| sighted);
            got = Some(place.engine.batch(&trees, vec![intent], &|| false).unwrap().remove(0).attempt);
            assert_eq!(place.read("cam/a.mp4").is_some(), !verified(got.as_ref().unwrap()));
            if !sighted {
                // Nor does it go when it is tried again before a scan saw it.
                let failures =
                    place.engine.journal.with_history(|history| history.failures.values().cloned().collect());
                assert!(place.engine.retry(&trees, failures, (2, GUARD), &|| false).unwrap().is_empty());
            }
        });
        got.unwrap()
    };
    for rule in [RuleKind::Requested, RuleKind::MaxAge] {
        assert_eq!(failed(&delete(rule, false)), Some(Cause::InUse));
        assert!(verified(&delete(rule, true)));
    }
}
