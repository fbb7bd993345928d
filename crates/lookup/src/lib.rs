//! Match lists and lookup tables: which clients are accepted?
//!
//! [`MatchList`] is a parameter like qmqpd_authorized_clients: names, domains, addresses, networks, `!`, `/file`
//! and `type:table`. [`Names`] is one like mydestination, [`Maps`] one like canonical_maps. [`table`] opens single
//! tables. Syntax, results and log lines are those of Postfix 3.7, with the logical lines of 3.12 in pattern files;
//! differences are noted where they occur.
//!
//! The crate opens files and sockets, but every parser and every decision in it is a function over bytes.

mod address;
mod budget;
mod check;
mod error;
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
pub use options::Options;
pub use turns::{Asker, Owner, TURNS_MAX, TurnOptions, Turns};
