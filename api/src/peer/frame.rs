//! The frames of a transfer: a letter, the length (u32, big-endian), and that many bytes.
//!
//! | letter | what follows                                                                  |
//! |--------|-------------------------------------------------------------------------------|
//! | `d`    | a piece of the stream, never empty                                            |
//! | `p`    | nothing: the source still works at it                                         |
//! | `e`    | the end, JSON: how many bytes came and their hash, or why no more are coming |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use stapes_core::port::DriverError;

pub(super) const HEAD_BYTES: usize = 5;
/// Of a piece as it is sent.
pub(super) const PIECE_BYTES: usize = 256 << 10;
/// Of any frame as it is taken.
const FRAME_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Data(Bytes),
    Pulse,
    End(End),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
    Whole { bytes: u64, blake3: String },
    Failed(Failure),
}

/// A [`DriverError`] on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Refused,
    NotFound,
    Full,
    Failed,
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        let (kind, text) = match error {
            DriverError::Refused(text) => (Kind::Refused, text),
            DriverError::NotFound(text) => (Kind::NotFound, text),
            DriverError::Full(text) => (Kind::Full, text),
            DriverError::Failed(text) => (Kind::Failed, text),
        };
        Self { kind, text }
    }
}

impl From<Failure> for DriverError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Kind::Refused => Self::Refused(failure.text),
            Kind::NotFound => Self::NotFound(failure.text),
            Kind::Full => Self::Full(failure.text),
            Kind::Failed => Self::Failed(failure.text),
        }
    }
}

/// An empty data frame with room for its bytes; [`seal`] it when they are in.
pub(super) fn blank() -> BytesMut {
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + PIECE_BYTES);
    frame.put_bytes(0, HEAD_BYTES);
    frame
}

/// Writes the head of what [`blank`] began.
pub(super) fn seal(mut frame: BytesMut) -> Bytes {
    let length = u32::try_from(frame.len() - HEAD_BYTES).expect("a piece is short");
    frame[0] = b'd';
    frame[1..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

pub(super) fn pulse() -> Bytes {
    Bytes::from_static(b"p\0\0\0\0")
}

pub(super) fn end(end: &End) -> Bytes {
    let text = serde_json::to_vec(end).expect("it has no maps and no failing parts");
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + text.len());
    frame.put_u8(b'e');
    frame.put_u32(u32::try_from(text.len()).expect("an end is short"));
    frame.put_slice(&text);
    frame.freeze()
}

/// Puts frames together from the pieces that come in.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other node speaks another language")]
pub(super) struct Foreign;

impl Frames {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Foreign> {
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let letter = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(Foreign);
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let body = self.buffer.split_to(length).freeze();
        match letter {
            b'd' if length > 0 => Ok(Some(Frame::Data(body))),
            b'p' if length == 0 => Ok(Some(Frame::Pulse)),
            b'e' => {
                serde_json::from_slice(&body).map(|end| Some(Frame::End(end))).map_err(|_| Foreign)
            }
            _ => Err(Foreign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_put_together_from_any_pieces() {
        let mut data = blank();
        data.put_slice(b"content");
        let whole = End::Whole { bytes: 7, blake3: "x".into() };
        let failed = End::Failed(DriverError::NotFound("it".into()).into());
        let stream = [seal(data), pulse(), end(&whole), end(&failed)].concat();
        let expected = [
            Frame::Data(Bytes::from_static(b"content")),
            Frame::Pulse,
            Frame::End(whole),
            Frame::End(failed),
        ];
        for size in [1, 3, 1000] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                frames.take(piece);
                while let Some(frame) = frames.next().expect("they are frames") {
                    found.push(frame);
                }
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for bytes in [b"d\0\0\0\0", b"p\0\0\0\x01", b"d\xff\0\0\0", b"HTTP/"] {
            let mut frames = Frames::default();
            frames.take(bytes);
            frames.take(b"x");
            assert_eq!(frames.next(), Err(Foreign), "{bytes:?}");
        }
    }
}
