//! The first page of a file: which kind of database, how large its pages are, where the search begins.

use super::buckets::{Buckets, hash};
use super::fault::{Fault, Method};
use super::page::Order;

/// How much of the first page is read; no page is smaller.
pub(super) const META_BYTES: usize = 512;

const HASH_MAGIC: u32 = 0x0006_1561;
const BTREE_MAGIC: u32 = 0x0005_3162;
/// What the hash function makes of this is in the file: another function than ours gives another number.
const HASHED: &[u8] = b"%$sniglet^&\0";

/// The first page, understood.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) order: Order,
    pub(super) page_bytes: usize,
    /// The number of the last page.
    pub(super) last_page: u32,
    pub(super) search: Search,
}

/// Where a key is looked for.
#[derive(Debug)]
pub(super) enum Search {
    Buckets(Buckets),
    /// From this page downwards.
    Root(u32),
}

impl Meta {
    /// Reads the first [`META_BYTES`] of a file.
    pub(super) fn parse(bytes: &[u8], wanted: Method) -> Result<Self, Fault> {
        let (order, method) = identify(bytes).ok_or(Fault::NoDatabase)?;
        let number = |at: usize| order.u32(bytes, at).ok_or(Fault::NoDatabase);
        let version = number(16)?;
        if !method.versions().contains(&version) {
            return Err(Fault::Version { method, version });
        }
        let flag = |at: usize| bytes.get(at).copied().unwrap_or_default();
        if flag(24) != 0 {
            return Err(Fault::Feature("it is encrypted"));
        }
        if flag(26) != 0 {
            return Err(Fault::Feature("it has checksums, or is one of several files"));
        }
        if number(48)? != 0 {
            return Err(Fault::Feature("it has duplicate keys, or several databases, or numbers for keys"));
        }
        // Not before the rest: a file with several databases is a tree of their names.
        if method != wanted {
            return Err(Fault::OtherMethod(method));
        }
        let page_bytes = usize::try_from(number(20)?).ok();
        let page_bytes = page_bytes.filter(|bytes| bytes.is_power_of_two() && (512..=65536).contains(bytes));
        let search = match method {
            Method::Hash if number(92)? != hash(HASHED) => {
                return Err(Fault::Feature("it was made with another hash function"));
            }
            Method::Hash => Search::Buckets(buckets(order, bytes).ok_or(Fault::NoDatabase)?),
            Method::Btree => Search::Root(number(88)?),
        };
        Ok(Self { order, page_bytes: page_bytes.ok_or(Fault::NoDatabase)?, last_page: number(32)?, search })
    }
}

/// Byte order and kind, from the magic number and the type of the page.
fn identify(bytes: &[u8]) -> Option<(Order, Method)> {
    [Order::Little, Order::Big].into_iter().find_map(|order| {
        let method = match (order.u32(bytes, 12)?, bytes.get(25)?) {
            (HASH_MAGIC, 8) => Method::Hash,
            (BTREE_MAGIC, 9) => Method::Btree,
            _ => return None,
        };
        Some((order, method))
    })
}

fn buckets(order: Order, bytes: &[u8]) -> Option<Buckets> {
    let number = |at: usize| order.u32(bytes, at);
    let mut first_pages = [0; 32];
    for (index, first) in first_pages.iter_mut().enumerate() {
        *first = number(index.checked_mul(4)?.checked_add(96)?)?;
    }
    Buckets::new(number(72)?, number(76)?, number(80)?, first_pages)
}
