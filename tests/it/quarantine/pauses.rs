//! Between two batches of a run there is a pause, also where the run gives way after each.

use storage_guard::domain::volume::{Marks, Reading, Space};
use storage_guard::reclaim::Order;
use storage_guard::system::Clock as _;

use super::*;

/// Runs six files through batches of two, an hour apart; gives how often the run gave way, and how long it took.
fn check(job: Option<u64>, asked: Option<&str>) -> (usize, Duration) {
    let home = tempfile::tempdir().unwrap();
    let mut place = Place::new(home.path());
    place.engine.cleanup.pause = Duration::from_secs(3600);
    let names: Vec<String> = (0..6).map(|number| format!("cam/{number}.mp4")).collect();
    names.iter().for_each(|name| place.write(name, "x"));
    let targets = names.iter().map(|name| place.intent(name, RuleKind::MaxAge).target).collect();
    let order = Order {
        volume: VolumeId::new("data"),
        run: 1,
        who: "ops".to_owned(),
        job,
        targets,
        expiring: Vec::new(),
        marks: Marks::default(),
        promised: Bytes::ZERO,
        asked: asked.map(str::to_owned),
    };
    let space = Space {
        size: Bytes::gib(1000),
        free: Bytes::gib(200),
        available: Bytes::gib(200),
        inodes: 100,
        inodes_free: 90,
    };
    let at = Timestamp::from_secs(NOW);
    let mut probe = || Ok(Reading { at, space, readonly: false, written: Some(Bytes::ZERO) });
    let mut run = place.engine.begin(order).unwrap();
    let (trees, began) = (place.trees(), place.clock.boottime());
    let mut gave_way = 0;
    loop {
        place.engine.carry_on(&mut run, Vec::new(), &trees, &mut probe, (&|| false, &|| false), &|| false).unwrap();
        if !run.gave_way() {
            break;
        }
        gave_way += 1;
    }
    assert!(names.iter().all(|name| place.read(name).is_none()));
    (gave_way, place.clock.boottime() - began)
}

#[test]
fn a_run_pauses_between_its_batches_however_often_it_gives_way() {
    let hours = |took: Duration| took.as_secs() / 3600;
    let (alone, of_job) = (check(None, None), check(Some(1), None));
    assert_eq!((alone.0, hours(alone.1)), (0, 2));
    assert_eq!((of_job.0, hours(of_job.1)), (2, 2));
    // What is chosen bit by bit has its pauses between its turns.
    assert_eq!(hours(check(Some(1), Some("2 paths")).1), 0);
}
