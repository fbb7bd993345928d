//! The QMQP protocol: bytes in, events out. No I/O.
//!
//! A client sends one message per connection, framed as nested netstrings, and gets one reply:
//!
//! ```text
//! request = netstring( netstring(content) netstring(sender) netstring(recipient)* )
//! reply   = netstring( ("K" | "Z" | "D") text )
//! ```
//!
//! [`server::Server`] turns a request into events, whatever the pieces in which its bytes arrive; [`client`] writes
//! a request and reads a reply; [`reply`] is the reply as the server writes it. Nothing here owns a socket, a clock or
//! a message: the content passes through as borrowed pieces, and at most one address is held.
#![forbid(unsafe_code)]

pub mod client;
pub mod netstring;
pub mod reply;
pub mod server;
