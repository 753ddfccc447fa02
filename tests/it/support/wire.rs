//! HTTP on raw sockets, for stand-ins that must behave, and misbehave, as the real ones do; a thread for each connection.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{pause, wait_for};

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The path without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A header, empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// What it says in its query, its form, or its JSON.
    pub(crate) fn arguments(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let mut form = |text: &str| {
            for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
                out.insert(decoded(name), decoded(value));
            }
        };
        form(self.target.split_once('?').map_or("", |(_, query)| query));
        if self.header("content-type").starts_with("application/json") {
            let body = serde_json::from_slice(&self.body).unwrap_or_default();
            if let serde_json::Value::Object(fields) = body {
                let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                out.extend(fields.iter().map(|(name, value)| (name.clone(), text(value))));
            }
        } else {
            form(&self.text());
        }
        out
    }

    /// The next request of a connection, if it has one.
    pub(crate) fn read(from: &mut BufReader<TcpStream>) -> Option<Self> {
        let (first, headers) = head(from).ok()?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        if header(&headers, "expect") == "100-continue" {
            from.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let body = body(from, &headers, false).ok()?;
        Some(Self { method, target, headers, body })
    }
}

/// One answer, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> &'h str {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

fn line(from: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    match from.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

fn head(from: &mut BufReader<TcpStream>) -> io::Result<(String, Vec<(String, String)>)> {
    let first = line(from)?;
    let mut headers = Vec::new();
    loop {
        let next = line(from)?;
        let Some((name, value)) = next.split_once(':') else { return Ok((first, headers)) };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// The body that these headers announce; without an announcement, what comes until the end, or nothing.
fn body(from: &mut BufReader<TcpStream>, headers: &[(String, String)], until_end: bool) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if header(headers, "transfer-encoding").eq_ignore_ascii_case("chunked") {
        loop {
            let size = usize::from_str_radix(&line(from)?, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let start = body.len();
            body.resize(start + size, 0);
            from.read_exact(&mut body[start..])?;
            line(from)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    if let Ok(length) = header(headers, "content-length").parse() {
        body.resize(length, 0);
        from.read_exact(&mut body)?;
    } else if until_end {
        from.read_to_end(&mut body)?;
    }
    Ok(body)
}

/// A connection to a server, used again as long as both sides let it be.
pub(crate) struct Caller(BufReader<TcpStream>);

impl Caller {
    pub(crate) fn to(port: u16, within: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(within))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request and reads its answer.
    pub(crate) fn call(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        self.call_for("", head, body)
    }

    /// The same for a method, since the answer to HEAD has no body.
    pub(crate) fn call_for(&mut self, method: &str, head: &str, body: &[u8]) -> io::Result<Answer> {
        self.send(head, body)?;
        let (first, headers) = self::head(&mut self.0)?;
        let status =
            first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let bodiless = method == "HEAD" || status == 204;
        let body = if bodiless { Vec::new() } else { self::body(&mut self.0, &headers, status != 101)? };
        Ok(Answer { status, headers, body })
    }

    /// Sends a request whose answer has no end, or never comes.
    pub(crate) fn send(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        self.write(&[format!("{head}\r\n").as_bytes(), body].concat())
    }

    /// Sends bytes of another protocol.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    pub(crate) fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.call(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n"), b"")
    }

    /// The next bytes, as many as are wanted.
    pub(crate) fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The other side has closed it, and said nothing more.
    pub(crate) fn closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

/// A connection that a stand-in serves.
pub(crate) struct Connection {
    pub(crate) stream: BufReader<TcpStream>,
    closing: Arc<AtomicBool>,
}

impl Connection {
    /// Waits for so long, or until the stand-in ends; false then.
    pub(crate) fn stay(&self, span: Duration) -> bool {
        let step = Duration::from_millis(10);
        for _ in 0..span.as_millis().div_ceil(step.as_millis()) {
            if self.ending() {
                return false;
            }
            pause(step);
        }
        !self.ending()
    }

    pub(crate) fn ending(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    pub(crate) fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).is_ok().then_some(bytes)
    }
}

type Serve = dyn Fn(Connection) + Send + Sync;

/// A port of a stand-in, which can be closed and opened again.
pub(crate) struct Port {
    number: u16,
    serve: Arc<Serve>,
    open: Mutex<Option<Open>>,
}

struct Open {
    closing: Arc<AtomicBool>,
    streams: Arc<Mutex<HashMap<u64, TcpStream>>>,
    acceptor: JoinHandle<()>,
}

impl Port {
    /// Opens a port that nobody has.
    pub(crate) fn open(serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let port = Self { number, serve: Arc::new(serve), open: Mutex::new(None) };
        port.accept(listener);
        port
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Opens it again, after `down`.
    pub(crate) fn up(&self) {
        if self.open.lock().unwrap().is_some() {
            return;
        }
        let mut listener = None;
        wait_for("the stand-in has its port again", || {
            listener = TcpListener::bind(("127.0.0.1", self.number)).ok();
            listener.is_some()
        });
        self.accept(listener.unwrap());
    }

    /// Closes it and all its connections: who comes now is refused.
    pub(crate) fn down(&self) {
        let Some(open) = self.open.lock().unwrap().take() else { return };
        open.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.number));
        let _ = open.acceptor.join();
        for stream in open.streams.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn accept(&self, listener: TcpListener) {
        let (closing, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashMap::new())));
        let (serve, last) = (self.serve.clone(), AtomicU64::new(0));
        let (ending, known) = (closing.clone(), streams.clone());
        let acceptor = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.set_nodelay(true);
                let id = last.fetch_add(1, Ordering::SeqCst);
                known.lock().unwrap().insert(id, stream.try_clone().unwrap());
                let (serve, known, closing) = (serve.clone(), known.clone(), ending.clone());
                std::thread::spawn(move || {
                    let _forgotten = Forgotten { id, known };
                    serve(Connection { stream: BufReader::new(stream), closing });
                });
            }
        });
        *self.open.lock().unwrap() = Some(Open { closing, streams, acceptor });
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.down();
    }
}

/// Closes a connection when its thread ends, however it ends.
struct Forgotten {
    id: u64,
    known: Arc<Mutex<HashMap<u64, TcpStream>>>,
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        if let Ok(mut known) = self.known.lock()
            && let Some(stream) = known.remove(&self.id)
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
