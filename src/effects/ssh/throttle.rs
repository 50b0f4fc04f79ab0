//! The stream below the SSH library, with a switch of ours. The library's task would live as long as a hostile server keeps it busy;
//! when the switch is dropped it reads and writes nothing but errors, and so it ends. And it is read no faster than any host of ours has
//! something to say: whoever floods us costs little, and waits himself.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use crate::effects::clock;

/// A host answers with kilobytes. So much may come at once, and so much per second.
const BURST: usize = 1 << 20;
const PER_SECOND: usize = 512 << 10;
/// How often a line that has used up its share is looked at again.
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

pub(super) struct ThrottledStream<S> {
    stream: S,
    share: Share,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// After the stream in the order of fields, so that it is closed when this is dropped.
    _gone: DropGuard,
}

/// Cuts its line when it is dropped.
pub(super) struct CloseHandle {
    _cut: DropGuard,
    gone: CancellationToken,
    free: Arc<AtomicBool>,
}

impl CloseHandle {
    /// It is read as fast as it comes from now on: it carries what no host of ours tells (a repository, the lines of other hosts).
    pub fn free(&self) {
        self.free.store(true, Ordering::Relaxed);
    }

    /// Over when the stream is closed; it outlives the switch.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

pub(super) fn line<S>(stream: S) -> (ThrottledStream<S>, CloseHandle) {
    let (cut, gone) = (CancellationToken::new(), CancellationToken::new());
    let share = Share { left: BURST, since: clock::monotonic(), free: Arc::default(), pause: None };
    let free = share.free.clone();
    let line = ThrottledStream {
        stream,
        share,
        cut: Box::pin(cut.clone().cancelled_owned()),
        _gone: gone.clone().drop_guard(),
    };
    (line, CloseHandle { _cut: cut.drop_guard(), gone, free })
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
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ThrottledStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut(cx) {
            return over();
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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
        let (mut line, _switch) = line(near);
        tokio::spawn(async move { while far.write_all(&[0; 65536]).await.is_ok() {} });
        let began = clock::monotonic();
        let (mut heard, mut all) = (vec![0; 65536], 0);
        while all < BURST + PER_SECOND {
            all += line.read(&mut heard).await.unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_dropped_switch_wakes_who_reads_and_who_writes_and_says_when_the_stream_is_closed() {
        let (near, mut far) = tokio::io::duplex(16);
        let (mut line, close_handle) = line(near);
        far.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        line.read_exact(&mut heard).await.unwrap();
        let gone = close_handle.gone();
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
