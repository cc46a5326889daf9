//! Which compression a file has, by its first bytes, and a reader that undoes it.

use std::io::{self, BufRead, Read};

/// Decoders that want more memory than this for their dictionary are refused.
const DECODER_MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// log2 of the largest zstd window: what `zstd --ultra -22 --long=27` makes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Bytes that [`Compression::detect`] wants to see.
pub(super) const MAGIC_BYTES: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
    Lzma,
    /// Not a stream: a file system.
    Squashfs,
}

impl Compression {
    pub(super) fn detect(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0x5d, 0, 0, ..] => Self::Lzma,
            [b'h', b's', b'q', b's', ..] => Self::Squashfs,
            _ => Self::None,
        }
    }

    /// How a tar archive of this compression is named, as Incus does.
    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::None => "tar",
            Self::Gzip => "tar.gz",
            Self::Xz => "tar.xz",
            Self::Zstd => "tar.zst",
            Self::Bzip2 => "tar.bz2",
            Self::Lzma => "tar.lzma",
            Self::Squashfs => "squashfs",
        }
    }

    /// # Errors
    /// When the stream cannot be opened. A squashfs is no stream.
    pub(super) fn open<R: BufRead + Send + 'static>(
        self,
        file: R,
    ) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::None => Box::new(file),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
            Self::Xz => {
                let flags = liblzma::stream::CONCATENATED;
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(DECODER_MEMORY_BYTES_MAX, flags)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
            }
            Self::Lzma => {
                let stream = liblzma::stream::Stream::new_lzma_decoder(DECODER_MEMORY_BYTES_MAX)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            Self::Squashfs => return Err(io::Error::other("a squashfs is not a stream")),
        })
    }
}
