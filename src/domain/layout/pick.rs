//! `auto`: the layout that a tree seems to have.

use super::kind::{Layout, LayoutKind};
use crate::domain::path::RelPath;

/// What `auto` makes of a sample of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// The layout; `auto` itself if none knows a single path.
    pub kind: LayoutKind,
    /// How many paths it knows.
    pub matched: usize,
    /// How many it was shown.
    pub of: usize,
    /// In a sentence.
    pub why: String,
}

/// Picks the layout that knows most of the sample; the more particular one where several know as many.
#[must_use]
pub fn pick(sample: &[RelPath], like: &Layout) -> Pick {
    let of = sample.len();
    let mut best: Option<(LayoutKind, usize)> = None;
    for kind in LayoutKind::ALL {
        if matches!(kind, LayoutKind::Auto | LayoutKind::Template) {
            continue;
        }
        let layout = like.with_kind(*kind);
        let matched = sample.iter().filter(|path| layout.recognise(path, 1).is_some()).count();
        if matched > best.map_or(0, |(_, most)| most) {
            best = Some((*kind, matched));
        }
    }
    let Some((kind, matched)) = best else {
        let why = if of == 0 {
            "it holds no files yet".to_owned()
        } else {
            format!("no layout knows any of {of} files looked at")
        };
        return Pick { kind: LayoutKind::Auto, matched: 0, of, why };
    };
    Pick { kind, matched, of, why: format!("{matched} of {of} files looked at are named as `{kind}` names them") }
}
