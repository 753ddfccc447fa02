//! Watermarks, and whether they stand in the right order.

use super::node::{Map, Node};
use crate::domain::units::Percent;
use crate::domain::volume::{Mark, Marks};

/// One list of marks as far as it could be read, and where it was given.
struct Given<'a> {
    key: &'static str,
    /// `None` if it could not be read.
    marks: Option<Vec<Mark>>,
    /// `None` if it comes from the defaults.
    node: Option<Node<'a>>,
}

impl<'a> Given<'a> {
    fn take(
        map: &mut Map<'a>,
        key: &'static str,
        base: &[Mark],
        read: impl FnOnce(&Node<'a>) -> Option<Vec<Mark>>,
    ) -> Self {
        let node = map.take(key);
        let marks = node.as_ref().map_or_else(|| Some(base.to_vec()), read);
        Self { key, marks, node }
    }

    fn or(self, base: &[Mark]) -> Vec<Mark> {
        self.marks.unwrap_or_else(|| base.to_vec())
    }
}

/// Reads `watermarks`; what it does not say is as in `base`.
pub(super) fn read(node: &Node<'_>, base: &Marks) -> Marks {
    let Some(mut map) = node.map() else { return base.clone() };
    let high = Given::take(&mut map, "high", &base.high, list);
    let low = Given::take(&mut map, "low", &base.low, list);
    let critical = Given::take(&mut map, "critical", &base.critical, list);
    ordered(&low, &high, true);
    ordered(&high, &critical, false);
    let inodes = map.take("inodes").and_then(|node| node.map());
    let (inodes_high, inodes_low) =
        inodes.map_or((base.inodes_high, base.inodes_low), |map| inode_marks(map, base.inodes_high, base.inodes_low));
    let full_within = map.duration("full_within", base.full_within);
    map.done();
    let (high, low, critical) = (high.or(&base.high), low.or(&base.low), critical.or(&base.critical));
    Marks { high, low, critical, inodes_high, inodes_low, full_within }
}

fn inode_marks(mut map: Map<'_>, base_high: Percent, base_low: Percent) -> (Percent, Percent) {
    let share = |node: &Node<'_>| Some(vec![Mark::Used(node.percent()?)]);
    let high = Given::take(&mut map, "high", &[Mark::Used(base_high)], share);
    let low = Given::take(&mut map, "low", &[Mark::Used(base_low)], share);
    map.done();
    ordered(&low, &high, true);
    let percent = |given: Given<'_>, base| match given.marks.as_deref() {
        Some([Mark::Used(share)]) => *share,
        Some(_) | None => base,
    };
    (percent(high, base_high), percent(low, base_low))
}

fn list(node: &Node<'_>) -> Option<Vec<Mark>> {
    let items = node.one_or_more()?;
    if items.is_empty() {
        node.problem("is an empty list; give one mark or several");
        return None;
    }
    let marks: Vec<Mark> = items.iter().filter_map(Node::mark).collect();
    (marks.len() == items.len()).then_some(marks)
}

/// Notes a problem where `roomy` does not leave more room than `tight`. Entries of one kind are compared, pair by pair.
/// The one that was given is blamed; if both were, `roomy` if `blame_roomy`.
fn ordered(roomy: &Given<'_>, tight: &Given<'_>, blame_roomy: bool) {
    let (Some(lows), Some(highs)) = (&roomy.marks, &tight.marks) else { return };
    let pairs = lows.iter().flat_map(|low| highs.iter().map(move |high| (*low, *high)));
    let Some((low, high)) = pairs.into_iter().find(|(low, high)| wrong(*low, *high)) else { return };
    let below = matches!(low, Mark::Used(_));
    let of_roomy =
        roomy.node.as_ref().map(|node| (node, low, if below { "below" } else { "more than" }, tight.key, high));
    let of_tight =
        tight.node.as_ref().map(|node| (node, high, if below { "above" } else { "less than" }, roomy.key, low));
    let blamed = if blame_roomy { of_roomy.or(of_tight) } else { of_tight.or(of_roomy) };
    if let Some((node, is, relation, key, other)) = blamed {
        node.problem(format!("is {}, but must be {relation} `{key}`, {}", show(is), show(other)));
    }
}

fn wrong(roomy: Mark, tight: Mark) -> bool {
    match (roomy, tight) {
        (Mark::Used(roomy), Mark::Used(tight)) => roomy >= tight,
        (Mark::Free(roomy), Mark::Free(tight)) => roomy <= tight,
        (Mark::Used(_), Mark::Free(_)) | (Mark::Free(_), Mark::Used(_)) => false,
    }
}

fn show(mark: Mark) -> String {
    match mark {
        Mark::Used(share) => share.to_string(),
        Mark::Free(bytes) => format!("{bytes} free"),
    }
}
