//! Nothing that deletes gets past us, in whatever spelling and wherever it hides (faults 4, 99, 101).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storage_guard::server::Limits;

use super::{Front, SECRET, SOON};
use crate::support::wire::{Connection, Port};

/// A media server that remembers every byte, and answers each request head that it finds in them.
fn recording() -> (Port, Arc<Mutex<Vec<u8>>>) {
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let noted = seen.clone();
    let port = Port::open(move |mut connection: Connection| {
        while let Some(byte) = connection.read(1) {
            let mut seen = noted.lock().unwrap();
            seen.extend(byte);
            if seen.ends_with(b"\r\n\r\n") {
                connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
            }
        }
    });
    (port, seen)
}

/// Sends bytes, and reads until the gateway closes.
fn raw(front: &Front, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", front.port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // It may have answered and closed before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let _ = stream.shutdown(Shutdown::Both);
    String::from_utf8_lossy(&answer).into_owned()
}

fn quick() -> Limits {
    Limits { connections: 64, per_peer: 64, header_read: Duration::from_millis(300), ..Limits::default() }
}

#[test]
fn no_spelling_of_a_deletion_reaches_the_media_server() {
    let (server, seen) = recording();
    let front = Front::with(server.number(), quick());
    let good = format!("secret={SECRET}&vhost=v&app=live&stream=a");
    let check = |first: &str, more: &str, expected: &[&str]| {
        let answer = raw(&front, format!("{first} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n").as_bytes());
        assert!(expected.iter().any(|part| answer.contains(part)), "{first} {more}: {answer}");
        let seen = String::from_utf8_lossy(&seen.lock().unwrap()).to_ascii_lowercase();
        assert!(seen.is_empty(), "{first} {more} reached it: {seen}");
    };
    let ours = "\"code\": 0";
    let refused = "\"code\": -300";
    for path in
        ["/index/api/deleteRecordDirectory", "/INDEX/API/deleterecorddirectory", "/index/api/delete%52ecordDirectory"]
    {
        check(&format!("GET {path}?{good}"), "", &[ours]);
        assert_eq!(front.asked().len(), 1);
    }
    for path in [
        "/index/api/deleteRecordDirectory/",
        "//index/api/deleteRecordDirectory",
        "/index/./api/deleteRecordDirectory",
        "/a/../index/api/deleteRecordDirectory",
        "/index/api/delete%2552ecordDirectory",
        "/index/api/deleteRecordDirectory;a",
        "/index/api/deleteRecordDirectory%20",
    ] {
        check(&format!("GET {path}?{good}"), "", &[refused]);
    }
    for method in ["PUT", "DELETE", "HEAD", "PATCH", "TRACE", "get"] {
        check(&format!("{method} /index/api/deleteRecordDirectory?{good}"), "", &[refused, "200 OK", "400"]);
    }
    let path = format!("GET /index/api/deleteRecordDirectory?{good}");
    // Clients that would rather speak HTTP/2 say so with every request.
    check(&path, "Connection: Upgrade\r\nUpgrade: h2c\r\n", &[ours]);
    assert_eq!(front.asked().len(), 1);
    check(&path, "Sec-WebSocket-Key: x\r\n", &[refused]);
    check(&path, "customized_path: /etc\r\n", &[refused]);
    check(&path, "Period: ../victim\r\n", &[refused]);
    check(&format!("{path}&stream=b"), "", &[refused]);
    check(&format!("{path}&STREAM=b"), "", &[refused]);
    check(&format!("GET /index/api/deleteRecordDirectory%00?{good}"), "", &["400"]);
    check(&format!("GET http://zlm/index/api/deleteRecordDirectory?{good}"), "", &["400"]);
    check("GET /index/api/deleteRecordDirectory?vhost=v&app=live&stream=a", "", &["\"code\": -100"]);
    check(&format!("GET /index/api/deleteRecordDirectory?secret={SECRET}"), "", &["Required parameter missed"]);
    assert!(front.asked().is_empty());
}

/// Fault 101.
#[test]
fn nothing_hides_behind_a_request() {
    let (server, seen) = recording();
    let front = Front::with(server.number(), quick());
    let hidden = format!(
        "GET /index/api/deleteRecordDirectory?secret={SECRET}&vhost=v&app=live&stream=a HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    let check = |bytes: &str, expected: &[&str]| {
        seen.lock().unwrap().clear();
        let answer = raw(&front, bytes.as_bytes());
        let first = answer.lines().next().unwrap_or_default().to_owned();
        let shown: String = bytes.chars().take(300).collect();
        assert!(expected.iter().any(|status| first.contains(status)), "{shown:?}: {answer:?}");
        let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
        // A body may hold it, as long as its head says how long the body is.
        let head = seen.split("\r\n\r\n").next().unwrap_or_default();
        assert!(!head.contains("deleteRecord"), "{bytes:?}: {seen}");
        let behind = seen.split_once("\r\n\r\n").is_some_and(|(_, body)| body.contains("deleteRecord"));
        assert!(
            !behind || head.to_ascii_lowercase().contains(&format!("content-length: {}", hidden.len())),
            "{bytes:?}: {seen}"
        );
    };
    let host = "Host: a\r\nConnection: close\r\n";
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    // Two lengths: whichever is meant, what follows is read by us, or not at all.
    check(
        &format!("POST /x HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        &["200", "400"],
    );
    check(
        &format!("POST /x HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        &["200", "400"],
    );
    check(&format!("POST /x HTTP/1.1\r\n{host}Content-Length: 0\r\nContent-Length: 9\r\n\r\n{hidden}"), &["400"]);
    check(&format!("POST /x HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n{chunk}"), &["400"]);
    check(&format!("POST /x HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n{chunk}"), &["400"]);
    // The media server takes such a body for requests.
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        check(&format!("{method} /x HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{chunk}"), &["411"]);
    }
    check(&format!("GET /x HTTP/1.1\r\n{host}Content-Length: {}\r\n\r\n{hidden}", hidden.len()), &["200"]);
    // What changes the protocol has no body, or the media server reads on.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
    check(
        &format!("GET /x HTTP/1.1\r\nHost: a\r\n{upgrade}Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
        &["400"],
    );
    check(&format!("GET /x HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n{hidden}"), &["200"]);
    check(&format!("GET /x HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: x\r\n\r\n{hidden}"), &["400"]);
    check(
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
        &["200"],
    );
    // Line ends and forms that two programs read in two ways.
    check(&format!("GET /x HTTP/1.1\nHost: a\nConnection: close\n\n{hidden}"), &["200", "400"]);
    check(
        &format!("GET /x HTTP/1.1\r\nHost: a\r\nX: y\rGET /index/api/deleteRecordDirectory HTTP/1.1\r\n{host}\r\n"),
        &["400"],
    );
    check(&format!("GET /x HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n{hidden}"), &["400"]);
    check(&format!("GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n z: {hidden}"), &["400"]);
    check("GET /x\r\n\r\n", &["400"]);
    check(&format!("GET http://zlm/x HTTP/1.1\r\n{host}\r\n"), &["400"]);
    check(&format!("GET /x HTTP/1.1\r\n{host}Host: b\r\n\r\n"), &["400"]);
    check(&format!("CONNECT zlm:80 HTTP/1.1\r\n{host}\r\n"), &["400"]);
    check(&format!("OPTIONS * HTTP/1.1\r\n{host}\r\n"), &["400"]);
    check(&format!("GET /a%0d%0ab HTTP/1.1\r\n{host}\r\n"), &["400"]);
    check(&format!("GET /x HTTP/1.1\r\n{host}X: {}\r\n\r\n", "y".repeat(300_000)), &["431"]);
    // Requests one after the other on one connection are each read by us.
    front.asked();
    let both =
        format!("GET /x HTTP/1.1\r\nHost: a\r\n\r\n{}", hidden.replace("Host: a", "Host: a\r\nConnection: close"));
    check(&both, &["200"]);
    assert_eq!(front.asked().len(), 1);
}

/// Fault 99.
#[test]
fn who_sends_a_head_slowly_loses_the_connection_and_keeps_nobody_waiting() {
    let (server, _) = recording();
    let front = Front::with(server.number(), quick());
    let mut slow: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(("127.0.0.1", front.port)).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /x HTTP/1.1\r\nHost:").unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
    }
    assert_eq!(front.caller().get("/x").unwrap().status, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok(), "it is closed");
    }
}
