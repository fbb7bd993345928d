//! Requests and answers as bytes, and the socket that carries them.
//!
//! A frame is its length in four bytes, a byte that says what it is, and its fields in a fixed order: numbers in eight
//! bytes, texts with their length in four. Numbers begin with the lowest byte. Both ends are the same program, so there
//! is no version: a frame that cannot be read ends the connection.

mod channel;
mod code;
mod field;

pub use channel::{Channel, ChannelError, Receiver, Sender};
pub use code::{decode_answer, decode_request, encode_answer, encode_request};

/// The longest frame, in bytes. The queue manager asks for fewer recipients at a time than would fill it.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// A frame that no program of ours writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// It is longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// It ends within a field, or something follows behind the last one.
    #[error("a frame does not end where its last field does")]
    Length,
    /// A field has a value that it cannot have.
    #[error("a frame has an invalid {0}")]
    Field(&'static str),
}

#[cfg(test)]
mod tests;
