//! When an archive is told of: nothing was copied for hours though something waits, or something went without a copy.

use std::time::Duration;

use super::alert::{AlertName, Case, Condition, Subject};
use super::archive::ArchiveView;
use super::conditions::condition;
use super::fact::{Fact, FactName, Facts};
use super::history::History;
use super::status::VolumeView;
use super::units::Timestamp;

/// Something waits for so long, and nothing was copied.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// What went without a copy is told of for so long.
const TOLD: Duration = Duration::from_secs(86_400);

/// What is wrong with archives, by the trees that use them.
#[must_use]
pub fn archives_failing(
    archives: &[ArchiveView],
    volumes: &[VolumeView],
    history: &History,
    now: Timestamp,
) -> Vec<Condition> {
    let mut out = Vec::new();
    for tree in volumes.iter().flat_map(|volume| &volume.trees) {
        let Some(terms) = &tree.policy.archive else { continue };
        let name = &tree.policy.tree;
        let archive = archives.iter().find(|archive| archive.name == terms.archive);
        let about = |case, facts: Facts| {
            let archive = (FactName::Archive, Fact::Text(terms.archive.to_string()));
            condition(AlertName::ArchiveFailing, Subject::Tree(name.clone()), case, facts.into_iter().chain([archive]))
        };
        // An alert is about its tree: what is lost is worse than what waits.
        let lost = history.unarchived.get(name).filter(|(_, at)| now.since(*at) < TOLD);
        if let Some((tally, at)) = lost {
            let facts = Facts::from([
                (FactName::Recordings, Fact::Count(tally.files)),
                (FactName::Deleted, Fact::Bytes(tally.bytes)),
                (FactName::Since, Fact::Time(*at)),
            ]);
            out.push(about(Case::Lost, with_problem(facts, archive)));
        } else if let Some((archive, since)) = archive.and_then(|archive| Some((archive, stuck(archive, now)?))) {
            let facts = Facts::from([
                (FactName::Recordings, Fact::Count(archive.waiting.files)),
                (FactName::Wanted, Fact::Bytes(archive.waiting.bytes)),
                (FactName::Since, Fact::Time(since)),
            ]);
            out.push(about(Case::Waiting, with_problem(facts, Some(archive))));
        }
    }
    out
}

/// Whether nobody can tell yet that an alert about a tree's archive is over: it was restored, something waits, and nothing was copied since
/// the start.
#[must_use]
pub fn archive_untold(subject: &Subject, archives: &[ArchiveView], volumes: &[VolumeView]) -> bool {
    let trees = volumes.iter().flat_map(|volume| &volume.trees);
    let terms = trees
        .filter(|view| *subject == Subject::Tree(view.policy.tree.clone()))
        .find_map(|view| view.policy.archive.as_ref());
    terms.is_some_and(|terms| {
        let mut own = archives.iter().filter(|archive| archive.name == terms.archive);
        own.any(|archive| archive.waiting.files > 0 && archive.copied_at.is_none())
    })
}

/// Since when nothing was copied though something waits, if that is too long.
fn stuck(archive: &ArchiveView, now: Timestamp) -> Option<Timestamp> {
    let since = archive.copied_at.max(archive.waiting_since).filter(|_| archive.waiting.files > 0)?;
    (now.since(since) >= PATIENCE).then_some(since)
}

fn with_problem(mut facts: Facts, archive: Option<&ArchiveView>) -> Facts {
    if let Some(problem) = archive.and_then(|archive| archive.problem.as_ref()) {
        facts.insert(FactName::Detail, Fact::Text(problem.text.clone()));
    }
    facts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::archive::{ArchiveProblem, ArchiveTerms};
    use crate::domain::conditions::tests::volume;
    use crate::domain::names::ArchiveId;
    use crate::domain::recording::Tally;
    use crate::domain::units::Bytes;

    const NOW: i64 = 1_700_000_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_secs(NOW - hours * 3600)
    }

    /// Hours since something waits, and since the last copy; hours since something went without a copy.
    fn check(files: u64, waits: Option<i64>, copied: Option<i64>, lost: Option<i64>, expected: Option<Case>) {
        let mut volume = volume();
        let tree = volume.trees[0].policy.tree.clone();
        let archive = ArchiveId::new("cold");
        let policy = Arc::make_mut(&mut volume.trees[0].policy);
        policy.archive =
            Some(ArchiveTerms { archive: archive.clone(), after: Duration::ZERO, max_age: None, directory: None });
        let view = ArchiveView {
            name: archive,
            waiting: Tally { files, bytes: Bytes(files) },
            waiting_since: waits.map(at),
            copied_at: copied.map(at),
            copied: Tally::default(),
            problem: Some(ArchiveProblem { since: at(9), text: "it is away".to_owned() }),
        };
        let mut history = History::default();
        if let Some(hours) = lost {
            history.unarchived.insert(tree.clone(), (Tally { files: 2, bytes: Bytes(7) }, at(hours)));
        }
        let found = archives_failing(std::slice::from_ref(&view), std::slice::from_ref(&volume), &history, at(0));
        let cases: Vec<Case> = found.iter().map(|one| one.case).collect();
        assert_eq!(cases, expected.into_iter().collect::<Vec<_>>(), "{files} {waits:?} {copied:?} {lost:?}");
        let untold = archive_untold(&Subject::Tree(tree), &[view], &[volume]);
        assert_eq!(untold, files > 0 && copied.is_none());
    }

    #[test]
    fn it_is_told_of_what_waits_too_long_and_of_what_went_without_a_copy() {
        check(0, None, None, None, None);
        check(3, Some(5), None, None, None);
        check(3, Some(6), None, None, Some(Case::Waiting));
        check(3, Some(90), Some(2), None, None);
        check(3, Some(90), Some(7), None, Some(Case::Waiting));
        check(3, Some(90), None, Some(1), Some(Case::Lost));
        check(0, None, None, Some(23), Some(Case::Lost));
        check(0, None, None, Some(24), None);
    }
}
