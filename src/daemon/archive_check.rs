//! Whether archives can be used as they are configured: part of `check --environment`. Only looks; nothing is written.

use std::path::Path;
use std::time::Duration;

use super::tree::wanted;
use crate::archive::{Bucket, Patience};
use crate::config::Config;
use crate::domain::archive::{BucketSettings, ColdPlace};
use crate::domain::cause::chain;
use crate::domain::names::ArchiveId;
use crate::domain::settings::TreeSettings;
use crate::system::Volumes;

/// For somebody who waits for the answer.
const PATIENCE: Patience = Patience { answer: Duration::from_secs(5), retry: Duration::from_secs(2) };

/// What was found about archives, one sentence each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveAdvice {
    /// What is in order.
    pub notes: Vec<String>,
    /// What the guard can live with, and a person should know.
    pub warnings: Vec<String>,
    /// What keeps an archive from being used.
    pub problems: Vec<String>,
}

/// Looks at each archive: whether a directory bears its marker and lies on another volume than the trees that use it, and whether a bucket
/// answers and may be listed. `state` is the id of the state, if there is one yet. That a directory cannot be opened is said of it as of
/// any tree.
#[must_use]
pub fn examine_archives(config: &Config, machine: &dyn Volumes, state: Option<&str>) -> ArchiveAdvice {
    let mut out = ArchiveAdvice::default();
    for archive in &config.archives {
        let name = &archive.name;
        match &archive.place {
            ColdPlace::Directory { path, .. } => {
                let Some(tree) = config.trees.iter().find(|tree| tree.name.as_str() == name.as_str()) else { continue };
                marker(tree, machine, state, &mut out);
                let uses = |tree: &&TreeSettings| {
                    let terms = tree.policy.archive.as_ref();
                    terms.is_some_and(|terms| terms.archive == *name) && same_volume(machine, path, &tree.path)
                };
                out.warnings.extend(config.trees.iter().filter(uses).map(|tree| {
                    format!(
                        "archive `{name}`: `{}` lies on the same volume as tree `{}`, so that copies give that volume no space and none are made under pressure; give the archive a disk of its own",
                        path.display(),
                        tree.name
                    )
                }));
            }
            ColdPlace::Bucket(settings) => match bucket(name, settings) {
                Ok(()) => out.notes.push(format!(
                    "archive `{name}`: bucket `{}` answers and can be listed; whether copies can be written shows with the first",
                    settings.bucket
                )),
                Err(why) => out.problems.push(why),
            },
        }
    }
    out
}

fn same_volume(machine: &dyn Volumes, one: &Path, other: &Path) -> bool {
    match (machine.describe(one), machine.describe(other)) {
        (Ok((one, _)), Ok((other, _))) => one == other,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn marker(tree: &TreeSettings, machine: &dyn Volumes, state: Option<&str>, out: &mut ArchiveAdvice) {
    let (name, path) = (&tree.name, tree.path.display());
    let Ok(dir) = machine.open_tree(&tree.path) else { return };
    let found = dir.read_marker();
    let marker = wanted(dir.as_ref(), &tree.policy, state.unwrap_or_default());
    match (found, marker) {
        (Ok(None), _) => {
            // The mount point of a disk gets its marker at first contact.
            let mount = machine.describe(&tree.path).map(|(_, traits)| traits.mount_point);
            if mount.is_ok_and(|mount| mount == "/" || Path::new(&mount) != dir.path()) {
                out.warnings.push(format!(
                    "archive `{name}`: `{path}` bears no identity marker yet, and nothing is copied to it before; if this is the right disk: `storage-guard init {name}`"
                ));
            }
        }
        (Ok(Some(found)), Ok(marker)) => {
            if let Some(fault) = marker.fault(Some(&found)) {
                out.problems.push(format!(
                    "archive `{name}`: the identity marker of `{path}` {fault}, so that nothing is copied to it; if this is the right disk: `storage-guard init --accept {name}`"
                ));
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            out.problems.push(format!(
                "archive `{name}`: the identity marker of `{path}` cannot be read: {error}; change its owner or mode"
            ));
        }
    }
}

/// Asks a bucket for its first copy.
fn bucket(name: &ArchiveId, settings: &BucketSettings) -> Result<(), String> {
    let asked = Bucket::open(name, settings, PATIENCE).and_then(|bucket| bucket.probe());
    asked.map_err(|error| {
        let why = chain(&error);
        format!("archive `{name}`: bucket `{}`: {why}; {}", settings.bucket, remedy(&why))
    })
}

/// What helps, by what the store says.
fn remedy(why: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["NoSuchBucket", " 404"]) {
        "make the bucket, or correct `bucket`"
    } else if says(&[" 403", " 401", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"]) {
        "let the key list the bucket (`s3:ListBucket`), or correct `access_key_file` and `secret_key_file`"
    } else if says(&[" 301", " 307", "AuthorizationHeaderMalformed", "PermanentRedirect"]) {
        "correct `region` and `endpoint`: the bucket is elsewhere"
    } else {
        "see that `endpoint` is right and can be reached from here"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_says_has_its_remedy() {
        for (why, part) in [
            ("the store answered 404 Not Found: NoSuchBucket, none", "make the bucket"),
            ("the store answered 403 Forbidden: AccessDenied, no", "s3:ListBucket"),
            ("the store answered 301 Moved Permanently: PermanentRedirect, there", "region"),
            ("connection refused", "can be reached"),
            ("no answer in time", "can be reached"),
        ] {
            assert!(remedy(why).contains(part), "{why}");
        }
    }
}
