//! SMTP (RFC 5321) and LMTP (RFC 2033), the client's half: what can a hostile server make us believe?
//!
//! The two protocols differ in the greeting command and in who answers for a message: an SMTP server gives one reply
//! after the content, an LMTP server one for each recipient that it took. One machine speaks both
//! ([`client::Dialect`]).
//!
//! ```text
//!                    bytes from the server
//!                             │
//!           reply::ReplyReader (limits: line, reply)
//!                             │ Reply
//! caller ── begin, … ──▶ client::Client ──▶ client::Event ──▶ caller
//!                             │
//!                        output: bytes for the server
//! ```
//!
//! # What it is not
//!
//! It does no I/O: it owns no socket, no clock and no message. It tells what each reply means to the dialogue, not
//! what it means to the mail: that is the caller's to decide. It has no server's half. Everything that a server can
//! make grow has a limit.
//!
//! # The two types that matter
//!
//! [`client::Client`] conducts one session: greeting, EHLO with HELO after it, STARTTLS, AUTH, XFORWARD, any number of
//! messages, QUIT; with PIPELINING as far as the server has it. [`content::Encoder`] turns the lines of a message into
//! what follows DATA. [`reply`] and [`extensions`] read what a server says; [`address`] and [`command`] write what a
//! client says, and refuse what cannot be said in one line.
//!
//! # Example
//!
//! ```
//! use smtp::client::{Client, Event, Message, Options, Recipient};
//!
//! let mut client = Client::new(Options::smtp("relay.example.com"));
//! client.receive(b"220 mx.example.org ESMTP\r\n")?;
//! assert_eq!(client.take_output(), b"EHLO relay.example.com\r\n");
//! client.receive(b"250-mx.example.org\r\n250 PIPELINING\r\n")?;
//! assert!(matches!(client.next_event(), Some(Event::Ready)));
//!
//! let message = Message::new(b"list@example.com", vec![Recipient::new(b"ann@example.org")?])?;
//! client.begin(message)?;
//! assert_eq!(client.take_output(), b"MAIL FROM:<list@example.com>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n");
//! client.receive(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go on\r\n")?;
//! assert!(matches!(client.next_event(), Some(Event::Recipient { index: 0, accepted: true, .. })));
//! assert!(matches!(client.next_event(), Some(Event::SendContent)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(clippy::missing_errors_doc)]

pub mod address;
pub mod client;
pub mod command;
pub mod content;
pub mod extensions;
pub mod reply;
