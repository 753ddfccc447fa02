//! Reads `archives`, and makes a guarded tree of each that is a directory.

use std::time::Duration;

use super::addresses::web;
use super::marks;
use super::node::{Map, Names, Node, more_than_zero};
use super::others::named;
use super::secrets;
use super::trees::{MIN_AGE, Tops};
use crate::domain::archive::{ArchiveSettings, BucketSettings, ColdPlace};
use crate::domain::layout::Layout;
use crate::domain::names::{ArchiveId, TreeId};
use crate::domain::orphan::{LeftoverPolicy, OrphanPolicy};
use crate::domain::protection::Pattern;
use crate::domain::retention::{Mode, Rule, TreePolicy, WhenOpen};
use crate::domain::settings::TreeSettings;
use crate::domain::units::{Percent, show_duration};
use crate::domain::volume::Marks;

/// The archives, and their names for those that refer to them: also of those that could not be read.
pub(super) struct Archives {
    pub(super) names: Names,
    pub(super) all: Vec<ArchiveSettings>,
}

/// Reads `archives`; the marks of their volumes start from `base`.
pub(super) fn read(top: &mut Map<'_>, tops: &mut Tops, base: &Marks) -> Archives {
    let mut all = Vec::new();
    let names = named(top, "archives", |name, map| all.extend(one(name, map, tops, base)));
    Archives { names, all }
}

fn one(name: Option<String>, map: &mut Map<'_>, tops: &mut Tops, base: &Marks) -> Option<ArchiveSettings> {
    let kind = map.need("kind", "say what it is: `directory` or `s3`");
    let directory = kind.and_then(|node| node.word(&[("directory", true), ("s3", false)]));
    let after = map.need("after", "say how old recordings are when they are copied").and_then(|node| node.duration());
    let max_age = map.take("max_age").and_then(|node| {
        let age = node.duration().filter(|age| more_than_zero(&node, *age))?;
        if let Some(after) = after.filter(|after| *after >= age) {
            node.problem(format!(
                "is {}, but must be longer than `after`, {}: else nothing would be copied",
                show_duration(age),
                show_duration(after)
            ));
        }
        Some(age)
    });
    let max_bytes = map.amount("max_bytes");
    let rate = map.amount("max_bytes_per_second");
    // Of what is neither all keys are read, so that only its kind is wrong.
    let folder = if directory == Some(false) { None } else { folder(map, tops, base, directory.is_some()) };
    let bucket = if directory == Some(true) { None } else { bucket(map, directory.is_some()) };
    let place = if directory? { folder? } else { ColdPlace::Bucket(bucket?) };
    Some(ArchiveSettings { name: ArchiveId::new(&name?), place, after: after?, max_age, max_bytes, rate })
}

fn folder(map: &mut Map<'_>, tops: &mut Tops, base: &Marks, needed: bool) -> Option<ColdPlace> {
    let path = if needed { map.need("path", "name its directory") } else { map.take("path") };
    let path = path.and_then(|node| tops.claim(&node));
    let marks = map.take("watermarks").map(|node| marks::read(&node, base));
    Some(ColdPlace::Directory { path: path?, marks })
}

fn bucket(map: &mut Map<'_>, needed: bool) -> Option<BucketSettings> {
    let bucket = if needed { map.need("bucket", "name the bucket") } else { map.take("bucket") };
    let bucket = bucket.and_then(|node| node.text());
    let endpoint = map.take("endpoint").and_then(|node| {
        let text = node.text()?;
        web(&node, &text);
        Some(text)
    });
    let region = map.take("region").and_then(|node| node.text());
    let prefix = map.take("prefix").and_then(|node| prefix(&node));
    let access_key = secrets::take(map, "access_key", "access_key_file");
    let secret_key = secrets::take(map, "secret_key", "secret_key_file");
    let (given, missing) = match (&access_key, &secret_key) {
        (Some(given), None) => (Some(given), "secret_key"),
        (None, Some(given)) => (Some(given), "access_key"),
        (Some(_), Some(_)) | (None, None) => (None, ""),
    };
    if let Some(given) = given {
        given.node.problem(format!(
            "stands without `{missing}` or `{missing}_file`; give both, or none to ask the environment"
        ));
    }
    let [access_key, secret_key] = [access_key, secret_key].map(|given| given.map(|given| given.secret));
    Some(BucketSettings { bucket: bucket?, endpoint, region, prefix, access_key, secret_key })
}

fn prefix(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    let fits = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    if !text.split('/').all(fits) {
        node.problem(format!(
            "is {}, but must be names with single slashes between them, as in `site-1/cold`",
            node.shown()
        ));
        return None;
    }
    Some(text)
}

/// The guarded tree that a directory of copies is: of the trees that use it each has its place there.
pub(super) fn tree_of(archive: &ArchiveSettings, trees: &[TreeSettings], max_share: Percent) -> Option<TreeSettings> {
    let ColdPlace::Directory { path, .. } = &archive.place else { return None };
    let uses = |tree: &&TreeSettings| tree.policy.archive.as_ref().is_some_and(|terms| terms.archive == archive.name);
    let users: Vec<&TreeSettings> = trees.iter().filter(uses).collect();
    let enforced = users.iter().any(|tree| tree.policy.mode == Mode::Enforce);
    let name = TreeId::new(archive.name.as_str());
    let all = Pattern::new("**").expect("it is a pattern");
    let rule = archive.max_age.map(|max_age| Rule {
        stream: all,
        max_age: Some(max_age),
        max_bytes: None,
        max_files: None,
        keep: Duration::ZERO,
        priority: 0,
        stream_share: None,
    });
    let policy = TreePolicy {
        tree: name.clone(),
        mode: if enforced { Mode::Enforce } else { Mode::Observe },
        layout: Layout::of_archive(users.iter().map(|tree| (tree.name.as_str(), &tree.policy.layout))),
        min_age: users.iter().map(|tree| tree.policy.min_age).max().unwrap_or(MIN_AGE),
        when_open: WhenOpen::Wait,
        protect: Vec::new(),
        retention: rule.into_iter().collect(),
        budget: archive.max_bytes,
        max_share,
        catalogues: Vec::new(),
        orphans: OrphanPolicy::default(),
        leftovers: LeftoverPolicy::default(),
        archive: None,
    };
    Some(TreeSettings { name, path: path.clone(), policy })
}
