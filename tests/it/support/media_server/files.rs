//! What ZLMediaKit serves beside its API: recordings, a live stream without an end, and WebSockets.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use crate::support::wire::{Connection, Request};

/// What every WebSocket server adds to the key that it was given.
const GREETING: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What a live stream sends, again and again.
pub(crate) const LIVE: &[u8] = b"FLV\x01 a live stream has no end ";

/// Serves a file whole, or the range that is asked for; it is held open as long as that lasts. `None`: there is no such file.
pub(super) fn file(connection: &mut Connection, request: &Request, root: &Path) -> Option<bool> {
    let below = request.path().trim_start_matches('/');
    if below.split('/').any(|part| part == "..") {
        return None;
    }
    let mut file =
        File::open(root.join(below)).ok().filter(|file| file.metadata().is_ok_and(|about| about.is_file()))?;
    let size = file.metadata().unwrap().len();
    let range = request.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let (from, until) = range.map_or((0, size), |(from, until)| {
        (from.parse().unwrap_or(0), until.parse::<u64>().map_or(size, |last| (last + 1).min(size)))
    });
    let head = match range {
        None => "200 OK\r\n".to_owned(),
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}\r\n", until - 1),
    };
    let length = until - from;
    let head = format!(
        "HTTP/1.1 {head}Connection: keep-alive\r\nContent-Length: {length}\r\nContent-Type: video/mp4\r\n\
         Keep-Alive: timeout=30, max=100\r\n\r\n"
    );
    file.seek(SeekFrom::Start(from)).unwrap();
    let mut left = length;
    let mut going = connection.write(head.as_bytes());
    while going && left > 0 {
        let mut part = vec![0; usize::try_from(left.min(65536)).unwrap()];
        file.read_exact(&mut part).unwrap();
        left -= part.len() as u64;
        going = connection.write(&part);
    }
    Some(going)
}

/// A live stream, in chunks, until somebody ends it.
pub(super) fn live(connection: &mut Connection) {
    let head =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: video/x-flv\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [format!("{:x}\r\n", LIVE.len()).as_bytes(), LIVE, b"\r\n"].concat();
    let mut going = connection.write(head.as_bytes());
    while going {
        going = connection.write(&chunk) && connection.stay(Duration::from_millis(20));
    }
}

/// Agrees to a WebSocket, and sends back every message that comes, until it is closed.
pub(super) fn websocket(connection: &mut Connection, request: &Request) {
    let key = Sha1::digest(format!("{}{GREETING}", request.header("sec-websocket-key")));
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        STANDARD.encode(key)
    );
    connection.write(head.as_bytes());
    while echo(connection).is_some() {}
}

/// Short messages only, which is what tests send.
fn echo(connection: &mut Connection) -> Option<()> {
    let head = connection.read(2)?;
    let (opcode, length) = (head[0], usize::from(head[1] & 0x7f));
    assert!(length < 126 && head[1] & 0x80 != 0, "a client sends masked messages, and in tests short ones");
    let mask = connection.read(4)?;
    let payload = connection.read(length)?;
    let plain: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    connection.write(&[&[opcode, u8::try_from(length).unwrap()], plain.as_slice()].concat()).then_some(())?;
    // A close ends it.
    (opcode & 0x0f != 8).then_some(())
}
