//! Doors for the fuzz targets; built for them alone.

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
