//! The octets of a connection: TCP, with or without TLS, or a pipe to a simulated server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::gathered::Gathered;

/// Reading goes through `poll_fill_buf` only: a TLS stream has its plaintext at hand already, and
/// a buffer of our own would double what a quiet connection costs.
pub(super) enum Stream {
    Plain(BufReader<TcpStream>),
    Tls(Box<TlsStream<Gathered>>),
    Pipe(BufReader<DuplexStream>),
}

impl Stream {
    pub fn plain(tcp: TcpStream) -> Stream {
        Stream::Plain(BufReader::new(tcp))
    }

    pub fn pipe(pipe: DuplexStream) -> Stream {
        Stream::Pipe(BufReader::new(pipe))
    }

    /// The TCP stream beneath, if nothing was received that is still to be read.
    pub fn into_unread_tcp(self) -> Option<TcpStream> {
        match self {
            Stream::Plain(plain) if plain.buffer().is_empty() => Some(plain.into_inner()),
            _ => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(plain) => Pin::new(plain).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Stream::Pipe(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncBufRead for Stream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        match self.get_mut() {
            Stream::Plain(plain) => Pin::new(plain).poll_fill_buf(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_fill_buf(cx),
            Stream::Pipe(pipe) => Pin::new(pipe).poll_fill_buf(cx),
        }
    }

    fn consume(self: Pin<&mut Self>, taken: usize) {
        match self.get_mut() {
            Stream::Plain(plain) => Pin::new(plain).consume(taken),
            Stream::Tls(tls) => Pin::new(tls).consume(taken),
            Stream::Pipe(pipe) => Pin::new(pipe).consume(taken),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(plain) => Pin::new(plain).poll_write(cx, octets),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, octets),
            Stream::Pipe(pipe) => Pin::new(pipe).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(plain) => Pin::new(plain).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Stream::Pipe(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(plain) => Pin::new(plain).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Stream::Pipe(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}
