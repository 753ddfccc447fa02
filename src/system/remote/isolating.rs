//! Decides which paths are touched by this process, and which by a child.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::hung::Hung;
use super::link::Link;
use super::tree::IsolatedTree;
use super::yard::Yard;
use crate::domain::units::{Timestamp, show_duration};
use crate::domain::volume::{FilesystemTraits, Reading, Unusable};
use crate::system::mountinfo::{self, Mount};
use crate::system::volumes::describe_mount;
use crate::system::{Clock, Dir as _, GuardedTree, SystemVolumes, VolumeKey, Volumes, WritableDir};

/// A local mount that hung is trusted again once its child answered for so long without a break.
const FORGIVEN: Duration = Duration::from_secs(24 * 3600);
/// Symbolic links on the way to a tree.
const LINKS: usize = 40;

/// How long calls may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Any call, and each chunk of a directory.
    pub call: Duration,
    /// Writing everything of a directory or filesystem to its device.
    pub sync: Duration,
    /// The volume's reading: less than the prober's patience, so that its answer says why.
    pub reading: Duration,
    /// The first touch of a tree.
    pub opening: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(20),
            sync: Duration::from_secs(120),
            reading: Duration::from_secs(4),
            opening: Duration::from_secs(4),
        }
    }
}

/// Where a path that was opened lies.
#[derive(Clone)]
struct Place {
    mount: Mount,
    /// It is not touched by this process.
    isolated: bool,
}

/// A tree that a child works.
struct Seat {
    link: Weak<Link>,
    mount: PathBuf,
    /// When its child was started, or broke off last, and how often it had by then.
    well_since: (Duration, u64),
}

/// The volumes of this machine, each of which may hang without anything else waiting for it.
pub struct Isolating {
    program: PathBuf,
    deadlines: Deadlines,
    clock: Arc<dyn Clock>,
    hung: Hung,
    yard: Arc<Yard>,
    seats: Mutex<HashMap<PathBuf, Seat>>,
    places: Mutex<HashMap<PathBuf, Place>>,
    /// Why a path could not be opened.
    refusals: Mutex<HashMap<PathBuf, String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Entries are put in and taken out whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Isolating {
    /// With the state in which it is kept what hung, if there is one.
    #[must_use]
    pub fn new(state: Option<&Path>, clock: Arc<dyn Clock>) -> Self {
        // Also once an update has replaced the file.
        Self::with(Path::new("/proc/self/exe"), state, clock, Deadlines::default())
    }

    /// The same, with another program for the children and other deadlines.
    #[must_use]
    pub fn with(program: &Path, state: Option<&Path>, clock: Arc<dyn Clock>, deadlines: Deadlines) -> Self {
        let file = |name| state.map(|state| state.join(name));
        Self {
            program: program.to_owned(),
            deadlines,
            hung: Hung::open(file("hung")),
            yard: Arc::new(Yard::open(file("children"), clock.clone())),
            clock,
            seats: Mutex::default(),
            places: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// Finds where a path lies, and lets `touch` do what it likes there if this process may; within the deadline.
    fn visit<T: Send + 'static>(
        &self,
        path: &Path,
        touch: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<(Place, Option<T>)> {
        let hung = self.hung.all();
        let at = Arc::new(Mutex::new(None));
        let (reached, wanted) = (at.clone(), path.to_owned());
        let (answer, answered) = sync_channel(1);
        std::thread::Builder::new().name("first touch".to_owned()).spawn(move || {
            let visited = locate(&wanted, &hung, &mut |mount| *lock(&reached) = Some(mount.point.clone()))
                .and_then(|place| Ok((place.clone(), if place.isolated { None } else { Some(touch()?) })));
            // Nobody waits for it any more: what was opened is closed again.
            let _ = answer.send(visited);
        })?;
        let deadline = self.deadlines.opening;
        answered.recv_timeout(deadline).unwrap_or_else(|_| {
            let mount = lock(&at).clone();
            self.hung.add(&culprit(path, mount.as_deref()));
            let text = format!(
                "`{}` did not answer within {}; from now on a process of its own works it",
                path.display(),
                show_duration(deadline)
            );
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn WritableDir>> {
        // Somebody else looks at a tree that is worked already.
        let link = lock(&self.seats).get(path).and_then(|seat| seat.link.upgrade());
        if let Some(link) = link.filter(|link| link.whole()) {
            return Ok(Arc::new(IsolatedTree(link)));
        }
        // Also where it is no child's business any more: an old one may still be at it.
        self.yard.clear(path)?;
        let wanted = path.to_owned();
        let (place, tree) = self.visit(path, move || {
            let tree = GuardedTree::open(&wanted)?;
            tree.top()?;
            Ok(tree)
        })?;
        let mount = place.mount.point.clone();
        lock(&self.places).insert(path.to_owned(), place);
        if let Some(tree) = tree {
            lock(&self.seats).remove(path);
            return Ok(Arc::new(tree));
        }
        let link = Link::open(&self.program, path, self.yard.clone(), self.deadlines)?;
        let seat = Seat { link: Arc::downgrade(&link), mount, well_since: (self.clock.boottime(), 0) };
        lock(&self.seats).insert(path.to_owned(), seat);
        Ok(Arc::new(IsolatedTree(link)))
    }

    /// The mount point of a path that was opened, if it is known and is no part of everything else.
    fn culprit(&self, path: &Path) -> PathBuf {
        let place = lock(&self.places).get(path).cloned();
        culprit(path, place.as_ref().map(|place| place.mount.point.as_path()))
    }

    /// A local mount that was well for a day may be touched again, when its tree is opened the next time.
    fn forgive(&self, path: &Path) {
        let now = self.clock.boottime();
        let mut seats = lock(&self.seats);
        let Some(seat) = seats.get_mut(path) else { return };
        let Some(link) = seat.link.upgrade() else { return };
        let breaks = link.breaks();
        if breaks != seat.well_since.1 {
            seat.well_since = (now, breaks);
        } else if now.saturating_sub(seat.well_since.0) >= FORGIVEN {
            self.hung.remove(&seat.mount);
            self.hung.remove(path);
        }
    }
}

/// What is put down as hanging: the mount, but never the root, which is everybody's; then the path alone.
fn culprit(path: &Path, mount: Option<&Path>) -> PathBuf {
    mount.filter(|mount| *mount != Path::new("/")).unwrap_or(path).to_owned()
}

/// Finds the mount that holds a path, following links, and touching nothing on a mount that may hang. `reach` is told of each mount
/// before something on it is touched.
fn locate(path: &Path, hung: &BTreeSet<PathBuf>, reach: &mut dyn FnMut(&Mount)) -> io::Result<Place> {
    let mounts = mountinfo::parse(&std::fs::read("/proc/self/mountinfo")?);
    let holding = |at: &Path| {
        mountinfo::holding(&mounts, at).cloned().ok_or_else(|| {
            let text = format!("no mount in /proc/self/mountinfo holds `{}`", at.display());
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    };
    if hung.contains(path) {
        return Ok(Place { mount: holding(path)?, isolated: true });
    }
    let mut rest: VecDeque<OsString> = parts(path).collect();
    let mut real = PathBuf::from("/");
    let mut links = 0;
    loop {
        let mount = holding(&real)?;
        if mount.remote() || hung.contains(&mount.point) {
            // What a link on it leads to, the child finds. A mount below it is reached through it.
            let below: PathBuf = rest.iter().collect();
            return Ok(Place { mount: holding(&real.join(below))?, isolated: true });
        }
        let Some(part) = rest.pop_front() else { return Ok(Place { mount, isolated: false }) };
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        // A mount point is a directory, and looking at it is a touch already.
        if mounts.iter().any(|mount| mount.point == next) {
            real = next;
            continue;
        }
        reach(&mount);
        match std::fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(part);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => real = next,
            Err(error) => return Err(error),
        }
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

impl Volumes for Isolating {
    fn open_tree(&self, path: &Path) -> io::Result<Arc<dyn WritableDir>> {
        let opened = self.open(path);
        let mut refusals = lock(&self.refusals);
        match &opened {
            Ok(_) => drop(refusals.remove(path)),
            Err(error) => drop(refusals.insert(path.to_owned(), error.to_string())),
        }
        drop(refusals);
        opened
    }

    fn open_near(&self, path: &Path) -> io::Result<Arc<dyn WritableDir>> {
        Ok(Arc::new(GuardedTree::open(path)?))
    }

    fn describe(&self, path: &Path) -> io::Result<(VolumeKey, FilesystemTraits)> {
        Ok(describe_mount(self.visit(path, || Ok(()))?.0.mount))
    }

    fn read(&self, path: &Path, at: Timestamp) -> Result<Reading, Unusable> {
        let link = lock(&self.seats).get(path).and_then(|seat| seat.link.upgrade());
        if let Some(link) = link {
            let reading = link.reading(at);
            self.forgive(path);
            return reading;
        }
        // It was touched by this process when it was opened. Only its prober waits if it hangs now.
        let isolated = match lock(&self.places).get(path) {
            Some(place) => place.isolated || self.hung.contains(&place.mount.point) || self.hung.contains(path),
            None => self.hung.contains(path),
        };
        match lock(&self.refusals).get(path).cloned() {
            Some(why) => Err(Unusable::Failed(why)),
            None if isolated => {
                Err(Unusable::Failed("it hung, and is opened again by a process of its own".to_owned()))
            }
            None => SystemVolumes.read(path, at),
        }
    }

    fn io_pressure(&self) -> Option<f64> {
        SystemVolumes.io_pressure()
    }

    fn isolate(&self, path: &Path) -> bool {
        let linked = lock(&self.seats).get(path).is_some_and(|seat| seat.link.strong_count() > 0);
        !linked && self.hung.add(&self.culprit(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_is_followed_up_to_the_mount_that_may_hang_and_no_further() {
        let home = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(home.path()).unwrap();
        std::fs::create_dir(real.join("record")).unwrap();
        symlink("/proc", real.join("far")).unwrap();
        symlink("record/../far", real.join("link")).unwrap();
        symlink("loop", real.join("loop")).unwrap();
        let proc = BTreeSet::from([PathBuf::from("/proc")]);
        let find = |path: &str, hung: &BTreeSet<PathBuf>| {
            locate(&real.join(path), hung, &mut |_| ()).map(|place| (place.mount.point, place.isolated))
        };
        let nothing = BTreeSet::new();
        assert!(!find("record", &nothing).unwrap().1);
        assert_eq!(find("link/self", &nothing).unwrap(), ("/proc".into(), false));
        assert_eq!(find("link/no/such/process", &proc).unwrap(), ("/proc".into(), true));
        assert!(find("record", &BTreeSet::from([real.join("record")])).unwrap().1);
        assert_eq!(find("loop", &nothing).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(find("missing", &nothing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_first_touch_that_hangs_ends_with_its_deadline_and_is_not_tried_again() {
        let home = tempfile::tempdir().unwrap();
        let opening = Duration::from_millis(50);
        let deadlines = Deadlines { opening, ..Deadlines::default() };
        let clock: Arc<dyn Clock> = Arc::new(crate::system::SystemClock);
        let machine = Isolating::with(Path::new("/nonexistent"), None, clock, deadlines);
        let (let_go, held) = sync_channel::<()>(0);
        let touched = machine.visit(home.path(), move || held.recv().map_err(io::Error::other));
        assert_eq!(touched.err().map(|error| error.kind()), Some(io::ErrorKind::TimedOut));
        let (place, touched) = machine.visit(home.path(), || Ok(())).unwrap();
        assert!(place.isolated && touched.is_none(), "no thread of this process goes there again");
        assert!(machine.open_tree(home.path()).is_err(), "there is no such program for a child");
        assert!(matches!(machine.read(home.path(), Timestamp::default()), Err(Unusable::Failed(_))));
        drop(let_go);
    }
}
