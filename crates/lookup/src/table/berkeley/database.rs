//! A file as a whole: a key in, a value out.

use super::fault::{Fault, Method};
use super::meta::Search;
use super::pages::{Budget, Pages, Storage};
use super::{btree, hash};

/// One state of a file.
#[derive(Debug)]
pub(crate) struct Database<S> {
    pages: Pages<S>,
}

impl<S: Storage> Database<S> {
    /// Reads the first page. A value longer than the bound counts as damage.
    ///
    /// # Errors
    /// It is not a file of this kind, or a part of it is missing.
    pub(crate) fn open(storage: S, method: Method, value_bytes_max: u64) -> Result<Self, Fault> {
        Ok(Self { pages: Pages::open(storage, method, value_bytes_max)? })
    }

    /// The value of exactly this key.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold together.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut budget = Budget::for_search();
        match self.pages.search() {
            Search::Buckets(buckets) => hash::find(&self.pages, buckets, key, &mut budget),
            Search::Root(root) => btree::find(&self.pages, *root, key, &mut budget),
        }
    }
}
