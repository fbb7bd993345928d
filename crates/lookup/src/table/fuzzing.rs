//! Entry points for the fuzz targets; compiled for them only.

use std::cell::Cell;

use super::berkeley::{Database, Fault, Method, Storage};
use super::{socketmap, tcp};

/// The value in a reply line of a `tcp:` server, if it has one.
#[must_use]
pub fn tcp_reply(line: &[u8]) -> Option<Vec<u8>> {
    match tcp::parse(line) {
        tcp::Reply::Found(value) => Some(value),
        _ => None,
    }
}

/// A key as it is sent to a `tcp:` server.
#[must_use]
pub fn quote_tcp_key(key: &[u8]) -> Vec<u8> {
    tcp::quote(key)
}

/// The text that a `tcp:` server has quoted.
#[must_use]
pub fn unquote_tcp_text(text: &[u8]) -> Option<Vec<u8>> {
    tcp::unquote(text)
}

/// The reply of a socketmap server; `Ok(None)` when more bytes are needed, `Err` with the words of the failure.
///
/// # Errors
/// The bytes are no reply.
pub fn socketmap_reply(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, &'static str> {
    match socketmap::netstring(bytes, bytes_max) {
        Ok(socketmap::Reply::Complete(reply)) => {
            // What the reply says is looked at as well; any text is some answer.
            let _ = socketmap::answer(reply);
            Ok(Some(reply))
        }
        Ok(socketmap::Reply::Incomplete) => Ok(None),
        Err(failure) => Err(failure.words()),
    }
}

/// A file of a `hash:` or `btree:` table in memory.
struct InMemory<'a> {
    bytes: &'a [u8],
    read: &'a Cell<usize>,
}

impl Storage for InMemory<'_> {
    fn len(&self) -> Result<u64, Fault> {
        Ok(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Fault> {
        self.read.set(self.read.get().saturating_add(bytes.len()));
        let there = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..)?.get(..bytes.len()));
        bytes.copy_from_slice(there.ok_or(Fault::Damaged("it is truncated"))?);
        Ok(())
    }
}

/// What a `hash:` or `btree:` file answers, and how many bytes of it were read for that.
///
/// # Errors
/// The words of the failure.
pub fn berkeley_find(
    file: &[u8],
    is_btree: bool,
    key: &[u8],
    value_bytes_max: u64,
) -> (Result<Option<Vec<u8>>, String>, usize) {
    let read = Cell::new(0);
    let method = if is_btree { Method::Btree } else { Method::Hash };
    let found = Database::open(InMemory { bytes: file, read: &read }, method, value_bytes_max)
        .and_then(|database| database.find(key))
        .map_err(|fault| fault.to_string());
    (found, read.get())
}
