//! `/proc/self/mountinfo`: which filesystem a path is on, and what it is. Pure: bytes in, mounts out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id, as `statx` gives it.
    pub id: u64,
    /// `MAJOR:MINOR`.
    pub device: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Filesystem type.
    pub kind: String,
    /// Device or remote path.
    pub source: String,
    /// The filesystem itself is read-only. The flags of one mount do not count: a read-only bind mount of a filesystem that
    /// recorders write to is no fault.
    pub readonly: bool,
}

impl Mount {
    /// Other machines may write to it.
    #[must_use]
    pub fn network(&self) -> bool {
        const KINDS: [&str; 9] =
            ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "lustre", "fuse.sshfs", "fuse.glusterfs"];
        KINDS.contains(&self.kind.as_str())
    }

    /// Somebody else must answer for every call: another machine, or a process. If they do not, the call hangs.
    #[must_use]
    pub fn remote(&self) -> bool {
        const OTHERS: [&str; 7] = ["autofs", "smbfs", "afs", "beegfs", "gpfs", "virtiofs", "fuse"];
        self.network() || OTHERS.contains(&self.kind.as_str()) || self.kind.starts_with("fuse.")
    }

    /// It has layers.
    #[must_use]
    pub fn union(&self) -> bool {
        ["overlay", "aufs", "unionfs", "fuse.mergerfs", "fuse.unionfs"].contains(&self.kind.as_str())
    }

    /// Freed space comes back with a commit, and snapshots keep it.
    #[must_use]
    pub fn copy_on_write(&self) -> bool {
        ["btrfs", "bcachefs", "zfs"].contains(&self.kind.as_str())
    }
}

/// All mounts of a mountinfo text. Lines that are none are passed over: the kernel may add, but never breaks, the format.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

/// The mount that holds `path`: the longest mount point above it, and of several at one point the last, which covers the others.
#[must_use]
pub fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().filter(|m| path.starts_with(&m.point)).max_by_key(|m| m.point.as_os_str().len())
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ').filter(|f| !f.is_empty());
    let mut next = || fields.next();
    let id = text(next()?).parse().ok()?;
    let _parent = next()?;
    let device = text(next()?);
    let _root = next()?;
    let point = PathBuf::from(OsStr::from_bytes(&unescape(next()?)));
    let _options = next()?;
    // Any number of optional fields, ended by a hyphen.
    while next()? != b"-" {}
    let kind = text(next()?);
    let source = text(&unescape(next()?));
    let readonly = next()?.split(|b| *b == b',').any(|option| option == b"ro" || option == b"emergency_ro");
    Some(Mount { id, device, point, kind, source, readonly })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes blank, tab, newline and backslash as `\NNN` in octal, as the kernel does: a path is then one word of a line.
pub(super) fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    out
}

/// Blank, tab, newline and backslash are written `\NNN` in octal.
pub(super) fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
        30 22 8:17 / /data rw shared:2 master:3 - xfs /dev/sdb1 rw\n\
        31 30 0:50 / /data/with\\040blank rw - nfs4 nas:/x rw,vers=4.2\n\
        32 22 8:33 / /data ro - ext4 /dev/sdc1 rw\n\
        33 22 8:49 / /broken rw - ext4 /dev/sdd1 ro\n\
        garbage\n\
        34 22 8:65 / /odd\xff rw - btrfs /dev/sde rw\n";

    fn check(path: &[u8], id: u64) {
        let mounts = parse(TEXT);
        assert_eq!(holding(&mounts, Path::new(OsStr::from_bytes(path))).map(|m| m.id), Some(id));
    }

    #[test]
    fn finds_the_mount_that_covers_a_path() {
        check(b"/", 22);
        check(b"/database", 22);
        check(b"/data/record", 32);
        check(b"/data/with blank/x", 31);
        check(b"/odd\xff/x", 34);
    }

    #[test]
    fn a_path_is_one_word_and_comes_back_whole() {
        let path = b"/a b\tc\nd\\040e\xff";
        let word = escape(path);
        assert!(!word.iter().any(u8::is_ascii_whitespace));
        assert_eq!(unescape(&word), path);
    }

    #[test]
    fn only_the_filesystem_itself_counts_as_read_only() {
        let readonly: Vec<u64> = parse(TEXT).iter().filter(|m| m.readonly).map(|m| m.id).collect();
        assert_eq!(readonly, [33]);
    }

    #[test]
    fn knows_what_kind_of_filesystem_it_is() {
        let mounts = parse(TEXT);
        let kinds: Vec<(bool, bool)> = mounts.iter().map(|m| (m.network(), m.copy_on_write())).collect();
        assert_eq!(
            kinds,
            [(false, false), (false, false), (true, false), (false, false), (false, false), (false, true)]
        );
    }
}
