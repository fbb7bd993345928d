//! How a daemon asks proxymap(8) for a key in a table that it does not open itself.
//!
//! A request is one list, a reply another; many of them go over one connection, one after the other. Since Postfix 3.6 the
//! server names its protocol at the beginning, in a list of its own or in front of its first reply. Requests have two
//! forms, see [`Dialect`]. Observed on Postfix 3.7 and 3.12.

use crate::attr::{self, AttributeList, Entry, Unexpected};
use crate::compatibility::Release;

/// How long a list from proxymap(8) may be. Postfix has no bound.
pub const LIST_BYTES_MAX: usize = 64 * 1024;

/// What proxymap(8) calls its protocol.
const PROTOCOL: &[u8] = b"proxymap_protocol";

/// Ask for a lock while a table is read.
const LOCK: u32 = 64;
/// Look keys that are fixed strings up in lower case.
const FOLD_FIXED_KEYS: u32 = 16_384;
/// Keys are fixed strings, not patterns.
const FIXED_KEYS: u32 = 16;
/// Keep what is not UTF-8 away from the table.
const UTF8: u32 = 524_288;

/// The flags with which a daemon opens a table for reading. `utf8`: smtputf8_enable, for tables of names and addresses;
/// `folds_keys`: keys are addresses, looked up in lower case where they are fixed strings.
#[must_use]
pub const fn instance_flags(utf8: bool, folds_keys: bool) -> u32 {
    LOCK | if utf8 { UTF8 } else { 0 } | if folds_keys { FOLD_FIXED_KEYS } else { 0 }
}

/// Whether a table with these flags, which its server gave, has fixed strings as keys, so that parent domains can be
/// asked for.
#[must_use]
pub const fn has_fixed_keys(table_flags: u32) -> bool {
    table_flags & FIXED_KEYS != 0
}

/// The form of the requests. A server that is asked in the other one answers [`Refusal::BadRequest`], logs a warning, and
/// goes on with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Up to Postfix 3.10: one set of flags, those with which the table is opened.
    UpTo3_10,
    /// Since Postfix 3.11: also the flags that the table has now. They replace what the server knows of the table, so they
    /// must be those of its latest reply: with others it may abort.
    Since3_11,
}

impl Dialect {
    /// The one that a proxymap(8) of this release understands.
    #[must_use]
    pub fn of(release: Release) -> Self {
        if release >= Release::new(3, 11) { Self::Since3_11 } else { Self::UpTo3_10 }
    }

    /// The one that this is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::UpTo3_10 => Self::Since3_11,
            Self::Since3_11 => Self::UpTo3_10,
        }
    }

    /// The request to open a table, named `type:name`.
    #[must_use]
    pub fn open_request(self, table: &[u8], instance_flags: u32) -> Vec<u8> {
        let mut out = request(b"open", table);
        match self {
            Self::UpTo3_10 => attr::encode(&mut out, b"flags", b"0"),
            Self::Since3_11 => encode_number(&mut out, b"instance_flags", instance_flags),
        }
        out.push(0);
        out
    }

    /// The request for a key. `table_flags` are those of the latest reply about this table.
    #[must_use]
    pub fn lookup_request(self, table: &[u8], instance_flags: u32, table_flags: u32, key: &[u8]) -> Vec<u8> {
        let mut out = request(b"lookup", table);
        match self {
            Self::UpTo3_10 => encode_number(&mut out, b"flags", instance_flags),
            Self::Since3_11 => {
                encode_number(&mut out, b"instance_flags", instance_flags);
                encode_number(&mut out, b"flags", table_flags);
            }
        }
        attr::encode(&mut out, b"key", key);
        out.push(0);
        out
    }

    /// Reads the reply to [`Self::lookup_request`].
    ///
    /// # Errors
    /// It is not such a reply.
    pub fn lookup_reply(self, list: &AttributeList) -> Result<LookupReply, DialogueError> {
        let status = status(list)?;
        if let Some(refusal) = Refusal::of_lookup(status) {
            // Not every refusal has the attributes of an answer: the other dialect's does not.
            return Ok(LookupReply::Refused(refusal));
        }
        let (value, table_flags) = match self {
            Self::UpTo3_10 => (list.values(["status", "value"])?[1], None),
            Self::Since3_11 => {
                let [_, table_flags, value] = list.values(["status", "flags", "value"])?;
                (value, Some(number("flags", table_flags)?))
            }
        };
        let value = (status == STATUS_OK).then(|| value.to_vec());
        Ok(LookupReply::Answer { value, table_flags })
    }
}

/// Reads the reply to [`Dialect::open_request`]: the flags of the table, or why it is not opened.
///
/// # Errors
/// It is not such a reply.
pub fn open_reply(list: &AttributeList) -> Result<Result<u32, Refusal>, DialogueError> {
    let status = status(list)?;
    if status != STATUS_OK {
        return Ok(Err(Refusal::of(status)));
    }
    let [_, table_flags] = list.values(["status", "flags"])?;
    Ok(Ok(number("flags", table_flags)?))
}

/// Takes the name of the protocol off the first list of a connection, if it is there; `None` if there was nothing else, and
/// the reply is the next list.
///
/// # Errors
/// The peer speaks another protocol.
pub fn without_announcement(mut list: AttributeList) -> Result<Option<AttributeList>, DialogueError> {
    match list.entries.first() {
        Some(Entry::Attribute(name, protocol)) if name == b"protocol" => {
            if protocol != PROTOCOL {
                return Err(DialogueError::Protocol(protocol.escape_ascii().to_string()));
            }
            list.entries.remove(0);
            Ok((!list.entries.is_empty()).then_some(list))
        }
        _ => Ok(Some(list)),
    }
}

/// What proxymap(8) answers about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupReply {
    /// It has looked.
    Answer {
        /// What is there for the key; `None` if there is no such key.
        value: Option<Vec<u8>>,
        /// The flags of the table, for the next request; `None` before Postfix 3.11.
        table_flags: Option<u32>,
    },
    /// It has not.
    Refused(Refusal),
}

/// Why proxymap(8) does not do what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The table cannot be read now.
    TryLater,
    /// The request is not understood, as when it has the form of another version.
    BadRequest,
    /// proxy_read_maps does not list the table.
    NotApproved,
    /// The table cannot be read as it is configured.
    Configuration,
    /// A status that is not known here.
    Unknown(u32),
}

const STATUS_OK: u32 = 0;
const STATUS_NO_KEY: u32 = 1;

impl Refusal {
    const fn of(status: u32) -> Self {
        match status {
            2 => Self::TryLater,
            3 => Self::BadRequest,
            4 => Self::NotApproved,
            5 => Self::Configuration,
            other => Self::Unknown(other),
        }
    }

    fn of_lookup(status: u32) -> Option<Self> {
        (!matches!(status, STATUS_OK | STATUS_NO_KEY)).then(|| Self::of(status))
    }
}

/// Why a list from proxymap(8) is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialogueError {
    /// Other attributes than expected.
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    /// The peer speaks something else.
    #[error("the peer speaks \"{0}\" instead of \"proxymap_protocol\"; see proxymap_service_name")]
    Protocol(String),
    /// A status or a set of flags is no number.
    #[error("the attribute {name} is \"{value}\", which is not a number")]
    Number {
        /// The attribute.
        name: &'static str,
        /// What stands there.
        value: String,
    },
}

fn request(name: &[u8], table: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    attr::encode(&mut out, b"request", name);
    attr::encode(&mut out, b"table", table);
    out
}

fn encode_number(out: &mut Vec<u8>, name: &[u8], number: u32) {
    attr::encode(out, name, number.to_string().as_bytes());
}

/// The first attribute of every reply.
fn status(list: &AttributeList) -> Result<u32, DialogueError> {
    match list.entries.first() {
        Some(Entry::Attribute(name, value)) if name == b"status" => number("status", value),
        // Says what stands there instead.
        _ => list.values(["status"]).map_err(DialogueError::from).and_then(|[value]| number("status", value)),
    }
}

fn number(name: &'static str, value: &[u8]) -> Result<u32, DialogueError> {
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| DialogueError::Number { name, value: value.escape_ascii().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Decoder;
    use proptest::prelude::*;

    const TABLE: &[u8] = b"hash:/x/clients";

    fn list(bytes: &[u8]) -> AttributeList {
        Decoder::new(LIST_BYTES_MAX).decode(&mut &*bytes).unwrap().unwrap()
    }

    #[test]
    fn requests_are_those_that_were_seen() {
        let flags = instance_flags(true, false);
        assert_eq!(
            Dialect::UpTo3_10.open_request(TABLE, flags),
            b"request\0open\0table\0hash:/x/clients\0flags\x000\0\0"
        );
        assert_eq!(
            Dialect::UpTo3_10.lookup_request(TABLE, flags, 28, b"127.0.0.1"),
            b"request\0lookup\0table\0hash:/x/clients\0flags\x00524352\0key\x00127.0.0.1\0\0"
        );
        assert_eq!(
            Dialect::Since3_11.open_request(TABLE, flags),
            b"request\0open\0table\0hash:/x/clients\0instance_flags\x00524352\0\0"
        );
        let request = Dialect::Since3_11.lookup_request(TABLE, flags, 1_572_956, b"127.0.0.1");
        let seen: &[u8] =
            b"request\0lookup\0table\0hash:/x/clients\0instance_flags\x00524352\0flags\x001572956\0\
            key\x00127.0.0.1\0\0";
        assert_eq!(request, seen);
        assert_eq!(instance_flags(false, false), 64);
        assert_eq!(instance_flags(true, true), 540_736);
    }

    #[test]
    fn replies_that_were_seen_are_understood() {
        assert_eq!(open_reply(&list(b"status\x000\0flags\x0028\0\0")), Ok(Ok(28)));
        assert_eq!(open_reply(&list(b"status\x000\0flags\x001572956\0\0")), Ok(Ok(1_572_956)));
        assert_eq!(open_reply(&list(b"status\x004\0flags\x000\0\0")), Ok(Err(Refusal::NotApproved)));
        assert!(has_fixed_keys(28) && has_fixed_keys(1_572_956) && !has_fixed_keys(32));
        let answer = |value: Option<&[u8]>, table_flags| {
            Ok(LookupReply::Answer { value: value.map(<[u8]>::to_vec), table_flags })
        };
        let (old, new) = (Dialect::UpTo3_10, Dialect::Since3_11);
        assert_eq!(old.lookup_reply(&list(b"status\x000\0value\0ok\0\0")), answer(Some(b"ok"), None));
        assert_eq!(old.lookup_reply(&list(b"status\x001\0value\0\0\0")), answer(None, None));
        let flags = Some(1_572_952);
        let found = list(b"status\x000\0flags\x001572952\0value\0ok\0\0");
        assert_eq!(new.lookup_reply(&found), answer(Some(b"ok"), flags));
        assert_eq!(
            new.lookup_reply(&list(b"status\x001\0flags\x001572952\0value\0\0\0")),
            answer(None, flags)
        );
        for (status, refusal) in [
            (2, Refusal::TryLater),
            (3, Refusal::BadRequest),
            (4, Refusal::NotApproved),
            (5, Refusal::Configuration),
            (6, Refusal::Unknown(6)),
        ] {
            // In either form, whichever was asked in.
            for more in ["value\0\0", "flags\x000\0value\0\0"] {
                let reply = list(format!("status\0{status}\0{more}\0").as_bytes());
                assert_eq!(old.lookup_reply(&reply), Ok(LookupReply::Refused(refusal)));
                assert_eq!(new.lookup_reply(&reply), Ok(LookupReply::Refused(refusal)));
            }
        }
    }

    #[test]
    fn a_protocol_is_announced_alone_in_front_or_not_at_all() {
        let reply = list(b"status\x000\0flags\x0028\0\0");
        assert_eq!(without_announcement(list(b"protocol\0proxymap_protocol\0\0")), Ok(None));
        let together = list(b"protocol\0proxymap_protocol\0status\x000\0flags\x0028\0\0");
        assert_eq!(without_announcement(together), Ok(Some(reply.clone())));
        assert_eq!(without_announcement(reply.clone()), Ok(Some(reply)));
        let error = without_announcement(list(b"protocol\0cleanup_protocol\0\0")).unwrap_err();
        assert!(error.to_string().contains("cleanup_protocol"));
    }

    #[test]
    fn what_is_no_reply_is_named() {
        let words = |bytes: &[u8]| Dialect::UpTo3_10.lookup_reply(&list(bytes)).unwrap_err().to_string();
        assert_eq!(words(b"\0"), "missing attribute status in input");
        assert_eq!(words(b"value\0x\0\0"), "unexpected attribute value (expecting: status)");
        assert_eq!(words(b"status\x000\0\0"), "missing attribute value in input");
        assert_eq!(
            words(b"status\x000\0flags\x001\0value\0x\0\0"),
            "unexpected attribute flags (expecting: value)"
        );
        assert_eq!(words(b"status\0-1\0\0"), "the attribute status is \"-1\", which is not a number");
    }

    proptest! {
        #[test]
        fn any_list_is_survived(pairs in proptest::collection::vec(("status|flags|value|protocol", "[0-9]{0,12}|x"), 0..5)) {
            let list = pairs.iter().fold(AttributeList::default(), |list, (k, v)| list.with(k, v.as_bytes()));
            let _ = open_reply(&list);
            let _ = Dialect::UpTo3_10.lookup_reply(&list);
            let _ = Dialect::Since3_11.lookup_reply(&list);
            let _ = without_announcement(list);
        }
    }
}
