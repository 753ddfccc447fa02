//! Holds that persons make and let go of. One is in effect from the moment at which the answer is given; the workers mark its files.

use std::path::Path;
use std::sync::Arc;

use super::demand_calls::distinct;
use super::hub::Hub;
use crate::domain::demand::is_stream;
use crate::domain::event::Event;
use crate::domain::hold::{Holds, reach_of, reason};
use crate::domain::journal::Entry;
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::protection::{Hold, HoldScope};
use crate::domain::retention::{Mode, TreePolicy};
use crate::domain::status::TreeView;
use crate::server::Refusal;
use crate::server::holds::{Hold as HoldShape, HoldMade, HoldRequest};
use crate::server::orphans::NamedPath;
use crate::store::HoldBook;
use crate::system::Volumes;

/// Why a hold ended that a person removed.
const REMOVED: &str = "removed";

/// What there is now of what is to be held.
struct There {
    recordings: u64,
    gone: Vec<RelPath>,
    note: Option<String>,
}

impl Hub {
    fn book(&self) -> Result<Arc<HoldBook>, Refusal> {
        let catalogues = self.catalogues.load();
        let book = catalogues.as_ref().map(|all| all.holds.clone());
        book.ok_or_else(|| Refusal::unavailable("starting", "the state is not open yet"))
    }

    /// What persons hold of a tree.
    pub(super) fn holds_of(&self, tree: &TreeId) -> Arc<Holds> {
        self.book().map(|book| book.of(tree)).unwrap_or_default()
    }

    /// The holds that are in effect, the oldest first.
    #[must_use]
    pub fn holds(&self) -> Vec<HoldShape> {
        let all = self.book().map(|book| book.all()).unwrap_or_default();
        all.iter().filter(|hold| hold.in_effect(self.now())).map(HoldShape::from).collect()
    }

    /// Holds recordings.
    ///
    /// # Errors
    /// 404 if there is no such tree; 400 for a request that cannot be meant, naming each path that cannot be a recording of the tree; 503
    /// if it cannot be put on record.
    pub fn hold(&self, request: &HoldRequest, who: &str, machine: &dyn Volumes) -> Result<HoldMade, Refusal> {
        let policy = self.policy(&request.tree)?;
        let book = self.book()?;
        let (scope, malformed) = request.scope()?;
        let scope = match scope {
            HoldScope::Paths(paths) => {
                HoldScope::Paths(distinct(&policy, paths, malformed, "nothing is held by this request")?)
            }
            HoldScope::Span { stream, .. } if !is_stream(stream.as_str()) => {
                let message = format!("`stream` is {:?}, which is no stream's name", stream.as_str());
                return Err(Refusal::bad_request("bad_stream", message));
            }
            span @ HoldScope::Span { .. } => span,
        };
        let reason = reason(&request.reason).map_err(|why| Refusal::bad_request("bad_reason", why))?.to_owned();
        let (now, until) = (self.now(), request.end()?);
        if until.is_some_and(|until| until <= now) {
            return Err(Refusal::bad_request("bad_until", "`until` has passed; give a time to come, or none"));
        }
        let (tree, who) = (policy.tree.clone(), who.to_owned());
        let hold = Hold { id: book.next(), tree: tree.clone(), scope, reason, who: who.clone(), made: now, until };
        self.append(Entry::hold(&hold, &who, None))?;
        let (id, durable) = (hold.id, book.add(hold.clone()));
        self.record(&Event::Held { hold: hold.clone(), ended: None, who });
        // Looked at afterwards: what is there now stays.
        let there = self.with_tree(&tree, |_, view| self.there(&policy, view, &hold.scope, machine));
        self.nudge(&tree);
        let There { recordings, gone, note } = there.unwrap_or(There { recordings: 0, gone: Vec::new(), note: None });
        Ok(HoldMade { id, durable, already_gone: gone.iter().map(NamedPath::from).collect(), recordings, note })
    }

    /// Lets go of a hold.
    ///
    /// # Errors
    /// 404 if there is none with that number in effect, 503 if it cannot be put on record: then it stays in effect.
    pub fn let_go(&self, id: u64, who: &str) -> Result<(), Refusal> {
        let book = self.book()?;
        let hold = book.get(id).ok_or_else(|| Refusal::not_found(format!("there is no hold {id}; see `hold list`")))?;
        self.append(Entry::hold(&hold, who, Some(REMOVED)))?;
        book.end(id, self.now());
        self.nudge(&hold.tree);
        self.record(&Event::Held { hold, ended: Some(REMOVED.to_owned()), who: who.to_owned() });
        Ok(())
    }

    /// Looks what there is of it.
    fn there(&self, policy: &TreePolicy, view: &TreeView, scope: &HoldScope, machine: &dyn Volumes) -> There {
        let observed = (policy.mode != Mode::Enforce)
            .then(|| "the tree is only observed: the state alone keeps this hold, and no file bears it".to_owned());
        let paths = match scope {
            HoldScope::Paths(paths) => paths,
            HoldScope::Span { stream, .. } => {
                let inventory = &view.inventory;
                let of = inventory.streams().iter().position(|name| name == stream);
                let reached = inventory
                    .files()
                    .filter(|seen| Some(seen.stream.0 as usize) == of && scope.reached_by(reach_of(inventory, seen)));
                let recordings = of.map_or(0, |_| reached.count() as u64);
                let none = "nothing of it is there now: it never was, or is already gone; what is recorded or restored later is held";
                let note = if recordings == 0 { Some(none.to_owned()) } else { observed };
                return There { recordings, gone: Vec::new(), note };
            }
        };
        let dir = machine.open_tree(Path::new(&view.path)).ok().filter(|dir| {
            let known = view.top.is_none_or(|known| dir.top().is_ok_and(|top| (top.device, top.inode) == known));
            known && view.fault.is_none()
        });
        let Some(dir) = dir else {
            let note = "the tree cannot be looked at now, so that nobody knows whether these are still there";
            return There { recordings: 0, gone: Vec::new(), note: Some(note.to_owned()) };
        };
        let aside = |path: &RelPath| {
            self.with_history(|history| {
                history.quarantined_in(&policy.tree).any(|(_, aside)| aside.target.path == *path)
            })
        };
        let gone = paths.iter().filter(|path| matches!(dir.look(path), Ok(None)) && !aside(path));
        let gone: Vec<RelPath> = gone.cloned().collect();
        There { recordings: paths.len().saturating_sub(gone.len()) as u64, gone, note: observed }
    }
}
