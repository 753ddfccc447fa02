//! A stand-in for what lies between the guard and its store: it passes requests on, and breaks what it is told to break.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::support::wire::{Answer, Caller, Connection, Port, Request};

const PATIENCE: Duration = Duration::from_secs(60);

/// Which requests a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Any,
    /// Every request after a PUT or a completion was passed on.
    AfterWriting,
    Head,
    /// Reading content.
    Range,
    Put,
    Delete,
    Complete,
}

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Answered with this status and code, and not passed on.
    Refused(u16, &'static str),
    /// Passed on, and the answer is kept back.
    Unanswered,
    /// Passed on, and the connection ends without an answer.
    Unheard,
    /// The second half of the request does not arrive.
    CutUpload,
    /// The second half of the answer does not arrive.
    CutAnswer,
    /// A bit of the request is another one.
    FlippedUpload,
    /// A bit of the answer is another one.
    FlippedAnswer,
    /// The checksum is left out of the answer.
    NoChecksum,
    /// As a real store does, and moto does not: a body that is not what its checksum says is refused, and an object's checksum is said.
    Checksums,
    /// Uploads are listed as begun just now.
    Young,
}

/// What is broken, for which requests and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) on: On,
    pub(super) what: What,
    pub(super) times: u32,
}

/// For ever.
pub(super) const ALWAYS: u32 = u32::MAX;

pub(super) fn fault(on: On, what: What, times: u32) -> Fault {
    Fault { on, what, times }
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    /// Methods and targets of what came.
    seen: Vec<(String, String)>,
    written: bool,
}

/// The stand-in, in front of a store.
pub(super) struct Between {
    port: Port,
    state: Arc<Mutex<State>>,
}

impl Between {
    pub(super) fn before(store: u16) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let port = Port::open(move |mut connection| {
            while let Some(request) = Request::read(&mut connection.stream) {
                if !serve(&mut connection, &request, store, &shared) {
                    return;
                }
            }
        });
        Self { port, state }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    /// From now on this is broken, and nothing else.
    pub(super) fn breaks(&self, faults: &[Fault]) {
        let mut state = self.state.lock().unwrap();
        *state = State { faults: faults.to_vec(), ..State::default() };
    }

    /// How many requests with this method, and this in their target, have come since.
    pub(super) fn seen(&self, method: &str, part: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.seen.iter().filter(|(known, target)| known == method && target.contains(part)).count()
    }
}

impl State {
    /// What is broken for a request.
    fn broken(&mut self, request: &Request) -> Vec<What> {
        let (method, target) = (request.method.as_str(), request.target.as_str());
        let complete = method == "POST" && target.contains("uploadId=");
        self.seen.push((method.to_owned(), target.to_owned()));
        let mut out = Vec::new();
        for fault in &mut self.faults {
            let meant = match fault.on {
                On::Any => true,
                On::AfterWriting => self.written,
                On::Head => method == "HEAD",
                On::Range => method == "GET" && !request.header("range").is_empty(),
                On::Put => method == "PUT",
                On::Delete => method == "DELETE",
                On::Complete => complete,
            };
            if meant && fault.times > 0 {
                fault.times -= 1;
                out.push(fault.what);
            }
        }
        self.written |= complete || (method == "PUT" && !target.contains("partNumber="));
        out
    }
}

fn sha(content: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(content))
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}

/// Serves a request; false if the connection ends with it.
fn serve(connection: &mut Connection, request: &Request, store: u16, state: &Mutex<State>) -> bool {
    let broken = state.lock().unwrap().broken(request);
    let is = |what: What| broken.contains(&what);
    let refusal = broken
        .iter()
        .find_map(|what| if let What::Refused(status, code) = what { Some((*status, *code)) } else { None });
    let mut body = request.body.clone();
    if is(What::FlippedUpload) {
        flip(&mut body);
    }
    let promised = request.header("x-amz-checksum-sha256");
    let mismatch = is(What::Checksums) && !promised.is_empty() && promised != sha(&body);
    if let Some((status, code)) = refusal.or(mismatch.then_some((400, "BadDigest"))) {
        let body =
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{}</Message></Error>", super::KEY.0);
        let body = if request.method == "HEAD" { String::new() } else { body };
        let length = body.len();
        return connection.write(format!("HTTP/1.1 {status} No\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes());
    }
    if is(What::CutUpload) {
        let mut caller = Caller::to(store, PATIENCE).unwrap();
        let _ = caller.send(&head_of(request, body.len()), &body[..body.len() / 2]);
        return false;
    }
    let mut caller = Caller::to(store, PATIENCE).unwrap();
    let mut answer = caller.call_for(&request.method, &head_of(request, body.len()), &body).unwrap();
    if is(What::Unanswered) {
        connection.stay(PATIENCE);
        return false;
    }
    if is(What::Unheard) {
        return false;
    }
    if is(What::Checksums) && request.method == "HEAD" && answer.header("x-amz-checksum-sha256").is_empty() {
        let get = Request { method: "GET".to_owned(), ..request.clone() };
        let content = Caller::to(store, PATIENCE).unwrap().call(&head_of(&get, 0), b"").unwrap().body;
        answer.headers.push(("x-amz-checksum-sha256".to_owned(), sha(&content)));
    }
    if is(What::NoChecksum) {
        answer.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("x-amz-checksum"));
    }
    if is(What::FlippedAnswer) {
        flip(&mut answer.body);
    }
    if is(What::Young) {
        let now = jiff::Timestamp::try_from(crate::support::now()).unwrap().to_string();
        answer.body = answer.text().replace("2010-11-10T20:48:33.000Z", &now).into_bytes();
    }
    let end = if is(What::CutAnswer) { answer.body.len() / 2 } else { answer.body.len() };
    connection.write(&head_of_answer(request, &answer))
        && connection.write(&answer.body[..end])
        && end == answer.body.len()
}

/// The head of a request, as it is passed on.
fn head_of(request: &Request, length: usize) -> String {
    let mut head =
        format!("{} {} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        if !["connection", "content-length", "expect"].contains(&name.to_ascii_lowercase().as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head
}

/// The head of an answer, as it is passed back.
fn head_of_answer(request: &Request, answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} As it was\r\n", answer.status);
    for (name, value) in &answer.headers {
        if !["connection", "content-length", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let length = if request.method == "HEAD" {
        answer.header("content-length").to_owned()
    } else {
        answer.body.len().to_string()
    };
    head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
    head.into_bytes()
}
