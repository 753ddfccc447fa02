//! Which directories can be guarded, and which stand in each other's way.

use std::path::{Component, Path, PathBuf};

/// Directories of the system, with all that is below them.
const SYSTEM: [&str; 12] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"];
/// Directories that hold other people's things; what is below them may be a tree.
const SHARED: [&str; 8] = ["/", "/home", "/mnt", "/media", "/opt", "/srv", "/tmp", "/var"];

/// Whether a path belongs to the system, so that it cannot be a tree.
pub(super) fn of_the_system(path: &Path) -> bool {
    SYSTEM.iter().any(|dir| path.starts_with(dir)) || SHARED.iter().any(|dir| path == Path::new(dir))
}

/// Whether one lies in the other, by components: `/data/record` and `/data/record_backup` do not.
pub(super) fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The path without `.` and, as far as its text goes, without `..`.
pub(super) fn normal(path: &Path) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_directories_are_told_from_those_below_shared_ones() {
        for (path, expected) in [
            ("/", true),
            ("/data/../etc", true),
            ("/usr/local/record", true),
            ("/root", true),
            ("/home", true),
            ("/home/cam/record", false),
            ("/mnt/disk1", false),
            ("/etcetera", false),
            ("/data", false),
        ] {
            assert_eq!(of_the_system(&normal(Path::new(path))), expected, "{path}");
        }
    }

    #[test]
    fn overlaps_go_by_components() {
        for (one, other, expected) in [
            ("/data/record", "/data/record_backup", false),
            ("/data/record", "/data", true),
            ("/data", "/data/", true),
            ("/data/a", "/data/b", false),
        ] {
            assert_eq!(overlap(Path::new(one), Path::new(other)), expected, "{one} {other}");
        }
    }
}
