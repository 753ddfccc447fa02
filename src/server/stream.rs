//! A connection's bytes: writes must make progress, and the peer gets to read the last answer.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// What is still read of a request that was answered before its end.
const LEFTOVER: u64 = 256 << 10;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// A stream whose peer must take what is written: a write that makes no progress for too long fails. Whoever waits at the other end of
/// `open` learns when it is dropped, whoever has it by then.
#[derive(Debug)]
pub(super) struct Progressing<T> {
    stream: T,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    _open: oneshot::Sender<()>,
}

impl<T> Progressing<T> {
    pub(super) fn new(stream: T, patience: Duration, open: oneshot::Sender<()>) -> Self {
        Self { stream, patience, stalled: None, _open: open }
    }

    /// Passes on a write's result, and counts the time while there is none.
    fn watch<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Progressing<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Progressing<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Ends a connection so that the peer can read the last answer: closing with unread bytes would reset it.
pub(super) async fn part<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T) {
    // The peer may be gone; there is nobody to tell then.
    let _ = timeout(PATIENCE, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LEFTOVER), &mut tokio::io::sink()).await
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (ours, theirs) = tokio::io::duplex(64);
        let mut stream = Progressing::new(ours, Duration::from_millis(20), oneshot::channel().0);
        let error = stream.write_all(&[7; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    #[tokio::test]
    async fn a_peer_that_takes_it_bit_by_bit_is_served() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = Progressing::new(ours, Duration::from_millis(500), oneshot::channel().0);
        let reader = tokio::spawn(async move {
            let mut taken = 0;
            let mut bit = [0; 50];
            while taken < 1000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                taken += theirs.read(&mut bit).await.unwrap();
            }
            taken
        });
        stream.write_all(&[7; 1000]).await.unwrap();
        assert_eq!(reader.await.unwrap(), 1000);
    }
}
