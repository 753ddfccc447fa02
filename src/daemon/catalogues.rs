//! The catalogues of a configuration, what their comparisons found, and what persons hold.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use super::hub::lock;
use crate::catalogue::{Keeper, Known};
use crate::config::Config;
use crate::domain::catalogue::{AfterReclaim, CatalogueKind, CatalogueView};
use crate::domain::deletion::{Attempt, RuleKind, Seq};
use crate::domain::event::Event;
use crate::domain::journal::{Intent, JournalQuery};
use crate::domain::layout::Layout;
use crate::domain::names::{CatalogueId, TreeId};
use crate::domain::orphan::{Orphan, OrphanKind};
use crate::domain::path::RelPath;
use crate::domain::path_set::{DigestKey, PathSet};
use crate::domain::remedy::{Remedy, Which};
use crate::domain::settings::CatalogueSettings;
use crate::domain::units::Timestamp;
use crate::server::orphans::Rehearsal;
use crate::store::{ArchiveBook, Database, DatabaseError, Findings, HoldBook, Journal, OrphanQuery};
use crate::system::Clock;

/// Entries of the journal that are read at once.
const PAGE: usize = 10_000;
/// Stands for every stream where nobody can say which they are.
pub(super) const EVERY: &str = "*";
/// Below the state, where each catalogue's index is.
const FOLDER: &str = "catalogues";

/// A request about rows, which waits for the thread of a catalogue.
pub(super) struct RowWork {
    /// What is wanted.
    pub(super) remedy: Remedy,
    /// What for.
    pub(super) wish: RowWish,
}

/// What becomes of a request about rows.
pub(super) enum RowWish {
    /// It is carried out.
    Change {
        /// The job that is told of it; none where the tree's policy asks.
        job: Option<u64>,
        /// Who wants it.
        who: String,
    },
    /// It is only said what would be done.
    Rehearse {
        /// Who waits for the answer; it may have given up.
        answer: SyncSender<Result<Rehearsal, String>>,
    },
}

/// One catalogue, and what it was opened with.
struct Kept {
    settings: CatalogueSettings,
    trees: Vec<(TreeId, PathBuf)>,
    keeper: Arc<Keeper>,
}

/// All catalogues, and all findings.
pub struct Catalogues {
    kept: Vec<Kept>,
    /// Which of them each tree names.
    pub(super) of_trees: Vec<(TreeId, Vec<CatalogueId>)>,
    /// What comparisons found.
    pub(super) findings: Arc<Findings>,
    /// Where hook records are kept.
    pub(super) hooks: Arc<Database>,
    /// What persons hold. It goes on as it is from one configuration to the next.
    pub(super) holds: Arc<HoldBook>,
    /// Verified copies of recordings that are still there. It goes on in the same way.
    pub(super) archived: Arc<ArchiveBook>,
    work: Mutex<VecDeque<RowWork>>,
    /// How often findings were changed by what was done about them.
    revision: AtomicU64,
    /// What was deleted up to here was taken from the journal.
    taken: Seq,
    /// Of each catalogue of kind `hooks`, whose records it takes; `None`: everybody's.
    pub(super) hook_servers: Vec<Option<String>>,
}

/// Where the state is, and its id; nothing where there is none.
pub type StatePlace<'a> = Option<(&'a Path, &'a str)>;

impl Catalogues {
    /// No catalogue at all.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn none() -> Result<Self, DatabaseError> {
        Ok(Self {
            kept: Vec::new(),
            of_trees: Vec::new(),
            findings: Arc::new(Findings::memory()?),
            hooks: Arc::new(Database::memory()?),
            holds: Arc::default(),
            archived: Arc::default(),
            hook_servers: Vec::new(),
            work: Mutex::default(),
            revision: AtomicU64::new(0),
            taken: Seq(0),
        })
    }

    /// Opens what a configuration names; what did not change goes on as it was `before`. Nothing is read yet.
    ///
    /// # Errors
    /// What SQLite says of findings in memory.
    pub fn open(
        config: &Config,
        state: StatePlace<'_>,
        hooks: Arc<Database>,
        clock: &Arc<dyn Clock>,
        before: Option<&Self>,
        told: &dyn Fn(Event),
    ) -> Result<Self, DatabaseError> {
        let folder = state.filter(|_| !config.catalogues.is_empty()).and_then(|(path, _)| folder_in(path, told));
        let key = DigestKey::of(state.map_or("", |(_, id)| id));
        let findings = match before {
            Some(before) => before.findings.clone(),
            None => Arc::new(findings(state.map(|(path, _)| path), told)?),
        };
        let kept = config.catalogues.iter().map(|settings| {
            let named = config.trees.iter().filter(|tree| tree.policy.catalogues.contains(&settings.name));
            let trees: Vec<_> = named.map(|tree| (tree.name.clone(), tree.path.clone())).collect();
            let same = before
                .and_then(|before| before.kept.iter().find(|kept| kept.settings == *settings && kept.trees == trees));
            let keeper = match same {
                Some(kept) => kept.keeper.clone(),
                None => {
                    let folder = folder.as_deref();
                    let opened = Keeper::open(settings.clone(), trees.clone(), folder, key, &hooks, clock.clone());
                    Arc::new(opened)
                }
            };
            Kept { settings: settings.clone(), trees, keeper }
        });
        let kept: Vec<Kept> = kept.collect();
        let of_trees: Vec<_> =
            config.trees.iter().map(|tree| (tree.name.clone(), tree.policy.catalogues.clone())).collect();
        let hooks_of = config.catalogues.iter().filter(|settings| settings.source.kind() == CatalogueKind::Hooks);
        let hook_servers = hooks_of.map(|settings| settings.media_server.clone()).collect();
        let taken = before.map_or(Seq(0), |before| before.taken);
        let holds = before.map_or_else(|| holds(&hooks, told), |before| before.holds.clone());
        // What waits to be done with rows goes on, where the tree still has a catalogue for it.
        let waiting = before.map(|before| std::mem::take(&mut *lock(&before.work))).unwrap_or_default();
        let (work, revision) = (Mutex::new(waiting), AtomicU64::new(0));
        let archived = before.map_or_else(|| archived(&hooks, told), |before| before.archived.clone());
        Ok(Self { kept, of_trees, findings, hooks, holds, archived, hook_servers, work, revision, taken })
    }

    /// This configuration is in force: findings of trees that it does not name are forgotten.
    pub(super) fn forget_others(&self, told: &dyn Fn(Event)) {
        let names: Vec<TreeId> = self.of_trees.iter().map(|(name, _)| name.clone()).collect();
        if let Err(error) = self.findings.keep_only(&names) {
            told(Event::Remark { text: format!("findings of trees that are gone stay: {error}"), urgent: false });
        }
    }

    /// Takes from the journal which recordings were deleted since that was last done: a crash may have come between.
    pub fn catch_up(&mut self, journal: &Journal, now: Timestamp, told: &dyn Fn(Event)) {
        let taken = self.findings.reclaimed_up_to().unwrap_or_default();
        self.taken = taken;
        if self.kept.is_empty() {
            return;
        }
        let mut after = taken;
        loop {
            let query = JournalQuery { after, limit: PAGE, ..JournalQuery::default() };
            let lines = match journal.read(&query) {
                Ok(lines) => lines,
                Err(error) => {
                    let text = format!("what was deleted before cannot be taken from the journal: {error}");
                    told(Event::Remark { text, urgent: false });
                    return;
                }
            };
            let Some(last) = lines.last() else { break };
            let next = last.seq;
            let paths: Vec<_> = lines
                .iter()
                .filter_map(|line| {
                    let ((seq, intent), attempt) = (line.intent.as_ref()?, line.attempt.as_ref()?);
                    // What was put back since is there again.
                    let aside = || journal.with_history(|history| history.quarantined.contains_key(seq));
                    gone(intent, attempt).filter(|_| !attempt.is_quarantined() || aside())
                })
                .filter(|(tree, _)| self.names_any(tree))
                .collect();
            if self.findings.note_reclaimed(&paths, now, next).is_err() || lines.len() < PAGE {
                break;
            }
            after = next;
        }
        self.taken = self.findings.reclaimed_up_to().unwrap_or(taken);
    }

    /// Notes what became of intents: a file that we deleted, or set aside, is no orphan any more, and its row is not missing.
    pub(super) fn settled<'s>(&self, settled: impl Iterator<Item = (&'s Intent, &'s Attempt)>, now: Timestamp) {
        let mut by_tree: BTreeMap<TreeId, Vec<RelPath>> = BTreeMap::new();
        for (tree, path) in settled.filter_map(|(intent, attempt)| gone(intent, attempt)) {
            by_tree.entry(tree).or_default().push(path);
        }
        for (tree, paths) in by_tree {
            // What cannot be noted now, the next comparison sees, and the next start takes from the journal.
            let _ = if self.names_any(&tree) {
                let paths: Vec<_> = paths.into_iter().map(|path| (tree.clone(), path)).collect();
                self.findings.note_reclaimed(&paths, now, self.taken)
            } else {
                self.findings.forget(&tree, &paths)
            };
            self.changed();
        }
    }

    /// What a remedy is about, as it was found: those that are named, proven or not, or the next of all that are proven.
    ///
    /// # Errors
    /// What SQLite says.
    pub(super) fn chosen(
        &self,
        remedy: &Remedy,
        after: Option<(TreeId, OrphanKind, RelPath)>,
        limit: usize,
    ) -> Result<Vec<Orphan>, DatabaseError> {
        let (tree, kind) = (&remedy.tree, remedy.orphans);
        match &remedy.which {
            Which::Paths(paths) => {
                paths.iter().filter_map(|path| self.findings.orphan(tree, kind, path).transpose()).collect()
            }
            Which::All => self.findings.orphans(&OrphanQuery {
                tree: Some(tree.clone()),
                kind: Some(kind),
                proven: true,
                after,
                limit,
            }),
        }
    }

    /// Findings were changed by what was done about them.
    pub(super) fn changed(&self) {
        self.revision.fetch_add(1, Ordering::Relaxed);
    }

    /// Rises whenever findings were changed by what was done about them.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    fn names_any(&self, tree: &TreeId) -> bool {
        self.of_trees.iter().any(|(name, named)| name == tree && !named.is_empty())
    }

    /// How they stand.
    #[must_use]
    pub fn views(&self) -> Vec<CatalogueView> {
        self.kept.iter().map(|kept| kept.keeper.view()).collect()
    }

    /// All of them.
    pub(super) fn keepers(&self) -> impl Iterator<Item = &Arc<Keeper>> {
        self.kept.iter().map(|kept| &kept.keeper)
    }

    /// One of them.
    pub(super) fn keeper(&self, name: &CatalogueId) -> Option<&Arc<Keeper>> {
        self.keepers().find(|keeper| keeper.name() == name)
    }

    /// Those of a tree, in its order.
    pub(super) fn of_tree(&self, tree: &TreeId) -> Vec<Arc<Keeper>> {
        let named = self.of_trees.iter().find(|(name, _)| name == tree);
        named.into_iter().flat_map(|(_, names)| names).filter_map(|name| self.keeper(name).cloned()).collect()
    }

    /// The trees that name a catalogue.
    pub(super) fn trees_of(&self, name: &CatalogueId) -> Vec<TreeId> {
        let named = self.of_trees.iter().filter(|(_, names)| names.contains(name));
        named.map(|(tree, _)| tree.clone()).collect()
    }

    /// Rows of recordings that we deleted are removed from this one.
    pub(super) fn removes_rows(&self, name: &CatalogueId) -> bool {
        let kept = self.kept.iter().find(|kept| kept.settings.name == *name);
        // Hook records are ours: one that speaks of a deleted recording is of no use to anybody.
        kept.is_some_and(|kept| {
            kept.settings.after_reclaim == AfterReclaim::RemoveRow
                || kept.settings.source.kind() == CatalogueKind::Hooks
        })
    }

    /// The media server whose rows a catalogue speaks of, where that is said.
    pub(super) fn media_server(&self, name: &CatalogueId) -> Option<&str> {
        self.kept.iter().find(|kept| kept.settings.name == *name)?.settings.media_server.as_deref()
    }

    /// The catalogue of a tree whose rows can be changed.
    pub(super) fn writable(&self, tree: &TreeId) -> Option<Arc<Keeper>> {
        self.of_tree(tree).into_iter().find(|keeper| keeper.writable())
    }

    /// All catalogues of a tree, if each is believed now; `Err` is the first that is not.
    pub(super) fn known(&self, tree: &TreeId) -> Result<Vec<Known>, CatalogueId> {
        self.of_tree(tree).iter().map(|keeper| keeper.known().ok_or_else(|| keeper.name().clone())).collect()
    }

    /// One of a tree's catalogues proves that what it does not know should not exist.
    pub(super) fn prove(&self, tree: &TreeId) -> bool {
        self.of_tree(tree).iter().any(|keeper| keeper.kind().proves_absence())
    }

    /// Each of a tree's catalogues was read, or tried to be, or is known from before.
    pub(super) fn informed(&self, tree: &TreeId) -> bool {
        self.of_tree(tree).iter().all(|keeper| keeper.tried() || keeper.last().is_some())
    }

    /// What persons want kept was known once, of each catalogue of a tree that says so.
    pub(super) fn favourites_known(&self, tree: &TreeId) -> bool {
        let say = |keeper: &Arc<Keeper>| keeper.kind() == CatalogueKind::Wvp;
        self.of_tree(tree).iter().all(|keeper| !say(keeper) || keeper.last().is_some())
    }

    /// The recordings of a tree that persons want kept, as far as its catalogues were last believed; a segment keeps its day.
    pub(super) fn favourites(&self, tree: &TreeId, layout: &Layout) -> Result<PathSet, DatabaseError> {
        let of = |known: &Known| known.index.favourites_with(tree, &|path| layout.unit_of(path));
        self.of_tree(tree)
            .iter()
            .filter_map(|keeper| keeper.last())
            .try_fold(PathSet::default(), |all, known| Ok(all.union(&of(&known)?)))
    }

    /// Streams of a tree of which something was told that no index holds yet, or that the platform has not heard: the row that it would
    /// insert is missing, and proves nothing. Where its relay was taken out, it may come back, until what waits is dropped.
    pub(super) fn undrained(&self, tree: &TreeId) -> Vec<String> {
        let of_tree = self.of_tree(tree);
        let mut streams: Vec<String> = of_tree.iter().flat_map(|keeper| keeper.undrained()).collect();
        if !of_tree.is_empty() {
            match self.hooks.unheard_streams() {
                Ok(unheard) => streams.extend(unheard),
                // Nobody can say which these are, so nothing is proven of any.
                Err(_) => streams.push(EVERY.to_owned()),
            }
        }
        streams
    }

    /// Lets the thread of a catalogue do something with its rows; gives the request back where no catalogue of the tree can.
    pub(super) fn ask(&self, work: RowWork) -> Result<(), RowWork> {
        if self.writable(&work.remedy.tree).is_none() {
            return Err(work);
        }
        lock(&self.work).push_back(work);
        Ok(())
    }

    /// What waits to be done with the rows of a catalogue: the next of it.
    pub(super) fn next(&self, keeper: &Keeper) -> Option<RowWork> {
        let mut waiting = lock(&self.work);
        let of_it = |work: &RowWork| self.writable(&work.remedy.tree).is_some_and(|one| one.name() == keeper.name());
        let at = waiting.iter().position(of_it)?;
        waiting.remove(at)
    }

    /// The policy of a tree asked for something already that was not done yet.
    pub(super) fn asked(&self, tree: &TreeId) -> bool {
        let by_policy = |work: &RowWork| matches!(work.wish, RowWish::Change { job: None, .. });
        lock(&self.work).iter().any(|work| by_policy(work) && work.remedy.tree == *tree)
    }
}

/// The recording that is not where it was because of us, if so.
fn gone(intent: &Intent, attempt: &Attempt) -> Option<(TreeId, RelPath)> {
    let away = match attempt {
        Attempt::Verified { .. } | Attempt::AlreadyGone => true,
        Attempt::Kept { .. } => intent.target.rule == RuleKind::Quarantine && attempt.is_quarantined(),
        Attempt::Failed { .. } => false,
    };
    away.then(|| (intent.target.tree.clone(), intent.target.path.clone()))
}

fn folder_in(state: &Path, told: &dyn Fn(Event)) -> Option<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = state.join(FOLDER);
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        Ok(()) => Some(folder),
        Err(error) => {
            let text = format!(
                "`{}` cannot be made ({error}); what catalogues say is kept in memory, and read anew after a restart",
                folder.display()
            );
            told(Event::Remark { text, urgent: false });
            None
        }
    }
}

/// What the state keeps of copies. If it cannot be read they are made again, and found to be there.
fn archived(database: &Arc<Database>, told: &dyn Fn(Event)) -> Arc<ArchiveBook> {
    Arc::new(ArchiveBook::open(database.clone()).unwrap_or_else(|error| {
        let text = format!("{error}; what was archived and is still here is looked for in the archive again");
        told(Event::Remark { text, urgent: false });
        ArchiveBook::default()
    }))
}

/// What the state keeps of holds. If it cannot be read, what is kept with the files protects still.
fn holds(database: &Arc<Database>, told: &dyn Fn(Event)) -> Arc<HoldBook> {
    let opened = HoldBook::open(database.clone()).unwrap_or_else(|error| {
        let text = format!("{error}; only the holds that files themselves bear are known");
        told(Event::Remark { text, urgent: true });
        HoldBook::default()
    });
    Arc::new(opened)
}

fn findings(state: Option<&Path>, told: &dyn Fn(Event)) -> Result<Findings, DatabaseError> {
    let Some(state) = state else { return Findings::memory() };
    Findings::open(&state.join("findings.db")).or_else(|error| {
        let text = format!("{error}; orphans are kept in memory only, and their grace begins anew with a restart");
        told(Event::Remark { text, urgent: false });
        Findings::memory()
    })
}
