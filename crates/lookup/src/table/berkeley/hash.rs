//! `hash:` files: linear hashing. A key belongs to one bucket, which is a page and those chained to it.

use super::database::{Budget, Database, Fault, Storage};
use super::page::{Datum, Kind, Order};

/// Which page begins which bucket.
#[derive(Debug)]
pub(super) struct Buckets {
    last: u32,
    high_mask: u32,
    low_mask: u32,
    /// What to add to the number of a bucket to have the number of its page, one for each doubling of the table.
    first_pages: [u32; 32],
}

impl Buckets {
    /// `None` if the numbers contradict each other.
    pub(super) fn new(last: u32, high_mask: u32, low_mask: u32, first_pages: [u32; 32]) -> Option<Self> {
        let is_mask = high_mask.checked_add(1).is_none_or(u32::is_power_of_two);
        (is_mask && low_mask == high_mask >> 1 && last <= high_mask).then_some(Self {
            last,
            high_mask,
            low_mask,
            first_pages,
        })
    }

    /// The bucket in which the key would be.
    fn bucket(&self, key: &[u8]) -> u32 {
        let hash = hash(key);
        match hash & self.high_mask {
            bucket if bucket <= self.last => bucket,
            _ => hash & self.low_mask,
        }
    }

    /// The first page of a bucket.
    fn page(&self, bucket: u32) -> Result<u32, Fault> {
        let doublings = u32::BITS.checked_sub(bucket.leading_zeros());
        let first = doublings.and_then(|doublings| self.first_pages.get(usize::try_from(doublings).ok()?));
        let page = first.and_then(|first| first.checked_add(bucket));
        page.ok_or(Fault::Damaged("a bucket has no page"))
    }
}

/// The hash function of the format: FNV-1 of 32 bits, with 0 as its beginning.
pub(super) fn hash(key: &[u8]) -> u32 {
    key.iter().fold(0, |hash: u32, &byte| hash.wrapping_mul(16_777_619) ^ u32::from(byte))
}

/// Looks through the bucket of the key.
pub(super) fn find<S: Storage>(
    database: &Database<S>,
    buckets: &Buckets,
    key: &[u8],
    budget: &mut Budget,
) -> Result<Option<Vec<u8>>, Fault> {
    const BROKEN_ITEM: Fault = Fault::Damaged("an item of a page is not within it");
    let bucket = buckets.bucket(key);
    let first = buckets.page(bucket)?;
    let mut page = match (buckets.last, bucket) {
        (1, 0) => match database.page_if_written(first, budget)? {
            Some(page) => page,
            None => return blank(database, buckets, budget),
        },
        _ => database.page(first, budget)?,
    };
    loop {
        page = page.of(Kind::Hash)?;
        for pair in 0..page.items() / 2 {
            let at = pair.saturating_mul(2);
            let item = |index: usize| page.bounded_item(index).ok_or(BROKEN_ITEM);
            if database.is_key(datum(item(at)?, page.order())?, key, budget)? {
                return database.value(datum(item(at.saturating_add(1))?, page.order())?).map(Some);
            }
        }
        let Some(next) = page.next() else { return Ok(None) };
        page = database.page(next, budget)?;
    }
}

/// Of the two buckets with which every table begins, the first is written when its first key comes. Until then its page is all
/// zeros. So is one that a disk has lost: it is believed only while chance can have put all keys into the other bucket.
fn blank<S: Storage>(
    database: &Database<S>,
    buckets: &Buckets,
    budget: &mut Budget,
) -> Result<Option<Vec<u8>>, Fault> {
    const KEYS_MAX: usize = 20;
    let (mut next, mut items) = (Some(buckets.page(1)?), 0_usize);
    while let Some(number) = next {
        let page = database.page(number, budget)?.of(Kind::Hash)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_the_one_that_files_name() {
        assert_eq!(hash(b"%$sniglet^&\0"), 0x5e68_8dd1, "as it stands in a file of postmap(1)");
    }

    #[test]
    fn buckets_lie_in_runs_that_double() {
        let mut first_pages = [0; 32];
        first_pages[..4].copy_from_slice(&[1, 1, 2, 5]);
        // Six buckets: what would fall into 6 or 7 is still in 2 or 3.
        let buckets = Buckets::new(5, 7, 3, first_pages).unwrap();
        let found: std::collections::BTreeSet<_> =
            (0..100_u32).map(|number| buckets.bucket(&number.to_le_bytes())).collect();
        assert_eq!(found, (0..6).collect());
        let pages: Result<Vec<_>, _> = (0..6).map(|bucket| buckets.page(bucket)).collect();
        assert_eq!(pages, Ok(vec![1, 2, 4, 5, 9, 10]));
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused() {
        for (last, high, low) in [(8, 7, 3), (5, 6, 3), (5, 7, 7)] {
            assert!(Buckets::new(last, high, low, [0; 32]).is_none());
        }
        assert!(Buckets::new(0, u32::MAX, u32::MAX >> 1, [0; 32]).is_some());
    }
}
