use super::fakes::*;
use super::*;
use crate::catalogue::source::Wanted;
use crate::domain::units::Percent;

/// Faults 37, 76: half the rows are gone while their files stay.
#[test]
fn rows_that_are_gone_while_their_files_stay_are_not_believed_until_a_person_accepts() {
    let mut world = World::with(20);
    world.drop_rows(1..11, false);
    assert_eq!(world.later(), ["dropped"], "the sample told");
    assert_eq!(world.last_wanted(), Wanted::Whole);
    let view = world.keeper.view();
    assert_eq!(view.distrust, Some(Distrust::Dropped { lost: 7, before: 20, allowed: Percent::new(30) }));
    assert_eq!((view.counts.rows, world.paths()), (20, 20), "the last trusted values stay");
    assert!(world.keeper.known().is_none());
    assert_eq!(world.later(), [""; 0]);
    assert_eq!(world.last_wanted(), Wanted::Whole);

    world.restart();
    assert!(world.keeper.accept().unwrap_err().contains("not read yet"));
    assert_eq!((world.paths(), world.left("reading")), (20, 0));
    assert_eq!(world.read(), ["dropped"], "a restart makes nothing right");

    world.keeper.accept().unwrap();
    assert_eq!((world.paths(), world.left("reading")), (10, 0));
    assert!(world.keeper.known().is_some() && world.keeper.view().distrust.is_none());
    assert!(world.keeper.accept().unwrap_err().contains("is trusted"));
    assert_eq!(world.later(), ["read 3"]);
    world.restart();
    assert_eq!((world.read(), world.paths()), (vec!["read 3".to_owned(), "trusted".to_owned()], 10));
}

#[test]
fn what_may_be_lost_at_once_may_be_lost() {
    let world = World::with(20);
    world.drop_rows(1..7, false);
    assert_eq!(world.later(), ["read 14"]);
    assert_eq!((world.last_wanted(), world.paths()), (Wanted::Whole, 14));
}

#[test]
fn a_catalogue_recovers_by_itself_when_its_rows_are_back() {
    let world = World::with(20);
    let rows = world.table().rows.clone();
    world.drop_rows(1..21, false);
    assert_eq!(world.later(), ["empty"]);
    world.table().rows = rows;
    assert_eq!(world.later(), ["read 20", "trusted"]);
    assert_eq!(world.left("reading"), 0, "what was not accepted is gone");
}

#[test]
fn rows_that_go_with_their_files_are_no_loss() {
    let world = World::with(20);
    world.drop_rows(1..16, true);
    assert_eq!(world.later(), ["read 5"]);
    world.drop_rows(16..21, true);
    assert_eq!(world.later(), ["read 0"], "nothing is left, on either side");
}

#[test]
fn where_nobody_knows_what_is_there_it_is_taken_to_be_there() {
    let world = World::with(20);
    world.drop_rows(1..16, true);
    *world.files.blind.lock().unwrap() = true;
    assert_eq!(world.later(), ["dropped"]);
    *world.files.blind.lock().unwrap() = false;
    assert_eq!(world.later(), ["read 5", "trusted"]);
}

/// Faults 73, 76, 89.
#[test]
fn an_empty_table_is_not_believed_while_the_tree_is_not_empty() {
    let mut world = World::with(20);
    world.drop_rows(1..21, false);
    assert_eq!(world.later(), ["empty"]);
    assert_eq!(world.keeper.view().distrust, Some(Distrust::Empty { tree: TreeId::new("a"), files: 20 }));
    world.keeper.accept().unwrap();
    assert_eq!(world.paths(), 0);
    assert!(world.keeper.known().unwrap().index.state().unwrap().accepted);
    assert_eq!(world.later(), ["read 0"], "it was accepted so");
    world.restart();
    assert_eq!(world.read(), ["read 0", "trusted"], "and is after a restart");
    assert!(world.keeper.known().unwrap().index.state().unwrap().accepted);

    world.record("a", 30..35);
    assert_eq!(world.later(), ["read 5"]);
    world.drop_rows(21..26, false);
    assert_eq!(world.later(), ["empty"], "it was accepted as it was then");
}

#[test]
fn what_was_accepted_for_one_tree_says_nothing_of_another() {
    let mut world = World::with(20);
    world.drop_rows(1..21, false);
    world.later();
    world.keeper.accept().unwrap();
    world.trees.push("c");
    world.files.there.lock().unwrap().insert("/c/0.mp4".to_owned());
    world.restart();
    assert_eq!(world.read(), ["empty"]);
    assert!(world.keeper.known().is_none());
}

#[test]
fn a_tree_that_names_it_no_more_loses_nothing() {
    let mut world = World::with(10);
    world.record("b", 0..10);
    world.later();
    world.trees.pop();
    world.restart();
    assert_eq!(world.read(), ["read 20", "trusted"]);
    let counts = world.keeper.view().counts;
    assert_eq!((world.last_wanted(), counts.rows, counts.foreign), (Wanted::Whole, 10, 10));
}

#[test]
fn a_catalogue_that_never_knew_a_tree_with_recordings_is_not_believed() {
    let world = World::new();
    world.files.there.lock().unwrap().insert("/a/0.mp4".to_owned());
    assert_eq!(world.read(), ["empty"]);
    assert!(world.keeper.last().is_none(), "there is nothing that was ever believed");

    let unknown = World::new();
    unknown.files.there.lock().unwrap().insert("/a/0.mp4".to_owned());
    *unknown.files.blind.lock().unwrap() = true;
    assert_eq!(unknown.read(), ["read 0", "trusted"], "nobody knows yet that there are recordings");
    *unknown.files.blind.lock().unwrap() = false;
    unknown.keeper.doubt();
    assert_eq!(unknown.read(), ["empty"], "the comparison knew");
}

#[test]
fn a_catalogue_of_another_server_or_of_other_paths_is_not_believed() {
    let world = World::new();
    for at in 0..8 {
        world.row(Some(format!("/a/{at}.mp4").as_bytes()), &format!("zlm-{}", at + 2));
    }
    assert_eq!(world.read(), ["other_server"]);
    let Some(Distrust::OtherServer { wanted, found }) = world.keeper.view().distrust else { panic!() };
    assert_eq!((wanted.as_str(), found.len(), found[0].as_str()), ("zlm-1", 5, "zlm-2"));

    let world = World::new();
    world.files.there.lock().unwrap().insert("/a/0.mp4".to_owned());
    world.row(Some(b"/opt/media\n/0.mp4"), "zlm-1");
    world.row(Some(b"/opt/media/0.mp4"), "zlm-1");
    assert_eq!(world.read(), ["elsewhere"]);
    let example = "/opt/media%0A/0.mp4".to_owned();
    assert_eq!(world.keeper.view().distrust, Some(Distrust::Elsewhere { rows: 2, example }));
    world.keeper.accept().unwrap();
    assert_eq!(world.later(), ["read 2"]);
    world.clock.sleep(Duration::from_secs(86_400));
    assert_eq!(world.read(), ["read 2"], "it was accepted so");
}

/// Fault 73.
#[test]
fn a_table_that_was_restored_from_a_backup_is_read_whole() {
    let world = World::with(40);
    world.drop_rows(38..41, true);
    assert_eq!(world.later(), ["read 37"], "the highest number fell");
    assert_eq!((world.last_wanted(), world.paths()), (Wanted::Whole, 37));
    world.table().says = Some(37);
    world.drop_rows(35..38, true);
    assert_eq!(world.later(), ["read 34"], "whatever it says, its last row is gone");
    world.table().says = None;
    world.drop_rows(31..35, true);
    world.record("b", 0..20);
    assert_eq!(world.later(), ["read 50"], "more than a tenth of those that were asked for is gone");
    assert_eq!(world.last_wanted(), Wanted::Whole);
}

/// WVP's lock by time range locks whole streams.
#[test]
fn many_new_favourites_are_remarked_and_named() {
    let collect = |world: &World, which: std::ops::Range<i64>| {
        which.for_each(|id| world.table().rows.get_mut(&id).unwrap().collect = true);
        world.keeper.doubt();
        world.read()
    };
    let world = World::with(300);
    assert_eq!(collect(&world, 1..101).len(), 2, "all of ten streams");
    let world = World::with(300);
    assert_eq!(collect(&world, 5..14), ["read 300"], "some of two streams");
    let happened = collect(&world, 21..31);
    assert_eq!(happened.len(), 2);
    assert!(happened[1].starts_with("10 of 300 recordings became favourites"), "{happened:?}");
    assert!(happened[1].contains("all of stream `2` in tree `a`") && happened[1].contains("changeCollect"));
    assert_eq!(world.keeper.view().remark.as_deref(), Some(&*happened[1]));
    world.record("a", 300..301);
    world.later();
    assert!(world.keeper.view().remark.is_some(), "a reading of what is new knows no better");
    assert_eq!(collect(&world, 0..0), ["read 301"]);
    assert_eq!(world.keeper.view().remark, None);
    let few: Vec<i64> = (0..30).flat_map(|stream| (1..6).map(move |at| stream * 10 + at)).collect();
    few.into_iter().for_each(|id| world.table().rows.get_mut(&id).unwrap().collect = true);
    world.keeper.doubt();
    let happened = world.read();
    assert!(happened[1].contains(" of 301 recordings") && !happened[1].contains("all of stream"), "{happened:?}");
}
