//! Where the recordings of a stream lie that a media server's call names: by the server's own root where that is known, else by the layout.

use std::path::{Path, PathBuf};

use super::catalogue::{CatalogueRow, Place, Placing, RowId};
use super::names::TreeId;
use super::path::RelPath;

/// The virtual host of everything where the media server has none, and of what nobody names one for.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// The names of a stream. Each was validated: a component, of the stream perhaps several, and none that is anything but itself.
#[derive(Debug, Clone, Copy)]
pub struct StreamNames<'n> {
    /// The virtual host.
    pub vhost: &'n str,
    /// The app.
    pub app: &'n str,
    /// The stream.
    pub stream: &'n str,
}

/// What is known of the media server and of the trees.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'g> {
    /// The directory below which it records, as it sees it; `None` if it did not say.
    pub root: Option<&'g Path>,
    /// Whether virtual hosts are directories; `None` if it did not say.
    pub vhosts: Option<bool>,
    /// The directory below the root.
    pub record: &'g str,
    /// All trees, and the way to them.
    pub placing: &'g Placing,
    /// Those with the media server's layout.
    pub fitting: &'g [TreeId],
    /// Of these, those that are known to be this media server's.
    pub own: &'g [TreeId],
}

/// The directory of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlace {
    /// The tree.
    pub tree: TreeId,
    /// The directory below it.
    pub dir: RelPath,
    /// The directory as the media server sees it, with a slash at its end.
    pub outside: String,
}

/// The directories in which recordings of a stream can lie. Whether they are there is not asked.
///
/// # Errors
/// A sentence, if no tree holds the stream, or that cannot be told.
pub fn stream_places(names: StreamNames<'_>, grounds: &Grounds<'_>) -> Result<Vec<StreamPlace>, String> {
    let vhosts: &[bool] = match grounds.vhosts {
        Some(true) => &[true],
        Some(false) => &[false],
        None if names.vhost == DEFAULT_VHOST => &[false, true],
        None => {
            return Err(format!(
                "whether the media server has virtual hosts is not known yet, so that `vhost` {} may be a directory or not; try again once it answers",
                names.vhost
            ));
        }
    };
    match grounds.root {
        Some(root) => below_root(names, grounds, root, vhosts),
        None => by_layout(names, grounds, vhosts),
    }
}

/// Where the media server itself would look.
fn below_root(
    names: StreamNames<'_>,
    grounds: &Grounds<'_>,
    root: &Path,
    vhosts: &[bool],
) -> Result<Vec<StreamPlace>, String> {
    let mut out = Vec::new();
    let mut missed = Vec::new();
    for with_vhost in vhosts {
        let below = [if *with_vhost { names.vhost } else { "" }, grounds.record, names.app, names.stream].join("/");
        let outside = root.join(below.trim_start_matches('/'));
        match grounds.placing.place(&row(&outside)) {
            Place::Tree(tree, dir) if grounds.fitting.contains(&tree) => {
                out.push(StreamPlace { tree, dir, outside: format!("{}/", outside.display()) });
            }
            Place::Tree(..) | Place::Foreign | Place::Bad => missed.push(outside.display().to_string()),
        }
    }
    if !out.is_empty() {
        return Ok(out);
    }
    Err(format!(
        "`{}` lies in no tree with layout zlmediakit, by the `path_map` of the media server; nothing was deleted, and nothing was passed on",
        missed.join("` or `")
    ))
}

/// Where the layout allows it, in the trees of the media server.
fn by_layout(names: StreamNames<'_>, grounds: &Grounds<'_>, vhosts: &[bool]) -> Result<Vec<StreamPlace>, String> {
    let (app, stream, record) = (names.app, names.stream, grounds.record);
    let mut out = Vec::new();
    for (tree, top) in grounds.placing.trees.iter().filter(|(tree, _)| grounds.own.contains(tree)) {
        let mut dirs = Vec::new();
        let above = |name: &str| top.ends_with(name);
        if vhosts.contains(&false) || above(&format!("{}/{record}", names.vhost)) {
            dirs.push(format!("{app}/{stream}"));
        }
        if vhosts.contains(&false) || above(names.vhost) {
            dirs.push(format!("{record}/{app}/{stream}"));
        }
        if vhosts.contains(&true) {
            dirs.push(format!("{}/{record}/{app}/{stream}", names.vhost));
        }
        for dir in dirs {
            let Ok(dir) = RelPath::new(dir.as_bytes()) else { continue };
            let outside = grounds.placing.outside(tree, &dir).unwrap_or_else(|| top.join(dir.to_string()));
            out.push(StreamPlace { tree: tree.clone(), dir, outside: format!("{}/", outside.display()) });
        }
    }
    if !out.is_empty() {
        return Ok(out);
    }
    Err("no tree with layout zlmediakit is known to be this media server's: name it in the `media_server` of the tree's catalogue, or as the \
         end of a line of its `path_map`; nothing was deleted, and nothing was passed on"
        .to_owned())
}

/// A row of a catalogue that names a path: they are placed alike.
fn row(path: &Path) -> CatalogueRow {
    CatalogueRow {
        id: RowId::Number(0),
        path: Some(path.as_os_str().as_encoded_bytes().to_vec()),
        media_server: None,
        collect: false,
        start: None,
    }
}

/// Which of these trees are known to be a media server's: those that a line of its `path_map` leads into, or that `claimed` names; all, if
/// it is the only media server and none is.
#[must_use]
pub fn own_trees(
    trees: &[(TreeId, PathBuf)],
    path_map: &[(PathBuf, PathBuf)],
    claimed: &dyn Fn(&TreeId) -> bool,
    only: bool,
) -> Vec<TreeId> {
    let leads = |top: &Path| path_map.iter().any(|(_, to)| top.starts_with(to) || to.starts_with(top));
    let own: Vec<TreeId> =
        trees.iter().filter(|(tree, top)| claimed(tree) || leads(top)).map(|(tree, _)| tree.clone()).collect();
    if own.is_empty() && only { trees.iter().map(|(tree, _)| tree.clone()).collect() } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREES: [(&str, &str); 4] =
        [("rec", "/data/rec"), ("record", "/mnt/record"), ("vhost", "/v/a.b"), ("hls", "/data/hls")];

    fn places(names: [&str; 3], root: Option<&str>, vhosts: Option<bool>) -> Result<Vec<String>, String> {
        let placing = Placing {
            trees: TREES.iter().map(|(tree, top)| (TreeId::new(tree), PathBuf::from(top))).collect(),
            path_map: vec![
                ("/opt/zlm/rec".into(), "/data/rec".into()),
                ("/opt/zlm/rec/record".into(), "/mnt/record".into()),
            ],
            media_server: None,
            relative: false,
        };
        let fitting = ["rec", "record", "vhost"].map(TreeId::new);
        let own = [TreeId::new("rec"), TreeId::new("vhost")];
        let grounds = Grounds {
            root: root.map(Path::new),
            vhosts,
            record: "record",
            placing: &placing,
            fitting: &fitting,
            own: &own,
        };
        let [vhost, app, stream] = names;
        let found = stream_places(StreamNames { vhost, app, stream }, &grounds)?;
        Ok(found.iter().map(|place| format!("{}:{} = {}", place.tree, place.dir, place.outside)).collect())
    }

    const CAM: [&str; 3] = [DEFAULT_VHOST, "live", "cam"];

    #[test]
    fn a_root_that_is_known_leads_to_one_directory() {
        let check = |root: &str, vhosts, expected: &[&str]| {
            assert_eq!(places(CAM, Some(root), vhosts).unwrap_or_default(), expected, "{root} {vhosts:?}");
        };
        check("/opt/zlm/rec", Some(false), &["record:live/cam = /opt/zlm/rec/record/live/cam/"]);
        check(
            "/opt/zlm/rec",
            Some(true),
            &["rec:__defaultVhost__/record/live/cam = /opt/zlm/rec/__defaultVhost__/record/live/cam/"],
        );
        check("/data/rec", Some(false), &["rec:record/live/cam = /data/rec/record/live/cam/"]);
        check(
            "/data/rec",
            None,
            &[
                "rec:record/live/cam = /data/rec/record/live/cam/",
                "rec:__defaultVhost__/record/live/cam = /data/rec/__defaultVhost__/record/live/cam/",
            ],
        );
        check("/data", Some(false), &[]);
        check("/data/hls", Some(false), &[]);
        check("/data/recordings", Some(false), &[]);
        check("/", Some(false), &[]);
        let why = places(CAM, Some("/etc"), Some(false)).unwrap_err();
        assert!(why.contains("`/etc/record/live/cam` lies in no tree"), "{why}");
    }

    #[test]
    fn without_a_root_the_layout_tells_in_the_servers_own_trees() {
        let cam = |vhosts| places(CAM, None, vhosts).unwrap();
        assert_eq!(
            cam(Some(false)),
            [
                "rec:live/cam = /opt/zlm/rec/live/cam/",
                "rec:record/live/cam = /data/rec/record/live/cam/",
                "vhost:live/cam = /v/a.b/live/cam/",
                "vhost:record/live/cam = /v/a.b/record/live/cam/",
            ]
        );
        assert_eq!(
            cam(Some(true)),
            [
                "rec:__defaultVhost__/record/live/cam = /opt/zlm/rec/__defaultVhost__/record/live/cam/",
                "vhost:__defaultVhost__/record/live/cam = /v/a.b/__defaultVhost__/record/live/cam/",
            ]
        );
        assert_eq!(cam(None).len(), 6);
        let named = places(["a.b", "live", "cam/1"], None, Some(true)).unwrap();
        assert!(named.contains(&"vhost:record/live/cam/1 = /v/a.b/record/live/cam/1/".to_owned()), "{named:?}");
        let why = places(["a.b", "live", "cam"], None, None).unwrap_err();
        assert!(why.contains("not known yet"), "{why}");
    }

    #[test]
    fn a_tree_is_a_media_servers_by_its_map_its_catalogue_or_as_the_only_one() {
        let trees: Vec<(TreeId, PathBuf)> =
            TREES.iter().map(|(tree, top)| (TreeId::new(tree), PathBuf::from(top))).collect();
        let check = |map: &[(&str, &str)], claimed: &str, only: bool, expected: &[&str]| {
            let map: Vec<_> = map.iter().map(|(from, to)| (PathBuf::from(from), PathBuf::from(to))).collect();
            let own = own_trees(&trees, &map, &|tree| tree.as_str() == claimed, only);
            assert_eq!(own.iter().map(TreeId::as_str).collect::<Vec<_>>(), expected, "{map:?} {claimed}");
        };
        check(&[("/opt", "/data")], "", true, &["rec", "hls"]);
        check(&[("/opt", "/mnt/record/live")], "", true, &["record"]);
        check(&[("/opt", "/mnt/rec")], "", false, &[]);
        check(&[], "vhost", true, &["vhost"]);
        check(&[], "", true, &["rec", "record", "vhost", "hls"]);
        check(&[], "", false, &[]);
    }
}
