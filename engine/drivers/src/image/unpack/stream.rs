//! From a file to the bytes of its archive: read, hash, decompress and meter.
//!
//! Decompressing runs in a thread of its own, so that it and the writing of files share two cores.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use sha2::{Digest, Sha256};

use super::super::{
    compression::{Compression, MAGIC_BYTES},
    refusal::Refusal,
};

const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that wait between the two threads.
const CHUNKS_WAITING: usize = 8;

/// The digest of the files as they are read, in order, when anybody wants to know it.
pub(super) type Digesting = Arc<Mutex<Option<Sha256>>>;

/// What several streams share.
#[derive(Clone, Debug)]
pub(super) struct Gauges {
    pub(super) digest: Digesting,
    /// Bytes read from the files.
    pub(super) read: Arc<AtomicU64>,
    /// Bytes that still may come out of the archives.
    pub(super) left: Arc<AtomicU64>,
    pub(super) packed_bytes: u64,
    pub(super) limit_bytes: u64,
}

/// A file that tells the gauges what is read from it.
pub(super) struct Gauged {
    file: File,
    gauges: Gauges,
}

impl Read for Gauged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.gauges.read.fetch_add(count as u64, Ordering::Relaxed);
        if let Some(digest) = self.gauges.digest.lock().expect("no holder panics").as_mut() {
            digest.update(&buffer[..count]);
        }
        Ok(count)
    }
}

impl Gauged {
    pub(super) fn new(file: File, gauges: &Gauges) -> Self {
        Self { file, gauges: gauges.clone() }
    }
}

/// The decompressed bytes of one file. Ends with an error, never early, when the file does.
#[derive(Debug)]
pub(super) struct Stream {
    chunks: Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
    gauges: Gauges,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    pub(super) fn open(mut file: File, gauges: &Gauges) -> Result<Self, Refusal> {
        let compression = detect(&mut file)?;
        let gauged = BufReader::with_capacity(CHUNK_BYTES, Gauged::new(file, gauges));
        let reader = compression.open(gauged).map_err(Refusal::reading)?;
        let (sender, chunks) = sync_channel(CHUNKS_WAITING);
        let thread = std::thread::Builder::new()
            .name("decompress".into())
            .spawn(move || pump(reader, &sender))
            .map_err(|error| Refusal::host("start a thread", &error))?;
        Ok(Self {
            chunks,
            current: Vec::new(),
            at: 0,
            gauges: gauges.clone(),
            thread: Some(thread),
        })
    }

    /// Reads what is left, so that all of the file was seen: a truncated end shows, and the digest
    /// is of the whole.
    pub(super) fn finish(mut self) -> Result<(), Refusal> {
        let mut scratch = vec![0; CHUNK_BYTES];
        while self.read(&mut scratch).map_err(Refusal::reading)? > 0 {}
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| Refusal::Corrupt { what: "decompressor".into() })?;
        }
        Ok(())
    }

    fn spend(&self, count: u64) -> io::Result<()> {
        let spent = |left: u64| left.checked_sub(count);
        let left = &self.gauges.left;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).map(drop).map_err(|_| {
            let (packed, limit) = (self.gauges.packed_bytes, self.gauges.limit_bytes);
            io::Error::other(Refusal::Bomb { packed, limit })
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            let Ok(chunk) = self.chunks.recv() else { return Ok(0) };
            self.current = chunk?;
            self.at = 0;
            self.spend(self.current.len() as u64)?;
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Every decoder here reads its file to the end and says so when it ends too early.
fn pump(mut reader: Box<dyn Read + Send>, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let outcome = reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        let last = chunk.is_empty();
        // The receiver is gone when the archive was refused: nobody wants the rest.
        if !last && sender.send(Ok(chunk)).is_err() {
            return;
        }
        match outcome {
            Ok(_) if last => return,
            Ok(_) => {}
            Err(error) => {
                drop(sender.send(Err(error)));
                return;
            }
        }
    }
}

pub(super) fn detect(file: &mut File) -> Result<Compression, Refusal> {
    use std::os::unix::fs::FileExt;
    let mut magic = [0; MAGIC_BYTES];
    let count =
        file.read_at(&mut magic, 0).map_err(|error| Refusal::host("read the image", &error))?;
    Ok(Compression::detect(&magic[..count]))
}
