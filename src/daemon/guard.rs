//! The guard: trees on their volumes, looked at together.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::layout::{LayoutKind, Pick, pick};
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::path::show_bytes;
use crate::domain::plan::{Plan, TreeFacts, plan};
use crate::domain::pressure::{Pressure, assess};
use crate::domain::recording::{Gone, Inventory};
use crate::domain::retention::TreePolicy;
use crate::domain::settings::TreeSettings;
use crate::domain::survey::{Survey, survey};
use crate::domain::units::Bytes;
use crate::domain::volume::{FilesystemTraits, Marks, Reading, Unusable};
use crate::probe::Prober;
use crate::scan::{Progress, sample, scan};
use crate::system::{Clock, VolumeKey, Volumes, WritableDir};

/// How long a volume may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
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
}

struct Tree {
    dir: Arc<dyn WritableDir>,
    policy: TreePolicy,
    grace: Duration,
    pick: Option<Pick>,
}

struct Volume {
    name: VolumeId,
    key: VolumeKey,
    traits: FilesystemTraits,
    prober: Prober,
    pressure: Pressure,
    trees: Vec<Tree>,
}

/// All guarded trees, by volume.
pub struct Guard {
    clock: Arc<dyn Clock>,
    marks: Marks,
    volumes: Vec<Volume>,
}

/// A volume as it was just seen.
#[derive(Debug)]
pub struct VolumeView {
    /// Its name: the mount point.
    pub name: VolumeId,
    /// What kind of filesystem it is.
    pub traits: FilesystemTraits,
    /// Its space, or why there is no reading.
    pub reading: Result<Reading, Unusable>,
    /// Its state against its marks.
    pub pressure: Pressure,
    /// The marks.
    pub marks: Marks,
    /// Its trees.
    pub trees: Vec<TreeView>,
    /// What would go now; `None` while it is blind.
    pub plan: Option<Plan>,
}

/// A tree as it was just seen.
#[derive(Debug)]
pub struct TreeView {
    /// Its rules, with the layout that is used.
    pub policy: Arc<TreePolicy>,
    /// Its path.
    pub path: String,
    /// What `auto` made of it.
    pub pick: Option<Pick>,
    /// What the scan found.
    pub inventory: Arc<Inventory>,
    /// The same at a glance.
    pub survey: Survey,
    /// Why the tree cannot be trusted now.
    pub replaced: Option<Unusable>,
}

impl VolumeView {
    /// What all its trees record in a second.
    #[must_use]
    pub fn inflow(&self) -> Bytes {
        self.trees.iter().map(|tree| tree.survey.inflow).sum()
    }
}

impl Guard {
    /// Opens all trees, finds their volumes, and picks layouts where none is named.
    ///
    /// # Errors
    /// The first tree that cannot be opened.
    pub fn open(
        trees: &[TreeSettings],
        marks: Marks,
        machine: Arc<dyn Volumes>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, GuardError> {
        let mut volumes: Vec<Volume> = Vec::new();
        for settings in trees {
            let failed = |source| GuardError::Open {
                tree: settings.name.clone(),
                path: settings.path.display().to_string(),
                source,
            };
            let dir = machine.open_tree(&settings.path).map_err(failed)?;
            let (key, traits) = machine.describe(&settings.path).map_err(failed)?;
            let mut policy = settings.policy.clone();
            let pick = (policy.layout.kind() == LayoutKind::Auto).then(|| {
                let pick = pick(&sample(dir.as_ref(), SAMPLE), &policy.layout);
                policy.layout = policy.layout.with_kind(pick.kind);
                pick
            });
            let tree = Tree { dir, policy, grace: settings.leftovers_grace, pick };
            // Two trees on one filesystem are one volume.
            if let Some(volume) = volumes.iter_mut().find(|volume| volume.key == key) {
                volume.trees.push(tree);
                continue;
            }
            let name = VolumeId::new(&traits.mount_point);
            let prober = Prober::spawn(machine.clone(), clock.clone(), settings.path.clone())
                .map_err(|source| GuardError::Probe { volume: name.clone(), source })?;
            volumes.push(Volume { name, key, traits, prober, pressure: Pressure::Normal, trees: vec![tree] });
        }
        Ok(Self { clock, marks, volumes })
    }

    /// Probes and scans everything and plans what would go now. Nothing is changed.
    pub fn look(&mut self, progress: &mut dyn FnMut(&TreeId, Progress)) -> Vec<VolumeView> {
        let (clock, marks) = (self.clock.clone(), self.marks.clone());
        self.volumes.iter_mut().map(|volume| volume.look(&marks, clock.as_ref(), progress)).collect()
    }
}

impl Volume {
    fn look(&mut self, marks: &Marks, clock: &dyn Clock, progress: &mut dyn FnMut(&TreeId, Progress)) -> VolumeView {
        let mut reading = self.prober.read(DEADLINE);
        // A volume that did not answer is not walked either: the walk would hang with it.
        let trees: Vec<TreeView> = match &reading {
            Ok(_) => self.trees.iter().filter_map(|tree| tree.look(clock, progress)).collect(),
            Err(_) => Vec::new(),
        };
        if let Some(why) = trees.iter().find_map(|tree| tree.replaced.clone()) {
            reading = Err(why);
        }
        let inflow = trees.iter().map(|tree| tree.survey.inflow).sum();
        let now = clock.now();
        let facts: Vec<TreeFacts> = trees
            .iter()
            .map(|tree| TreeFacts {
                policy: tree.policy.clone(),
                inventory: tree.inventory.clone(),
                gone: Gone::default(),
                holds: Vec::new(),
                open: HashSet::new(),
                waiting: HashSet::new(),
            })
            .collect();
        let before = std::mem::replace(&mut self.pressure, Pressure::Normal);
        let plan = reading.as_ref().ok().filter(|reading| !reading.readonly).map(|reading| {
            let (above, deficit) = assess(reading, marks, inflow);
            let running = matches!(before, Pressure::Reclaiming { .. } | Pressure::Exhausted { .. });
            let target = if above || running { deficit } else { Default::default() };
            plan(&self.name, facts, target, true, now)
        });
        let eligible = plan.as_ref().is_some_and(|plan| !plan.items.is_empty());
        self.pressure = before.next(&reading, marks, inflow, eligible, now);
        VolumeView {
            name: self.name.clone(),
            traits: self.traits.clone(),
            reading,
            pressure: self.pressure.clone(),
            marks: marks.clone(),
            trees,
            plan,
        }
    }
}

impl Tree {
    fn look(&self, clock: &dyn Clock, progress: &mut dyn FnMut(&TreeId, Progress)) -> Option<TreeView> {
        let name = &self.policy.tree;
        let mut report = |at| {
            progress(name, at);
            ControlFlow::Continue(())
        };
        let inventory = scan(self.dir.as_ref(), name, &self.policy.layout, clock, &mut report).ok()?;
        let survey = survey(&inventory, self.grace, clock.now());
        Some(TreeView {
            policy: Arc::new(self.policy.clone()),
            path: show_bytes(self.dir.path().as_os_str().as_encoded_bytes()).0,
            pick: self.pick.clone(),
            inventory: Arc::new(inventory),
            survey,
            replaced: self.dir.still_there().err(),
        })
    }
}
