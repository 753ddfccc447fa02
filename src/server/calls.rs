//! Blocking calls: each on its own thread, so many at once, each with a deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::backend::Backend;
use super::refusal::Refusal;

/// A number of threads that calls of one kind may use. A call that outlives its deadline keeps its place until it returns, so that
/// a backend that hangs is not called again and again.
#[derive(Debug)]
pub(super) struct Calls {
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl Calls {
    pub(super) fn new(at_once: usize, deadline: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(at_once)), deadline }
    }

    /// Asks the backend.
    ///
    /// # Errors
    /// 503 if there is no answer in time, 500 if the call panics.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        backend: &Arc<dyn Backend>,
        question: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let deadline = Instant::now() + self.deadline;
        let late = || {
            let message = format!("there was no answer within {} s; try again later", self.deadline.as_secs_f32());
            Refusal::unavailable("no_answer", message)
        };
        let Ok(place) = timeout_at(deadline, self.places.clone().acquire_owned()).await else { return Err(late()) };
        let backend = backend.clone();
        let call = tokio::task::spawn_blocking(move || {
            let answer = question(backend.as_ref());
            drop(place);
            answer
        });
        match timeout_at(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failed)) => {
                error!(error = %failed, "A request met a fault of the guard.");
                Err(Refusal::internal())
            }
            Err(_) => Err(late()),
        }
    }
}
