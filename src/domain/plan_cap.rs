//! What caps and windows take out of a plan.

use super::deletion::RuleKind;
use super::limits::Allowance;
use super::plan::{Plan, identify};
use super::pressure::Deficit;
use super::units::Bytes;

impl Plan {
    /// Takes out what the caps of the trees do not allow. Retention goes whole or not at all, since a rule that suddenly wants
    /// much is a mistake more often than a wish; pressure goes as far as it may, with the last directory as a whole, since it could else
    /// be too large for ever. Returns what was wanted, by index of the tree,
    /// where that was more than is allowed.
    pub fn cap(&mut self, allowances: &[Allowance]) -> Vec<(usize, Bytes)> {
        let mut wanted = vec![(Bytes::ZERO, Bytes::ZERO); self.trees.len()];
        for item in &self.items {
            let bytes = self.trees[item.tree].inventory.get(item.file).bytes;
            let (retention, pressure) = &mut wanted[item.tree];
            let sum = if item.rule.waits_for_window() { retention } else { pressure };
            *sum = sum.saturating_add(bytes);
        }
        let mut used = vec![Bytes::ZERO; self.trees.len()];
        // Once one does not fit, nothing younger goes instead of it.
        let mut full = vec![false; self.trees.len()];
        let (mut kept, mut dropped) = (Vec::with_capacity(self.items.len()), Deficit::default());
        for item in std::mem::take(&mut self.items) {
            let seen = self.trees[item.tree].inventory.get(item.file);
            let bytes = seen.bytes;
            let allowed = allowances[item.tree];
            let sum = used[item.tree].saturating_add(bytes);
            let begun = seen.unit && used[item.tree] < allowed.pressure;
            let fits = if item.rule.waits_for_window() {
                wanted[item.tree].0 <= allowed.retention
            } else {
                !full[item.tree] && (sum <= allowed.pressure || begun)
            };
            if fits {
                used[item.tree] = sum;
                kept.push(item);
            } else {
                full[item.tree] |= !item.rule.waits_for_window();
                dropped.bytes = dropped.bytes.saturating_add(bytes);
                dropped.inodes = dropped.inodes.saturating_add(seen.tally().files);
            }
        }
        self.items = kept;
        // What was chosen beyond the target, for retention, is no shortfall when it stays.
        self.shortfall.bytes = self.shortfall.bytes.saturating_add(dropped.bytes).min(self.target.bytes);
        self.shortfall.inodes = self.shortfall.inodes.saturating_add(dropped.inodes).min(self.target.inodes);
        self.id = identify(&self.volume, &self.trees, &self.items);
        let over = wanted.iter().zip(allowances).enumerate().filter_map(|(tree, ((retention, pressure), allowed))| {
            let all = retention.saturating_add(*pressure);
            let over = *retention > allowed.retention || all > allowed.pressure.max(allowed.retention);
            (over && all > Bytes::ZERO).then_some((tree, all))
        });
        over.collect()
    }

    /// What retention chose, and what goes since it has a copy, in bytes, by index of the tree.
    #[must_use]
    pub fn retention_bytes(&self) -> Vec<(Bytes, Bytes)> {
        let mut out = vec![(Bytes::ZERO, Bytes::ZERO); self.trees.len()];
        for item in self.items.iter().filter(|item| item.rule.waits_for_window()) {
            let (retention, copied) = &mut out[item.tree];
            let sum = if item.rule == RuleKind::Archived { copied } else { retention };
            *sum = sum.saturating_add(self.recording(item).bytes);
        }
        out
    }

    /// Takes out what retention chose in the trees where it waits.
    pub fn postpone_retention(&mut self, waits: impl Fn(usize) -> bool) {
        self.items.retain(|item| !item.rule.waits_for_window() || !waits(item.tree));
        self.id = identify(&self.volume, &self.trees, &self.items);
    }
}
