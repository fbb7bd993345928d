//! Where the keys of a `hash:` file lie: each belongs to one bucket, by its hash.

use super::fault::Fault;

/// Which page begins which bucket.
#[derive(Debug)]
pub(super) struct Buckets {
    pub(super) last: u32,
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
    pub(super) fn bucket(&self, key: &[u8]) -> u32 {
        let hash = hash(key);
        match hash & self.high_mask {
            bucket if bucket <= self.last => bucket,
            _ => hash & self.low_mask,
        }
    }

    /// The first page of a bucket.
    pub(super) fn page(&self, bucket: u32) -> Result<u32, Fault> {
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
