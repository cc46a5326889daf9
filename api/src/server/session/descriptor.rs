//! Pipes and terminals of guests, read and written without a thread for each.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
};

/// What a terminal says when its last user left, where a pipe says its end.
const EIO: i32 = 5;

/// The end of a pipe, socket or terminal that is read. The runtime's type is named after pipes,
/// and waits for anything that can be waited for.
#[derive(Debug)]
pub(super) struct Reader(pipe::Receiver);

/// The end that is written.
#[derive(Debug)]
pub(super) struct Writer(pipe::Sender);

impl Reader {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        pipe::Receiver::from_file_unchecked(File::from(non_blocking(descriptor)?)).map(Self)
    }

    /// The next bytes; zero at the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer).await {
            Err(error) if error.raw_os_error() == Some(EIO) => Ok(0),
            read => read,
        }
    }
}

impl Writer {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        pipe::Sender::from_file_unchecked(File::from(non_blocking(descriptor)?)).map(Self)
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }
}

/// Both directions of a terminal or a socket.
pub(super) fn both_ways(descriptor: OwnedFd) -> io::Result<(Reader, Writer)> {
    let other = descriptor.try_clone()?;
    Ok((Reader::new(descriptor)?, Writer::new(other)?))
}

/// The standard library can make any descriptor non-blocking, but only under the name of a
/// socket; it is one for this function alone.
fn non_blocking(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    let stream = UnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    Ok(OwnedFd::from(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pipe_is_read_to_its_end() {
        let (reader, writer) = io::pipe().unwrap();
        let mut reader = Reader::new(OwnedFd::from(reader)).unwrap();
        let mut writer = Writer::new(OwnedFd::from(writer)).unwrap();
        let all = vec![7u8; 1 << 20];
        let (expected, mut got) = (all.clone(), Vec::new());
        let write = tokio::spawn(async move { writer.write_all(&all).await });
        let mut buffer = [0; 65536];
        loop {
            let count = reader.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            got.extend_from_slice(&buffer[..count]);
        }
        write.await.unwrap().unwrap();
        assert_eq!(got, expected);
    }

    #[tokio::test]
    async fn a_socket_goes_both_ways() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = both_ways(OwnedFd::from(ours)).unwrap();
        let (mut far_reader, mut far_writer) = both_ways(OwnedFd::from(theirs)).unwrap();
        writer.write_all(b"there").await.unwrap();
        far_writer.write_all(b"back").await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(far_reader.read(&mut buffer).await.unwrap(), 5);
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"back");
    }
}
