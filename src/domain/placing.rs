//! Where the rows of a catalogue belong.
//!
//! A path from outside is never a path here before it has passed: absolute (or, in a manifest, relative to the one tree there is), without
//! `.`, `..`, empty components, NUL or other control characters, mapped by whole components, and below the top of a tree. Bytes that are no
//! UTF-8 pass: names need not be text.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::catalogue::{CatalogueRow, Place, Placing, mapped};
use super::names::TreeId;
use super::path::RelPath;

/// The longest path that the kernel takes, its closing NUL not counted (`PATH_MAX`).
const LONGEST: usize = 4095;

impl Placing {
    /// The media server of a row, if it is another than ours. A row that names none is taken for ours: then its recording is known.
    #[must_use]
    pub fn other_server<'r>(&self, row: &'r CatalogueRow) -> Option<&'r str> {
        let wanted = self.media_server.as_deref()?;
        row.media_server.as_deref().filter(|named| !named.is_empty() && *named != wanted)
    }

    /// Where a row belongs.
    #[must_use]
    pub fn place(&self, row: &CatalogueRow) -> Place {
        if self.other_server(row).is_some() {
            return Place::Foreign;
        }
        row.path.as_deref().map_or(Place::Bad, |path| self.find(path))
    }

    /// Where the media server sees a recording: the way back through `path_map`, by the longest fitting `to` that leads here again. `None` if
    /// the tree is none of these, or there is no such path.
    #[must_use]
    pub fn outside(&self, tree: &TreeId, path: &RelPath) -> Option<PathBuf> {
        let (_, top) = self.trees.iter().find(|(name, _)| name == tree)?;
        let here = top.join(OsStr::from_bytes(path.as_bytes()));
        let mut fits: Vec<_> = self.path_map.iter().filter(|(_, to)| here.starts_with(to)).collect();
        fits.sort_by_key(|(_, to)| std::cmp::Reverse(to.components().count()));
        let ways = fits.into_iter().filter_map(|(from, to)| Some(joined(from, here.strip_prefix(to).ok()?)));
        // A name that the media server would see elsewhere by another line of the map is not its name.
        let back = |way: &PathBuf| match self.find(way.as_os_str().as_bytes()) {
            Place::Tree(found, below) => found == *tree && below == *path,
            Place::Foreign | Place::Bad => false,
        };
        ways.chain([here.clone()]).find(back)
    }

    fn find(&self, path: &[u8]) -> Place {
        if path.is_empty() || path.len() > LONGEST || controls(path) {
            return Place::Bad;
        }
        let Some(below) = path.strip_prefix(b"/") else {
            return self.below_the_only_tree(path);
        };
        if RelPath::new(below).is_err() {
            return Place::Bad;
        }
        let here = mapped(Path::new(OsStr::from_bytes(path)), &self.path_map);
        if here.as_os_str().len() > LONGEST {
            return Place::Bad;
        }
        let fits = self.trees.iter().filter_map(|(tree, top)| Some((tree, top, here.strip_prefix(top).ok()?)));
        let Some((tree, _, below)) = fits.max_by_key(|(_, top, _)| top.components().count()) else {
            return Place::Foreign;
        };
        // The top itself is no recording.
        RelPath::new(below.as_os_str().as_bytes()).map_or(Place::Bad, |below| Place::Tree(tree.clone(), below))
    }

    fn below_the_only_tree(&self, path: &[u8]) -> Place {
        let [(tree, top)] = &self.trees[..] else { return Place::Bad };
        // So does `find . -type f` write them.
        let below = path.strip_prefix(b"./").unwrap_or(path);
        if !self.relative || top.as_os_str().len() + 1 + below.len() > LONGEST {
            return Place::Bad;
        }
        RelPath::new(below).map_or(Place::Bad, |below| Place::Tree(tree.clone(), below))
    }
}

/// `rest` below `from`; without a rest it gets no slash at its end.
fn joined(from: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { from.to_owned() } else { from.join(rest) }
}

/// It holds a control character. In bytes that are no UTF-8 only those of ASCII are told.
fn controls(path: &[u8]) -> bool {
    match std::str::from_utf8(path) {
        Ok(text) => text.chars().any(char::is_control),
        Err(_) => path.iter().any(u8::is_ascii_control),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::catalogue::RowId;
    use super::*;

    fn placing(trees: &[(&str, &str)], map: &[(&str, &str)]) -> Placing {
        Placing {
            trees: trees.iter().map(|(tree, top)| (TreeId::new(tree), PathBuf::from(top))).collect(),
            path_map: map.iter().map(|(from, to)| (PathBuf::from(from), PathBuf::from(to))).collect(),
            media_server: Some("zlm-1".to_owned()),
            relative: false,
        }
    }

    fn row(path: Option<&[u8]>, server: Option<&str>) -> CatalogueRow {
        CatalogueRow {
            id: RowId::Number(1),
            path: path.map(<[u8]>::to_vec),
            media_server: server.map(str::to_owned),
            collect: false,
            start: None,
        }
    }

    fn check(placing: &Placing, path: &[u8], expected: &str) {
        let found = match placing.place(&row(Some(path), Some("zlm-1"))) {
            Place::Tree(tree, below) => format!("{tree}:{below}"),
            Place::Foreign => "foreign".to_owned(),
            Place::Bad => "bad".to_owned(),
        };
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(path));
    }

    /// Faults 4, 5.
    #[test]
    fn a_path_belongs_to_a_tree_only_if_every_component_says_so() {
        let placing = placing(
            &[("live", "/data/record"), ("backup", "/data/record_backup"), ("deep", "/data/record/deep/er")],
            &[("/opt/media/record", "/data/record"), ("/opt/media", "/data"), ("/opt/media/record/far", "/mnt/far")],
        );
        for (path, expected) in [
            (&b"/data/record/live/a.mp4"[..], "live:live/a.mp4"),
            (b"/data/record_backup/live/a.mp4", "backup:live/a.mp4"),
            (b"/data/recordings/a.mp4", "foreign"),
            (b"/data/record/deep/a.mp4", "live:deep/a.mp4"),
            (b"/data/record/deep/er/a.mp4", "deep:a.mp4"),
            (b"/opt/media/record/live/a.mp4", "live:live/a.mp4"),
            (b"/opt/media/record2/a.mp4", "foreign"),
            (b"/opt/media/record_backup/a.mp4", "backup:a.mp4"),
            (b"/opt/media/record/far/a.mp4", "foreign"),
            (b"/opt/mediarecord/a.mp4", "foreign"),
            (b"/etc/passwd", "foreign"),
            (b"/data/record", "bad"),
            (b"/opt/media/record", "bad"),
            (b"/data/record/", "bad"),
            (b"/", "bad"),
            (b"", "bad"),
            (b"a.mp4", "bad"),
            (b"./a.mp4", "bad"),
            (b"data/record/a.mp4", "bad"),
            (b"C:\\record\\a.mp4", "bad"),
            (b"/data/record/../../etc/passwd", "bad"),
            (b"/data/record/a/..", "bad"),
            (b"/data/record//a.mp4", "bad"),
            (b"//data/record/a.mp4", "bad"),
            (b"/data/record/./a.mp4", "bad"),
            (b"/data/record/%2e%2e/a.mp4", "live:%2e%2e/a.mp4"),
            (b"/data/record/..a/b\\..\\c.mp4", "live:..a/b\\..\\c.mp4"),
            (b"/data/record/a\0.mp4", "bad"),
            (b"/data/record/a\n.mp4", "bad"),
            (b"/data/record/a\r.mp4", "bad"),
            (b"/data/record/\x1b[2Ja.mp4", "bad"),
            (b"/data/record/a\x7f.mp4", "bad"),
            ("/data/record/a\u{85}.mp4".as_bytes(), "bad"),
            (b"/data/record/\xff\n.mp4", "bad"),
            (b"/data/record/\xff\xfe.mp4", "live:%FF%FE.mp4"),
            ("/data/record/门/a b.mp4".as_bytes(), "live:门/a b.mp4"),
        ] {
            check(&placing, path, expected);
        }
    }

    #[test]
    fn a_path_that_the_kernel_would_not_take_is_none() {
        let long = |bytes: usize| [b"/data/record/".to_vec(), vec![b'a'; bytes - 13]].concat();
        let direct = placing(&[("live", "/data/record")], &[]);
        check(&direct, &long(4095), &format!("live:{}", "a".repeat(4082)));
        check(&direct, &long(4096), "bad");
        let longer = placing(&[("live", "/a/longer/name")], &[("/data/record", "/a/longer/name")]);
        check(&longer, &long(4095), "bad");
    }

    #[test]
    fn rows_of_other_media_servers_and_rows_without_a_path_are_left_alone() {
        let ours = placing(&[("live", "/data")], &[]);
        let path = Some(&b"/data/a.mp4"[..]);
        assert_eq!(ours.place(&row(path, Some("zlm-2"))), Place::Foreign);
        assert_eq!(ours.place(&row(None, Some("zlm-2"))), Place::Foreign);
        assert_eq!(ours.place(&row(None, Some("zlm-1"))), Place::Bad);
        for server in [None, Some(""), Some("zlm-1")] {
            assert!(matches!(ours.place(&row(path, server)), Place::Tree(..)), "{server:?}");
        }
        let any = Placing { media_server: None, ..ours };
        assert!(matches!(any.place(&row(path, Some("zlm-2"))), Place::Tree(..)));
    }

    #[test]
    fn a_manifests_relative_path_counts_from_the_only_tree() {
        let one = Placing { relative: true, ..placing(&[("live", "/data")], &[("/x", "/data")]) };
        for (path, expected) in [
            (&b"live/a.mp4"[..], "live:live/a.mp4"),
            (b"./live/a.mp4", "live:live/a.mp4"),
            (b"#a.mp4", "live:#a.mp4"),
            (b"/x/a.mp4", "live:a.mp4"),
            (b"././a.mp4", "bad"),
            (b"../a.mp4", "bad"),
            (b"a/", "bad"),
            (b"./", "bad"),
            (b".", "bad"),
        ] {
            check(&one, path, expected);
        }
        let two = Placing { relative: true, ..placing(&[("live", "/data"), ("other", "/other")], &[]) };
        check(&two, b"live/a.mp4", "bad");
        check(&two, b"/other/a.mp4", "other:a.mp4");
    }

    #[test]
    fn the_way_back_is_a_way_that_leads_here() {
        let map = [("/opt/media", "/data"), ("/opt/media/record", "/data/record"), ("/data/record/x", "/elsewhere")];
        let placing = placing(&[("live", "/data/record"), ("far", "/far")], &map);
        let outside = |tree: &str, path: &str| {
            placing
                .outside(&TreeId::new(tree), &RelPath::new(path.as_bytes()).unwrap())
                .map(|p| p.display().to_string())
        };
        assert_eq!(outside("live", "a.mp4").as_deref(), Some("/opt/media/record/a.mp4"));
        assert_eq!(outside("far", "a.mp4").as_deref(), Some("/far/a.mp4"));
        assert_eq!(outside("other", "a.mp4"), None);
        assert_eq!(outside("live", "a\n.mp4"), None, "no catalogue could name it");
        let hidden = Placing { path_map: vec![("/data/record".into(), "/elsewhere".into())], ..placing.clone() };
        assert_eq!(hidden.outside(&TreeId::new("live"), &RelPath::new(b"a.mp4").unwrap()), None);
    }

    proptest! {
        /// What was placed, taken outside and placed again, is at the same place, whatever the map.
        #[test]
        fn what_was_placed_is_found_again_from_outside(
            trees in proptest::collection::btree_map("[ab]{1,2}", "(/[ab]){1,3}", 1..4),
            map in proptest::collection::vec(("(/[ab]){1,3}", "(/[ab]){1,3}"), 0..5),
            path in "(/[ab.]{1,2}){1,5}",
        ) {
            let trees: Vec<_> = trees.iter().map(|(tree, top)| (tree.as_str(), top.as_str())).collect();
            let map: Vec<_> = map.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
            let placing = placing(&trees, &map);
            if let Place::Tree(tree, below) = placing.place(&row(Some(path.as_bytes()), None)) {
                let outside = placing.outside(&tree, &below).expect("there is the way that it came");
                let again = placing.place(&row(Some(outside.as_os_str().as_bytes()), None));
                prop_assert_eq!(again, Place::Tree(tree, below));
            }
        }
    }
}
