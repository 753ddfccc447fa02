//! Whether what a configuration names is there. Only looks; nothing is written.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::places::overlap;
use super::whole::Config;
use crate::domain::path::show_bytes;
use crate::domain::retention::Mode;
use crate::domain::settings::ChannelKind;

/// Opens what a configuration names: one sentence for each problem, with its remedy.
#[must_use]
pub fn check_environment(config: &Config) -> Vec<String> {
    let mut out = Vec::new();
    let mut real: Vec<(String, PathBuf)> = Vec::new();
    for tree in &config.trees {
        let who = format!("tree `{}`: `{}`", tree.name, show(&tree.path));
        if let Err(sentence) = directory(&tree.path) {
            out.push(format!("{who} {sentence}"));
            continue;
        }
        if tree.policy.mode == Mode::Enforce && !writable(&tree.path) {
            out.push(format!(
                "{who} cannot be written by this user, so nothing could be deleted; change its owner or mode"
            ));
        }
        let Ok(path) = tree.path.canonicalize() else { continue };
        for (name, other) in real.iter().filter(|(_, other)| overlap(&path, other)) {
            out.push(format!(
                "{who} is, behind its links, `{}`, which overlaps with `{}` of tree `{name}`; name one of them",
                show(&path),
                show(other)
            ));
        }
        real.push((tree.name.to_string(), path));
    }
    for volume in &config.volumes {
        if let Err(sentence) = directory(&volume.path) {
            out.push(format!("volume `{}`: `{}` {sentence}", volume.name, show(&volume.path)));
        }
    }
    out.extend(state(&config.state, &real));
    for channel in &config.notify.channels {
        let (ChannelKind::Email { ca_file: Some(file), .. } | ChannelKind::WvpRedis { ca_file: Some(file), .. }) =
            &channel.kind
        else {
            continue;
        };
        if let Err(error) = std::fs::read(file) {
            out.push(format!("channel `{}`: `ca_file`, `{}`, cannot be read: {error}", channel.name, show(file)));
        }
    }
    out
}

/// Why a path is not a directory that this user can read.
fn directory(path: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
    if metadata.is_symlink() {
        return Err("is a link, but must be the directory itself; name what it points to".to_owned());
    }
    if !metadata.is_dir() {
        return Err("is not a directory".to_owned());
    }
    std::fs::read_dir(path).map(|_| ()).map_err(failed)
}

fn writable(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// What is wrong with the state directory, or with the place where it would be made.
fn state(path: &Path, trees: &[(String, PathBuf)]) -> Vec<String> {
    let who = format!("the state directory, `{}`,", show(path));
    let mut out = Vec::new();
    let place = match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            return vec![format!("{who} is not a directory; move what is there away")];
        }
        Ok(_) => path,
        Err(_) => match path.parent() {
            Some(parent) if parent.is_dir() => parent,
            Some(parent) => {
                return vec![format!("{who} cannot be made: `{}` is not there; make it", show(parent))];
            }
            None => return vec![format!("{who} is no place for it")],
        },
    };
    if !writable(place) {
        out.push(format!("{who} needs `{}`, which this user cannot write; change its owner or mode", show(place)));
    }
    if let Ok(real) = place.canonicalize() {
        for (name, top) in trees.iter().filter(|(_, top)| real.starts_with(top)) {
            out.push(format!(
                "{who} lies, behind its links, in `{}` of tree `{name}`; keep it outside of the recordings",
                show(top)
            ));
        }
    }
    out
}

fn show(path: &Path) -> String {
    show_bytes(path.as_os_str().as_encoded_bytes()).0
}
