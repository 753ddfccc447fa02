//! What media servers say protects, for as long as they can say it, and a while beyond.

use super::*;
use crate::domain::conditions::tests::volume;
use crate::domain::layout::Layout;
use crate::domain::names::TreeId;
use crate::domain::recording::{FileIdentity, InventoryBuilder, Sighting};
use crate::domain::units::Bytes;

const NOW: i64 = 1_800_000_000;

fn at(ago: i64) -> Timestamp {
    Timestamp::from_secs(NOW - ago)
}

fn stream(app: &str, name: &str, recorded: [Option<bool>; 2], since: Option<i64>) -> LiveStream {
    let names = StreamTuple { vhost: "__defaultVhost__".to_owned(), app: app.to_owned(), stream: name.to_owned() };
    LiveStream { names, mp4: recorded[0], hls: recorded[1], since: since.map(at) }
}

fn server(reach: Reach, streams: Vec<LiveStream>) -> MediaServerView {
    let listed = matches!(reach, Reach::Up { .. }).then(|| at(0));
    MediaServerView { reach, listed, streams, ..MediaServerView::new(MediaServerId::new("zlm-1")) }
}

fn up(streams: Vec<LiveStream>) -> MediaServerView {
    server(Reach::Up { since: at(5000) }, streams)
}

fn down(ago: i64, streams: Vec<LiveStream>) -> MediaServerView {
    server(Reach::Down { since: at(ago), why: Unreached::Refused }, streams)
}

const MP4: [Option<bool>; 2] = [Some(true), Some(false)];
const NONE: [Option<bool>; 2] = [Some(false), Some(false)];

fn one(recorded: [Option<bool>; 2]) -> Vec<LiveStream> {
    vec![stream("live", "cam", recorded, Some(1000))]
}

#[test]
fn a_stream_is_known_by_the_name_that_its_layout_gives_it() {
    let known = LiveStreams::of(&[up(one(MP4))], at(0));
    for (name, records) in [
        ("live/cam", true),
        ("__defaultVhost__/live/cam", true),
        ("cam", false),
        ("live/cam2", false),
        ("alive/cam", false),
        ("live/cam/extra", false),
    ] {
        assert_eq!(known.records(&StreamId::new(name)), records, "{name}");
    }
}

/// Promise 3: whom nobody can ask keeps what was last known of it for a while.
#[test]
fn what_was_last_known_of_a_silent_server_is_believed_for_a_while() {
    let long = i64::try_from(PERHAPS.as_secs()).unwrap();
    let exited = |mut view: MediaServerView| {
        view.exited = true;
        view
    };
    for (view, records, sure) in [
        (up(one(MP4)), true, true),
        (up(one(NONE)), false, true),
        (up(one([None, Some(false)])), true, true),
        (down(5, one(MP4)), true, false),
        (down(long, one(MP4)), true, false),
        (down(long + 1, one(MP4)), false, false),
        (exited(down(5, one(MP4))), false, false),
        (server(Reach::Unasked, one(MP4)), true, false),
    ] {
        let known = LiveStreams::of([&view], at(0));
        assert_eq!(known.records(&StreamId::new("live/cam")), records, "{view:?}");
        let life = known.of_stream(&StreamId::new("live/cam"));
        assert_eq!(life.is_some_and(|life| life.sure), sure, "{view:?}");
    }
}

#[test]
fn a_recorder_has_ceased_only_if_every_server_can_tell() {
    let check = |views: &[MediaServerView], changed: i64, expected| {
        let known = LiveStreams::of(views, at(0));
        assert_eq!(known.recorder(&StreamId::new("live/cam"), at(changed)), expected, "{views:?}");
    };
    check(&[], 60, Recorder::Unknown);
    check(&[up(Vec::new())], 60, Recorder::Ceased);
    check(&[up(one(NONE))], 60, Recorder::Ceased);
    check(&[up(one(MP4))], 60, Recorder::Records);
    check(&[up(one([None, None]))], 60, Recorder::Records);
    // The stream of today began after the file was last changed.
    check(&[up(one(MP4))], 1061, Recorder::Ceased);
    check(&[up(one(MP4))], 1060, Recorder::Records);
    check(&[up(vec![stream("live", "cam", MP4, None)])], 5000, Recorder::Records);
    // One that cannot be asked may record it.
    check(&[up(Vec::new()), down(5, Vec::new())], 60, Recorder::Unknown);
    check(&[up(one(MP4)), down(5, Vec::new())], 1061, Recorder::Unknown);
    check(&[down(5, one(MP4))], 60, Recorder::Unknown);
    check(&[server(Reach::Unasked, Vec::new())], 60, Recorder::Unknown);
    // Two have a stream of that name: the one that began first counts.
    check(&[up(one(MP4)), up(vec![stream("live", "cam", MP4, Some(3000))])], 1061, Recorder::Records);
    let mut exited = down(5, Vec::new());
    exited.exited = true;
    check(&[exited], 60, Recorder::Ceased);
}

/// Files as stream, seconds since they were recorded and last changed, and whether unfinished; their inodes count from 1.
fn inventory(started: i64, files: &[(&str, i64, bool)], sizes: &[u64]) -> Inventory {
    let mut builder = InventoryBuilder::new(TreeId::new("live"), at(started));
    let top = builder.top();
    for (number, (stream, ago, unfinished)) in files.iter().enumerate() {
        let identity = FileIdentity {
            inode: number as u64 + 1,
            links: 1,
            allocated: Bytes(4096),
            size: sizes.get(number).copied().unwrap_or(4096),
            modified: at(*ago).millis() * 1_000_000,
            ..FileIdentity::default()
        };
        let kind = if *unfinished { Kind::Unfinished } else { Kind::Recording };
        let name = format!("{number:04}.mp4");
        let sighting = Sighting { name: name.as_bytes(), stream, kind, named: Some(at(*ago)), identity: &identity };
        builder.file(top, &sighting);
    }
    builder.finish(at(started))
}

fn written(layout: &str, files: &[(&str, i64, bool)], views: &[MediaServerView]) -> Vec<u32> {
    let mut policy = volume().trees[0].policy.as_ref().clone();
    policy.layout = Layout::parse(layout, &[], jiff::tz::TimeZone::UTC).unwrap();
    let live = LiveStreams::of(views, at(0));
    let found = inventory(0, files, &[]);
    let mut out: Vec<u32> = being_written(&policy, &found, &Gone::default(), &HashSet::new(), &live)
        .into_iter()
        .map(|index| index.0)
        .collect();
    out.sort_unstable();
    out
}

/// Promise 3: of a live stream nothing goes that may be being written.
#[test]
fn of_a_live_stream_what_may_be_being_written_is_known() {
    let files =
        [("live/cam", 9000, false), ("live/cam", 8000, false), ("live/b", 100, false), ("live/cam", 7000, true)];
    for (views, expected) in [
        (vec![], vec![]),
        (vec![up(one(NONE))], vec![]),
        (vec![up(one(MP4))], vec![1]),
        (vec![down(5, one(MP4))], vec![1]),
        (vec![down(5000, one(MP4))], vec![]),
        // Nobody says that it is recorded, and it was changed a moment ago: `startRecordTask` gives no other sign.
        (vec![up(vec![stream("live", "b", NONE, None)])], vec![2]),
        (vec![up(vec![stream("live", "b", NONE, None), stream("live", "cam", MP4, None)])], vec![1, 2]),
    ] {
        assert_eq!(written("zlmediakit", &files, &views), expected, "{views:?}");
    }
}

#[test]
fn of_an_hls_stream_all_that_its_playlist_may_name_is_kept() {
    let files: Vec<(&str, i64, bool)> = (0..100).map(|n| ("live/cam", 90_000 - n * 100, false)).collect();
    let window = |window, recorded| {
        let mut view = up(one(recorded));
        view.window = window;
        written("hls", &files, &[view])
    };
    const HLS: [Option<bool>; 2] = [Some(false), Some(true)];
    assert_eq!(window(Some(3), HLS), [97, 98, 99]);
    assert_eq!(window(None, HLS).len(), WINDOW);
    assert_eq!(window(Some(0), HLS), [99]);
    assert_eq!(window(Some(3), NONE), [0; 0]);
    // Who has the newest MP4 in a tree of segments, keeps that one.
    assert_eq!(window(Some(3), MP4), [99]);
}

/// A day is as many files as it has segments: the playlist names those of the last day, or of the last two around midnight.
#[test]
fn of_an_hls_stream_no_more_days_are_kept_than_its_playlist_may_name() {
    let check = |days: &[u64], window, expected: &[u64]| {
        let mut policy = volume().trees[0].policy.as_ref().clone();
        policy.layout = Layout::parse("hls", &[], jiff::tz::TimeZone::UTC).unwrap();
        let mut builder = InventoryBuilder::new(TreeId::new("live"), at(0));
        let top = builder.top();
        for (number, segments) in (1u64..).zip(days) {
            let unit = builder.begin_unit(top, format!("day{number}").as_bytes(), number);
            for _ in 0..*segments {
                let named = at(1_000_000 - i64::try_from(number).unwrap() * 86_400);
                let modified = named.millis() * 1_000_000;
                let identity = FileIdentity { inode: 9, links: 1, modified, ..FileIdentity::default() };
                let (stream, kind, named) = ("live/cam", Kind::Recording, Some(named));
                builder.segment(unit, &Sighting { name: b"x.ts", stream, kind, named, identity: &identity });
            }
        }
        let found = builder.finish(at(0));
        let mut view = up(one([Some(false), Some(true)]));
        view.window = Some(window);
        let live = LiveStreams::of(&[view], at(0));
        let kept = being_written(&policy, &found, &Gone::default(), &HashSet::new(), &live);
        let mut kept: Vec<u64> = kept.into_iter().map(|index| found.get(index).inode).collect();
        kept.sort_unstable();
        assert_eq!(kept, expected, "{days:?}, {window}");
    };
    check(&[500, 500, 500], 10, &[3]);
    check(&[500, 500, 2], 10, &[2, 3]);
    check(&[500, 500, 10], 10, &[3]);
    check(&[500, 4, 2], 10, &[1, 2, 3]);
    check(&[4, 2], 10, &[1, 2]);
    check(&[500, 500], 0, &[2]);
}

#[test]
fn what_changed_between_two_scans_grows() {
    let files = [("a", 9000, false), ("a", 100, false), ("a", 90, false), ("a", 80, true)];
    let before = inventory(200, &files, &[1, 1, 1, 1]);
    let check = |sizes: &[u64], expected: &[u32]| {
        let mut found: Vec<u32> =
            grown(&before, &inventory(0, &files, sizes)).into_iter().map(|index| index.0).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{sizes:?}");
    };
    check(&[1, 1, 1, 1], &[]);
    check(&[1, 2, 1, 1], &[1]);
    check(&[1, 2, 3, 4], &[1, 2]);
    // A write that leaves an old time of change is none that a recorder makes.
    check(&[2, 1, 1, 1], &[]);
}

/// Promise 3, for what was just looked at: of a live stream nothing goes that is newer than the last scan, or was changed lately.
#[test]
fn what_is_asked_for_may_be_written_if_its_stream_is_live_and_it_is_new() {
    let known = LiveStreams::of(&[up(one(NONE))], at(0));
    let check = |stream: &str, touched: i64, scanned: i64, expected: bool| {
        let life = known.of_stream(&StreamId::new(stream));
        assert_eq!(may_be_written(life, at(touched), at(scanned), at(0)), expected, "{stream} {touched} {scanned}");
    };
    check("live/cam", 10, 60, true);
    check("live/cam", 599, 60, true);
    check("live/cam", 601, 60, false);
    check("live/cam", 3000, 3600, true);
    check("live/cam", 3601, 3600, false);
    check("live/other", 10, 60, false);
}

#[test]
fn a_day_of_segments_that_was_written_a_moment_ago_is_left_alone_until_somebody_says_that_it_has_ended() {
    let check = |recorder, ago, scanned, expected| {
        assert_eq!(
            unit_may_be_written(recorder, at(ago), at(scanned), at(0)),
            expected,
            "{recorder:?} {ago} {scanned}"
        );
    };
    for recorder in [Recorder::Records, Recorder::Unknown] {
        check(recorder, 60, 30, true);
        check(recorder, 600, 30, true);
        check(recorder, 601, 30, false);
        // What came since a scan that is long ago, that scan does not know.
        check(recorder, 1000, 2000, true);
    }
    check(Recorder::Ceased, 1, 30, false);
}
