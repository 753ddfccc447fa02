//! Who has a file open, as `/proc` shows it. It only explains: a process that cannot be seen here still holds its lease.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;

use super::{Holders, OpenFile};
use crate::domain::deletion::Holder;
use crate::domain::path::show_bytes;

/// The processes of this machine, as far as we may look at them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcHolders;

impl Holders for ProcHolders {
    fn find(&self, inodes: &[u64]) -> Vec<OpenFile> {
        let wanted: HashSet<u64> = inodes.iter().copied().collect();
        let mut out = Vec::new();
        let own = std::process::id();
        let Ok(processes) = std::fs::read_dir("/proc") else { return out };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if pid == own {
                continue;
            }
            // Processes end while we look, and others' are not ours to see: neither is an error.
            let Ok(handles) = std::fs::read_dir(process.path().join("fd")) else { continue };
            for handle in handles.flatten() {
                let Ok(stat) = std::fs::metadata(handle.path()) else { continue };
                if stat.is_file() && wanted.contains(&stat.ino()) {
                    let name = std::fs::read(process.path().join("comm")).unwrap_or_default();
                    let name = show_bytes(name.trim_ascii_end()).0;
                    out.push(OpenFile {
                        device: stat.dev(),
                        inode: stat.ino(),
                        deleted: stat.nlink() == 0,
                        holder: Holder { pid, name },
                    });
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_process_that_has_a_file_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let input = std::fs::File::open(file.path()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").stdin(input).spawn().unwrap();
        let stat = std::fs::metadata(file.path()).unwrap();
        let found = ProcHolders.find(&[stat.ino()]);
        child.kill().unwrap();
        child.wait().unwrap();
        let holder = Holder { pid: child.id(), name: "sleep".to_owned() };
        assert!(found.iter().any(|open| open.holder.pid == holder.pid), "{found:?}");
    }
}
