//! What no command of the guard does by itself: quarantine, its end, and the way back, done by this test program as a process of its own,
//! so that each of its calls can fail or be its last.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use storage_guard::domain::deletion::{Attempt, RuleKind, Seq, Target};
use storage_guard::domain::journal::{GUARD, Intent};
use storage_guard::domain::layout::Layout;
use storage_guard::domain::names::TreeId;
use storage_guard::domain::retention::TreePolicy;
use storage_guard::domain::settings::Cleanup;
use storage_guard::reclaim::{Brake, Engine, TreeHandle, Trees, settle};
use storage_guard::scan::scan;
use storage_guard::store::Journal;
use storage_guard::system::{GuardedTree, SystemClock, survive_lease_breaks};
use storage_guard::testkit::{FakeHolders, policy};

use crate::quarantine::expire;

/// The first word of such a command.
pub(super) const WORD: &str = "operation";
/// What the process is told, and where.
const WHAT: &str = "STORAGE_GUARD_OPERATION";
const TREE: &str = "STORAGE_GUARD_OPERATION_TREE";
const STATE: &str = "STORAGE_GUARD_OPERATION_STATE";

/// Lets the test program do it.
pub(super) fn arguments<'a>(command: &'a mut Command, what: &str, tree: &Path, state: &Path) -> &'a mut Command {
    command
        .args(["--exact", "matrix::operation::process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(WHAT, what)
        .env(TREE, tree)
        .env(STATE, state)
}

#[test]
#[ignore = "a process of the matrix"]
#[expect(clippy::print_stderr, reason = "whoever started the process reads what it says")]
fn process() {
    let (Ok(what), Some(tree), Some(state)) = (std::env::var(WHAT), std::env::var_os(TREE), std::env::var_os(STATE))
    else {
        return;
    };
    match operate(&what, Path::new(&tree), Path::new(&state)) {
        Ok(true) => std::process::exit(0),
        Ok(false) => std::process::exit(4),
        Err(error) => {
            eprintln!("{what}: {error}");
            std::process::exit(1);
        }
    }
}

/// Settles, and then does it with all that there is; whether nothing is left to do.
fn operate(what: &str, top: &Path, state: &Path) -> Result<bool, Box<dyn Error>> {
    survive_lease_breaks();
    if let Some(what) = what.strip_prefix("cold ") {
        return super::cold::operate(what, top);
    }
    let tree = TreeId::new("live");
    let policy = TreePolicy {
        layout: Layout::parse("zlmediakit", &[], jiff::tz::TimeZone::system())?,
        min_age: Duration::from_secs(600),
        ..policy("live", "zlmediakit")
    };
    let engine = Engine {
        journal: Arc::new(Journal::open(&state.join("journal"))?.journal),
        clock: Arc::new(SystemClock),
        holders: Arc::new(FakeHolders::default()),
        events: Arc::new(|_| ()),
        cleanup: Cleanup { batch_files: 3, pause: Duration::ZERO, ..Cleanup::default() },
        brake: Arc::new(Brake::default()),
    };
    let dir = Arc::new(GuardedTree::open(top)?);
    let looked = || {
        let mut go_on = |_| std::ops::ControlFlow::Continue(());
        scan(dir.as_ref(), &tree, &policy.layout, &policy.protect, &SystemClock, &mut go_on)
            .map_err(|_| "the scan was ended")
    };
    let before = looked()?;
    let handle = TreeHandle {
        dir: dir.clone(),
        policy: Arc::new(policy.clone()),
        may_share: false,
        leases: true,
        sighted: std::sync::Arc::new(|_| false),
        sighted_units: std::collections::BTreeSet::new(),
        beside: before.passed_over.beside.clone(),
        favourites: Arc::default(),
        holds: Arc::default(),
        proven: Arc::new(|_| Ok(())),
    };
    let trees = Trees::from([(tree.clone(), handle)]);
    let left = settle(&engine, &trees)?.left;
    let found = looked()?;
    let known: Vec<Seq> = engine.journal.with_history(|history| history.quarantined.keys().copied().collect());
    let done = match what {
        "quarantine" => {
            // Of `live/c` everything stays.
            let seen = found.files().filter(|seen| found.stream(seen.stream).as_str() != "live/c");
            let intents: Vec<Intent> = seen
                .map(|seen| {
                    let (path, stream) = (found.path(seen.index), found.stream(seen.stream).as_str());
                    let target = Target::of(&tree, path, stream, &seen, RuleKind::Quarantine, "unknown".to_owned());
                    Intent { target, who: GUARD.to_owned(), job: None, run: 1, retry_of: None }
                })
                .collect();
            let mut done = true;
            for some in intents.chunks(3) {
                let settled = engine.batch(&trees, some.to_vec(), &|| false)?;
                done &= settled.iter().all(|one| one.attempt.is_quarantined());
            }
            done
        }
        "expire" => {
            let settled = expire(&engine, &trees, &known, GUARD)?;
            settled.iter().all(|one| matches!(one.attempt, Attempt::Verified { .. } | Attempt::AlreadyGone))
        }
        "restore" => engine.restore(&trees, &known, "ops")?.iter().all(|(_, back)| back.is_ok()),
        other => return Err(format!("there is no operation `{other}`").into()),
    };
    Ok(done && left.is_empty())
}
