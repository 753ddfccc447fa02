//! `trees` and `volumes`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::archives::Archives;
use super::catalogues::{self, Catalogues};
use super::marks;
use super::node::{Map, Names, Node, more_than_zero};
use super::places::{normal, of_the_system, overlap};
use super::problem::ProblemKind;
use super::yaml::quoted;
use crate::domain::archive::ArchiveSettings;
use crate::domain::layout::{Layout, LayoutKind};
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::protection::Pattern;
use crate::domain::retention::{Mode, Rule, TreePolicy, WhenOpen};
use crate::domain::settings::{TreeSettings, VolumeSettings};
use crate::domain::units::{Percent, show_duration};
use crate::domain::volume::Marks;

/// What is a recording in the layouts that go by extension.
pub(super) const EXTENSIONS: [&str; 8] = ["mp4", "m4s", "ts", "flv", "mkv", "mov", "avi", "ps"];
/// Nothing younger is deleted, unless the tree says otherwise.
pub(super) const MIN_AGE: Duration = Duration::from_secs(600);
/// The least that `min_age` may be: what is being written must not look old.
const LEAST_MIN_AGE: Duration = Duration::from_secs(60);

/// The words of `mode`.
pub(super) const MODES: [(&str, Mode); 2] = [("observe", Mode::Observe), ("enforce", Mode::Enforce)];

/// What a tree takes from the rest of the configuration.
pub(super) struct Surroundings<'s> {
    pub(super) mode: Mode,
    pub(super) max_share: Percent,
    pub(super) catalogues: &'s Catalogues,
    pub(super) archives: &'s Archives,
}

/// What `trees` says.
#[derive(Default)]
pub(super) struct Trees {
    pub(super) trees: Vec<TreeSettings>,
    /// The trees that say `mode: observe` themselves.
    pub(super) observed: Vec<TreeId>,
}

/// Directories that must not lie in each other, with the setting that names each.
#[derive(Default)]
pub(super) struct Tops(Vec<(PathBuf, String)>);

impl Tops {
    /// Takes a directory of recordings, or notes why it cannot be one.
    pub(super) fn claim(&mut self, node: &Node<'_>) -> Option<PathBuf> {
        let path = normal(&node.absolute()?);
        if of_the_system(&path) {
            node.problem(format!(
                "is {}, a directory of the system; name the directory that holds nothing but recordings",
                quoted(&path.display().to_string())
            ));
        }
        for (other, field) in &self.0 {
            if overlap(&path, other) {
                let (path, other) = (path.display().to_string(), other.display().to_string());
                node.problem(format!(
                    "is {}, which overlaps with `{field}`, {}; name one of them",
                    quoted(&path),
                    quoted(&other)
                ));
            }
        }
        self.0.push((path.clone(), node.field.clone()));
        Some(path)
    }

    /// Notes a problem if the state directory lies in one of them.
    pub(super) fn spare_state(&self, node: &Node<'_>, state: &std::path::Path) {
        if let Some((top, field)) = self.0.iter().find(|(top, _)| state.starts_with(top)) {
            node.problem(format!(
                "is {}, which lies in `{field}`, {}; keep the state outside of the recordings",
                quoted(&state.display().to_string()),
                quoted(&top.display().to_string())
            ));
        }
    }
}

/// Reads `trees`.
pub(super) fn read(node: &Node<'_>, around: &Surroundings<'_>, tops: &mut Tops) -> Trees {
    let mut out = Trees::default();
    let mut names = Names::default();
    let Some(items) = node.items() else { return out };
    if items.is_empty() {
        node.problem("is empty; name at least one directory of recordings");
    }
    for item in items {
        let Some(mut map) = item.map() else { continue };
        let name = map.need("name", "give the tree a name").and_then(|node| {
            let name = node.name()?;
            names.claim(&node, &name);
            if around.archives.names.knows(&name) {
                node.problem(format!(
                    "is {}, as one of `archives` is; an archive is a tree too, so give them two names",
                    node.shown()
                ));
            }
            Some(TreeId::new(&name))
        });
        let path = map.need("path", "name the directory that holds the recordings").and_then(|node| tops.claim(&node));
        let tree = tree(map, name, path, around);
        if let Some((tree, observed)) = tree {
            if observed {
                out.observed.push(tree.name.clone());
            }
            out.trees.push(tree);
        }
    }
    out
}

fn tree(
    mut map: Map<'_>,
    name: Option<TreeId>,
    path: Option<PathBuf>,
    around: &Surroundings<'_>,
) -> Option<(TreeSettings, bool)> {
    let own_mode = map.take("mode").and_then(|node| node.word(&MODES));
    let mode = own_mode.unwrap_or(around.mode);
    let zone = map.take("timezone").map_or_else(|| Some(TimeZone::system()), |node| zone(&node));
    let extensions =
        map.take("extensions").map_or_else(|| EXTENSIONS.map(str::to_owned).to_vec(), |node| extensions(&node));
    let layout_node = map.take("layout");
    let text = layout_node.as_ref().map_or_else(|| Some("auto".to_owned()), Node::text);
    let layout = text.and_then(|text| match Layout::parse(&text, &extensions, zone.unwrap_or(TimeZone::UTC)) {
        Ok(layout) => Some(layout),
        Err(problem) => {
            let why = problem.strip_prefix(&format!("`{text}` ")).unwrap_or(&problem);
            layout_node.as_ref().unwrap_or(&map.node).problem(format!("is {}, which {why}", quoted(&text)));
            None
        }
    });
    let budget = map.amount("budget");
    let min_age = map.take("min_age").and_then(|node| {
        let age = node.duration()?;
        if age < LEAST_MIN_AGE {
            node.problem(format!(
                "is {}, but must be at least {}, so that nothing goes that is still being written",
                show_duration(age),
                show_duration(LEAST_MIN_AGE)
            ));
        }
        Some(age)
    });
    let when_open =
        map.take("when_open").and_then(|n| n.word(&[("wait", WhenOpen::Wait), ("delete", WhenOpen::Delete)]));
    let protect = map.take("protect").and_then(|node| node.items()).unwrap_or_default();
    let protect = protect.iter().filter_map(pattern).collect();
    let retention = map.take("retention").and_then(|node| node.items()).unwrap_or_default();
    let retention = retention.iter().filter_map(rule).collect();
    let kind = layout.as_ref().map(Layout::kind);
    let (catalogues, orphans, leftovers) = catalogues::of_tree(&mut map, around.catalogues, kind);
    let archive = map.take("archive").and_then(|node| {
        let name = around.archives.names.look_up(&node, "archive")?;
        around.archives.all.iter().find(|archive| archive.name.as_str() == name).map(ArchiveSettings::terms)
    });
    let at = map.node.clone();
    map.done();

    let (name, path, layout) = (name?, path?, layout?);
    let policy = TreePolicy {
        tree: name.clone(),
        mode,
        layout,
        min_age: min_age.unwrap_or(MIN_AGE),
        when_open: when_open.unwrap_or(WhenOpen::Wait),
        protect,
        retention,
        budget,
        max_share: around.max_share,
        catalogues,
        orphans,
        leftovers,
        archive,
    };
    let tree = TreeSettings { name, path, policy };
    if auto_enforces(&tree) {
        let message = match &layout_node {
            Some(_) => format!("is `auto`, which only observes, but the mode is `enforce`; {NAME_LAYOUT}"),
            None => format!(
                "has no `layout`, so it is `auto`, which only observes, but the mode is `enforce`; {NAME_LAYOUT}"
            ),
        };
        layout_node.as_ref().unwrap_or(&at).note(message, ProblemKind::AutoEnforces { tree: Box::new(tree.clone()) });
    }
    Some((tree, own_mode == Some(Mode::Observe)))
}

/// The remedy for layout `auto` in enforce mode.
pub(super) const NAME_LAYOUT: &str = "name the layout: zlmediakit, hls, frigate, mediamtx, dated, plain, or a template";

/// Whether a tree would be enforced with a layout that nobody chose.
pub(super) fn auto_enforces(tree: &TreeSettings) -> bool {
    tree.policy.mode == Mode::Enforce && tree.policy.layout.kind() == LayoutKind::Auto
}

fn zone(node: &Node<'_>) -> Option<TimeZone> {
    let name = node.text()?;
    let zone = TimeZone::get(&name).ok();
    if zone.is_none() {
        node.problem(format!(
            "is {}, which the system's time zone database does not know; give a name such as `Asia/Shanghai` or `UTC`",
            node.shown()
        ));
    }
    zone
}

fn extensions(node: &Node<'_>) -> Vec<String> {
    let items = node.items().unwrap_or_default();
    let fits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    items
        .iter()
        .filter_map(|node| {
            node.read("an extension without its dot, such as `mp4`", |text| {
                fits(text).then(|| text.to_ascii_lowercase())
            })
        })
        .collect()
}

fn pattern(node: &Node<'_>) -> Option<Pattern> {
    let text = node.text()?;
    match Pattern::new(&text) {
        Ok(pattern) => Some(pattern),
        Err(problem) => {
            node.problem(format!("is {}, which is no pattern: {problem}", node.shown()));
            None
        }
    }
}

fn rule(node: &Node<'_>) -> Option<Rule> {
    let mut map = node.map()?;
    let stream = map.need("stream", "say which streams the rule is for, such as `live/*`, or `**` for all");
    let stream = stream.and_then(|node| pattern(&node));
    let max_age = map.take("max_age").and_then(|node| node.duration().filter(|age| more_than_zero(&node, *age)));
    let max_bytes = map.amount("max_bytes");
    let max_files = map.take("max_files").and_then(|node| node.number(1_u64));
    let keep = map.take("keep").and_then(|node| {
        let keep = node.duration()?;
        if let Some(age) = max_age.filter(|age| keep > *age) {
            node.problem(format!(
                "is {}, but must not be longer than `max_age`, {}",
                show_duration(keep),
                show_duration(age)
            ));
        }
        Some(keep)
    });
    let priority = map.take("priority").and_then(|node| node.number(i32::MIN));
    let stream_share = map.take("stream_share").and_then(|node| node.percent());
    map.done();
    let (keep, priority) = (keep.unwrap_or_default(), priority.unwrap_or_default());
    Some(Rule { stream: stream?, max_age, max_bytes, max_files, keep, priority, stream_share })
}

/// Reads `volumes`; the marks of each start from `base`.
pub(super) fn volumes(node: &Node<'_>, base: &Marks) -> Vec<VolumeSettings> {
    let (mut names, mut paths) = (Names::default(), HashMap::new());
    let mut out = Vec::new();
    for item in node.items().unwrap_or_default() {
        let Some(mut map) = item.map() else { continue };
        let name = map.take("name").and_then(|node| {
            let name = node.name()?;
            names.claim(&node, &name);
            Some(name)
        });
        let path = map.need("path", "name a directory on the volume").and_then(|node| {
            let path = normal(&node.absolute()?);
            if let Some(field) = paths.insert(path.clone(), node.field.clone()) {
                node.problem(format!("is {}, as `{field}` is; list each volume once", node.shown()));
                return Some(path);
            }
            if name.is_none() {
                names.claim(&node, &path.display().to_string());
            }
            Some(path)
        });
        let marks = map.take("watermarks").map_or_else(|| base.clone(), |node| marks::read(&node, base));
        map.done();
        let Some(path) = path else { continue };
        let name = name.unwrap_or_else(|| path.display().to_string());
        out.push(VolumeSettings { name: VolumeId::new(&name), path, marks });
    }
    out
}
