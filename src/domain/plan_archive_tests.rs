//! In a tree with an archive nothing goes without a copy, unless the volume is critical.

use proptest::prelude::*;

use super::tests::{HOUR, NOW, found, policy, rule};
use super::*;
use crate::domain::archive::{ArchiveTerms, ArchivedCopy, Digest};
use crate::domain::limits::Allowance;
use crate::domain::names::ArchiveId;
use crate::domain::recording::{FileIdentity, InventoryBuilder, Sighting};
use crate::domain::status::PlanBasis;
use crate::domain::units::Timestamp;

/// What a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    No,
    Yes,
    /// It was verified hours ago, and not looked at since.
    Unsure,
    /// It was brought back so many hours ago.
    Back(i64),
}
use Copied::{Back, No, Unsure, Yes};

/// Recordings of one GiB of one stream, by their ages in hours; copies are due after ten hours.
fn facts(files: &[(i64, Copied)], mut policy: TreePolicy) -> TreeFacts {
    let at = |hours: i64| Timestamp::from_secs(NOW - hours * HOUR);
    let mut builder = InventoryBuilder::new(policy.tree.clone(), at(0));
    let top = builder.top();
    for (index, (age, _)) in files.iter().enumerate() {
        let identity = FileIdentity {
            inode: index as u64 + 1,
            links: 1,
            allocated: Bytes::GIB,
            modified: at(*age).millis() * 1_000_000,
            ..FileIdentity::default()
        };
        let name = format!("{index:04}.mp4");
        builder.file(
            top,
            &Sighting {
                name: name.as_bytes(),
                stream: "cam",
                kind: Kind::Recording,
                named: Some(at(*age)),
                identity: &identity,
            },
        );
    }
    let after = Duration::from_secs(10 * 3600);
    let max_age = policy.archive.as_ref().and_then(|terms| terms.max_age);
    policy.archive = Some(ArchiveTerms { archive: ArchiveId::new("cold"), after, max_age, directory: None });
    let mut facts = found(builder, policy);
    let mut archived = ArchivedOf::default();
    for (seen, (age, copied)) in facts.inventory.files().zip(files) {
        let restored = match copied {
            No => continue,
            Yes | Unsure => None,
            Back(hours) => Some(at(*hours)),
        };
        archived.insert(Arc::new(ArchivedCopy {
            archive: ArchiveId::new("cold"),
            tree: TreeId::new("live"),
            path: facts.inventory.path(seen.index),
            stream: "cam".to_owned(),
            recorded: at(*age),
            size: 1,
            digest: Digest([0; 32]),
            verified: if *copied == Unsure { at(2) } else { at(0) },
            source: (seen.inode, seen.fingerprint),
            restored,
        }));
    }
    facts.archived = Arc::new(archived);
    facts
}

fn run(facts: TreeFacts, gib: u64, critical: bool) -> Plan {
    let target = Deficit { bytes: Bytes::gib(gib), inodes: 0, critical };
    plan(&VolumeId::new("v"), vec![facts], target, &Moment::trusted(Timestamp::from_secs(NOW)))
}

fn age(plan: &Plan, file: FileIndex) -> i64 {
    (NOW - plan.trees[0].inventory.get(file).recorded().secs()) / HOUR
}

/// Ages of what goes, and by which rule; of what is to be copied, and whether that is urgent; GiB that wait for a copy.
type Expected<'a> = (&'a [(i64, RuleKind)], &'a [(i64, bool)], u64);

fn check(files: &[(i64, Copied)], policy: TreePolicy, gib: u64, critical: bool, expected: Expected<'_>) {
    let plan = run(facts(files, policy), gib, critical);
    let goes: Vec<_> = plan.items.iter().map(|item| (age(&plan, item.file), item.rule)).collect();
    let copied: Vec<_> = plan.to_archive.iter().map(|one| (age(&plan, one.file), one.urgent)).collect();
    let pending = Spared::sum(&plan.spared, SparedReason::ArchivePending).bytes;
    assert_eq!(
        (goes.as_slice(), copied.as_slice(), pending),
        (expected.0, expected.1, Bytes::gib(expected.2)),
        "{files:?} {gib} {critical}"
    );
}

#[test]
fn what_is_due_is_copied_and_what_has_a_copy_goes() {
    use RuleKind::{Archived, Pressure, Unarchived};
    let plain = || policy(vec![]);
    check(&[(30, No), (20, No), (5, No), (3, No)], plain(), 0, false, (&[], &[(30, false), (20, false)], 2));
    check(&[(30, Yes), (20, No), (5, No), (3, No)], plain(), 0, false, (&[(30, Archived)], &[(20, false)], 1));
    // Pressure takes what has a copy, and lets the next be copied at once, due or not; the newest of a live stream stays.
    check(
        &[(30, Yes), (20, No), (5, No), (4, No), (3, No)],
        plain(),
        3,
        false,
        (&[(30, Archived)], &[(20, true), (5, true)], 2),
    );
    // What copies will give back is enough: no more is copied for it.
    check(&[(8, No), (7, No), (6, No), (3, No)], plain(), 2, false, (&[], &[(8, true), (7, true)], 2));
    // Beyond the critical mark it goes without.
    check(&[(30, Yes), (20, No), (5, No), (3, No)], plain(), 2, true, (&[(30, Archived), (20, Unarchived)], &[], 0));
    // A copy that nobody looked at for long is as good as none until somebody did.
    check(&[(30, Unsure), (20, Yes), (3, No)], plain(), 1, false, (&[(20, Archived)], &[(30, false)], 1));
    // What was brought back lately goes only for its space, and before what has no copy.
    check(&[(30, Back(2)), (20, No), (3, No)], plain(), 0, false, (&[], &[(20, false)], 1));
    check(&[(30, Back(2)), (20, No), (3, No)], plain(), 1, false, (&[(30, Pressure)], &[(20, false)], 1));
    check(&[(30, Back(11)), (20, Yes), (3, No)], plain(), 0, false, (&[(30, Archived), (20, Archived)], &[], 0));
}

#[test]
fn retention_waits_for_the_copy_and_what_the_archive_would_not_keep_needs_none() {
    use RuleKind::{Archived, MaxAge};
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let by_age = || policy(vec![Rule { max_age: Some(hours(15)), ..rule("**") }]);
    check(
        &[(30, No), (20, Yes), (12, No), (3, No)],
        by_age(),
        0,
        false,
        (&[(20, Archived)], &[(30, true), (12, false)], 2),
    );
    check(&[(30, Back(1)), (3, No)], by_age(), 0, false, (&[], &[], 0));
    let mut short = by_age();
    short.archive = Some(ArchiveTerms {
        archive: ArchiveId::new("cold"),
        after: hours(10),
        max_age: Some(hours(25)),
        directory: None,
    });
    check(&[(30, No), (20, No), (3, No)], short, 0, false, (&[(30, MaxAge)], &[(20, true)], 1));
    // What is kept for its stream is copied when it is due, and not sooner for pressure.
    let kept = || policy(vec![Rule { keep: hours(25), ..rule("**") }]);
    check(&[(30, No), (20, No), (5, No), (3, No)], kept(), 3, false, (&[], &[(30, true), (20, false)], 1));
}

#[test]
fn a_cap_keeps_what_has_a_copy_and_counts_it_as_wanted() {
    let files = [(30, Yes), (28, Yes), (26, Yes), (3, No)];
    let check = |allowed: u64, gib: u64, goes: &[RuleKind], wanted: &[u64]| {
        let basis = PlanBasis {
            trees: vec![facts(&files, policy(vec![]))],
            target: Deficit { bytes: Bytes::gib(gib), inodes: 0, critical: false },
            allowances: vec![Allowance { retention: Bytes::gib(allowed), pressure: Bytes::gib(allowed) }],
            skew: crate::domain::clock_watch::Skew::NONE,
            retention: true,
            open: vec![true],
            window: None,
        };
        let (plan, over) = basis.plan(&VolumeId::new("v"), Timestamp::from_secs(NOW));
        let rules: Vec<RuleKind> = plan.items.iter().map(|item| item.rule).collect();
        let over: Vec<u64> = over.iter().map(|(_, bytes)| bytes.0 / Bytes::GIB.0).collect();
        assert_eq!((rules.as_slice(), over.as_slice()), (goes, wanted), "{allowed} {gib}");
    };
    check(3, 0, &[RuleKind::Archived; 3], &[]);
    check(2, 0, &[], &[3]);
    // For its space it goes as far as the cap allows.
    check(2, 2, &[RuleKind::Pressure; 2], &[3]);
}

proptest! {
    /// Whatever is copied, wanted and promised.
    #[test]
    fn nothing_goes_without_a_copy_before_the_volume_is_critical(
        files in prop::collection::vec((0_i64..60, prop_oneof![Just(No), Just(Yes), Just(Unsure), (0_i64..20).prop_map(Back)]), 1..40),
        gib in 0_u64..40,
        critical: bool,
        max_age in prop::option::of(1_u64..50),
        keep in 0_u64..40,
        budget in prop::option::of(1_u64..30),
    ) {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let mut policy = policy(vec![Rule { max_age: max_age.map(hours), keep: hours(keep), ..rule("**") }]);
        policy.budget = budget.map(Bytes::gib);
        let plan = run(facts(&files, policy), gib, critical);
        let moment = Moment::trusted(Timestamp::from_secs(NOW));
        let mut seen = HashSet::new();
        for item in &plan.items {
            prop_assert!(seen.insert(item.file), "twice in a plan");
            let copied = matches!(plan.trees[0].cold(&plan.recording(item), &moment), Cold::Copied | Cold::Restored);
            prop_assert!(copied || critical, "{:?} without a copy", item.rule);
        }
        for one in &plan.to_archive {
            prop_assert!(seen.insert(one.file), "it goes, or is to be copied twice");
            prop_assert!(matches!(plan.trees[0].cold(&plan.trees[0].inventory.get(one.file), &moment), Cold::Due | Cold::Young | Cold::RestoredUnsure));
        }
    }
}
