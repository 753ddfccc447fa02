//! Whether a catalogue is believed, and what a person is told if it is not.

use super::catalogue::{CatalogueKind, Distrust};
use super::names::{CatalogueId, TreeId};
use super::units::Percent;

/// How many media servers are named.
pub const SERVERS_NAMED: usize = 5;

/// What a whole reading found, and what it is measured by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WholeReading {
    /// Each tree that names the catalogue.
    pub trees: Vec<TreeReading>,
    /// Rows of other media servers.
    pub others: u64,
    /// Their names, the first [`SERVERS_NAMED`].
    pub servers: Vec<String>,
    /// Rows in no tree of ours.
    pub elsewhere: u64,
    /// Rows without a usable path.
    pub bad: u64,
    /// One path of the last two, as it is shown.
    pub example: Option<String>,
    /// What the last believed reading knew, if there was one.
    pub before: Option<Before>,
}

/// What a whole reading found of one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeReading {
    /// The tree.
    pub tree: TreeId,
    /// Paths in it.
    pub paths: u64,
    /// Recordings on disk; `None` if that is not known now.
    pub files: Option<u64>,
    /// A person accepted that it knows none of this tree.
    pub accepted_empty: bool,
}

/// What the last believed reading knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Paths in the trees that name the catalogue now.
    pub paths: u64,
    /// Of these, those that are gone now while their files are there or may be, as far as they were counted.
    pub lost: u64,
}

/// How many paths may be lost at once.
#[must_use]
pub fn may_be_lost(before: u64, max_drop: Percent) -> u64 {
    max_drop.of_count(before)
}

/// Why a whole reading of a catalogue is not believed; `None` if it is. Where it is not known what is on disk, nothing is said of a tree's
/// emptiness: the comparison, which knows, asks again.
#[must_use]
pub fn judge(kind: CatalogueKind, wanted: Option<&str>, max_drop: Percent, reading: &WholeReading) -> Option<Distrust> {
    if !kind.proves_absence() {
        return None;
    }
    let open: Vec<&TreeReading> = reading.trees.iter().filter(|tree| !tree.accepted_empty).collect();
    if reading.trees.iter().all(|tree| tree.paths == 0) {
        if let Some(wanted) = wanted
            && !open.is_empty()
            && reading.others > 0
            && reading.elsewhere == 0
        {
            return Some(Distrust::OtherServer { wanted: wanted.to_owned(), found: reading.servers.clone() });
        }
        let rows = reading.others.saturating_add(reading.elsewhere).saturating_add(reading.bad);
        if rows > 0 && open.iter().any(|tree| tree.files.is_some_and(|files| files > 0)) {
            return Some(Distrust::Elsewhere { rows, example: reading.example.clone().unwrap_or_default() });
        }
    }
    let bare = open.iter().find(|tree| tree.paths == 0 && tree.files.is_some_and(|files| files > 0));
    if let Some(TreeReading { tree, files: Some(files), .. }) = bare {
        return Some(Distrust::Empty { tree: tree.clone(), files: *files });
    }
    let Before { paths, lost } = reading.before?;
    (lost > may_be_lost(paths, max_drop)).then_some(Distrust::Dropped { lost, before: paths, allowed: max_drop })
}

impl Distrust {
    /// What is wrong with the catalogue of this name, and what to do about it.
    #[must_use]
    pub fn sentence(&self, name: &CatalogueId) -> String {
        let accept = format!("`storage-guard catalogue accept {name}`");
        match self {
            Self::NotYet => {
                format!("catalogue `{name}` was not read yet; its first reading is under way, or begins soon")
            }
            Self::Unanswered { error } => {
                format!("catalogue `{name}` does not answer: {error}; it is asked again by itself")
            }
            Self::Partial { error } => {
                format!("catalogue `{name}` answered in part: {error}; it is read again by itself")
            }
            Self::Shape { error } => format!("catalogue `{name}` is not what it should be: {error}"),
            Self::OtherServer { wanted, found } => format!(
                "all rows of catalogue `{name}` are of other media servers ({}), none is of `{wanted}`: correct its `media_server`, which may \
                 bear another name now; only if `{wanted}` has recorded nothing, {accept}",
                listed(found)
            ),
            Self::Elsewhere { rows, example } => format!(
                "none of the {} of catalogue `{name}` lies in a tree that names it, and these trees hold recordings; one of them is \
                 `{example}`: correct its `path_map`; only if none of them should lie there, {accept}",
                count(*rows, "row")
            ),
            Self::Empty { tree, files } => format!(
                "catalogue `{name}` has no row for tree `{tree}`, which holds {}: look whether its rows were deleted, and whether \
                 `path_map` and `media_server` are right; only if it is right that it knows none of them, {accept}",
                count(*files, "recording")
            ),
            Self::Dropped { lost, before, allowed } => format!(
                "catalogue `{name}` lost at least {} of {} whose files are still there, and {allowed} may be lost at once: look \
                 whether its rows were deleted or an old copy was restored; only if its new state is right, {accept}",
                grouped(*lost),
                count(*before, "row")
            ),
            Self::Index { error } => format!(
                "what catalogue `{name}` says cannot be kept: {error}; make room in the state's folder, or mend what the message says; \
                 it is read again by itself"
            ),
        }
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// `1 row`, `1,203 rows`.
fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// A number for people: `1,203`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (paths, files on disk, accepted as empty) for each tree.
    fn reading(trees: &[(u64, Option<u64>, bool)], others: u64, elsewhere: u64, bad: u64) -> WholeReading {
        let tree = |(at, (paths, files, accepted_empty)): (usize, &(u64, Option<u64>, bool))| TreeReading {
            tree: TreeId::new(&format!("t{at}")),
            paths: *paths,
            files: *files,
            accepted_empty: *accepted_empty,
        };
        WholeReading {
            trees: trees.iter().enumerate().map(tree).collect(),
            others,
            servers: vec!["zlm-2".to_owned()],
            elsewhere,
            bad,
            example: Some("/mnt/a.mp4".to_owned()),
            before: None,
        }
    }

    fn check(reading: &WholeReading, expected: Option<&str>) {
        let judged = judge(CatalogueKind::Wvp, Some("zlm-1"), Percent::new(30), reading);
        assert_eq!(judged.as_ref().map(Distrust::as_str), expected, "{reading:?}");
        let hooks = judge(CatalogueKind::Hooks, Some("zlm-1"), Percent::new(30), reading);
        assert_eq!(hooks, None, "hooks prove presence only, so nothing is lost by believing them");
    }

    /// Faults 76, 89.
    #[test]
    fn a_catalogue_that_knows_nothing_of_recordings_is_not_believed() {
        for (trees, others, elsewhere, bad, expected) in [
            (&[(5, Some(5), false)][..], 0, 0, 0, None),
            (&[(5, Some(0), false)], 9, 9, 9, None),
            (&[(0, Some(0), false)], 0, 0, 0, None),
            (&[(0, None, false)], 0, 0, 0, None),
            (&[(0, Some(5), false)], 0, 0, 0, Some("empty")),
            (&[(0, Some(5), true)], 0, 0, 0, None),
            (&[(7, Some(7), false), (0, Some(1), false)], 0, 0, 0, Some("empty")),
            (&[(7, Some(7), false), (0, Some(1), true)], 0, 0, 0, None),
            (&[(0, Some(5), false)], 9, 0, 0, Some("other_server")),
            (&[(0, Some(0), false)], 9, 0, 0, Some("other_server")),
            (&[(0, None, false)], 9, 0, 2, Some("other_server")),
            (&[(0, Some(5), true)], 9, 0, 0, None),
            (&[(0, Some(5), false)], 9, 1, 0, Some("elsewhere")),
            (&[(0, Some(5), false)], 0, 1, 0, Some("elsewhere")),
            (&[(0, Some(5), false)], 0, 0, 1, Some("elsewhere")),
            (&[(0, Some(5), true)], 0, 1, 1, None),
            (&[(0, None, false)], 0, 1, 1, None),
            (&[(0, Some(0), false)], 0, 1, 1, None),
            (&[], 9, 1, 1, None),
        ] {
            check(&reading(trees, others, elsewhere, bad), expected);
        }
    }

    #[test]
    fn what_may_be_lost_at_once_is_a_share_of_all_and_small_catalogues_are_no_exception() {
        for (paths, lost, expected) in [
            (1000, 0, None),
            (1000, 300, None),
            (1000, 301, Some("dropped")),
            (3, 0, None),
            (3, 1, Some("dropped")),
            (0, 0, None),
        ] {
            let before = Some(Before { paths, lost });
            check(&WholeReading { before, ..reading(&[(5, Some(5), false)], 0, 0, 0) }, expected);
        }
    }

    #[test]
    fn each_distrust_says_what_to_do() {
        let tree = TreeId::new("live");
        let error = "connection refused; is the database running?".to_owned();
        for (distrust, parts) in [
            (Distrust::NotYet, &["`wvp`", "not read yet"][..]),
            (Distrust::Unanswered { error: error.clone() }, &["does not answer: connection refused; is", "by itself"]),
            (Distrust::Partial { error: error.clone() }, &["in part: connection refused", "by itself"]),
            (Distrust::Shape { error: error.clone() }, &["not what it should be: connection refused"]),
            (
                Distrust::OtherServer { wanted: "zlm-1".to_owned(), found: vec!["a".to_owned(), "b".to_owned()] },
                &["(`a`, `b`)", "`zlm-1`", "`media_server`", "`storage-guard catalogue accept wvp`"],
            ),
            (
                Distrust::Elsewhere { rows: 1203, example: "/mnt/a.mp4".to_owned() },
                &["the 1,203 rows", "`/mnt/a.mp4`", "`path_map`", "accept wvp`"],
            ),
            (Distrust::Empty { tree, files: 1 }, &["tree `live`, which holds 1 recording:", "accept wvp`"]),
            (
                Distrust::Dropped { lost: 1_234_567, before: 3_000_000, allowed: Percent::new(30) },
                &["1,234,567 of 3,000,000 rows", "30%", "accept wvp`"],
            ),
            (Distrust::Index { error }, &["cannot be kept: connection refused", "make room"]),
        ] {
            let sentence = distrust.sentence(&CatalogueId::new("wvp"));
            for part in parts {
                assert!(sentence.contains(part), "{sentence}: {part}");
            }
            assert_eq!(sentence.contains("catalogue accept"), distrust.acceptable(), "{sentence}");
        }
    }
}
