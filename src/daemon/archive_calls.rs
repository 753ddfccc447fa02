//! What is asked about the cold tier: what it holds, how it stands, and what is to be brought back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::archiver::Archiver;
use super::cold::RestoreTask;
use super::guard::Parts;
use super::hub::Hub;
use super::job_items::ItemDone;
use crate::archive::{Back, ColdError, ColdObject, ColdStore, bring_back, digest_of_unit};
use crate::config::Config;
use crate::domain::archive::{ArchiveView, ArchivedCopy, key_of, path_of};
use crate::domain::cause::chain;
use crate::domain::deletion::Outcome;
use crate::domain::journal::{Entry, NoteKind};
use crate::domain::layout::{Layout, LayoutKind};
use crate::domain::names::{ArchiveId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::protection::HoldScope;
use crate::domain::recording::Tally;
use crate::domain::retention::Mode;
use crate::domain::units::{Bytes, Timestamp};
use crate::server::Refusal;
use crate::server::archive::{ArchivedCopy as CopyShape, CopiesWanted, RestoreRequest};
use crate::server::records::Problem;
use crate::system::{DirEntry, WritableDir, list_unit};

/// A job's problem.
pub(super) fn problem(code: &'static str, message: String) -> Problem {
    Problem { code, message }
}

impl Hub {
    /// How each archive stands.
    pub fn archives(&self) -> Vec<ArchiveView> {
        self.cold.views()
    }

    /// What directories of copies hold, as their last scans found it.
    pub(super) fn copies_in_directories(&self, wanted: &CopiesWanted) -> Vec<CopyShape> {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        let mut out = Vec::new();
        self.of_all_trees(|view| {
            let policy = &view.policy;
            if policy.layout.kind() != LayoutKind::Archive || !fits(&wanted.archive, policy.tree.as_str()) {
                return Vec::new();
            }
            let archive = ArchiveId::new(policy.tree.as_str());
            let inventory = &view.inventory;
            let mut found = Vec::new();
            for seen in inventory.files() {
                let stream = inventory.stream(seen.stream).as_str();
                if !fits(&wanted.stream, stream) {
                    continue;
                }
                let key = inventory.path(seen.index);
                let mut parts = key.components();
                let Some(tree) = parts.next().and_then(|name| std::str::from_utf8(name).ok()) else { continue };
                if !fits(&wanted.tree, tree) {
                    continue;
                }
                let Some(path) = path_of(&TreeId::new(tree), &key) else { continue };
                found.push(CopyShape::of(&archive, tree, &path, stream, seen.bytes, seen.recorded()));
            }
            found
        })
        .into_iter()
        .for_each(|found| out.extend(found));
        out
    }

    /// Accepts a request to bring something back; gives the job.
    ///
    /// # Errors
    /// 404 if there is no such tree, 409 if it is only observed or has no archive, 503 if too many wait.
    pub fn restore(&self, request: &RestoreRequest, who: &str) -> Result<u64, Refusal> {
        let (archive, task) = self.restore_task(request, who)?;
        let job = task.job;
        if !self.cold.ask(&archive, task) {
            self.with_jobs(|jobs| jobs.remove(job));
            let message = format!("archive `{archive}` takes no more requests now; ask again later");
            return Err(Refusal::unavailable("busy", message));
        }
        Ok(job)
    }

    /// Looks whether something can be brought back; gives the archive that it comes from.
    ///
    /// # Errors
    /// As [`Hub::restore`].
    pub(super) fn restore_task(
        &self,
        request: &RestoreRequest,
        who: &str,
    ) -> Result<(ArchiveId, RestoreTask), Refusal> {
        let policy = self.policy(&request.tree)?;
        let (tree, scope) = request.wanted()?;
        let Some(terms) = &policy.archive else {
            let message = format!("tree `{tree}` has no `archive`, so nothing can come back from one");
            return Err(Refusal::conflict("no_archive", message));
        };
        if policy.mode != Mode::Enforce {
            let message = format!("tree `{tree}` is only observed, so nothing is written into it; set `mode: enforce`");
            return Err(Refusal::conflict("observed", message));
        }
        let job = self.next_job();
        self.with_jobs(|jobs| jobs.add_restore(job));
        Ok((terms.archive.clone(), RestoreTask { job, tree, scope, who: who.to_owned() }))
    }
}

/// Brings something back in this process; gives the job.
///
/// # Errors
/// As [`Hub::restore`].
pub fn restore_here(
    config: &Config,
    parts: &Parts,
    hub: &Arc<Hub>,
    request: &RestoreRequest,
    who: &str,
) -> Result<u64, Refusal> {
    let (archive, task) = hub.restore_task(request, who)?;
    let settings = config.archives.iter().find(|one| one.name == archive);
    let Some(settings) = settings else {
        return Err(Refusal::conflict("no_archive", format!("archive `{archive}` is not configured any more")));
    };
    let job = task.job;
    Archiver::new(settings, config, parts, hub, &Arc::default()).restore(&mut None, task);
    Ok(job)
}

impl Archiver {
    /// Does what a person asked for. It is interrupted by the end of the guard or a reload between two recordings, and goes on after a
    /// reload: what is back by then is found to be.
    pub(super) fn restore(&self, store: &mut Option<Box<dyn ColdStore>>, task: RestoreTask) {
        let Some(cancelled) = self.hub.with_jobs(|jobs| jobs.begin(task.job, self.hub.now())) else { return };
        let stopped = || self.stop.load(Ordering::Relaxed);
        let stop = || stopped() || cancelled.load(Ordering::Relaxed);
        let done = self.bring(store, &task, &stop);
        if stopped() && !cancelled.load(Ordering::Relaxed) {
            self.hub.with_jobs(|jobs| jobs.begin_again(task.job));
            return self.hub.cold.return_restore(&self.settings.name, task);
        }
        let problem = done.err().map(|message| problem("archive", message));
        self.hub.with_jobs(|jobs| jobs.end_remedy(task.job, Bytes::ZERO, problem, self.hub.now()));
        self.hub.nudge(&task.tree);
    }

    fn bring(
        &self,
        store: &mut Option<Box<dyn ColdStore>>,
        task: &RestoreTask,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        let dir = self.tree_for(&task.tree)?;
        let store = self.opened(store).map_err(|error| chain(&error))?;
        let settings =
            self.trees.iter().find(|tree| tree.name == task.tree).ok_or("the tree is not guarded any more")?;
        let layout = &settings.policy.layout;
        let mut number = fastrand::u64(1..1 << 40);
        let mut brought = Vec::new();
        let mut parts = BTreeMap::new();
        let mut one = |object: &ColdObject| {
            let Some(path) = path_of(&task.tree, &object.key) else { return };
            let bytes = Bytes(object.size);
            if let Some(why) = self.too_full(&task.tree, bytes, &mut brought) {
                return self.tell(task, &path, bytes, Outcome::Failed, Some(why));
            }
            number += 1;
            let copy = self.one(store, object, task, dir.as_ref(), number, stop);
            brought.push((self.hub.now(), bytes));
            parts.extend(copy.filter(|_| layout.unit_of(&path).is_some()).map(|copy| (path, copy)));
        };
        let done = match &task.scope {
            HoldScope::Paths(paths) => {
                for path in paths {
                    if stop() {
                        break;
                    }
                    let key = key_of(&task.tree, path);
                    match store.look(&key) {
                        Ok(Some(object)) => one(&object),
                        Ok(None) => {
                            // A directory that goes as one is many copies.
                            let mut found = Vec::new();
                            let listed = store.list(Some(&key), &mut |object| {
                                found.push(object);
                                ControlFlow::Continue(())
                            });
                            match listed {
                                Ok(()) if found.is_empty() => {
                                    let detail = "it is not in the archive".to_owned();
                                    self.tell(task, path, Bytes::ZERO, Outcome::Failed, Some(detail));
                                }
                                Ok(()) => found.iter().filter(|_| !stop()).for_each(&mut one),
                                Err(error) => self.tell(task, path, Bytes::ZERO, Outcome::Failed, Some(chain(&error))),
                            }
                        }
                        Err(error) => self.tell(task, path, Bytes::ZERO, Outcome::Failed, Some(chain(&error))),
                    }
                }
                Ok(())
            }
            HoldScope::Span { stream, from, to } => {
                let top = RelPath::new(task.tree.as_str().as_bytes()).map_err(|error| error.to_string())?;
                let roots = match layout.roots(stream) {
                    Some(roots) => roots.iter().map(|root| key_of(&task.tree, root)).collect(),
                    None => vec![top],
                };
                let mut wanted = Vec::new();
                for root in &roots {
                    let listed = store.list(Some(root), &mut |object| {
                        let path = path_of(&task.tree, &object.key);
                        let reaches = |path: &RelPath| {
                            let found = layout.recognise(path, object.size.max(1))?;
                            let begun = found.named.unwrap_or(object.modified);
                            Some(found.stream == stream.as_str() && begun < *to && object.modified.max(begun) >= *from)
                        };
                        // What speaks of segments comes back with any of its day.
                        let of_day = |path: &RelPath| {
                            let unit = layout.unit_of(path)?;
                            let day = layout.date_of(&unit)?;
                            let [first, last] = [from, to].map(|at| layout.day_of(&root.join(b"x"), *at));
                            let within = first.is_none_or(|first| day >= first) && last.is_none_or(|last| day <= last);
                            Some(within && layout.stream_of_unit(&unit).as_deref() == Some(stream.as_str()))
                        };
                        if path.as_ref().is_some_and(|path| reaches(path).or_else(|| of_day(path)) == Some(true)) {
                            wanted.push(object);
                        }
                        if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    });
                    listed.map_err(|error| chain(&error))?;
                }
                if wanted.is_empty() {
                    return Err(format!("the archive holds nothing of stream `{stream}` that reaches into that span"));
                }
                wanted.iter().take_while(|_| !stop()).for_each(one);
                Ok(())
            }
        };
        let units: BTreeSet<RelPath> = parts.keys().filter_map(|path| layout.unit_of(path)).collect();
        units.iter().for_each(|unit| self.enter_unit(dir.as_ref(), layout, unit, &parts));
        done
    }

    /// A directory that goes as one counts as brought back if all that is in it was; else it is compared with its copies, as any other.
    fn enter_unit(
        &self,
        dir: &dyn WritableDir,
        layout: &Layout,
        unit: &RelPath,
        parts: &BTreeMap<RelPath, ArchivedCopy>,
    ) {
        let mut paths = BTreeSet::new();
        let mut each = |hour: &RelPath, entry: &DirEntry, _| {
            paths.insert(hour.join(&entry.name));
        };
        let Ok(listing) = list_unit(dir, layout, unit, self.hub.now(), &mut each) else { return };
        paths.extend(listing.beside.into_iter().map(|one| one.path));
        let copies: Option<Vec<&ArchivedCopy>> = paths.iter().map(|path| parts.get(path)).collect();
        let (Some(copies), Ok(Some(there))) = (copies, dir.look(unit)) else { return };
        let Some(first) = copies.iter().min_by_key(|copy| copy.recorded) else { return };
        let copy = ArchivedCopy {
            path: unit.clone(),
            stream: layout.stream_of_unit(unit).unwrap_or_default(),
            size: copies.iter().map(|copy| copy.size).sum(),
            digest: digest_of_unit(copies.iter().map(|copy| (&copy.path, copy.digest))),
            source: (there.inode, listing.sum.fingerprint()),
            ..ArchivedCopy::clone(first)
        };
        let _ = self.catalogues.archived.enter(copy);
    }

    fn one(
        &self,
        store: &dyn ColdStore,
        object: &ColdObject,
        task: &RestoreTask,
        dir: &dyn WritableDir,
        number: u64,
        stop: &dyn Fn() -> bool,
    ) -> Option<ArchivedCopy> {
        let path = path_of(&task.tree, &object.key)?;
        let bytes = Bytes(object.size);
        // What was known of an earlier file of that name must not let this one go.
        let _ = self.catalogues.archived.forget(&task.tree, |copy| copy.path != path);
        match bring_back(store, object, &task.tree, dir, number, stop) {
            Ok(back) => {
                let (digest, identity, detail) = match back {
                    Back::Restored(digest, identity) => (digest, identity, None),
                    Back::Already(digest, identity) => {
                        (digest, identity, Some("it was there, with the same content".to_owned()))
                    }
                };
                let settings = self.trees.iter().find(|tree| tree.name == task.tree);
                let layout = settings.map(|tree| &tree.policy.layout);
                let found = layout.and_then(|layout| layout.recognise(&path, object.size.max(1)));
                let now = self.hub.now();
                let copy = ArchivedCopy {
                    archive: self.settings.name.clone(),
                    tree: task.tree.clone(),
                    path: path.clone(),
                    stream: found.as_ref().map_or_else(String::new, |found| found.stream.clone()),
                    recorded: found.and_then(|found| found.named).unwrap_or(object.modified),
                    size: object.size,
                    digest,
                    verified: now,
                    source: (identity.inode, identity.fingerprint()),
                    restored: Some(now),
                };
                let note = Entry::Note {
                    kind: NoteKind::ArchiveRestored,
                    volume: None,
                    tree: Some(task.tree.clone()),
                    who: task.who.clone(),
                    bytes,
                    number: task.job,
                    text: format!("{path} from archive {}, SHA-256 {digest}", self.settings.name),
                };
                self.hub.cold.note_came(&task.tree);
                // It is back whether or not that can be put on record.
                let _ = self.hub.append(note);
                if layout.is_none_or(|layout| layout.unit_of(&path).is_none()) {
                    let _ = self.catalogues.archived.enter(copy.clone());
                }
                self.tell(task, &path, bytes, Outcome::Verified, detail);
                return Some(copy);
            }
            Err(ColdError::Taken { found, .. }) => {
                let detail = format!("another file bears the name ({found}); it is not overwritten");
                self.tell(task, &path, bytes, Outcome::Kept, Some(detail));
            }
            Err(_) if stop() => {}
            Err(error) => self.tell(task, &path, bytes, Outcome::Failed, Some(chain(&error))),
        }
        None
    }

    /// What is brought back must not bring its volume beyond the critical mark. What was `brought` since its last reading is not in that yet.
    fn too_full(&self, tree: &TreeId, bytes: Bytes, brought: &mut Vec<(Timestamp, Bytes)>) -> Option<String> {
        self.hub.with_tree(tree, |volume, _| {
            let reading = volume.reading.as_ref().ok()?;
            let space = reading.space;
            brought.retain(|(at, _)| *at >= reading.at);
            let available = brought.iter().fold(space.available, |left, (_, bytes)| left.saturating_sub(*bytes));
            let left = available.saturating_sub(bytes);
            (left < volume.marks.thresholds(&space).critical).then(|| {
                format!(
                    "volume {} has {available} available, and with it would be beyond its critical mark",
                    volume.name
                )
            })
        })?
    }

    fn tell(&self, task: &RestoreTask, path: &RelPath, bytes: Bytes, outcome: Outcome, detail: Option<String>) {
        let item = ItemDone { tree: task.tree.clone(), path: path.clone(), bytes, outcome, cause: None, detail };
        self.hub.with_jobs(|jobs| {
            jobs.expand(task.job, Tally { files: 1, bytes });
            jobs.item(task.job, item);
        });
    }
}
