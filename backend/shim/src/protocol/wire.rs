//! The outer form of a message: header, and fields of tag, length and value.
//!
//! Knows no message, only that a field comes at most once unless it is taken as a list, and that
//! every field must be taken unless its tag is [`OPTIONAL`].

use super::{MAX_MESSAGE_BYTES, ProtocolError, VERSION};

/// `whrf`, read as little-endian bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"whrf");
/// magic u32, version u16, kind u16, seq u32.
const HEADER_BYTES: usize = 12;

/// A reader that does not know a tag with this bit skips the field.
pub const OPTIONAL: u16 = 0x8000;

/// A message being written.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(kind: u16, seq: u32) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&seq.to_le_bytes());
        Self { bytes }
    }

    pub(super) fn field(&mut self, tag: u16, value: &[u8]) -> Result<(), ProtocolError> {
        let too_large = ProtocolError::FieldTooLarge { tag, length_bytes: value.len() };
        let length = u16::try_from(value.len()).map_err(|_length| too_large)?;
        self.bytes.extend_from_slice(&tag.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, ProtocolError> {
        if self.bytes.len() > MAX_MESSAGE_BYTES {
            return Err(ProtocolError::MessageTooLarge { length_bytes: self.bytes.len() });
        }
        Ok(self.bytes)
    }
}

/// A message being read: what its header says, and the fields not yet taken.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) kind: u16,
    pub(super) seq: u32,
    fields: Vec<(u16, &'a [u8])>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Result<Self, ProtocolError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(ProtocolError::MessageTooLarge { length_bytes: message.len() });
        }
        let mut rest = message;
        let truncated = || ProtocolError::Truncated { length_bytes: message.len() };
        if take_u32(&mut rest).ok_or_else(truncated)? != MAGIC {
            return Err(ProtocolError::Magic);
        }
        let version = take_u16(&mut rest).ok_or_else(truncated)?;
        if version != VERSION {
            return Err(ProtocolError::Version { theirs: version });
        }
        let kind = take_u16(&mut rest).ok_or_else(truncated)?;
        let seq = take_u32(&mut rest).ok_or_else(truncated)?;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let tag = take_u16(&mut rest).ok_or_else(truncated)?;
            let length = take_u16(&mut rest).ok_or_else(truncated)?;
            let value = rest.split_off(..usize::from(length)).ok_or_else(truncated)?;
            fields.push((tag, value));
        }
        Ok(Self { kind, seq, fields })
    }

    /// Takes a field that may be missing.
    pub(super) fn optional(&mut self, tag: u16) -> Result<Option<&'a [u8]>, ProtocolError> {
        let mut values = self.list(tag);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(ProtocolError::Repeated { tag }),
        }
    }

    /// Takes a field that must be there.
    pub(super) fn required(&mut self, tag: u16) -> Result<&'a [u8], ProtocolError> {
        self.optional(tag)?.ok_or(ProtocolError::Missing { tag })
    }

    /// Takes every occurrence of a field, in order.
    pub(super) fn list(&mut self, tag: u16) -> Vec<&'a [u8]> {
        self.fields.extract_if(.., |(own, _)| *own == tag).map(|(_, value)| value).collect()
    }

    /// Refuses what nobody took and nobody may skip.
    pub(super) fn finish(self) -> Result<(), ProtocolError> {
        match self.fields.iter().find(|(tag, _)| tag & OPTIONAL == 0) {
            Some((tag, _)) => Err(ProtocolError::UnknownField { kind: self.kind, tag: *tag }),
            None => Ok(()),
        }
    }
}

/// The sequence number in a header whose message could not be read, so that the refusal reaches
/// whoever waits for the answer.
pub fn seq_of(message: &[u8]) -> Option<std::num::NonZeroU32> {
    let bytes = message.get(HEADER_BYTES - 4..HEADER_BYTES)?;
    std::num::NonZeroU32::new(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    let (value, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u16::from_le_bytes(*value))
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (value, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_le_bytes(*value))
}
