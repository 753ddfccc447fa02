//! The guard's end of one child: questions with a deadline, and what is done when no answer comes.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Deadlines;
use super::shapes::{Answer, EntryShape, Question, misfit, receive, send};
use super::yard::{Started, Yard};
use crate::domain::recording::FileIdentity;
use crate::domain::units::Timestamp;
use crate::domain::volume::{Difference, Reading, Unusable};

/// Answers that wait to be taken: a child that reads a large directory goes on while the last chunk is worked on.
const AHEAD: usize = 4;

/// A child that answers.
struct Process {
    pid: u32,
    ask: ChildStdin,
    answers: Receiver<io::Result<Option<Answer>>>,
}

/// What is known of the child, and of the tree that it has open.
struct State {
    process: Option<Process>,
    /// Of the child that has the tree open now; a file that an earlier one held is lost.
    generation: u64,
    /// Why there is none.
    why: String,
    /// A question is being asked: if this is seen by another, its asker ended in the middle.
    asking: bool,
    /// The tree's top as it was first opened.
    top: Option<FileIdentity>,
    /// The tree was taken for this guard, and is taken again with every new child.
    locked: bool,
    /// What another child found instead of the tree.
    replaced: Option<Difference>,
}

/// One path, and the child that works it.
pub(super) struct Link {
    program: PathBuf,
    path: PathBuf,
    yard: Arc<Yard>,
    pub(super) deadlines: Deadlines,
    breaks: AtomicU64,
    state: Mutex<State>,
}

impl Link {
    /// Starts a child, which opens the tree.
    pub(super) fn open(program: &Path, path: &Path, yard: Arc<Yard>, deadlines: Deadlines) -> io::Result<Arc<Self>> {
        let state = State {
            process: None,
            generation: 0,
            why: String::new(),
            asking: false,
            top: None,
            locked: false,
            replaced: None,
        };
        let (program, path) = (program.to_owned(), path.to_owned());
        let link = Self { program, path, yard, deadlines, breaks: AtomicU64::new(0), state: Mutex::new(state) };
        link.revive(&mut link.state())?;
        Ok(Arc::new(link))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How often it happened that a child was lost, and with it the answer to a question.
    pub(super) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its child answers, and has the tree open that it had at first.
    pub(super) fn whole(&self) -> bool {
        // Who holds it waits for an answer.
        let Ok(mut state) = self.state.try_lock() else { return false };
        let open = state.process.is_some() && state.replaced.is_none();
        let deadline = self.deadlines.reading;
        open && matches!(self.converse(&mut state, &Question::StillThere, deadline, &mut |_| ()), Ok(Answer::Done))
    }

    /// Asks something about the tree. With a `generation`, only the child of that number.
    pub(super) fn ask(&self, generation: Option<u64>, question: &Question, deadline: Duration) -> io::Result<Answer> {
        self.ask_for(generation, question, deadline, &mut |_| ())
    }

    /// Asks for what is answered in chunks, each within the deadline.
    pub(super) fn ask_for(
        &self,
        generation: Option<u64>,
        question: &Question,
        deadline: Duration,
        each: &mut dyn FnMut(EntryShape),
    ) -> io::Result<Answer> {
        let mut state = self.state();
        if generation.is_some_and(|number| number != state.generation) {
            return Err(self.lost("the process that held the file is gone"));
        }
        if let (Some(difference), true) = (state.replaced, state.process.is_some()) {
            let why = Unusable::Replaced { path: self.path.display().to_string(), difference };
            return Err(io::Error::other(why.to_string()));
        }
        self.converse(&mut state, question, deadline, each)
    }

    /// Opens something, and says which child holds it.
    pub(super) fn ask_to_hold(&self, question: &Question) -> io::Result<Option<(u64, u64)>> {
        let mut state = self.state();
        if state.replaced.is_some() && state.process.is_some() {
            return Err(io::Error::other(format!("`{}` is not the directory it was", self.path.display())));
        }
        let held = number(self.converse(&mut state, question, self.deadlines.call, &mut |_| ())?)?;
        Ok(held.map(|number| (state.generation, number)))
    }

    /// Takes the tree for this guard. `Some` is the process that has it.
    pub(super) fn lock(&self) -> io::Result<Option<u64>> {
        let mut state = self.state();
        let holder = number(self.converse(&mut state, &Question::Lock, self.deadlines.call, &mut |_| ())?)?;
        state.locked |= holder.is_none();
        Ok(holder)
    }

    /// Reads the volume, with a new child if the last one is dead.
    pub(super) fn reading(&self, at: Timestamp) -> Result<Reading, Unusable> {
        let deadline = self.deadlines.reading;
        let mut state = self.state();
        self.revive(&mut state).map_err(|error| Unusable::Failed(error.to_string()))?;
        let question = Question::Reading(self.path.as_os_str().as_bytes().to_vec());
        match self.converse(&mut state, &question, deadline, &mut |_| ()) {
            Ok(Answer::Reading(reading)) => Ok(reading.at(at)),
            Ok(Answer::Unusable(why)) => Err(why.into()),
            Ok(_) => Err(Unusable::Failed(misfit().to_string())),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Unusable::TimedOut(deadline)),
            Err(error) => Err(Unusable::Failed(error.to_string())),
        }
    }

    /// Whether this is still the tree that it was; with a new child if the last one is dead.
    pub(super) fn still_there(&self) -> Result<(), Unusable> {
        let mut state = self.state();
        self.revive(&mut state).map_err(|error| Unusable::Failed(error.to_string()))?;
        if let Some(difference) = state.replaced {
            return Err(Unusable::Replaced { path: self.path.display().to_string(), difference });
        }
        match self.converse(&mut state, &Question::StillThere, self.deadlines.call, &mut |_| ()) {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Unusable(why)) => Err(why.into()),
            Ok(_) => Err(Unusable::Failed(misfit().to_string())),
            Err(error) => Err(Unusable::Failed(error.to_string())),
        }
    }

    /// Starts a child if there is none, and lets it open the tree, compare it, and take it again.
    fn revive(&self, state: &mut State) -> io::Result<()> {
        if state.process.is_some() {
            return Ok(());
        }
        let Started { pid, ask, mut answers } = self.yard.start(&self.program, &self.path)?;
        let (answer, taken) = sync_channel(AHEAD);
        // Ends with its child, whose end of the pipe is closed then.
        std::thread::Builder::new().name("answers".to_owned()).spawn(move || {
            loop {
                let received = receive::<Answer>(&mut answers);
                let last = !matches!(received, Ok(Some(_)));
                if answer.send(received).is_err() || last {
                    return;
                }
            }
        })?;
        state.generation += 1;
        (state.process, state.asking, state.replaced) = (Some(Process { pid, ask, answers: taken }), false, None);
        let opened = self.reopen(state);
        if let (Err(error), Some(process)) = (&opened, state.process.take_if(|_| opened.is_err())) {
            state.why = error.to_string();
            self.yard.kill(process.pid);
        }
        opened
    }

    fn reopen(&self, state: &mut State) -> io::Result<()> {
        let question = Question::Open(self.path.as_os_str().as_bytes().to_vec());
        let answer = self.converse(state, &question, self.deadlines.opening, &mut |_| ())?;
        let Answer::Identity(Some(now)) = answer else { return Err(misfit()) };
        let now = FileIdentity::from(now);
        if let Some(difference) = state.top.and_then(|top| Difference::between(&top, &now)) {
            state.replaced = Some(difference);
            return Ok(());
        }
        state.top = Some(now);
        if state.locked {
            let holder = number(self.converse(state, &Question::Lock, self.deadlines.opening, &mut |_| ())?)?;
            if let Some(pid) = holder {
                return Err(io::Error::other(format!("another storage-guard (process {pid}) guards it now")));
            }
        }
        Ok(())
    }

    /// One question, and its answers up to the last. A child that does not answer in time is given up.
    fn converse(
        &self,
        state: &mut State,
        question: &Question,
        deadline: Duration,
        each: &mut dyn FnMut(EntryShape),
    ) -> io::Result<Answer> {
        let Some(process) = state.process.as_mut().filter(|_| !state.asking) else {
            let why = if state.asking { "a question to it was left in the middle" } else { state.why.as_str() };
            let error = self.lost(why);
            if state.process.is_some() {
                return Err(self.give_up(state, error));
            }
            return Err(error);
        };
        state.asking = true;
        let pid = process.pid;
        let mut said = send(&mut process.ask, question);
        let answer = loop {
            if let Err(error) = said {
                break Err(self.lost(&format!("process {pid} ended ({error})")));
            }
            said = Ok(());
            match process.answers.recv_timeout(deadline) {
                Ok(Ok(Some(Answer::Entries(entries)))) => entries.into_iter().for_each(&mut *each),
                Ok(Ok(Some(answer))) => break Ok(answer),
                Ok(Ok(None)) | Err(RecvTimeoutError::Disconnected) => {
                    break Err(self.lost(&format!("process {pid} ended")));
                }
                Ok(Err(error)) => break Err(self.lost(&format!("process {pid} cannot be understood ({error})"))),
                Err(RecvTimeoutError::Timeout) => {
                    let text = format!(
                        "`{}` did not answer within {}; process {pid}, which works it, is given up",
                        self.path.display(),
                        crate::domain::units::show_duration(deadline)
                    );
                    break Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
            }
        };
        state.asking = false;
        match answer {
            Ok(Answer::Refused(refusal)) => Err(refusal.into()),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.give_up(state, error)),
        }
    }

    /// Nobody knows what the last call did.
    fn give_up(&self, state: &mut State, error: io::Error) -> io::Error {
        state.why = error.to_string();
        state.asking = false;
        self.breaks.fetch_add(1, Ordering::AcqRel);
        if let Some(process) = state.process.take() {
            self.yard.kill(process.pid);
        }
        error
    }

    /// An error that is never taken for "not there".
    fn lost(&self, why: &str) -> io::Error {
        let text = format!("the process that works `{}` is lost: {why}", self.path.display());
        io::Error::new(io::ErrorKind::BrokenPipe, text)
    }
}

fn number(answer: Answer) -> io::Result<Option<u64>> {
    let Answer::Number(number) = answer else { return Err(misfit()) };
    Ok(number)
}

impl Drop for Link {
    fn drop(&mut self) {
        let process = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).process.take();
        if let Some(Process { pid, ask, answers }) = process {
            drop(ask);
            drop(answers);
            self.yard.dismiss(pid);
        }
    }
}
