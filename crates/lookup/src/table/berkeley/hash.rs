//! `hash:` files: linear hashing. A key belongs to one bucket, which is a page and those chained to it.

use super::buckets::Buckets;
use super::fault::Fault;
use super::page::{Datum, Kind, Order};
use super::pages::{Budget, Pages, Storage};

/// Looks through the bucket of the key.
pub(super) fn find<S: Storage>(
    pages: &Pages<S>,
    buckets: &Buckets,
    key: &[u8],
    budget: &mut Budget,
) -> Result<Option<Vec<u8>>, Fault> {
    const BROKEN_ITEM: Fault = Fault::Damaged("an item of a page is not within it");
    let bucket = buckets.bucket(key);
    let first = buckets.page(bucket)?;
    let mut page = match (buckets.last, bucket) {
        (1, 0) => match pages.page_if_written(first, budget)? {
            Some(page) => page,
            None => return blank(pages, buckets, budget),
        },
        _ => pages.page(first, budget)?,
    };
    loop {
        page = page.of(Kind::Hash)?;
        for pair in 0..page.items() / 2 {
            let at = pair.saturating_mul(2);
            let item = |index: usize| page.bounded_item(index).ok_or(BROKEN_ITEM);
            if pages.is_key(datum(item(at)?, page.order())?, key, budget)? {
                return pages.value(datum(item(at.saturating_add(1))?, page.order())?).map(Some);
            }
        }
        let Some(next) = page.next() else { return Ok(None) };
        page = pages.page(next, budget)?;
    }
}

/// Of the two buckets with which every table begins, the first is written when its first key comes. Until then its page is all
/// zeros. So is one that a disk has lost: it is believed only while chance can have put all keys into the other bucket.
fn blank<S: Storage>(
    pages: &Pages<S>,
    buckets: &Buckets,
    budget: &mut Budget,
) -> Result<Option<Vec<u8>>, Fault> {
    const KEYS_MAX: usize = 20;
    let (mut next, mut items) = (Some(buckets.page(1)?), 0_usize);
    while let Some(number) = next {
        let page = pages.page(number, budget)?.of(Kind::Hash)?;
        items = items.saturating_add(page.items());
        next = page.next();
    }
    if items / 2 > KEYS_MAX { Err(Fault::Damaged("a page was never written")) } else { Ok(None) }
}

/// What an item says: its first byte is its type.
fn datum(item: &[u8], order: Order) -> Result<Datum<'_>, Fault> {
    match item.split_first() {
        Some((1, bytes)) => Ok(Datum::Here(bytes)),
        Some((3, _)) => order
            .u32(item, 4)
            .zip(order.u32(item, 8))
            .map(|(page, len)| Datum::Elsewhere { page, len })
            .ok_or(Fault::Damaged("an item of a page is too short")),
        Some((5, _)) => Err(Fault::Feature("it has values in other files")),
        _ => Err(Fault::Damaged("an item of a page has the wrong type")),
    }
}
