//! Puts the guard together: trees on their volumes, the state beside them.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::absent::Absent;
use super::catalogues::Catalogues;
use super::hub::Hub;
use super::remedies::carry;
use super::retry::Again;
use super::runs::Wish;
use super::tree::TreeWatch;
use super::volume::VolumeWorker;
use crate::config::Config;
use crate::domain::archive::ColdPlace;
use crate::domain::event::Event;
use crate::domain::layout::{LayoutKind, pick};
use crate::domain::marker::MarkerFault;
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::plan::Plan;
use crate::domain::remedy::Remedy;
use crate::domain::retention::{Mode, TreePolicy};
use crate::domain::settings::TreeSettings;
use crate::domain::silence::Homes;
use crate::domain::status::VolumeView;
use crate::domain::volume::{ABSENT, FilesystemTraits};
use crate::probe::Prober;
use crate::reclaim::{Brake, Engine, RunReport, Stop};
use crate::scan::{Progress, sample};
use crate::server::orphans::Rehearsal;
use crate::store::{Journal, JournalError};
use crate::system::{Clock, Holders, VolumeKey, Volumes, WritableDir, hangs_below, is_dead};
use crate::zlmediakit::Live;

/// How many files `auto` looks at.
const SAMPLE: usize = 2000;

/// Why a guard cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A tree cannot be opened.
    #[error("cannot open tree `{tree}` at `{path}`; it must be a directory, not a link, that this user may read")]
    Open {
        /// The tree.
        tree: TreeId,
        /// Its path.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start the probe of `{volume}`")]
    Probe {
        /// The volume.
        volume: VolumeId,
        /// What the system says.
        source: io::Error,
    },
    /// Another guard has the tree.
    #[error("another storage-guard (process {pid}) guards tree `{tree}`; stop it first")]
    Guarded {
        /// The tree.
        tree: TreeId,
        /// Its process; 0 if it cannot be named.
        pid: u32,
    },
    /// The tree is to be enforced, and its layout is not named.
    #[error(
        "tree `{tree}` is to be enforced with layout `auto`, which only observes; it looks like `{picked}` ({why}): if that is right, name it (`layout: {picked}`, or `--layout {picked}`)"
    )]
    Auto {
        /// The tree.
        tree: TreeId,
        /// What `auto` picked.
        picked: String,
        /// Why.
        why: String,
    },
    /// There is no such plan now.
    #[error("there is no plan `{0}` now: something changed since it was made; look at `storage-guard plan` again")]
    NoPlan(String),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The machine, and what must outlive us.
#[derive(Clone)]
pub struct Parts {
    /// Opens trees and reads volumes.
    pub machine: Arc<dyn Volumes>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who has files open.
    pub holders: Arc<dyn Holders>,
    /// Where intents and outcomes go.
    pub journal: Arc<Journal>,
    /// Id of the state.
    pub state: Arc<str>,
    /// Where events go.
    pub events: Arc<dyn Fn(Event) + Send + Sync>,
    /// Holds batches back after a restart storm.
    pub brake: Arc<Brake>,
    /// Who knows which recordings should exist.
    pub catalogues: Arc<Catalogues>,
    /// Who records, and what.
    pub live: Arc<Live>,
    /// This process may write: markers, and into the journal.
    pub writes: bool,
    /// A tree that cannot be opened is blind, and the others are guarded: the daemon must be there to tell.
    pub patient: bool,
    /// The guard runs already: then a tree that another process took is no reason to end either.
    pub running: bool,
}

/// What became of one plan.
#[derive(Debug)]
pub struct Done {
    /// The plan.
    pub plan: Plan,
    /// Its trees may be changed.
    pub enforced: bool,
    /// The run, if there was one.
    pub report: Option<RunReport>,
}

/// A tree's handle, and where it lies.
struct Opened {
    settings: TreeSettings,
    dir: Arc<dyn WritableDir>,
    key: VolumeKey,
    traits: FilesystemTraits,
}

/// All guarded trees, by volume.
pub struct Guard {
    pub(super) volumes: Vec<VolumeWorker>,
}

impl Guard {
    /// Opens all trees, finds their volumes, and picks layouts where none is named.
    ///
    /// # Errors
    /// The first tree that cannot be opened, is guarded by another process, or is to be enforced with layout `auto`.
    pub fn open(config: &Config, parts: &Parts) -> Result<Self, GuardError> {
        let mut volumes: Vec<VolumeWorker> = Vec::new();
        for settings in &config.trees {
            let opened = open_tree(settings, parts)?;
            let tree = watch(&opened, parts)?;
            // Two trees on one filesystem are one volume.
            if let Some(volume) = volumes.iter_mut().find(|volume| volume.key == opened.key) {
                volume.trees.push(tree);
                continue;
            }
            let mut volume = begin(config, parts, opened)?;
            volume.trees.push(tree);
            volumes.push(volume);
        }
        Ok(Self { volumes })
    }

    /// Probes and scans everything once.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn look(
        &mut self,
        report: &mut dyn FnMut(&TreePolicy, Progress) -> ControlFlow<()>,
    ) -> Result<Vec<VolumeView>, GuardError> {
        self.volumes
            .iter_mut()
            .map(|volume| {
                volume.look(true, &mut |_, policy, at| report(policy, at))?;
                Ok(volume.view())
            })
            .collect()
    }

    /// Lets files bear the marks of what persons hold, where they may be changed, and takes off those of what has ended.
    pub fn mark_holds(&mut self) {
        self.volumes.iter_mut().for_each(|volume| volume.mark_holds(&|| false));
    }

    /// Settles what a crash left open, of every volume that can be read.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn settle(&mut self) -> Result<(), GuardError> {
        self.volumes.iter_mut().try_for_each(|volume| Ok(volume.settle().map(|_| ())?))
    }

    /// Carries out, once, what the plans ask for; only the plan with the id `wanted`, if one is given. Volumes whose trees are only
    /// observed are planned and left alone.
    ///
    /// # Errors
    /// [`GuardError::NoPlan`] if no plan has that id now. If the journal cannot be written.
    pub fn carry_out(&mut self, wanted: Option<&str>, who: &str, stop: Stop<'_>) -> Result<Vec<Done>, GuardError> {
        let plans: Vec<Option<Plan>> = self.volumes.iter().map(VolumeWorker::plan).collect();
        if let Some(id) = wanted
            && !plans.iter().flatten().any(|plan| plan.id == id)
        {
            return Err(GuardError::NoPlan(id.to_owned()));
        }
        let mut out = Vec::new();
        for (volume, plan) in self.volumes.iter_mut().zip(plans) {
            let Some(plan) = plan.filter(|plan| wanted.is_none_or(|id| plan.id == id)) else { continue };
            let enforced = plan.trees.iter().all(|tree| tree.policy.mode == Mode::Enforce);
            if enforced {
                // Also where a cap takes all out of the plan: somebody has to hear of that.
                volume.trip_caps()?;
            }
            let report = match enforced && !plan.items.is_empty() {
                true => {
                    let run = volume.next_run();
                    Some(volume.carry_out(
                        &plan,
                        &Wish { who, run, job: None, exactly: wanted.is_some() },
                        stop,
                        &|_| (),
                    )?)
                }
                false => None,
            };
            out.push(Done { plan, enforced, report });
        }
        Ok(out)
    }

    /// Tries failed deletions again: all that there are, or the one with this number; gives how many.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn retry(&mut self, id: Option<u64>, who: &str, stop: Stop<'_>) -> Result<usize, GuardError> {
        let mut count = 0;
        for volume in &mut self.volumes {
            count += volume.retry(Again::Asked(id, who), stop)?;
        }
        Ok(count)
    }

    /// Compares all trees with their catalogues, which were read meanwhile.
    pub fn compare(&mut self) -> Vec<VolumeView> {
        for volume in &mut self.volumes {
            volume.take_favourites();
            volume.inspect(&|| false);
        }
        self.views()
    }

    /// Carries a remedy out, once, for a job of the hub, whose volumes were looked at before.
    ///
    /// # Errors
    /// If the journal cannot be written; the job says so too.
    pub fn remedy(
        &mut self,
        hub: &Hub,
        job: u64,
        remedy: &Remedy,
        who: &str,
        stop: Stop<'_>,
    ) -> Result<(), GuardError> {
        let Some(volume) = self.volume_of(&remedy.tree) else { return Ok(()) };
        if hub.with_jobs(|jobs| jobs.begin(job, hub.now())).is_some() {
            carry(volume, hub, job, remedy, who, stop, Ok(()))?;
        }
        Ok(())
    }

    /// Says what a remedy would do.
    ///
    /// # Errors
    /// A sentence that says why that cannot be told.
    pub fn rehearse(&mut self, hub: &Hub, remedy: &Remedy) -> Result<Rehearsal, String> {
        match self.volume_of(&remedy.tree) {
            Some(volume) => volume.rehearse(hub, remedy),
            None => Err(format!("tree `{}` is not guarded any more", remedy.tree)),
        }
    }

    fn volume_of(&mut self, tree: &TreeId) -> Option<&mut VolumeWorker> {
        self.volumes.iter_mut().find(|volume| volume.trees.iter().any(|one| one.policy.tree == *tree))
    }

    /// What is seen now.
    #[must_use]
    pub fn views(&self) -> Vec<VolumeView> {
        self.volumes.iter().map(VolumeWorker::view).collect()
    }

    /// On which volume each tree lies.
    #[must_use]
    pub fn homes(&self) -> Homes {
        let trees =
            |volume: &VolumeWorker| volume.trees.iter().map(|tree| tree.policy.tree.clone()).collect::<Vec<_>>();
        let homes = self.volumes.iter().map(|volume| (volume.name.clone(), trees(volume)));
        homes.flat_map(|(volume, trees)| trees.into_iter().map(move |tree| (tree, volume.clone()))).collect()
    }

    /// Names of all volumes and trees.
    #[must_use]
    pub fn names(&self) -> (Vec<VolumeId>, Vec<TreeId>) {
        let trees = self.volumes.iter().flat_map(|volume| volume.trees.iter().map(|tree| tree.policy.tree.clone()));
        (self.volumes.iter().map(|volume| volume.name.clone()).collect(), trees.collect())
    }
}

fn open_tree(settings: &TreeSettings, parts: &Parts) -> Result<Opened, GuardError> {
    let failed =
        |source| GuardError::Open { tree: settings.name.clone(), path: settings.path.display().to_string(), source };
    let found =
        parts.machine.open_tree(&settings.path).and_then(|dir| Ok((dir, parts.machine.describe(&settings.path)?)));
    let (dir, (key, traits)) = match found {
        Ok(found) => found,
        Err(error) if parts.patient => return Ok(absent(settings, &error)),
        Err(error) => return Err(failed(error)),
    };
    if settings.policy.mode == Mode::Enforce && parts.writes {
        match dir.lock() {
            Ok(None) => {}
            // What has ended keeps its locks while a thread of it hangs in the kernel; elsewhere than in this tree, it does nothing here.
            Ok(Some(pid)) if parts.patient && is_dead(pid) && !hangs_below(pid, &settings.path) => {}
            // It is opened once whoever has it lets go, and until then nobody else may work in it.
            Ok(Some(pid)) if parts.patient && (parts.running || pid == std::process::id() || is_dead(pid)) => {
                let why = if pid == std::process::id() {
                    "a thread that worked it hangs in the kernel".to_owned()
                } else if is_dead(pid) {
                    format!("process {pid}, which is dead, hangs in the kernel and still has it; free its disk")
                } else {
                    format!("another process ({pid}) has it")
                };
                return Ok(absent(settings, &io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            Ok(Some(pid)) => return Err(GuardError::Guarded { tree: settings.name.clone(), pid }),
            Err(error) if parts.patient => return Ok(absent(settings, &error)),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(Opened { settings: settings.clone(), dir, key, traits })
}

/// What `auto` picks for a tree that is to be enforced, as the error that refuses it; `None` if it cannot be opened.
#[must_use]
pub fn picked(machine: &dyn Volumes, settings: &TreeSettings) -> Option<GuardError> {
    let dir = machine.open_tree(&settings.path).ok()?;
    let found = pick(&sample(dir.as_ref(), SAMPLE), &settings.policy.layout);
    Some(GuardError::Auto { tree: settings.name.clone(), picked: found.kind.to_string(), why: found.why })
}

/// A volume of its own for a tree that cannot be opened: nobody knows where it lies.
fn absent(settings: &TreeSettings, error: &io::Error) -> Opened {
    let path = settings.path.display().to_string();
    Opened {
        settings: settings.clone(),
        dir: Arc::new(Absent::new(&settings.path, error)),
        key: VolumeKey(format!("absent {path}")),
        traits: FilesystemTraits { kind: ABSENT.to_owned(), mount_point: path, leases: true, ..Default::default() },
    }
}

fn watch(opened: &Opened, parts: &Parts) -> Result<TreeWatch, GuardError> {
    let mut policy = opened.settings.policy.clone();
    let mut picked = None;
    if policy.layout.kind() == LayoutKind::Auto && opened.traits.kind != ABSENT {
        let found = pick(&sample(opened.dir.as_ref(), SAMPLE), &policy.layout);
        if policy.mode == Mode::Enforce && parts.writes {
            let (picked, why) = (found.kind.to_string(), found.why);
            return Err(GuardError::Auto { tree: policy.tree, picked, why });
        }
        policy.layout = policy.layout.with_kind(found.kind);
        picked = Some(found);
    }
    Ok(TreeWatch::new(
        opened.dir.clone(),
        policy,
        picked,
        parts.catalogues.holds.clone(),
        parts.catalogues.archived.clone(),
    ))
}

fn begin(config: &Config, parts: &Parts, opened: Opened) -> Result<VolumeWorker, GuardError> {
    let named = config
        .volumes
        .iter()
        .find(|volume| parts.machine.describe(&volume.path).is_ok_and(|(key, _)| key == opened.key));
    let name = named.map_or_else(|| VolumeId::new(&opened.traits.mount_point), |volume| volume.name.clone());
    let cold = config.archives.iter().find_map(|archive| match &archive.place {
        ColdPlace::Directory { path, marks } => {
            let here = || parts.machine.describe(path).is_ok_and(|(key, _)| key == opened.key);
            marks.as_ref().filter(|_| here())
        }
        ColdPlace::Bucket(_) => None,
    });
    let marks = named.map_or_else(|| cold.unwrap_or(&config.marks).clone(), |volume| volume.marks.clone());
    let prober = Prober::spawn(parts.machine.clone(), parts.clock.clone(), opened.settings.path.clone())
        .map_err(|source| GuardError::Probe { volume: name.clone(), source })?;
    let engine = Engine {
        journal: parts.journal.clone(),
        clock: parts.clock.clone(),
        holders: parts.holders.clone(),
        events: parts.events.clone(),
        cleanup: config.cleanup,
        brake: parts.brake.clone(),
    };
    Ok(VolumeWorker::new(
        name,
        opened.key,
        opened.traits,
        marks,
        config.scan_interval,
        prober,
        parts.machine.clone(),
        engine,
        parts.state.clone(),
        parts.writes,
        parts.catalogues.clone(),
        parts.live.clone(),
    ))
}

/// What `init` did with one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// It bears our marker already.
    Already,
    /// The marker was written.
    Written,
    /// It bears another marker, or lost its own; `--accept` takes it over.
    Refused(MarkerFault),
}

/// Writes the identity marker into trees that have none; with `accept`, also into those that bear another's or have lost their own,
/// as `lost` knows.
///
/// # Errors
/// The first tree that cannot be opened or written.
pub fn init(
    config: &Config,
    machine: &dyn Volumes,
    state: &str,
    names: &BTreeSet<String>,
    accept: bool,
    lost: &dyn Fn(&TreeId) -> bool,
) -> Result<Vec<(TreeId, Marked)>, GuardError> {
    let mut out = Vec::new();
    for settings in config.trees.iter().filter(|tree| names.is_empty() || names.contains(tree.name.as_str())) {
        let failed = |source| GuardError::Open {
            tree: settings.name.clone(),
            path: settings.path.display().to_string(),
            source,
        };
        let dir = machine.open_tree(&settings.path).map_err(failed)?;
        let wanted = super::tree::wanted(dir.as_ref(), &settings.policy, state).map_err(failed)?;
        let found = dir.read_marker().map_err(failed)?;
        let marked = match wanted.fault(found.as_deref()) {
            None => Marked::Already,
            Some(fault) if (found.is_some() || lost(&settings.name)) && !accept => Marked::Refused(fault),
            Some(_) => {
                dir.write_marker(&wanted.show()).map_err(failed)?;
                Marked::Written
            }
        };
        out.push((settings.name.clone(), marked));
    }
    Ok(out)
}
