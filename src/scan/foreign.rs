//! Where a volume's space went that is in no tree: a walk that ends in time and looks at names and sizes only.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::domain::path::RelPath;
use crate::domain::units::Bytes;
use crate::system::{Clock, Dir, EntryType};

/// Directories are told apart down to this depth.
const DEPTH: usize = 4;
/// Directories that wait to be read, and that are told apart, at most.
const MOST: usize = 20_000;
/// How many are named.
const NAMED: usize = 3;

/// The largest directories, as far as they could be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Largest {
    /// Paths below the top and their allocated bytes, the largest first; `None` is what lies in the top itself.
    pub directories: Vec<(Option<RelPath>, Bytes)>,
    /// Everything was looked at.
    pub complete: bool,
}

/// Finds the largest directories below `dir` that are none of `skip`, on the same mount, until `deadline` on the clock that does not
/// jump. Links are not followed, and nothing is opened but directories.
pub fn largest(dir: &dyn Dir, skip: &[RelPath], clock: &dyn Clock, deadline: Duration) -> Largest {
    let mut sums: BTreeMap<Option<RelPath>, Bytes> = BTreeMap::new();
    let mut complete = true;
    // Level by level, so that what is cut off lies deep.
    let mut pending: VecDeque<(Option<RelPath>, Option<RelPath>, usize)> = VecDeque::from([(None, None, 0)]);
    while let Some((path, account, depth)) = pending.pop_front() {
        if clock.boottime() >= deadline {
            complete = false;
            break;
        }
        let (mut sum, mut below) = (Bytes::ZERO, Vec::new());
        let read = dir.read(path.as_ref(), &mut |entry| match entry.kind {
            EntryType::File => {
                // What has several names counts once, a part with each.
                let part = entry.identity.allocated.scaled(1, u64::from(entry.identity.links.max(1)));
                sum = sum.saturating_add(part);
            }
            EntryType::Directory if below.len() < MOST => below.push(entry.name),
            EntryType::Directory => complete = false,
            EntryType::Mount | EntryType::Symlink | EntryType::Special => {}
        });
        complete &= read.is_ok();
        let entry = sums.entry(account.clone()).or_default();
        *entry = entry.saturating_add(sum);
        for name in below {
            let child = match &path {
                Some(path) => Some(path.join(&name)),
                None => RelPath::new(&name).ok(),
            };
            let Some(child) = child.filter(|child| !skip.contains(child)) else { continue };
            if pending.len() >= MOST {
                complete = false;
                break;
            }
            let known = depth >= DEPTH || sums.len() >= MOST;
            let account = if known { account.clone() } else { Some(child.clone()) };
            pending.push_back((Some(child), account, depth + 1));
        }
    }
    Largest { directories: name(&sums), complete }
}

/// The largest: of the first level, and in each as deep as nearly all of it lies in one.
fn name(sums: &BTreeMap<Option<RelPath>, Bytes>) -> Vec<(Option<RelPath>, Bytes)> {
    // Each with all that lies below it.
    let mut totals = sums.clone();
    for (path, bytes) in sums {
        let mut above = path.as_ref().and_then(|path| path.split().0);
        while let Some(path) = above {
            above = path.split().0;
            let total = totals.entry(Some(path)).or_default();
            *total = total.saturating_add(*bytes);
        }
    }
    let children = |parent: Option<&RelPath>| -> Vec<(&RelPath, Bytes)> {
        let all = totals.iter().filter_map(|(path, bytes)| Some((path.as_ref()?, *bytes)));
        all.filter(|(path, _)| path.split().0.as_ref() == parent).collect()
    };
    let mut found: Vec<(Option<RelPath>, Bytes)> = Vec::new();
    for (path, bytes) in children(None) {
        let mut at = (path, bytes);
        while let Some(inner) = children(Some(at.0)).into_iter().find(|(_, bytes)| *bytes >= at.1.scaled(4, 5)) {
            if inner.1 == Bytes::ZERO {
                break;
            }
            at = inner;
        }
        found.push((Some(at.0.clone()), at.1));
    }
    found.push((None, sums.get(&None).copied().unwrap_or_default()));
    found.retain(|(_, bytes)| *bytes > Bytes::ZERO);
    found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.truncate(NAMED);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{GuardedTree, SystemClock};

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
    fn names_the_deepest_directory_that_holds_nearly_all_and_skips_trees_and_links() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path();
        for (dir, kib) in [("var/lib/db", 400), ("var/log", 20), ("home", 200), ("record/live", 900)] {
            std::fs::create_dir_all(top.join(dir)).unwrap();
            std::fs::write(top.join(dir).join("file"), vec![1; kib << 10]).unwrap();
        }
        std::os::unix::fs::symlink(top.join("record"), top.join("home/link")).unwrap();
        let tree = GuardedTree::open(top).unwrap();
        let hour = SystemClock.boottime() + Duration::from_secs(3600);
        let found = largest(&tree, &[path("record")], &SystemClock, hour);
        let names: Vec<_> = found.directories.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(names, [Some(path("var/lib/db")), Some(path("home"))]);
        assert!(found.complete && found.directories[0].1 >= Bytes(400 << 10));
        let late = largest(&tree, &[], &SystemClock, Duration::ZERO);
        assert_eq!(late, Largest { directories: Vec::new(), complete: false });
    }
}
