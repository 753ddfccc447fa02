use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

/// A file that is proven to be an orphan, and not by a second too much.
fn proven(kind: OrphanKind) -> Facts {
    let facts = Facts {
        kind,
        touched: now().minus(DAY),
        first_seen: now().minus(DAY),
        scan_started: now(),
        as_of: Some(now()),
        asked: Some(now()),
        all_trusted: true,
        grace: DAY,
        longest_slice: HOUR,
        opened: Some(false),
        undrained: false,
        live: true,
        recorder: Recorder::Unknown,
        newest: Some(now()),
        clock_trusted: true,
    };
    match kind {
        OrphanKind::Uncatalogued => facts,
        OrphanKind::Leftover => {
            Facts { first_seen: now().minus(MARGIN), as_of: None, asked: None, all_trusted: false, ..facts }
        }
    }
}

/// What is wanted once the facts are changed.
fn check(kind: OrphanKind, change: impl FnOnce(&mut Facts), wanted: &[Witness]) {
    let mut facts = proven(kind);
    change(&mut facts);
    let verdict = judge(&facts);
    assert_eq!(verdict.wanted, wanted, "{facts:?}");
    assert_eq!(verdict.proven(), wanted.is_empty());
    assert_eq!(verdict.why_not().is_none(), wanted.is_empty());
    let mut all = [verdict.witnesses, verdict.wanted].concat();
    all.sort_unstable();
    match kind {
        OrphanKind::Uncatalogued => assert_eq!(all, Witness::ALL),
        OrphanKind::Leftover => {
            use Witness::{Age, Clock, Grammar, TwoScans, Unopened};
            assert_eq!(all, [Age, TwoScans, Unopened, Grammar, Clock]);
        }
    }
}

/// Faults 76 and 89, and D17 of the peers.
#[test]
fn an_uncatalogued_file_is_proven_by_all_witnesses_together_and_by_none_less() {
    let check = |change: fn(&mut Facts), wanted: &[Witness]| check(OrphanKind::Uncatalogued, change, wanted);
    check(|_| (), &[]);
    check(|f| f.as_of = None, &[Witness::Catalogue, Witness::Age]);
    check(|f| f.asked = f.asked.map(|at| at.minus(SECOND)), &[Witness::TwoScans]);
    check(|f| f.asked = None, &[]);
    check(|f| f.all_trusted = false, &[Witness::Catalogue]);
    check(|f| f.as_of = f.as_of.map(|at| at.minus(SECOND)), &[Witness::Age]);
    check(|f| f.touched = f.touched.plus(SECOND), &[Witness::Age, Witness::StreamIdle]);
    check(|f| (f.touched, f.live) = (f.touched.plus(SECOND), false), &[Witness::Age]);
    check(|f| f.first_seen = f.first_seen.plus(SECOND), &[Witness::TwoScans]);
    check(|f| f.opened = Some(true), &[Witness::Unopened]);
    check(|f| f.opened = None, &[Witness::Unopened]);
    check(|f| f.undrained = true, &[Witness::HooksDrained]);
    check(|f| f.newest = f.newest.map(|at| at.minus(SECOND)), &[Witness::StreamIdle]);
    check(|f| f.newest = None, &[Witness::StreamIdle]);
    check(|f| (f.newest, f.live) = (None, false), &[]);
    check(|f| f.clock_trusted = false, &[Witness::Clock]);
    check(|f| f.grace += SECOND, &[Witness::Age, Witness::TwoScans]);
}

/// Faults 34 and 35.
#[test]
fn a_leftover_needs_no_catalogue_but_the_age_of_the_longest_slice() {
    let check = |change: fn(&mut Facts), wanted: &[Witness]| check(OrphanKind::Leftover, change, wanted);
    check(|_| (), &[]);
    check(|f| f.touched = f.touched.plus(SECOND), &[Witness::Age]);
    check(|f| f.grace = HOUR, &[]);
    check(|f| (f.grace, f.longest_slice) = (HOUR, DAY - MARGIN), &[]);
    check(|f| (f.grace, f.longest_slice) = (HOUR, DAY - MARGIN + SECOND), &[Witness::Age]);
    check(|f| f.first_seen = f.first_seen.plus(SECOND), &[Witness::TwoScans]);
    check(|f| (f.first_seen, f.grace) = (f.scan_started.minus(SECOND), SECOND), &[]);
    check(|f| (f.first_seen, f.grace) = (f.scan_started.minus(SECOND), 2 * SECOND), &[Witness::TwoScans]);
    check(|f| (f.first_seen, f.grace) = (f.scan_started, Duration::ZERO), &[Witness::TwoScans]);
    check(|f| f.opened = Some(true), &[Witness::Unopened]);
    check(|f| f.opened = None, &[Witness::Unopened]);
    check(|f| f.clock_trusted = false, &[Witness::Clock]);
    check(|f| (f.live, f.undrained, f.newest) = (true, true, None), &[]);
}

/// Fault 35: a media server that was killed leaves a file that nobody will finish, and says so once it is asked.
#[test]
fn a_leftover_whose_recorder_has_ceased_waits_for_the_grace_alone() {
    let wanted = |recorder, age: Duration| {
        let touched = now().minus(age);
        let facts = Facts { recorder, touched, first_seen: touched, grace: MARGIN, ..proven(OrphanKind::Leftover) };
        judge(&facts).wanted
    };
    let whole = HOUR + MARGIN;
    assert_eq!(wanted(Recorder::Ceased, MARGIN), []);
    assert_eq!(wanted(Recorder::Ceased, MARGIN - SECOND), [Witness::Age, Witness::TwoScans]);
    assert_eq!(wanted(Recorder::Unknown, whole), []);
    assert_eq!(wanted(Recorder::Unknown, whole - SECOND), [Witness::Age]);
    assert_eq!(wanted(Recorder::Records, whole), [Witness::StreamIdle]);
    assert_eq!(wanted(Recorder::Records, whole - SECOND), [Witness::Age, Witness::StreamIdle]);
    assert_eq!(wanted(Recorder::Records, DAY), []);
    let told = judge(&Facts { recorder: Recorder::Records, touched: now(), ..proven(OrphanKind::Leftover) }).why_not();
    assert!(told.is_some_and(|told| told.contains("its stream writes now")));
}

#[test]
fn one_scan_is_never_two_and_the_future_is_never_old() {
    for kind in OrphanKind::ALL {
        let once = |f: &mut Facts| (f.grace, f.first_seen) = (Duration::ZERO, f.scan_started);
        check(*kind, once, &[Witness::TwoScans]);
        let mut facts = Facts { touched: now().plus(DAY), grace: Duration::ZERO, ..proven(*kind) };
        (facts.longest_slice, facts.live) = (Duration::ZERO, false);
        assert_eq!(judge(&facts).wanted, [Witness::Age]);
    }
}

#[test]
fn every_verdict_can_be_told() {
    assert_eq!(Verdict::default().why_not().as_deref(), Some("It is not proven: it was not judged yet."));
    let facts = Facts { opened: None, clock_trusted: false, ..proven(OrphanKind::Leftover) };
    let told = judge(&facts).why_not();
    let expected = "It is not proven: somebody has it open, or nobody can tell; the clock is not trusted.";
    assert_eq!(told.as_deref(), Some(expected));
    for witness in Witness::ALL {
        assert!(!witness.want().ends_with('.'));
    }
}

fn moments() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => (0..4 * 86_400_i64).prop_map(|secs| now().plus(Duration::from_secs(secs.unsigned_abs()))),
        1 => any::<i64>().prop_map(Timestamp::from_millis),
    ]
}

fn spans() -> impl Strategy<Value = Duration> {
    prop_oneof![8 => (0..2 * 86_400_u64).prop_map(Duration::from_secs), 1 => any::<u32>().prop_map(|s| SECOND * s)]
}

prop_compose! {
    fn facts()(
        kind in proptest::sample::select(OrphanKind::ALL),
        (touched, first_seen, scan_started) in (moments(), moments(), moments()),
        (as_of, newest) in (proptest::option::weighted(0.9, moments()), proptest::option::weighted(0.9, moments())),
        asked in proptest::option::weighted(0.5, moments()),
        (grace, longest_slice) in (spans(), spans()),
        opened in proptest::option::weighted(0.9, proptest::bool::weighted(0.1)),
        (undrained, live) in (proptest::bool::weighted(0.1), any::<bool>()),
        recorder in proptest::sample::select([Recorder::Unknown, Recorder::Records, Recorder::Ceased].to_vec()),
        (all_trusted, clock_trusted) in (proptest::bool::weighted(0.9), proptest::bool::weighted(0.9)),
    ) -> Facts {
        Facts {
            kind, touched, first_seen, scan_started, as_of, asked, all_trusted, grace, longest_slice, opened, undrained, live,
            recorder, newest, clock_trusted,
        }
    }
}

/// The same facts with one of them worse.
fn worse(facts: &Facts, which: usize, by: Duration) -> Facts {
    let mut f = *facts;
    match which {
        0 => f.touched = f.touched.plus(by),
        1 => f.first_seen = f.first_seen.plus(by),
        2 => f.scan_started = f.scan_started.minus(by),
        3 => (f.as_of, f.asked) = (f.as_of.map(|at| at.minus(by)), f.asked.map(|at| at.minus(by))),
        4 => f.as_of = None,
        5 => f.all_trusted = false,
        6 => f.grace = f.grace.saturating_add(by),
        7 => f.longest_slice = f.longest_slice.saturating_add(by),
        8 => f.opened = Some(true),
        9 => f.opened = None,
        10 => f.undrained = true,
        11 => f.live = true,
        12 => f.newest = f.newest.map(|at| at.minus(by)),
        13 => f.newest = None,
        14 => f.clock_trusted = false,
        _ => {
            f.recorder = match f.recorder {
                Recorder::Ceased => Recorder::Unknown,
                Recorder::Unknown | Recorder::Records => Recorder::Records,
            }
        }
    }
    f
}

proptest! {
    #[test]
    fn what_is_proven_fulfils_every_condition(f in facts()) {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap();
        let before = |a: Timestamp, span: Duration, b: Timestamp| i128::from(a.millis()) + i128::from(millis(span)) <= i128::from(b.millis());
        let common = f.first_seen < f.scan_started && f.opened == Some(false) && f.clock_trusted;
        let all = common && match f.kind {
            OrphanKind::Uncatalogued => {
                let old = f.as_of.is_some_and(|as_of| before(f.touched, f.grace, as_of));
                let idle = !f.live || f.newest.is_some_and(|newest| before(f.touched, DAY, newest));
                let spoke = f.asked.is_none_or(|asked| before(f.first_seen, f.grace, asked));
                old && idle && f.all_trusted && !f.undrained && spoke && before(f.first_seen, f.grace, f.scan_started)
            }
            OrphanKind::Leftover => {
                let finished = f.recorder == Recorder::Ceased
                    || before(f.touched, f.longest_slice + MARGIN, f.scan_started);
                let idle = f.recorder != Recorder::Records || before(f.touched, DAY, f.scan_started);
                let old = before(f.touched, f.grace, f.scan_started) && finished && idle;
                old && (before(f.first_seen, f.grace, f.scan_started) || before(f.first_seen, MARGIN, f.scan_started))
            }
        };
        prop_assert_eq!(judge(&f).proven(), all);
    }

    #[test]
    fn what_is_worse_proves_nothing(f in facts(), which in 0_usize..16, by in spans()) {
        let worse = worse(&f, which, by);
        prop_assert!(judge(&f).proven() || !judge(&worse).proven(), "{:?}", worse);
    }

    #[test]
    fn what_is_worse_takes_a_proof_away_or_leaves_it(kind in proptest::sample::select(OrphanKind::ALL), which in 0_usize..16) {
        let worse = judge(&worse(&proven(kind), which, 2 * DAY));
        let needless = match kind {
            OrphanKind::Uncatalogued => matches!(which, 7 | 11 | 15),
            OrphanKind::Leftover => matches!(which, 3 | 4 | 5 | 10 | 11 | 12 | 13 | 15),
        };
        prop_assert_eq!(worse.proven(), needless);
    }
}
