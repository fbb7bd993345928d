//! Match lists and lookup tables: which clients do we accept?
//!
//! Syntax, results and log lines are those of Postfix 3.7, with the logical lines of 3.12 in pattern files;
//! differences are noted where they occur.
//!
//! # What it is not
//!
//! It reads no main.cf: the caller hands in the text of a parameter, with `$name` expanded, and [`Options`]. It
//! logs nothing: what Postfix would log comes back as notices. It asks no name server: the caller says what it
//! knows of a client's name ([`ClientName`]). The crate opens files and sockets, but every parser and every
//! decision in it is a function over bytes. A lookup in a remote table blocks its thread, up to
//! [`Options::lookup_deadline`]; [`MatchList::is_remote`] and [`Maps::is_remote`] say whether there is one.
//!
//! # The two types that matter
//!
//! [`MatchList`] is a parameter like qmqpd_authorized_clients: names, domains, addresses, networks, `!`, `/file`
//! and `type:table`. [`Maps`] is one like canonical_maps. [`Names`] is one like mydestination, and [`table`] opens
//! single tables.
//!
//! # Example
//!
//! ```
//! use lookup::{Client, ClientName, Match, MatchList, Options};
//!
//! let mut notices = Vec::new();
//! let options = Options::default();
//! let list = MatchList::open(
//!     "qmqpd_authorized_clients",
//!     "!192.0.2.9, 192.0.2.0/24, example.com",
//!     &options,
//!     &mut notices,
//! )?;
//! let client = |address| Client { name: ClientName::Unknown, address };
//! assert_eq!(list.matches(&client("192.0.2.1"), &mut notices)?, Match::Yes);
//! assert_eq!(list.matches(&client("192.0.2.9"), &mut notices)?, Match::No);
//! // It depends on the name, which a name server could not tell.
//! let unresolved = Client { name: ClientName::Unresolved, address: "203.0.113.1" };
//! assert_eq!(list.matches(&unresolved, &mut notices)?, Match::Undetermined);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(clippy::missing_errors_doc)]

mod address;
mod budget;
mod check;
mod error;
mod finding;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod list;
mod maps;
mod match_list;
mod meant;
mod names;
#[allow(unsafe_code)]
mod native;
mod options;
mod order;
mod syntax;
pub mod table;
mod turns;
mod watch;

pub use budget::Budget;
pub use check::{Problem, check};
pub use error::{LookupError, OpenError};
pub use maps::{Keys, Maps, check_maps};
pub use match_list::{Client, ClientName, Match, MatchList};
pub use names::Names;
pub use native::pcre2_version;
pub use options::Options;
pub use turns::{Asker, Owner, TURNS_MAX, TurnOptions, Turns};
