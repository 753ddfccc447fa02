//! What a scan found against what catalogues know: a law over random trees and rows, and the cases that must not be told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use storage_guard::catalogue::{Comparison, Known, Outcome, compare, sight_leftovers};
use storage_guard::domain::catalogue::{CatalogueKind, RowId};
use storage_guard::domain::layout::Layout;
use storage_guard::domain::names::{CatalogueId, TreeId};
use storage_guard::domain::orphan::{Missing, Orphan, OrphanKind, Verdict, Witness};
use storage_guard::domain::path::RelPath;
use storage_guard::domain::path_set::DigestKey;
use storage_guard::domain::recording::{FileIdentity, Gone, Inventory, InventoryBuilder, Kind, Sighting};
use storage_guard::domain::units::{Bytes, Timestamp};
use storage_guard::domain::volume::Unusable;
use storage_guard::scan::scan;
use storage_guard::store::{CatalogueIndex, Findings, IndexRow, IndexState, OrphanQuery};
use storage_guard::system::{Dir, DirEntry};
use storage_guard::testkit::{Disk, FakeClock, FakeDir, Power};

const KEY: DigestKey = DigestKey(42);

fn tree() -> TreeId {
    TreeId::new("live")
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

/// A tree with catalogues beside it, each in a file of its own, as in the daemon.
struct Scene {
    disk: Arc<Disk>,
    dir: FakeDir,
    layout: Layout,
    known: Vec<Known>,
    findings: Findings,
    home: tempfile::TempDir,
    /// When the next scan begins.
    now: i64,
}

impl Scene {
    fn new(layout: &str, kinds: &[CatalogueKind]) -> Self {
        let power = Power::new(BTreeMap::new());
        let disk = Disk::new(false, true, false);
        let dir = FakeDir::new(disk.clone(), power, Path::new("/tree"));
        let home = tempfile::tempdir().unwrap();
        let findings = Findings::open(&home.path().join("findings.db")).unwrap();
        let layout = Layout::parse(layout, &["mp4".to_owned()], jiff::tz::TimeZone::UTC).unwrap();
        let known = kinds.iter().enumerate().map(|(at, kind)| {
            let place = home.path().join(format!("{at}.index"));
            let index = CatalogueIndex::create(Some(&place.with_extension("new")), KEY).unwrap();
            index.take_place(&place).unwrap();
            let name = CatalogueId::new(&format!("{}-{at}", kind.as_str()));
            Known { name, kind: *kind, index: Arc::new(index), as_of: Timestamp::default() }
        });
        let known = known.collect();
        Self { disk, dir, layout, known, findings, home, now: 1_800_000_000 }
    }

    /// One WVP's table.
    fn wvp(layout: &str) -> Self {
        Self::new(layout, &[CatalogueKind::Wvp])
    }

    fn file(&self, text: &str) -> u64 {
        self.disk.create(&path(text), 1, Timestamp::from_secs(1_700_000_000))
    }

    fn rows(&self, catalogue: usize, rows: &[(&str, i64)]) {
        let row = |id| IndexRow { id: RowId::Number(id), collect: false, start: None };
        let rows: Vec<_> = rows.iter().map(|(text, id)| (tree(), path(text), row(*id))).collect();
        self.known[catalogue].index.put(&rows).unwrap();
    }

    fn scan(&mut self) -> Inventory {
        self.now += 1_000;
        let clock = FakeClock::new(Timestamp::from_secs(self.now), Power::new(BTreeMap::new()));
        scan(&self.dir, &tree(), &self.layout, &[], &clock, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn compare(&self, inventory: &Inventory) -> Outcome {
        self.compare_in(inventory, &self.dir).unwrap()
    }

    fn compare_in(&self, inventory: &Inventory, dir: &dyn Dir) -> io::Result<Outcome> {
        let gone = Gone::default();
        let what = Comparison { inventory, gone: &gone, known: &self.known, dir, findings: &self.findings };
        compare(&what, &mut || true).map_err(io::Error::other)
    }

    /// Scans and compares.
    fn look(&mut self) -> Outcome {
        let inventory = self.scan();
        self.compare(&inventory)
    }

    fn orphans(&self, kind: OrphanKind) -> Vec<Orphan> {
        self.findings.orphans(&OrphanQuery { kind: Some(kind), limit: 10_000, ..OrphanQuery::default() }).unwrap()
    }

    fn unknown(&self) -> Vec<String> {
        self.orphans(OrphanKind::Uncatalogued).iter().map(|orphan| orphan.path.to_string()).collect()
    }

    fn missing(&self) -> Vec<String> {
        self.findings.missing(None, None, 10_000).unwrap().iter().map(|row| row.path.to_string()).collect()
    }
}

fn compared(folders: u64, unknown: u64, missing: u64) -> Outcome {
    Outcome::Compared { folders, unknown, missing }
}

/// What the layout knows: no text, and nothing at the top.
fn recording(text: &str) -> bool {
    text.contains('/') && text.ends_with(".mp4")
}

/// What a random step does to one path.
#[derive(Debug, Clone)]
enum Step {
    Create,
    Remove,
    Replace,
    Put(usize, i64),
    Forget(usize, i64),
}

fn step() -> impl Strategy<Value = (String, Step)> {
    let folder = prop::sample::select(vec!["", "a/", "a/b/", "a/\u{fc}/", "c/d/e/"]);
    let name = "[xyz]\\.(mp4|mp4|mp4|txt)";
    let change = prop_oneof![
        4 => Just(Step::Create),
        1 => Just(Step::Remove),
        1 => Just(Step::Replace),
        4 => (0..2usize, 0..3i64).prop_map(|(catalogue, id)| Step::Put(catalogue, id)),
        2 => (0..2usize, 0..3i64).prop_map(|(catalogue, id)| Step::Forget(catalogue, id)),
    ];
    ((folder, name).prop_map(|(folder, name)| format!("{folder}{name}")), change)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Unknown is what is on disk and in no catalogue; missing is each row whose file is not there; and nothing else ever is.
    #[test]
    fn what_is_on_one_side_only_is_found_and_nothing_else(
        rounds in prop::collection::vec(prop::collection::vec(step(), 0..20), 1..5),
        hooks: bool,
    ) {
        let second = if hooks { CatalogueKind::Hooks } else { CatalogueKind::Manifest };
        let mut scene = Scene::new("plain", &[CatalogueKind::Wvp, second]);
        for known in &scene.known {
            known.index.set_state(&IndexState { accepted: true, ..IndexState::default() }).unwrap();
        }
        let mut files: BTreeMap<String, u64> = BTreeMap::new();
        let mut rows: BTreeSet<(String, usize, i64)> = BTreeSet::new();
        // What was unknown at the last comparison: its inode and since when.
        let mut unknown: BTreeMap<String, (u64, Timestamp)> = BTreeMap::new();
        let mut missing: Vec<Missing> = Vec::new();
        for steps in rounds {
            for (text, step) in steps {
                match step {
                    Step::Create => {
                        if !files.contains_key(&text) {
                            files.insert(text.clone(), scene.file(&text));
                        }
                    }
                    Step::Remove => {
                        files.remove(&text);
                        scene.disk.remove(&path(&text));
                    }
                    Step::Replace => {
                        if scene.disk.remove(&path(&text)).is_some() {
                            files.insert(text.clone(), scene.file(&text));
                        }
                    }
                    Step::Put(catalogue, id) => {
                        scene.rows(catalogue, &[(&text, id)]);
                        rows.insert((text, catalogue, id));
                    }
                    Step::Forget(catalogue, id) => {
                        scene.known[catalogue].index.remove(&[(tree(), path(&text), RowId::Number(id))]).unwrap();
                        rows.remove(&(text, catalogue, id));
                    }
                }
            }
            // The second time nothing has changed.
            for _ in 0..2 {
                let inventory = scene.scan();
                let outcome = scene.compare(&inventory);
                let recordings: Vec<_> = files.iter().filter(|(text, _)| recording(text)).collect();
                if recordings.is_empty() && !rows.is_empty() {
                    prop_assert_eq!(&outcome, &Outcome::EmptyTree);
                } else {
                    let known = |text: &str| rows.iter().any(|(row, ..)| row == text);
                    let since = |text: &str, inode: u64| match unknown.get(text) {
                        Some((before, since)) if *before == inode => *since,
                        _ => inventory.started,
                    };
                    let now: BTreeMap<_, _> = recordings
                        .iter()
                        .filter(|(text, _)| !known(text))
                        .map(|(text, inode)| ((*text).clone(), (**inode, since(text, **inode))))
                        .collect();
                    unknown = now;
                    let lost = rows.iter().filter(|(text, ..)| !files.contains_key(text));
                    let lost = lost.map(|(text, catalogue, id)| Missing {
                        tree: tree(),
                        path: path(text),
                        catalogue: scene.known[*catalogue].name.clone(),
                        row: RowId::Number(*id),
                    });
                    missing = lost.collect();
                    missing.sort_by(|a, b| (&a.path, &a.catalogue, &a.row).cmp(&(&b.path, &b.catalogue, &b.row)));
                    let Outcome::Compared { unknown: counted, missing: gone, .. } = outcome else {
                        return Err(TestCaseError::fail(format!("{outcome:?}")));
                    };
                    prop_assert_eq!((counted, gone), (unknown.len() as u64, missing.len() as u64));
                }
                let found = scene.orphans(OrphanKind::Uncatalogued);
                let found = found.into_iter().map(|o| (o.path.to_string(), (o.inode, o.first_seen)));
                prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), unknown.clone());
                prop_assert_eq!(scene.findings.missing(Some(&tree()), None, 10_000).unwrap(), missing.clone());
            }
        }
        // Whoever opens the files anew finds the same.
        for at in 0..2 {
            let opened = CatalogueIndex::open(&scene.home.path().join(format!("{at}.index")), KEY).unwrap().unwrap();
            scene.known[at].index = Arc::new(opened);
        }
        let before = scene.orphans(OrphanKind::Uncatalogued);
        scene.look();
        prop_assert_eq!(scene.orphans(OrphanKind::Uncatalogued), before);
    }
}

#[test]
fn another_file_under_the_same_name_begins_anew() {
    let mut scene = Scene::wvp("plain");
    scene.rows(0, &[("k/known.mp4", 1)]);
    scene.file("k/known.mp4");
    scene.file("a/one.mp4");
    assert_eq!(scene.look(), compared(1, 1, 0));
    let verdict = Verdict { witnesses: vec![Witness::Age], wanted: vec![Witness::Clock] };
    let tell = |orphan: &Orphan| Some((verdict.clone(), orphan.playable));
    scene.findings.judge(&tree(), OrphanKind::Uncatalogued, &mut |orphan| tell(orphan)).unwrap();
    let first = scene.orphans(OrphanKind::Uncatalogued).remove(0);
    scene.look();
    assert_eq!(
        scene.orphans(OrphanKind::Uncatalogued),
        std::slice::from_ref(&first),
        "the same file keeps what is known of it"
    );
    scene.disk.remove(&path("a/one.mp4"));
    scene.file("a/one.mp4");
    scene.look();
    let second = scene.orphans(OrphanKind::Uncatalogued).remove(0);
    assert!(second.first_seen > first.first_seen && second.inode != first.inode);
    assert_eq!(second.verdict, Verdict::default());
    // A file that is written to is another one, too.
    scene.disk.alter(second.inode, |file| file.identity.size += 1);
    scene.look();
    assert!(scene.orphans(OrphanKind::Uncatalogued)[0].first_seen > second.first_seen);
}

/// A directory that holds several streams is one folder.
#[test]
fn streams_that_share_a_directory_are_compared_as_one_folder() {
    let scene = Scene::wvp("plain");
    scene.rows(0, &[("d/a.mp4", 1), ("d/b.mp4", 2), ("d/gone.mp4", 3), ("top.mp4", 4)]);
    let inventory = |names: &[(&str, &str)]| {
        let mut builder = InventoryBuilder::new(tree(), Timestamp::from_secs(1_800_000_000));
        let identity = FileIdentity { inode: 1, links: 1, allocated: Bytes(4096), ..FileIdentity::default() };
        let top = builder.top();
        let dir = builder.directory(top, b"d");
        for (dir, (name, stream)) in [(top, ("top.mp4", "s"))].into_iter().chain(names.iter().map(|name| (dir, *name)))
        {
            let name = name.as_bytes();
            builder.file(dir, &Sighting { name, stream, kind: Kind::Recording, named: None, identity: &identity });
        }
        builder.finish(Timestamp::from_secs(1_800_000_001))
    };
    let whole = inventory(&[("a.mp4", "one"), ("b.mp4", "two"), ("gone.mp4", "one")]);
    assert_eq!(whole.folders().count(), 2);
    assert_eq!(scene.compare(&whole), compared(0, 0, 0));
    let differing = inventory(&[("a.mp4", "one"), ("new.mp4", "two"), ("b.mp4", "one")]);
    assert_eq!(scene.compare(&differing), compared(1, 1, 1));
    assert_eq!((scene.unknown(), scene.missing()), (vec!["d/new.mp4".to_owned()], vec!["d/gone.mp4".to_owned()]));
}

#[test]
fn several_rows_of_one_path_are_one_recording_and_several_rows() {
    let mut scene = Scene::wvp("plain");
    scene.rows(0, &[("d/a.mp4", 1), ("d/a.mp4", 2), ("d/b.mp4", 3), ("d/gone.mp4", 4), ("d/gone.mp4", 5)]);
    scene.file("d/a.mp4");
    scene.file("d/b.mp4");
    assert_eq!(scene.look(), compared(1, 0, 2));
    assert_eq!(scene.missing(), ["d/gone.mp4", "d/gone.mp4"]);
    scene.known[0].index.remove(&[(tree(), path("d/gone.mp4"), RowId::Number(4))]).unwrap();
    assert_eq!(scene.look(), compared(1, 0, 1));
    scene.known[0].index.remove(&[(tree(), path("d/gone.mp4"), RowId::Number(5))]).unwrap();
    assert_eq!(scene.look(), compared(0, 0, 0));
}

#[test]
fn a_row_is_missing_only_if_a_look_does_not_find_its_file() {
    let mut scene = Scene::wvp("zlmediakit");
    let day = |name: &str| format!("live/cam/2026-11-22/{name}");
    let (kept, hidden) = (day("2026-11-22-12-21-41-0.mp4"), day(".2026-11-22-12-22-41-1.mp4"));
    // The hook told of a file that never lost its dot; of one that the layout does not know; of one that came after the scan.
    let (told, odd, late) = (day("2026-11-22-12-22-41-1.mp4"), day("notes.txt"), day("2026-11-22-12-23-41-2.mp4"));
    let empty = day("2026-11-22-12-24-41-3.mp4");
    for text in [&kept, &hidden, &odd] {
        scene.file(text);
    }
    scene.disk.create(&path(&empty), 0, Timestamp::from_secs(1_700_000_000));
    scene.rows(0, &[(&kept, 1), (&told, 2), (&odd, 3), (&late, 4), (&empty, 5), ("live/gone/2026-11-22/x.mp4", 6)]);
    let inventory = scene.scan();
    scene.file(&late);
    assert_eq!(scene.compare(&inventory), compared(2, 0, 2));
    assert_eq!(scene.missing(), [&told, "live/gone/2026-11-22/x.mp4"]);
    assert_eq!(scene.unknown(), Vec::<String>::new());
    assert!(sight_leftovers(&inventory, &Gone::default(), &[], &scene.findings).unwrap());
    let leftovers: Vec<String> = scene.orphans(OrphanKind::Leftover).iter().map(|o| o.path.to_string()).collect();
    assert_eq!(leftovers, [hidden.as_str(), empty.as_str()]);
    // Those that we deleted ourselves are counted, and left out of what is missing.
    let ours = [(tree(), path(&told))];
    scene.findings.note_reclaimed(&ours, Timestamp::default(), storage_guard::domain::deletion::Seq(1)).unwrap();
    assert_eq!(scene.look(), compared(2, 0, 2));
    assert_eq!(scene.missing(), ["live/gone/2026-11-22/x.mp4"]);
}

/// A tree that cannot be looked into, or is another by now.
struct Broken {
    looks: io::ErrorKind,
    replaced: bool,
}

impl Dir for Broken {
    fn read(&self, _: Option<&RelPath>, _: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        Err(self.looks.into())
    }

    fn look(&self, _: &RelPath) -> io::Result<Option<FileIdentity>> {
        if self.replaced { Ok(None) } else { Err(self.looks.into()) }
    }

    fn top(&self) -> io::Result<FileIdentity> {
        Ok(FileIdentity::default())
    }

    fn still_there(&self) -> Result<(), Unusable> {
        if self.replaced { Err(Unusable::NotYet) } else { Ok(()) }
    }

    fn path(&self) -> &Path {
        Path::new("/tree")
    }
}

/// Fault 86.
#[test]
fn a_look_that_fails_proves_nothing() {
    let mut scene = Scene::wvp("plain");
    scene.file("d/a.mp4");
    scene.rows(0, &[("d/a.mp4", 1), ("d/gone.mp4", 2), ("e/gone.mp4", 3)]);
    let inventory = scene.scan();
    let broken = Broken { looks: io::ErrorKind::PermissionDenied, replaced: false };
    assert_eq!(scene.compare_in(&inventory, &broken).unwrap(), compared(2, 0, 0));
    let other = Broken { looks: io::ErrorKind::NotFound, replaced: true };
    assert!(scene.compare_in(&inventory, &other).is_err(), "another tree lies there by now");
    assert_eq!(scene.missing(), Vec::<String>::new());
}

/// Fault 58.
#[test]
fn an_incomplete_scan_is_not_compared() {
    let mut scene = Scene::wvp("plain");
    scene.rows(0, &[("d/gone.mp4", 1)]);
    scene.file("d/a.mp4");
    assert_eq!(scene.look(), compared(1, 1, 1));
    let before = (scene.orphans(OrphanKind::Uncatalogued), scene.missing());
    let mut builder = InventoryBuilder::new(tree(), Timestamp::from_secs(1_900_000_000));
    builder.problem(Some(path("d")), "Input/output error (os error 5)".to_owned());
    let inventory = builder.finish(Timestamp::from_secs(1_900_000_001));
    assert_eq!(scene.compare(&inventory), Outcome::Incomplete);
    assert!(!sight_leftovers(&inventory, &Gone::default(), &[], &scene.findings).unwrap());
    assert_eq!((scene.orphans(OrphanKind::Uncatalogued), scene.missing()), before);
    let known = std::mem::take(&mut scene.known);
    assert_eq!(scene.look(), Outcome::Incomplete, "without a catalogue nothing is unknown");
    scene.known = known;
    assert_eq!((scene.orphans(OrphanKind::Uncatalogued), scene.missing()), before);
}

/// Fault 76.
#[test]
fn an_empty_catalogue_is_not_believed_until_a_person_accepts_it() {
    for (kind, suspicious) in [
        (CatalogueKind::Wvp, true),
        (CatalogueKind::Frigate, true),
        (CatalogueKind::Manifest, true),
        (CatalogueKind::Hooks, false),
    ] {
        let mut scene = Scene::new("plain", &[CatalogueKind::Wvp, kind]);
        scene.rows(0, &[("d/a.mp4", 1)]);
        scene.file("d/a.mp4");
        scene.file("d/b.mp4");
        let expected = if suspicious { Outcome::Suspicious(scene.known[1].name.clone()) } else { compared(1, 1, 0) };
        assert_eq!(scene.look(), expected, "{kind}");
        assert_eq!(scene.unknown().len(), usize::from(!suspicious));
        // Rows of another tree are none of this one.
        let row = IndexRow { id: RowId::Number(1), collect: false, start: None };
        scene.known[1].index.put(&[(TreeId::new("other"), path("d/b.mp4"), row)]).unwrap();
        assert_eq!(scene.look(), expected, "{kind}");
        let state = IndexState { accepted: true, ..scene.known[1].index.state().unwrap() };
        scene.known[1].index.set_state(&state).unwrap();
        assert_eq!(scene.look(), compared(1, 1, 0), "{kind}");
    }
}

/// Fault 89.
#[test]
fn an_empty_tree_changes_no_finding() {
    let mut scene = Scene::wvp("plain");
    scene.rows(0, &[("d/a.mp4", 1), ("d/gone.mp4", 2)]);
    scene.file("d/a.mp4");
    scene.file("d/b.mp4");
    assert_eq!(scene.look(), compared(1, 1, 1));
    scene.disk.remove(&path("d/a.mp4"));
    scene.disk.remove(&path("d/b.mp4"));
    assert_eq!(scene.look(), Outcome::EmptyTree);
    assert_eq!((scene.unknown(), scene.missing()), (vec!["d/b.mp4".to_owned()], vec!["d/gone.mp4".to_owned()]));
    // An empty tree of which nothing is known is simply empty.
    let mut scene = Scene::wvp("plain");
    assert_eq!(scene.look(), compared(0, 0, 0));
}

/// Fault 72: what was damaged on disk is never taken for what a catalogue knows.
#[test]
fn a_damaged_index_ends_the_comparison() {
    let mut scene = Scene::wvp("plain");
    for name in ["a", "b", "c"] {
        scene.file(&format!("d/{name}.mp4"));
        scene.rows(0, &[(&format!("d/{name}.mp4"), 1)]);
    }
    let place = scene.home.path().join("0.index");
    scene.known[0].index = Arc::new(CatalogueIndex::create(None, KEY).unwrap());
    let mut bytes = std::fs::read(&place).unwrap();
    let at = bytes.windows(5).rposition(|window| window == b"b.mp4").unwrap();
    bytes[at] = b'B';
    #[expect(clippy::disallowed_methods, reason = "the test spoils its own file")]
    std::fs::write(&place, bytes).unwrap();
    scene.known[0].index = Arc::new(CatalogueIndex::open(&place, KEY).unwrap().unwrap());
    assert_eq!(scene.look(), compared(0, 0, 0), "sums say that nothing differs");
    scene.file("d/new.mp4");
    let inventory = scene.scan();
    assert!(scene.compare_in(&inventory, &scene.dir).is_err(), "as soon as names are asked, the damage is seen");
    assert_eq!(scene.unknown(), Vec::<String>::new());
}

#[test]
fn indexes_with_other_keys_are_compared_all_the_same() {
    let mut scene = Scene::new("plain", &[CatalogueKind::Wvp, CatalogueKind::Manifest]);
    scene.known[1].index = Arc::new(CatalogueIndex::create(None, DigestKey(43)).unwrap());
    scene.rows(0, &[("d/a.mp4", 1)]);
    scene.rows(1, &[("d/b.mp4", 1), ("d/gone.mp4", 2)]);
    for name in ["a", "b", "c"] {
        scene.file(&format!("d/{name}.mp4"));
    }
    assert_eq!(scene.look(), compared(1, 1, 1));
    assert_eq!((scene.unknown(), scene.missing()), (vec!["d/c.mp4".to_owned()], vec!["d/gone.mp4".to_owned()]));
}

/// A day is known as long as anything of it is: the safe direction.
#[test]
fn a_day_of_hls_is_known_by_any_of_its_segments_and_its_rows_stay_as_long_as_it() {
    let mut scene = Scene::new("hls", &[CatalogueKind::Manifest]);
    for text in
        ["live/a/2026-01-01/10/00-01_0.ts", "live/a/2026-01-01/11/00-01_0.ts", "live/a/2026-01-02/10/00-01_0.ts"]
    {
        scene.file(text);
    }
    scene.file("live/b/2026-01-01/10/00-01_0.ts");
    scene.file("live/c/2026-01-01/10/00-01_0.ts");
    let rows = [
        ("live/a/2026-01-01/10/00-01_0.ts", 1),
        // Its day is there, and so it counts as there.
        ("live/a/2026-01-01/12/00-01_0.ts", 2),
        // Its day is not.
        ("live/a/2025-12-31/10/00-01_0.ts", 3),
        // A whole day may be listed too.
        ("live/c/2026-01-01", 4),
    ];
    scene.rows(0, &rows);
    assert!(matches!(scene.look(), Outcome::Compared { unknown: 2, missing: 1, .. }));
    assert_eq!(scene.unknown(), ["live/a/2026-01-02", "live/b/2026-01-01"]);
    assert_eq!(scene.missing(), ["live/a/2025-12-31/10/00-01_0.ts"]);
}
