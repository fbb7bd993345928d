//! The pages of a file: bytes in through [`Storage`], keys and values out, and a limit on all that is read on the way.

use std::cmp::Ordering;

use super::fault::{Fault, Method};
use super::meta::{META_BYTES, Meta, Search};
use super::page::{Datum, HEADER_BYTES, Kind, Page};

/// What holds the bytes of a file.
pub(crate) trait Storage {
    /// How many there are.
    ///
    /// # Errors
    /// The system's words.
    fn len(&self) -> Result<u64, Fault>;

    /// Fills the buffer from this place on.
    ///
    /// # Errors
    /// The system's words, or that the file ends before that.
    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Fault>;
}

/// How many bytes of pages one search for a key may read, the value itself apart. Sound files need a few pages; a chain or
/// a row of long keys that is longer than this is no work of postmap(1).
const SEARCH_BYTES_MAX: usize = 16 << 20;

/// What is left of [`SEARCH_BYTES_MAX`].
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
}

impl Budget {
    /// A whole one, for one search.
    pub(super) const fn for_search() -> Self {
        Self { bytes: SEARCH_BYTES_MAX }
    }

    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or(Fault::Damaged("its pages form an endless chain"))?;
        Ok(())
    }
}

/// One state of a file.
#[derive(Debug)]
pub(super) struct Pages<S> {
    storage: S,
    meta: Meta,
    len: u64,
    value_bytes_max: u64,
}

impl<S: Storage> Pages<S> {
    /// Reads the first page. A value longer than the bound counts as damage.
    ///
    /// # Errors
    /// It is not a file of this kind, or a part of it is missing.
    pub(super) fn open(storage: S, method: Method, value_bytes_max: u64) -> Result<Self, Fault> {
        let len = storage.len()?;
        let mut first = [0; META_BYTES];
        if usize::try_from(len).is_ok_and(|len| len < META_BYTES) {
            // A directory has a length, too: the system says what is wrong with it.
            return Err(match storage.read(first.get_mut(..1).unwrap_or_default(), 0) {
                Err(fault @ Fault::Unreadable(_)) => fault,
                _ => Fault::NoDatabase,
            });
        }
        storage.read(&mut first, 0)?;
        let meta = Meta::parse(&first, method)?;
        let page_bytes = u64::try_from(meta.page_bytes).unwrap_or(u64::MAX);
        let pages = len.checked_div(page_bytes).unwrap_or_default();
        if u64::from(meta.last_page) >= pages || len.checked_rem(page_bytes) != Some(0) {
            return Err(Fault::Damaged("some of its pages are missing"));
        }
        Ok(Self { storage, meta, len, value_bytes_max })
    }

    /// Where a key is looked for.
    pub(super) const fn search(&self) -> &Search {
        &self.meta.search
    }

    pub(super) fn page(&self, number: u32, budget: &mut Budget) -> Result<Page, Fault> {
        Page::new(self.page_bytes(number, budget)?, self.meta.order, number)
    }

    /// As [`page`](Self::page); `None` for a page that was never written and is all zeros.
    pub(super) fn page_if_written(&self, number: u32, budget: &mut Budget) -> Result<Option<Page>, Fault> {
        let bytes = self.page_bytes(number, budget)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        Page::new(bytes, self.meta.order, number).map(Some)
    }

    fn page_bytes(&self, number: u32, budget: &mut Budget) -> Result<Vec<u8>, Fault> {
        if number == 0 || number > self.meta.last_page {
            return Err(Fault::Damaged("it refers to a page that does not exist"));
        }
        budget.take(self.meta.page_bytes)?;
        let page_bytes = u64::try_from(self.meta.page_bytes).unwrap_or(u64::MAX);
        let mut bytes = vec![0; self.meta.page_bytes];
        self.storage.read(&mut bytes, page_bytes.saturating_mul(u64::from(number)))?;
        Ok(bytes)
    }

    /// Hands out the pieces of a long key or value until they are all there, or `more` says that it has enough.
    fn pieces(
        &self,
        first: u32,
        len: usize,
        budget: &mut Budget,
        mut more: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Fault> {
        const WRONG_LENGTH: Fault = Fault::Damaged("a long item has a wrong length");
        let room = self.meta.page_bytes.saturating_sub(HEADER_BYTES);
        let (mut next, mut left) = (Some(first), len);
        while left > 0 {
            let page = self.page(next.ok_or(WRONG_LENGTH)?, budget)?.of(Kind::Overflow)?;
            // All pages but the last are full, so the number of pages follows from the length.
            let piece = page.piece().filter(|piece| piece.len() == left.min(room)).ok_or(WRONG_LENGTH)?;
            left = left.saturating_sub(piece.len());
            if !more(piece) {
                return Ok(());
            }
            next = page.next();
        }
        if next.is_some() { Err(WRONG_LENGTH) } else { Ok(()) }
    }

    /// Whether this is the key.
    pub(super) fn is_key(&self, found: Datum<'_>, key: &[u8], budget: &mut Budget) -> Result<bool, Fault> {
        match found {
            Datum::Elsewhere { len, .. } if usize::try_from(len) != Ok(key.len()) => Ok(false),
            _ => Ok(self.compare(found, key, budget)?.is_eq()),
        }
    }

    /// How a key of the file stands to the one that is looked for, in the order of their bytes.
    pub(super) fn compare(
        &self,
        found: Datum<'_>,
        key: &[u8],
        budget: &mut Budget,
    ) -> Result<Ordering, Fault> {
        let (page, len) = match found {
            Datum::Here(bytes) => return Ok(bytes.cmp(key)),
            Datum::Elsewhere { page, len } => (page, usize::try_from(len).unwrap_or(usize::MAX)),
        };
        let (mut order, mut rest) = (Ordering::Equal, key);
        self.pieces(page, len, budget, |piece| {
            let (same, behind) = rest.split_at_checked(piece.len()).unwrap_or((rest, &[]));
            order = piece.cmp(same);
            rest = behind;
            order.is_eq()
        })?;
        Ok(order.then(len.cmp(&key.len())))
    }

    /// The bytes of a value.
    pub(super) fn value(&self, found: Datum<'_>) -> Result<Vec<u8>, Fault> {
        const TOO_LONG: Fault = Fault::Damaged("a value is longer than the limit or the file");
        let (page, len) = match found {
            Datum::Here(bytes) => return Ok(bytes.to_vec()),
            Datum::Elsewhere { page, len } => (page, len),
        };
        if u64::from(len) > self.value_bytes_max.min(self.len) {
            return Err(TOO_LONG);
        }
        let len = usize::try_from(len).map_err(|_| TOO_LONG)?;
        // Bounded by the length, which the file has room for: a page holds more than half of its bytes.
        let mut budget = Budget { bytes: len.saturating_mul(2).saturating_add(self.meta.page_bytes) };
        let mut value = Vec::with_capacity(len);
        self.pieces(page, len, &mut budget, |piece| {
            value.extend_from_slice(piece);
            true
        })?;
        Ok(value)
    }
}
