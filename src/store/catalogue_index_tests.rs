//! The index against a model of it, and its file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::domain::path_set::PathSet;

const KEY: DigestKey = DigestKey(7);

type Row = (TreeId, RelPath, IndexRow);
type Model = BTreeMap<(TreeId, RelPath), BTreeMap<RowId, IndexRow>>;

fn tree(name: &str) -> TreeId {
    TreeId::new(name)
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn row(id: i64) -> IndexRow {
    IndexRow { id: RowId::Number(id), collect: false, start: Some(Timestamp::from_millis(id * 1000)) }
}

fn rows(paths: &[&str]) -> Vec<Row> {
    (1..).zip(paths).map(|(id, text)| (tree("live"), path(text), row(id))).collect()
}

fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("wvp.index");
    (home, path)
}

fn names(home: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(home.path()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Makes an index with these paths in `place`.
fn placed(place: &Path, paths: &[&str]) -> CatalogueIndex {
    let index = CatalogueIndex::create(Some(&place.with_extension("new")), KEY).unwrap();
    index.put(&rows(paths)).unwrap();
    index.take_place(place).unwrap();
    index
}

fn all(index: &CatalogueIndex, dir: Option<&str>) -> Vec<(String, RowId)> {
    let mut out = Vec::new();
    index
        .rows_in(&tree("live"), dir.map(path).as_ref(), &mut |name, row| {
            out.push((String::from_utf8(name.to_vec()).unwrap(), row.id));
            Ok(())
        })
        .unwrap();
    out
}

fn agree(index: &CatalogueIndex, model: &Model) {
    let counts = index.state().unwrap().counts;
    let rows = || model.values().flat_map(BTreeMap::values);
    assert_eq!(counts.rows, rows().count() as u64);
    assert_eq!(counts.collect, rows().filter(|row| row.collect).count() as u64);
    for name in ["live", "other", "never"] {
        let of = tree(name);
        let mine: Vec<_> =
            model.iter().filter(|((tree, _), _)| *tree == of).map(|((_, path), rows)| (path, rows)).collect();
        assert_eq!(index.paths_in(&of).unwrap(), mine.len() as u64);
        let mut sums: BTreeMap<Option<RelPath>, FolderSum> = BTreeMap::new();
        let mut by_folder: BTreeMap<Option<RelPath>, Vec<(Vec<u8>, IndexRow)>> = BTreeMap::new();
        for (path, rows) in &mine {
            let (dir, name) = path.split();
            sums.entry(dir.clone()).or_default().add(KEY.digest(name));
            by_folder.entry(dir).or_default().extend(rows.values().map(|row| (name.to_vec(), row.clone())));
            assert_eq!(index.rows_of(&of, path).unwrap(), rows.values().cloned().collect::<Vec<_>>());
        }
        let mut seen = BTreeMap::new();
        index.folders(&of, &mut |dir, sum| assert!(seen.insert(dir, sum).is_none())).unwrap();
        assert_eq!(seen, sums);
        for (dir, sum) in &sums {
            assert_eq!(index.folder(&of, dir.as_ref()).unwrap(), *sum);
            let mut read = Vec::new();
            let mut take = |name: &[u8], row| {
                read.push((name.to_vec(), row));
                Ok(())
            };
            index.rows_in(&of, dir.as_ref(), &mut take).unwrap();
            assert_eq!(&read, &by_folder[dir], "by rising name, then id");
            index.check_folder(index.find_folder(&of, dir.as_ref()).unwrap().unwrap().0).unwrap();
        }
        let kept = |rows: &BTreeMap<RowId, IndexRow>| rows.values().any(|row| row.collect);
        let favourites = mine.iter().filter(|(_, rows)| kept(rows)).map(|(path, _)| (*path).clone());
        assert_eq!(index.favourites(&of).unwrap(), PathSet::new(KEY, favourites));
    }
    assert_eq!(index.folder(&tree("live"), Some(&path("no/where"))).unwrap(), FolderSum::default());
}

fn id() -> impl Strategy<Value = RowId> {
    prop_oneof![(0..4i64).prop_map(RowId::Number), "[ab]".prop_map(RowId::Text)]
}

fn change() -> impl Strategy<Value = (Row, bool)> {
    let place = (
        prop::sample::select(vec!["live", "other"]),
        prop::sample::select(vec!["", "a/", "a/b/", "\u{80}/"]),
        "[xyz]{1,2}",
    );
    (place, id(), any::<bool>(), prop::option::of(any::<i32>()), prop::bool::weighted(0.7)).prop_map(
        |((of, dir, name), id, collect, start, put)| {
            let start = start.map(|start| Timestamp::from_millis(start.into()));
            ((tree(of), path(&format!("{dir}{name}")), IndexRow { id, collect, start }), put)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The second handle makes the first forget its sums.
    #[test]
    fn says_what_was_put_in_and_not_removed(batches in prop::collection::vec(prop::collection::vec(change(), 1..12), 1..8)) {
        let (_home, place) = home();
        let index = placed(&place, &[]);
        let second = CatalogueIndex::open(&place, KEY).unwrap().unwrap();
        let mut model = Model::new();
        for (at, batch) in batches.iter().enumerate() {
            let index = if at % 3 == 2 { &second } else { &index };
            let (put, remove): (Vec<_>, Vec<_>) = batch.iter().cloned().partition(|(_, put)| *put);
            let put: Vec<Row> = put.into_iter().map(|(row, _)| row).collect();
            let remove: Vec<_> = remove.into_iter().map(|((tree, path, row), _)| (tree, path, row.id)).collect();
            index.put(&put).unwrap();
            index.remove(&remove).unwrap();
            for (tree, path, row) in put {
                model.entry((tree, path)).or_default().insert(row.id.clone(), row);
            }
            for (tree, path, id) in remove {
                let rows = model.entry((tree, path)).or_default();
                rows.remove(&id);
            }
            model.retain(|_, rows| !rows.is_empty());
            agree(index, &model);
        }
        agree(&CatalogueIndex::open(&place, KEY).unwrap().unwrap(), &model);
    }

    #[test]
    fn tells_which_paths_a_newer_one_lost(
        old in prop::collection::btree_set("[a-c]/[x-z]{1,2}|[x-z]{1,2}", 0..20),
        new in prop::collection::btree_set("[a-c]/[x-z]{1,2}|[x-z]{1,2}", 0..20),
        key in 7..9u64,
    ) {
        let (before, after) = (CatalogueIndex::create(None, KEY).unwrap(), CatalogueIndex::create(None, DigestKey(key)).unwrap());
        for (index, paths) in [(&before, &old), (&after, &new)] {
            let texts: Vec<&str> = paths.iter().map(String::as_str).collect();
            index.put(&rows(&texts)).unwrap();
            // Another row of the same path is no other path.
            index.put(&texts.iter().map(|text| (tree("live"), path(text), row(1000))).collect::<Vec<_>>()).unwrap();
        }
        let mut lost = Vec::new();
        before.lost_to(&after, &mut |_, path| { lost.push(path.to_string()); ControlFlow::Continue(()) }).unwrap();
        let once = lost.iter().cloned().collect::<BTreeSet<_>>();
        prop_assert_eq!(lost.len(), once.len());
        prop_assert_eq!(once, old.difference(&new).cloned().collect());
        let mut heard = 0;
        before.lost_to(&after, &mut |_, _| { heard += 1; ControlFlow::Break(()) }).unwrap();
        prop_assert_eq!(heard, lost.len().min(1));
    }
}

#[test]
fn a_folder_of_many_pages_is_read_whole_and_in_order() {
    let index = CatalogueIndex::create(None, KEY).unwrap();
    // Pages end in the middle of the rows of one name, too.
    let many: Vec<Row> = (0..9_001)
        .map(|id| (tree("live"), path(&format!("flat/{:05}", id / 7)), row(id)))
        .chain((0..4_001).map(|id| (tree("live"), path(&format!("dir-{id:05}/a")), row(id))))
        .collect();
    many.chunks(1000).for_each(|some| index.put(some).unwrap());
    let read = all(&index, Some("flat"));
    assert_eq!(read.len(), 9_001);
    assert!(read.is_sorted() && read.windows(2).all(|pair| pair[0] != pair[1]));
    let mut folders = Vec::new();
    index.folders(&tree("live"), &mut |dir, _| folders.push(dir)).unwrap();
    assert_eq!(folders.len(), 4_002);
    assert!(folders.is_sorted());
}

#[test]
fn a_sample_is_even_and_no_larger_than_wanted() {
    let index = CatalogueIndex::create(None, KEY).unwrap();
    assert_eq!(index.sample(10).unwrap(), []);
    let many: Vec<Row> = (0..1000).map(|id| (tree("live"), path(&format!("{}/{id:04}", id / 300)), row(id))).collect();
    index.put(&many).unwrap();
    for most in [0, 1, 7, 100, 999, 1000, 5000] {
        let sample = index.sample(most).unwrap();
        assert_eq!(sample.len(), most.min(1000), "{most}");
        let mut numbers: Vec<i64> = sample.iter().map(|id| if let RowId::Number(n) = id { *n } else { -1 }).collect();
        numbers.dedup();
        let gap = numbers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        assert!(numbers.len() == sample.len() && gap <= 1000 / most.max(1) as i64 + 1, "{most}: {gap}");
    }
    // Several rows of one name: fewer at the end, never more.
    index.put(&(1000..1500).map(|id| (tree("live"), path("0/0000"), row(id))).collect::<Vec<_>>()).unwrap();
    assert!(index.sample(200).unwrap().len() <= 200);
}

#[test]
fn a_new_one_takes_the_place_of_the_old_while_the_old_is_in_use() {
    let (home, place) = home();
    let old = placed(&place, &["a/1", "a/2"]);
    old.set_state(&IndexState { last: Some(2), accepted: true, ..IndexState::default() }).unwrap();
    assert_eq!(names(&home).len(), 2, "the link and the file");
    let new = CatalogueIndex::create(Some(&place.with_extension("new")), KEY).unwrap();
    new.put(&rows(&["a/3"])).unwrap();
    new.take_place(&place).unwrap();
    assert_eq!(names(&home).len(), 2, "the old file is gone: {:?}", names(&home));
    // Both are read and written, in turns.
    old.put(&rows(&["a/4"])).unwrap();
    new.put(&[(tree("live"), path("a/5"), row(5))]).unwrap();
    old.remove(&[(tree("live"), path("a/2"), RowId::Number(2))]).unwrap();
    assert_eq!(all(&old, Some("a")).len(), 2);
    assert_eq!(all(&new, Some("a")).len(), 2);
    assert!(old.state().unwrap().accepted && !new.state().unwrap().accepted);
    drop((old, new));
    let opened = CatalogueIndex::open(&place, KEY).unwrap().unwrap();
    assert_eq!(all(&opened, Some("a")).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["3", "5"]);
    assert_eq!(opened.state().unwrap().counts.rows, 2);
    assert!(opened.take_place(&place).is_err(), "it has taken its place");
    assert!(CatalogueIndex::create(None, KEY).unwrap().take_place(&place).is_err());
    CatalogueIndex::discard(&place).unwrap();
    assert!(names(&home).is_empty(), "{:?}", names(&home));
    assert_eq!(all(&opened, Some("a")).len(), 2, "who has it open keeps it");
}

#[test]
fn what_cannot_take_its_place_leaves_the_old_one_and_may_try_again() {
    let (home, place) = home();
    drop(placed(&place, &["a/1"]));
    let new = CatalogueIndex::create(Some(&place.with_extension("new")), KEY).unwrap();
    new.put(&rows(&["a/2"])).unwrap();
    // A directory in the way of the link.
    std::fs::create_dir(home.path().join("wvp.index.link")).unwrap();
    assert!(new.take_place(&place).is_err());
    assert_eq!(all(&CatalogueIndex::open(&place, KEY).unwrap().unwrap(), Some("a"))[0].0, "1");
    assert!(new.take_place(&home.path().join("no/where")).is_err());
    new.put(&rows(&["a/3"])).unwrap();
    std::process::Command::new("rmdir").arg(home.path().join("wvp.index.link")).status().unwrap();
    new.take_place(&place).unwrap();
    assert_eq!(all(&CatalogueIndex::open(&place, KEY).unwrap().unwrap(), Some("a")).len(), 2);
}

/// Faults 72, 74 and 77.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test spoils its own file")]
fn one_that_cannot_be_used_is_none() {
    let (_home, place) = home();
    assert!(CatalogueIndex::open(&place, KEY).unwrap().is_none(), "there is none");
    let many: Vec<String> = (0..2000).map(|i| format!("a/{i:05}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let spoil: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes[..32].fill(0),
        |bytes| bytes[100..4000].fill(0x5a),
        |bytes| bytes.truncate(9000),
        |bytes| bytes.clear(),
        |bytes| *bytes = b"this is no index, it only has the length of a page or more".repeat(100),
    ];
    for (at, spoil) in spoil.iter().enumerate() {
        drop(placed(&place, &many));
        assert!(CatalogueIndex::open(&place, KEY).unwrap().is_some());
        let mut bytes = std::fs::read(&place).unwrap();
        spoil(&mut bytes);
        std::fs::write(&place, bytes).unwrap();
        assert!(CatalogueIndex::open(&place, KEY).unwrap().is_none(), "case {at}");
    }
    drop(placed(&place, &many));
    assert!(CatalogueIndex::open(&place, DigestKey(8)).unwrap().is_none(), "another state's");
    let connection = Connection::open(&place).unwrap();
    for (pragma, right) in [("user_version", 1), ("application_id", 0x5347_6369)] {
        connection.pragma_update(None, pragma, 99).unwrap();
        assert!(CatalogueIndex::open(&place, KEY).unwrap().is_none(), "{pragma}");
        connection.pragma_update(None, pragma, right).unwrap();
    }
    assert!(CatalogueIndex::open(&place, KEY).unwrap().is_some());
    connection.execute_batch("DROP TABLE state").unwrap();
    assert!(CatalogueIndex::open(&place, KEY).unwrap().is_none(), "a table is missing");
}

#[test]
fn a_name_that_changed_on_disk_is_noticed() {
    let index = CatalogueIndex::create(None, KEY).unwrap();
    index.put(&rows(&["a/1", "a/2", "b/1"])).unwrap();
    let folder = |dir| index.find_folder(&tree("live"), Some(&path(dir))).unwrap().unwrap().0;
    index.check_folder(folder("a")).unwrap();
    index
        .read("spoil", |connection| connection.execute("UPDATE rows SET name = x'33' WHERE name = x'32'", []))
        .unwrap();
    assert!(index.check_folder(folder("a")).is_err());
    index.check_folder(folder("b")).unwrap();
}

#[test]
fn a_write_that_fails_changes_nothing_and_the_next_one_is_right() {
    let (_home, place) = home();
    let index = placed(&place, &["a/1"]);
    let mut model: Model = Model::new();
    model.entry((tree("live"), path("a/1"))).or_default().insert(RowId::Number(1), row(1));
    index.read("fill the disk", |c| c.pragma_update(None, "max_page_count", 1)).unwrap();
    let many: Vec<Row> = (10..5000).map(|id| (tree("live"), path(&format!("a/{id}")), row(id))).collect();
    assert!(index.put(&many).unwrap_err().full());
    agree(&index, &model);
    index.read("make room", |c| c.pragma_update(None, "max_page_count", 1_000_000)).unwrap();
    index.put(&many[..2]).unwrap();
    for (tree, path, row) in &many[..2] {
        model.entry((tree.clone(), path.clone())).or_default().insert(row.id.clone(), row.clone());
    }
    agree(&index, &model);
}

#[test]
fn is_read_while_it_is_written() {
    let index = CatalogueIndex::create(None, KEY).unwrap();
    index.put(&rows(&["a/00000"])).unwrap();
    let (folder, _) = index.find_folder(&tree("live"), Some(&path("a"))).unwrap().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for batch in 1..50 {
                let some = (0..200).map(|i| (tree("live"), path(&format!("a/{:05}", batch * 200 + i)), row(i)));
                index.put(&some.collect::<Vec<_>>()).unwrap();
            }
        });
        let mut before = 0;
        while !writer.is_finished() {
            let mut names = Vec::new();
            // A closure may ask the index itself.
            index
                .rows_of_folder(folder, &mut |name, _| {
                    if names.is_empty() {
                        index.state().unwrap();
                    }
                    names.push(name.to_vec());
                    Ok(())
                })
                .unwrap();
            assert!(names.is_sorted() && names.len() >= before);
            before = names.len();
            index.check_folder(folder).unwrap();
        }
    });
    assert_eq!(all(&index, Some("a")).len(), 1 + 49 * 200);
}

#[test]
fn while_it_is_built_too_a_write_that_fails_is_not_half_in_it() {
    let (_home, place) = home();
    let index = CatalogueIndex::create(Some(&place.with_extension("new")), KEY).unwrap();
    index.put(&rows(&["a/1", "b/1"])).unwrap();
    let mut model: Model = Model::new();
    for (at, text) in ["a/1", "b/1"].iter().enumerate() {
        let id = i64::try_from(at).unwrap() + 1;
        model.entry((tree("live"), path(text))).or_default().insert(RowId::Number(id), row(id));
    }
    let pages = index.read("count", |c| c.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))).unwrap();
    index.read("fill the disk", |c| c.pragma_update(None, "max_page_count", pages + 2)).unwrap();
    let many: Vec<Row> = (10..5000).map(|id| (tree("live"), path(&format!("a/{id}")), row(id))).collect();
    assert!(index.put(&many).unwrap_err().full());
    index.read("make room", |c| c.pragma_update(None, "max_page_count", 1_000_000)).unwrap();
    // SQLite may take everything back, and then nothing of it is ever used; but never a half.
    if index.put(&[]).is_ok() && index.take_place(&place).is_ok() {
        agree(&index, &model);
        agree(&CatalogueIndex::open(&place, KEY).unwrap().unwrap(), &model);
    } else {
        assert!(CatalogueIndex::open(&place, KEY).unwrap().is_none());
    }
}
