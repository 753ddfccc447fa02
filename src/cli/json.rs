//! What was seen, in the API's shapes.

use crate::daemon::{TreeView, VolumeView};
use crate::domain::survey::until_full;
use crate::server::shapes::{Page, Plan, Status, Tally, Tree, Volume};

/// The status.
pub(super) fn status(seen: &[VolumeView]) -> Status {
    let trees = seen.iter().flat_map(|volume| volume.trees.iter().map(|tree| tree_shape(volume, tree)));
    Status { mode: "observe", volumes: seen.iter().map(volume_shape).collect(), trees: trees.collect() }
}

/// The plans, one for each volume that is not blind.
pub(super) fn plans(seen: &[VolumeView]) -> Page<Plan> {
    Page { items: seen.iter().filter_map(|volume| volume.plan.as_ref()).map(Plan::from).collect(), next: None }
}

fn volume_shape(volume: &VolumeView) -> Volume {
    let space = volume.reading.as_ref().ok().map(|reading| reading.space);
    let until = space.and_then(|space| until_full(space.available, volume.inflow()));
    Volume {
        name: volume.name.to_string(),
        path: volume.traits.mount_point.clone(),
        filesystem: volume.traits.kind.clone(),
        size_bytes: space.map(|s| s.size.0),
        available_bytes: space.map(|s| s.available.0),
        inodes: space.map(|s| s.inodes),
        inodes_free: space.map(|s| s.inodes_free),
        pressure: volume.pressure.as_str(),
        blind_because: volume.reading.as_ref().err().map(ToString::to_string),
        seconds_until_full: until.map(|span| span.as_secs()),
        traps: volume.traits.traps(),
    }
}

fn tree_shape(volume: &VolumeView, tree: &TreeView) -> Tree {
    let survey = &tree.survey;
    Tree {
        name: tree.policy.tree.to_string(),
        volume: volume.name.to_string(),
        path: tree.path.clone(),
        layout: tree.policy.layout.name().to_owned(),
        files: survey.recordings.files,
        bytes: survey.recordings.bytes.0,
        streams: survey.streams.len(),
        leftovers: Tally::from(survey.leftovers),
        unrecognised: Tally::from(tree.inventory.passed_over.unrecognised),
        inflow_bytes_per_second: survey.inflow.0,
        oldest: survey.oldest.map(|at| at.to_string()),
        newest: survey.newest.map(|at| at.to_string()),
        last_scan: tree.inventory.finished.to_string(),
        complete: tree.inventory.complete(),
        problems: tree.inventory.problems.iter().map(problem).collect(),
    }
}

/// One place that could not be read, in words.
pub(super) fn problem(problem: &crate::domain::recording::ScanProblem) -> String {
    match &problem.path {
        Some(path) => format!("`{path}`: {}", problem.error),
        None => format!("the top: {}", problem.error),
    }
}
