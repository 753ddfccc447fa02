//! The one door: everything that is deleted goes through here (promise 2).
//!
//! 1. Open below the tree, and compare inode and fingerprint with what was planned.
//! 2. Keep it if it has other names, bears a hold, is locked, or is open (a lease is asked for).
//! 3. Rename it to a name of ours, never over another file, with its origin in an extended attribute.
//! 4. Look at what now bears that name, and compare again: if somebody swapped the file in between, put it back.
//! 5. Ask whether the lease is still whole: who began to open the file before it was renamed waits for it, and gets it back.
//! 6. Unlink, or leave it set aside (quarantine). Look whether it is gone, drop the lease, close. Our descriptor stays open until then, since the blocks are freed
//!    with the last close, and a recorder that waits for the lease must not wait for that too.
//!
//! Only [`verify`] makes a [`Verified`], only [`unlink`] takes one, and uses it up. One that is dropped puts its file back.

use std::io;

use super::{Aside, HeldFile, Lease, LeaseKind, WritableDir};
use crate::domain::deletion::{Attempt, Cause, Target, UNREADABLE};
use crate::domain::path::RelPath;
use crate::domain::protection::HOLD_ATTRIBUTE;
use crate::domain::recording::FileIdentity;
use crate::domain::retention::WhenOpen;
use crate::domain::units::Bytes;

/// Extended attribute that keeps a set aside file's origin.
pub const ORIGIN_ATTRIBUTE: &str = "user.storage_guard.origin";

/// Why a file is kept that is no longer the one that was planned.
pub const CHANGED: &str = "changed";

/// What the policy says about a deletion at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorRules {
    /// What happens to files that are open for reading.
    pub when_open: WhenOpen,
    /// A file may go without a lease where the filesystem gives none: time and two unchanged sightings stand in.
    pub without_lease: bool,
    /// Leases are believed here: the filesystem is local.
    pub leases: bool,
    /// Files of this filesystem may share their blocks, so it is asked how many are.
    pub may_share: bool,
    /// There is no room for a journal: the name that a file is set aside under is the record, and is made durable first.
    pub name_is_record: bool,
}

/// A file that was looked at again, set aside, and looked at once more: the licence to unlink it.
pub struct Verified<'d> {
    dir: &'d dyn WritableDir,
    target: &'d Target,
    aside: Option<Aside>,
    file: Box<dyn HeldFile>,
    freed: Bytes,
    shared: Bytes,
    read_by_others: bool,
    lease: Option<LeaseKind>,
}

/// What the door says to a target.
pub enum Checked<'d> {
    /// It may be unlinked.
    Ready(Verified<'d>),
    /// It is settled already.
    Done(Attempt),
}

/// Looks at a target again and sets it aside under `seq`.
pub fn verify<'d>(dir: &'d dyn WritableDir, target: &'d Target, seq: u64, rules: DoorRules) -> Checked<'d> {
    match examine(dir, target, rules) {
        Ok(examined) => set_aside(dir, target, seq, examined, rules),
        Err(attempt) => Checked::Done(attempt),
    }
}

/// Steps 1 and 2 for what is set aside.
fn examine_aside(dir: &dyn WritableDir, aside: &Aside, target: &Target, rules: DoorRules) -> Result<Examined, Attempt> {
    let file = dir.open_aside(aside).map_err(|error| failed(&error))?.ok_or(Attempt::AlreadyGone)?;
    let now = as_planned(file.as_ref(), target)?;
    unlocked(file.as_ref())?;
    let lease = unopened(file.as_ref(), rules)?;
    if lease.is_some_and(|kind| !file.undisturbed(kind)) {
        return Err(disturbed());
    }
    let shared = shared(file.as_ref(), now.allocated, rules);
    Ok(Examined { file, freed: now.allocated, shared, lease })
}

/// A file that may go.
struct Examined {
    file: Box<dyn HeldFile>,
    freed: Bytes,
    shared: Bytes,
    lease: Option<LeaseKind>,
}

/// Steps 1 and 2.
fn examine(dir: &dyn WritableDir, target: &Target, rules: DoorRules) -> Result<Examined, Attempt> {
    let file = dir.open(&target.path).map_err(|error| unopenable(&error))?.ok_or(Attempt::AlreadyGone)?;
    let now = as_planned(file.as_ref(), target)?;
    unlocked(file.as_ref())?;
    let lease = unopened(file.as_ref(), rules)?;
    let shared = shared(file.as_ref(), now.allocated, rules);
    Ok(Examined { file, freed: now.allocated, shared, lease })
}

/// Whether anybody may remove it.
fn unlocked(file: &dyn HeldFile) -> Result<(), Attempt> {
    if file.locked() {
        let error = "it is immutable or append-only (chattr)".to_owned();
        return Err(Attempt::Failed { cause: Cause::Locked, error, holder: None });
    }
    Ok(())
}

/// Whether this is still the file that was planned, with one name and no hold on it.
fn as_planned(file: &dyn HeldFile, target: &Target) -> Result<FileIdentity, Attempt> {
    let now = file.identity().map_err(|error| failed(&error))?;
    if (now.inode, now.fingerprint()) != (target.inode, target.fingerprint) {
        return Err(kept(CHANGED));
    }
    if now.links != 1 {
        return Err(kept("linked"));
    }
    if file.attribute(HOLD_ATTRIBUTE).map_err(|error| failed(&error))?.is_some() {
        return Err(kept("hold"));
    }
    Ok(now)
}

/// Bytes that will not come back, because others share them.
fn shared(file: &dyn HeldFile, allocated: Bytes, rules: DoorRules) -> Bytes {
    if rules.may_share { file.shared().unwrap_or(Bytes::ZERO).min(allocated) } else { Bytes::ZERO }
}

/// Asks for a lease; returns the one that was granted: without writers only, if readers, which the policy does not wait for, have the
/// file open.
fn unopened(file: &dyn HeldFile, rules: DoorRules) -> Result<Option<LeaseKind>, Attempt> {
    let ask = |kind| file.lease(kind).map_err(|error| failed(&error));
    let in_use = |error: &str| Attempt::Failed { cause: Cause::InUse, error: error.to_owned(), holder: None };
    match (ask(LeaseKind::NoOpener)?, rules.when_open) {
        // What other machines have open, no lease tells.
        (Lease::Granted, _) if !rules.leases && !rules.without_lease => {
            let _ = file.release();
            Err(in_use("whether another machine has it open cannot be asked, and it was not seen unchanged twice"))
        }
        (Lease::Granted, _) => Ok(Some(LeaseKind::NoOpener)),
        (Lease::Conflict, WhenOpen::Wait) => Err(in_use("somebody has it open")),
        (Lease::Conflict, WhenOpen::Delete) => match ask(LeaseKind::NoWriter)? {
            Lease::Granted => Ok(Some(LeaseKind::NoWriter)),
            Lease::Conflict | Lease::Unavailable => Err(in_use("somebody has it open for writing")),
        },
        (Lease::Unavailable, _) if rules.without_lease => Ok(None),
        (Lease::Unavailable, _) => {
            Err(in_use("whether it is open cannot be asked, and it was not seen unchanged twice"))
        }
    }
}

/// Steps 3 and 4.
fn set_aside<'d>(
    dir: &'d dyn WritableDir,
    target: &'d Target,
    seq: u64,
    examined: Examined,
    rules: DoorRules,
) -> Checked<'d> {
    let Examined { file, freed, shared, lease } = examined;
    let read_by_others = lease == Some(LeaseKind::NoWriter);
    // The journal has the same; a filesystem without attributes, or without room for one, loses nothing.
    let origin = origin(target, seq);
    let _ = file.set_attribute(ORIGIN_ATTRIBUTE, &origin);
    let give_up = |attempt| {
        let _ = file.remove_attribute(ORIGIN_ATTRIBUTE);
        let _ = file.release();
        Checked::Done(attempt)
    };
    let renamed = file.identity().and_then(|this| dir.set_aside_only(&target.path, seq, &this, rules.name_is_record));
    let aside = match renamed {
        Ok(aside) => aside,
        Err(error) if classify(&error) == Cause::Changed => return give_up(kept(CHANGED)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return give_up(Attempt::AlreadyGone),
        Err(error) => return give_up(failed(&error)),
    };
    let same = dir.look_aside(&aside).and_then(|found| match found {
        Some(now) => {
            let held = file.identity()?;
            Ok((now.inode, now.device) == (held.inode, held.device) && now.links == 1)
        }
        None => Ok(false),
    });
    match same {
        Ok(true) => {
            Checked::Ready(Verified { dir, target, aside: Some(aside), file, freed, shared, read_by_others, lease })
        }
        // Whatever was set aside instead is somebody's: it goes back.
        Ok(false) => match put_back(dir, &aside, &target.path) {
            Ok(()) => give_up(kept(CHANGED)),
            Err(error) => {
                // It does not bear its origin yet, without which settling could not put it back.
                if let Ok(Some(other)) = dir.open_aside(&aside) {
                    let _ = other.set_attribute(ORIGIN_ATTRIBUTE, &origin);
                }
                give_up(Attempt::Failed {
                    cause: Cause::Changed,
                    error: format!(
                        "another file had taken its place; it is set aside as {seq}, and goes back at the next start: {error}"
                    ),
                    holder: None,
                })
            }
        },
        Err(error) => {
            let _ = put_back(dir, &aside, &target.path);
            give_up(failed(&error))
        }
    }
}

/// How often a file is put back before that is left to settling: somebody who swaps directories is in the way now and then.
const TIMES: usize = 16;

fn put_back(dir: &dyn WritableDir, aside: &Aside, path: &RelPath) -> io::Result<()> {
    let mut done = dir.put_back(aside, path);
    for _ in 1..TIMES {
        if done.is_ok() {
            break;
        }
        done = dir.put_back(aside, path);
    }
    done
}

/// Step 5: takes what is set aside out of its licence; or gives it back to who began to open it, and says so.
fn undisturbed(verified: &mut Verified<'_>) -> Result<Aside, Attempt> {
    let Some(aside) = verified.aside.take() else { return Err(Attempt::AlreadyGone) };
    if verified.lease.is_some_and(|kind| !verified.file.undisturbed(kind)) {
        let (dir, target) = (verified.dir, verified.target);
        // First the name, then the lease: whoever waits finds the file where it was.
        let back = put_back(dir, &aside, &target.path);
        if back.is_ok() {
            let _ = verified.file.remove_attribute(ORIGIN_ATTRIBUTE);
        }
        let _ = verified.file.release();
        return Err(match back {
            Ok(()) => disturbed(),
            Err(error) => failed(&error),
        });
    }
    Ok(aside)
}

/// Leaves what [`verify`] set aside where it is, with its origin: quarantine.
pub fn quarantine(mut verified: Verified<'_>) -> Attempt {
    match undisturbed(&mut verified) {
        Ok(_) => {
            let _ = verified.file.release();
            Attempt::quarantined()
        }
        Err(attempt) => attempt,
    }
}

/// Unlinks what [`verify`] set aside.
pub fn unlink(mut verified: Verified<'_>) -> Attempt {
    let aside = match undisturbed(&mut verified) {
        Ok(aside) => aside,
        Err(attempt) => return attempt,
    };
    let result = verified.dir.unlink_aside(&aside).map_err(|error| failed(&error));
    match result.and_then(|()| look_for(verified.dir, &aside, verified.file.as_ref())) {
        Ok(()) => {
            let _ = verified.file.release();
            Attempt::Verified { freed: verified.freed, shared: verified.shared, open: verified.read_by_others }
        }
        Err(attempt) => {
            verified.aside = Some(aside);
            attempt
        }
    }
}

/// An answer is not a deletion: a filesystem may say that it was done, and keep the file.
fn look_for(dir: &dyn WritableDir, aside: &Aside, file: &dyn HeldFile) -> Result<(), Attempt> {
    let looked = dir.look_aside(aside).and_then(|found| match found {
        Some(now) => file.identity().map(|held| (now.inode, now.device) == (held.inode, held.device)),
        None => Ok(false),
    });
    let failed = |cause, error| Err(Attempt::Failed { cause, error, holder: None });
    match looked {
        Ok(false) => Ok(()),
        Ok(true) => failed(Cause::Unknown, "the system said that it was deleted, and it is still there".to_owned()),
        Err(error) => failed(classify(&error), format!("it cannot be looked for after its deletion: {error}")),
    }
}

impl Drop for Verified<'_> {
    fn drop(&mut self) {
        if let Some(aside) = self.aside.take() {
            // If it cannot go back now, settling puts it back, and finds there where it came from.
            if put_back(self.dir, &aside, &self.target.path).is_ok() {
                let _ = self.file.remove_attribute(ORIGIN_ATTRIBUTE);
            }
        }
    }
}

/// Finishes the deletion of something that an earlier run had set aside, or says why it may not go. What may not go stays
/// set aside: putting it back is the caller's decision.
pub fn finish(dir: &dyn WritableDir, aside: &Aside, target: &Target, rules: DoorRules) -> Attempt {
    match examine_aside(dir, aside, target, rules) {
        Ok(Examined { file, freed, shared, lease }) => {
            let open = lease == Some(LeaseKind::NoWriter);
            let result = dir.unlink_aside(aside).map_err(|error| failed(&error));
            match result.and_then(|()| look_for(dir, aside, file.as_ref())) {
                Ok(()) => {
                    let _ = file.release();
                    Attempt::Verified { freed, shared, open }
                }
                Err(attempt) => attempt,
            }
        }
        Err(attempt) => attempt,
    }
}

fn origin(target: &Target, seq: u64) -> Vec<u8> {
    let mut out = format!("{seq}\n{}\n{}\n", target.rule, target.trigger).into_bytes();
    out.extend_from_slice(target.path.as_bytes());
    out
}

fn disturbed() -> Attempt {
    Attempt::Failed {
        cause: Cause::InUse,
        error: "somebody began to open it while it was being deleted".to_owned(),
        holder: None,
    }
}

/// Whether a target could go now: the first two steps, and nothing is touched. `Err` says why not.
///
/// # Errors
/// What [`verify`] would answer.
pub fn ready(dir: &dyn WritableDir, target: &Target, rules: DoorRules) -> Result<(), Attempt> {
    let examined = examine(dir, target, rules)?;
    let _ = examined.file.release();
    Ok(())
}

/// The same for what is set aside.
///
/// # Errors
/// What [`finish`] would answer.
pub fn ready_aside(dir: &dyn WritableDir, aside: &Aside, target: &Target, rules: DoorRules) -> Result<(), Attempt> {
    let examined = examine_aside(dir, aside, target, rules)?;
    let _ = examined.file.release();
    Ok(())
}

fn kept(why: &str) -> Attempt {
    Attempt::Kept { why: why.to_owned() }
}

/// A failure, as the system told it.
#[must_use]
pub fn failed(error: &io::Error) -> Attempt {
    Attempt::Failed { cause: classify(error), error: error.to_string(), holder: None }
}

/// A file that cannot be opened: the file's own matter, where it is one of permission.
fn unopenable(error: &io::Error) -> Attempt {
    let cause = classify(error);
    let text = if cause == Cause::Permission { format!("{UNREADABLE}{error}") } else { error.to_string() };
    Attempt::Failed { cause, error: text, holder: None }
}

/// The class of a failure.
#[must_use]
pub fn classify(error: &io::Error) -> Cause {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Cause::Permission,
        Some(libc::EROFS) => Cause::ReadOnly,
        Some(libc::EIO | libc::ESTALE | libc::ENOTCONN | libc::ENODEV | libc::ENXIO) => Cause::Io,
        Some(libc::EBUSY | libc::ETXTBSY) => Cause::Busy,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Cause::TooManyFiles,
        Some(libc::ELOOP | libc::EXDEV | libc::EINVAL | libc::ENOTDIR) => Cause::Changed,
        // A process that works the tree does not answer, or is gone.
        None if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::BrokenPipe) => Cause::Io,
        _ => Cause::Unknown,
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
