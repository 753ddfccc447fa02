//! What the server asks of the daemon.

use std::sync::Arc;

use serde::Serialize;

use super::archive::{Archive, ArchivedCopy, CopiesWanted, RestoreRequest};
use super::deletions::DeletionRequest;
use super::feed::Feed;
use super::gaps::{Gap, GapQuery};
use super::holds::{Hold, HoldMade, HoldRequest};
use super::hook_records::HookKept;
use super::orphans::{Missing, Orphan, OrphansWanted, Remedied, RemedyRequest};
use super::records::{
    Alert, Cap, ChannelTest, FailureItem, Job, JobItem, JournalEntry, NewSilence, Silence, SilenceMade, Verification,
};
use super::refusal::Refusal;
use super::shapes::{Catalogue, Channel, Page, Plan, Status, StreamStanding};
use crate::domain::deletion::Outcome;
use crate::domain::journal::JournalQuery;
use crate::domain::remedy::RemedyKind;
use crate::store::HookRecord;

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// At most so many items, 1 to 1000.
    pub limit: usize,
    /// Where the page begins: the `next` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The number that the cursor holds; 0 without one.
    ///
    /// # Errors
    /// 400 if it holds none.
    pub fn number(&self) -> Result<u64, Refusal> {
        let Some(cursor) = &self.cursor else { return Ok(0) };
        cursor.parse().map_err(|_| Refusal::bad_cursor(cursor))
    }

    /// The page of a list whose items come in the order of rising numbers, all above 0: the cursor is the number of the last item given.
    ///
    /// # Errors
    /// 400 if the cursor is none.
    pub fn page<T>(&self, items: impl Iterator<Item = T>, number: impl Fn(&T) -> u64) -> Result<Page<T>, Refusal> {
        let after = self.number()?;
        let mut rest = items.filter(|item| number(item) > after);
        let items: Vec<T> = rest.by_ref().take(self.limit).collect();
        let more = rest.next().is_some();
        let next = items.last().filter(|_| more).map(|item| number(item).to_string());
        Ok(Page { items, next })
    }

    /// The page of a short list without numbers: the cursor counts the items given so far.
    ///
    /// # Errors
    /// 400 if the cursor is none.
    pub fn slice<T>(&self, items: Vec<T>) -> Result<Page<T>, Refusal> {
        let from = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let to = from.saturating_add(self.limit);
        let next = (to < items.len()).then(|| to.to_string());
        Ok(Page { items: items.into_iter().skip(from).take(self.limit).collect(), next })
    }
}

/// The answer to `GET /api/v1/plan`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Plans {
    /// Of the volume that was named.
    One(Box<Plan>),
    /// Of all volumes.
    All(Page<Plan>),
}

/// The daemon, as the server sees it. Calls may block; each has its own thread and a deadline, after which its answer is not waited
/// for. `who` is the caller's identity, for the journal.
pub trait Backend: Send + Sync {
    /// Whether every volume was probed or its deadline has passed.
    fn ready(&self) -> bool;
    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Volumes and trees.
    fn status(&self) -> Status;
    /// What would go now, of one volume or of all.
    ///
    /// # Errors
    /// 404 if there is no such volume.
    fn plans(&self, volume: Option<&str>) -> Result<Plans, Refusal>;
    /// Why a recording goes or stays and when it will go, in a few sentences for each tree that has it.
    ///
    /// # Errors
    /// 400 if `path` is no path below a tree, 404 if no scan found a recording there.
    fn explain(&self, path: &str, encoded: bool) -> Result<Vec<String>, Refusal>;
    /// The streams of a tree, or of all, the worst first.
    ///
    /// # Errors
    /// 404 if there is no such tree.
    fn streams(&self, tree: Option<&str>) -> Result<Vec<StreamStanding>, Refusal>;
    /// Carries a plan out; gives the job's number.
    ///
    /// # Errors
    /// 404 if the plan is unknown or too old, 409 if it no longer holds or the mode is observe, 503 if the queue is full.
    fn apply(&self, id: &str, who: &str) -> Result<u64, Refusal>;
    /// A job.
    ///
    /// # Errors
    /// 404 if there is none with that number.
    fn job(&self, id: u64) -> Result<Job, Refusal>;
    /// A job's recordings.
    ///
    /// # Errors
    /// 404 if there is no such job, 400 for a bad cursor.
    fn job_items(&self, id: u64, outcome: Option<Outcome>, page: &PageQuery) -> Result<Page<JobItem>, Refusal>;
    /// Begins a job that deletes what is asked for; gives its number.
    ///
    /// # Errors
    /// 404 if there is no such tree; 409 if it is only observed; 400 for a request that cannot be meant, naming each path that is no
    /// recording of the tree, and for a callback that may not be; 503 if the queue is full.
    fn delete(&self, request: &DeletionRequest, who: &str) -> Result<u64, Refusal>;
    /// What happens to the items of a job from now on, and what is known of them by now.
    ///
    /// # Errors
    /// 404 if there is no such job.
    fn job_feed(&self, id: u64) -> Result<Arc<Feed>, Refusal>;
    /// Cancels what of a job has not begun.
    ///
    /// # Errors
    /// 404 if there is no such job, 409 if it is over.
    fn cancel(&self, id: u64, who: &str) -> Result<Job, Refusal>;
    /// Lines of the journal, oldest first. `query.after` and `query.limit` already hold what `limit` and `cursor` asked for; the
    /// page's `next` is the number of its last line.
    ///
    /// # Errors
    /// 503 if the journal cannot be read.
    fn journal(&self, query: &JournalQuery) -> Result<Page<JournalEntry>, Refusal>;
    /// Why a span of a stream is missing.
    ///
    /// # Errors
    /// 400 for a span that cannot be meant, 404 if there is no such tree, or nobody knows the stream; 503 if the journal cannot be read.
    fn gap(&self, asked: &GapQuery) -> Result<Gap, Refusal>;
    /// Checks the journal's chain.
    ///
    /// # Errors
    /// 503 if it cannot be read.
    fn verify(&self) -> Result<Verification, Refusal>;
    /// Tripped caps.
    fn caps(&self) -> Vec<Cap>;
    /// Lets go of a tripped cap.
    ///
    /// # Errors
    /// 404 if there is no such tree or cap, 409 if it has not tripped.
    fn acknowledge(&self, tree: &str, cap: &str, who: &str) -> Result<(), Refusal>;
    /// Deletions that have not succeeded.
    ///
    /// # Errors
    /// 400 for a bad cursor.
    fn failures(&self, page: &PageQuery) -> Result<Page<FailureItem>, Refusal>;
    /// Tries one of them again, or all; gives how many.
    ///
    /// # Errors
    /// 404 if there is none with that number, 503 if the queue is full.
    fn retry(&self, id: Option<u64>, who: &str) -> Result<u64, Refusal>;
    /// Closes one of them: it is not tried again.
    ///
    /// # Errors
    /// 404 if there is none with that number.
    fn close(&self, id: u64, reason: &str, who: &str) -> Result<(), Refusal>;
    /// What persons hold.
    fn holds(&self) -> Vec<Hold>;
    /// How each archive stands; none where there are no archives.
    fn archives(&self) -> Vec<Archive> {
        Vec::new()
    }
    /// Copies that archives hold.
    ///
    /// # Errors
    /// 400 for a bad cursor, 503 if an archive cannot be asked.
    fn copies(&self, wanted: &CopiesWanted, page: &PageQuery) -> Result<Page<ArchivedCopy>, Refusal> {
        let _ = (wanted, page);
        Ok(Page { items: Vec::new(), next: None })
    }
    /// Begins a job that brings recordings back; gives its number.
    ///
    /// # Errors
    /// 400 for a request that cannot be meant, 404 if there is no such tree, 409 if it has no archive or is only observed, 503 if too many wait.
    fn restore(&self, request: &RestoreRequest, who: &str) -> Result<u64, Refusal> {
        let _ = who;
        Err(Refusal::conflict("no_archive", format!("tree `{}` has no `archive`", request.tree)))
    }
    /// Holds recordings: nothing deletes them until somebody lets go, or its time is over.
    ///
    /// # Errors
    /// 404 if there is no such tree; 400 for a request that cannot be meant, naming each path that cannot be a recording of the tree; 503
    /// if it cannot be put on record.
    fn hold(&self, request: &HoldRequest, who: &str) -> Result<HoldMade, Refusal>;
    /// Lets go of a hold.
    ///
    /// # Errors
    /// 404 if there is none with that number in effect, 503 if it cannot be put on record.
    fn let_go(&self, id: u64, who: &str) -> Result<(), Refusal>;
    /// Orphans: those that are reported, then those that are set aside.
    ///
    /// # Errors
    /// 404 if there is no such tree, 400 for a bad cursor, 503 if the findings cannot be read.
    fn orphans(&self, wanted: &OrphansWanted, page: &PageQuery) -> Result<Page<Orphan>, Refusal>;
    /// Catalogue entries without a file, those that we deleted ourselves left out.
    ///
    /// # Errors
    /// As for orphans.
    fn missing(&self, tree: Option<&str>, page: &PageQuery) -> Result<Page<Missing>, Refusal>;
    /// Does something about orphans, or about rows without a file; or, where that is asked for, only says what would be done.
    ///
    /// # Errors
    /// 404 if there is no such tree; 400 for a request that cannot be meant, naming each path that is none of what is asked about; 409
    /// where a safety rule speaks against it; 503 if the queue is full or the findings cannot be read.
    fn remedy(&self, kind: RemedyKind, request: &RemedyRequest, who: &str) -> Result<Remedied, Refusal>;
    /// The catalogues, and whether each is believed.
    fn catalogues(&self) -> Vec<Catalogue>;
    /// Accepts what a catalogue says now.
    ///
    /// # Errors
    /// 404 if there is no such catalogue, 409 if there is nothing to accept, 503 if that cannot be put on record.
    fn accept(&self, name: &str, who: &str) -> Result<(), Refusal>;
    /// Keeps what a media server tells of recordings, durably; says of each what became of it.
    ///
    /// # Errors
    /// 409 if no catalogue is made of hook records, 503 if they cannot be kept: then none is.
    fn keep_hooks(&self, records: &[HookRecord]) -> Result<Vec<HookKept>, Refusal>;
    /// Alerts that are pending or firing, and those resolved lately.
    fn alerts(&self) -> Vec<Alert>;
    /// The channels, and how each does.
    fn channels(&self) -> Vec<Channel>;
    /// Silences that are in effect; also those that ended lately, if `ended`.
    fn silences(&self, ended: bool) -> Vec<Silence>;
    /// Mutes alerts.
    ///
    /// # Errors
    /// 400 if it cannot be meant: no time to come within a year, no reason, no such alert, tree or volume, or none at all.
    fn silence(&self, wanted: &NewSilence, who: &str) -> Result<SilenceMade, Refusal>;
    /// Ends a silence early.
    ///
    /// # Errors
    /// 404 if there is none with that number in effect.
    fn end_silence(&self, id: u64, who: &str) -> Result<(), Refusal>;
    /// Sends a message by a channel now, and gives the whole exchange.
    ///
    /// # Errors
    /// 404 if there is no such channel.
    fn test_channel(&self, name: &str) -> Result<ChannelTest, Refusal>;
    /// Reads the configuration again.
    ///
    /// # Errors
    /// Every problem; the old configuration stays in force.
    fn reload(&self, who: &str) -> Result<(), Vec<String>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limit: usize, cursor: Option<&str>, expected: (&[u64], Option<&str>)) {
        let query = PageQuery { limit, cursor: cursor.map(str::to_owned) };
        let page = query.page([2, 4, 6_u64].into_iter(), |item| *item).unwrap();
        assert_eq!((page.items.as_slice(), page.next.as_deref()), expected);
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        check(2, None, (&[2, 4], Some("4")));
        check(2, Some("4"), (&[6], None));
        check(3, None, (&[2, 4, 6], None));
        check(1, Some("3"), (&[4], Some("4")));
        check(1, Some("6"), (&[], None));
        let slice = |cursor: &str| PageQuery { limit: 2, cursor: Some(cursor.to_owned()) }.slice(vec!['a', 'b', 'c']);
        assert_eq!(slice("0").unwrap().next.as_deref(), Some("2"));
        assert_eq!(slice("2").unwrap().items, ['c']);
        assert!(slice("18446744073709551615").unwrap().items.is_empty());
        assert_eq!(slice("x").err().map(|refusal| refusal.status), Some(400));
    }
}
