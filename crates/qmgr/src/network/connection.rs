//! Connections: made within a time, read and written within a time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;

use super::settings::Settings;

/// How much is read at once.
const READ_BYTES: usize = 4096;

/// Why a connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The other side hung up.
    Lost,
    /// It took too long.
    TimedOut,
}

/// A connection of any kind.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connects to a host.
///
/// # Errors
/// The system's words.
pub(super) async fn tcp(address: SocketAddr, settings: &Settings) -> Result<Stream, io::Error> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let from = match address.ip() {
        IpAddr::V4(_) => settings.bind_ipv4.map(IpAddr::V4),
        IpAddr::V6(_) => settings.bind_ipv6.map(IpAddr::V6),
    };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = within(settings.timeouts.connect, socket.connect(address)).await?;
    // Commands are small and each waits for its reply.
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

/// Connects to a socket of the file system.
///
/// # Errors
/// The system's words.
pub(super) async fn unix(path: &Path, settings: &Settings) -> Result<Stream, io::Error> {
    within(settings.timeouts.connect, UnixStream::connect(path)).await.map(Stream::Unix)
}

async fn within<T>(limit: Duration, connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    if limit.is_zero() {
        return connect.await;
    }
    let late = || io::Error::from_raw_os_error(rustix::io::Errno::TIMEDOUT.raw_os_error());
    timeout(limit, connect).await.unwrap_or_else(|_| Err(late()))
}

impl Stream {
    /// Reads some bytes.
    pub(super) async fn read(&mut self, limit: Duration, out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut piece = [0; READ_BYTES];
        let count = match timeout(limit, AsyncReadExt::read(self, &mut piece)).await {
            Err(_) => return Err(Broken::TimedOut),
            Ok(Ok(0) | Err(_)) => return Err(Broken::Lost),
            Ok(Ok(count)) => count,
        };
        out.extend_from_slice(piece.get(..count).unwrap_or_default());
        Ok(())
    }

    /// Writes them all.
    pub(super) async fn write(&mut self, limit: Duration, bytes: &[u8]) -> Result<(), Broken> {
        match timeout(limit, self.write_all(bytes)).await {
            Err(_) => Err(Broken::TimedOut),
            Ok(Err(_)) => Err(Broken::Lost),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Is nothing to be read, not even the end? A connection that waited for mail and has something to say is of no use.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0; 1];
        let found = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
        };
        matches!(found, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
