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

/// Picks the layout that knows most of the sample. `dated` and `plain` take almost any file, so a layout that reads whole names
/// goes before them if it knows at least half of what they do: a stray file is no reason to misread all others.
#[must_use]
pub fn pick(sample: &[RelPath], like: &Layout) -> Pick {
    let of = sample.len();
    let known = |kind: LayoutKind| {
        let layout = like.with_kind(kind);
        (kind, sample.iter().filter(|path| layout.recognise(path, 1).is_some()).count())
    };
    // Of several that know as many, the first.
    let most = |kinds: &[LayoutKind]| {
        kinds.iter().map(|kind| known(*kind)).reduce(|best, next| if next.1 > best.1 { next } else { best })
    };
    let whole = most(&[LayoutKind::Zlmediakit, LayoutKind::Hls, LayoutKind::Frigate, LayoutKind::Mediamtx]);
    let loose = most(&[LayoutKind::Dated, LayoutKind::Plain]);
    let best = match (whole, loose) {
        (Some(whole), Some(loose)) if whole.1 * 2 >= loose.1 => Some(whole),
        (_, loose) => loose,
    }
    .filter(|(_, matched)| *matched > 0);
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
