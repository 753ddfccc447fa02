//! Which recordings would give nothing back, because snapshots or reflink copies share their blocks. Each answer costs a call, so only
//! those are asked that a plan chose for pressure, and each once for a scan.

use std::time::Duration;

use super::tree::TreeWatch;
use super::volume::VolumeWorker;
use crate::domain::deletion::Trigger;
use crate::domain::plan::{Plan, PlanItem};

/// Asking ends by then, and goes on at the next look.
const LIMIT: Duration = Duration::from_secs(5);
/// Where much is shared, each round asks so many times more than the one before.
const REACH: u64 = 4;

impl VolumeWorker {
    /// Asks what the files share that the plan of now chose for pressure, and those that would be chosen instead, until the plan holds
    /// no file that was not asked, or the time for it is up.
    pub(super) fn ask_shared(&mut self) {
        if !self.traits.may_share() {
            return;
        }
        let began = self.engine.clock.boottime();
        let mut reach = 1;
        loop {
            let Some(mut basis) = self.basis() else { return };
            basis.target.bytes = basis.target.bytes.saturating_mul(reach);
            let (plan, _) = basis.plan(&self.name, self.now());
            let mut shares = false;
            for item in plan.items.iter().filter(|item| item.rule.trigger() == Trigger::Pressure) {
                if self.engine.clock.boottime().saturating_sub(began) >= LIMIT {
                    return;
                }
                let name = &plan.trees[item.tree].policy.tree;
                let tree = self.trees.iter_mut().find(|tree| tree.policy.tree == *name);
                shares |= tree.is_some_and(|tree| tree.ask_shared(item.file));
            }
            if !shares {
                return;
            }
            reach = reach.saturating_mul(REACH);
        }
    }

    /// Ends a plan before the first file that was chosen for pressure and not asked yet.
    pub(super) fn only_asked(&self, mut plan: Plan) -> Plan {
        let asked = |item: &PlanItem| {
            let name = &plan.trees[item.tree].policy.tree;
            let tree = self.trees.iter().find(|tree| tree.policy.tree == *name);
            item.rule.trigger() != Trigger::Pressure || tree.is_some_and(|tree: &TreeWatch| tree.asked(item.file))
        };
        if self.traits.may_share() {
            let known = plan.items.iter().take_while(|item| asked(item)).count();
            plan.keep_first(known);
        }
        plan
    }
}
