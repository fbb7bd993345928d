//! Attribute lists: what Postfix's daemons say to each other over their sockets.
//!
//! A list is `name NUL value NUL` again and again and ends in one more NUL. A hash within a list is a name `{`, then names
//! and values, then a name `}`. Receivers are strict: they want the attributes in the order that they expect. Observed on
//! Postfix 3.7 and 3.12.

/// The name that begins a hash.
const HASH_BEGIN: &[u8] = b"{";
/// The name that ends a hash.
const HASH_END: &[u8] = b"}";

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A name and its value.
    Attribute(Vec<u8>, Vec<u8>),
    /// Names and values that belong together.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
}

/// A list that was received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributeList {
    /// In the order of the wire.
    pub entries: Vec<Entry>,
}

/// A list is not the one that was expected. The texts are Postfix's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unexpected {
    /// Another attribute stands there.
    #[error("unexpected attribute {found} (expecting: {expected})")]
    Attribute {
        /// The name that stands there.
        found: String,
        /// The name that should.
        expected: String,
    },
    /// The list ends too soon.
    #[error("missing attribute {0} in input")]
    Missing(String),
}

impl AttributeList {
    /// Adds an attribute; for building a list that [`AttributeList::encode`] will write.
    #[must_use]
    pub fn with(mut self, name: &str, value: &[u8]) -> Self {
        self.entries.push(Entry::Attribute(name.as_bytes().to_vec(), value.to_vec()));
        self
    }

    /// The value of the first attribute of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Attribute(found, value) if found == name.as_bytes() => Some(value.as_slice()),
            Entry::Attribute(..) | Entry::Hash(_) => None,
        })
    }

    /// The values, if the list has exactly these attributes in this order.
    ///
    /// # Errors
    /// The first attribute that is missing, or that stands in the place of another.
    pub fn values<const N: usize>(&self, names: [&str; N]) -> Result<[&[u8]; N], Unexpected> {
        let mut values = [&[][..]; N];
        let mut entries = self.entries.iter();
        for (slot, expected) in values.iter_mut().zip(names) {
            match entries.next() {
                Some(Entry::Attribute(found, value)) if found == expected.as_bytes() => *slot = value,
                Some(entry) => return Err(unexpected(entry, expected)),
                None => return Err(Unexpected::Missing(expected.to_owned())),
            }
        }
        match entries.next() {
            None => Ok(values),
            Some(entry) => Err(unexpected(entry, "list terminator")),
        }
    }

    /// Appends the list with its end to `out`. A NUL cannot be sent: a name or value ends before it, as a C string does.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for entry in &self.entries {
            match entry {
                Entry::Attribute(name, value) => encode(out, name, value),
                Entry::Hash(pairs) => {
                    encode_word(out, HASH_BEGIN);
                    for (name, value) in pairs {
                        encode(out, name, value);
                    }
                    encode_word(out, HASH_END);
                }
            }
        }
        out.push(0);
    }
}

fn unexpected(entry: &Entry, expected: &str) -> Unexpected {
    let found = match entry {
        Entry::Attribute(name, _) => name,
        Entry::Hash(_) => HASH_BEGIN,
    };
    Unexpected::Attribute { found: found.escape_ascii().to_string(), expected: expected.to_owned() }
}

/// Appends one attribute to `out`, without ending the list; see [`AttributeList::encode`] about NUL.
pub fn encode(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    encode_word(out, name);
    encode_word(out, value);
}

fn encode_word(out: &mut Vec<u8>, word: &[u8]) {
    out.extend(word.iter().take_while(|byte| **byte != 0));
    out.push(0);
}

/// Why bytes are no attribute list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The list is longer than the receiver allows.
    #[error("attribute list of more than {0} bytes")]
    TooLong(usize),
    /// A list ends within a hash, or a hash begins within a hash.
    #[error("malformed hash in attribute list")]
    Hash,
}

/// Receives lists, however the bytes are split.
#[derive(Debug)]
pub struct Decoder {
    bytes_max: usize,
    /// Bytes of the list that is being received, without what was decoded of it.
    pending: Vec<u8>,
    /// Bytes of the list that were decoded.
    decoded: usize,
    name: Option<Vec<u8>>,
    hash: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    list: AttributeList,
}

impl Decoder {
    /// `bytes_max` is how long a list may be, names, values and NULs together.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            pending: Vec::new(),
            decoded: 0,
            name: None,
            hash: None,
            list: AttributeList { entries: Vec::new() },
        }
    }

    /// Whether no list has begun: the only place where a stream may end.
    #[must_use]
    pub fn is_between_lists(&self) -> bool {
        self.decoded == 0 && self.pending.is_empty()
    }

    /// Takes bytes from the front of `input` until a list is complete; `Ok(None)` if it needs more. What follows the
    /// list stays in `input`. After an error the stream is useless.
    ///
    /// # Errors
    /// A list is longer than the bound of this decoder, or its form is wrong.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<AttributeList>, DecodeError> {
        while let Some(word) = self.word(input)? {
            if let Some(list) = self.take(word)? {
                self.decoded = 0;
                return Ok(Some(list));
            }
        }
        Ok(None)
    }

    /// The next word, without its NUL.
    fn word(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
        let room = self.bytes_max.saturating_sub(self.decoded).saturating_sub(self.pending.len());
        let nul = memchr::memchr(0, input);
        let wanted = nul.map_or(input.len(), |at| at + 1);
        if wanted > room {
            return Err(DecodeError::TooLong(self.bytes_max));
        }
        let (head, rest) = input.split_at_checked(wanted).unwrap_or((input, &[]));
        *input = rest;
        self.pending.extend_from_slice(head);
        if nul.is_none() {
            return Ok(None);
        }
        self.decoded += self.pending.len();
        self.pending.pop();
        Ok(Some(std::mem::take(&mut self.pending)))
    }

    /// Gives the word its meaning; the list, if it ends it.
    fn take(&mut self, word: Vec<u8>) -> Result<Option<AttributeList>, DecodeError> {
        if let Some(name) = self.name.take() {
            match &mut self.hash {
                Some(pairs) => pairs.push((name, word)),
                None => self.list.entries.push(Entry::Attribute(name, word)),
            }
            return Ok(None);
        }
        match (word.as_slice(), self.hash.take()) {
            (b"", None) => return Ok(Some(std::mem::take(&mut self.list))),
            (HASH_BEGIN, None) => self.hash = Some(Vec::new()),
            (HASH_END, Some(pairs)) => self.list.entries.push(Entry::Hash(pairs)),
            (b"" | HASH_BEGIN, Some(_)) | (HASH_END, None) => return Err(DecodeError::Hash),
            (_, hash) => {
                self.hash = hash;
                self.name = Some(word);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_that_were_seen_are_understood() {
        let mut input = &b"protocol\0cleanup_protocol\0queue_id\x0028EED9B4A2E\0\0status\x008\0reason\x005.7.1 no thanks\0\0rest"[..];
        let mut decoder = Decoder::new(1000);
        let list = decoder.decode(&mut input).unwrap().unwrap();
        assert_eq!(
            list.values(["protocol", "queue_id"]).unwrap(),
            [&b"cleanup_protocol"[..], b"28EED9B4A2E"]
        );
        let list = decoder.decode(&mut input).unwrap().unwrap();
        assert_eq!(list.get("reason"), Some(&b"5.7.1 no thanks"[..]));
        assert_eq!(input, b"rest");
        assert!(decoder.is_between_lists());
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(!decoder.is_between_lists());
    }

    #[test]
    fn order_matters() {
        let list = AttributeList::default().with("a", b"1").with("b", b"");
        assert_eq!(list.values(["a", "b"]).unwrap(), [&b"1"[..], b""]);
        let error = |names: [&str; 2]| list.values(names).unwrap_err().to_string();
        assert_eq!(error(["b", "a"]), "unexpected attribute a (expecting: b)");
        assert_eq!(
            list.values(["a"]).unwrap_err().to_string(),
            "unexpected attribute b (expecting: list terminator)"
        );
        assert_eq!(list.values(["a", "b", "c"]).unwrap_err().to_string(), "missing attribute c in input");
    }

    #[test]
    fn lists_are_bounded() {
        let mut decoder = Decoder::new(8);
        assert_eq!(decoder.decode(&mut &b"name\0"[..]), Ok(None));
        assert_eq!(decoder.decode(&mut &b"val"[..]), Ok(None));
        assert_eq!(decoder.decode(&mut &b"u"[..]), Err(DecodeError::TooLong(8)));
        assert!(Decoder::new(8).decode(&mut &b"n\0v\0a\0b\0\0"[..]).is_err());
        assert!(Decoder::new(9).decode(&mut &b"n\0v\0a\0b\0\0"[..]).unwrap().is_some());
    }

    #[test]
    fn hashes_begin_and_end() {
        let list = AttributeList {
            entries: vec![
                Entry::Hash(vec![(b"k".to_vec(), b"v".to_vec())]),
                Entry::Attribute(b"a".to_vec(), b"b".to_vec()),
            ],
        };
        let mut wire = Vec::new();
        list.encode(&mut wire);
        assert_eq!(wire, b"{\0k\0v\0}\0a\0b\0\0");
        assert_eq!(Decoder::new(100).decode(&mut &wire[..]).unwrap(), Some(list));
        for bad in [&b"{\0{\0"[..], b"}\0", b"{\0\0"] {
            assert_eq!(Decoder::new(100).decode(&mut &*bad), Err(DecodeError::Hash), "{bad:?}");
        }
    }

    #[test]
    fn a_value_ends_before_a_nul() {
        let mut out = Vec::new();
        encode(&mut out, b"key", b"a\0b");
        assert_eq!(out, b"key\0a\0");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_however_it_is_split(
            pairs in proptest::collection::vec(("[a-z_]{1,8}", "[^\0]{0,20}"), 0..8), pieces in 1..20_usize
        ) {
            let list = pairs.iter().fold(AttributeList::default(), |list, (k, v)| list.with(k, v.as_bytes()));
            let mut wire = Vec::new();
            list.encode(&mut wire);
            let mut decoder = Decoder::new(wire.len());
            let mut found = None;
            for piece in wire.chunks(pieces) {
                let mut piece = piece;
                prop_assert!(found.is_none());
                found = decoder.decode(&mut piece).unwrap();
            }
            prop_assert_eq!(found, Some(list));
            prop_assert!(decoder.is_between_lists());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(b'{'), any::<u8>()], 0..200)) {
            let mut decoder = Decoder::new(100);
            let mut input = &bytes[..];
            while let Ok(Some(_)) = decoder.decode(&mut input) {}
        }
    }
}
