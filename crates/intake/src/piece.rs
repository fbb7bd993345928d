//! What a client sends of a message, as back ends hear it: they know no protocol.

/// The next of a message, in the order of the wire: content in any number of pieces, its end, sender, recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the content.
    Content(&'a [u8]),
    /// The content is complete.
    ContentEnd,
    /// The envelope sender.
    Sender(&'a [u8]),
    /// One envelope recipient.
    Recipient(&'a [u8]),
}

/// A message that is there as a whole, and right as far as its protocol goes.
pub trait Request: Send + 'static {
    /// How many bytes it has.
    fn bytes(&self) -> usize;

    /// Gives all of it, piece by piece.
    fn pieces(&self, take: &mut dyn FnMut(Piece<'_>));
}
