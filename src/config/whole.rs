//! The configuration as a whole, and how its file is read.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::node::{File, Map, Node};
use super::others::{self, Listening};
use super::places::normal;
use super::problem::Problem;
use super::trees::{self, Surroundings, Tops};
use super::values::{self, WINDOW};
use super::yaml::{self, Yaml};
use super::{archives, auth, catalogues, marks, media_servers, notify};
use crate::domain::archive::ArchiveSettings;
use crate::domain::media::MediaServerSettings;
use crate::domain::names::TreeId;
use crate::domain::retention::Mode;
use crate::domain::settings::{
    AuthSettings, CatalogueSettings, Cleanup, Listeners, NotifySettings, TreeSettings, VolumeSettings,
};
use crate::domain::units::show_duration;
use crate::domain::volume::Marks;

/// A configuration is written by a person; more than this is something else.
const MOST: u64 = 1024 * 1024;
/// Where the state is, if the file does not say.
const STATE: &str = "/var/lib/storage-guard";
/// The main listener, if nobody says.
const LISTEN: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10_190);

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whether trees are changed, unless they say otherwise.
    pub mode: Mode,
    /// Where the servers listen.
    pub listeners: Listeners,
    /// The state directory.
    pub state: PathBuf,
    /// Between two readings of a volume.
    pub probe_interval: Duration,
    /// Between two scans of a tree.
    pub scan_interval: Duration,
    /// The marks of every volume that has none of its own.
    pub marks: Marks,
    /// Volumes that are named or have marks of their own.
    pub volumes: Vec<VolumeSettings>,
    /// The trees.
    pub trees: Vec<TreeSettings>,
    /// The catalogues.
    pub catalogues: Vec<CatalogueSettings>,
    /// The archives. Those in a directory are among the trees too.
    pub archives: Vec<ArchiveSettings>,
    /// The media servers.
    pub media_servers: Vec<MediaServerSettings>,
    /// Trees that say `mode: observe` themselves: `--enforce` leaves them be.
    pub observed: Vec<TreeId>,
    /// How runs are carried out.
    pub cleanup: Cleanup,
    /// How alerts are delivered.
    pub notify: NotifySettings,
    /// Who may use the API.
    pub auth: AuthSettings,
    /// A sentence for each thing that is configured and has no effect in this version.
    pub dormant: Vec<String>,
    /// The file it was read from.
    pub file: Option<PathBuf>,
}

impl Config {
    /// What holds if nothing is said.
    #[must_use]
    pub(super) fn bare(state: PathBuf) -> Self {
        Self {
            mode: Mode::Observe,
            listeners: Listeners { main: LISTEN, metrics: None },
            state,
            probe_interval: Duration::from_secs(10),
            scan_interval: Duration::from_secs(300),
            marks: Marks::default(),
            volumes: Vec::new(),
            trees: Vec::new(),
            catalogues: Vec::new(),
            archives: Vec::new(),
            media_servers: Vec::new(),
            observed: Vec::new(),
            cleanup: Cleanup::default(),
            notify: NotifySettings::default(),
            auth: AuthSettings::default(),
            dormant: Vec::new(),
            file: None,
        }
    }
}

/// Reads and checks a configuration file. `environment` tells what `${NAME}` stands for.
///
/// # Errors
/// Every problem with it, in the order of the file.
pub fn load(file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    let whole = |message: String| vec![Problem::of_file(file.to_owned(), message)];
    let failed = |error: std::io::Error| whole(format!("cannot be read: {error}"));
    let handle = std::fs::File::open(file).map_err(failed)?;
    let metadata = handle.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    handle.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(whole("is larger than 1 MiB, which is no configuration".to_owned()));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| whole(format!("is not UTF-8 text, from byte {} on", error.utf8_error().valid_up_to())))?;
    let exposed = metadata.is_file() && metadata.mode() & 0o077 != 0;
    parse(&text, file, exposed, environment)
}

/// Checks the text of a configuration file.
pub(super) fn parse(
    text: &str,
    path: &Path,
    exposed: bool,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Problem>> {
    let broken = |broken: yaml::Broken| {
        let (line, column) = broken.at.unwrap_or((0, 0));
        vec![Problem { line, column, ..Problem::of_file(path.to_owned(), broken.message) }]
    };
    let yaml = yaml::parse(text).map_err(broken)?;
    if yaml == Yaml::Null {
        let message = "says nothing; name at least one directory of recordings under `trees`";
        return Err(vec![Problem::of_file(path.to_owned(), message.to_owned())]);
    }
    let file = File::new(path, exposed, environment);
    let mut config = Config::bare(STATE.into());
    if let Some(map) = file.top(&yaml).map() {
        read(map, &mut config);
    }
    let (dormant, problems) = file.finish(text);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Config { dormant, file: Some(path.to_owned()), ..config })
}

fn read(mut top: Map<'_>, config: &mut Config) {
    config.mode = top.take("mode").and_then(|node| node.word(&trees::MODES)).unwrap_or(config.mode);
    let mut listening = Listening::default();
    let main = top.take("listen").and_then(|node| listening.claim(&node));
    config.listeners.main = main.unwrap_or(config.listeners.main);
    config.listeners.metrics = top.take("metrics_listen").and_then(|node| listening.claim(&node));
    let state = top.take("state").and_then(|node| node.map()).and_then(|mut map| {
        let path = map.need("path", "name the directory for the guard's own state");
        map.done();
        let node = path?;
        let path = normal(&node.absolute()?);
        Some((node, path))
    });
    config.probe_interval = top.span("probe_interval", config.probe_interval);
    config.scan_interval = top.span("scan_interval", config.scan_interval);
    if let Some(node) = top.take("watermarks") {
        config.marks = marks::read(&node, &config.marks);
    }
    if let Some(node) = top.take("volumes") {
        config.volumes = trees::volumes(&node, &config.marks);
    }
    if let Some(node) = top.take("cleanup") {
        config.cleanup = cleanup(&node);
    }
    let media_servers = media_servers::read(&mut top, &mut listening);
    let catalogues = catalogues::read(&mut top, &media_servers.names);
    config.media_servers = media_servers.all;
    let mut tops = Tops::default();
    let archives = archives::read(&mut top, &mut tops, &config.marks);
    if let Some(node) = top.need("trees", "name at least one directory of recordings") {
        let max_share = config.cleanup.max_share;
        let around = Surroundings { mode: config.mode, max_share, catalogues: &catalogues, archives: &archives };
        let found = trees::read(&node, &around, &mut tops);
        (config.trees, config.observed) = (found.trees, found.observed);
        let cold = |archive| archives::tree_of(archive, &config.trees, max_share);
        let cold: Vec<_> = archives.all.iter().filter_map(cold).collect();
        config.trees.extend(cold);
    }
    config.archives = archives.all;
    config.catalogues = catalogues.all;
    match state {
        Some((node, path)) => {
            tops.spare_state(&node, &path);
            config.state = path;
        }
        None => tops.spare_state(&top.at("state"), &config.state),
    }
    if let Some(node) = top.take("notify") {
        config.notify = notify::read(&node);
    }
    if let Some(node) = top.take("auth") {
        config.auth = auth::read(&node);
    }
    if let Some(node) = top.take("tls") {
        others::tls(&node);
    }
    if let Some(node) = top.take("fleet") {
        others::fleet(&node);
    }
    top.done();
}

fn cleanup(node: &Node<'_>) -> Cleanup {
    let mut out = Cleanup::default();
    let Some(mut map) = node.map() else { return out };
    out.batch_files = map.take("batch_files").and_then(|node| node.number(1)).unwrap_or(out.batch_files);
    out.batch_bytes = map.amount("batch_bytes").unwrap_or(out.batch_bytes);
    out.pause = map.duration("pause", out.pause);
    out.max_share = map.take("max_share").and_then(|node| node.percent()).unwrap_or(out.max_share);
    let most = map.take("max_files_per_second").and_then(|node| node.number(0));
    out.max_files_per_second = most.unwrap_or(out.max_files_per_second);
    out.window = map.take("window").and_then(|node| node.read(WINDOW, values::window));
    if let Some(mut retry) = map.take("retry").and_then(|node| node.map()) {
        let first = retry.span("first", out.retry.first);
        let max = longer(&mut retry, "max", out.retry.max, "first", first);
        let after_a_day = longer(&mut retry, "after_a_day", out.retry.after_a_day, "max", max);
        retry.done();
        out.retry.first = first;
        out.retry.max = max;
        out.retry.after_a_day = after_a_day;
    }
    map.done();
    out
}

/// A duration that must not be shorter than another.
pub(super) fn longer(map: &mut Map<'_>, key: &'static str, default: Duration, than: &str, least: Duration) -> Duration {
    let Some(node) = map.take(key) else { return default.max(least) };
    let Some(span) = node.duration() else { return default.max(least) };
    if span < least {
        node.problem(format!(
            "is {}, but must not be shorter than `{than}`, {}",
            show_duration(span),
            show_duration(least)
        ));
    }
    span
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTRACT: &str = include_str!("../../tests/data/config/good/contract.yaml");

    /// What a document is made of.
    const PARTS: &[&str] = &[
        "trees",
        "name",
        "path",
        "watermarks",
        "high",
        "low",
        "notify",
        "channels",
        "kind",
        "email",
        "webhook",
        "url",
        "retention",
        ": ",
        "\n",
        "\n  ",
        "\n  - ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "90%",
        "50GiB free",
        "7d",
        "0",
        "/data",
        "${A}",
        "${B}",
        "\"",
        "'",
        "&a ",
        "*a",
        "!x ",
        "|\n",
        "~",
        "#",
        "<<",
        "? ",
    ];

    fn read(text: &str) -> Result<Config, Vec<Problem>> {
        parse(text, Path::new("/nowhere/guard.yaml"), true, &|name| (name == "A").then(|| "a".to_owned()))
    }

    /// Whatever the text: it is a configuration, or there is a problem, and each problem prints on one line.
    fn check(text: &str) {
        if let Err(problems) = read(text) {
            assert!(!problems.is_empty());
            for problem in problems {
                let shown = problem.to_string();
                assert!(shown.starts_with("/nowhere/guard.yaml:") && !shown.contains('\n'), "{shown:?}");
            }
        }
    }

    #[test]
    fn hostile_documents_are_refused_in_peace() {
        check("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n");
        check(&"[".repeat(10_000));
        check(&format!("{}1", "- ".repeat(500)));
        check("&a [*a]");
        check("trees: [{name: 99999999999999999999999999999999999999999, path: .nan}]");
        check("? [a, b]\n: c\n? {x: y}\n: z\n");
        check("\u{feff}trees: []\n");
        check("\0");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            check(&text);
        }

        #[test]
        fn anything_like_yaml_is_read_or_refused(parts in proptest::collection::vec(
            proptest::sample::select(PARTS),
            0..60,
        )) {
            check(&parts.concat());
        }

        #[test]
        fn a_configuration_with_anything_in_it_is_read_or_refused(
            at in 0..CONTRACT.len(),
            cut in 0..40_usize,
            put in "\\PC{0,6}",
        ) {
            let from = (0..=at).rev().find(|at| CONTRACT.is_char_boundary(*at)).unwrap_or(0);
            let to = (from + cut..=CONTRACT.len()).find(|at| CONTRACT.is_char_boundary(*at)).unwrap_or(CONTRACT.len());
            check(&format!("{}{put}{}", &CONTRACT[..from], &CONTRACT[to..]));
        }
    }
}
