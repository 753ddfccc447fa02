use jiff::tz::TimeZone;

use super::*;
use crate::domain::deletion::{RuleKind, Target, Trigger};
use crate::domain::history::{Stopped, recording_note};
use crate::domain::live::StreamTuple;
use crate::domain::names::{MediaServerId, VolumeId};

/// 2026-11-22T12:00:00Z.
const NOON: i64 = 1_795_348_800;

fn layout() -> Layout {
    Layout::parse("zlmediakit", &["mp4".to_owned()], TimeZone::UTC).unwrap()
}

fn recording(stream: &str, hour: u32) -> RelPath {
    RelPath::new(format!("{stream}/2026-11-22/2026-11-22-{hour:02}-00-00-0.mp4").as_bytes()).unwrap()
}

fn intent(path: RelPath, stream: &str, run: u64) -> Entry {
    let target = Target {
        tree: TreeId::new("live"),
        path,
        stream: stream.to_owned(),
        bytes: Bytes(1),
        inode: 1,
        fingerprint: 2,
        rule: RuleKind::MaxAge,
        trigger: Trigger::Retention,
        reason: "old".to_owned(),
        recorded: None,
    };
    Entry::Intent(Intent { target, who: "guard".to_owned(), job: None, run, retry_of: None })
}

fn gone(intent: u64) -> Entry {
    Entry::Outcome { intent: Seq(intent), attempt: Attempt::AlreadyGone }
}

fn note(kind: NoteKind, number: u64, text: &str) -> Entry {
    let (volume, tree) = (Some(VolumeId::new("data")), Some(TreeId::new("live")));
    Entry::Note { kind, volume, tree, who: "ops".to_owned(), bytes: Bytes(9), number, text: text.to_owned() }
}

/// The story of entries, each with the seconds after noon at which it was written, told about the hour after noon.
fn told<T>(layout: &Layout, entries: Vec<(i64, Entry)>, read: impl FnOnce(&Story<'_>) -> T) -> T {
    let stream = StreamId::new("live/cam");
    let at = Timestamp::from_secs;
    let span = Span { from: at(NOON), to: at(NOON + 3600) };
    let mut story = Story::new(&stream, vec![Ground { tree: TreeId::new("live"), layout, span }]);
    for (seq, (secs, entry)) in (1..).zip(entries) {
        story.enter(Recorded { seq: Seq(seq), at: at(NOON + secs), hash: [0; 32], entry });
    }
    read(&story)
}

#[test]
fn what_was_done_with_the_recordings_of_a_stream_is_kept_and_all_else_forgotten() {
    let layout = layout();
    let cam = |hour| recording("live/cam", hour);
    let entries = vec![
        (9000, intent(cam(12), "live/cam", 3)),
        (9000, intent(recording("live/other", 12), "live/other", 3)),
        (9001, gone(1)),
        (9001, gone(2)),
        (9002, note(NoteKind::RunEnded, 3, "reached_low")),
        (9002, note(NoteKind::RunEnded, 4, "another")),
        (9003, note(NoteKind::Restored, 1, "x\nhow")),
        (9004, note(NoteKind::FailureClosed, 1, "never mind")),
        (9005, note(NoteKind::Rows, 0, &format!("{}\nrow 5 of catalogue told was removed", cam(12)))),
        (9006, intent(RelPath::new(b"live/cam/notes.txt").unwrap(), "live/cam", 5)),
    ];
    told(&layout, entries, |story| {
        let deeds = &story.deeds[0];
        let (begin, of) = &deeds.of[&cam(12)];
        assert_eq!((begin.secs(), deeds.of.len(), deeds.undated), (NOON, 1, Some((1, Seq(10)))));
        assert_eq!(of.iter().map(|deed| deed.seq.0).collect::<Vec<_>>(), [1, 3, 7, 8, 9]);
        assert!(matches!(&of[2].act, Act::Restored { how, .. } if how == "how"), "{of:?}");
        assert!(matches!(&of[4].act, Act::Row { what, .. } if what.starts_with("row 5")), "{of:?}");
        assert_eq!(story.run(3).map(|run| (run.seq, run.reclaimed)), Some((Seq(5), Bytes(9))));
        assert_eq!((story.run(4), story.first.map(|(seq, _)| seq)), (None, Some(Seq(1))));
    });
}

#[test]
fn of_what_is_far_away_only_the_nearest_is_kept() {
    let layout = layout();
    let day = |day: u32| {
        RelPath::new(format!("live/cam/2026-11-{day:02}/2026-11-{day:02}-12-00-00-0.mp4").as_bytes()).unwrap()
    };
    let entries: Vec<(i64, Entry)> = [1, 3, 2, 5, 4, 29, 27, 28]
        .into_iter()
        .map(|at| (500_000, intent(day(at), "live/cam", u64::from(at))))
        .collect();
    told(&layout, entries, |story| {
        let kept: Vec<&RelPath> = story.deeds[0].of.keys().collect();
        assert_eq!(kept, [&day(5), &day(27)]);
        assert_eq!(story.intents.len(), 2);
        assert_eq!(story.runs.keys().copied().collect::<Vec<_>>(), [5, 27]);
    });
}

#[test]
fn starts_are_the_last_before_the_span_those_in_it_and_the_first_after() {
    let layout = layout();
    let entries = [-9000, -100, 100, 200, 4000, 5000].map(|at| (at, note(NoteKind::Started, 0, "version 1")));
    told(&layout, entries.to_vec(), |story| {
        assert_eq!(story.starts.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), [2, 3, 4, 5]);
    });
}

#[test]
fn stops_of_the_stream_and_clocks_that_were_not_trusted_have_their_spans() {
    let layout = layout();
    let (server, at) = (MediaServerId::new("zlm-1"), Timestamp::from_secs(NOON));
    let of = |stream: &str| {
        (server.clone(), StreamTuple { vhost: "__defaultVhost__".into(), app: "live".into(), stream: stream.into() })
    };
    let stopped = |stream: &str| {
        let stopped = Stopped { since: at, volume: VolumeId::new("data"), tree: TreeId::new("live") };
        recording_note(&of(stream), Some(&stopped), "it is critical")
    };
    let entries = vec![
        (-900, stopped("cam")),
        (-800, recording_note(&of("cam"), None, "there is room")),
        (-700, note(NoteKind::Clock, 0, "it jumped [0 3600000]")),
        (-600, note(NoteKind::Clock, 0, "it is trusted again")),
        (100, stopped("cam")),
        (110, stopped("other")),
        (120, note(NoteKind::Clock, 0, "it jumped [0 3600000]")),
        (900, recording_note(&of("cam"), None, "there is room")),
    ];
    told(&layout, entries, |story| {
        let stops = &story.deeds[0].stops;
        assert_eq!(stops.len(), 1, "{stops:?}");
        assert_eq!((stops[0].stopped.0, stops[0].released.map(|(seq, _)| seq)), (Seq(5), Some(Seq(8))));
        assert_eq!((stops[0].media_server.as_str(), stops[0].why.as_str()), ("zlm-1", "it is critical"));
        let clocks: Vec<_> =
            story.clocks.iter().map(|(of, from, to)| (of.as_str(), from.secs() - NOON, to.is_some())).collect();
        assert_eq!(clocks, [("data", -700, true), ("data", 120, false)]);
    });
}
