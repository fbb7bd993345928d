//! A file as a whole: bytes in through [`Storage`], a value out, and a limit on all that is read on the way.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use super::meta::{META_BYTES, Meta, Search};
use super::page::{Datum, HEADER_BYTES, Kind, Page};
use super::{btree, hash};

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

/// How keys are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Hash,
    Btree,
}

impl Method {
    /// The type of such a table in main.cf.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Btree => "btree",
        }
    }

    /// The versions of the format that are alike to a reader: those that Berkeley DB 5.3 reads, and 10, which later releases
    /// write and in which only values in other files are new.
    pub(super) const fn versions(self) -> RangeInclusive<u32> {
        match self {
            Self::Hash => 7..=10,
            Self::Btree => 8..=10,
        }
    }
}

/// Why a file does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The system says so.
    #[error("{0}")]
    Unreadable(String),
    #[error("it is not a Berkeley DB file, or it is damaged")]
    NoDatabase,
    #[error("it is a {}: table", .0.name())]
    OtherMethod(Method),
    #[error(
        "it has version {version} of the {} format, and versions {} to {} are supported",
        .method.name(), .method.versions().start(), .method.versions().end()
    )]
    Version { method: Method, version: u32 },
    /// Something that postmap(1) never makes.
    #[error("{0}, which postmap(1) does not make")]
    Feature(&'static str),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
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
    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or(Fault::Damaged("its pages form an endless chain"))?;
        Ok(())
    }
}

/// One state of a file.
#[derive(Debug)]
pub(crate) struct Database<S> {
    storage: S,
    meta: Meta,
    len: u64,
    value_bytes_max: u64,
}

impl<S: Storage> Database<S> {
    /// Reads the first page. A value longer than the bound counts as damage.
    ///
    /// # Errors
    /// It is not a file of this kind, or a part of it is missing.
    pub(crate) fn open(storage: S, method: Method, value_bytes_max: u64) -> Result<Self, Fault> {
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

    /// The value of exactly this key.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold together.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut budget = Budget { bytes: SEARCH_BYTES_MAX };
        match &self.meta.search {
            Search::Buckets(buckets) => hash::find(self, buckets, key, &mut budget),
            Search::Root(root) => btree::find(self, *root, key, &mut budget),
        }
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
