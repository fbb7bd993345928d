//! The negotiation between server and filter before the first step.

use super::packet::{BadReply, NEGOTIATE, Step, encode_packet, number, text};

/// What a filter may ask to change: headers, body, recipients, sender, quarantine, and lists of macros.
const ACTIONS: u32 = 0x1ff;
/// The value of a header has its leading blank.
const LEADING_BLANK: u32 = 1 << 20;

/// Steps and answers that exist in each version, latest first.
const VERSIONS: [(u32, u32); 4] = [(6, 0x1f_ffff), (4, 0x37f), (3, 0x17f), (2, 0x7f)];
/// All options by which a step is left out.
const UNWANTED: u32 = 0x37f;

/// What the server offers: the value of `milter_protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    version: u32,
    protocol: u32,
}

/// Why a value of `milter_protocol` is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProtocol {
    /// A word that is neither a version nor an extension, or a second version.
    #[error("bad protocol information: {0}")]
    Word(String),
    /// No version.
    #[error("no protocol version information")]
    NoVersion,
}

impl Offer {
    /// Reads a version, 2, 3, 4 or 6, and perhaps `no_header_reply`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(value: &str) -> Result<Self, BadProtocol> {
        let mut offer = Self { version: 0, protocol: 0 };
        for word in value.split([',', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()) {
            let known = VERSIONS.iter().find(|(version, _)| version.to_string() == word);
            match known {
                Some(&(version, protocol)) if offer.version == 0 => {
                    offer.version = version;
                    offer.protocol |= protocol;
                }
                None if word == "no_header_reply" => offer.protocol |= Step::Header.unanswered(),
                _ => return Err(BadProtocol::Word(word.to_owned())),
            }
        }
        if offer.version == 0 { Err(BadProtocol::NoVersion) } else { Ok(offer) }
    }

    /// Appends the packet that opens a connection.
    pub fn encode(self, out: &mut Vec<u8>) {
        let numbers = [self.version, ACTIONS, self.protocol].map(u32::to_be_bytes);
        encode_packet(out, NEGOTIATE, &[numbers.as_flattened()]);
    }
}

/// Why a filter's answer to the offer is not acceptable; the words go behind `milter NAME: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNegotiation {
    /// The answer is another packet.
    #[error("unexpected reply \"{}\" in initial handshake", .0.escape_ascii())]
    Unexpected(u8),
    /// It wants a later version.
    #[error("protocol version {theirs} conflict with MTA protocol version {ours}")]
    Version {
        /// The version that the filter wants.
        theirs: u32,
        /// The version that was offered.
        ours: u32,
    },
    /// The filter requests actions that were not offered.
    #[error("request mask {theirs:#x} conflict with MTA request mask {:#x}", ACTIONS)]
    Actions {
        /// What the filter wants to do.
        theirs: u32,
    },
    /// The packet makes no sense.
    #[error(transparent)]
    Packet(#[from] BadReply),
}

/// What was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Options that the filter has chosen.
    options: u32,
    /// Steps that the version in use does not have.
    missing: u32,
    /// Lists of macro names, in the order of libmilter's numbers: connect, helo, mail, rcpt, data, end of message, end
    /// of header. Empty: the server's own list.
    macros: [String; 7],
    /// What is odd about the answer and does no harm; the words go behind `milter NAME: `.
    pub oddities: Vec<String>,
}

impl Negotiated {
    /// Reads the answer to an offer.
    ///
    /// # Errors
    /// It cannot be agreed to.
    pub fn parse(offer: Offer, command: u8, data: &[u8]) -> Result<Self, BadNegotiation> {
        if command != NEGOTIATE {
            return Err(BadNegotiation::Unexpected(command));
        }
        let mut rest = data;
        let (version, actions, options) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
        if version > offer.version {
            return Err(BadNegotiation::Version { theirs: version, ours: offer.version });
        }
        if actions & ACTIONS != actions {
            return Err(BadNegotiation::Actions { theirs: actions });
        }
        let mut missing = UNWANTED & !offer.protocol;
        let known = VERSIONS.iter().find(|(known, _)| *known <= version);
        if let Some((_, protocol)) = known {
            missing |= UNWANTED & !protocol;
        }
        let mut negotiated =
            Self { options, missing, macros: <[String; 7]>::default(), oddities: Vec::new() };
        if known.is_none() {
            negotiated.oddities.push(format!("unexpected protocol version {version}"));
        }
        while !rest.is_empty() {
            let kind = number(&mut rest)?;
            let names = String::from_utf8_lossy(text(&mut rest)?).into_owned();
            match usize::try_from(kind).ok().and_then(|kind| negotiated.macros.get_mut(kind)) {
                Some(list) => *list = names,
                // A packet is bounded, so this is.
                None => negotiated.oddities.push(format!("ignoring unknown macro type {kind}")),
            }
        }
        Ok(negotiated)
    }

    /// Whether the filter is told of a step at all; macros are sent even for steps that it does not want.
    #[must_use]
    pub const fn has(&self, step: Step) -> bool {
        step.unwanted() & self.missing == 0
    }

    /// Whether the filter wants to hear of a step.
    #[must_use]
    pub const fn wants(&self, step: Step) -> bool {
        step.unwanted() & (self.missing | self.options) == 0
    }

    /// Whether the filter answers a step.
    #[must_use]
    pub const fn answers(&self, step: Step) -> bool {
        step.unanswered() & self.options == 0
    }

    /// Whether the blank between `:` and the value of a header belongs to the value, here and in what the filter adds.
    #[must_use]
    pub const fn leading_blank(&self) -> bool {
        self.options & LEADING_BLANK != 0
    }

    /// The names of the macros that the filter wants with a step; `None`: those that the server sends by default.
    #[must_use]
    pub fn macros(&self, step: Step) -> Option<&str> {
        let [connect, helo, mail, rcpt, data, end_of_body, end_of_header] = &self.macros;
        let list = match step {
            Step::Connect => connect,
            Step::Helo => helo,
            Step::Mail => mail,
            Step::Rcpt => rcpt,
            Step::Data => data,
            Step::Header | Step::EndOfHeader => end_of_header,
            Step::Body | Step::EndOfBody => end_of_body,
        };
        (!list.is_empty()).then_some(list)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(numbers: [u32; 3], rest: &[u8]) -> Vec<u8> {
        [numbers.map(u32::to_be_bytes).as_flattened(), rest].concat()
    }

    fn agreed(offer: &str, numbers: [u32; 3], rest: &[u8]) -> Result<Negotiated, String> {
        let offer = Offer::parse(offer).unwrap();
        Negotiated::parse(offer, b'O', &answer(numbers, rest)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_offer_is_that_of_postfix() {
        for (value, expected) in [
            ("6", [6, 0x1ff, 0x1f_ffff]),
            ("4", [4, 0x1ff, 0x37f]),
            ("3", [3, 0x1ff, 0x17f]),
            ("2", [2, 0x1ff, 0x7f]),
            ("2, no_header_reply", [2, 0x1ff, 0xff]),
        ] {
            let mut packet = Vec::new();
            Offer::parse(value).unwrap().encode(&mut packet);
            assert_eq!(packet, [b"\0\0\0\x0dO".as_slice(), &answer(expected, b"")].concat(), "{value}");
        }
        for (value, error) in [
            ("", "no protocol version information"),
            ("no_header_reply", "no protocol version information"),
            ("5", "bad protocol information: 5"),
            ("6 2", "bad protocol information: 2"),
            ("six", "bad protocol information: six"),
        ] {
            assert_eq!(Offer::parse(value).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn what_a_filter_wants() {
        let all = agreed("6", [6, 0, 0], b"").unwrap();
        assert!(all.wants(Step::Data) && all.answers(Step::Header) && !all.leading_blank());
        let old = agreed("6", [2, 0, 0], b"").unwrap();
        assert!(!old.has(Step::Data) && old.has(Step::Mail));
        // It says of a step that its version lacks that it does not want it: it is never sent.
        assert!(!agreed("6", [2, 0, 1 << 9], b"").unwrap().wants(Step::Data));
        assert!(!agreed("3", [3, 0, 0], b"").unwrap().has(Step::Data));
        // An undefined version has what the one before it has.
        assert!(agreed("6", [5, 0, 0], b"").unwrap().has(Step::Data));
        let picky = agreed("6", [6, 0x1ff, 1 << 5 | 1 << 20 | 1 << 15], b"").unwrap();
        assert!(picky.has(Step::Header) && !picky.wants(Step::Header) && picky.leading_blank());
        assert!(!picky.answers(Step::Rcpt) && picky.answers(Step::EndOfBody) && picky.wants(Step::EndOfBody));
    }

    #[test]
    fn macro_lists() {
        let lists = b"\0\0\0\x03{rcpt_addr}\0\0\0\0\x06i\0\0\0\0\x09x\0";
        let negotiated = agreed("6", [6, 0x1ff, 0], lists).unwrap();
        assert_eq!(negotiated.macros(Step::Rcpt), Some("{rcpt_addr}"));
        assert_eq!(negotiated.macros(Step::Header), Some("i"));
        assert_eq!(negotiated.macros(Step::EndOfBody), None);
        assert_eq!(negotiated.oddities, ["ignoring unknown macro type 9"]);
        assert_eq!(agreed("6", [6, 0, 0], b"\0\0").unwrap_err(), "input packet too short for network long");
        assert_eq!(agreed("6", [6, 0, 0], b"\0\0\0\0x").unwrap_err(), "missing string null termimator");
    }

    #[test]
    fn what_cannot_be_agreed_to() {
        assert_eq!(
            agreed("4", [6, 0, 0], b"").unwrap_err(),
            "protocol version 6 conflict with MTA protocol version 4"
        );
        assert_eq!(
            agreed("6", [6, 0x200, 0], b"").unwrap_err(),
            "request mask 0x200 conflict with MTA request mask 0x1ff"
        );
        let offer = Offer::parse("6").unwrap();
        let error = Negotiated::parse(offer, b'c', b"").unwrap_err().to_string();
        assert_eq!(error, "unexpected reply \"c\" in initial handshake");
        assert!(Negotiated::parse(offer, b'O', b"\0\0\0\x06").is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(command in any::<u8>(), data in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Negotiated::parse(Offer::parse("6").unwrap(), command, &data);
            let _ = Negotiated::parse(Offer::parse("6").unwrap(), b'O', &data);
        }
    }
}
