//! A tree's rules.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::domain::layout::Layout;
use crate::domain::names::TreeId;
use crate::domain::orphan::{LeftoverPolicy, OrphanPolicy};
use crate::domain::retention::{Mode, TreePolicy, WhenOpen};
use crate::domain::units::Percent;

/// The rules of a tree that is enforced, and of which nothing goes by itself: no retention, no cap, nothing young. What is a recording in it
/// is an `mp4`, and times are in UTC.
///
/// # Panics
/// If there is no such layout.
#[must_use]
pub fn policy(tree: &str, layout: &str) -> TreePolicy {
    TreePolicy {
        tree: TreeId::new(tree),
        mode: Mode::Enforce,
        layout: Layout::parse(layout, &["mp4".to_owned()], TimeZone::UTC).expect("it is a layout"),
        min_age: Duration::ZERO,
        when_open: WhenOpen::Wait,
        protect: Vec::new(),
        retention: Vec::new(),
        budget: None,
        max_share: Percent::WHOLE,
        catalogues: Vec::new(),
        orphans: OrphanPolicy::default(),
        leftovers: LeftoverPolicy::default(),
        archive: None,
    }
}
