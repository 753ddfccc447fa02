//! Of processes, and the machine they run on: how many files ours may have open, whether another is dead, and the host's name.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to what the system allows, and says what it is then.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The machine's name.
#[must_use]
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// A process that has ended, though a thread of it may hang in the kernel and keep what it had open: no code of it runs any more.
#[must_use]
pub fn is_dead(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name before it may hold anything.
    stat.rsplit_once(')').is_some_and(|(_, rest)| matches!(rest.trim_start().as_bytes().first(), Some(b'Z' | b'X')))
}

/// Whether a thread of a process hangs in a call on something below `path`, or nobody can tell: the first argument of nearly every call
/// that can hang is a descriptor.
#[must_use]
pub fn hangs_below(pid: u32, path: &Path) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    let below = |task: &Path| {
        // A thread that has ended hangs nowhere.
        let Ok(call) = std::fs::read_to_string(task.join("syscall")) else { return false };
        // `-1`: it is in no call.
        let mut words = call.split(' ').take_while(|word| *word != "-1");
        let Some(first) = words.nth(1).and_then(|word| word.strip_prefix("0x")) else { return false };
        let descriptor = u64::from_str_radix(first, 16).unwrap_or(u64::MAX);
        std::fs::read_link(task.join("fd").join(descriptor.to_string())).map_or(true, |open| open.starts_with(path))
    };
    tasks.flatten().any(|task| below(&task.path()))
}
