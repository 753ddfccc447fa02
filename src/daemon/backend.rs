//! The daemon as the server sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::hub::lock;
use super::serve::Daemon;
use crate::domain::deletion::Outcome;
use crate::domain::event::Event;
use crate::domain::journal::JournalQuery;
use crate::domain::remedy::RemedyKind;
use crate::metrics::{Known, render};
use crate::server::archive::{Archive, ArchivedCopy, CopiesWanted, RestoreRequest};
use crate::server::deletions::DeletionRequest;
use crate::server::gaps::{Gap, GapQuery};
use crate::server::holds::{Hold, HoldMade, HoldRequest};
use crate::server::hook_records::HookKept;
use crate::server::orphans::{Missing, Orphan, OrphansWanted, Remedied, RemedyRequest};
use crate::server::records::{
    Alert, Cap, ChannelTest, FailureItem, Job, JobItem, JournalEntry, NewSilence, Silence, SilenceMade, Verification,
};
use crate::server::relays::Relay;
use crate::server::shapes::{Catalogue, Channel, Page, Status, StreamStanding};
use crate::server::{Backend, Feed, PageQuery, Plans, Refusal};
use crate::store::HookRecord;

impl Backend for Daemon {
    fn ready(&self) -> bool {
        self.hub.ready()
    }

    fn metrics(&self) -> String {
        let (volumes, catalogues) = (self.hub.views(), self.hub.catalogue_views());
        let archives = self.hub.archives();
        let media = self.hub.live.views();
        let (firing, outbox) = (self.alerts.firing(), self.alerts.notifier.outbox_oldest());
        let relays = self.media.relays();
        let known = |history: &_| {
            let known = Known {
                volumes: &volumes,
                catalogues: &catalogues,
                archives: &archives,
                media: &media,
                history,
                firing: &firing,
                relays: &relays,
                outbox: &outbox,
                now: self.hub.now(),
            };
            render(&self.hub.counters, &known)
        };
        self.hub.with_history(known).unwrap_or_else(|error| format!("# {error}\n"))
    }

    fn status(&self) -> Status {
        let delivery_failing_since = self.alerts.notifier.failing_since().map(|at| at.to_string());
        let relays = self.media.relays_and_abandoned().iter().map(Relay::from).collect();
        Status {
            delivery_failing_since,
            relays,
            archives: self.archives(),
            alerts: Some(self.alerts.counts()),
            ..self.hub.status()
        }
    }

    fn plans(&self, volume: Option<&str>) -> Result<Plans, Refusal> {
        self.hub.plans(volume)
    }

    fn explain(&self, path: &str, encoded: bool) -> Result<Vec<String>, Refusal> {
        self.hub.explain(path, encoded)
    }

    fn streams(&self, tree: Option<&str>) -> Result<Vec<StreamStanding>, Refusal> {
        self.hub.streams(tree)
    }

    fn apply(&self, id: &str, who: &str) -> Result<u64, Refusal> {
        self.hub.apply(id, who)
    }

    fn job(&self, id: u64) -> Result<Job, Refusal> {
        self.hub.job(id)
    }

    fn job_items(&self, id: u64, outcome: Option<Outcome>, page: &PageQuery) -> Result<Page<JobItem>, Refusal> {
        self.hub.job_items(id, outcome, page)
    }

    fn delete(&self, request: &DeletionRequest, who: &str) -> Result<u64, Refusal> {
        let policy = self.hub.deletable(&request.tree)?;
        let (demand, malformed) = request.demand()?;
        self.hub.accept_demand(&policy, demand, malformed, who, request.callback_url.as_deref())
    }

    fn job_feed(&self, id: u64) -> Result<Arc<Feed>, Refusal> {
        self.hub.feed(id)
    }

    fn cancel(&self, id: u64, who: &str) -> Result<Job, Refusal> {
        self.hub.cancel(id, who)
    }

    fn journal(&self, query: &JournalQuery) -> Result<Page<JournalEntry>, Refusal> {
        self.hub.journal(query)
    }

    fn gap(&self, asked: &GapQuery) -> Result<Gap, Refusal> {
        self.hub.gap(asked, self.parts.machine.as_ref(), &mut |_, _| ())
    }

    fn verify(&self) -> Result<Verification, Refusal> {
        self.hub.verify()
    }

    fn caps(&self) -> Vec<Cap> {
        self.hub.caps()
    }

    fn acknowledge(&self, tree: &str, cap: &str, who: &str) -> Result<(), Refusal> {
        self.hub.acknowledge(tree, cap, who)
    }

    fn failures(&self, page: &PageQuery) -> Result<Page<FailureItem>, Refusal> {
        self.hub.failures(page)
    }

    fn retry(&self, id: Option<u64>, who: &str) -> Result<u64, Refusal> {
        self.hub.retry(id, who)
    }

    fn close(&self, id: u64, reason: &str, who: &str) -> Result<(), Refusal> {
        self.hub.close(id, reason, who)
    }

    fn holds(&self) -> Vec<Hold> {
        self.hub.holds()
    }

    fn hold(&self, request: &HoldRequest, who: &str) -> Result<HoldMade, Refusal> {
        self.hub.hold(request, who, self.parts.machine.as_ref())
    }

    fn let_go(&self, id: u64, who: &str) -> Result<(), Refusal> {
        self.hub.let_go(id, who)
    }

    fn archives(&self) -> Vec<Archive> {
        self.hub.archives().iter().map(Archive::from).collect()
    }

    fn copies(&self, wanted: &CopiesWanted, page: &PageQuery) -> Result<Page<ArchivedCopy>, Refusal> {
        self.hub.copies(wanted, page)
    }

    fn restore(&self, request: &RestoreRequest, who: &str) -> Result<u64, Refusal> {
        self.hub.restore(request, who)
    }

    fn orphans(&self, wanted: &OrphansWanted, page: &PageQuery) -> Result<Page<Orphan>, Refusal> {
        self.hub.orphans(wanted, page)
    }

    fn missing(&self, tree: Option<&str>, page: &PageQuery) -> Result<Page<Missing>, Refusal> {
        self.hub.missing(tree, page)
    }

    fn remedy(&self, kind: RemedyKind, request: &RemedyRequest, who: &str) -> Result<Remedied, Refusal> {
        self.hub.remedy(kind, request, who)
    }

    fn catalogues(&self) -> Vec<Catalogue> {
        self.hub.catalogues()
    }

    fn accept(&self, name: &str, who: &str) -> Result<(), Refusal> {
        self.hub.accept(name, who)
    }

    fn keep_hooks(&self, records: &[HookRecord]) -> Result<Vec<HookKept>, Refusal> {
        self.hub.keep_hooks(records)
    }

    fn alerts(&self) -> Vec<Alert> {
        self.alerts.list()
    }

    fn channels(&self) -> Vec<Channel> {
        self.alerts.channels()
    }

    fn silences(&self, ended: bool) -> Vec<Silence> {
        self.alerts.silences(ended)
    }

    fn silence(&self, wanted: &NewSilence, who: &str) -> Result<SilenceMade, Refusal> {
        self.alerts.silence(wanted, who)
    }

    fn end_silence(&self, id: u64, who: &str) -> Result<(), Refusal> {
        self.alerts.end_silence(id, who)
    }

    fn test_channel(&self, name: &str) -> Result<ChannelTest, Refusal> {
        self.alerts.test_channel(name)
    }

    fn reload(&self, who: &str) -> Result<(), Vec<String>> {
        let _turn = lock(&self.turn);
        self.asked.store(false, Ordering::Relaxed);
        let read = (self.reread)().map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>());
        let result = read.and_then(|config| self.change(config));
        let problems = result.as_ref().err().cloned().unwrap_or_default();
        tracing::info!(who, "The configuration was asked to be loaded again.");
        self.hub.record(&Event::Reloaded { problems });
        result
    }
}
