//! The QMQP protocol: what can hostile bytes make us believe? Bytes in, events out.
//!
//! A client sends one message per connection, framed as nested netstrings, and gets one reply:
//!
//! ```text
//! request = netstring( netstring(content) netstring(sender) netstring(recipient)* )
//! reply   = netstring( ("K" | "Z" | "D") text )
//! ```
//!
//! The source of the format is <https://cr.yp.to/proto/qmqp.html>; limits and faults are those of Postfix's
//! qmqpd(8).
//!
//! # What it is not
//!
//! It does no I/O: it owns no socket, no clock and no message. The content passes through as borrowed pieces, and
//! at most one address is held in memory ([`server::Limits::recipient_bytes_max`]). It does not decide what is
//! accepted: the caller chooses the [`reply::Status`].
//!
//! # The two types that matter
//!
//! [`server::Server`] turns a request into events, whatever the pieces in which its bytes arrive.
//! [`client::ReplyReader`] reads the reply of a server. [`client::Request`] writes a request, [`reply::encode`] a
//! reply.
//!
//! # Example
//!
//! ```
//! use qmqp::reply::{Status, encode};
//! use qmqp::server::{Event, Limits, Server};
//!
//! let limits = Limits { content_bytes_max: 1000, sender_bytes_max: 100, recipient_bytes_max: 100 };
//! let mut server = Server::new(limits);
//! let mut input: &[u8] = b"25:6:hello\n,5:a@b.c,5:d@e.f,,";
//! let mut recipients = Vec::new();
//! while let Some(event) = server.next(&mut input)? {
//!     if let Event::Recipient(address) = event {
//!         recipients.push(address.to_vec());
//!     }
//! }
//! assert_eq!(recipients, [b"d@e.f"]);
//! assert_eq!(encode(Status::Queued, "ok"), b"3:Kok,");
//! # Ok::<(), qmqp::server::Fault>(())
//! ```
#![warn(clippy::missing_errors_doc)]
#![forbid(unsafe_code)]

pub mod client;
pub mod netstring;
pub mod reply;
pub mod server;
