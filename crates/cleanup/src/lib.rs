//! What qmqpd(8), cleanup(8) and trivial-rewrite(8) do to a message: bytes in, records out.
//!
//! The order is that of QMQP: content, sender, recipients. Content records leave at once, so that memory does not
//! grow with the message; at most one header (`header_size_limit`) and one line (`line_length_limit`) are held.
//! What depends on the envelope (our own Received: header, a missing From: header) leaves in [`Message::finish`].
//!
//! ```text
//! content bytes ─ incoming ─ N/L records ─ mime ─┬─ header: rules, parse, drop, rewrite, fold ─┬─ content records
//!                                                └─ body: rules ─────────────────────────────┘
//! sender, recipients ─ address (rewrite) ─ mapping ─ envelope (aliases, copies, duplicates) ── envelope records
//! ```
//!
//! # What it is not
//!
//! It does no I/O, and asks no clock: time and queue ID come in with [`Arrival`], answers of tables through
//! [`Tables`]. It does not know where the records go, and does not log: what Postfix would log is in
//! [`Outcome::notices`]. It speaks to no mail filter: [`milter`] decides what their replies mean, and the caller
//! owns the sockets.
//!
//! # The two types that matter
//!
//! [`Message`] is the only entry point. [`Outcome`] is what it comes to: a [`Finished`] message, whose
//! [`parts`](Finished::parts) are those of a queue file, or a [`Refusal`].
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use cleanup::{Arrival, Fate, Message, NoTables, Options, Origin};
//!
//! let arrival = Arrival {
//!     queue_id: "23A5D9AA1F6".to_owned(),
//!     created: (1_795_386_300, 146_013),
//!     arrived: (1_795_386_300, 145_704),
//!     date: "Sun, 22 Nov 2026 22:25:00 +0000 (UTC)".to_owned(),
//! };
//! let origin = Origin {
//!     client_name: "localhost".to_owned(),
//!     client_address: "127.0.0.1".to_owned(),
//!     client_port: "44544".to_owned(),
//!     address_family: 2,
//!     log_origin: "localhost[127.0.0.1]".to_owned(),
//!     protocol: "QMQP",
//! };
//! let mut message = Message::new(Arc::new(Options::default()), Arc::new(NoTables), arrival, origin);
//! let (mut content, mut recipients) = (Vec::new(), Vec::new());
//! message.content_bytes(b"Subject: hello\n\nhi\n", &mut content);
//! message.end_of_content(&mut content);
//! message.sender(b"list@example.com", &mut recipients);
//! message.recipient(b"ann@example.org", &mut recipients);
//! let finished = message.finish().result?;
//! assert_eq!(finished.fate, Fate::Deliver);
//! let received = String::from_utf8_lossy(&finished.received);
//! assert!(received.contains("id 23A5D9AA1F6"));
//! # Ok::<(), cleanup::Refusal>(())
//! ```
//!
//! # Inside
//!
//! The modules behind [`Message`] do not know each other's state. `mapping` says what tables make of an address
//! that has been rewritten; `Envelope` and `header::rewrite_addresses` ask it. A recipient that may be aliased
//! passes `Envelope::write_recipient`, an automatic one `Envelope::add_automatic_recipient`. Rules see each record
//! in `Output::record`, each header in `Output::header` and each body record in `Output::body`; `rules` keeps what
//! they decide.
#![warn(clippy::missing_errors_doc)]
#![forbid(unsafe_code)]

mod address;
mod content;
mod envelope;
mod finished;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
#[cfg(fuzzing)]
pub mod fuzzing;
mod generated;
mod header;
pub mod incoming;
mod mapping;
mod message;
pub mod milter;
mod mime;
mod notices;
mod options;
mod own_header;
mod refusal;
mod rule;
mod rules;
mod tables;

pub use finished::{Fate, Finished};
pub use message::{Message, Outcome};
pub use options::{AddressClasses, Arrival, FixLineEndings, Options, Origin};
pub use refusal::{AddressKind, Refusal};
pub use tables::{Key, LookupFailed, Maps, Names, NoTables, Tables};
