use super::fakes::*;
use super::*;
use crate::catalogue::source::Wanted;
use crate::domain::adoption::{Adopted, Adoption};
use crate::domain::catalogue::RowId;

#[test]
fn what_is_new_is_read_often_and_everything_once_a_day() {
    let world = World::with(20);
    assert!(!world.keeper.due());
    world.clock.sleep(INTERVAL);
    world.record("a", 20..25);
    assert!(world.keeper.due());
    assert_eq!(world.read(), ["read 8"], "three of them were known");
    assert_eq!((world.last_wanted(), world.paths()), (Wanted::After(20), 25));
    let as_of = world.keeper.known().unwrap().as_of;
    assert_eq!(as_of, world.keeper.last().unwrap().as_of);
    world.clock.sleep(Duration::from_secs(86_400));
    assert_eq!(world.read(), ["read 25"]);
    assert_eq!(world.last_wanted(), Wanted::Whole);
    assert!(world.keeper.known().unwrap().as_of > as_of);
}

#[test]
fn rows_of_others_and_rows_without_a_path_are_counted_once_and_left_alone() {
    let world = World::with(5);
    let strange = |world: &World| {
        world.row(Some(b"/elsewhere/a.mp4"), "zlm-1");
        world.row(Some(b"/a/0/0.mp4"), "zlm-2");
        world.row(None, "zlm-1");
        world.row(Some(b"/a/../etc/passwd"), "zlm-1");
        world.row(Some(b"/a/x\ny.mp4"), "zlm-1");
    };
    strange(&world);
    for expected in [(5, 2, 3), (5, 2, 3)] {
        world.later();
        let counts = world.keeper.view().counts;
        assert_eq!((counts.rows, counts.foreign, counts.bad), expected);
    }
    world.keeper.doubt();
    assert!(world.keeper.due());
    world.read();
    let counts = world.keeper.view().counts;
    assert_eq!((world.last_wanted(), counts.rows, counts.foreign, counts.bad), (Wanted::Whole, 5, 2, 3));
}

#[test]
fn a_catalogue_that_does_not_answer_is_asked_again_soon_and_then_less_often() {
    let world = World::with(20);
    world.clock.sleep(INTERVAL);
    world.fail(0, unanswered());
    assert_eq!(world.read(), ["unanswered"]);
    assert!(world.keeper.known().is_none() && world.paths() == 20);
    let since = world.keeper.view().since;
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let begin = world.clock.boottime();
        while !world.keeper.due() {
            world.clock.sleep(Duration::from_secs(1));
        }
        pauses.push((world.clock.boottime() - begin).as_secs());
        assert_eq!(world.read(), [""; 0], "it was said before");
    }
    assert_eq!(pauses, [60, 120, 240, 480, 900, 900]);
    assert_eq!(world.keeper.view().since, since);
    world.table().fails = None;
    assert_eq!(world.later(), ["read 3", "trusted"]);
    assert!(world.keeper.known().is_some() && world.keeper.view().since.is_none());
}

/// The database was stopped in the middle of a reading, the password changed, or a column is missing.
#[test]
fn whatever_a_source_says_the_old_state_stays_and_nothing_is_half_read() {
    let error = || "why".to_owned();
    for why in [unanswered(), Distrust::Partial { error: error() }, Distrust::Shape { error: error() }] {
        for after in [0, 7, 14] {
            let world = World::with(20);
            world.drop_rows(1..6, false);
            world.keeper.doubt();
            world.fail(after, why.clone());
            assert_eq!(world.read(), [why.as_str()]);
            assert_eq!((world.paths(), world.left("reading")), (20, 0));
            assert!(world.keeper.known().is_none());
            assert!(world.keeper.accept().unwrap_err().contains("no whole new state"), "{why:?}");
            world.table().fails = None;
            assert_eq!(world.later(), ["read 15", "trusted"], "the doubt is still to be answered");
        }
    }
}

#[test]
fn a_fault_of_the_guard_loses_nothing() {
    let world = World::with(20);
    world.keeper.doubt();
    world.table().panics = true;
    assert_eq!(world.read(), ["unanswered"]);
    assert_eq!((world.paths(), world.left("reading")), (20, 0));
    world.table().panics = false;
    assert_eq!(world.later(), ["read 20", "trusted"]);
}

#[test]
fn a_restart_uses_the_last_favourites_at_once_and_believes_nothing_before_a_reading() {
    let mut world = World::with(20);
    world.table().rows.get_mut(&4).unwrap().collect = true;
    world.keeper.doubt();
    assert_eq!(world.read(), ["read 20"]);
    world.restart();
    assert!(world.keeper.known().is_none() && !world.keeper.tried() && world.keeper.due());
    assert_eq!(world.keeper.view().distrust, Some(Distrust::NotYet));
    let favourites = world.keeper.last().unwrap().index.favourites(&TreeId::new("a")).unwrap();
    assert!(favourites.contains(&path("0/3.mp4")) && favourites.len() == 1);
    world.fail(0, unanswered());
    assert_eq!(world.read(), ["unanswered"]);
    assert!(world.keeper.tried() && world.keeper.known().is_none() && world.keeper.last().is_some());
    world.table().fails = None;
    assert_eq!(world.later(), ["read 3", "trusted"], "what is new is enough: its last whole reading is recent");
}

#[test]
fn other_settings_or_a_clock_that_went_back_want_a_whole_reading() {
    let mut world = World::with(20);
    world.settings.path_map = vec![("/old".into(), "/a".into())];
    world.restart();
    assert_eq!((world.read(), world.last_wanted()), (vec!["read 20".to_owned(), "trusted".to_owned()], Wanted::Whole));
    world.restart();
    assert_eq!((world.read().len(), world.last_wanted()), (2, Wanted::After(20)));
    world.clock.jump(Timestamp::from_secs(1_000_000_000));
    world.restart();
    assert_eq!((world.read().len(), world.last_wanted()), (2, Wanted::Whole));
}

#[test]
fn an_interrupted_reading_is_swept_away_and_made_again() {
    let mut world = World::with(20);
    let slot = world.home.path().join("my%20wvp%2F1.reading.db");
    std::fs::copy("Cargo.toml", &slot).unwrap();
    world.restart();
    assert_eq!((slot.exists(), world.paths()), (false, 20));
    assert_eq!((world.read().len(), world.last_wanted()), (2, Wanted::Whole));
}

/// Fault 69.
#[test]
fn an_index_that_cannot_be_written_leaves_the_old_one_in_use() {
    let mut world = World::with(20);
    world.keeper.doubt();
    // Somebody's folder is in the way: as on a full disk, no index can be made.
    for slot in ["reading", "reading2"] {
        let folder = world.home.path().join(format!("my%20wvp%2F1.{slot}.db"));
        std::fs::create_dir_all(folder.join("x")).unwrap();
    }
    assert_eq!(world.read(), ["index"]);
    assert!(world.keeper.known().is_none() && world.paths() == 20);
    assert!(world.keeper.accept().unwrap_err().contains("make room"));
    world.restart();
    assert_eq!((world.read(), world.paths()), (vec!["index".to_owned()], 20));
}

#[test]
fn without_a_folder_everything_is_kept_in_memory() {
    let world = World::new();
    let keeper = opened(&world.settings, &world.trees, None, &world.hooks, &world.clock, &world.table);
    world.record("a", 0..20);
    assert_eq!(keeper.read(&world.files).len(), 2);
    world.drop_rows(1..21, false);
    world.clock.sleep(INTERVAL);
    assert!(matches!(&keeper.read(&world.files)[..], [Happened::Distrusted(Distrust::Empty { .. })]));
    assert_eq!(keeper.last().unwrap().index.paths_in(&TreeId::new("a")).unwrap(), 20);
    keeper.accept().unwrap();
    assert_eq!(keeper.last().unwrap().index.paths_in(&TreeId::new("a")).unwrap(), 0);
    assert_eq!(world.left(""), 0);
}

/// A database may hang for a minute.
#[test]
fn nobody_waits_for_a_reading_to_know_how_it_stands() {
    let world = World::with(20);
    world.drop_rows(1..21, false);
    assert_eq!(world.later(), ["empty"]);
    let keeper = world.keeper.clone();
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let note = seen.clone();
    world.table().meanwhile = Some(Box::new(move || {
        let stands = keeper.known().is_none() && keeper.last().is_some() && keeper.view().distrust.is_some();
        keeper.doubt();
        note.lock().unwrap().extend([
            stands,
            keeper.undrained().is_empty(),
            keeper.accept().is_ok(),
            keeper.known().is_some(),
        ]);
    }));
    assert_eq!(world.later(), ["read 0"]);
    assert_eq!(*seen.lock().unwrap(), [true; 4]);
    assert!(world.keeper.known().is_some(), "what was accepted meanwhile is what it is judged by");
    assert!(world.keeper.due(), "the doubt came too late for this reading");
}

#[test]
fn rows_of_files_that_are_gone_are_removed_if_they_still_are_of_these_files() {
    let world = World::with(20);
    let entry = |id: i64, name: &str| (TreeId::new("a"), path(name), RowId::Number(id));
    world.table().rows.remove(&2);
    world.table().rows.get_mut(&3).unwrap().path = Some(b"/a/other.mp4".to_vec());
    let wanted = [entry(1, "0/0.mp4"), entry(2, "0/1.mp4"), entry(3, "0/2.mp4"), entry(4, "0/9.mp4")];
    let text = [(TreeId::new("a"), path("0/5.mp4"), RowId::Text("6".to_owned()))];
    let gone = world.keeper.remove_rows(&[&wanted[..], &text[..]].concat()).unwrap();
    assert_eq!(gone, [wanted[0].clone(), wanted[1].clone()]);
    assert_eq!((world.table().rows.len(), world.paths(), world.keeper.view().counts.rows), (18, 18, 18));
    world.table().refuses = true;
    assert!(world.keeper.remove_rows(&[entry(5, "0/4.mp4")]).is_err());
    assert_eq!(world.paths(), 18);
}

#[test]
fn adopted_recordings_are_known_at_once() {
    let world = World::with(5);
    let adoption = |file_path: &str| Adoption {
        app: "live".to_owned(),
        stream: "cam".to_owned(),
        start_time: 7000,
        end_time: 8000,
        media_server: None,
        file_name: "x.mp4".to_owned(),
        folder: "/a/".to_owned(),
        file_path: file_path.to_owned(),
        file_size: 1,
        time_len: 1000,
    };
    let wanted = [
        (TreeId::new("a"), path("new.mp4"), adoption("/a/new.mp4")),
        (TreeId::new("a"), path("0/1.mp4"), adoption("/a/0/1.mp4")),
        (TreeId::new("a"), path("wrong.mp4"), adoption("/opt/wrong.mp4")),
        (TreeId::new("a"), path("late.mp4"), adoption("/a/late.mp4")),
    ];
    // Inserted since the last reading, by somebody else.
    world.row(Some(b"/a/late.mp4"), "zlm-1");
    world.table().rows.get_mut(&2).unwrap().collect = true;
    let dry = world.keeper.adopt(&wanted, true).unwrap();
    assert!(matches!(&dry[..], [Adopted::Would, Adopted::Known(2), Adopted::Refused(_), Adopted::Known(6)]), "{dry:?}");
    let done = world.keeper.adopt(&wanted, false).unwrap();
    assert!(matches!(&done[..], [Adopted::Inserted(7), Adopted::Known(2), Adopted::Refused(_), Adopted::Known(6)]));
    assert_eq!(world.paths(), 7);
    let rows = |name: &str| world.keeper.last().unwrap().index.rows_of(&TreeId::new("a"), &path(name)).unwrap();
    assert_eq!((rows("new.mp4")[0].collect, rows("new.mp4")[0].start), (false, Some(Timestamp::from_secs(7))));
    assert!(rows("late.mp4")[0].collect, "whether it is wanted is not known yet, so it stays");
    assert!(!rows("0/1.mp4")[0].collect, "what was read is not overwritten");
}

#[test]
fn a_row_that_the_platform_removed_is_not_missing() {
    let world = World::with(20);
    world.drop_rows(1..4, true);
    let entry = |at: i64| (TreeId::new("a"), path(&format!("0/{at}.mp4")), RowId::Number(at + 1));
    let rows: Vec<_> = (0..5).map(entry).collect();
    assert_eq!(world.keeper.recheck(&rows), Ok(3));
    assert_eq!((world.paths(), world.keeper.view().counts.rows), (17, 17));
    world.drop_rows(4..5, true);
    world.fail(0, unanswered());
    assert_eq!((world.keeper.recheck(&rows), world.paths()), (Err(unanswered()), 17));
}
