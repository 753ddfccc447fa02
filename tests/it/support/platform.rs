//! A stand-in for the platform that ZLMediaKit's hooks go to: it remembers each, and answers what the test tells it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wait_for;
use super::wire::{Connection, Port, Request};

/// How a hook is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// With this status and these bytes.
    Bytes(u16, Vec<u8>),
    /// Not at all: the connection stays open.
    Silence,
    /// Not at all: the connection is closed, and the hook was not taken.
    Closed,
    /// Taken; the connection is closed before the answer.
    Lost,
    /// These bytes, whatever they are, and the connection is closed; the hook was not taken.
    Raw(Vec<u8>),
    /// As told, so much later.
    Late(Duration, Vec<u8>),
}

impl Reply {
    /// Status 200 and this JSON.
    pub(crate) fn json(text: &str) -> Self {
        Self::Bytes(200, text.as_bytes().to_vec())
    }
}

/// A platform on a port of its own, ended when dropped.
pub(crate) struct Platform {
    port: Port,
    shared: Arc<Shared>,
}

struct Shared {
    taken: Mutex<Vec<Request>>,
    refused: Mutex<Vec<Request>>,
    replies: Mutex<HashMap<String, Reply>>,
    /// What the next hooks get, whatever they are, before `replies` is asked.
    next: Mutex<Vec<Reply>>,
}

impl Platform {
    /// Starts it; every hook is taken and answered with `code` 0.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared {
            taken: Mutex::default(),
            refused: Mutex::default(),
            replies: Mutex::default(),
            next: Mutex::default(),
        });
        let serving = shared.clone();
        let port = Port::open(move |connection| serving.serve(connection));
        Self { port, shared }
    }

    /// Where its hooks go: the event follows.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/index/hook", self.port.number())
    }

    /// How this event is answered from now on; `""` is every event that has no answer of its own.
    pub(crate) fn answers(&self, event: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().insert(event.to_owned(), reply);
    }

    /// How the next hooks are answered, whatever they are, in this order.
    pub(crate) fn answers_next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.next.lock().unwrap().extend(replies);
    }

    /// Nobody listens any more.
    pub(crate) fn down(&self) {
        self.port.down();
    }

    /// It listens again, on the same port.
    pub(crate) fn up(&self) {
        self.port.up();
    }

    /// The hooks that it took, in the order in which it took them. One whose answer was lost or refused by `code` is taken, one that
    /// was answered with another status, or with nothing, is not.
    pub(crate) fn taken(&self) -> Vec<Request> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// The hooks that it saw and did not take.
    pub(crate) fn not_taken(&self) -> Vec<Request> {
        self.shared.refused.lock().unwrap().clone()
    }

    /// The hooks of this event that it took.
    pub(crate) fn taken_of(&self, event: &str) -> Vec<Request> {
        self.taken().into_iter().filter(|hook| event_of(hook) == event).collect()
    }

    /// Waits until it has taken so many hooks of this event.
    pub(crate) fn wait(&self, event: &str, count: usize) -> Vec<Request> {
        wait_for(&format!("{count} {event} are with the platform"), || self.taken_of(event).len() >= count);
        self.taken_of(event)
    }
}

/// The event of a hook.
pub(crate) fn event_of(hook: &Request) -> &str {
    hook.path().rsplit('/').next().unwrap_or_default()
}

impl Shared {
    fn serve(&self, mut connection: Connection) {
        while let Some(hook) = Request::read(&mut connection.stream) {
            if connection.ending() {
                return;
            }
            if !hook.path().starts_with("/index/hook/") {
                let _ = connection.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let reply = self.reply(event_of(&hook));
            let takes = matches!(&reply, Reply::Bytes(200, _) | Reply::Lost | Reply::Late(..));
            let list = if takes { &self.taken } else { &self.refused };
            list.lock().unwrap().push(hook);
            let (status, body) = match reply {
                Reply::Bytes(status, body) => (status, body),
                Reply::Closed | Reply::Lost => return,
                Reply::Raw(bytes) => {
                    connection.write(&bytes);
                    return;
                }
                Reply::Silence => {
                    connection.stay(Duration::from_secs(3600));
                    return;
                }
                Reply::Late(delay, body) => {
                    if !connection.stay(delay) {
                        return;
                    }
                    (200, body)
                }
            };
            let head = format!(
                "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            if !connection.write(&[head.as_bytes(), &body].concat()) {
                return;
            }
        }
    }

    fn reply(&self, event: &str) -> Reply {
        let mut next = self.next.lock().unwrap();
        if !next.is_empty() {
            return next.remove(0);
        }
        let replies = self.replies.lock().unwrap();
        let told = replies.get(event).or_else(|| replies.get(""));
        told.cloned().unwrap_or_else(|| Reply::json(r#"{"code":0,"msg":"success"}"#))
    }
}
