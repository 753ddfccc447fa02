//! A copy into an archive on the bench's own disk, and the way back: what only a daemon does by itself.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use storage_guard::archive::{Back, ColdError, ColdFolder, ColdStore as _, Copying, Throttle, bring_back};
use storage_guard::domain::archive::{key_of, path_of};
use storage_guard::domain::names::{ArchiveId, TreeId};
use storage_guard::domain::path::RelPath;
use storage_guard::system::{GuardedTree, SystemClock, WritableDir as _};

use crate::archive::lying::wanted;

/// Three of those whose retention is over. What they hold is all the same byte, and as long as no other.
const NAMES: [&str; 3] = ["0.mp4", "1.mp4", "2.mp4"];

/// Does it with the recordings of `live/a`; says whether it came to its end.
pub(super) fn operate(what: &str, top: &Path) -> Result<bool, Box<dyn Error>> {
    let at = top.parent().ok_or("the tree lies on a volume")?.join("cold");
    std::fs::create_dir_all(&at)?;
    let (hot, cold) = (Arc::new(GuardedTree::open(top)?), Arc::new(GuardedTree::open(&at)?));
    let store = ColdFolder::new(cold.clone(), Arc::new(|_| Ok(())));
    let tree = TreeId::new("live");
    let under = key_of(&tree, &RelPath::new(b"live/a")?);
    match what {
        "copy" => {
            store.tidy()?;
            let policy = Arc::new(storage_guard::testkit::policy("live", "dated"));
            let (archive, mut throttle) = (ArchiveId::new("cold"), Throttle::new(None, Arc::new(SystemClock)));
            let mut copying = Copying {
                archive: &archive,
                store: &store,
                throttle: &mut throttle,
                stop: &|| false,
                clock: &SystemClock,
            };
            for path in recordings(top)? {
                copying.copy(&wanted(&hot, &policy, &path))?;
            }
        }
        "bring" => {
            for number in hot.incoming()? {
                hot.dismiss(number)?;
            }
            let mut objects = Vec::new();
            store.list(Some(&under), &mut |object| {
                objects.push(object);
                std::ops::ControlFlow::Continue(())
            })?;
            for (number, object) in objects.iter().enumerate() {
                match bring_back(&store, object, &tree, hot.as_ref(), number as u64, &|| false) {
                    Ok(Back::Restored(..) | Back::Already(..)) | Err(ColdError::Absent(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // What bears its own name is whole, wherever the last process ended.
        "whole" => {
            let mut wrong = Vec::new();
            store.list(None, &mut |object| {
                let source = path_of(&tree, &object.key).map(|path| top.join(path.to_string()));
                let copy = std::fs::read(at.join(object.key.to_string())).unwrap_or_default();
                let other = source.and_then(|source| std::fs::read(source).ok()).is_some_and(|source| source != copy);
                let length = NAMES.iter().position(|name| object.key.to_string().ends_with(name));
                if other || length.is_none_or(|length| copy != vec![7; 5000 + 4096 * length]) {
                    wrong.push(object.key.to_string());
                }
                std::ops::ControlFlow::Continue(())
            })?;
            for path in recordings(top)? {
                let length = NAMES.iter().position(|name| path.ends_with(name)).ok_or("another name")?;
                if std::fs::read(top.join(&path))? != vec![7; 5000 + 4096 * length] {
                    wrong.push(path);
                }
            }
            if !wrong.is_empty() {
                return Err(format!("{wrong:?} are not whole").into());
            }
        }
        // All three are in both places, and nothing is left.
        "both" => {
            let mut copies = 0;
            store.list(Some(&under), &mut |_| {
                copies += 1;
                std::ops::ControlFlow::Continue(())
            })?;
            let left = (cold.incoming()?, hot.incoming()?);
            if (recordings(top)?.len(), copies) != (3, 3) || !left.0.is_empty() || !left.1.is_empty() {
                return Err(format!("{copies} copies, {:?} left", left).into());
            }
        }
        other => return Err(format!("there is no operation `{other}`").into()),
    }
    Ok(true)
}

/// Recordings of `live/a`, by their paths below the tree.
fn recordings(top: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut out = Vec::new();
    for day in std::fs::read_dir(top.join("live/a")).into_iter().flatten() {
        for entry in std::fs::read_dir(day?.path())? {
            out.push(entry?.path().strip_prefix(top)?.to_str().ok_or("a name of the layout")?.to_owned());
        }
    }
    out.sort();
    Ok(out)
}
