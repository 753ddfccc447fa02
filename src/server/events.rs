//! `GET /api/v1/jobs/{id}/events`: server-sent events while a job goes on, until it is over.
//!
//! A task of its own asks how the job stands, and writes what is new as fast as the client takes it. What a job does never waits for that: a
//! client that is too slow misses items, and hears how many.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header;
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::backend::Backend;
use super::calls::Calls;
use super::feed::Feed;
use super::records::{Job, JobState};
use super::refusal::Refusal;

/// So many clients may listen at once.
const LISTENERS: usize = 32;
/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at a job of which only retries are left.
const LOOK_WAITING: Duration = Duration::from_secs(1);
/// After so long without an event a comment is sent, so that nobody on the way takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Pieces that wait for a client.
const PIECES: usize = 4;

/// Places for clients that listen.
#[derive(Debug)]
pub(super) struct Listeners(Arc<Semaphore>);

impl Default for Listeners {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LISTENERS)))
    }
}

impl Listeners {
    /// A place.
    ///
    /// # Errors
    /// 503 if all are taken.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.0.clone().try_acquire_owned().map_err(|_| {
            let message =
                format!("{LISTENERS} clients listen to events already; try again later, or ask for the job itself");
            Refusal::unavailable("too_many_listeners", message)
        })
    }
}

/// Who tells of one job.
pub(super) struct Telling {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) calls: Arc<Calls>,
    pub(super) id: u64,
    pub(super) feed: Arc<Feed>,
    pub(super) place: OwnedSemaphorePermit,
}

impl Telling {
    /// Begins to tell; the answer goes on until the job is over.
    pub(super) fn begin(self) -> Response {
        let (pieces, taken) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            // The client is gone, or the guard is ending: there is nobody to tell.
            let _ = self.tell(&pieces).await;
        });
        let body = Body::new(Pieces(taken));
        let kind = (header::CONTENT_TYPE, "text/event-stream; charset=utf-8");
        ([kind, (header::CACHE_CONTROL, "no-store")], body).into_response()
    }

    async fn tell(self, pieces: &mpsc::Sender<Bytes>) -> Result<(), mpsc::error::SendError<Bytes>> {
        let mut last: Option<Job> = None;
        let mut spoke = Instant::now();
        loop {
            let id = self.id;
            // Asked before the items are taken: what the job counts was pushed by then.
            let asked = self.calls.ask(&self.backend, move |backend| backend.job(id)).await;
            let (items, missed) = self.feed.take();
            let mut text = String::new();
            if missed > 0 {
                let _ = write!(text, ": {missed} items were missed; ask for the job's items\n\n");
            }
            items.iter().for_each(|item| text.push_str(&event("item", item)));
            let over = match asked {
                Ok(Ok(job)) => {
                    let over = matches!(job.state, JobState::Done | JobState::Cancelled) && job.finished.is_some();
                    let new = last.as_ref() != Some(&job);
                    if over || new {
                        text.push_str(&event(if over { "done" } else { "progress" }, &job));
                    }
                    last = Some(job);
                    over
                }
                // It is forgotten by now.
                Ok(Err(_)) => true,
                // The guard is busy: the next look may be answered.
                Err(_) => false,
            };
            if text.is_empty() && spoke.elapsed() >= HEARTBEAT {
                text.push_str(": still here\n\n");
            }
            if !text.is_empty() {
                spoke = Instant::now();
                pieces.send(Bytes::from(text)).await?;
            }
            if over || self.feed.closed() || pieces.is_closed() {
                drop(self.place);
                return Ok(());
            }
            let waits = last.as_ref().is_some_and(|job| job.state == JobState::Waiting);
            sleep(if waits { LOOK_WAITING } else { LOOK }).await;
        }
    }
}

/// One event: JSON has no line breaks, so that its data is one line.
fn event(name: &str, data: &impl Serialize) -> String {
    match serde_json::to_string(data) {
        Ok(data) => format!("event: {name}\ndata: {data}\n\n"),
        Err(error) => format!(": {name} cannot be written as JSON: {error}\n\n"),
    }
}

/// The pieces as the body of an answer.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
