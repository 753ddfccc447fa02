//! What each alert says, word for word in English; and that Chinese says no less.

use std::time::Duration;

use super::super::body::Body;
use super::super::sample::{samples, unreachable, untrusted};
use super::*;
use crate::domain::alert::{AlertName, Case, Subject};
use crate::domain::canary::ProbeFault;
use crate::domain::catalogue::{CatalogueKind, Distrust};
use crate::domain::conditions::condition;
use crate::domain::deletion::Cause;
use crate::domain::ending::Ending;
use crate::domain::fact::{FactName, Reason};
use crate::domain::live::Unreached;
use crate::domain::marker::MarkerFault;
use crate::domain::names::{CatalogueId, MediaServerId, TreeId, VolumeId};
use crate::domain::settings::Language;
use crate::domain::units::{Bytes, Percent, Timestamp, show_duration};
use crate::domain::volume::{Difference, Unusable};

const LANGUAGES: [Language; 2] = [Language::English, Language::Chinese];

const FOREIGN: &str = "\
15 GiB of what is missing are not ours to give back, since files that are in no guarded tree grew; the guard deletes no more than its share for them.
The largest directories of others, as far as they were found in 2 s: `/data/backup` (170 GiB), `/data/logs` (20 GiB).
";

fn sample(alert: AlertName, case: Case) -> Condition {
    samples().into_iter().find(|sample| (sample.alert, sample.case) == (alert, case)).unwrap()
}

#[test]
fn every_alert_has_a_template_and_a_sample_of_each_situation() {
    for alert in AlertName::ALL {
        let without = condition(*alert, Subject::Guard, Case::Only, []);
        for language in LANGUAGES {
            let said = Templates::strict(language).rendered(&template_of(alert.as_str()), &Situation::new(&without));
            assert!(said.is_some(), "{alert} {language:?}");
        }
        assert!(samples().iter().any(|sample| sample.alert == *alert), "{alert}");
    }
    for case in Case::ALL {
        assert!(samples().iter().any(|sample| sample.case == *case), "{case}");
    }
}

fn check(condition: &Condition, summary: &str, description: &str) {
    let wording = Templates::strict(Language::English).wording(condition);
    assert_eq!((wording.summary.as_str(), wording.description.as_str()), (summary, description));
}

#[test]
fn pressure_says_what_is_missing_who_caused_it_and_what_the_last_run_did() {
    check(
        &sample(AlertName::VolumePressure, Case::Observed),
        "Volume data is above its high mark",
        "40 GiB of 1000 GiB are available. 25 GiB and 900 inodes are missing to the low mark, and nothing is deleted, since every tree is only observed.
`storage-guard plan` shows what would go; set `mode: enforce` to let it.",
    );
    check(
        &sample(AlertName::VolumePressure, Case::Foreign),
        "Volume data is filled by others",
        &format!(
            "40 GiB of 1000 GiB are available. 25 GiB and 900 inodes are missing to the low mark.\n{}",
            FOREIGN.trim()
        ),
    );
    let late = sample(AlertName::VolumePressure, Case::Late);
    let said = "40 GiB of 1000 GiB are available. 25 GiB and 900 inodes are still missing to the low mark after 31m40s. The last run: 21 GiB and 0 inodes are missing to the low mark; of what was chosen, 3 recordings could not be deleted.\n";
    let advice = "`storage-guard status` and `storage-guard failures list` say what is in the way.";
    check(&late, "Volume data does not reach its low mark", &format!("{said}{FOREIGN}{advice}"));
    let mut bare = late;
    for name in [FactName::Available, FactName::Size, FactName::LastRun, FactName::Foreign, FactName::Largest] {
        bare.facts.remove(&name);
    }
    bare.facts.insert(FactName::MissingInodes, Fact::Count(0));
    let said = format!("25 GiB are still missing to the low mark after 31m40s.\n{advice}");
    check(&bare, "Volume data does not reach its low mark", &said);
}

#[test]
fn an_exhausted_volume_says_what_is_spared_and_what_others_hold() {
    let exhausted = sample(AlertName::VolumeExhausted, Case::Only);
    let said = "40 GiB of 1000 GiB are available. 25 GiB and 900 inodes are missing to the low mark, and nothing eligible is left to delete: all else is protected, young, in use, or not ours.\n";
    let stuck = "26 recordings, 9 GiB, were chosen and could not be deleted. Causes: locked (2), in_use (1). Begin with `storage-guard failures list`: it names each, its cause, and who has it open.\n";
    let shared = "12 recordings, 6 GiB, would give nothing back, because snapshots or reflink copies share their blocks; remove those first.\n";
    let advice = "Recording will fail when the volume is full. Remove other files, add space, or loosen `protect`, `keep` and `min_age`; `storage-guard plan` says what is spared and why.";
    let summary = "Volume data has nothing left to delete";
    check(&exhausted, summary, &format!("{said}{stuck}{shared}{FOREIGN}{advice}"));
    let mut bare = exhausted;
    for name in [FactName::Foreign, FactName::Largest, FactName::SharedFiles, FactName::Failed] {
        bare.facts.remove(&name);
    }
    check(&bare, summary, &format!("{said}{advice}"));
}

#[test]
fn what_cannot_be_judged_says_why() {
    check(
        &sample(AlertName::VolumeBlind, Case::Volume),
        "Volume data cannot be judged",
        "Nothing is deleted on volume `data`, because it did not answer within 10s; the mount hangs.
Recording goes on and may fill it.",
    );
    check(
        &sample(AlertName::VolumeBlind, Case::Tree),
        "Tree live cannot be trusted",
        "Nothing is deleted in tree `live`, because it did not answer within 10s; the mount hangs.
The other trees of its volume are not concerned.",
    );
    check(
        &sample(AlertName::VolumeReadOnly, Case::Only),
        "Volume data is read-only",
        "40 GiB of 1000 GiB are available. The filesystem is read-only, so neither recording nor deleting works.
It often means that the kernel found an error on the disk: see `dmesg`, check the disk, and mount it again.",
    );
}

#[test]
fn space_that_does_not_come_back_says_where_to_look() {
    check(
        &sample(AlertName::SpaceNotReclaimed, Case::Stalled),
        "Deleted space of volume data does not come back",
        "40 GiB of 1000 GiB are available. 3 GiB that were deleted did not come back: 3 GiB did not come back of what the last batches deleted, and nothing explains it.
No run begins for pressure until space comes back, six hours have passed, or somebody applies a plan. Look for snapshots, reflink copies, and processes that hold deleted files (`lsof +L1`).",
    );
    check(
        &sample(AlertName::SpaceNotReclaimed, Case::Probe),
        "Volume data does not give back what is deleted",
        "40 GiB of 1000 GiB are available. 63 MiB of a probe file of 64 MiB did not come back when it was deleted in tree `live`.
When the volume fills, deleting recordings would not help. Look for a read-only mount, the recycle bin of a network share, snapshots, a quota of the tree's user or project, and processes that keep deleted files open. It is looked at again every hour.",
    );
    check(
        &sample(AlertName::SpaceNotReclaimed, Case::Open),
        "Deleted recordings of tree live are still open",
        "3 recordings, 3 GiB. Open in: ffmpeg (pid 7), vlc (pid 8).
Their space comes back when the process that is named closes them, or ends. Nothing more is deleted to make up for it.",
    );
}

#[test]
fn failing_deletions_say_their_causes_and_holders() {
    check(
        &sample(AlertName::DeletionFailing, Case::Only),
        "Deletions in tree live fail",
        "3 recordings, 3 GiB. Causes: permission (2), io (1). They lie below `/data/live`.
They are tried again by themselves. Permissions: the guard must own the files or have CAP_DAC_OVERRIDE and CAP_FOWNER. I/O errors: check the disk. `storage-guard failures list` shows all.",
    );
    check(
        &sample(AlertName::RecordingLocked, Case::Only),
        "Recordings of tree live are locked or in use",
        "3 recordings, 3 GiB. Causes: locked (2), in_use (1). Open in: ffmpeg (pid 7), vlc (pid 8). They lie below `/data/live`.
They are tried again by themselves. For a locked file: `chattr -i -a FILE`. For one in use: end the process that is named, or wait. `storage-guard failures close ID --reason R` gives one up.",
    );
}

#[test]
fn caps_clocks_and_deliveries_say_what_to_do() {
    check(
        &sample(AlertName::CapTripped, Case::Only),
        "Cap run_share of tree live tripped",
        "300 GiB were to be deleted from tree `live`, and the cap allowed 200 GiB.
Until somebody acknowledges, retention deletes nothing there, and pressure only as much as flows in. Look at `storage-guard plan`; if it is right: `storage-guard cap acknowledge live run_share`.",
    );
    let mut orphans = sample(AlertName::CapTripped, Case::Only);
    orphans.facts.insert(FactName::Cap, Fact::Text("orphan_share".to_owned()));
    check(
        &orphans,
        "Cap orphan_share of tree live tripped",
        "300 GiB of tree `live` were to be deleted or set aside as orphans, and the cap allowed 200 GiB.
Nothing of it was done, and until somebody acknowledges, nothing is deleted or set aside there as an orphan. Look at `storage-guard orphans list live`, and whether its catalogue is right; if it is: `storage-guard cap acknowledge live orphan_share` permits one run.",
    );
    check(
        &sample(AlertName::ClockSuspect, Case::Only),
        "The clock is not trusted",
        "The time of day went back or jumped at 2023-11-14T22:13:20Z.
Nothing is deleted because of its age until it has run evenly for an hour. Check the time synchronisation of this machine.",
    );
    check(
        &sample(AlertName::DeliveryFailing, Case::Only),
        "Alerts are not delivered",
        "No channel has delivered a message for 7m.
What should be told waits in the outbox; the guard's log says why each attempt failed. Check the mail server, the webhook's address, and the network.",
    );
}

#[test]
fn growing_orphans_say_by_how_much_of_which_kind_and_where_to_begin() {
    let both = sample(AlertName::OrphansGrowing, Case::Only);
    let summary = "Orphans of tree live grow";
    let grown = "Within a day, what should not be in tree `live` grew by 18 GiB, while 190 GiB were recorded.";
    let forgotten = " No catalogue knows 1042 recordings, 23 GiB: somebody forgets what stays on disk.";
    let unfinished = " 37 unfinished files, 4 GiB, are left over.";
    let first = "\nFind which deletion says that it is done and deletes nothing. `storage-guard orphans list live` names them: look at some before you adopt, quarantine or delete any.";
    let second = "\nLook why recordings end unfinished. `storage-guard orphans list live --kind leftover` names them.";
    let without = |names: [FactName; 2]| {
        let mut out = both.clone();
        names.iter().for_each(|name| drop(out.facts.remove(name)));
        out
    };
    check(&both, summary, &format!("{grown}{forgotten}{unfinished}{first}{second}"));
    let forgotten_only = without([FactName::Leftovers, FactName::LeftoverBytes]);
    check(&forgotten_only, summary, &format!("{grown}{forgotten}{first}"));
    let unfinished_only = without([FactName::Uncatalogued, FactName::UncataloguedBytes]);
    check(&unfinished_only, summary, &format!("{grown}{unfinished}{second}"));
}

/// Why a catalogue may not be believed, each with the kinds for which the remedy differs.
fn distrusted() -> Vec<(CatalogueKind, Distrust)> {
    use CatalogueKind::{Frigate, Manifest, Wvp};
    let error = || "ECONNREFUSED".to_owned();
    let of = |kinds: &[CatalogueKind], why: Distrust| kinds.iter().map(|kind| (*kind, why.clone())).collect::<Vec<_>>();
    [
        of(&[Wvp], Distrust::NotYet),
        of(&[Wvp, Manifest], Distrust::Unanswered { error: error() }),
        of(&[Wvp, Manifest, Frigate], Distrust::Partial { error: error() }),
        of(&[Wvp, Frigate], Distrust::Shape { error: error() }),
        of(&[Wvp], Distrust::OtherServer { wanted: "zlm-1".to_owned(), found: vec!["zlm-2".to_owned()] }),
        of(&[Wvp], Distrust::Elsewhere { rows: 812, example: "/opt/media/record/a.mp4".to_owned() }),
        of(&[Wvp], Distrust::Empty { tree: TreeId::new("live"), files: 15_870 }),
        of(&[Wvp], Distrust::Dropped { lost: 9000, before: 16_003, allowed: Percent::new(30) }),
        of(&[Wvp], Distrust::Index { error: error() }),
    ]
    .concat()
}

/// One alert, one sentence that says what to do.
#[test]
fn a_catalogue_that_is_not_believed_says_why_what_follows_and_what_to_do() {
    let accept = "`storage-guard catalogue accept platform`";
    let own = "Let `media_server` name the entry of `media_servers` that bears the media server's own id (`mediaServerId`), and `url` the database that it writes to; if it is right as it is now: ";
    let map = "Let `path_map` say where the directories of the media server are on this machine; if it is right as it is now: ";
    let rows = "Bring the rows back, or name the database or file that has them; only if these recordings are meant to be unknown, ";
    let dropped = "Bring the rows back; only if somebody removed them on purpose, ";
    let expected = [
        ("it was not read yet", "It is read again by itself.".to_owned()),
        (
            "it does not answer: ECONNREFUSED",
            "Start the database, or mend the way to it, and the user and password in the configuration; it is read again by itself.".to_owned(),
        ),
        (
            "it does not answer: ECONNREFUSED",
            "See that its file is there and that the guard may read it; it is read again by itself.".to_owned(),
        ),
        (
            "it answered in part: ECONNREFUSED",
            "What was read is not used: look in the database's log, its load and the network for what ends the reading; it is read again by itself.".to_owned(),
        ),
        (
            "it answered in part: ECONNREFUSED",
            "What was read is not used: let whoever writes the file end it with `# end COUNT`, and put it in place whole, by renaming.".to_owned(),
        ),
        (
            "it answered in part: ECONNREFUSED",
            "What was read is not used: look for what ends the reading; it is read again by itself.".to_owned(),
        ),
        (
            "it is not what it should be: ECONNREFUSED",
            "Let `url` name the database of WVP, and let its user read the table `wvp_cloud_record`.".to_owned(),
        ),
        ("it is not what it should be: ECONNREFUSED", "Let `file` name the file that is meant.".to_owned()),
        ("none of its rows is of media server `zlm-1`, all are of others: zlm-2", format!("{own}{accept}.")),
        (
            "none of its 812 rows lies in a tree that names it; one of them is `/opt/media/record/a.mp4`",
            format!("{map}{accept}."),
        ),
        (
            "it has no row for tree `live`, which holds 15870 recordings",
            format!("{rows}{accept}: all of them may then be called orphans."),
        ),
        (
            "at least 9000 of its 16003 rows are gone at once while their files are there, and no more than 30% may be",
            format!("{dropped}{accept}: their recordings may then be called orphans."),
        ),
        (
            "the guard's own copy of it cannot be used: ECONNREFUSED",
            "Give the disk of the guard's state room, and see to its permissions; the copy is made anew by itself."
                .to_owned(),
        ),
    ];
    let cases = distrusted();
    assert_eq!(cases.len(), expected.len());
    for ((kind, why), (because, remedy)) in cases.into_iter().zip(expected) {
        let said = format!(
            "Catalogue `platform` ({kind}) is not believed, because {because}. It was last believed at 2023-11-14T22:13:20Z, with 16000 rows.
Until it is again, no recording of `live`, `vod` is called an orphan or treated as one; what it protects stays protected, and cleaning under pressure goes on.
{remedy}"
        );
        check(&untrusted(kind, &why), "Catalogue platform is not trusted", &said);
        assert_eq!(remedy.contains("accept"), why.acceptable(), "{why}");
    }
    let mut never = untrusted(CatalogueKind::Wvp, &Distrust::NotYet);
    for name in [FactName::LastRead, FactName::Rows] {
        never.facts.remove(&name);
    }
    never.facts.insert(FactName::Trees, Fact::Names(Vec::new()));
    check(
        &never,
        "Catalogue platform is not trusted",
        "Catalogue `platform` (wvp) is not believed, because it was not read yet.
Until it is again, no recording is called an orphan or treated as one; what it protects stays protected, and cleaning under pressure goes on.
It is read again by itself.",
    );
}

/// Every reason there is, each in a condition that shows it.
fn reasons() -> Vec<Condition> {
    let bytes = Bytes::gib(7);
    let tree = || TreeId::new("live");
    let found = || "b-17".to_owned();
    let faults = [
        MarkerFault::Missing,
        MarkerFault::OnRoot,
        MarkerFault::Empty,
        MarkerFault::Unreadable(found()),
        MarkerFault::Unwritable(found()),
        MarkerFault::Garbled,
        MarkerFault::OtherState(found()),
        MarkerFault::OtherTree(found()),
        MarkerFault::OtherDirectory,
        MarkerFault::OtherFilesystem,
        MarkerFault::Incomparable(found()),
    ];
    let mut unusable = vec![
        Unusable::NotYet,
        Unusable::Failed("EIO".to_owned()),
        Unusable::TimedOut(Duration::from_secs(30)),
        Unusable::NoSize,
        Unusable::ReadOnly,
    ];
    let path = || "/data/record".to_owned();
    unusable.extend(Difference::ALL.iter().map(|of| Unusable::Replaced { path: path(), difference: *of }));
    unusable.extend(faults.map(|fault| Unusable::Marker { tree: "live".to_owned(), fault }));
    let endings = [
        Ending::Unbegun,
        Ending::ReachedLow,
        Ending::Unusable(Unusable::NoSize),
        Ending::Stopped { left: 41 },
        Ending::ProcessLost { tree: tree() },
        Ending::AllShared { shared: bytes, deleted: Bytes::gib(8) },
        Ending::PartlyShared { missing: bytes, shared: Bytes::gib(9) },
        Ending::Unexplained { missing: bytes },
        Ending::HeldOpen { open: bytes },
        Ending::Short { missing: bytes, inodes: 17, failed: 5 },
    ];
    let probes = [
        ProbeFault::NotWritten { tree: tree(), bytes, error: "ENOSPC".to_owned() },
        ProbeFault::NotDeleted { tree: tree(), error: "EPERM".to_owned() },
        ProbeFault::NotBack { tree: tree(), bytes, missing: Bytes::gib(6) },
    ];
    let with = |alert, case, name, reason: Reason| {
        let mut condition = sample(alert, case);
        condition.facts.insert(name, Fact::Reason(reason));
        condition
    };
    let blind = |why: &Unusable| with(AlertName::VolumeBlind, Case::Volume, FactName::Why, why.into());
    let late = |why: &Ending| with(AlertName::VolumePressure, Case::Late, FactName::LastRun, why.into());
    let stalled = |why: &Ending| with(AlertName::SpaceNotReclaimed, Case::Stalled, FactName::Why, why.into());
    let probe = |why: &ProbeFault| with(AlertName::SpaceNotReclaimed, Case::Probe, FactName::Why, why.into());
    let mut out: Vec<_> = unusable.iter().map(blind).collect();
    out.extend(endings.iter().flat_map(|why| [late(why), stalled(why)]));
    out.extend(probes.iter().map(probe));
    out.extend(distrusted().iter().map(|(kind, why)| untrusted(*kind, why)));
    out.extend(unreached().iter().map(unreachable));
    out
}

fn unreached() -> [Unreached; 3] {
    let error = || "b-17".to_owned();
    [Unreached::Unanswered { error: error() }, Unreached::Refused, Unreached::Garbled { error: error() }]
}

#[test]
fn a_media_server_that_cannot_be_asked_has_a_remedy_for_each_reason() {
    let remedies = ["Start it, or mend the way to it", "hold the media server's `api.secret`", "names the HTTP port"];
    for (why, remedy) in unreached().iter().zip(remedies) {
        let wording = Templates::strict(Language::English).wording(&unreachable(why));
        assert_eq!(wording.summary, "Media server zlm cannot be asked");
        let because = format!("since 2023-11-14T22:13:20Z, because {why}.");
        assert!(
            wording.description.contains(&because) && wording.description.contains(remedy),
            "{}",
            wording.description
        );
    }
}

#[test]
fn what_is_not_recorded_is_told_with_its_volume() {
    check(
        &sample(AlertName::RecordingStopped, Case::Only),
        "Recordings of media server zlm are stopped, so that the disk does not fill",
        "Media server `zlm` does not record 12 streams of low priority since 2023-11-14T22:13:20Z, among them `live/gate`, `live/yard`: \
volume `data` was beyond its critical mark. They are recorded again once it is below its low mark.
Give the volume room: more space, shorter retention, fewer streams. `storage-guard status` names all of them.",
    );
}

#[test]
fn a_broken_promise_names_streams_says_what_is_left_and_what_fits() {
    let broken = sample(AlertName::RetentionBroken, Case::Only);
    let summary = "Recordings of tree live went before their time";
    let why = "The volume was beyond its critical mark, and nothing else was left to delete.";
    let room = "What is promised on the volume does not fit at the inflow of the last day: there is room for 19d.\n";
    let advice = "Shorten `keep` where it matters least, lower the bit rate, or add space. `storage-guard status` says what is promised and what fits, `GET /api/v1/streams` lists the streams, the worst first. It is over once each of them has recorded for as long as it is promised again, or is promised less.";
    let said = format!(
        "12 streams of tree `live` have less left than their `keep` promises: `live/gate`, `live/yard` and others. {why} The worst reaches back 17d of 30d.\n{room}{advice}"
    );
    check(&broken, summary, &said);
    let mut one = broken;
    one.facts.remove(&FactName::Fits);
    one.facts.insert(FactName::Streams, Fact::Count(1));
    one.facts.insert(FactName::Names, Fact::Names(vec!["live/gate".to_owned()]));
    let said = format!(
        "1 stream of tree `live` has less left than its `keep` promises: `live/gate`. {why} The worst reaches back 17d of 30d.\n{advice}"
    );
    check(&one, summary, &said);
}

/// How a language shows the numbers and names of facts.
fn shown(facts: &Facts, language: Language, out: &mut Vec<String>) {
    for (name, fact) in facts {
        match fact {
            // Words of closed lists are said in the language, and checked by what is not left in English.
            Fact::Text(_) if *name == FactName::Difference => {}
            Fact::Text(text) => out.push(text.clone()),
            Fact::Bytes(bytes) => out.push(bytes.to_string()),
            Fact::Count(0) | Fact::Flag(_) => {}
            Fact::Count(count) => out.push(count.to_string()),
            Fact::Span(span) => out.push(match language {
                Language::English => show_duration(*span),
                Language::Chinese => show_duration(*span).replace('d', "天").replace('m', "分钟").replace('s', "秒"),
            }),
            Fact::Time(at) => out.push(at.to_string()),
            Fact::Names(names) => out.extend(names.iter().cloned()),
            Fact::Counts(counts) => out.extend(counts.iter().map(|(_, count)| count.to_string())),
            Fact::Sizes(sizes) => out.extend(sizes.iter().flat_map(|(name, bytes)| [name.clone(), bytes.to_string()])),
            Fact::Reason(reason) => shown(&reason.facts, language, out),
        }
    }
}

#[test]
fn each_language_tells_every_number_and_every_name() {
    for language in LANGUAGES {
        let templates = Templates::strict(language);
        for condition in samples().into_iter().chain(reasons()) {
            let wording = templates.wording(&condition);
            let said = format!("{}\n{}", wording.summary, wording.description);
            let mut expected = Vec::new();
            shown(&condition.facts, language, &mut expected);
            if condition.unreclaimed.files > 0 {
                expected.extend([condition.unreclaimed.files.to_string(), condition.unreclaimed.bytes.to_string()]);
            }
            match &condition.subject {
                Subject::Guard => {}
                Subject::Volume(name) => expected.push(name.to_string()),
                Subject::Tree(name) => expected.push(name.to_string()),
                Subject::Catalogue(name) => expected.push(name.to_string()),
                Subject::MediaServer(name) => expected.push(name.to_string()),
            }
            for part in expected {
                assert!(said.contains(&part), "`{part}` is not told, {language:?}: {said}");
            }
            assert!(!wording.description.is_empty() && !said.contains("\n\n"), "{said}");
        }
    }
}

/// The most ASCII words in a row that are no command, path or name in backticks.
fn english(text: &str) -> usize {
    let plain: String = text.split('`').step_by(2).collect::<Vec<_>>().join("，");
    let runs = plain.split(|c: char| !(c.is_ascii_alphabetic() || c == ' ' || c == '_' || c == '-'));
    runs.map(|run| run.split(' ').filter(|word| word.len() > 1).count()).max().unwrap_or(0)
}

#[test]
fn chinese_leaves_no_sentence_in_english() {
    let templates = Templates::strict(Language::Chinese);
    let mut conditions: Vec<_> = samples().into_iter().chain(reasons()).collect();
    for cause in Cause::ALL {
        let mut failing = sample(AlertName::DeletionFailing, Case::Only);
        failing.facts.insert(FactName::Causes, Fact::Counts(vec![(cause.to_string(), 1)]));
        let said = templates.wording(&failing).description;
        assert!(!said.contains(cause.as_str()), "{said}");
        conditions.push(failing);
    }
    for condition in conditions {
        let wording = templates.wording(&condition);
        for text in [wording.summary, wording.description] {
            assert!(english(&text) <= 2 && !text.is_ascii(), "{text}");
        }
    }
    assert_eq!(english("卷 data 被占满，it is full `and not this one`"), 3);
}

/// Numbers that change would make another message of the same alert.
#[test]
fn summaries_have_no_numbers() {
    for language in LANGUAGES {
        for condition in samples().into_iter().chain(reasons()) {
            let summary = Templates::strict(language).wording(&condition).summary;
            assert!(!summary.chars().any(|c| c.is_ascii_digit()), "{summary}");
        }
    }
}

/// Faults 106 and 107: what others chose neither ends a line, nor steers, nor is read as a template.
#[test]
fn names_and_details_stay_within_their_sentence() {
    const NASTY: &str = "d\r\nBcc: x@y\n\n\u{1b}[31m\u{202e}{{ 7 * 191 }}{% raw %}";
    fn spoil(facts: &mut Facts) {
        for fact in facts.values_mut() {
            match fact {
                Fact::Text(text) => NASTY.clone_into(text),
                Fact::Names(names) => names.iter_mut().for_each(|name| NASTY.clone_into(name)),
                Fact::Counts(counts) => counts.iter_mut().for_each(|(name, _)| NASTY.clone_into(name)),
                Fact::Sizes(sizes) => sizes.iter_mut().for_each(|(name, _)| NASTY.clone_into(name)),
                Fact::Reason(reason) => {
                    NASTY.clone_into(&mut reason.text);
                    spoil(&mut reason.facts);
                }
                Fact::Bytes(_) | Fact::Count(_) | Fact::Flag(_) | Fact::Span(_) | Fact::Time(_) => {}
            }
        }
    }
    for language in LANGUAGES {
        let templates = Templates::strict(language);
        for plain in samples().into_iter().chain(reasons()) {
            let mut nasty = plain.clone();
            spoil(&mut nasty.facts);
            nasty.subject = match &plain.subject {
                Subject::Guard => Subject::Guard,
                Subject::Volume(_) => Subject::Volume(VolumeId::new(NASTY)),
                Subject::Tree(_) => Subject::Tree(TreeId::new(NASTY)),
                Subject::Catalogue(_) => Subject::Catalogue(CatalogueId::new(NASTY)),
                Subject::MediaServer(_) => Subject::MediaServer(MediaServerId::new(NASTY)),
            };
            let now = Timestamp::default();
            let body = Body::new("alert.firing", &nasty, now, now, &templates).data;
            let lines = |text: &str| text.lines().count();
            assert_eq!(lines(&body.description), lines(&templates.wording(&plain).description), "{}", body.description);
            for text in [body.summary.as_str(), &body.description] {
                let harmless = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
                assert!(text.chars().all(harmless) && !text.contains("1337"), "{text}");
            }
            assert!(!body.summary.contains('\n'), "{}", body.summary);
        }
    }
}

#[test]
fn a_test_message_names_its_channel() {
    let check = |language, expected: &str| {
        assert_eq!(Templates::strict(language).wording_of_test("a\nb").summary, expected);
    };
    check(Language::English, "storage-guard tries the channel `a b`");
    check(Language::Chinese, "storage-guard 正在测试通知渠道 `a b`");
}
