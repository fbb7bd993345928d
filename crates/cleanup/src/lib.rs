//! What qmqpd(8), cleanup(8) and trivial-rewrite(8) do to a message that arrives by QMQP: bytes in, queue file
//! records out. No I/O, no clock.
//!
//! The order is that of the wire: content, sender, recipients. Content records leave at once, so that memory does
//! not grow with the message; at most one header (`header_size_limit`) and one line (`line_length_limit`) are held.
//! What depends on the envelope (our own Received: header, a missing From: header) leaves in [`Message::finish`].
//!
//! ```text
//! content bytes ─ incoming ─ N/L records ─ mime ─┬─ header: rules, parse, drop, rewrite, fold ─┬─ content records
//!                                                └─ body: rules ─────────────────────────────┘
//! sender, recipients ─ address (rewrite) ─ mapping ─ envelope (aliases, copies, duplicates) ── envelope records
//! ```
//!
//! [`Message`] is the only entry point; the modules behind it do not know each other's state. What tables make of
//! an address that has been rewritten stands in `mapping`; `Envelope` and `header::rewrite_addresses` ask it. A
//! recipient that may be aliased passes `Envelope::write_recipient`, an automatic one
//! `Envelope::add_automatic_recipient`. Rules see each record in `Output::record`, each header in `Output::header`
//! and each body record in `Output::body`; what they decide is kept in `rules`.
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
