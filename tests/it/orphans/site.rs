//! A site: a volume with recordings in ZLMediaKit's layout, the table of the platform that knows them, and a guard between both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::Value;
use storage_guard::testkit::mp4::Film;

use crate::hygiene::{UNCATALOGUED, catalogue, metric};
use crate::support::{Daemon, May, Mounted, PASSWORD, Server, Wvp, guard, wait_for};

/// What the media server tells the platform of a recording, as it was captured.
const HOOK: &str = include_str!("../../data/zlmediakit/hook_on_record_mp4.json");
/// Where the platform thinks that recordings are.
pub(super) const OUTSIDE: &str = "/opt/media/record";
/// Where the cameras are: their day is not ours.
const ZONE: &str = "Asia/Shanghai";
/// The database of the platform.
pub(super) const DATABASE: &str = "wvp";
/// The age of the newest recording.
const AGE: Duration = Duration::from_secs(30 * 86_400);

/// A recording.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    /// Below the tree.
    pub(super) path: String,
    /// What the platform was told of it.
    pub(super) told: Value,
}

pub(super) struct Site<'a> {
    pub(super) server: &'a dyn Server,
    pub(super) volume: Mounted,
    home: tempfile::TempDir,
    pub(super) clips: Vec<Clip>,
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Text as SQL has it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The values of a row as WVP makes it of what it was told, in the order of [`Wvp::columns`].
fn row(told: &Value) -> Vec<String> {
    let text = |name: &str| quoted(told[name].as_str().unwrap());
    let (start, length) = (told["start_time"].as_i64().unwrap(), told["time_len"].as_f64().unwrap());
    let seconds = i64::try_from(Duration::from_secs_f64(length).as_secs()).unwrap();
    let values = Wvp::New.columns().into_iter().map(|column| match column {
        "app" | "stream" | "file_name" | "folder" | "file_path" => text(column),
        "media_server_id" => text("mediaServerId"),
        "call_id" => quoted(&format!("call of {}", told["stream"].as_str().unwrap())),
        "server_id" => quoted("wvp-1"),
        "collect" => "false".to_owned(),
        "start_time" => (start * 1000).to_string(),
        "end_time" => ((start + seconds) * 1000).to_string(),
        "file_size" => told["file_size"].to_string(),
        "time_len" => format!("{:.0}", length * 1000.0),
        _ => panic!("{column}"),
    });
    values.collect()
}

impl<'a> Site<'a> {
    /// As many recordings, of so many streams in turn, each some minutes after the last of its stream; and all their rows.
    pub(super) fn new(server: &'a dyn Server, megabytes: u64, count: usize, streams: usize) -> Self {
        let volume = Mounted::new(megabytes, "mkfs.ext4", &["-q", "-N", "40000"]);
        let mut site = Self { server, volume, home: tempfile::tempdir().unwrap(), clips: Vec::new() };
        server.create(DATABASE, Wvp::New);
        server.user(DATABASE, "reader", May::Read);
        server.user(DATABASE, "writer", May::Write);
        site.record(count, streams, AGE);
        site
    }

    /// Makes recordings and their rows, the newest of this age; gives which they are.
    pub(super) fn record(&mut self, count: usize, streams: usize, age: Duration) -> std::ops::Range<usize> {
        let before = self.clips.len();
        let zone = TimeZone::get(ZONE).unwrap();
        let newest = jiff::Timestamp::try_from(crate::support::now() - age).unwrap();
        let hook: Value = serde_json::from_str(HOOK).unwrap();
        for number in 0..count {
            let stream = format!("cam-{}", number % streams);
            let slices = i64::try_from((count - number) / streams).unwrap();
            let start = newest.as_second() - slices * 400;
            let length = Duration::from_millis(60_000 + u64::try_from(number % 977).unwrap());
            let content = Film { data: 100 + number % 997, ..Film::new(length) }.plain();
            let at = jiff::Timestamp::from_second(start).unwrap().to_zoned(zone.clone());
            let name = format!("{}-0.mp4", at.strftime("%Y-%m-%d-%H-%M-%S"));
            let path = format!("rtp/{stream}/{}/{name}", at.strftime("%Y-%m-%d"));
            let file = self.tree().join(&path);
            write(&file, &content);
            let ended = std::time::UNIX_EPOCH + Duration::from_secs(start.unsigned_abs()) + length;
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(ended).unwrap();
            let mut told = hook.clone();
            told["app"] = "rtp".into();
            told["stream"] = stream.clone().into();
            told["file_name"] = name.into();
            told["folder"] = format!("{OUTSIDE}/rtp/{stream}/").into();
            told["file_path"] = format!("{OUTSIDE}/{path}").into();
            told["file_size"] = content.len().into();
            told["start_time"] = start.into();
            told["time_len"] = length.as_secs_f64().into();
            self.clips.push(Clip { path, told });
        }
        let made = before..self.clips.len();
        self.insert(made.clone());
        made
    }

    /// The platform's rows of these recordings.
    pub(super) fn insert(&self, which: std::ops::Range<usize>) {
        let columns = Wvp::New.columns().join(",");
        for clips in self.clips[which].chunks(4_000) {
            let rows: Vec<String> = clips.iter().map(|clip| format!("({})", row(&clip.told).join(","))).collect();
            self.server.sql(DATABASE, &format!("insert into wvp_cloud_record ({columns}) values {};", rows.join(",")));
        }
    }

    /// Drops the rows of these recordings.
    pub(super) fn drop_rows(&self, which: std::ops::Range<usize>) {
        for clips in self.clips[which].chunks(4_000) {
            let paths: Vec<String> =
                clips.iter().map(|clip| quoted(clip.told["file_path"].as_str().unwrap())).collect();
            self.server
                .sql(DATABASE, &format!("delete from wvp_cloud_record where file_path in ({});", paths.join(",")));
        }
    }

    /// Everything but `id` of the rows of these paths, in the order of the paths.
    pub(super) fn rows(&self, paths: &[String]) -> Vec<String> {
        let names: Vec<String> = paths.iter().map(|path| quoted(&format!("{OUTSIDE}/{path}"))).collect();
        let columns = Wvp::New.columns().join(",");
        let statement = format!(
            "select {columns} from wvp_cloud_record where file_path in ({}) order by file_path;",
            names.join(",")
        );
        self.server.sql(DATABASE, &statement).lines().map(str::to_owned).collect()
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> usize {
        self.server.sql(DATABASE, "select count(*) from wvp_cloud_record;").trim().parse().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "it stands for the media server, which deletes")]
    pub(super) fn remove_files(&self, which: std::ops::Range<usize>) {
        for clip in &self.clips[which] {
            std::fs::remove_file(self.tree().join(&clip.path)).unwrap();
        }
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.volume.path().join("record")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.tree().join(path).symlink_metadata().is_ok()
    }

    /// The recordings that are there, by path.
    pub(super) fn on_disk(&self) -> BTreeSet<String> {
        let there = self.clips.iter().filter(|clip| self.exists(&clip.path));
        there.map(|clip| clip.path.clone()).collect()
    }

    /// Writes the configuration: of the tree, of the catalogue, and at the top.
    pub(super) fn config(&self, user: &str, tree: &str, catalogue: &str, top: &str) -> PathBuf {
        let path = self.home.path().join("guard.yaml");
        let url = self.server.url(DATABASE);
        let text = format!(
            "mode: enforce\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\n{top}\
             cleanup: {{ pause: 0, max_share: 100%, retry: {{ first: 1s, max: 1s }} }}\n\
             trees:\n  - name: live\n    path: {}\n    layout: zlmediakit\n    timezone: {ZONE}\n    catalogue: wvp\n{tree}\
             catalogues:\n  - name: wvp\n    kind: wvp\n    url: {url}\n    username: {user}\n    password_file: {}\n    \
             media_server: zlm-1\n    path_map: {{ {OUTSIDE}: {} }}\n{catalogue}\
             media_servers:\n  - {{ name: zlm-1, kind: zlmediakit, api: \"http://127.0.0.1:1\" }}\n",
            self.state().display(),
            self.tree().display(),
            self.password_file().display(),
            self.tree().display(),
        );
        self.password(PASSWORD);
        write(&path, text.as_bytes());
        path
    }

    fn password_file(&self) -> PathBuf {
        self.home.path().join("password")
    }

    /// What the guard logs in with from its next configuration on.
    pub(super) fn password(&self, password: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        write(&self.password_file(), password.as_bytes());
        std::fs::set_permissions(self.password_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs a command of the program with this site's configuration.
    pub(super) fn guard(&self, args: &[&str]) -> Output {
        guard(&[args, &["-c", self.home.path().join("guard.yaml").to_str().unwrap()]].concat())
    }

    /// The same, which must succeed; gives what it said.
    pub(super) fn said(&self, args: &[&str]) -> String {
        let output = self.guard(args);
        let (said, wrong) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{args:?}: {said}{wrong}");
        said
    }
}

/// What a running guard answers at a path.
pub(super) fn ask(daemon: &Daemon, path: &str) -> Value {
    let answer = daemon.get(path);
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
}

/// All pages of a list.
pub(super) fn all(daemon: &Daemon, path: &str) -> Vec<Value> {
    let (mut out, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ask(daemon, &format!("{path}limit=300{cursor}"));
        out.extend(page["items"].as_array().unwrap_or_else(|| panic!("{path}: {page}")).iter().cloned());
        let Some(next) = page["next"].as_str() else { return out };
        cursor = format!("&cursor={next}");
    }
}

/// The orphans of the tree.
pub(super) fn orphans(daemon: &Daemon) -> Vec<Value> {
    all(daemon, "/api/v1/orphans?tree=live&")
}

/// Waits until the catalogue is believed, and was compared: this many orphans are known.
pub(super) fn settled(daemon: &Daemon, orphans: u64) {
    wait_for("the catalogue is believed and compared", || {
        catalogue(daemon)["trusted"] == true && metric(daemon, UNCATALOGUED) == orphans.to_string()
    });
}
