//! What is said on the command line: instead of a file, or beside it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::places::{normal, of_the_system, overlap};
use super::problem::{Problem, ProblemKind};
use super::trees::{EXTENSIONS, MIN_AGE, NAME_LAYOUT, auto_enforces};
use super::whole::Config;
use crate::domain::layout::Layout;
use crate::domain::names::TreeId;
use crate::domain::orphan::{LeftoverPolicy, OrphanPolicy};
use crate::domain::path::show_bytes;
use crate::domain::retention::{Mode, TreePolicy, WhenOpen};
use crate::domain::settings::TreeSettings;

/// The flags that decide about settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--tree`: directories of recordings.
    pub trees: Vec<PathBuf>,
    /// `--layout`: how their files are named; `auto` if not said.
    pub layout: Option<String>,
    /// `--listen`: where the main listener is.
    pub listen: Option<SocketAddr>,
    /// `--state`: the state directory.
    pub state: Option<PathBuf>,
    /// `--enforce`: trees are changed.
    pub enforce: bool,
}

/// Settings for the trees that `flags` name; everything else is default, and the state is in `storage-guard-state` if
/// they do not say where. A relative path counts from `here`.
///
/// # Errors
/// Every problem, each with the flag that it is about.
pub fn for_trees(flags: &Flags, here: &Path) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    if flags.trees.is_empty() {
        problems.push(Problem::of_flag("--tree", "name at least one directory of recordings".to_owned()));
    }
    let extensions = EXTENSIONS.map(str::to_owned);
    let layout = Layout::parse(flags.layout.as_deref().unwrap_or("auto"), &extensions, TimeZone::system())
        .map_err(|problem| problems.push(Problem::of_flag("--layout", problem)));
    let mut tops: Vec<PathBuf> = Vec::new();
    for path in &flags.trees {
        let path = normal(&here.join(path));
        let shown = show(&path);
        if of_the_system(&path) {
            let message =
                format!("`{shown}` is a directory of the system; name the directory that holds nothing but recordings");
            problems.push(Problem::of_flag("--tree", message));
        }
        for other in tops.iter().filter(|other| overlap(&path, other)) {
            let message = format!("`{}` and `{shown}` overlap; name one of them", show(other));
            problems.push(Problem::of_flag("--tree", message));
        }
        tops.push(path);
    }
    let state = flags.state.as_deref().unwrap_or(Path::new("storage-guard-state"));
    let mut config = Config::bare(normal(&here.join(state)));
    problems.extend(tops.iter().filter_map(|top| state_within(top, &config.state)));
    let Some(layout) = layout.ok().filter(|_| problems.is_empty()) else { return Err(problems) };
    let mut names = HashSet::new();
    config.trees =
        tops.into_iter().map(|path| settings(unique(&path, &mut names), path, layout.clone(), &config)).collect();
    apply_flags(&mut config, &Flags { state: None, ..flags.clone() })?;
    Ok(config)
}

/// Puts what `--enforce`, `--listen` and `--state` say over a configuration. Trees that say `mode: observe` themselves
/// keep it. A relative state directory counts from the current one.
///
/// # Errors
/// Every problem that the flags make; the configuration is then of no use.
pub fn apply_flags(config: &mut Config, flags: &Flags) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    if let Some(listen) = flags.listen {
        config.listeners.main = listen;
    }
    if config.listeners.metrics == Some(config.listeners.main) && config.listeners.main.port() != 0 {
        let message =
            format!("`{}` is `metrics_listen` already; give each listener a port of its own", config.listeners.main);
        problems.push(Problem::of_flag("--listen", message));
    }
    if let Some(state) = &flags.state {
        match std::path::absolute(state) {
            Ok(state) => config.state = normal(&state),
            Err(error) => problems.push(Problem::of_flag("--state", format!("`{}` is no path: {error}", show(state)))),
        }
        problems.extend(config.trees.iter().filter_map(|tree| state_within(&tree.path, &config.state)));
    }
    if flags.enforce {
        config.mode = Mode::Enforce;
        for tree in config.trees.iter_mut().filter(|tree| !config.observed.contains(&tree.name)) {
            tree.policy.mode = Mode::Enforce;
        }
        for tree in config.trees.iter().filter(|tree| auto_enforces(tree)) {
            let message = format!("tree `{}` has layout `auto`, which only observes; {NAME_LAYOUT}", tree.name);
            let kind = ProblemKind::AutoEnforces { tree: Box::new(tree.clone()) };
            problems.push(Problem { kind, ..Problem::of_flag("--enforce", message) });
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn state_within(top: &Path, state: &Path) -> Option<Problem> {
    let message = || {
        let (state, top) = (show(state), show(top));
        format!("`{state}` lies in the tree `{top}`; keep the state outside of the recordings, with `--state DIR`")
    };
    state.starts_with(top).then(|| Problem::of_flag("--state", message()))
}

fn settings(name: TreeId, path: PathBuf, layout: Layout, config: &Config) -> TreeSettings {
    let policy = TreePolicy {
        tree: name.clone(),
        mode: Mode::Observe,
        layout,
        min_age: MIN_AGE,
        when_open: WhenOpen::Wait,
        protect: Vec::new(),
        retention: Vec::new(),
        budget: None,
        max_share: config.cleanup.max_share,
        catalogues: Vec::new(),
        orphans: OrphanPolicy::default(),
        leftovers: LeftoverPolicy::default(),
        archive: None,
    };
    TreeSettings { name, path, policy }
}

fn show(path: &Path) -> String {
    show_bytes(path.as_os_str().as_encoded_bytes()).0
}

fn unique(path: &Path, taken: &mut HashSet<String>) -> TreeId {
    let base = path.file_name().map_or_else(|| "tree".to_owned(), |name| show_bytes(name.as_encoded_bytes()).0);
    let mut name = base.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    TreeId::new(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(paths: &[&str]) -> Flags {
        Flags { trees: paths.iter().map(PathBuf::from).collect(), ..Flags::default() }
    }

    fn check(flags: &Flags, expected: Result<&[&str], &[&str]>) {
        match (for_trees(flags, Path::new("/here")), expected) {
            (Ok(config), Ok(names)) => {
                assert_eq!(config.trees.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), names);
            }
            (Err(problems), Err(parts)) => {
                assert_eq!(problems.len(), parts.len(), "{problems:?}");
                for (problem, part) in problems.iter().zip(parts) {
                    assert!(problem.to_string().contains(part), "{problem}");
                }
            }
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn names_trees_by_their_directories() {
        check(&flags(&["/data/record", "/data2/record"]), Ok(&["record", "record-2"]));
        check(&flags(&["record", "./other"]), Ok(&["record", "other"]));
        check(&flags(&["/data/record", "/data/record_backup"]), Ok(&["record", "record_backup"]));
    }

    #[test]
    fn refuses_what_cannot_be_a_tree_and_says_all_of_it() {
        check(
            &flags(&["/"]),
            Err(&["`/` is a directory of the system", "--state: `/here/storage-guard-state` lies in"]),
        );
        check(&flags(&["/data/../etc", "/home"]), Err(&["--tree: `/etc`", "`/home`"]));
        check(&flags(&["/data", "/data/record"]), Err(&["overlap"]));
        check(&flags(&[]), Err(&["--tree: name at least one"]));
        check(&flags(&["."]), Err(&["--state: `/here/storage-guard-state` lies in the tree `/here`"]));
        check(&Flags { layout: Some("nonsense".into()), ..flags(&["/data"]) }, Err(&["--layout: `nonsense`"]));
    }

    #[test]
    fn the_rest_is_default_or_as_the_flags_say() {
        let config = for_trees(&flags(&["/data"]), Path::new("/here")).unwrap();
        assert_eq!((config.mode, config.state), (Mode::Observe, PathBuf::from("/here/storage-guard-state")));
        assert_eq!(config.listeners.main.to_string(), "127.0.0.1:10190");
        let said = Flags {
            state: Some("s".into()),
            listen: Some("[::1]:1".parse().unwrap()),
            layout: Some("dated".into()),
            enforce: true,
            ..flags(&["/data"])
        };
        let config = for_trees(&said, Path::new("/here")).unwrap();
        assert_eq!((config.mode, config.state), (Mode::Enforce, PathBuf::from("/here/s")));
        assert_eq!((config.trees[0].policy.mode, config.listeners.main.port()), (Mode::Enforce, 1));
    }

    #[test]
    fn auto_is_not_enforced() {
        let problems = for_trees(&Flags { enforce: true, ..flags(&["/data/a"]) }, Path::new("/here")).unwrap_err();
        assert!(problems[0].to_string().starts_with("--enforce: tree `a` has layout `auto`"), "{}", problems[0]);
        assert!(matches!(&problems[0].kind, ProblemKind::AutoEnforces { tree } if tree.path == Path::new("/data/a")));
    }
}
