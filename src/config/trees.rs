//! Settings for trees that are named on the command line: everything else is default.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::domain::layout::Layout;
use crate::domain::names::TreeId;
use crate::domain::path::show_bytes;
use crate::domain::retention::{Mode, TreePolicy, WhenOpen};
use crate::domain::settings::{Cleanup, TreeSettings};

/// What is a recording in the layouts that go by extension.
const EXTENSIONS: [&str; 8] = ["mp4", "m4s", "ts", "flv", "mkv", "mov", "avi", "ps"];
/// Directories of the system, with all that is below them.
const SYSTEM: [&str; 12] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"];
/// Directories that hold other people's things; what is below them may be a tree.
const SHARED: [&str; 8] = ["/", "/home", "/mnt", "/media", "/opt", "/srv", "/tmp", "/var"];

/// Settings for the trees at `paths`, in observe mode, with the layout that `layout` names or `auto`. A relative path counts
/// from `here`.
///
/// # Errors
/// Every problem, each a sentence that names the path.
pub fn for_trees(paths: &[PathBuf], layout: Option<&str>, here: &Path) -> Result<Vec<TreeSettings>, Vec<String>> {
    let extensions = EXTENSIONS.map(str::to_owned);
    let mut problems = Vec::new();
    let layout = match Layout::parse(layout.unwrap_or("auto"), &extensions, TimeZone::system()) {
        Ok(layout) => Some(layout),
        Err(problem) => {
            problems.push(format!("--layout: {problem}"));
            None
        }
    };
    let mut tops: Vec<PathBuf> = Vec::new();
    for path in paths {
        let path = normal(&here.join(path));
        if let Some(problem) = unfit(&path) {
            problems.push(problem);
        }
        for other in &tops {
            if path.starts_with(other) || other.starts_with(&path) {
                problems.push(format!(
                    "--tree: `{}` and `{}` overlap; name one of them",
                    other.display(),
                    path.display()
                ));
            }
        }
        tops.push(path);
    }
    let Some(layout) = layout.filter(|_| problems.is_empty()) else { return Err(problems) };
    let mut names = HashSet::new();
    Ok(tops.into_iter().map(|path| settings(unique(&path, &mut names), path, layout.clone())).collect())
}

fn settings(name: TreeId, path: PathBuf, layout: Layout) -> TreeSettings {
    let policy = TreePolicy {
        tree: name.clone(),
        mode: Mode::Observe,
        layout,
        min_age: Duration::from_secs(600),
        when_open: WhenOpen::Wait,
        protect: Vec::new(),
        retention: Vec::new(),
        budget: None,
        max_share: Cleanup::default().max_share,
    };
    TreeSettings { name, path, policy, leftovers_grace: Duration::from_secs(86_400) }
}

/// Why a path cannot be a tree.
fn unfit(path: &Path) -> Option<String> {
    let below_system = SYSTEM.iter().any(|dir| path.starts_with(dir));
    if below_system || SHARED.iter().any(|dir| path == Path::new(dir)) {
        return Some(format!(
            "--tree: `{}` is a directory of the system; name the directory that holds nothing but recordings",
            path.display()
        ));
    }
    None
}

/// The path without `.` and, as far as its text goes, without `..`.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
        }
    }
    out
}

fn unique(path: &Path, taken: &mut HashSet<String>) -> TreeId {
    let base = path.file_name().map_or_else(|| "tree".to_owned(), |name| show_bytes(name.as_encoded_bytes()).0);
    let mut name = base.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    TreeId::new(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], expected: Result<&[&str], &[&str]>) {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        match (for_trees(&paths, None, Path::new("/here")), expected) {
            (Ok(trees), Ok(names)) => {
                assert_eq!(trees.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), names);
            }
            (Err(problems), Err(parts)) => {
                assert_eq!(problems.len(), parts.len(), "{problems:?}");
                for (problem, part) in problems.iter().zip(parts) {
                    assert!(problem.contains(part), "{problem}");
                }
            }
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn names_trees_by_their_directories() {
        check(&["/data/record", "/data2/record"], Ok(&["record", "record-2"]));
        check(&["record", "./other"], Ok(&["record", "other"]));
        check(&["/data/record", "/data/record_backup"], Ok(&["record", "record_backup"]));
    }

    #[test]
    fn refuses_what_cannot_be_a_tree_and_says_all_of_it() {
        check(&["/"], Err(&["`/` is a directory of the system"]));
        check(&["/data/../etc", "/home"], Err(&["`/etc`", "`/home`"]));
        check(&["/data", "/data/record"], Err(&["overlap"]));
        assert!(for_trees(&["/data".into()], Some("nonsense"), Path::new("/")).is_err());
    }
}
