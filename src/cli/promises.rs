//! Whether the disks can hold what a configuration promises: part of `check --environment`.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::source::{scanning, spinner};
use crate::config::Config;
use crate::daemon::{Catalogues, Guard, Hub, Parts};
use crate::domain::retention::Mode;
use crate::store::Journal;
use crate::system::{Isolating, Kernel, ProcHolders, SystemClock, survive_lease_breaks};

/// Looks through all trees, and says of each volume whose promises do not fit what does. What cannot be opened or read is said by the rest
/// of the check, and says nothing here.
pub(super) fn unfit(config: &Config) -> Vec<String> {
    let promised = config.trees.iter().flat_map(|tree| &tree.policy.retention).any(|rule| !rule.keep.is_zero());
    if !promised {
        return Vec::new();
    }
    survive_lease_breaks();
    // Asked here, so that every thread finds the answer.
    let _ = Kernel::current();
    let clock = Arc::new(SystemClock);
    // Nothing is written, and the state belongs to the guard that may be running.
    let journal = Arc::new(Journal::detached(&config.state.join("journal")));
    let hub = Hub::new(journal.clone(), clock.clone());
    let Ok(catalogues) = Catalogues::none() else { return Vec::new() };
    let parts = Parts {
        machine: Arc::new(Isolating::new(None, clock.clone())),
        clock,
        holders: Arc::new(ProcHolders),
        journal,
        state: "".into(),
        events: Arc::new(|_| ()),
        brake: Arc::default(),
        catalogues: Arc::new(catalogues),
        live: hub.live.clone(),
        writes: false,
        patient: true,
        running: false,
    };
    // Only looked at: the markers are those of the guard that may be running, or are not written yet.
    let mut config = config.clone();
    config.trees.iter_mut().for_each(|tree| tree.policy.mode = Mode::Observe);
    let Ok(mut guard) = Guard::open(&config, &parts) else { return Vec::new() };
    let bar = spinner();
    let views = guard.look(&mut |policy, at| {
        scanning(&bar, &policy.tree, at.files, at.directories);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let Ok(views) = views else { return Vec::new() };
    let unfit = views.iter().filter_map(|view| Some((view, view.promises().filter(|promises| !promises.fit())?)));
    unfit.map(|(view, promises)| format!("volume {}: {}", view.name, promises.sentence())).collect()
}
