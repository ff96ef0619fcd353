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

// include/uapi/linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 0x8000;
/// Length of a message's header.
const HEADER_BYTES: usize = 16;
// include/uapi/linux/netfilter/nfnetlink.h
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNETLINK_V0: u8 = 0;
// include/uapi/linux/netfilter.h
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_BRIDGE: u8 = 7;
// include/uapi/linux/netfilter/nf_tables.h
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;

/// What is done with the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Each is there afterwards; one that was there already is fine.
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
    /// Makes the change in the tables named `table` of both families, whole or not at all.
    ///
    /// # Errors
    /// What the kernel answered: `ENOENT` on adding when our tables are not there, `EEXIST` when a port leads elsewhere.
    pub(crate) fn commit(&self, table: &str, change: Change, elements: &[Element]) -> io::Result<()> {
        match self.ask(&Batch::of(table, change, elements)) {
            // Without tables there are no elements.
            Err(error) if change == Change::Remove && error.kind() == io::ErrorKind::NotFound => Ok(()),
            asked => asked,
        }
    }

    /// Tells whether our tables of both families are there.
    ///
    /// # Errors
    /// What the kernel answered instead.
    pub(crate) fn tables_are_there(&self, table: &str) -> io::Result<bool> {
        match self.ask(&Batch::query(table)) {
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
        sendto(socket.as_raw_fd(), &batch.bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        batch.await_answers(&socket)?;
        *kept = Some(socket);
        Ok(())
    }
}

fn open() -> io::Result<OwnedFd> {
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

/// Messages for the kernel, and how many of them it will acknowledge.
struct Batch {
    bytes: Vec<u8>,
    messages: u32,
    acknowledged: u32,
}

impl Batch {
    fn of(table: &str, change: Change, elements: &[Element]) -> Self {
        let mut batch = Self { bytes: Vec::with_capacity(512), messages: 0, acknowledged: 0 };
        batch.bracket(NFNL_MSG_BATCH_BEGIN);
        // Removing what is not there is an error that would undo the batch, so each is added first.
        batch.elements(NFT_MSG_NEWSETELEM, table, elements);
        if change == Change::Remove {
            batch.elements(NFT_MSG_DELSETELEM, table, elements);
        }
        batch.bracket(NFNL_MSG_BATCH_END);
        batch
    }

    fn query(table: &str) -> Self {
        let mut query = Self { bytes: Vec::with_capacity(128), messages: 0, acknowledged: 0 };
        for family in [NFPROTO_INET, NFPROTO_BRIDGE] {
            let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE;
            query.message(kind, NLM_F_REQUEST | NLM_F_ACK, family, 0, |bytes| {
                attribute(bytes, NFTA_TABLE_NAME, |bytes| text(bytes, table));
            });
            query.acknowledged += 1;
        }
        query
    }

    fn bracket(&mut self, kind: u16) {
        self.message(kind, NLM_F_REQUEST, NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES, |_| ());
    }

    fn elements(&mut self, kind: u16, table: &str, elements: &[Element]) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        for element in elements {
            let (family, set) = element.set().family_and_name();
            let family = match family {
                Family::Inet => NFPROTO_INET,
                Family::Bridge => NFPROTO_BRIDGE,
            };
            self.message(kind, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, family, 0, |bytes| {
                attribute(bytes, NFTA_SET_ELEM_LIST_TABLE, |bytes| text(bytes, table));
                attribute(bytes, NFTA_SET_ELEM_LIST_SET, |bytes| text(bytes, set));
                nested(bytes, NFTA_SET_ELEM_LIST_ELEMENTS, |bytes| {
                    nested(bytes, NFTA_LIST_ELEM, |bytes| {
                        data(bytes, NFTA_SET_ELEM_KEY, &element.key());
                        if let Some(value) = element.value() {
                            data(bytes, NFTA_SET_ELEM_DATA, &value);
                        }
                    });
                });
            });
            self.acknowledged += 1;
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

    /// Reads until every message is acknowledged, or one is refused.
    fn await_answers(&self, socket: &OwnedFd) -> io::Result<()> {
        let mut left = self.acknowledged;
        let mut buffer = vec![0; 8192];
        while left > 0 {
            let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT.into()),
                other => other?,
            };
            for errno in answers(buffer.get(..length).unwrap_or_default()) {
                if errno != 0 {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                left = left.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// The error numbers of the answers in a datagram; 0 is an acknowledgement.
fn answers(mut datagram: &[u8]) -> Vec<i32> {
    let mut answers = Vec::new();
    while let Some((length, rest)) = datagram.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        let kind = rest.first_chunk::<2>().map(|kind| u16::from_ne_bytes(*kind));
        if kind == Some(NLMSG_ERROR)
            && let Some(code) = datagram.get(HEADER_BYTES..).and_then(<[u8]>::first_chunk::<4>)
        {
            answers.push(i32::from_ne_bytes(*code).saturating_neg());
        }
        match datagram.get(length.next_multiple_of(4).max(HEADER_BYTES)..) {
            Some(next) => datagram = next,
            None => break,
        }
    }
    answers
}

fn data(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nested(bytes, kind, |bytes| attribute(bytes, NFTA_DATA_VALUE, |bytes| bytes.extend(value)));
}

fn nested(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    attribute(bytes, kind | NLA_F_NESTED, fill);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// Appends a `struct nlattr` with what `fill` writes, padded to four bytes.
fn attribute(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
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

    #[test]
    fn acknowledgements_and_refusals_are_told_apart() {
        let datagram = [message(NLMSG_ERROR, 0), message(3, 0), message(NLMSG_ERROR, -2)].concat();
        assert_eq!(answers(&datagram), [0, 2]);
    }

    #[test]
    fn a_cut_datagram_is_no_endless_loop() {
        let whole = message(NLMSG_ERROR, -1);
        for length in 0..whole.len() {
            assert!(answers(&whole[..length]).len() <= 1);
        }
        assert_eq!(answers(&[0; 64]), [] as [i32; 0]);
    }

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 7, |bytes| bytes.extend([1, 2, 3, 4, 5]));
        assert_eq!(bytes.len(), 12);
        assert_eq!(bytes[..2], 9_u16.to_ne_bytes());
    }

    #[test]
    fn a_removal_adds_first_so_that_it_can_be_repeated() {
        let batch = |change| {
            let address = std::net::Ipv4Addr::new(10, 0, 0, 2);
            let mac = crate::desired::MacAddress::of(address);
            let owner = Element::Owner { veth: "wharfv012345678".to_owned(), mac, address };
            Batch::of("wharf", change, &[owner])
        };
        assert_eq!((batch(Change::Add).messages, batch(Change::Add).acknowledged), (3, 1));
        assert_eq!((batch(Change::Remove).messages, batch(Change::Remove).acknowledged), (4, 2));
    }
}
