//! Changes of sets' elements, straight to the kernel over nfnetlink.
//!
//! All that an address of a guest needs is a few elements. Starting `nft` for them would cost more
//! than the kernel's part of it, tenfold. Whole rules are nft's work all the same: see
//! [`firewall`](super::firewall). A change is one transaction, as it would be with nft: all of it or
//! nothing.

use std::io;

use rtnetlink::{
    packet_core::{
        DefaultNla, Emitable, ErrorBuffer, NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST,
        NLMSG_ERROR, NetlinkBuffer,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

use super::rules::{Edit, Element};

/// Elements in one message at most: an attribute has at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 200;
/// Elements in one transaction at most: it must fit the socket's buffers.
const ELEMENTS_MAX: usize = 1000;

const HEADER_BYTES: usize = 16;
/// `struct nfgenmsg`.
const FAMILY_BYTES: usize = 4;

/// `NFNL_SUBSYS_NFTABLES`, and its messages.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_ELEMENTS: u16 = (NFTABLES << 8) | 12;
const DELETE_ELEMENTS: u16 = (NFTABLES << 8) | 14;

/// `enum nft_set_elem_list_attributes`
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
/// `enum nft_set_elem_attributes`
const KEY: u16 = 1;
const KEY_END: u16 = 10;
/// `enum nft_list_attributes`
const LIST_ELEMENT: u16 = 1;
/// `enum nft_data_attributes`
const DATA_VALUE: u16 = 1;

/// A conversation with the packet filter of the network namespace that it was opened in.
pub(super) struct Elements {
    socket: Socket,
}

impl std::fmt::Debug for Elements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elements").finish_non_exhaustive()
    }
}

impl Elements {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Answers without what was asked.
        socket.set_cap_ack(true)?;
        // The kernel has answered when a message is sent; nobody waits for an answer.
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Makes all the changes, or none. Takes the kernel some tens of microseconds.
    pub(super) fn change(&self, table: &str, edits: &[Edit<'_>]) -> io::Result<()> {
        let count: usize = edits.iter().map(|edit| edit.elements.len()).sum();
        if count == 0 {
            return Ok(());
        }
        if count > ELEMENTS_MAX {
            return Err(io::Error::other("more elements than one transaction takes"));
        }
        self.forget_answers();
        let (batch, messages) = batch(table, edits);
        self.socket.send(&batch, 0)?;
        let mut missing = messages;
        while missing > 0 {
            let mut answers = Vec::with_capacity(8192);
            self.socket.recv(&mut answers, 0)?;
            missing = missing.saturating_sub(heard(&answers)?);
        }
        Ok(())
    }

    /// Those to what was given up.
    fn forget_answers(&self) {
        let mut answers = Vec::with_capacity(8192);
        while self.socket.recv(&mut answers, 0).is_ok() {
            answers.clear();
        }
    }
}

/// How many messages were taken; the first refusal is the answer to all.
fn heard(mut answers: &[u8]) -> io::Result<usize> {
    let unclear = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut taken = 0;
    while !answers.is_empty() {
        let answer = NetlinkBuffer::new_checked(answers).map_err(unclear)?;
        if answer.message_type() == NLMSG_ERROR {
            let error = ErrorBuffer::new_checked(answer.payload()).map_err(unclear)?;
            if let Some(code) = error.code() {
                return Err(io::Error::from_raw_os_error(code.get().saturating_neg()));
            }
            taken += 1;
        }
        let length = usize::try_from(answer.length()).unwrap_or(usize::MAX);
        answers = answers.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(taken)
}

/// The transaction, and how many of its messages are answered.
fn batch(table: &str, edits: &[Edit<'_>]) -> (Vec<u8>, usize) {
    let mut all = Vec::new();
    let mut messages = 0;
    message(&mut all, BATCH_BEGIN, 0, 0, &[]);
    for edit in edits {
        let (kind, flags) =
            if edit.adds { (NEW_ELEMENTS, NLM_F_CREATE) } else { (DELETE_ELEMENTS, 0) };
        for elements in edit.elements.chunks(ELEMENTS_PER_MESSAGE) {
            let list: Vec<u8> = elements.iter().flat_map(|one| element(one)).collect();
            let body = [
                text(LIST_TABLE, table),
                text(LIST_SET, edit.set.name),
                attribute(LIST_ELEMENTS | NLA_F_NESTED, list),
            ];
            message(&mut all, kind, flags | NLM_F_ACK, edit.set.family.number(), &body.concat());
            messages += 1;
        }
    }
    message(&mut all, BATCH_END, 0, 0, &[]);
    (all, messages)
}

fn message(all: &mut Vec<u8>, kind: u16, flags: u16, family: u8, body: &[u8]) {
    // The resource: which subsystem a transaction is of.
    let resource = if kind >> 8 == NFTABLES { 0 } else { NFTABLES };
    let length = HEADER_BYTES + FAMILY_BYTES + body.len();
    let at = all.len();
    all.resize(at + HEADER_BYTES, 0);
    let mut header = NetlinkBuffer::new(&mut all[at..]);
    header.set_length(u32::try_from(length).unwrap_or(u32::MAX));
    header.set_message_type(kind);
    header.set_flags(flags | NLM_F_REQUEST);
    all.extend([family, 0]);
    all.extend(resource.to_be_bytes());
    all.extend_from_slice(body);
}

fn element(element: &Element) -> Vec<u8> {
    let (first, last) = element.keys();
    let value = |kind, bytes| attribute(kind | NLA_F_NESTED, attribute(DATA_VALUE, bytes));
    let mut keys = value(KEY, first);
    keys.extend(last.map(|last| value(KEY_END, last)).unwrap_or_default());
    attribute(LIST_ELEMENT | NLA_F_NESTED, keys)
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, [text.as_bytes(), &[0]].concat())
}

fn attribute(kind: u16, value: Vec<u8>) -> Vec<u8> {
    let attribute = DefaultNla::new(kind, value);
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}
