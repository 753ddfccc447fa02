//! An answer is not a deletion: after a batch each file is looked for, where it was and where it was set aside (promise 4).

use std::collections::BTreeSet;

use super::batch::{Expiring, Settled, begun, set_aside};
use super::handle::Trees;
use super::quarantine;
use crate::domain::deletion::{Attempt, Cause, Seq};
use crate::system::door::classify;

/// Step 4 for what is in quarantine now, and for what was until now.
pub(super) fn look_aside(trees: &Trees, settled: &mut [Settled], unsure: &mut BTreeSet<Seq>, expiring: &Expiring) {
    for one in settled.iter_mut().filter(|one| begun(one)) {
        let target = &one.intent.target;
        let Some(tree) = trees.get(&target.tree) else { continue };
        if set_aside(one) {
            if matches!(quarantine::find(tree.dir.as_ref(), one.seq, target), Ok(Some(_))) {
                continue;
            }
            let error = "it was set aside, and cannot be looked for there; that is settled once it can".to_owned();
            one.attempt = Attempt::Failed { cause: Cause::Unknown, error, holder: None };
            unsure.insert(one.seq);
        } else if let Some(seq) = expiring.of(&one.intent) {
            let gone = quarantine::look_for(tree.dir.as_ref(), seq, target);
            match (&one.attempt, gone) {
                (Attempt::Verified { .. } | Attempt::AlreadyGone, Ok(())) => {}
                (Attempt::Verified { .. } | Attempt::AlreadyGone, Err(instead)) => one.attempt = instead,
                // An earlier attempt may have deleted it and failed only afterwards.
                (Attempt::Kept { .. }, Ok(())) => one.attempt = Attempt::AlreadyGone,
                (Attempt::Kept { .. }, Err(_)) | (Attempt::Failed { .. }, _) => {}
            }
        }
    }
}

/// Step 4. Another file of the same name is not ours: the recorder may have made it meanwhile.
pub(super) fn look(trees: &Trees, settled: &mut [Settled], expiring: &Expiring) {
    let by_name = |one: &&mut Settled| expiring.of(&one.intent).is_none();
    // An earlier attempt may have deleted the file and failed only afterwards: what is gone is not kept, whatever today's rules say.
    let kept_again = |s: &&mut Settled| {
        s.intent.retry_of.is_some() && matches!(s.attempt, Attempt::Kept { .. }) && s.attempt.is_final()
    };
    for one in settled.iter_mut().filter(by_name).filter(kept_again) {
        let target = &one.intent.target;
        let Some(tree) = trees.get(&target.tree) else { continue };
        match tree.dir.look(&target.path) {
            Ok(Some(now)) if now.inode == target.inode => {}
            Ok(None | Some(_)) => one.attempt = Attempt::AlreadyGone,
            Err(error) => {
                let (cause, error) = (classify(&error), format!("it cannot be looked for: {error}"));
                one.attempt = Attempt::Failed { cause, error, holder: None };
            }
        }
    }
    let gone = |s: &&mut Settled| matches!(s.attempt, Attempt::Verified { .. } | Attempt::AlreadyGone);
    for one in settled.iter_mut().filter(by_name).filter(gone) {
        let target = &one.intent.target;
        let Some(tree) = trees.get(&target.tree) else { continue };
        let found = match tree.dir.look(&target.path) {
            Ok(None) => continue,
            Ok(Some(now)) if (now.inode, now.fingerprint()) != (target.inode, target.fingerprint) => continue,
            Ok(Some(_)) => Attempt::Failed {
                cause: Cause::Unknown,
                error: "the system said that it is gone, and it is still there".to_owned(),
                holder: None,
            },
            Err(error) => Attempt::Failed {
                cause: classify(&error),
                error: format!("it cannot be looked for after its deletion: {error}"),
                holder: None,
            },
        };
        one.attempt = found;
    }
}
