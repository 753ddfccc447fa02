//! Plans, as they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::shapes::Path;
use crate::domain::deletion::Cap;
use crate::domain::plan::{Plan as DomainPlan, PlanItem as DomainItem};
use crate::domain::recording::Tally as DomainTally;
use crate::domain::status::Cut as DomainCut;

/// `GET /api/v1/plan?volume=`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Names this exact list.
    pub id: String,
    /// The volume.
    pub volume: String,
    /// What would go first, at any pressure.
    pub next: Vec<PlanItem>,
    /// What was to be given back.
    pub target_bytes: u64,
    /// What goes now.
    pub items: Vec<PlanItem>,
    /// What is spared.
    pub spared: Vec<Spared>,
    /// What of the target cannot be given back.
    pub shortfall_bytes: u64,
    /// Caps that cut it.
    #[serde(default)]
    pub cut: Vec<Cut>,
}

/// A cap that cuts a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The tree.
    pub tree: String,
    /// The cap.
    pub cap: String,
    /// Bytes that would go without it.
    pub wanted_bytes: u64,
    /// Bytes that it allows.
    pub allowed_bytes: u64,
    /// It tripped, and waits for `cap acknowledge`; else it trips when the plan is carried out.
    pub tripped: bool,
    /// The same in a sentence, with what can be done.
    pub sentence: String,
}

/// One recording of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanItem {
    /// Its tree.
    pub tree: String,
    /// Its path below the tree.
    #[serde(flatten)]
    pub path: Path,
    /// Its stream.
    pub stream: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// How many files it is: more than one for a directory that goes whole.
    #[serde(default = "one")]
    pub files: u64,
    /// The rule that chose it.
    pub rule: String,
    /// Why, in words.
    pub reason: String,
}

fn one() -> u64 {
    1
}

/// What is spared for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spared {
    /// The reason.
    pub reason: String,
    /// How many.
    pub files: u64,
    /// Allocated bytes.
    pub bytes: u64,
}

impl From<&DomainPlan> for Plan {
    fn from(plan: &DomainPlan) -> Self {
        let item = |item: &DomainItem| {
            let seen = plan.recording(item);
            let tree = &plan.trees[item.tree];
            PlanItem {
                tree: tree.policy.tree.to_string(),
                path: Path::from(&plan.path(item)),
                stream: tree.inventory.stream(seen.stream).to_string(),
                bytes: seen.bytes.0,
                files: seen.tally().files,
                rule: item.rule.to_string(),
                reason: plan.reason(item),
            }
        };
        let mut spared: BTreeMap<_, DomainTally> = BTreeMap::new();
        for entry in &plan.spared {
            spared.entry(entry.reason).or_default().merge(entry.tally);
        }
        Self {
            id: plan.id.clone(),
            volume: plan.volume.to_string(),
            next: plan.next.iter().map(item).collect(),
            target_bytes: plan.target.bytes.0,
            items: plan.items.iter().map(item).collect(),
            spared: spared
                .into_iter()
                .map(|(reason, tally)| Spared { reason: reason.to_string(), files: tally.files, bytes: tally.bytes.0 })
                .collect(),
            shortfall_bytes: plan.shortfall.bytes.0,
            cut: Vec::new(),
        }
    }
}

impl Plan {
    /// The same with the caps that cut it.
    #[must_use]
    pub fn cut_by(mut self, cuts: &[DomainCut]) -> Self {
        let cut = |cut: &DomainCut| Cut {
            tree: cut.tree.to_string(),
            cap: Cap::RunShare.to_string(),
            wanted_bytes: cut.wanted.0,
            allowed_bytes: cut.allowed.0,
            tripped: cut.tripped,
            sentence: cut.sentence(),
        };
        self.cut = cuts.iter().map(cut).collect();
        self
    }
}
