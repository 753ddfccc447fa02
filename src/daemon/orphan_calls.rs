//! What is asked about orphans, missing files, catalogues and hook records: lists page by page, and remedies once nothing speaks against
//! them.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::catalogues::{Catalogues, RowWish, RowWork};
use super::hub::{Command, Hub};
use super::orphan_pages::{Lookout, missing_page, orphan_page};
use crate::domain::catalogue::{CatalogueView, RowId};
use crate::domain::cause::chain;
use crate::domain::deletion::{Cap, Seq, Target};
use crate::domain::event::Event;
use crate::domain::history::History;
use crate::domain::journal::{Entry, NoteKind};
use crate::domain::names::{CatalogueId, TreeId};
use crate::domain::objection::{Objection, Standing, Witnessing, unfit};
use crate::domain::orphan::{Missing, Orphan, OrphanKind};
use crate::domain::path::RelPath;
use crate::domain::remedy::{Remedy, RemedyKind, Which};
use crate::domain::retention::TreePolicy;
use crate::domain::units::{Bytes, Timestamp};
use crate::server::hook_records::HookKept;
use crate::server::orphans::{
    Missing as MissingShape, Orphan as OrphanShape, OrphansWanted, Rehearsal, Remedied, RemedyRequest,
};
use crate::server::shapes::{Catalogue as CatalogueShape, Page};
use crate::server::{PageQuery, Refusal};
use crate::store::{DatabaseError, HookRecord, OrphanQuery};

/// How long a rehearsal is waited for: less than the server waits for us.
const REHEARSAL: Duration = Duration::from_secs(25);

/// A file that is set aside as an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetAside {
    /// The number of its intent.
    pub(super) seq: Seq,
    /// What it was.
    pub(super) target: Target,
    /// Since when.
    pub(super) since: Timestamp,
}

/// What is set aside as orphans, by rising number: at most `limit` after `after`, of one tree only if that is said.
pub(super) fn set_aside(history: &History, tree: Option<&TreeId>, after: Seq, limit: usize) -> Vec<SetAside> {
    let rest = history.quarantined.range((Bound::Excluded(after), Bound::Unbounded));
    let wanted = rest.filter(|(_, aside)| tree.is_none_or(|tree| aside.target.tree == *tree));
    wanted
        .take(limit)
        .map(|(seq, aside)| SetAside { seq: *seq, target: aside.target.clone(), since: aside.since })
        .collect()
}

impl Lookout for Catalogues {
    fn orphans(&self, query: &OrphanQuery) -> Result<Vec<Orphan>, DatabaseError> {
        self.findings.orphans(query)
    }

    fn orphan(&self, tree: &TreeId, kind: OrphanKind, path: &RelPath) -> Result<Option<Orphan>, DatabaseError> {
        self.findings.orphan(tree, kind, path)
    }

    fn missing(
        &self,
        tree: Option<&TreeId>,
        after: Option<&Missing>,
        limit: usize,
    ) -> Result<Vec<Missing>, DatabaseError> {
        self.findings.missing(tree, after, limit)
    }

    fn missing_in(&self, tree: &TreeId) -> Result<u64, DatabaseError> {
        self.findings.missing_in(tree)
    }

    fn listed_in(&self, tree: &TreeId) -> Result<u64, DatabaseError> {
        let known = self.of_tree(tree).into_iter().filter_map(|keeper| keeper.known());
        known.map(|known| known.index.paths_in(tree)).sum()
    }

    fn witnessing(&self, tree: &TreeId) -> Vec<Witnessing> {
        let named = self.of_trees.iter().find(|(name, _)| name == tree);
        let one = |name: &CatalogueId| match self.keeper(name) {
            Some(keeper) => {
                let view = keeper.view();
                Witnessing {
                    name: view.name,
                    distrust: view.distrust.map(|why| why.to_string()),
                    proves_absence: view.kind.proves_absence(),
                    writable: keeper.writable(),
                }
            }
            None => Witnessing {
                name: name.clone(),
                distrust: Some("it is not open".to_owned()),
                proves_absence: false,
                writable: false,
            },
        };
        named.into_iter().flat_map(|(_, names)| names).map(one).collect()
    }
}

/// 503: what comparisons found cannot be read.
pub(super) fn unreadable(error: &DatabaseError) -> Refusal {
    Refusal::unavailable("findings", format!("what comparisons found cannot be read: {}", chain(error)))
}

impl From<Objection> for Refusal {
    fn from(objection: Objection) -> Self {
        match objection {
            Objection::Leftover(_) => Self::bad_request(objection.code(), objection.to_string()),
            Objection::Observed(_)
            | Objection::NoCatalogue(_)
            | Objection::Untrusted { .. }
            | Objection::PresenceOnly(_)
            | Objection::ReadOnly(_)
            | Objection::Capped { .. }
            | Objection::Unproven(_)
            | Objection::Playable(_)
            | Objection::Suspicious { .. } => Self::conflict(objection.code(), objection.to_string()),
        }
    }
}

impl Hub {
    /// Another configuration is in force: these are its catalogues.
    pub fn set_catalogues(&self, catalogues: &Arc<Catalogues>) {
        self.catalogues.store(Some(catalogues.clone()));
        self.pass_stored();
    }

    /// The catalogues as they were last read: all that are configured, those that were not read yet too.
    #[must_use]
    pub fn catalogue_views(&self) -> Vec<CatalogueView> {
        self.catalogues.load().as_ref().map(|catalogues| catalogues.views()).unwrap_or_default()
    }

    /// The rules of all trees.
    fn policies(&self) -> Vec<Arc<TreePolicy>> {
        self.of_all_trees(|tree| tree.policy.clone())
    }

    /// The rules of the tree with that name.
    pub(super) fn policy(&self, name: &str) -> Result<Arc<TreePolicy>, Refusal> {
        let all = self.policies();
        all.iter().find(|policy| policy.tree.as_str() == name).cloned().ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|policy| policy.tree.as_str()).collect();
            Refusal::not_found(format!("there is no tree `{name}`; there are: {}", known.join(", ")))
        })
    }

    /// Orphans: those that are reported, then those that are set aside.
    ///
    /// # Errors
    /// 404 if there is no such tree, 400 for a bad cursor, 503 if the findings cannot be read.
    pub fn orphans(&self, wanted: &OrphansWanted, page: &PageQuery) -> Result<Page<OrphanShape>, Refusal> {
        let tree = wanted.tree.as_deref().map(|name| self.policy(name)).transpose()?.map(|policy| policy.tree.clone());
        let policies = self.policies();
        let shown = |one: &SetAside| {
            let policy = policies.iter().find(|policy| policy.tree == one.target.tree);
            let until = policy.map(|policy| one.since.plus(policy.orphans.quarantine));
            OrphanShape::quarantined(&one.target, one.since, until)
        };
        let set_aside = |after, limit| self.with_history(|history| set_aside(history, tree.as_ref(), after, limit));
        let catalogues = self.catalogues.load_full();
        let query =
            OrphanQuery { tree: tree.clone(), kind: wanted.kind, proven: wanted.proven, ..OrphanQuery::default() };
        let mut found =
            orphan_page(catalogues.as_deref().map(|found| found as &dyn Lookout), query, &set_aside, &shown, page)?;
        // What was proven by a catalogue that is not trusted now is proven no more, until it is trusted again.
        let doubted: Vec<TreeId> = catalogues
            .iter()
            .flat_map(|all| all.of_trees.iter().filter(|(tree, _)| all.known(tree).is_err()))
            .map(|(tree, _)| tree.clone())
            .collect();
        let stale = |orphan: &&mut OrphanShape| doubted.iter().any(|tree| tree.as_str() == orphan.tree);
        found.items.iter_mut().filter(stale).for_each(OrphanShape::doubt);
        Ok(found)
    }

    /// Catalogue entries without a file, those that we deleted ourselves left out.
    ///
    /// # Errors
    /// 404 if there is no such tree, 400 for a bad cursor, 503 if the findings cannot be read.
    pub fn missing(&self, tree: Option<&str>, page: &PageQuery) -> Result<Page<MissingShape>, Refusal> {
        let tree = tree.map(|name| self.policy(name)).transpose()?.map(|policy| policy.tree.clone());
        let catalogues = self.catalogues.load_full();
        missing_page(catalogues.as_deref().map(|found| found as &dyn Lookout), tree.as_ref(), page)
    }

    /// The catalogues, and whether each is believed.
    #[must_use]
    pub fn catalogues(&self) -> Vec<CatalogueShape> {
        self.catalogue_views().iter().map(CatalogueShape::from).collect()
    }

    /// Accepts what a catalogue says now.
    ///
    /// # Errors
    /// 404 if there is no such catalogue, 409 if there is nothing to accept, 503 if that cannot be put on record.
    pub fn accept(&self, name: &str, who: &str) -> Result<(), Refusal> {
        let catalogues = self.catalogues.load_full();
        let keeper = catalogues.as_ref().and_then(|all| all.keeper(&CatalogueId::new(name)).cloned());
        let keeper = keeper.ok_or_else(|| {
            let known: Vec<String> = self.catalogue_views().iter().map(|view| view.name.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Refusal::not_found(format!("there is no catalogue `{name}`; there are: {known}"))
        })?;
        let why = match keeper.view().distrust {
            Some(why) if why.acceptable() => why,
            Some(why) => {
                let message = format!(
                    "catalogue `{name}` has no new state to accept, because {why}; it is believed once it answers whole"
                );
                return Err(Refusal::conflict("nothing_to_accept", message));
            }
            None => {
                let message = format!("catalogue `{name}` is trusted, so there is nothing to accept");
                return Err(Refusal::conflict("nothing_to_accept", message));
            }
        };
        // On record first: what follows may let files go.
        self.append(Entry::Note {
            kind: NoteKind::CatalogueAccepted,
            volume: None,
            tree: None,
            who: who.to_owned(),
            bytes: Bytes::ZERO,
            number: 0,
            text: format!("{name}: {why}"),
        })?;
        keeper.accept().map_err(|why| Refusal::conflict("nothing_to_accept", why))?;
        self.record(&Event::Remark {
            text: format!("catalogue {name} is accepted as it is now, by {who}"),
            urgent: false,
        });
        let concerned = catalogues.iter().flat_map(|all| all.trees_of(keeper.name()));
        concerned.for_each(|tree| self.nudge(&tree));
        Ok(())
    }

    /// What speaks for a request; what is asked then, if nothing speaks against it.
    ///
    /// # Errors
    /// 404 if there is no such tree; 400 for a request that cannot be meant, naming each path that is none of what is asked about; 409
    /// where a safety rule speaks against it; 503 if the findings cannot be read.
    pub fn prepare(&self, kind: RemedyKind, request: &RemedyRequest) -> Result<Remedy, Refusal> {
        let (orphans, rehearsal, which) = (request.orphan_kind(kind)?, request.rehearsal(kind)?, request.which()?);
        let policy = self.policy(&request.tree)?;
        let catalogues = self.catalogues.load_full();
        let found = catalogues.as_deref().map(|found| found as &dyn Lookout);
        let remedy = Remedy { kind, orphans, tree: policy.tree.clone(), which };
        let (tripped, aside) = self.with_history(|history| {
            let trip = history.caps.get(&(policy.tree.clone(), Cap::OrphanShare));
            (trip.map(|trip| (trip.wanted, trip.allowed)), not_set_aside(history, &remedy))
        });
        let witnessing = match found {
            Some(found) => found.witnessing(&policy.tree),
            None => policy.catalogues.iter().map(unread).collect(),
        };
        let standing = Standing { tree: policy.tree.clone(), mode: policy.mode, catalogues: witnessing, tripped };
        if let Some(objection) = standing.objection(kind, orphans, rehearsal) {
            return Err(objection.into());
        }
        examine(found, &remedy, &standing, aside)?;
        Ok(remedy)
    }

    /// A job for a remedy that nothing speaks against.
    pub fn enrol(&self, remedy: &Remedy) -> u64 {
        let job = self.next_job();
        self.with_jobs(|jobs| jobs.add_remedy(job, remedy.kind));
        job
    }

    /// Puts a remedy into its volume's queue, or waits for what it would do.
    ///
    /// # Errors
    /// As [`Hub::prepare`]; 503 if the queue is full, or a rehearsal takes too long.
    pub fn remedy(&self, kind: RemedyKind, request: &RemedyRequest, who: &str) -> Result<Remedied, Refusal> {
        let remedy = self.prepare(kind, request)?;
        let volume = self
            .home_of(&remedy.tree)
            .ok_or_else(|| Refusal::unavailable("stopping", format!("tree `{}` takes no requests now", remedy.tree)))?;
        if request.rehearsal(kind)? {
            let (answer, heard) = sync_channel(1);
            self.ask_rows(RowWork { remedy, wish: RowWish::Rehearse { answer } })?;
            return rehearsed(heard.recv_timeout(REHEARSAL)).map(Remedied::Rehearsal);
        }
        let job = self.enrol(&remedy);
        let who = who.to_owned();
        let sent = match remedy.kind {
            RemedyKind::Adopt | RemedyKind::RemoveRows => {
                self.ask_rows(RowWork { remedy, wish: RowWish::Change { job: Some(job), who } })
            }
            RemedyKind::Quarantine | RemedyKind::Delete | RemedyKind::Restore => {
                self.send(&volume, Command::Remedy { job, remedy: Box::new(remedy), who })
            }
        };
        if sent.is_err() {
            self.with_jobs(|jobs| jobs.remove(job));
        }
        sent.map(|()| Remedied::Job(job))
    }

    /// Rows are changed by the thread of their catalogue, so that no volume waits for a database.
    fn ask_rows(&self, work: RowWork) -> Result<(), Refusal> {
        let Some(catalogues) = self.catalogues.load_full() else {
            return Err(Refusal::unavailable("stopping", "the guard is ending, or reloads"));
        };
        catalogues.ask(work).map_err(|work| {
            let message = format!("tree `{}` has no catalogue whose rows can be changed", work.remedy.tree);
            Refusal::conflict("read_only", message)
        })
    }

    /// Keeps what a media server tells of recordings, durably; says of each what became of it.
    ///
    /// # Errors
    /// 409 if no catalogue is made of hook records, 503 if they cannot be kept: then none is.
    pub fn keep_hooks(&self, records: &[HookRecord]) -> Result<Vec<HookKept>, Refusal> {
        let catalogues = self.catalogues.load_full();
        let Some(catalogues) = catalogues.filter(|all| !all.hook_servers.is_empty()) else {
            let message = "no catalogue is made of hook records, so nobody would read them; add one of `kind: hooks` to `catalogues`";
            return Err(Refusal::conflict("no_hooks", message));
        };
        let failed = |why: String| {
            Refusal::unavailable("hooks", format!("hook records cannot be kept, so none was: {why}; send them again"))
        };
        if catalogues.hooks.in_memory() {
            return Err(failed("the state's disk has no room for them".to_owned()));
        }
        let wanted: Vec<HookRecord> =
            records.iter().filter(|record| takes(&catalogues.hook_servers, record)).cloned().collect();
        let kept = match wanted.is_empty() {
            true => Vec::new(),
            false => catalogues.hooks.keep_hooks(&wanted, self.now()).map_err(|error| failed(chain(&error)))?,
        };
        Ok(answers(records, &catalogues.hook_servers, kept))
    }
}

/// A catalogue that is named before catalogues are known.
fn unread(name: &CatalogueId) -> Witnessing {
    let distrust = Some("it was not read yet".to_owned());
    Witnessing { name: name.clone(), distrust, proves_absence: false, writable: false }
}

fn rehearsed(heard: Result<Result<Rehearsal, String>, RecvTimeoutError>) -> Result<Rehearsal, Refusal> {
    match heard {
        Ok(Ok(rehearsal)) => Ok(rehearsal),
        Ok(Err(why)) => Err(Refusal::unavailable("rehearsal", format!("what would be done cannot be told: {why}"))),
        Err(RecvTimeoutError::Timeout) => {
            Err(Refusal::unavailable("busy", "the volume's worker is busy with other work; try again later"))
        }
        Err(RecvTimeoutError::Disconnected) => Err(Refusal::unavailable("stopping", "the guard is ending, or reloads")),
    }
}

/// Some catalogue takes what this media server tells.
fn takes(servers: &[Option<String>], record: &HookRecord) -> bool {
    servers.iter().any(|server| server.as_ref().is_none_or(|server| *server == record.media_server))
}

/// What became of each record, from what became of those that were taken.
fn answers(records: &[HookRecord], servers: &[Option<String>], kept: Vec<bool>) -> Vec<HookKept> {
    let mut kept = kept.into_iter();
    let one = |record: &HookRecord| {
        if !takes(servers, record) {
            let named: Vec<&str> = servers.iter().flatten().map(String::as_str).collect();
            let (theirs, ours) = (&record.media_server, named.join(", "));
            return HookKept::Rejected(format!("`mediaServerId` is `{theirs}`, but records are taken of {ours} only"));
        }
        match kept.next() {
            Some(true) => HookKept::Stored,
            Some(false) => HookKept::Duplicate,
            None => HookKept::Rejected("it was not kept; send it again".to_owned()),
        }
    };
    records.iter().map(one).collect()
}

/// Of the paths that are to be put back, those that are not set aside.
fn not_set_aside(history: &History, remedy: &Remedy) -> Vec<RelPath> {
    let paths = match (&remedy.kind, &remedy.which) {
        (RemedyKind::Restore, Which::Paths(paths)) => paths,
        (RemedyKind::Restore, Which::All)
        | (RemedyKind::Adopt | RemedyKind::Quarantine | RemedyKind::Delete | RemedyKind::RemoveRows, _) => {
            return Vec::new();
        }
    };
    let mut left: BTreeSet<&RelPath> = paths.iter().collect();
    for (_, aside) in history.quarantined_in(&remedy.tree) {
        left.remove(&aside.target.path);
    }
    left.into_iter().cloned().collect()
}

/// Looks at each path that is named, or at all that are meant.
pub(super) fn examine(
    found: Option<&dyn Lookout>,
    remedy: &Remedy,
    standing: &Standing,
    not_set_aside: Vec<RelPath>,
) -> Result<(), Refusal> {
    let (tree, kind) = (&remedy.tree, remedy.orphans);
    let objected = |objection: Option<Objection>| objection.map_or(Ok(()), |objection| Err(Refusal::from(objection)));
    match (remedy.kind, &remedy.which) {
        (RemedyKind::Restore, _) => strangers("not_quarantined", "set aside as orphans", tree, &not_set_aside),
        (RemedyKind::RemoveRows, Which::All) => {
            let Some(found) = found else { return Ok(()) };
            let missing = found.missing_in(tree).map_err(|error| unreadable(&error))?;
            let listed = found.listed_in(tree).map_err(|error| unreadable(&error))?;
            objected(standing.too_many_missing(missing, listed))
        }
        (RemedyKind::RemoveRows, Which::Paths(paths)) => {
            let mut unknown = Vec::new();
            for path in paths {
                if !misses(found, tree, path)? {
                    unknown.push(path.clone());
                }
            }
            strangers("not_missing", "rows without a file", tree, &unknown)
        }
        (RemedyKind::Adopt | RemedyKind::Quarantine | RemedyKind::Delete, Which::Paths(paths)) => {
            let (mut orphans, mut unknown) = (Vec::new(), Vec::new());
            for path in paths {
                let orphan = found.map(|found| found.orphan(tree, kind, path)).transpose();
                match orphan.map_err(|error| unreadable(&error))?.flatten() {
                    Some(orphan) => orphans.push(orphan),
                    None => unknown.push(path.clone()),
                }
            }
            let what = match kind {
                OrphanKind::Uncatalogued => "recordings that no catalogue knows",
                OrphanKind::Leftover => "leftovers",
            };
            strangers("not_an_orphan", what, tree, &unknown)?;
            objected(unfit(&orphans))
        }
        (RemedyKind::Adopt | RemedyKind::Quarantine | RemedyKind::Delete, Which::All) => {
            let Some(found) = found else { return Ok(()) };
            // Only proven ones are taken. Where there are others and none is proven, whoever asks should hear why nothing happens.
            let first = |proven| {
                let query = OrphanQuery { tree: Some(tree.clone()), kind: Some(kind), proven, after: None, limit: 1 };
                found.orphans(&query).map_err(|error| unreadable(&error))
            };
            if !first(true)?.is_empty() {
                return Ok(());
            }
            objected(unfit(&first(false)?))
        }
    }
}

/// The tree has a row for this path that has no file.
fn misses(found: Option<&dyn Lookout>, tree: &TreeId, path: &RelPath) -> Result<bool, Refusal> {
    let Some(found) = found else { return Ok(false) };
    // Comes before every row of this path.
    let before = Missing {
        tree: tree.clone(),
        path: path.clone(),
        catalogue: CatalogueId::new(""),
        row: RowId::Number(i64::MIN),
    };
    let next = found.missing(Some(tree), Some(&before), 1).map_err(|error| unreadable(&error))?;
    Ok(next.first().is_some_and(|row| row.path == *path))
}

/// 400, naming each path that is none of what is asked about.
fn strangers(code: &'static str, what: &str, tree: &TreeId, paths: &[RelPath]) -> Result<(), Refusal> {
    if paths.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    Err(Refusal::bad_request(code, format!("these are not {what} of tree `{tree}`: {}", named.join(", "))))
}

#[cfg(test)]
#[path = "orphan_calls_tests.rs"]
mod tests;
