//! A connection to a mail server that is listened to in small pieces, with others going first before each. All of an answer is looked
//! at with each of its lines: a server that answers with lines without end would else keep a thread for longer than a send may take.

use std::io::Result;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;

/// Bytes of a piece: most answers are shorter.
const PIECE: u64 = 128;

/// The connection.
#[derive(Debug)]
pub(super) struct Paced {
    stream: Take<TcpStream>,
    /// Others have gone first.
    waited: bool,
}

impl Paced {
    /// Connects to a server.
    pub(super) async fn connect(host: &str, port: u16) -> Result<Self> {
        let stream = TcpStream::connect((host, port)).await?;
        Ok(Self { stream: stream.take(PIECE), waited: false })
    }

    fn inner(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.get_mut())
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if !self.waited {
            self.waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.stream.set_limit(PIECE);
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.waited = read.is_pending();
        read
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.inner().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner().poll_shutdown(context)
    }
}

impl AsyncTokioStream for Paced {
    fn peer_addr(&self) -> Result<SocketAddr> {
        self.stream.get_ref().peer_addr()
    }
}
