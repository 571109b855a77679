//! A TCP stream read in large pieces while much comes: rustls asks for 4 KiB at a time, a system
//! call each. A connection on which little comes holds no buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Four TLS records.
const PIECE: usize = 64 * 1024;

pub(super) struct Gathered {
    tcp: TcpStream,
    /// Received and not yet given on; without capacity while little comes.
    held: Vec<u8>,
    given: usize,
    /// The last read filled what it was given.
    more_is_likely: bool,
}

impl Gathered {
    pub fn new(tcp: TcpStream) -> Gathered {
        Gathered { tcp, held: Vec::new(), given: 0, more_is_likely: false }
    }

    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.more_is_likely = buf.remaining() == 0 && buf.filled().len() > before;
        Poll::Ready(Ok(()))
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.given = 0;
        self.held.resize(PIECE, 0);
        let mut piece = ReadBuf::new(&mut self.held);
        let read = Pin::new(&mut self.tcp).poll_read(cx, &mut piece);
        let octets = piece.filled().len();
        self.held.truncate(octets);
        if octets == 0 {
            // Nothing is there, or it is the end.
            self.held = Vec::new();
        }
        self.more_is_likely = octets == PIECE;
        read
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given == this.held.len() {
            if !this.more_is_likely {
                this.held = Vec::new();
                this.given = 0;
                return this.poll_direct(cx, buf);
            }
            ready!(this.poll_gather(cx))?;
        }
        let step = buf.remaining().min(this.held.len() - this.given);
        buf.put_slice(&this.held[this.given..this.given + step]);
        this.given += step;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn nothing_is_lost_or_held_whatever_the_size_of_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (reading, _) = listener.accept().await.unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
        let sending = tokio::spawn({
            let sent = sent.clone();
            async move { tcp.write_all(&sent).await }
        });
        let mut gathered = Gathered::new(reading);
        let (mut received, mut step) = (Vec::new(), 1);
        let mut buffer = vec![0; 10_000];
        loop {
            step = step % 9_973 + 37;
            match gathered.read(&mut buffer[..step]).await.unwrap() {
                0 => break,
                octets => received.extend_from_slice(&buffer[..octets]),
            }
        }
        sending.await.unwrap().unwrap();
        assert!(received == sent);
        assert_eq!(gathered.held.capacity(), 0);
    }
}
