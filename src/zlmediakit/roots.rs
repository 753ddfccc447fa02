//! Where a media server records, and whether that is where trees are guarded.

use std::path::{Path, PathBuf};

use super::client::ServerConfig;
use crate::domain::catalogue::mapped;
use crate::domain::layout::LayoutKind;
use crate::domain::media::MediaServerSettings;
use crate::domain::settings::TreeSettings;

/// What a person should know of a media server beside the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// What does not fit, with its remedy.
    pub problems: Vec<String>,
    /// What fits, or may be meant so.
    pub notes: Vec<String>,
}

/// Where a media server's MP4 recordings lie here; `None` if its path is relative, so that nobody can tell.
#[must_use]
pub fn records_at(settings: &MediaServerSettings, config: &ServerConfig) -> Option<PathBuf> {
    let root = place(settings, &config.mp4_root)?;
    // With virtual hosts the directory of each stands between the two.
    Some(if config.vhosts { root } else { root.join(&config.record_app) })
}

/// A path of the media server as it is here.
fn place(settings: &MediaServerSettings, path: &str) -> Option<PathBuf> {
    let here = mapped(Path::new(path), &settings.path_map);
    here.is_absolute().then(|| here.components().collect())
}

/// Compares what a media server says of itself with the configuration.
#[must_use]
pub fn advise(settings: &MediaServerSettings, config: &ServerConfig, trees: &[TreeSettings]) -> Advice {
    let mut out = Advice::default();
    let who = format!("media server `{}`", settings.name);
    if config.id != settings.name.as_str() {
        out.problems.push(format!(
            "{who} bears the id `{}` (`general.mediaServerId`); let `name` be the same, since its hooks and a platform's rows bear it",
            config.id
        ));
    }
    let mp4 = Root { who: &who, what: "MP4", key: "protocol.mp4_save_path", path: &config.mp4_root };
    match records_at(settings, config) {
        None => out.problems.push(mp4.relative()),
        Some(at) => match covered(trees, &at, LayoutKind::Zlmediakit) {
            Covered::By(tree) => out.notes.push(format!("{who} records MP4 in `{}`, which tree `{tree}` guards", at.display())),
            Covered::OtherLayout(tree, layout) => out.problems.push(format!(
                "{who} records MP4 in `{}`, which tree `{tree}` reads by layout `{layout}`; let it say `layout: zlmediakit`",
                at.display()
            )),
            Covered::Not => out.problems.push(mp4.uncovered(settings, &at, "zlmediakit")),
        },
    }
    let hls = Root { who: &who, what: "HLS", key: "protocol.hls_save_path", path: &config.hls_root };
    match (config.keeps_segments, place(settings, &config.hls_root)) {
        (false, _) => out.notes.push(format!(
            "{who} removes the segments of HLS streams itself (`hls.segKeep` is 0): no tree need guard `{}`",
            config.hls_root
        )),
        (true, None) => out.problems.push(hls.relative()),
        (true, Some(at)) => match covered(trees, &at, LayoutKind::Hls) {
            Covered::By(tree) => out.notes.push(format!("{who} keeps HLS segments in `{}`, which tree `{tree}` guards", at.display())),
            Covered::OtherLayout(tree, layout) => out.problems.push(format!(
                "{who} keeps HLS segments in `{}`, which tree `{tree}` reads by layout `{layout}`; give them a tree of their own, with `layout: hls`",
                at.display()
            )),
            Covered::Not => out.problems.push(hls.uncovered(settings, &at, "hls")),
        },
    }
    if settings.hooks.is_some() && !config.hooks.contains_key("on_record_mp4") {
        out.notes.push(format!(
            "{who} sends no `on_record_mp4` (`hook.on_record_mp4` is empty); let its hooks go to `hooks.listen`, followed by `/index/hook/on_record_mp4`"
        ));
    }
    out
}

/// A directory that a media server writes into.
struct Root<'a> {
    who: &'a str,
    what: &'a str,
    key: &'a str,
    path: &'a str,
}

impl Root<'_> {
    fn relative(&self) -> String {
        format!(
            "{} records {} in `{}` (`{}`), which is relative to the directory of its binary; make it absolute there, or let `path_map` \
             say where it is",
            self.who, self.what, self.path, self.key
        )
    }

    fn uncovered(&self, settings: &MediaServerSettings, at: &Path, layout: &str) -> String {
        let unmapped = if Path::new(self.path) == mapped(Path::new(self.path), &settings.path_map) {
            format!("; if it sees other paths than this machine: `path_map: {{ \"{}\": \"HERE\" }}`", self.path)
        } else {
            String::new()
        };
        format!(
            "{} records {} in `{}` (`{}`), which no tree guards; add to `trees`: `- {{ name: {}-{layout}, path: \"{}\", layout: {layout} }}`{unmapped}",
            self.who,
            self.what,
            at.display(),
            self.key,
            settings.name,
            at.display()
        )
    }
}

enum Covered {
    By(String),
    OtherLayout(String, String),
    Not,
}

/// Whether a tree with this layout has a directory: it is its top, lies below it, or, since both are understood, is the directory right
/// below which the recordings lie.
fn covered(trees: &[TreeSettings], at: &Path, layout: LayoutKind) -> Covered {
    let has = |tree: &&TreeSettings| {
        at.starts_with(&tree.path) || at.parent() == Some(&tree.path) || tree.path.parent() == Some(at)
    };
    let found = || trees.iter().filter(has);
    let fits = |tree: &&TreeSettings| [layout, LayoutKind::Auto].contains(&tree.policy.layout.kind());
    match (found().find(fits), found().next()) {
        (Some(tree), _) => Covered::By(tree.name.to_string()),
        (None, Some(tree)) => Covered::OtherLayout(tree.name.to_string(), tree.policy.layout.name().to_owned()),
        (None, None) => Covered::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conditions::tests::volume;
    use crate::domain::layout::Layout;
    use crate::domain::names::{MediaServerId, TreeId};

    fn settings(name: &str, map: &[(&str, &str)]) -> MediaServerSettings {
        MediaServerSettings {
            name: MediaServerId::new(name),
            api: "http://127.0.0.1:9".to_owned(),
            secret: None,
            path_map: map.iter().map(|(from, to)| (from.into(), to.into())).collect(),
            hooks: None,
            gateway: None,
            recording_switch: None,
        }
    }

    fn tree(path: &str, layout: &str) -> TreeSettings {
        let mut policy = volume().trees[0].policy.as_ref().clone();
        policy.layout = Layout::parse(layout, &[], jiff::tz::TimeZone::UTC).unwrap();
        TreeSettings { name: TreeId::new("live"), path: path.into(), policy }
    }

    fn config() -> ServerConfig {
        ServerConfig {
            id: "zlm-1".to_owned(),
            mp4_root: "/data/zlm/rec".to_owned(),
            record_app: "record".to_owned(),
            hls_root: "/data/zlm/hls".to_owned(),
            ..ServerConfig::default()
        }
    }

    /// The problem that is told, by a part of it; nothing if there is none.
    fn check(settings: &MediaServerSettings, config: &ServerConfig, trees: &[TreeSettings], expected: &[&str]) {
        let found = advise(settings, config, trees).problems;
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn the_directory_of_the_records_or_its_parent_is_a_tree() {
        let check = |path: &str, layout: &str, expected: &[&str]| {
            check(&settings("zlm-1", &[]), &config(), &[tree(path, layout)], expected);
        };
        check("/data/zlm/rec/record", "zlmediakit", &[]);
        check("/data/zlm/rec", "zlmediakit", &[]);
        check("/data/zlm/rec", "auto", &[]);
        check("/data/zlm/rec", "plain", &["let it say `layout: zlmediakit`"]);
        check(
            "/data/zlm/record",
            "zlmediakit",
            &[
                "add to `trees`: `- { name: zlm-1-zlmediakit, path: \"/data/zlm/rec/record\", layout: zlmediakit }`; if it sees other paths",
            ],
        );
    }

    #[test]
    fn what_a_container_calls_its_directories_is_mapped() {
        let inside = settings("zlm-1", &[("/data/zlm", "/srv")]);
        check(&inside, &config(), &[tree("/srv/rec", "zlmediakit")], &[]);
        check(
            &inside,
            &config(),
            &[tree("/data/zlm/rec", "zlmediakit")],
            &["path: \"/srv/rec/record\", layout: zlmediakit }`"],
        );
        let relative = ServerConfig { mp4_root: "./www".to_owned(), ..config() };
        check(
            &settings("zlm-1", &[]),
            &relative,
            &[],
            &["`./www` (`protocol.mp4_save_path`), which is relative to the directory of its binary"],
        );
        check(&settings("zlm-1", &[("./www", "/opt/www")]), &relative, &[tree("/opt/www", "zlmediakit")], &[]);
    }

    #[test]
    fn another_id_and_kept_segments_without_a_tree_are_told() {
        let trees = [tree("/data/zlm/rec", "zlmediakit")];
        check(&settings("main", &[]), &config(), &trees, &["bears the id `zlm-1`"]);
        let kept = ServerConfig { keeps_segments: true, ..config() };
        check(&settings("zlm-1", &[]), &kept, &trees, &["path: \"/data/zlm/hls\", layout: hls }`"]);
        check(&settings("zlm-1", &[]), &kept, &[trees[0].clone(), tree("/data/zlm/hls", "hls")], &[]);
        let vhosts = ServerConfig { vhosts: true, ..config() };
        check(&settings("zlm-1", &[]), &vhosts, &trees, &[]);
        check(&settings("zlm-1", &[]), &vhosts, &[tree("/data/zlm/rec/__defaultVhost__", "zlmediakit")], &[]);
    }
}
