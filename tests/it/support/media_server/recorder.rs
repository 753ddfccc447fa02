//! What a stream leaves on the disk: MP4 slices, hidden while they are written and held open, HLS segments, and files of tasks.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Zoned;

/// What the real one writes at once.
static BUFFER: [u8; 65536] = [7; 65536];
/// Slices that are shorter leave nothing.
const LEAST: u64 = 1024;

#[expect(clippy::disallowed_methods, reason = "a stand-in dates what it writes")]
pub(super) fn now() -> Zoned {
    jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap().to_zoned(jiff::tz::TimeZone::system())
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn create(path: &Path) -> File {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file that is being written.
pub(super) struct Slice {
    file: File,
    hidden: PathBuf,
    pub(super) path: PathBuf,
    pub(super) started: Zoned,
}

/// A slice that was finished.
pub(super) struct Finished {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) started: Zoned,
    pub(super) length: f64,
}

/// The recorder of a stream: its slices are numbered from 0.
pub(super) struct Mp4 {
    home: PathBuf,
    next: u32,
    pub(super) slice: Slice,
}

impl Mp4 {
    /// Begins the first slice below `home`.
    pub(super) fn start(home: &str) -> Self {
        let home = PathBuf::from(home);
        let slice = Slice::open(&home, 0);
        Self { home, next: 1, slice }
    }

    /// Ends the slice and begins the next.
    pub(super) fn cut(&mut self) -> Option<Finished> {
        let next = Slice::open(&self.home, self.next);
        self.next += 1;
        std::mem::replace(&mut self.slice, next).finish()
    }
}

impl Slice {
    fn open(home: &Path, number: u32) -> Self {
        let started = now();
        let name = format!("{}-{number}.mp4", started.strftime("%Y-%m-%d-%H-%M-%S"));
        let day = home.join(started.strftime("%Y-%m-%d").to_string());
        let (hidden, path) = (day.join(format!(".{name}")), day.join(name));
        let mut slice = Self { file: create(&hidden), hidden, path, started };
        slice.grow(1);
        slice
    }

    pub(super) fn grow(&mut self, buffers: usize) {
        for _ in 0..buffers {
            // A full disk is not told to anybody.
            let _ = self.file.write_all(&BUFFER);
        }
    }

    pub(super) fn hidden(&self) -> &Path {
        &self.hidden
    }

    /// Gives it its name. Whether that works is not looked at; a hook says that it did.
    #[expect(clippy::disallowed_methods, reason = "the real one renames")]
    pub(super) fn finish(self) -> Option<Finished> {
        let size = self.file.metadata().unwrap().len();
        if size < LEAST {
            let _ = std::fs::remove_file(&self.hidden);
            return None;
        }
        let _ = std::fs::rename(&self.hidden, &self.path);
        let length = now().duration_since(&self.started).as_secs_f64();
        Some(Finished { path: self.path, size, started: self.started, length })
    }
}

/// The HLS of a stream.
pub(super) struct Hls {
    root: PathBuf,
    home: PathBuf,
    next: u32,
    segments: Vec<(PathBuf, Zoned)>,
}

impl Hls {
    /// Begins a playlist and its first segment.
    pub(super) fn start(root: &str, home: &str) -> Self {
        let mut hls = Self { root: PathBuf::from(root), home: PathBuf::from(home), next: 0, segments: Vec::new() };
        hls.begin();
        hls
    }

    fn begin(&mut self) {
        let started = now();
        let name = format!("{}_{}.ts", started.strftime("%Y-%m-%d/%H/%M-%S"), self.next);
        self.next += 1;
        let path = self.home.join(name);
        create(&path).write_all(&BUFFER).unwrap();
        self.segments.push((path, started));
        let listed = self.segments.iter().rev().skip(1).take(3).rev();
        let line = |path: &Path| format!("#EXTINF:2.000,\n{}\n", path.strip_prefix(&self.home).unwrap().display());
        let lines: String = listed.map(|(path, _)| line(path)).collect();
        let text = format!("#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:3\n{lines}");
        create(&self.home.join("hls.m3u8")).write_all(text.as_bytes()).unwrap();
    }

    /// Ends the segment and begins the next; keeps so many that are finished.
    pub(super) fn cut(&mut self, keep: Option<usize>) -> Finished {
        let (path, started) = self.segments.last().unwrap().clone();
        self.begin();
        while keep.is_some_and(|keep| self.segments.len() > keep + 1) {
            let (oldest, _) = self.segments.remove(0);
            gone(&oldest);
        }
        let length = now().duration_since(&started).as_secs_f64();
        Finished { size: BUFFER.len() as u64, path, started, length }
    }

    /// Removes playlist, segments, and every folder that is empty then, its root among them.
    pub(super) fn remove(self) {
        gone(&self.home.join("hls.m3u8"));
        for (path, _) in &self.segments {
            gone(path);
            prune(path.parent(), &self.root);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the real one deletes")]
fn gone(path: &Path) {
    let _ = std::fs::remove_file(path);
}

#[expect(clippy::disallowed_methods, reason = "the real one deletes")]
fn prune(dir: Option<&Path>, root: &Path) {
    let mut at = dir;
    while let Some(dir) = at.filter(|dir| dir.starts_with(root) && std::fs::remove_dir(dir).is_ok()) {
        at = dir.parent();
    }
}

/// A file of `startRecordTask`: under its own name from the beginning, and nobody is told.
pub(super) struct Task(File);

impl Task {
    pub(super) fn start(path: &Path) -> Self {
        let mut task = Self(create(path));
        task.grow();
        task
    }

    pub(super) fn grow(&mut self) {
        self.0.write_all(&BUFFER).unwrap();
    }
}
