//! Adding and removing the elements of one container without the `nft` program: some ten microseconds in
//! place of three milliseconds, at every start and every end.
//!
//! The kernel takes a batch of messages whole or not at all. Only elements go this way; tables, sets, chains
//! and everything that is rare stay with the program, whose text people can read.
//! Sources: kernel `include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h`, `netlink(7)`.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::ruleset::{Element, Family};
use crate::names::Instance;

// include/uapi/linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// Length of a message's header, and of an attribute's.
const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Most that the kernel puts into one answer.
const ANSWER_BYTES: usize = 32 * 1024;
// include/uapi/linux/netfilter/nfnetlink.h
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNETLINK_V0: u8 = 0;
/// Length of `struct nfgenmsg`, which every message of this family begins with.
pub(super) const FAMILY_HEADER_BYTES: usize = 4;
// include/uapi/linux/netfilter.h
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_BRIDGE: u8 = 7;
// include/uapi/linux/netfilter/nf_tables.h
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFT_MSG_DELSETELEM: u16 = 14;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;

/// What is done with the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Each is there afterwards; one that was there already is fine. Those that count begin at zero.
    Add,
    /// None is there afterwards; one that was not there is fine.
    Remove,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Remove => "remove",
        })
    }
}

/// The socket to the kernel's rule set, opened at the first use.
///
/// It is kept, because closing one waits until the kernel has destroyed what was removed: an RCU grace period.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    socket: Mutex<Option<OwnedFd>>,
}

impl Elements {
    /// Makes the change in the tables of an instance, whole or not at all.
    ///
    /// # Errors
    /// What the kernel answered: `ENOENT` on adding when our tables are not there, `EEXIST` when a port leads elsewhere.
    pub(crate) fn commit(&self, instance: &Instance, change: Change, elements: &[Element]) -> io::Result<()> {
        match self.ask(&Batch::of(instance, change, elements)) {
            // Without tables there are no elements.
            Err(error) if change == Change::Remove && error.kind() == io::ErrorKind::NotFound => Ok(()),
            asked => asked,
        }
    }

    /// Tells whether all our tables are there.
    ///
    /// # Errors
    /// What the kernel answered instead.
    pub(crate) fn tables_are_there(&self, instance: &Instance) -> io::Result<bool> {
        match self.ask(&Batch::query(instance)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            asked => asked.map(|()| true),
        }
    }

    fn ask(&self, batch: &Batch) -> io::Result<()> {
        let mut kept = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // After an error it is not put back: answers may be left in it.
        let socket = match kept.take() {
            Some(socket) => socket,
            None => open()?,
        };
        batch.exchange(&socket, |_| ())?;
        *kept = Some(socket);
        Ok(())
    }
}

pub(super) fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    // The kernel has queued every answer when sending returns; the limit is for a kernel that does not.
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(1, 0))?;
    Ok(socket)
}

/// Messages for the kernel, and how many of them end with an answer of their own.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    messages: u32,
    answered: u32,
}

impl Batch {
    fn of(instance: &Instance, change: Change, elements: &[Element]) -> Self {
        let mut batch = Self { bytes: Vec::with_capacity(4096), ..Self::default() };
        batch.bracket(NFNL_MSG_BATCH_BEGIN);
        // Removing what is not there is an error that would undo the batch, so each is added first.
        batch.elements(NFT_MSG_NEWSETELEM, instance, elements);
        let counting: Vec<Element>;
        let removed = match change {
            Change::Remove => elements,
            // One that an agent left behind when it was killed has counted for another container.
            Change::Add => {
                counting = elements.iter().filter(|element| element.counts()).cloned().collect();
                &counting
            }
        };
        batch.elements(NFT_MSG_DELSETELEM, instance, removed);
        if change == Change::Add {
            batch.elements(NFT_MSG_NEWSETELEM, instance, removed);
        }
        batch.bracket(NFNL_MSG_BATCH_END);
        batch
    }

    fn query(instance: &Instance) -> Self {
        let mut query = Self { bytes: Vec::with_capacity(256), ..Self::default() };
        for table in [instance.name().to_owned(), instance.usage_table()] {
            for family in [NFPROTO_INET, NFPROTO_BRIDGE] {
                let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE;
                query.message(kind, NLM_F_REQUEST | NLM_F_ACK, family, 0, |bytes| {
                    put(bytes, NFTA_TABLE_NAME, |bytes| text(bytes, &table));
                });
                query.answered += 1;
            }
        }
        query
    }

    /// Asks for the element of this key, or for all of a set: that must be the only message.
    pub(super) fn ask_for_elements(&mut self, table: &str, family: Family, set: &str, key: Option<&[u8]>) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM;
        let flags = NLM_F_REQUEST | if key.is_some() { NLM_F_ACK } else { NLM_F_DUMP };
        self.message(kind, flags, protocol(family), 0, |bytes| {
            put(bytes, NFTA_SET_ELEM_LIST_TABLE, |bytes| text(bytes, table));
            put(bytes, NFTA_SET_ELEM_LIST_SET, |bytes| text(bytes, set));
            if let Some(key) = key {
                nested(bytes, NFTA_SET_ELEM_LIST_ELEMENTS, |bytes| {
                    nested(bytes, NFTA_LIST_ELEM, |bytes| data(bytes, NFTA_SET_ELEM_KEY, key));
                });
            }
        });
        self.answered += 1;
    }

    fn bracket(&mut self, kind: u16) {
        self.message(kind, NLM_F_REQUEST, NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES, |_| ());
    }

    fn elements(&mut self, kind: u16, instance: &Instance, elements: &[Element]) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        for element in elements {
            let (family, table, set) = element.set().place(instance);
            self.message(kind, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, protocol(family), 0, |bytes| {
                put(bytes, NFTA_SET_ELEM_LIST_TABLE, |bytes| text(bytes, &table));
                put(bytes, NFTA_SET_ELEM_LIST_SET, |bytes| text(bytes, set));
                nested(bytes, NFTA_SET_ELEM_LIST_ELEMENTS, |bytes| {
                    nested(bytes, NFTA_LIST_ELEM, |bytes| {
                        data(bytes, NFTA_SET_ELEM_KEY, &element.key());
                        if let Some(value) = element.value() {
                            data(bytes, NFTA_SET_ELEM_DATA, &value);
                        }
                    });
                });
            });
            self.answered += 1;
        }
    }

    /// Appends a message: header, `struct nfgenmsg`, attributes.
    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        self.messages += 1;
        let start = self.bytes.len();
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, NFNETLINK_V0]);
        self.bytes.extend(resource.to_be_bytes());
        fill(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Sends the messages, and reads until each has had its answer; `each` gets the rest of what comes.
    ///
    /// # Errors
    /// The first that the kernel refused one with.
    pub(super) fn exchange(&self, socket: &OwnedFd, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        sendto(socket.as_raw_fd(), &self.bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut left = self.answered;
        let mut buffer = vec![0; ANSWER_BYTES];
        while left > 0 {
            let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT.into()),
                other => other?,
            };
            for (kind, body) in messages(buffer.get(..length).unwrap_or_default()) {
                if kind != NLMSG_ERROR && kind != NLMSG_DONE {
                    each(body);
                    continue;
                }
                // Both begin with an error number, 0 or negative.
                let code = body.first_chunk().copied().map_or(0, i32::from_ne_bytes);
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                left = left.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// The messages in a datagram: their types, and what follows their headers.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut left = datagram;
    std::iter::from_fn(move || {
        let (length, rest) = left.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let kind = u16::from_ne_bytes(*rest.first_chunk()?);
        let body = left.get(HEADER_BYTES..length)?;
        left = left.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes in a message's body or in another attribute: their types and values.
pub(super) fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut left = body;
    std::iter::from_fn(move || {
        let (length, rest) = left.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let kind = u16::from_ne_bytes(*rest.first_chunk()?) & NLA_TYPE_MASK;
        let value = left.get(ATTRIBUTE_HEADER_BYTES..length)?;
        left = left.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(super) fn attribute(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body).find_map(|(found, value)| (found == kind).then_some(value))
}

const fn protocol(family: Family) -> u8 {
    match family {
        Family::Inet => NFPROTO_INET,
        Family::Bridge => NFPROTO_BRIDGE,
    }
}

fn data(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nested(bytes, kind, |bytes| put(bytes, NFTA_DATA_VALUE, |bytes| bytes.extend(value)));
}

fn nested(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    put(bytes, kind | NLA_F_NESTED, fill);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// Appends a `struct nlattr` with what `fill` writes, padded to four bytes.
fn put(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend(0_u16.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    fill(bytes);
    let length = u16::try_from(bytes.len() - start).unwrap_or(u16::MAX);
    if let Some(place) = bytes.get_mut(start..start + 2) {
        place.copy_from_slice(&length.to_ne_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, code: i32) -> Vec<u8> {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend(code.to_ne_bytes());
        bytes.resize(36, 0);
        bytes
    }

    fn kinds(datagram: &[u8]) -> Vec<(u16, usize)> {
        messages(datagram).map(|(kind, body)| (kind, body.len())).collect()
    }

    #[test]
    fn messages_are_taken_apart_and_a_cut_one_is_left() {
        let datagram = [message(NLMSG_ERROR, 0), message(NLMSG_DONE, 0)].concat();
        assert_eq!(kinds(&datagram), [(NLMSG_ERROR, 20), (NLMSG_DONE, 20)]);
        for length in 0..36 {
            assert_eq!(kinds(&datagram[..length]), []);
        }
        assert_eq!(kinds(&[0; 64]), []);
    }

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let mut bytes = Vec::new();
        put(&mut bytes, 7, |bytes| bytes.extend([1, 2, 3, 4, 5]));
        assert_eq!(bytes.len(), 12);
        assert_eq!(bytes[..2], 9_u16.to_ne_bytes());
        nested(&mut bytes, 8, |bytes| put(bytes, 9, |bytes| bytes.push(6)));
        assert_eq!(attribute(&bytes, 7), Some([1, 2, 3, 4, 5].as_slice()));
        assert_eq!(attribute(attribute(&bytes, 8).expect("nested"), 9), Some([6].as_slice()));
        for length in 0..bytes.len() {
            assert!(attributes(&bytes[..length]).count() <= 2);
        }
        assert_eq!(attributes(&[0; 16]).count(), 0);
    }

    #[test]
    fn a_removal_adds_first_so_that_it_can_be_repeated() {
        let batch = |change| {
            let address = std::net::Ipv4Addr::new(10, 0, 0, 2);
            let mac = crate::desired::MacAddress::of(address);
            let owner = Element::Owner { veth: "wharfv012345678".to_owned(), mac, address };
            Batch::of(&Instance::new("wharf").expect("a name"), change, &[owner])
        };
        assert_eq!((batch(Change::Add).messages, batch(Change::Add).answered), (3, 1));
        assert_eq!((batch(Change::Remove).messages, batch(Change::Remove).answered), (4, 2));
    }
}
