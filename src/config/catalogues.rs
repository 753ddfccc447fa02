//! `catalogues`, and what trees want of them.

use std::path::PathBuf;
use std::time::Duration;

use super::addresses::has_login;
use super::node::{Map, Names, Node};
use super::others::{named, path_map, scheme};
use super::secrets;
use crate::domain::catalogue::{AfterReclaim, CatalogueKind};
use crate::domain::layout::LayoutKind;
use crate::domain::names::CatalogueId;
use crate::domain::orphan::{LeftoverAction, LeftoverPolicy, OrphanAction, OrphanPolicy};
use crate::domain::settings::{CatalogueSettings, CatalogueSource};
use crate::domain::units::Percent;

/// What a catalogue may lose between two readings.
const MAX_DROP: Percent = Percent::new(30);
/// How often it is read.
const INTERVAL: Duration = Duration::from_secs(15 * 60);
/// How often a database is read whole.
const FULL: Duration = Duration::from_secs(86_400);

/// The catalogues of a configuration.
#[derive(Default)]
pub(super) struct Catalogues {
    pub(super) names: Names,
    pub(super) all: Vec<CatalogueSettings>,
}

impl Catalogues {
    fn find(&self, name: &CatalogueId) -> Option<&CatalogueSettings> {
        self.all.iter().find(|catalogue| catalogue.name == *name)
    }
}

/// Reads `catalogues`.
pub(super) fn read(top: &mut Map<'_>, media_servers: &Names) -> Catalogues {
    let mut all = Vec::new();
    let names = named(top, "catalogues", |name, map| all.extend(one(name, map, media_servers)));
    Catalogues { names, all }
}

fn one(name: Option<String>, map: &mut Map<'_>, media_servers: &Names) -> Option<CatalogueSettings> {
    let kind = map.need("kind", "say what it is: `wvp`, `frigate`, `hooks` or `manifest`");
    let kind = kind.and_then(|node| node.word(CatalogueKind::WORDS));
    let media_server = map.take("media_server").and_then(|node| media_servers.look_up(&node, "media server"));
    let paths = path_map(map);
    let max_drop = map.take("max_drop").and_then(|node| node.percent()).unwrap_or(MAX_DROP);
    let interval = map.span("interval", INTERVAL);
    let full = super::whole::longer(map, "full", FULL, "interval", interval);
    let after_reclaim = map.take("after_reclaim").and_then(|node| {
        let word = node.word(AfterReclaim::WORDS)?;
        if word == AfterReclaim::RemoveRow && kind.is_some_and(|kind| kind != CatalogueKind::Wvp) {
            node.problem("is `remove_row`, which only a catalogue of kind `wvp` can do; leave it out");
        }
        Some(word)
    });
    // A key of another kind is unknown here; of an unknown kind, none is.
    let every = kind.is_none();
    let database = if every || kind == Some(CatalogueKind::Wvp) { database(map, every) } else { None };
    let file = if every || matches!(kind, Some(CatalogueKind::Frigate | CatalogueKind::Manifest)) {
        file(map, every)
    } else {
        None
    };
    let source = match kind? {
        CatalogueKind::Wvp => database?,
        CatalogueKind::Frigate => CatalogueSource::Frigate { file: file? },
        CatalogueKind::Hooks => CatalogueSource::Hooks,
        CatalogueKind::Manifest => CatalogueSource::Manifest { file: file? },
    };
    Some(CatalogueSettings {
        name: CatalogueId::new(&name?),
        source,
        media_server,
        path_map: paths,
        max_drop,
        interval,
        full,
        after_reclaim: after_reclaim.unwrap_or(AfterReclaim::Keep),
    })
}

fn file(map: &mut Map<'_>, optional: bool) -> Option<PathBuf> {
    let file = if optional { map.take("file") } else { map.need("file", "name the file to read") };
    file?.absolute()
}

fn database(map: &mut Map<'_>, optional: bool) -> Option<CatalogueSource> {
    let url = secrets::take_if(map, "url", "url_file", has_login);
    match &url {
        Some(given) => scheme(
            given,
            &["mysql", "mariadb", "postgres", "postgresql"],
            "`mysql://host/database` or `postgres://host/database`",
        ),
        None if optional || map.has("url") || map.has("url_file") => {}
        None => map.missing("url", "say where the database is, such as `mysql://host/wvp`"),
    }
    let username = map.take("username").and_then(|node| node.text());
    let password = secrets::take(map, "password", "password_file").map(|given| given.secret);
    Some(CatalogueSource::Wvp { url: url?.secret, username, password })
}

/// What a tree wants of catalogues: their names, and what becomes of orphans and leftovers.
pub(super) fn of_tree(
    map: &mut Map<'_>,
    known: &Catalogues,
    layout: Option<LayoutKind>,
) -> (Vec<CatalogueId>, OrphanPolicy, LeftoverPolicy) {
    let at = map.take("catalogue");
    let nodes = at.as_ref().and_then(Node::one_or_more).unwrap_or_default();
    let mut named: Vec<CatalogueId> = Vec::new();
    for node in &nodes {
        let Some(name) = known.names.look_up(node, "catalogue") else { continue };
        let name = CatalogueId::new(&name);
        if named.contains(&name) {
            node.problem(format!("is {}, which stands in the list already", node.shown()));
        } else {
            named.push(name);
        }
    }
    let orphans = orphans(map, known, &named, !nodes.is_empty());
    (named, orphans, leftovers(map, layout))
}

fn orphans(map: &mut Map<'_>, known: &Catalogues, named: &[CatalogueId], any: bool) -> OrphanPolicy {
    let mut out = OrphanPolicy::default();
    let Some(mut map) = map.take("orphans").and_then(|node| node.map()) else { return out };
    if let Some(node) = map.take("action") {
        out.action = node.word(OrphanAction::WORDS).unwrap_or(out.action);
        let kinds: Vec<_> = named.iter().filter_map(|name| known.find(name)).map(|found| found.source.kind()).collect();
        let rows = kinds.contains(&CatalogueKind::Wvp);
        let acts = out.action != OrphanAction::Report;
        if acts && !any {
            node.problem(format!(
                "is `{}`, but the tree has no `catalogue` that could know its recordings",
                out.action
            ));
        } else if acts && !kinds.is_empty() && !kinds.iter().any(|kind| kind.proves_absence()) {
            node.problem(format!(
                "is `{}`, but hooks prove presence only: what they do not know is only reported; name another catalogue too",
                out.action
            ));
        } else if out.action == OrphanAction::Adopt && !kinds.is_empty() && !rows {
            node.problem("is `adopt`, which needs a catalogue of kind `wvp`, into which rows can be inserted");
        }
    }
    out.grace = map.span("grace", out.grace);
    out.max_share = map.take("max_share").and_then(|node| node.percent()).unwrap_or(out.max_share);
    out.quarantine = map.span("quarantine", out.quarantine);
    map.done();
    out
}

fn leftovers(map: &mut Map<'_>, layout: Option<LayoutKind>) -> LeftoverPolicy {
    let mut out = LeftoverPolicy::default();
    let Some(mut map) = map.take("leftovers").and_then(|node| node.map()) else { return out };
    if let Some(node) = map.take("action") {
        out.action = node.word(LeftoverAction::WORDS).unwrap_or(out.action);
        let fits = layout.is_none_or(|kind| matches!(kind, LayoutKind::Zlmediakit | LayoutKind::Hls));
        if out.action == LeftoverAction::Delete && !fits {
            node.problem(
                "is `delete`, but only the layouts `zlmediakit` and `hls` tell an unfinished file by its name; use `report`",
            );
        }
    }
    out.grace = map.span("grace", out.grace);
    map.done();
    out
}
