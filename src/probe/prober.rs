//! One thread that asks one mount.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::domain::volume::{Reading, Unusable};
use crate::system::{Clock, Volumes};

/// Asks one volume for readings.
#[derive(Debug)]
pub struct Prober {
    ask: SyncSender<()>,
    answers: Receiver<Result<Reading, Unusable>>,
    /// A question was asked whose answer did not come in time.
    late: bool,
}

impl Prober {
    /// Starts the thread that asks the filesystem of `path`. It ends when the prober is dropped, or, if the mount hangs, when
    /// the mount lets go of it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(volumes: Arc<dyn Volumes>, clock: Arc<dyn Clock>, path: PathBuf) -> std::io::Result<Self> {
        let (ask, asked) = sync_channel::<()>(1);
        let (answer, answers) = sync_channel(1);
        std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
            while asked.recv().is_ok() {
                if answer.send(volumes.read(&path, clock.now())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, answers, late: false })
    }

    /// A reading that is not older than this call, or why there is none.
    ///
    /// # Errors
    /// [`Unusable::TimedOut`] after `deadline`, and as long as an earlier question still hangs: no second one is put to a
    /// mount that did not answer the first. Otherwise what the volume says.
    pub fn read(&mut self, deadline: Duration) -> Result<Reading, Unusable> {
        let gone = || Unusable::Failed("the probe of this volume ended".to_owned());
        if self.late {
            // The answer to the earlier question is old; it only tells that the mount answers again.
            match self.answers.recv_timeout(deadline) {
                Ok(_) => self.late = false,
                Err(RecvTimeoutError::Timeout) => return Err(Unusable::TimedOut(deadline)),
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
        match self.ask.try_send(()) {
            Ok(()) => {}
            Err(TrySendError::Full(())) => return Err(Unusable::TimedOut(deadline)),
            Err(TrySendError::Disconnected(())) => return Err(gone()),
        }
        match self.answers.recv_timeout(deadline) {
            Ok(reading) => reading,
            Err(RecvTimeoutError::Timeout) => {
                self.late = true;
                Err(Unusable::TimedOut(deadline))
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::Timestamp;
    use crate::domain::volume::{FilesystemTraits, Space};
    use crate::system::{SystemClock, VolumeKey, WritableDir};
    use std::path::Path;
    use std::sync::Mutex;

    /// Answers when the test lets it.
    struct Gate(Mutex<Receiver<()>>);

    impl Volumes for Gate {
        fn open_tree(&self, _: &Path) -> std::io::Result<Arc<dyn WritableDir>> {
            Err(std::io::ErrorKind::NotFound.into())
        }

        fn describe(&self, _: &Path) -> std::io::Result<(VolumeKey, FilesystemTraits)> {
            Err(std::io::ErrorKind::NotFound.into())
        }

        fn read(&self, _: &Path, at: Timestamp) -> Result<Reading, Unusable> {
            self.0.lock().unwrap().recv().map_err(|_| Unusable::NotYet)?;
            Ok(Reading { at, space: Space::default(), readonly: false, written: None })
        }

        fn io_pressure(&self) -> Option<f64> {
            None
        }
    }

    #[test]
    fn a_mount_that_hangs_times_out_and_may_recover() {
        let (open, gate) = sync_channel(8);
        let volumes = Arc::new(Gate(Mutex::new(gate)));
        let mut prober = Prober::spawn(volumes, Arc::new(SystemClock), "/x".into()).unwrap();
        let short = Duration::from_millis(20);
        assert_eq!(prober.read(short), Err(Unusable::TimedOut(short)));
        assert_eq!(prober.read(short), Err(Unusable::TimedOut(short)), "no second question is asked");
        open.send(()).unwrap();
        open.send(()).unwrap();
        assert!(prober.read(Duration::from_secs(10)).is_ok());
    }
}
