//! The processes of the children: started, ended, and kept in mind until they are dead.
//!
//! Each is put on record in the state before it is asked for anything, so that the next guard does not touch a tree while a process
//! of this one may still finish a call in it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::child::ARGUMENT;
use super::hung::{read_words, write_words};
use crate::system::Clock;

/// A process that was told to end, and one that was killed, is waited for as long; then it hangs.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks whether it has ended.
const GLANCE: Duration = Duration::from_millis(5);

/// A child that was started.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) ask: ChildStdin,
    pub(super) answers: ChildStdout,
}

/// A child that is not known to be dead.
struct Living {
    path: PathBuf,
    pid: u32,
    /// When it was started, in ticks since the machine was: tells it from a later process of the same number.
    start: u64,
    /// `None`: an earlier guard's.
    process: Option<Child>,
    killed: Option<Duration>,
}

impl Living {
    fn ended(&mut self) -> bool {
        match &mut self.process {
            Some(child) => matches!(child.try_wait(), Ok(Some(_))),
            None => start_of(self.pid) != Some(self.start),
        }
    }

    fn kill(&mut self, now: Duration) {
        if self.killed.is_some() {
            return;
        }
        self.killed = Some(now);
        // That it is dead already shows when it is looked for.
        match &mut self.process {
            Some(child) => drop(child.kill()),
            None => {
                let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
                pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            }
        }
    }
}

/// All children, of this guard and of earlier ones.
pub(super) struct Yard {
    record: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    living: Mutex<Vec<Living>>,
}

impl Yard {
    /// Takes over what an earlier guard left behind.
    pub(super) fn open(record: Option<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let mut living = Vec::new();
        for words in record.iter().flat_map(|file| read_words(file)) {
            let number = |at: usize| words.get(at).and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
            let (Some(pid), Some(start), Some(path)) = (number(0), number(1), words.get(2)) else { continue };
            let Ok(pid) = u32::try_from(pid) else { continue };
            let path = PathBuf::from(OsStr::from_bytes(path));
            living.push(Living { path, pid, start, process: None, killed: None });
        }
        Self { record, clock, living: Mutex::new(living) }
    }

    fn living(&self) -> MutexGuard<'_, Vec<Living>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a child for a path, once the one before is dead; it is killed if need be.
    ///
    /// # Errors
    /// If the one before hangs in the kernel, or the system starts no process.
    pub(super) fn start(&self, program: &Path, path: &Path) -> io::Result<Started> {
        self.clear(path)?;
        let mut child = Command::new(program)
            .arg0("storage-guard")
            .arg(ARGUMENT)
            // For who looks at the list of processes; the path that is opened comes with the questions.
            .arg(path)
            .env_clear()
            .current_dir("/")
            // What a terminal sends to the guard is not meant for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the process has no pipes"));
        };
        let pid = child.id();
        let start = start_of(pid).unwrap_or(0);
        let mut living = self.living();
        living.push(Living { path: path.to_owned(), pid, start, process: Some(child), killed: None });
        self.write(&living);
        Ok(Started { pid, ask, answers })
    }

    /// Kills what works a path, and waits until it is dead.
    pub(super) fn clear(&self, path: &Path) -> io::Result<()> {
        loop {
            let now = self.clock.boottime();
            {
                let mut living = self.living();
                self.reap(&mut living);
                let Some(one) = living.iter_mut().find(|one| one.path == path) else { return Ok(()) };
                one.kill(now);
                if one.killed.is_some_and(|at| now.saturating_sub(at) > PATIENCE) {
                    return Err(hangs(one.pid, path));
                }
            }
            self.clock.sleep(GLANCE);
        }
    }

    /// Kills a child, and does not wait for it.
    pub(super) fn kill(&self, pid: u32) {
        let now = self.clock.boottime();
        let mut living = self.living();
        living.iter_mut().filter(|one| one.pid == pid && one.process.is_some()).for_each(|one| one.kill(now));
        self.reap(&mut living);
    }

    /// Waits until a child that has nothing more to do has ended; one that does not is killed, and left behind if it hangs.
    pub(super) fn dismiss(&self, pid: u32) {
        let began = self.clock.boottime();
        let mut patience = PATIENCE;
        loop {
            let now = self.clock.boottime();
            {
                let mut living = self.living();
                self.reap(&mut living);
                let Some(one) = living.iter_mut().find(|one| one.pid == pid && one.process.is_some()) else { return };
                if now.saturating_sub(began) > patience {
                    if one.killed.is_some() {
                        return;
                    }
                    one.kill(now);
                    patience += PATIENCE;
                }
            }
            self.clock.sleep(GLANCE);
        }
    }

    /// Forgets the dead.
    fn reap(&self, living: &mut Vec<Living>) {
        let before = living.len();
        living.retain_mut(|one| !one.ended());
        if living.len() != before {
            self.write(living);
        }
    }

    fn write(&self, living: &[Living]) {
        let Some(file) = &self.record else { return };
        let lines = living.iter().map(|one| {
            let (pid, start) = (one.pid.to_string(), one.start.to_string());
            vec![pid.into_bytes(), start.into_bytes(), one.path.as_os_str().as_bytes().to_vec()]
        });
        // Without room for it the tree's own lock still tells of a process that lives on.
        let _ = write_words(file, &lines.collect::<Vec<_>>());
    }
}

/// What is said of a process that does not die.
fn hangs(pid: u32, path: &Path) -> io::Error {
    let text = format!(
        "process {pid}, which worked `{}`, hangs in the kernel and cannot be ended; the tree stays blind until it is gone",
        path.display()
    );
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// When a process that is not dead was started; `None` if there is none.
fn start_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemClock;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let own = start_of(std::process::id()).unwrap();
        assert!(own > 0);
        assert_eq!(start_of(u32::MAX - 1), None);
    }

    #[test]
    fn what_an_earlier_guard_left_behind_is_ended_and_a_later_process_of_its_number_is_not() {
        let home = tempfile::tempdir().unwrap();
        let record = home.path().join("children");
        let mut left = Command::new("sleep").arg("600").spawn().unwrap();
        let mut other = Command::new("sleep").arg("600").spawn().unwrap();
        let start = start_of(left.id()).unwrap();
        let line = |pid: u32, start: u64, path: &[u8]| {
            vec![pid.to_string().into_bytes(), start.to_string().into_bytes(), path.to_vec()]
        };
        write_words(&record, &[line(left.id(), start, b"/a b"), line(other.id(), start + 1_000_000, b"/other")])
            .unwrap();
        let yard = Yard::open(Some(record.clone()), Arc::new(SystemClock));
        yard.clear(Path::new("/other")).unwrap();
        assert!(other.try_wait().unwrap().is_none(), "it has the number, and is another");
        yard.clear(Path::new("/a b")).unwrap();
        assert!(left.wait().unwrap().code().is_none(), "it was killed");
        assert!(read_words(&record).is_empty());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
