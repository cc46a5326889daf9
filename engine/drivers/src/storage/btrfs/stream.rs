//! The kernel's send stream, version 1: commands with attributes, each with its checksum.
//!
//! Read by hand rather than by `btrfs receive`: that looks parents up all over the file system and
//! resolves paths by name, where one link that a stream made would lead a later command out of its
//! target; and what is read here goes below an open directory only. The format is kernel ABI.

use std::io::{self, Read};

const MAGIC: &[u8; 13] = b"btrfs-stream\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 10;
/// The kernel's own bound of a command of this version is 64 KiB.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Why the stream cannot be read on.
#[derive(Debug)]
pub(super) enum Broken {
    Read(io::Error),
    Foreign(&'static str),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// A subvolume as its own node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) uuid: [u8; 16],
    pub(super) transaction: u64,
}

/// Lives as long as the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// What comes is all of this subvolume, or what of it differs from the parent of this uuid.
    Begin {
        origin: Origin,
        parent: Option<[u8; 16]>,
    },
    /// Something is done with the file of this path.
    At(&'a [u8], Change<'a>),
    /// An extent of which nothing is said: only without data, which is not asked for.
    Nothing,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    MakeFile,
    MakeDirectory,
    MakeFifo,
    MakeSocket,
    MakeNode { mode: u32, device: u64 },
    Symlink { to: &'a [u8] },
    Rename { to: &'a [u8] },
    Link { to: &'a [u8] },
    Unlink,
    RemoveDirectory,
    SetXattr { name: &'a [u8], value: &'a [u8] },
    RemoveXattr { name: &'a [u8] },
    Write { offset: u64, data: &'a [u8] },
    Clone(Clone<'a>),
    Truncate { size: u64 },
    Mode { mode: u32 },
    Owner { uid: u32, gid: u32 },
    Times { accessed: Time, modified: Time },
}

/// A part of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clone<'a> {
    /// In which subvolume that is.
    pub(super) uuid: [u8; 16],
    pub(super) path: &'a [u8],
    pub(super) from: u64,
    pub(super) length: u64,
    pub(super) offset: u64,
}

/// Seconds since 1970, and nanoseconds.
pub(super) type Time = (i64, u32);

/// What an attribute is; the numbers are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Field {
    Uuid = 1,
    Transaction = 2,
    Size = 4,
    Mode = 5,
    Uid = 6,
    Gid = 7,
    Device = 8,
    ModifiedAt = 10,
    AccessedAt = 11,
    XattrName = 13,
    XattrData = 14,
    Path = 15,
    PathTo = 16,
    PathLink = 17,
    Offset = 18,
    Data = 19,
    CloneUuid = 20,
    ClonePath = 22,
    CloneOffset = 23,
    CloneLength = 24,
}

fn parse(number: u16, body: &[u8]) -> Result<Command<'_>, Broken> {
    let body = Body(body);
    let change = match number {
        1 | 2 => {
            let parent = if number == 2 { Some(body.uuid(Field::CloneUuid)?) } else { None };
            let (uuid, transaction) = (body.uuid(Field::Uuid)?, body.number(Field::Transaction)?);
            return Ok(Command::Begin { origin: Origin { uuid, transaction }, parent });
        }
        3 => Change::MakeFile,
        4 => Change::MakeDirectory,
        5 => {
            Change::MakeNode { mode: body.small(Field::Mode)?, device: body.number(Field::Device)? }
        }
        6 => Change::MakeFifo,
        7 => Change::MakeSocket,
        8 => Change::Symlink { to: body.bytes(Field::PathLink)? },
        9 => Change::Rename { to: body.bytes(Field::PathTo)? },
        10 => Change::Link { to: body.bytes(Field::PathLink)? },
        11 => Change::Unlink,
        12 => Change::RemoveDirectory,
        13 => {
            let (name, value) = (body.bytes(Field::XattrName)?, body.bytes(Field::XattrData)?);
            Change::SetXattr { name, value }
        }
        14 => Change::RemoveXattr { name: body.bytes(Field::XattrName)? },
        15 => Change::Write { offset: body.number(Field::Offset)?, data: body.bytes(Field::Data)? },
        16 => Change::Clone(Clone {
            uuid: body.uuid(Field::CloneUuid)?,
            path: body.bytes(Field::ClonePath)?,
            from: body.number(Field::CloneOffset)?,
            length: body.number(Field::CloneLength)?,
            offset: body.number(Field::Offset)?,
        }),
        17 => Change::Truncate { size: body.number(Field::Size)? },
        18 => Change::Mode { mode: body.small(Field::Mode)? },
        19 => Change::Owner { uid: body.small(Field::Uid)?, gid: body.small(Field::Gid)? },
        20 => {
            let (accessed, modified) =
                (body.time(Field::AccessedAt)?, body.time(Field::ModifiedAt)?);
            Change::Times { accessed, modified }
        }
        21 => return Ok(Command::End),
        22 => return Ok(Command::Nothing),
        _ => return Err(Broken::Foreign("a command is unknown")),
    };
    Ok(Command::At(body.bytes(Field::Path)?, change))
}

/// The attributes of a command.
#[derive(Clone, Copy)]
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes(&self, field: Field) -> Result<&'a [u8], Broken> {
        let mut rest = self.0;
        while !rest.is_empty() {
            let (kind, value, after) = attribute(rest)?;
            if kind == field as u16 {
                return Ok(value);
            }
            rest = after;
        }
        Err(Broken::Foreign("a command lacks an attribute"))
    }

    fn number(&self, field: Field) -> Result<u64, Broken> {
        let value = self.bytes(field)?.try_into();
        value.map(u64::from_le_bytes).map_err(|_| Broken::Foreign("a number has another length"))
    }

    /// A number of the kernel's that has 32 bits.
    fn small(&self, field: Field) -> Result<u32, Broken> {
        u32::try_from(self.number(field)?).map_err(|_| Broken::Foreign("a number is too large"))
    }

    fn uuid(&self, field: Field) -> Result<[u8; 16], Broken> {
        self.bytes(field)?.try_into().map_err(|_| Broken::Foreign("a uuid has another length"))
    }

    fn time(&self, field: Field) -> Result<Time, Broken> {
        let value: [u8; 12] =
            self.bytes(field)?.try_into().map_err(|_| Broken::Foreign("a time is malformed"))?;
        let (seconds, nanoseconds) = value.split_at(8);
        let seconds = i64::from_le_bytes(seconds.try_into().expect("eight bytes"));
        Ok((seconds, u32::from_le_bytes(nanoseconds.try_into().expect("four bytes"))))
    }
}

/// Kind and value of the first attribute, and what comes after it.
fn attribute(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), Broken> {
    let cut = || Broken::Foreign("an attribute is cut off");
    let (kind, rest) = bytes.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (value, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok((u16::from_le_bytes(*kind), value, rest))
}

#[derive(Debug)]
pub(super) struct Commands<R> {
    from: R,
    body: Vec<u8>,
}

impl<R: Read> Commands<R> {
    pub(super) fn open(mut from: R) -> Result<Self, Broken> {
        let mut head = [0; MAGIC.len() + 4];
        from.read_exact(&mut head)?;
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Broken::Foreign("it is no btrfs stream"));
        }
        if version != VERSION.to_le_bytes() {
            return Err(Broken::Foreign("it is a btrfs stream of another version"));
        }
        Ok(Self { from, body: Vec::new() })
    }

    /// The next command; [`Command::End`] is the last.
    pub(super) fn next(&mut self) -> Result<Command<'_>, Broken> {
        let mut header = [0; HEADER_BYTES];
        self.from.read_exact(&mut header)?;
        let length = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let number = u16::from_le_bytes([header[4], header[5]]);
        let claimed = u32::from_le_bytes(header[6..].try_into().expect("four bytes"));
        if length > COMMAND_BYTES_MAX {
            return Err(Broken::Foreign("a command is too long"));
        }
        self.body.resize(length, 0);
        self.from.read_exact(&mut self.body)?;
        header[6..].fill(0);
        if checksum(&header, &self.body) != claimed {
            return Err(Broken::Foreign("a checksum is wrong"));
        }
        parse(number, &self.body)
    }
}

/// The kernel's checksum begins with zero and is not inverted at the end; the library's is both.
fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let header = crc32c::crc32c_append(u32::MAX, header);
    !crc32c::crc32c_append(header, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(number: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend_from_slice(&kind.to_le_bytes());
            body.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
            body.extend_from_slice(value);
        }
        let mut whole = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        whole.extend_from_slice(&number.to_le_bytes());
        whole.extend_from_slice(&[0; 4]);
        let sum = checksum(&whole, &body);
        whole[6..].copy_from_slice(&sum.to_le_bytes());
        whole.extend_from_slice(&body);
        whole
    }

    fn head() -> Vec<u8> {
        [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat()
    }

    #[test]
    fn commands_are_read_to_the_end_mark() {
        let made = command(18, &[(15, b"a/b"), (5, &0o755_u64.to_le_bytes())]);
        let stream = [head(), made, command(21, &[])].concat();
        let mut commands = Commands::open(stream.as_slice()).unwrap();
        let first = commands.next().unwrap();
        assert_eq!(first, Command::At(b"a/b", Change::Mode { mode: 0o755 }));
        assert_eq!(commands.next().unwrap(), Command::End);
        assert!(commands.from.is_empty());
    }

    #[test]
    fn what_is_damaged_is_told_from_what_is_cut_off() {
        assert!(matches!(Commands::open(&b"btrfs-"[..]), Err(Broken::Read(_))));
        assert!(matches!(Commands::open(&[b'x'; 99][..]), Err(Broken::Foreign(_))));
        let mut stream = [head(), command(4, &[(15, b"a")])].concat();
        let cut = &stream[..stream.len() - 1];
        assert!(matches!(Commands::open(cut).unwrap().next(), Err(Broken::Read(_))));
        *stream.last_mut().unwrap() ^= 1;
        let damaged = stream.as_slice();
        assert!(matches!(Commands::open(damaged).unwrap().next(), Err(Broken::Foreign(_))));
        let unknown = [head(), command(99, &[])].concat();
        assert!(matches!(
            Commands::open(unknown.as_slice()).unwrap().next(),
            Err(Broken::Foreign(_))
        ));
    }
}
