//! The milter protocol of Sendmail, from the mail server's side: packets, the steps of a message, what is agreed on
//! at the beginning, and what a filter may answer. Bytes in, values out; other modules decide what is sent when.
//!
//! A packet is four bytes of length, most significant first, one byte of command, and data; the length counts
//! command and data. Versions 2, 3, 4 and 6 are spoken. Sources: libmilter's documentation, and what Postfix 3.7
//! sends to a filter that writes down every byte.

mod negotiation;
mod packet;
mod reply;
mod service;

pub use negotiation::{BadNegotiation, BadProtocol, Negotiated, Offer};
pub use packet::{
    BODY_CHUNK_BYTES, BadReply, HEADER_BYTES_MAX, MACROS, NEGOTIATE, QUIT, REPLY_BYTES_MAX, Step,
    encode_packet, packet_len,
};
pub use reply::{Edit, Reply};
pub use service::{
    BadService, DefaultAction, Defaults, Endpoint, Macro, Service, canonical_macro, parse_macro_defaults,
    parse_services,
};
