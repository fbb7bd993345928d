//! The decisions of delivery: can a message be tried twice, never, or for ever?
//!
//! ```text
//! recipient ─ routing ─▶ transport, next-hop ─ active ─▶ delivery ─ hosts ─▶ addresses to try
//!                                                                     │ (smtp::client, pipe, …)
//!            report ◀─ failure_log ◀─ outcome ◀─ dialogue, exit_status ◀┘
//!                                        └─▶ window (how many at a time), schedule (when again)
//! ```
//!
//! | module | decides |
//! |---|---|
//! | [`routing`] | which transport and next-hop an address has |
//! | [`nexthop`] | what the text of a next-hop means |
//! | [`hosts`] | which hosts to try for a domain, by the answers of DNS |
//! | [`active`] | which delivery is next, so that no destination and no message holds up another |
//! | [`window`] | how many deliveries a destination stands |
//! | [`dialogue`] | what a reply, or a lost connection, at each stage of SMTP means to the mail |
//! | [`exit_status`] | the same for the end of a command |
//! | [`schedule`] | when a message is tried again, and when it is given up |
//! | [`outcome`] | what became of a recipient |
//! | [`failure_log`] | how that is kept, in Postfix's format |
//! | [`report`] | how a sender is told |
//! | [`delays`] | how long it took, as the log says it |
//!
//! The words of log lines and reports that programs read are Postfix's, so that its tools read ours.
//!
//! # What it is not
//!
//! It does no I/O: time, randomness and the answers of DNS and tables come in as arguments. It speaks no protocol (the
//! crate `smtp` does), and touches no queue (the crate `spool` does).
//!
//! # The two types that matter
//!
//! [`active::Active`] holds the deliveries that are due, and says which is next. [`outcome::Outcome`] is what became of
//! a recipient in one attempt; the log line, the log of reasons and the report to the sender are made of it.
//!
//! # Example
//!
//! ```
//! use delivery::dialogue::{Rules, Trouble, consequence};
//! use delivery::outcome::{Fate, Peer};
//! use delivery::schedule::{Next, Settings};
//! use smtp::client::Stage;
//!
//! // A server hangs up within the greeting: the next host is tried, and if there is none, the message waits.
//! let peer = Peer { name: "mx.example.org".to_owned(), address: "192.0.2.1".to_owned(), port: Some(25) };
//! let consequence = consequence(Stage::Greeting, &Trouble::Lost, &peer, Rules::default());
//! assert!(consequence.tries_next_host);
//! assert_eq!(consequence.outcome.fate, Fate::Deferred);
//!
//! // The first pause is `minimal_backoff_time`; after five days the message is returned.
//! let settings = Settings::default();
//! assert_eq!(settings.after_attempt(0, 10, false, 0), Next::RetryAt(310));
//! assert_eq!(settings.after_attempt(0, 5 * 86_400, false, 0), Next::Expire);
//! ```
#![warn(clippy::missing_errors_doc)]

pub mod active;
pub mod delays;
pub mod dialogue;
pub mod exit_status;
pub mod failure_log;
pub mod hosts;
pub mod nexthop;
pub mod outcome;
pub mod report;
pub mod routing;
pub mod schedule;
pub mod window;
