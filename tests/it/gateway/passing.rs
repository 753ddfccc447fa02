//! What is not ours passes, in both directions, as it comes.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storage_guard::domain::media::GatewayResult;
use storage_guard::server::Limits;

use super::{Front, SOON};
use crate::support::wire::{Connection, Port, Request};
use crate::support::{pause, wait_for};

/// Bytes of a long body.
const LONG: usize = 4 << 20;

/// A media server that answers every request of a connection with these bytes, and remembers them.
fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> (Port, Arc<Mutex<Vec<Request>>>) {
    let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
    let noted = seen.clone();
    let port = Port::open(move |mut connection: Connection| {
        while let Some(request) = Request::read(&mut connection.stream) {
            let bytes = answer(&request);
            let last = request.header("connection") == "close";
            noted.lock().unwrap().push(request);
            if !connection.write(&bytes) || last {
                return;
            }
        }
    });
    (port, seen)
}

fn noise() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(LONG).collect()
}

/// Reads a message: its head, and its body, of which it tells once so many bytes are there.
fn in_parts(from: &mut BufReader<TcpStream>, first: usize, mut told: impl FnMut(&[u8])) -> (String, Vec<u8>) {
    let line = |from: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        line
    };
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head += &line(from);
    }
    let head = head.to_ascii_lowercase();
    let chunked = head.contains("transfer-encoding: chunked");
    let length: Option<usize> =
        head.split("content-length: ").nth(1).map(|rest| rest.split('\r').next().unwrap().parse().unwrap());
    let (mut body, mut waits) = (Vec::new(), true);
    loop {
        let size = match (chunked, length) {
            (true, _) => usize::from_str_radix(line(from).trim(), 16).unwrap(),
            (false, Some(length)) => usize::min(length - body.len(), 4096),
            (false, None) => 4096,
        };
        let before = body.len();
        Read::by_ref(from).take(size as u64).read_to_end(&mut body).unwrap();
        if chunked {
            line(from);
        }
        if waits && body.len() >= first {
            waits = false;
            told(&body);
        }
        if body.len() == before {
            return (head, body);
        }
    }
}

/// Takes what comes for a while, one after the other.
fn shared<T: Send>() -> (Sender<T>, Mutex<Receiver<T>>) {
    let (send, receive) = channel();
    (send, Mutex::new(receive))
}

#[test]
fn requests_and_answers_pass_as_they_are_but_for_what_belongs_to_a_connection() {
    let (server, seen) = answering(|request| match request.path() {
        "/absent" => {
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nKeep-Alive: timeout=30, max=100\r\nX-Mine: 1\r\n\r\n<a/>"
                .to_vec()
        }
        "/part" => {
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/9\r\nContent-Length: 2\r\n\r\nbc".to_vec()
        }
        "/none" => b"HTTP/1.1 204 No Content\r\nETag: \"x\"\r\n\r\n".to_vec(),
        _ => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nSet-Cookie: ZLM=1\r\nSet-Cookie: B=2\r\n\r\n{}",
            request.body.len(),
            request.text()
        )
        .into_bytes(),
    });
    let front = Front::before(&server);
    let mut caller = front.caller();
    let head = "POST /index/api/getMediaList?secret=x%2Fy&a=b%20c&&d HTTP/1.1\r\nHost: zlm.lan:80\r\nX-Odd-Case: Yes\r\nX-Odd-Case: No\r\n\
                Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\nContent-Length: 5\r\n";
    let answer = caller.call(head, b"a=b&c").unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.header("set-cookie")), (200, "a=b&c", "ZLM=1"));
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "Set-Cookie").count(), 2, "{answer:?}");
    let absent = caller.get("/absent").unwrap();
    assert_eq!((absent.status, absent.text().as_str(), absent.header("x-mine")), (404, "<a/>", "1"));
    assert_eq!(absent.header("keep-alive"), "");
    let part = caller.call("GET /part HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n", b"").unwrap();
    assert_eq!((part.status, part.text().as_str(), part.header("content-range")), (206, "bc", "bytes 1-2/9"));
    caller.send("HEAD /index/api/version HTTP/1.1\r\nHost: a\r\n", b"").unwrap();
    let seen_of = |path: &str| seen.lock().unwrap().iter().find(|request| request.path() == path).cloned().unwrap();
    wait_for("it came", || seen.lock().unwrap().len() == 4);
    let first = seen_of("/index/api/getMediaList");
    assert_eq!(
        (first.method.as_str(), first.target.as_str()),
        ("POST", "/index/api/getMediaList?secret=x%2Fy&a=b%20c&&d")
    );
    let names: Vec<&str> = first.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Host", "X-Odd-Case", "X-Odd-Case", "Content-Length", "Connection"], "{first:?}");
    assert_eq!((first.header("host"), first.header("connection")), ("zlm.lan:80", "close"));
    assert_eq!(seen_of("/part").header("range"), "bytes=1-2");
    let none = front.caller().call("GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", b"").unwrap();
    assert_eq!((none.status, none.header("etag"), none.body.len()), (204, "\"x\"", 0));
    assert!(front.results().iter().all(|result| *result == GatewayResult::Passed));
}

/// A download, and a live stream whose end nobody knows: what is there is passed on before the rest is made.
#[test]
fn an_answer_is_passed_on_while_it_is_made() {
    for (version, head, chunked, kept) in [
        ("HTTP/1.1", format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"), false, true),
        ("HTTP/1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), true, true),
        ("HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n".to_owned(), false, true),
        ("HTTP/1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), true, false),
    ] {
        let (go_on, waits) = shared();
        let bytes = noise();
        let whole = bytes.clone();
        let what = format!("{version} {head}");
        let server = Port::open(move |mut connection: Connection| {
            Request::read(&mut connection.stream).unwrap();
            connection.write(head.as_bytes());
            for (at, part) in whole.chunks(LONG / 2).enumerate() {
                if at == 1 && waits.lock().unwrap().recv_timeout(SOON).is_err() {
                    return;
                }
                if chunked {
                    connection.write(format!("{:x}\r\n", part.len()).as_bytes());
                }
                connection.write(part);
                if chunked {
                    connection.write(b"\r\n");
                }
            }
            if chunked {
                connection.write(b"0\r\n\r\n");
            }
        });
        let front = Front::before(&server);
        let mut stream = front.stream();
        write!(stream.get_mut(), "GET /live/cam.live.flv {version}\r\nHost: a\r\n\r\n").unwrap();
        let (head, body) = in_parts(&mut stream, LONG / 2, |_| go_on.send(()).unwrap());
        assert!(head.starts_with(&format!("{} 200", version.to_ascii_lowercase())), "{what}: {head}");
        assert_eq!(head.contains("transfer-encoding"), kept && !what.contains("Content-Length"), "{what}: {head}");
        assert!(body == bytes, "{what}: {}", body.len());
    }
}

#[test]
fn a_request_is_passed_on_while_it_is_sent() {
    for chunked in [false, true] {
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let bytes = noise();
        let server = Port::open(move |mut connection: Connection| {
            let tell = tell.lock().unwrap().clone();
            let (head, body) =
                in_parts(&mut connection.stream, LONG / 2, |half| tell.send((false, half.to_vec())).unwrap());
            assert_eq!(head.contains("transfer-encoding"), chunked, "{head}");
            tell.send((true, body)).unwrap();
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        let front = Front::before(&server);
        let mut stream = front.stream();
        let length = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {LONG}") };
        write!(stream.get_mut(), "POST /index/api/upload HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n").unwrap();
        let mut sending = stream.get_ref().try_clone().unwrap();
        let mut send = |part: &[u8]| {
            if chunked {
                write!(sending, "{:x}\r\n", part.len()).unwrap();
            }
            sending.write_all(part).unwrap();
            if chunked {
                sending.write_all(b"\r\n").unwrap();
            }
        };
        send(&bytes[..LONG / 2]);
        let (whole, half) = told.recv_timeout(SOON).unwrap();
        assert!(!whole && half == bytes[..LONG / 2], "the first half is there before the second is sent");
        send(&bytes[LONG / 2..]);
        if chunked {
            send(b"");
        }
        let (whole, body) = told.recv_timeout(SOON).unwrap();
        assert!(whole && body == bytes);
        assert_eq!(in_parts(&mut stream, 2, |_| {}).1, b"ok");
    }
}

#[test]
fn a_websocket_carries_both_directions_until_either_side_leaves() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let server = Port::open(move |mut connection: Connection| {
        let tell = tell.lock().unwrap().clone();
        let Some(request) = Request::read(&mut connection.stream) else { return };
        tell.send(format!("{}|{}", request.header("connection"), request.header("upgrade"))).unwrap();
        connection.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\nfirst");
        while let Some(bytes) = connection.read(4) {
            if bytes == b"quit" {
                return;
            }
            connection.write(&bytes.repeat(1000));
        }
        tell.send("the viewer left".to_owned()).unwrap();
    });
    let limits = Limits { connections: 1, per_peer: 1, header_read: Duration::from_millis(200), ..Limits::default() };
    let front = Front::with(server.number(), limits);
    let head = "GET /live/cam.live.flv HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n";
    let watch = || {
        // The place of the one before is free once both sides are closed.
        let mut caller = front.caller();
        let mut answer = caller.call(head, b"");
        wait_for("there is a place", || {
            if answer.is_err() {
                caller = front.caller();
                answer = caller.call(head, b"");
            }
            answer.is_ok()
        });
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.header("sec-websocket-accept")), (101, "y"));
        assert_eq!((answer.header("connection"), answer.header("upgrade")), ("Upgrade", "websocket"));
        assert_eq!(answer.header("content-length"), "");
        assert_eq!(told.recv_timeout(SOON).unwrap(), "Upgrade|websocket");
        assert_eq!(caller.bytes(5).unwrap(), b"first");
        caller
    };
    let mut caller = watch();
    // It says nothing for longer than a head may take.
    pause(Duration::from_millis(500));
    for turn in 0..3 {
        let sent = format!("{turn:04}");
        caller.write(sent.as_bytes()).unwrap();
        assert_eq!(caller.bytes(4000).unwrap(), sent.repeat(1000).as_bytes());
    }
    assert!(front.caller().call(head, b"").is_err(), "it counts as a connection for as long as it lasts");
    caller.write(b"quit").unwrap();
    assert!(caller.closed());
    drop(watch());
    assert_eq!(told.recv_timeout(SOON).unwrap(), "the viewer left");
}

#[test]
fn who_leaves_takes_the_stream_along() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let server = Port::open(move |mut connection: Connection| {
        let tell = tell.lock().unwrap().clone();
        Request::read(&mut connection.stream).unwrap();
        connection.write(b"HTTP/1.1 200 OK\r\n\r\nlive");
        // Nothing more is sent: only the other side's end tells.
        tell.send(connection.read(1).is_none()).unwrap();
    });
    let front = Front::before(&server);
    let mut stream = front.stream();
    write!(stream.get_mut(), "GET /live/cam.live.flv HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut first = [0; 20];
    stream.read_exact(&mut first).unwrap();
    drop(stream);
    assert_eq!(told.recv_timeout(SOON), Ok(true));
}

/// Some of its answers say that the connection is kept, and it is closed all the same.
#[test]
fn a_media_server_that_closes_or_is_gone_costs_one_answer_at_most() {
    let server = Port::open(|mut connection: Connection| {
        let request = Request::read(&mut connection.stream).unwrap();
        match request.path() {
            "/drop" => {}
            "/half" => drop(connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")),
            _ => drop(connection.write(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}")),
        }
    });
    let front = Front::before(&server);
    let mut caller = front.caller();
    for _ in 0..20 {
        assert_eq!(caller.get("/index/api/isRecording").unwrap().text(), "{}");
    }
    let dropped = caller.get("/drop").unwrap();
    assert_eq!((dropped.status, dropped.json()["code"].clone()), (502, (-1).into()));
    assert_eq!(caller.get("/index/api/version").unwrap().status, 200, "it goes on");
    assert!(front.caller().get("/half").is_err(), "what is not whole does not look whole");
    server.down();
    let down = caller.get("/index/api/version").unwrap();
    assert_eq!((down.status, down.json()["code"].clone()), (502, (-1).into()));
    let msg = down.json()["msg"].as_str().unwrap().to_owned();
    assert!(msg.contains(&format!("127.0.0.1:{}", server.number())), "{msg}");
    server.up();
    assert_eq!(caller.get("/index/api/version").unwrap().status, 200);
    let results = front.results();
    assert_eq!(results.iter().filter(|result| **result == GatewayResult::Unanswered).count(), 2, "{results:?}");
}
