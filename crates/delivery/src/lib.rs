//! Can a message be tried twice, never, or for ever? The decisions of delivery. No I/O.
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
//! The words of log lines and reports that programs read are Postfix's, so that its tools read ours. Time, randomness and
//! the answers of DNS and tables come in as arguments.

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
