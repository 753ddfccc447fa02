//! One condition for each situation that an alert knows, with all its facts: what the user's templates are tried on.

use std::time::Duration;

use crate::domain::alert::{AlertName, Case, Condition, Subject, UnreclaimedItem};
use crate::domain::canary::ProbeFault;
use crate::domain::catalogue::{CatalogueKind, Distrust};
use crate::domain::conditions::condition;
use crate::domain::deletion::{Cap, Cause, Unreclaimed};
use crate::domain::ending::Ending;
use crate::domain::fact::{Fact, FactName, Reason};
use crate::domain::live::Unreached;
use crate::domain::names::{CatalogueId, MediaServerId, TreeId, VolumeId};
use crate::domain::path::RelPath;
use crate::domain::recording::Tally;
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::Unusable;

type Named = (FactName, Fact);

/// The samples, in the order of the alerts.
pub(super) fn samples() -> Vec<Condition> {
    let volume = |alert, case, facts: Vec<Named>| condition(alert, Subject::Volume(VolumeId::new("data")), case, facts);
    let tree = |alert, case, facts: Vec<Named>| condition(alert, Subject::Tree(TreeId::new("live")), case, facts);
    let guard = |alert, facts: Vec<Named>| condition(alert, Subject::Guard, Case::Only, facts);
    let why = |reason: Reason| (FactName::Why, Fact::Reason(reason));
    let last = Ending::Short { missing: Bytes::gib(21), inodes: 0, failed: 3 };
    let hangs = Unusable::TimedOut(Duration::from_secs(10));
    let stall = Ending::Unexplained { missing: Bytes::gib(3) };
    let probe = ProbeFault::NotBack { tree: TreeId::new("live"), bytes: Bytes::mib(64), missing: Bytes::mib(63) };
    let shared = vec![(FactName::SharedFiles, Fact::Count(12)), (FactName::Shared, Fact::Bytes(Bytes::gib(6)))];
    let stuck = vec![
        (FactName::Failed, Fact::Count(26)),
        (FactName::FailedBytes, Fact::Bytes(Bytes::gib(9))),
        causes([Cause::Locked, Cause::InUse]),
    ];
    let late = vec![
        (FactName::Lasting, Fact::Span(Duration::from_secs(1900))),
        (FactName::LastRun, Fact::Reason(Reason::from(&last))),
    ];
    let cap = |name: Cap| {
        vec![
            (FactName::Cap, Fact::Text(name.to_string())),
            (FactName::Wanted, Fact::Bytes(Bytes::gib(300))),
            (FactName::Allowed, Fact::Bytes(Bytes::gib(200))),
        ]
    };
    let missing = (FactName::Missing, Fact::Bytes(Bytes::gib(3)));
    vec![
        volume(AlertName::VolumePressure, Case::Observed, [space(), deficit()].concat()),
        volume(AlertName::VolumePressure, Case::Foreign, [space(), deficit(), foreign()].concat()),
        volume(AlertName::VolumePressure, Case::Late, [space(), deficit(), foreign(), late].concat()),
        volume(AlertName::VolumeExhausted, Case::Only, [space(), deficit(), foreign(), shared, stuck].concat()),
        volume(AlertName::VolumeBlind, Case::Volume, vec![why(Reason::from(&hangs))]),
        tree(AlertName::VolumeBlind, Case::Tree, vec![why(Reason::from(&hangs))]),
        volume(AlertName::VolumeReadOnly, Case::Only, space()),
        volume(
            AlertName::SpaceNotReclaimed,
            Case::Stalled,
            [space(), vec![missing, why(Reason::from(&stall))]].concat(),
        ),
        volume(AlertName::SpaceNotReclaimed, Case::Probe, [space(), vec![why(Reason::from(&probe))]].concat()),
        of_files(None, tree(AlertName::SpaceNotReclaimed, Case::Open, vec![holders()])),
        of_files(
            Some(Cause::Io),
            tree(AlertName::DeletionFailing, Case::Only, vec![causes([Cause::Permission, Cause::Io]), directory()]),
        ),
        of_files(
            Some(Cause::InUse),
            tree(
                AlertName::RecordingLocked,
                Case::Only,
                vec![causes([Cause::Locked, Cause::InUse]), holders(), directory()],
            ),
        ),
        tree(AlertName::OrphansGrowing, Case::Only, [growth(), uncatalogued(), leftovers()].concat()),
        untrusted(CatalogueKind::Wvp, &Distrust::Unanswered { error: "ECONNREFUSED".to_owned() }),
        unreachable(&Unreached::Unanswered { error: "ECONNREFUSED".to_owned() }),
        media_server(AlertName::RecordingStopped, stopped()),
        tree(AlertName::CapTripped, Case::Only, cap(Cap::RunShare)),
        tree(AlertName::CapTripped, Case::Only, cap(Cap::OrphanShare)),
        tree(AlertName::RetentionBroken, Case::Only, broken()),
        tree(
            AlertName::ArchiveFailing,
            Case::Waiting,
            [archive(), vec![(FactName::Wanted, Fact::Bytes(Bytes::gib(37)))]].concat(),
        ),
        tree(
            AlertName::ArchiveFailing,
            Case::Lost,
            [archive(), vec![(FactName::Deleted, Fact::Bytes(Bytes::gib(9)))]].concat(),
        ),
        guard(AlertName::ClockSuspect, vec![(FactName::Since, Fact::Time(Timestamp::from_secs(1_700_000_000)))]),
        guard(AlertName::DeliveryFailing, vec![(FactName::Lasting, Fact::Span(Duration::from_secs(420)))]),
    ]
}

fn space() -> Vec<Named> {
    let bytes = |gib| Fact::Bytes(Bytes::gib(gib));
    vec![(FactName::Available, bytes(40)), (FactName::Size, bytes(1000))]
}

fn deficit() -> Vec<Named> {
    vec![(FactName::Missing, Fact::Bytes(Bytes::gib(25))), (FactName::MissingInodes, Fact::Count(900))]
}

fn foreign() -> Vec<Named> {
    let largest = vec![("/data/backup".to_owned(), Bytes::gib(170)), ("/data/logs".to_owned(), Bytes::gib(20))];
    vec![
        (FactName::Foreign, Fact::Bytes(Bytes::gib(15))),
        (FactName::Largest, Fact::Sizes(largest)),
        (FactName::Complete, Fact::Flag(false)),
    ]
}

fn growth() -> Vec<Named> {
    vec![(FactName::Grown, Fact::Bytes(Bytes::gib(18))), (FactName::Recorded, Fact::Bytes(Bytes::gib(190)))]
}

fn uncatalogued() -> Vec<Named> {
    let bytes = (FactName::UncataloguedBytes, Fact::Bytes(Bytes::gib(23)));
    vec![(FactName::Uncatalogued, Fact::Count(1042)), bytes]
}

fn archive() -> Vec<Named> {
    vec![
        (FactName::Archive, Fact::Text("cold".to_owned())),
        (FactName::Recordings, Fact::Count(412)),
        (FactName::Since, Fact::Time(Timestamp::from_secs(1_700_000_000))),
        (FactName::Detail, Fact::Text("the archive has no room: No space left on device (os error 28)".to_owned())),
    ]
}

fn broken() -> Vec<Named> {
    let days = |days: u64| Fact::Span(Duration::from_secs(days * 86_400));
    let names = vec!["live/gate".to_owned(), "live/yard".to_owned()];
    vec![
        (FactName::Streams, Fact::Count(12)),
        (FactName::Names, Fact::Names(names)),
        (FactName::Promised, days(30)),
        (FactName::Achieved, days(17)),
        (FactName::Fits, days(19)),
    ]
}

fn leftovers() -> Vec<Named> {
    vec![(FactName::Leftovers, Fact::Count(37)), (FactName::LeftoverBytes, Fact::Bytes(Bytes::gib(4)))]
}

/// A catalogue that is not believed for a reason.
pub(super) fn untrusted(kind: CatalogueKind, why: &Distrust) -> Condition {
    let facts = [
        (FactName::Kind, Fact::Text(kind.to_string())),
        (FactName::Trees, Fact::Names(vec!["live".to_owned(), "vod".to_owned()])),
        (FactName::Why, Fact::Reason(why.into())),
        (FactName::LastRead, Fact::Time(Timestamp::from_secs(1_700_000_000))),
        (FactName::Rows, Fact::Count(16_000)),
    ];
    let subject = Subject::Catalogue(CatalogueId::new("platform"));
    condition(AlertName::CatalogueUntrusted, subject, Case::Only, facts)
}

fn media_server(alert: AlertName, facts: Vec<Named>) -> Condition {
    condition(alert, Subject::MediaServer(MediaServerId::new("zlm")), Case::Only, facts)
}

/// A media server that cannot be asked for a reason.
pub(super) fn unreachable(why: &Unreached) -> Condition {
    let since = (FactName::Since, Fact::Time(Timestamp::from_secs(1_700_000_000)));
    media_server(AlertName::MediaServerUnreachable, vec![since, (FactName::Why, Fact::Reason(why.into()))])
}

fn stopped() -> Vec<Named> {
    let names = ["live/gate".to_owned(), "live/yard".to_owned()];
    vec![
        (FactName::Since, Fact::Time(Timestamp::from_secs(1_700_000_000))),
        (FactName::Streams, Fact::Count(12)),
        (FactName::Names, Fact::Names(names.to_vec())),
        (FactName::Volumes, Fact::Names(vec!["data".to_owned()])),
    ]
}

fn holders() -> Named {
    (FactName::Holders, Fact::Names(vec!["ffmpeg (pid 7)".to_owned(), "vlc (pid 8)".to_owned()]))
}

fn causes(causes: [Cause; 2]) -> Named {
    let [first, second] = causes.map(|cause| cause.to_string());
    (FactName::Causes, Fact::Counts(vec![(first, 2), (second, 1)]))
}

fn directory() -> Named {
    (FactName::Directory, Fact::Text("/data/live".to_owned()))
}

fn of_files(failure: Option<Cause>, condition: Condition) -> Condition {
    let item = |path: &str| {
        Some(UnreclaimedItem {
            tree: TreeId::new("live"),
            path: RelPath::new(path.as_bytes()).ok()?,
            bytes: Bytes::gib(1),
            cause: failure.map_or(Unreclaimed::HeldOpen, Cause::unreclaimed),
            failure,
            detail: if failure == Some(Cause::Io) { "EIO".to_owned() } else { String::new() },
            holder: Some("ffmpeg (pid 7)".to_owned()),
        })
    };
    let items = ["a/1.mp4", "a/2.mp4", "a/3.mp4"].into_iter().filter_map(item).collect();
    Condition { unreclaimed: Tally { files: 3, bytes: Bytes::gib(3) }, items, ..condition }
}
