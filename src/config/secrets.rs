//! Secrets: written in the file, taken from the environment, or kept in a file of their own.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::node::{Map, Node};
use crate::domain::secret::Secret;

/// A secret file is a line, not a film.
const MOST: u64 = 64 * 1024;

/// A secret, and where it was given.
pub(super) struct Given<'a> {
    pub(super) secret: Secret,
    pub(super) node: Node<'a>,
}

/// The secret `key`, or the content of the file that `file_key` names.
pub(super) fn take<'a>(map: &mut Map<'a>, key: &'static str, file_key: &'static str) -> Option<Given<'a>> {
    take_if(map, key, file_key, |_| true)
}

/// As [`take`], where the text is a secret only if `secret` says so: an address with a login in it.
pub(super) fn take_if<'a>(
    map: &mut Map<'a>,
    key: &'static str,
    file_key: &'static str,
    secret: impl FnOnce(&str) -> bool,
) -> Option<Given<'a>> {
    let (inline, beside) = (map.take(key), map.take(file_key));
    if let (Some(_), Some(node)) = (&inline, &beside) {
        node.problem(format!("stands beside `{key}`; give one of them"));
    }
    if let Some(node) = inline {
        let text = node.text()?;
        // What comes from the environment is not written in the file.
        if node.file.exposed && !node.refers() && secret(&text) {
            node.problem(format!(
                "is a secret in a file that others can read; run `chmod 600 {}`, or keep it in a file of its own, \
                 and name that with `{file_key}`",
                node.file.path.display()
            ));
        }
        return Some(Given { secret: Secret::new(&text), node });
    }
    let node = beside?;
    let path = node.path()?;
    match content(&path, node.file.environment) {
        Ok(secret) => Some(Given { secret, node }),
        Err(message) => {
            node.problem(message);
            None
        }
    }
}

/// Reads a secret file.
fn content(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Secret, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("names `{shown}`, which cannot be read: {error}");
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!("names `{shown}`, which is not a file"));
    }
    // systemd guards its credentials by other means than the mode.
    let credentials = environment("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    let guarded = credentials.is_some_and(|dir| path.starts_with(dir));
    if metadata.mode() & 0o077 != 0 && !guarded {
        return Err(format!("names `{shown}`, which others can read; run `chmod 600 {shown}`"));
    }
    let mut text = String::new();
    std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text)).map_err(failed)?;
    if text.trim().is_empty() {
        return Err(format!("names `{shown}`, which is empty; write the secret into it"));
    }
    Ok(Secret::new(&text))
}
