//! `check` and `init`: before the guard runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::args::Place;
use super::exit::{Failure, complain, print};
use super::promises;
use super::source::{configuration, flags};
use crate::config;
use crate::daemon::{self, Marked};
use crate::store::{OpenStateError, StateDir, StateError, open_state};
use crate::system::{Isolating, SystemClock};

/// `check`.
pub(super) fn check(place: &Place, environment: bool) -> Result<(), Failure> {
    let config = match (&place.config, place.trees.is_empty()) {
        (Some(file), true) => {
            let all = |problems: Vec<config::Problem>| {
                Failure::Configuration(problems.iter().map(ToString::to_string).collect())
            };
            let mut config = config::load(file, &|name| std::env::var(name).ok()).map_err(all)?;
            config::apply_flags(&mut config, &flags(place)).map_err(all)?;
            config
        }
        _ => configuration(place)?,
    };
    for text in &config.dormant {
        complain(text);
    }
    let mut problems = daemon::template_problems(&config.notify);
    if environment {
        problems.extend(config::check_environment(&config));
        let advice = daemon::examine_media_servers(&config);
        advice.notes.iter().try_for_each(|note| print(&format!("{note}\n")))?;
        let machine = Isolating::new(None, Arc::new(SystemClock));
        let archives = daemon::examine_archives(&config, &machine, StateDir::id_of(&config.state).ok().as_deref());
        archives.notes.iter().try_for_each(|note| print(&format!("{note}\n")))?;
        archives.warnings.iter().for_each(|text| complain(text));
        problems.extend(archives.problems);
        // The guard runs all the same, and keeps what it can: no reason to refuse the configuration.
        promises::unfit(&config).iter().for_each(|text| complain(text));
        problems.extend(advice.problems);
    }
    if !problems.is_empty() {
        return Err(Failure::Configuration(problems));
    }
    let trees = config.trees.len();
    let name = config.file.as_ref().map_or_else(|| "the configuration".to_owned(), |file| file.display().to_string());
    let noun = if trees == 1 { "tree" } else { "trees" };
    let other = config.trees.iter().filter(|tree| tree.policy.mode != config.mode);
    let other: Vec<String> = other.map(|tree| format!("; {}: {}", tree.name, tree.policy.mode.as_str())).collect();
    print(&format!("{name} is in order: {trees} {noun}, mode {}{}\n", config.mode.as_str(), other.concat()))
}

/// `init`.
pub(super) fn init(place: &Place, accept: bool, names: &[String]) -> Result<(), Failure> {
    let config = configuration(place)?;
    let names: BTreeSet<String> = names.iter().cloned().collect();
    if let Some(unknown) = names.iter().find(|name| !config.trees.iter().any(|tree| tree.name.as_str() == *name)) {
        let known: Vec<&str> = config.trees.iter().map(|tree| tree.name.as_str()).collect();
        return Err(Failure::Usage(format!("there is no tree `{unknown}`; there are: {}", known.join(", "))));
    }
    // A running guard has the state; then only its id is read, and the guard takes note of the markers itself.
    let (id, journal, state) = match open_state(&config.state) {
        Ok(opened) => (opened.dir.id().to_owned(), Some(opened.journal), Some(opened.dir)),
        Err(OpenStateError::Dir(StateError::Locked { path, .. })) => (StateDir::id_of(&path)?, None, None),
        Err(error) => return Err(error.into()),
    };
    let lost = |tree: &crate::domain::names::TreeId| {
        journal.as_ref().is_some_and(|journal| journal.with_history(|history| history.marked.contains(tree)))
    };
    let mut refused = false;
    let machine = Isolating::new(state.as_ref().map(|state| state.path()), Arc::new(SystemClock));
    for (tree, marked) in daemon::init(&config, &machine, &id, &names, accept, &lost)? {
        match marked {
            Marked::Already => print(&format!("tree {tree}: bears the marker of this guard already\n"))?,
            Marked::Written => print(&format!("tree {tree}: the marker was written\n"))?,
            Marked::Refused(why) => {
                refused = true;
                complain(&format!(
                    "tree {tree}: the marker {why}; if this is the right disk: `storage-guard init --accept {tree}`"
                ));
            }
        }
    }
    if refused { Err(Failure::Said(5)) } else { Ok(()) }
}
