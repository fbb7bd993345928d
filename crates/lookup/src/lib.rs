//! Match lists and lookup tables: whom do we listen to?
//!
//! [`MatchList`] is a parameter like qmqpd_authorized_clients: names, domains, addresses, networks, `!`, `/file` and
//! `type:table`. [`table`] opens the tables alone. Syntax, results and log lines are those of Postfix 3.7, with the
//! logical lines of 3.12 in pattern files; what differs is said where it differs.
//!
//! The crate opens files and sockets, but every parser and every decision in it is a function over bytes.

mod address;
mod check;
mod error;
mod fold;
mod host;
mod list;
mod match_list;
#[allow(unsafe_code)]
mod native;
mod options;
mod syntax;
pub mod table;
mod watch;

pub use check::{Problem, check};
pub use error::{LookupError, OpenError};
pub use match_list::{Client, ClientName, Match, MatchList};
pub use options::Options;
