//! The hands of delivery: the queue manager and the delivery agents.
//!
//! ```text
//! queue ─ manager ── request, open queue file ──▶ agent ── SMTP, LMTP, QMQP, a program, a Maildir
//!            ▲ ◀───── outcome of each recipient ───┘
//!            └ marks, logs of reasons, reports, removal
//! ```
//!
//! The queue manager alone reads and writes the queue. An agent gets a message as an open file that it can only read,
//! and what it says comes back as typed outcomes: nothing that a remote server says reaches the queue in another way.
//!
//! | module | has |
//! |---|---|
//! | [`request`] | what the queue manager asks of an agent, and what the agent answers |
//! | [`pipe`] | the agent that gives mail to a program |
//! | [`agent`] | the process of an agent that blocks |
//! | [`maildir`] | the agent that delivers into Maildirs |
//! | [`mail_copy`] | the content of a message as a program or a file gets it |
//! | [`delivery_line`] | the line that agents log for each recipient |
//! | [`mailbox`] | an address, taken apart |
//! | [`network`] | the agent that talks to other mail systems: SMTP, LMTP, QMQP |
//! | [`wire`] | how that goes over the socket between them |
//! | [`manager`] | the queue manager |
//! | [`network_agent`] | that agent as a service process |
//! | [`lines`] | the log lines of the queue manager |
//! | [`settings`] | the parameters of delivery |
//! | [`program`] | what the configuration has to know |
//!
//! Which delivery is next, where an address goes, what a reply means and when a message is tried again are decided in the
//! crate `delivery`, without I/O.
#![forbid(unsafe_code)]

pub mod agent;
pub mod delivery_line;
#[cfg(test)]
mod fixtures;
pub mod lines;
pub mod mail_copy;
pub mod mailbox;
pub mod maildir;
pub mod manager;
pub mod network;
pub mod network_agent;
pub mod pipe;
pub mod program;
pub mod request;
pub mod settings;
pub mod wire;
