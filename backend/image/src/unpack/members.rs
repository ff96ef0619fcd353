//! A tar stream as a sequence of members: framing, extended headers, sizes.
//!
//! The tar crate supplies the header layouts; the framing is ours for two reasons. Its iterator reads
//! long names and pax headers of any announced size into memory, so a hostile archive chooses how much.
//! And readers that disagree about a member's size see different members in the same bytes
//! (CVE-2026-33055, CVE-2025-62518): here whatever readers are known to disagree about is refused.
//!
//! Sources: [pax and ustar](https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html),
//! [GNU tar formats](https://www.gnu.org/software/tar/manual/html_node/Standard.html).

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, Header};

use super::pax::{self, Pax, Time};
use super::{UnpackError, name::lossy};

const BLOCK: usize = 512;
/// Largest pax header or GNU long name. Linux caps a path at 4 KiB and an attribute at 64 KiB.
const EXTENSION_MAX_BYTES: u64 = 1 << 20;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    Character { major: u64, minor: u64 },
    Block { major: u64, minor: u64 },
}

/// A member's header; its data is read from [`Members`].
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of the file, holes included.
    pub(crate) size: u64,
    /// Offsets and lengths of the pieces that the archive holds; `None` for an ordinary file.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
    /// Where the data begins in the uncompressed stream.
    pub(crate) data_offset: u64,
}

/// Reads members one after the other from an uncompressed stream.
#[derive(Debug)]
pub(crate) struct Members<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// Bytes left of the current member's data.
    remaining: u64,
    /// Bytes between the data's end and the next header.
    padding: u64,
}

impl<R: Read> Members<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, remaining: 0, padding: 0 }
    }

    /// Returns the next member, skipping what was not read of the one before; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, UnpackError> {
        let mut extension = Pax::default();
        let mut extended = false;
        let mut long_name = None;
        let mut long_link = None;
        loop {
            self.skip()?;
            let at = self.offset;
            let malformed = |what| UnpackError::Malformed { offset: at, what };
            let Some(header) = self.header()? else {
                return if extended || long_name.is_some() || long_link.is_some() {
                    Err(malformed("an extended header is followed by nothing"))
                } else {
                    Ok(None)
                };
            };
            let size = number(&header.as_old().size).ok_or_else(|| malformed("bad size"))?;
            match header.as_old().linkflag {
                [b'x'] if extended => return Err(malformed("two pax headers for one member")),
                [b'x'] => {
                    extension = Pax::parse(&self.extension(size)?).map_err(malformed)?;
                    extended = true;
                }
                [b'g'] => {
                    // git writes a comment there; readers disagree about anything else.
                    if !Pax::parse(&self.extension(size)?).map_err(malformed)?.is_empty() {
                        return Err(malformed("a global pax header that changes members"));
                    }
                }
                [b'L'] if long_name.is_none() => long_name = Some(until_zero(self.extension(size)?)),
                [b'K'] if long_link.is_none() => long_link = Some(until_zero(self.extension(size)?)),
                [b'L' | b'K'] => return Err(malformed("two long names for one member")),
                // A volume label is a note, not a file.
                [b'V'] => self.expect_data(size)?,
                _ => {
                    if extension.path.is_some() && long_name.is_some()
                        || extension.link.is_some() && long_link.is_some()
                    {
                        return Err(malformed("both a pax name and a GNU long name"));
                    }
                    extension.path = extension.path.or(long_name);
                    extension.link = extension.link.or(long_link);
                    return self.member(&header, size, extension).map(Some);
                }
            }
        }
    }

    /// Reads to the end of the stream, past the archive's end, so that the whole is hashed.
    pub(crate) fn finish(mut self) -> Result<R, UnpackError> {
        io::copy(&mut self.input, &mut io::sink()).map_err(read_error)?;
        Ok(self.input)
    }

    fn member(&mut self, header: &Header, header_size: u64, pax: Pax) -> Result<Member, UnpackError> {
        let malformed = |what| UnpackError::Malformed { offset: self.offset - BLOCK as u64, what };
        let old = header.as_old();
        let name = pax.sparse.name.or(pax.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            pax.link
                .clone()
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default()
        };
        let (major, minor) = device_numbers(header).ok_or_else(|| malformed("bad device number"))?;
        let kind = match old.linkflag {
            // A file whose name ends in a slash is how the oldest tars write directories.
            [b'0' | b'7' | 0] if name.ends_with(b"/") => Kind::Directory,
            [b'0' | b'7' | 0 | b'S'] => Kind::File,
            [b'1'] => Kind::HardLink(link()),
            [b'2'] => Kind::Symlink(link()),
            [b'3'] => Kind::Character { major, minor },
            [b'4'] => Kind::Block { major, minor },
            [b'5'] => Kind::Directory,
            [b'6'] => Kind::Fifo,
            _ => return Err(UnpackError::Member { name: lossy(&name), why: "unknown kind of member" }),
        };
        let mode = number(&old.mode).and_then(|mode| u32::try_from(mode & 0o7777).ok());
        let mtime = pax.mtime.or_else(|| {
            // GNU tar writes times before 1970 as a negative number of twelve bytes.
            let seconds = match old.mtime {
                [0xff, 0xff, 0xff, 0xff, low @ ..] => i64::from_be_bytes(low),
                field => i64::try_from(number(&field)?).ok()?,
            };
            Some(Time { seconds, nanoseconds: 0 })
        });
        let stored = match kind {
            Kind::File => pax.size.unwrap_or(header_size),
            // All readers agree that a hard link has no data, whatever its size field says.
            Kind::HardLink(_) => 0,
            // They do not agree about these, so there is nothing to agree about.
            _ if pax.size.unwrap_or(header_size) != 0 => {
                return Err(malformed("data of a member that has none"));
            }
            _ => 0,
        };
        let mut member = Member {
            name,
            kind,
            mode: mode.ok_or_else(|| malformed("bad mode"))?,
            uid: pax.uid.or_else(|| number(&old.uid)).ok_or_else(|| malformed("bad user id"))?,
            gid: pax.gid.or_else(|| number(&old.gid)).ok_or_else(|| malformed("bad group id"))?,
            mtime: mtime.ok_or_else(|| malformed("bad modification time"))?,
            xattrs: pax.xattrs,
            size: stored,
            sparse: None,
            data_offset: self.offset,
        };
        if old.linkflag == *b"S" {
            self.gnu_sparse(header, stored, &mut member)?;
        } else {
            self.expect_data(stored)?;
        }
        if member.kind == Kind::File
            && let Some(real_size) = pax.sparse.real_size
        {
            let map = if pax.sparse.map_in_data { Some(self.sparse_map()?) } else { pax.sparse.map };
            if let Some(map) = map {
                member.sparse = Some(
                    pax::sparse_pieces(&map, real_size, self.remaining)
                        .map_err(|what| UnpackError::Malformed { offset: member.data_offset, what })?,
                );
                member.size = real_size;
            }
        }
        member.data_offset = self.offset;
        Ok(member)
    }

    /// Old GNU format: four pieces in the header, further ones in blocks after it.
    fn gnu_sparse(&mut self, header: &Header, stored: u64, member: &mut Member) -> Result<(), UnpackError> {
        let at = self.offset;
        let malformed = |what| UnpackError::Malformed { offset: at, what };
        let gnu = header.as_gnu().ok_or_else(|| malformed("sparse member without a GNU header"))?;
        let mut map = Vec::new();
        let mut add = |pieces: &[tar::GnuSparseHeader]| {
            for piece in pieces.iter().filter(|piece| piece.offset[0] != 0 && piece.numbytes[0] != 0) {
                map.push(number(&piece.offset).ok_or_else(|| malformed("bad sparse map"))?);
                map.push(number(&piece.numbytes).ok_or_else(|| malformed("bad sparse map"))?);
            }
            if map.len() > 2 * pax::SPARSE_MAX {
                Err(malformed("sparse map of excessive length"))
            } else {
                Ok(())
            }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.isextended[0] == 1;
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.read_exact(block.as_mut_bytes())?;
            add(block.sparse())?;
            more = block.is_extended();
        }
        let real_size = number(&gnu.realsize).ok_or_else(|| malformed("bad size"))?;
        member.sparse = Some(pax::sparse_pieces(&map, real_size, stored).map_err(malformed)?);
        member.size = real_size;
        self.expect_data(stored)
    }

    /// Pax sparse format 1.0: decimal lines at the start of the data, padded to whole blocks.
    fn sparse_map(&mut self) -> Result<Vec<u64>, UnpackError> {
        let at = self.offset;
        let malformed = |what| UnpackError::Malformed { offset: at, what };
        let mut text: Vec<u8> = Vec::new();
        let mut numbers = Vec::new();
        let mut wanted = None;
        while wanted != Some(numbers.len()) {
            let mut block = [0; BLOCK];
            Read::read_exact(self, &mut block).map_err(read_error)?;
            text.extend_from_slice(&block);
            while wanted != Some(numbers.len())
                && let Some(end) = text.iter().position(|byte| *byte == b'\n')
            {
                let line: Vec<u8> = text.drain(..=end).collect();
                let digits = line.strip_suffix(b"\n").unwrap_or(&line);
                let value = pax::decimal(digits).ok_or_else(|| malformed("bad sparse map"))?;
                if wanted.is_some() {
                    numbers.push(value);
                } else {
                    let pieces = usize::try_from(value).ok().filter(|pieces| *pieces <= pax::SPARSE_MAX);
                    wanted = Some(2 * pieces.ok_or_else(|| malformed("sparse map of excessive length"))?);
                }
            }
            if text.len() > 2 * BLOCK {
                return Err(malformed("bad sparse map"));
            }
        }
        Ok(numbers)
    }

    /// Reads one header block; `None` at the archive's end.
    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let at = self.offset;
        let mut header = Header::new_old();
        let mut filled = 0;
        while filled < BLOCK {
            let rest = header.as_mut_bytes().get_mut(filled..).unwrap_or_default();
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(UnpackError::Malformed { offset: at, what: "it ends inside a header" }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        self.offset += BLOCK as u64;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let blank = 148..156;
        let sum: u64 =
            (0..).zip(bytes).map(|(i, byte)| if blank.contains(&i) { 32 } else { u64::from(*byte) }).sum();
        if number(&header.as_old().cksum) != Some(sum) {
            return Err(UnpackError::Malformed { offset: at, what: "bad header checksum" });
        }
        Ok(Some(header))
    }

    /// Reads an extended header's data whole.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > EXTENSION_MAX_BYTES {
            return Err(UnpackError::Limit {
                what: "bytes in an extended header",
                limit: EXTENSION_MAX_BYTES,
            });
        }
        self.expect_data(size)?;
        let mut data = Vec::new();
        self.read_to_end(&mut data).map_err(read_error)?;
        Ok(data)
    }

    fn expect_data(&mut self, size: u64) -> Result<(), UnpackError> {
        let block = BLOCK as u64;
        self.remaining = size;
        self.padding = (block - size % block) % block;
        match size.checked_add(block).and_then(|size| size.checked_add(self.offset)) {
            Some(_) => Ok(()),
            None => Err(UnpackError::Malformed { offset: self.offset, what: "bad size" }),
        }
    }

    fn skip(&mut self) -> Result<(), UnpackError> {
        let count = self.remaining + self.padding;
        (self.remaining, self.padding) = (0, 0);
        let skipped = io::copy(&mut self.input.by_ref().take(count), &mut io::sink()).map_err(read_error)?;
        self.offset += skipped;
        if skipped < count {
            return Err(read_error(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), UnpackError> {
        self.input.read_exact(buffer).map_err(read_error)?;
        self.offset += buffer.len() as u64;
        Ok(())
    }
}

/// The current member's data.
impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..count).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let count = self.input.read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.remaining -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}

pub(super) fn read_error(source: io::Error) -> UnpackError {
    UnpackError::Read { source }
}

fn device_numbers(header: &Header) -> Option<(u64, u64)> {
    match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => Some((number(&ustar.dev_major)?, number(&ustar.dev_minor)?)),
        (_, Some(gnu)) => Some((number(&gnu.dev_major)?, number(&gnu.dev_minor)?)),
        (None, None) => Some((0, 0)),
    }
}

/// A numeric field: octal text, or GNU's big-endian binary with the top bit set. Blank is zero.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        return rest
            .iter()
            .try_fold(0_u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let field = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    field.iter().try_fold(0_u64, |value, byte| {
        let digit = matches!(byte, b'0'..=b'7').then(|| u64::from(byte - b'0'))?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(700);
        header.set_mode(0o644);
        let long = "directory/".repeat(20);
        builder.append_data(&mut header, format!("{long}file"), [7; 700].as_slice()).expect("memory");
        header.set_size(3);
        builder.append_data(&mut header, "short", b"abc".as_slice()).expect("memory");
        builder.into_inner().expect("memory")
    }

    fn all(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, UnpackError> {
        let mut members = Members::new(bytes);
        let mut found = Vec::new();
        while let Some(member) = members.next()? {
            let mut data = Vec::new();
            members.read_to_end(&mut data).map_err(read_error)?;
            found.push((member, data));
        }
        Ok(found)
    }

    #[test]
    fn data_is_where_the_member_says() {
        let bytes = archive();
        let members = all(&bytes).expect("an archive");
        assert_eq!(members.iter().map(|(member, _)| member.size).collect::<Vec<_>>(), [700, 3]);
        for (member, data) in members {
            let at = usize::try_from(member.data_offset).expect("small");
            assert_eq!(bytes.get(at..at + data.len()), Some(data.as_slice()));
        }
    }

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        for (field, value) in [
            (b"0000644\0".as_slice(), Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff", None),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"7777777777777777777777777", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    proptest! {
        #[test]
        fn an_archive_altered_anywhere_ends_or_is_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = archive();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            // Half of the headers get a checksum that is right again, so that what follows it is read.
            for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block.starts_with(b"d") || block.starts_with(b"s")) {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
            if let Ok(members) = all(&bytes) {
                let data: usize = members.iter().map(|(_, data)| data.len()).sum();
                prop_assert!(data <= bytes.len());
            }
        }

        #[test]
        fn no_bytes_crash_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            prop_assert!(all(&bytes).map_or(true, |members| members.is_empty()));
        }
    }
}
