//! The stream below the SSH library, which ends when its close handle is dropped. The library's task would live as long as a hostile server
//! keeps it busy; once the handle is dropped it reads and writes nothing but errors, and so it ends. The stream is read no faster than a
//! host has something to say, so a flood costs little and slows down its sender.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::Permit;
use crate::effects::clock;

/// Bytes that may come at once. A host answers with kilobytes.
const BURST: usize = 1 << 20;
/// Bytes per second after that.
const PER_SECOND: usize = 512 << 10;
/// Time between checks of a stream that has used up its share.
const PAUSE: Duration = Duration::from_millis(100);

/// How many bytes may be read now.
struct Share {
    left: usize,
    since: Instant,
    free: Arc<AtomicBool>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Share {
    /// Pending while nothing may be read.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            if self.free.load(Ordering::Relaxed) {
                return Poll::Ready(BURST);
            }
            if self.left > 0 {
                return Poll::Ready(self.left);
            }
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
            let now = clock::monotonic();
            let gone = usize::try_from(now.duration_since(self.since).as_millis()).unwrap_or(usize::MAX);
            self.left = gone.saturating_mul(PER_SECOND / 1000).clamp(1, BURST);
            self.since = now;
        }
    }
}

/// Bytes that we sent so far, and those that came over a stream that is read as fast as it comes.
pub(super) type Moved = Arc<AtomicU64>;

pub(super) struct ThrottledStream<S> {
    stream: S,
    share: Share,
    moved: Moved,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// After the stream in the order of fields, so that the stream is closed when this is dropped.
    _permit: Option<Permit>,
}

/// Cuts its stream when it is dropped.
pub(super) struct CloseHandle {
    _cut: DropGuard,
    free: Arc<AtomicBool>,
}

impl CloseHandle {
    /// From now on the stream is read as fast as it comes: it carries more than a host's answers (a repository, other connections).
    pub fn free(&self) {
        self.free.store(true, Ordering::Relaxed);
    }
}

/// `permit` is dropped once the stream is closed.
pub(super) fn throttled<S>(stream: S, permit: Option<Permit>, moved: Moved) -> (ThrottledStream<S>, CloseHandle) {
    let cut = CancellationToken::new();
    let share = Share { left: BURST, since: clock::monotonic(), free: Arc::default(), pause: None };
    let free = share.free.clone();
    let stream =
        ThrottledStream { stream, share, moved, cut: Box::pin(cut.clone().cancelled_owned()), _permit: permit };
    (stream, CloseHandle { _cut: cut.drop_guard(), free })
}

impl<S> ThrottledStream<S> {
    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.cut.as_mut().poll(cx).is_ready()
    }
}

fn over<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "we ended the connection")))
}

impl<S: AsyncRead + Unpin> AsyncRead for ThrottledStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return over();
        }
        let most = ready!(self.share.poll(cx)).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let n = part.filled().len();
        buffer.advance(n);
        self.share.left = self.share.left.saturating_sub(n);
        // What a host sends unasked does not count.
        if self.share.free.load(Ordering::Relaxed) {
            self.moved.fetch_add(n as u64, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ThrottledStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut(cx) {
            return over();
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.moved.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return over();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return over();
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_flood_is_read_no_faster_than_its_share() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut line, _close_handle) = throttled(near, None, Moved::default());
        tokio::spawn(async move { while far.write_all(&[0; 65536]).await.is_ok() {} });
        let began = clock::monotonic();
        let (mut heard, mut all) = (vec![0; 65536], 0);
        while all < BURST + PER_SECOND {
            all += line.read(&mut heard).await.unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_dropped_close_handle_ends_reads_and_writes_and_gives_the_permit_back() {
        let (near, mut far) = tokio::io::duplex(16);
        let gone = CancellationToken::new();
        let (mut line, close_handle) = throttled(near, Some(Box::new(gone.clone().drop_guard())), Moved::default());
        far.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        line.read_exact(&mut heard).await.unwrap();
        let waiting = tokio::spawn(async move {
            let read = line.read_u8().await.unwrap_err().kind();
            (read, line.write_all(&[0; 100]).await.unwrap_err().kind())
        });
        tokio::task::yield_now().await;
        assert!(!gone.is_cancelled());
        drop(close_handle);
        let aborted = io::ErrorKind::ConnectionAborted;
        assert_eq!(waiting.await.unwrap(), (aborted, aborted));
        gone.cancelled().await;
        assert_eq!(far.read(&mut heard).await.unwrap(), 0);
    }
}
