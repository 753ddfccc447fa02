//! A connection to a mail server that is heard line by line, and not without end.
//!
//! What a server says after a line stays with us until somebody wants it. Else the mailer keeps it: words that came readable, and so
//! from anybody, behind the answer to STARTTLS would be taken for answers of the encrypted conversation. Here they come to whoever
//! reads next, who speaks TLS and ends the conversation. And since all of an answer is looked at again with each of its lines, one
//! without end would keep a thread for longer than a send may take.

use std::io::Result;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader, ReadBuf, Take};
use tokio::net::TcpStream;

/// More is not heard in one conversation; it then ends as if the server had closed it.
const MOST: u64 = 64 * 1024;

/// The connection.
#[derive(Debug)]
pub(super) struct Bounded(Take<BufReader<TcpStream>>);

impl Bounded {
    /// Connects to one of these addresses.
    pub(super) async fn connect(server: &[SocketAddr]) -> Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(server).await?).take(MOST)))
    }

    fn inner(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.0.get_mut().get_mut())
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let heard = ready!(Pin::new(&mut self.0).poll_fill_buf(context))?;
        let line = heard.iter().position(|byte| *byte == b'\n').map_or(heard.len(), |end| end + 1);
        let taken = line.min(buffer.remaining());
        buffer.put_slice(&heard[..taken]);
        Pin::new(&mut self.0).consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
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

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> Result<SocketAddr> {
        self.0.get_ref().get_ref().peer_addr()
    }
}
