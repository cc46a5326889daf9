//! What the trees of a btrfs say: accounts of subvolumes, and which subvolume is inside which.

use std::os::fd::BorrowedFd;

use rustix::io;

use super::ioctl::{self, SearchArgs, SearchKey};

const ROOT_TREE: u64 = 1;
const QUOTA_TREE: u64 = 8;
/// A subvolume (object), until its content is gone.
const ROOT_ITEM: u32 = 132;
/// A subvolume (object) holds another (offset).
const ROOT_REF: u32 = 156;
const QGROUP_INFO: u32 = 242;
const QGROUP_LIMIT: u32 = 244;
const LIMIT_REFERENCED: u64 = 1;
const HEADER_BYTES: usize = 32;
/// Items of one search at most: more subvolumes than any pool has.
const ITEMS_MAX: usize = 1 << 20;

/// One item of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    object: u64,
    kind: u32,
    offset: u64,
    data: Vec<u8>,
}

/// What a subvolume's account says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: Option<u64>,
}

/// The account of one subvolume; `None` when it has none.
pub(super) fn account(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<Option<Account>> {
    let mut account = None;
    // A search takes a range of (object, kind, offset), so two kinds are two searches.
    for kind in [QGROUP_INFO, QGROUP_LIMIT] {
        for item in items(filesystem, range(QUOTA_TREE, (0, 0), kind, (id, id)))? {
            let account: &mut Account = account.get_or_insert_default();
            match item.kind {
                QGROUP_INFO => account.used_bytes = number(&item.data, 1),
                _ if number(&item.data, 0) & LIMIT_REFERENCED != 0 => {
                    account.limit_bytes = Some(number(&item.data, 1));
                }
                _ => {}
            }
        }
    }
    Ok(account)
}

/// The ids of the subvolumes right inside this one.
pub(super) fn children(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<Vec<u64>> {
    let found = items(filesystem, range(ROOT_TREE, (id, id), ROOT_REF, (0, u64::MAX)))?;
    Ok(found.into_iter().map(|item| item.offset).collect())
}

/// The ids of all subvolumes that have an account, whether they are there or not.
pub(super) fn accounted(filesystem: BorrowedFd<'_>) -> io::Result<Vec<u64>> {
    let found = items(filesystem, range(QUOTA_TREE, (0, 0), QGROUP_INFO, (0, u64::MAX)))?;
    Ok(found.into_iter().map(|item| item.offset).collect())
}

/// Whether nothing is left of a subvolume.
pub(super) fn is_gone(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<bool> {
    Ok(items(filesystem, range(ROOT_TREE, (id, id), ROOT_ITEM, (0, u64::MAX)))?.is_empty())
}

fn range(tree: u64, objects: (u64, u64), kind: u32, offsets: (u64, u64)) -> SearchKey {
    SearchKey {
        tree,
        min_object: objects.0,
        max_object: objects.1,
        min_offset: offsets.0,
        max_offset: offsets.1,
        min_transaction: 0,
        max_transaction: u64::MAX,
        min_kind: kind,
        max_kind: kind,
        items: u32::MAX,
        unused: 0,
        unused_more: [0; 4],
    }
}

fn items(filesystem: BorrowedFd<'_>, mut key: SearchKey) -> io::Result<Vec<Item>> {
    let mut found = Vec::new();
    while found.len() < ITEMS_MAX {
        let mut args = Box::new(SearchArgs { key, buffer: [0; 3992] });
        args.key.items = u32::MAX;
        ioctl::search(filesystem, &mut args)?;
        let page = parse(&args.buffer, args.key.items);
        let Some(last) = page.last() else { break };
        let Some(next) = last.offset.checked_add(1) else { break };
        key.min_offset = next;
        let done = next > key.max_offset;
        // Keys between the bounds may be of another kind: the bounds are of the whole key.
        found.extend(page.into_iter().filter(|item| item.kind == key.min_kind));
        if done {
            break;
        }
    }
    Ok(found)
}

fn parse(mut buffer: &[u8], count: u32) -> Vec<Item> {
    let mut found = Vec::new();
    for _ in 0..count {
        let Some((header, rest)) = buffer.split_at_checked(HEADER_BYTES) else { break };
        let kind_and_length = number(header, 3);
        let kind = u32::try_from(kind_and_length & u64::from(u32::MAX)).unwrap_or_default();
        let length = usize::try_from(kind_and_length >> 32).unwrap_or(usize::MAX);
        let Some((data, rest)) = rest.split_at_checked(length) else { break };
        let (object, offset) = (number(header, 1), number(header, 2));
        found.push(Item { object, kind, offset, data: data.to_vec() });
        buffer = rest;
    }
    found
}

/// The `index`-th little-endian number of 64 bits, zero behind the end.
fn number(bytes: &[u8], index: usize) -> u64 {
    let field = bytes.get(index * 8..index * 8 + 8).and_then(|field| field.try_into().ok());
    u64::from_le_bytes(field.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_items_is_read_to_its_end_and_no_further() {
        let mut page = Vec::new();
        for (offset, data) in [(7_u64, &[1_u8; 10][..]), (9, &[][..])] {
            for field in [3, 5, offset, 156 | (data.len() as u64) << 32] {
                page.extend_from_slice(&field.to_le_bytes());
            }
            page.extend_from_slice(data);
        }
        let items = parse(&page, 2);
        assert_eq!(items.len(), 2);
        assert_eq!((items[0].object, items[0].kind, items[0].offset), (5, 156, 7));
        assert_eq!(items[0].data, [1; 10]);
        assert_eq!(parse(&page, 9), items);
        assert_eq!(parse(&page[..page.len() - 1], 2).len(), 1);
    }
}
