//! A stream that two halves may use in turn, with a deadline on every wait for progress.
//!
//! The stream sits behind a mutex that is only ever locked inside one poll, so that the reading
//! and the writing half of an APPEND can share it in one task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::Error;
use super::stream::Stream;
use super::wire::{Frame, Framer};

/// A response that is begun has to be whole within so many times what one answer may take.
const RESPONSE_FACTOR: u32 = 3;
/// A command has to be answered within so many, however much is said meanwhile.
const COMMAND_FACTOR: u32 = 60;

pub(super) struct Link {
    stream: Mutex<Stream>,
    /// Set by the first error after which nothing said on this connection can be trusted.
    broken: AtomicBool,
    pub answer_within: Duration,
}

impl Link {
    pub fn new(stream: Stream, answer_within: Duration) -> Link {
        Link { stream: Mutex::new(stream), broken: AtomicBool::new(false), answer_within }
    }

    pub fn into_stream(self) -> Stream {
        self.stream.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Marks the connection as unusable, unless the error says that it is fine.
    pub fn note(&self, error: Error) -> Error {
        if !matches!(error, Error::No { .. } | Error::Unsupported(_)) {
            self.broken.store(true, Ordering::Relaxed);
        }
        error
    }

    /// How long one command may take of a server that never falls silent.
    pub fn command_within(&self) -> Duration {
        self.answer_within.saturating_mul(COMMAND_FACTOR)
    }

    /// Reads until a frame is complete; each read that yields something starts the deadline anew,
    /// but not for ever.
    pub async fn frame(&self, framer: &mut Framer, what: &'static str) -> Result<Frame, Error> {
        let begun = Instant::now();
        loop {
            let fed = timeout(self.answer_within, self.feed(framer)).await;
            if let Some(frame) = fed.map_err(|_| Error::TimedOut(what))?? {
                return Ok(frame);
            }
            if begun.elapsed() > self.answer_within.saturating_mul(RESPONSE_FACTOR) {
                return Err(Error::TimedOut(what));
            }
        }
    }

    /// Waits for octets and feeds them to the framer. Safe to cancel.
    pub async fn feed(&self, framer: &mut Framer) -> Result<Option<Frame>, Error> {
        poll_fn(|cx| {
            let mut stream = self.lock();
            let mut stream = Pin::new(&mut *stream);
            let octets = ready!(stream.as_mut().poll_fill_buf(cx)).map_err(closed)?;
            if octets.is_empty() {
                return Poll::Ready(Err(Error::Closed { bye: None }));
            }
            let (taken, frame) = framer.feed(octets)?;
            stream.as_mut().consume(taken);
            Poll::Ready(Ok(frame))
        })
        .await
    }

    /// The octets received and not yet consumed, at least one. Safe to cancel.
    pub async fn received(&mut self, what: &'static str) -> Result<&[u8], Error> {
        let within = self.answer_within;
        let stream = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        let octets = timeout(within, stream.fill_buf()).await;
        let octets = octets.map_err(|_| Error::TimedOut(what))?.map_err(closed)?;
        match octets {
            [] => Err(Error::Closed { bye: None }),
            octets => Ok(octets),
        }
    }

    /// Forgets octets that [`Link::received`] gave.
    pub fn consume(&mut self, taken: usize) {
        let stream = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(stream).consume(taken);
    }

    /// Writes all of `octets[*written..]` and flushes. Safe to cancel: `written` counts on.
    pub async fn write(
        &self,
        octets: &[u8],
        written: &mut usize,
        what: &'static str,
    ) -> Result<(), Error> {
        while *written < octets.len() {
            let step = poll_fn(|cx| {
                self.poll(cx, |stream, cx| stream.poll_write(cx, &octets[*written..]))
            });
            let step = timeout(self.answer_within, step).await;
            match step.map_err(|_| Error::TimedOut(what))?.map_err(closed)? {
                0 => return Err(Error::Closed { bye: None }),
                step => *written += step,
            }
        }
        let flush = poll_fn(|cx| self.poll(cx, |stream, cx| stream.poll_flush(cx)));
        let flushed = timeout(self.answer_within, flush).await;
        flushed.map_err(|_| Error::TimedOut(what))?.map_err(closed)
    }

    /// Ends the writing side (close_notify, FIN), as far as that goes without waiting long.
    pub async fn shutdown(&self) {
        let shutdown = poll_fn(|cx| self.poll(cx, |stream, cx| stream.poll_shutdown(cx)));
        let _ = timeout(Duration::from_secs(1), shutdown).await;
    }

    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        act(Pin::new(&mut *self.lock()), cx)
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that breaks has closed, whatever the system calls it.
fn closed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData => Error::Protocol(format!("TLS: {error}")),
        io::ErrorKind::TimedOut => Error::TimedOut("TCP"),
        _ => Error::Closed { bye: None },
    }
}
