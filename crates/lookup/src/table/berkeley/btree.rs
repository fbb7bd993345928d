//! `btree:` files: keys in the order of their bytes, from a root down to the leaves.

use std::cmp::Ordering;

use super::fault::Fault;
use super::page::{Datum, Kind, Page};
use super::pages::{Budget, Pages, Storage};

const BROKEN_ITEM: Fault = Fault::Damaged("an item of a page is not within it");

/// Goes down from the root to the leaf in which the key would be.
pub(super) fn find<S: Storage>(
    pages: &Pages<S>,
    root: u32,
    key: &[u8],
    budget: &mut Budget,
) -> Result<Option<Vec<u8>>, Fault> {
    let mut page = pages.page(root, budget)?;
    loop {
        match (page.kind(), page.level()) {
            (Kind::Leaf, 1) => return in_leaf(pages, &page, key, budget),
            // Each page is a level below the one before: that ends.
            (Kind::Internal, level @ 2..) => {
                let below = pages.page(down(pages, &page, key, budget)?, budget)?;
                if below.level().checked_add(1) != Some(level) {
                    return Err(Fault::Damaged("a page has the wrong level"));
                }
                page = below;
            }
            _ => return Err(Fault::Damaged("a page has the wrong type")),
        }
    }
}

/// The page below in which the key would be: that of the last entry whose key is not greater. The first entry stands
/// for everything smaller, whatever its key.
fn down<S: Storage>(pages: &Pages<S>, page: &Page, key: &[u8], budget: &mut Budget) -> Result<u32, Fault> {
    // The wanted entry is at or behind `first`, and before `end`.
    let (mut first, mut end) = (0_usize, page.items());
    while let Some(middle) = middle(first.saturating_add(1), end) {
        let item = page.item(middle).ok_or(BROKEN_ITEM)?;
        let its_key = internal_key(item, page)?;
        if pages.compare(its_key, key, budget)? == Ordering::Greater {
            end = middle;
        } else {
            first = middle;
        }
    }
    page.item(first).and_then(|item| page.order().u32(item, 4)).ok_or(BROKEN_ITEM)
}

/// The value that stands behind the key, if it is in this leaf.
fn in_leaf<S: Storage>(
    pages: &Pages<S>,
    page: &Page,
    key: &[u8],
    budget: &mut Budget,
) -> Result<Option<Vec<u8>>, Fault> {
    let (mut first, mut end) = (0_usize, page.items() / 2);
    while let Some(middle) = middle(first, end) {
        let at = middle.saturating_mul(2);
        let item = |index: usize| page.item(index).ok_or(BROKEN_ITEM);
        match pages.compare(leaf_datum(item(at)?, page)?, key, budget)? {
            Ordering::Less => first = middle.saturating_add(1),
            Ordering::Greater => end = middle,
            Ordering::Equal => {
                let value = item(at.saturating_add(1))?;
                if value.get(2).is_some_and(|&kind| kind & DELETED != 0) {
                    return Ok(None);
                }
                return pages.value(leaf_datum(value, page)?).map(Some);
            }
        }
    }
    Ok(None)
}

/// The middle of a range, if there is anything in it.
fn middle(first: usize, end: usize) -> Option<usize> {
    let len = end.checked_sub(first).filter(|&len| len > 0)?;
    first.checked_add(len / 2)
}

/// Added to the type of an item that was deleted while a cursor stood on it.
const DELETED: u8 = 0x80;
const HERE: u8 = 1;
const ELSEWHERE: u8 = 3;

/// An item of a leaf: length, type, bytes.
fn leaf_datum<'a>(item: &'a [u8], page: &Page) -> Result<Datum<'a>, Fault> {
    let kind = item.get(2).map(|kind| kind & !DELETED);
    match kind {
        Some(HERE) => {
            let len = page.order().u16(item, 0).map(usize::from);
            len.and_then(|len| item.get(3..)?.get(..len)).map(Datum::Here).ok_or(BROKEN_ITEM)
        }
        Some(ELSEWHERE) => elsewhere(item, page),
        Some(4) => Err(Fault::Feature("it has values in other files")),
        _ => Err(Fault::Damaged("an item of a page has the wrong type")),
    }
}

/// The key of an entry of an internal page: length, type, page below, number of records, bytes.
fn internal_key<'a>(item: &'a [u8], page: &Page) -> Result<Datum<'a>, Fault> {
    let len = page.order().u16(item, 0).map(usize::from);
    let bytes = item.get(12..).ok_or(BROKEN_ITEM)?;
    match item.get(2).map(|kind| kind & !DELETED) {
        Some(HERE) => len.and_then(|len| bytes.get(..len)).map(Datum::Here).ok_or(BROKEN_ITEM),
        Some(ELSEWHERE) => elsewhere(bytes, page),
        _ => Err(Fault::Damaged("an item of a page has the wrong type")),
    }
}

/// Where a long key or value stands.
fn elsewhere<'a>(item: &[u8], page: &Page) -> Result<Datum<'a>, Fault> {
    let order = page.order();
    let found = order.u32(item, 4).zip(order.u32(item, 8));
    found.map(|(page, len)| Datum::Elsewhere { page, len }).ok_or(BROKEN_ITEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_middle_until_it_is_empty() {
        assert_eq!(middle(0, 1), Some(0));
        assert_eq!(middle(3, 8), Some(5));
        assert_eq!(middle(3, 3), None);
        assert_eq!(middle(1, 0), None);
        assert_eq!(middle(0, usize::MAX), Some(usize::MAX / 2));
    }
}
