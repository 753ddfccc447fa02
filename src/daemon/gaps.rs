//! Why a span of a stream is missing. Here what is known is gathered: from the disk, the journal, hook records, catalogues and media servers; what
//! follows from it is decided by `domain::gap`.

use std::collections::{BTreeMap, BTreeSet};

use super::gap_site::{Nearest, Site};
use super::hub::Hub;
use crate::domain::catalogue::CatalogueKind;
use crate::domain::cause::chain;
use crate::domain::demand::is_stream;
use crate::domain::gap::{Evidence, Presence, Proof, ProofSource, explain, reaching};
use crate::domain::gap_story::{Act, Deeds, Ground, RunEnd, Story};
use crate::domain::gap_time::Span;
use crate::domain::hold::Reach;
use crate::domain::journal::Entry;
use crate::domain::live::Reach as Reached;
use crate::domain::names::{StreamId, TreeId};
use crate::domain::orphan::OrphanKind;
use crate::domain::path::RelPath;
use crate::domain::text::likest;
use crate::domain::units::Timestamp;
use crate::server::Refusal;
use crate::server::gaps::{Gap, GapQuery, Part};
use crate::store::JournalError;
use crate::system::Volumes;

/// Hook records that are looked through at once: others use the database in between.
const HOOKS: usize = 20_000;
/// Findings that are given.
const SHOWN: usize = 1000;
/// Of so many recordings in a span it is asked whether somebody holds them.
const REMARKED: usize = 1000;
/// Names that are offered for one that nobody knows.
const NAMES: usize = 5;

/// What the journal told, apart from what it told of single recordings.
struct Told {
    starts: Vec<(crate::domain::deletion::Seq, Timestamp)>,
    runs: BTreeMap<u64, RunEnd>,
}

impl Hub {
    /// Why a span of a stream is missing. `done` hears how far the journal was read: so many segments of so many.
    ///
    /// # Errors
    /// 400 for a span that cannot be meant, 404 if there is no such tree, or nobody knows the stream; 503 if the journal cannot be read.
    pub fn gap(
        &self,
        asked: &GapQuery,
        machine: &dyn Volumes,
        done: &mut dyn FnMut(usize, usize),
    ) -> Result<Gap, Refusal> {
        if !is_stream(&asked.stream) {
            let message = format!(
                "`stream` is {:?}, which is no stream's name; it is `app/stream`, or the directory below the tree",
                asked.stream
            );
            return Err(Refusal::bad_request("bad_stream", message));
        }
        let stream = StreamId::new(&asked.stream);
        let policies = match &asked.tree {
            Some(name) => vec![self.policy(name)?],
            None => self.of_all_trees(|tree| tree.policy.clone()),
        };
        let mut sites = Vec::with_capacity(policies.len());
        for policy in &policies {
            let span = asked.when.span(policy.layout.zone()).map_err(|why| Refusal::bad_request("bad_time", why))?;
            if span.from > self.now() {
                let message = format!("{} has not come yet", span.from);
                return Err(Refusal::bad_request("bad_time", message));
            }
            sites.push(Site::new(policy.clone(), span));
        }
        for site in &mut sites {
            site.look(self, &stream, machine);
        }
        let grounds = policies.iter().zip(&sites);
        let grounds =
            grounds.map(|(policy, site)| Ground { tree: policy.tree.clone(), layout: &policy.layout, span: site.span });
        let mut story = Story::new(&stream, grounds.collect());
        let faults = self.journal.about(needle(&stream), &mut |recorded| story.enter(recorded), done);
        let faults = faults.map_err(|error| unreadable(&error))?;
        let deeds = std::mem::take(&mut story.deeds);
        let mut stops = Vec::new();
        for (site, mut deeds) in sites.iter_mut().zip(deeds) {
            stops.push(std::mem::take(&mut deeds.stops));
            site.known |= !stops.last().is_none_or(Vec::is_empty);
            self.take_in(site, deeds, &story, &faults);
        }
        let told = told(&sites, &story);
        self.hear(&mut sites, &stream);
        if let Some(catalogues) = self.catalogues.load_full() {
            sites.iter_mut().for_each(|site| site.listed(&catalogues, &stream));
        }
        sites.iter_mut().for_each(Site::find_out);
        if !sites.iter().any(|site| site.known) {
            return Err(self.unknown(&stream, &sites));
        }
        let mut items = Vec::new();
        for (site, stops) in sites.into_iter().zip(stops).filter(|(site, _)| site.known) {
            let evidence = self.evidence(site, stops, &told, &stream);
            items.extend(explain(&evidence).iter().map(|found| Part::of(&evidence.tree, found)));
        }
        let left_out = items.len().saturating_sub(SHOWN);
        items.truncate(SHOWN);
        Ok(Gap { stream: stream.to_string(), items, left_out, next: None })
    }

    /// What the journal told of a tree.
    fn take_in(&self, site: &mut Site, deeds: Deeds, story: &Story<'_>, faults: &[String]) {
        match story.first {
            None => site.doubts.push("there is no journal here, or nothing in it".to_owned()),
            Some((seq, at)) if at > site.span.from => {
                site.deaf.push(format!("the journal begins only at {at} (entry {})", seq.0));
            }
            Some(_) => {}
        }
        if let Some(first) = faults.first() {
            let text =
                format!("the journal is not whole, {} faults, the first: {first}; see `journal verify`", faults.len());
            site.doubts.push(text);
        }
        if let Some((count, last)) = deeds.undated {
            site.doubts.push(format!(
                "{count} deletions were of recordings of this stream whose names tell no time, the last one is entry {}",
                last.0
            ));
        }
        let volume = self.home_of(site.tree()).map(|volume| volume.to_string());
        for (of, from, to) in &story.clocks {
            let over = to.is_some_and(|to| to < site.span.from) || *from > site.span.to;
            if !over && volume.as_deref() == Some(of.as_str()) {
                site.doubts
                    .push(format!("the clock was not trusted from {from} on, so that names may bear another time"));
            }
        }
        let hooks = self.hook_catalogues(site.tree());
        let slice = site.slice.max(std::time::Duration::from_secs(3600));
        for (path, (begin, deeds)) in deeds.of {
            let heard = deeds.iter().find_map(|deed| match &deed.act {
                // The record of a hook went with its recording: it was heard before that.
                Act::Row { what, .. } => {
                    let of_hooks = hooks.iter().any(|name| what.contains(&format!(" of catalogue {name} was removed")));
                    of_hooks.then(|| deed.at.min(begin.plus(slice)))
                }
                Act::Intended(_)
                | Act::Ended { .. }
                | Act::Restored { .. }
                | Act::Closed { .. }
                | Act::CopyRemoved { .. } => None,
            });
            let bytes = deeds.iter().find_map(|deed| match &deed.act {
                Act::Intended(intent) => Some(intent.target.bytes),
                Act::Ended { .. }
                | Act::Restored { .. }
                | Act::Closed { .. }
                | Act::Row { .. }
                | Act::CopyRemoved { .. } => None,
            });
            let trace = site.trace(&path, begin);
            (trace.deeds, trace.heard) = (deeds, heard);
            if trace.bytes.0 == 0 {
                trace.bytes = bytes.unwrap_or_default();
            }
        }
    }

    fn hook_catalogues(&self, tree: &TreeId) -> Vec<String> {
        let catalogues = self.catalogues.load();
        let all = catalogues.as_ref().map(|all| all.of_tree(tree)).unwrap_or_default();
        all.iter().filter(|one| one.kind() == CatalogueKind::Hooks).map(|one| one.name().to_string()).collect()
    }

    /// What hooks told of the stream.
    fn hear(&self, sites: &mut [Site], stream: &StreamId) {
        let Some(catalogues) = self.catalogues.load_full() else { return };
        let name = stream.as_str();
        // A layout may put the virtual host before it.
        let short = name.split_once('/').map_or(name, |(_, rest)| rest);
        let keepers: Vec<Vec<_>> = sites
            .iter()
            .map(|site| {
                let all = catalogues.of_tree(site.tree()).into_iter();
                all.filter(|keeper| keeper.kind() == CatalogueKind::Hooks).collect()
            })
            .collect();
        if keepers.iter().all(Vec::is_empty) {
            return;
        }
        let mut nearest: Vec<Nearest> = sites.iter().map(|_| Nearest::default()).collect();
        let mut after = 0;
        loop {
            let (some, last) = match catalogues.hooks.hooks_named([name, short], after, HOOKS) {
                Ok(read) => read,
                Err(error) => {
                    let text = format!("what hooks told cannot be read: {}", chain(&error));
                    sites.iter_mut().for_each(|site| site.deaf.push(text.clone()));
                    return;
                }
            };
            for hook in &some {
                for ((site, keepers), nearest) in sites.iter_mut().zip(&keepers).zip(&mut nearest) {
                    site.hear(hook, stream, keepers, nearest);
                }
            }
            match last {
                Some(last) => after = last,
                None => return,
            }
        }
    }

    /// Nobody knows a stream of that name: which there are that look like it.
    fn unknown(&self, stream: &StreamId, sites: &[Site]) -> Refusal {
        let trees: Vec<&TreeId> = sites.iter().map(Site::tree).collect();
        let mut names: BTreeSet<String> = BTreeSet::new();
        for tree in &trees {
            let seen = self.with_tree(tree, |_, view| view.inventory.streams().to_vec()).unwrap_or_default();
            names.extend(seen.iter().map(ToString::to_string));
        }
        if let Some(catalogues) = self.catalogues.load_full() {
            names.extend(catalogues.hooks.hook_streams_after(0, None).unwrap_or_default());
        }
        let mut enter = |recorded: crate::domain::journal::Recorded| {
            let Entry::Intent(intent) = recorded.entry else { return };
            if trees.contains(&&intent.target.tree) && !names.contains(&intent.target.stream) {
                names.insert(intent.target.stream);
            }
        };
        // That it cannot be read was no hindrance a moment ago.
        let _ = self.journal.about("", &mut enter, &mut |_, _| ());
        let like = likest(stream.as_str(), names.iter().map(String::as_str), NAMES);
        let of = trees.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let like = match like.as_slice() {
            [] => "no stream is known there".to_owned(),
            like => format!("those that look most like it: {}", like.join(", ")),
        };
        Refusal::not_found(format!(
            "no file, no deletion, no hook and no catalogue tells of a stream `{stream}` in tree {of}; {like}"
        ))
    }

    /// All that is known of a tree, ready to be judged.
    fn evidence(
        &self,
        site: Site,
        stops: Vec<crate::domain::gap_story::Stop>,
        told: &Told,
        stream: &StreamId,
    ) -> Evidence {
        let context = self.context(stream, site.span);
        let mut evidence = Evidence {
            tree: site.tree().clone(),
            span: site.span,
            slice: site.slice,
            stops,
            runs: told.runs.clone(),
            starts: told.starts.clone(),
            traces: site.traces.into_values().collect(),
            doubts: site.doubts,
            deaf: site.deaf,
            context,
        };
        let wanted: BTreeSet<RelPath> = reaching(&evidence).into_iter().take(REMARKED).collect();
        let tree = evidence.tree.clone();
        let reached = evidence.traces.iter_mut().filter(|trace| wanted.contains(&trace.path));
        for trace in reached {
            let (path, begin, end) = (trace.path.clone(), trace.begin, trace.end);
            if let Presence::There { remarks, .. } = &mut trace.presence {
                *remarks = self.remarks(&tree, stream, &path, begin, end);
            }
        }
        evidence
    }

    /// What else is to be said of a recording that is there: who holds it, and whether it should be there.
    fn remarks(
        &self,
        tree: &TreeId,
        stream: &StreamId,
        path: &RelPath,
        begin: Timestamp,
        end: Option<Timestamp>,
    ) -> Vec<String> {
        let holds = self.holds_of(tree);
        let reach = Reach { from: begin, to: end.unwrap_or(begin) };
        let mut found: Vec<_> = holds.naming(path).chain(holds.spanning(stream, Some(reach))).collect();
        found.retain(|hold| hold.in_effect(self.now()));
        let mut out: Vec<String> =
            found.iter().map(|hold| format!("hold {} by {} keeps it: {}", hold.id, hold.who, hold.reason)).collect();
        let catalogues = self.catalogues.load();
        let orphan = |kind| {
            let found = catalogues.as_ref()?.findings.orphan(tree, kind, path).ok()??;
            let verdict = if found.verdict.proven() { "proven" } else { "not proven" };
            let what = match kind {
                OrphanKind::Uncatalogued => "no catalogue lists it",
                OrphanKind::Leftover => "it is unfinished, and nobody writes it any more",
            };
            Some(format!("{what}, first seen so {} ({verdict}); see `orphans list`", found.first_seen))
        };
        out.extend(OrphanKind::ALL.iter().filter_map(|kind| orphan(*kind)));
        out
    }

    /// What media servers say now, as far as it reaches back to the span.
    fn context(&self, stream: &StreamId, span: Span) -> Vec<Proof> {
        let mut out = Vec::new();
        for server in self.live.views() {
            let name = &server.name;
            let text = match &server.reach {
                Reached::Unasked => format!("media server {name} was not asked"),
                Reached::Up { since } if *since <= span.from => {
                    format!("media server {name} has answered since {since}")
                }
                Reached::Up { since } => {
                    format!("media server {name} answers since {since}; of before that nothing is known")
                }
                Reached::Down { since, why } => format!("media server {name} cannot be asked since {since}: {why}"),
            };
            out.push(Proof::new(ProofSource::MediaServer, Some(self.now()), text));
            let names = |live: &&crate::domain::live::LiveStream| {
                let tuple = &live.names;
                tuple.name() == stream.as_str() || format!("{}/{}", tuple.vhost, tuple.name()) == stream.as_str()
            };
            let since = server.streams.iter().filter(names).filter_map(|live| live.since).min();
            if let Some(since) = since {
                let text = format!("the stream is live there, as it is now since {since}");
                out.push(Proof::new(ProofSource::MediaServer, Some(self.now()), text));
            }
        }
        out
    }
}

/// How the runs ended that something of these was deleted in, and when the guard was started.
fn told(sites: &[Site], story: &Story<'_>) -> Told {
    let deeds = sites.iter().flat_map(|site| site.traces.values()).flat_map(|trace| &trace.deeds);
    let numbers = deeds.filter_map(|deed| match &deed.act {
        Act::Intended(intent) => Some(intent.run),
        Act::Ended { .. } | Act::Restored { .. } | Act::Closed { .. } | Act::Row { .. } | Act::CopyRemoved { .. } => {
            None
        }
    });
    let runs = numbers.filter_map(|number| Some((number, story.run(number)?.clone()))).collect();
    Told { starts: story.starts.clone(), runs }
}

/// A part of a stream's name that stands in the journal's text as it is, wherever the name does: in a path, too.
fn needle(stream: &StreamId) -> &str {
    let last = stream.as_str().rsplit('/').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    last.split(|c| !plain(c)).max_by_key(|part| part.len()).unwrap_or_default()
}

fn unreadable(error: &JournalError) -> Refusal {
    Refusal::unavailable("journal", chain(error))
}
