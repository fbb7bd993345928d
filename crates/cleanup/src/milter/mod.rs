//! Mail filters: what they are sent, and what their replies do to a message. No I/O: the caller transports the
//! packets.
//!
//! ```text
//! for each filter   Filter      what is sent at a step, whether an answer is awaited, what the answer decides
//! for a message     Inspection  what decisions make of it: refused, kept back, dropped; whom it is from and goes to
//!                   Edits       changes of its headers, as a pass through which each header goes
//!                   NewBody     a body that takes the place of the old one
//! ```
//!
//! What a filter hears is what Postfix 3.7 tells one about mail that does not come by SMTP: a client on this host,
//! the rewritten sender and recipients, then headers and body as they would be in the queue file, but without the
//! Received: header that we put in front. Observed with a filter that writes down every byte.

mod body;
mod checks;
mod decided;
mod envelope;
mod filter;
mod headers;
mod inspection;
mod macros;
mod parameters;
mod recipients;

pub use body::{Chunks, NewBody};
pub use filter::{Event, Fault, Filter, Heard, Response};
pub use headers::{Edits, Headers, LimitExceeded, header_packet, new_header};
pub use inspection::{Inspection, Stage};
pub use macros::{MacroNames, Macros};
pub(crate) use recipients::HEARD;
pub use recipients::recipients;

#[cfg(test)]
mod tests;
