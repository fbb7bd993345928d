//! What can a process of ours do when it has been taken over? All that processes have in common, whatever they serve: where
//! the configuration is and what it asks for ([`config`]), the log, what a process keeps behind its jail ([`jail`]), the queue
//! directory, and the master that starts them ([`master`]) with the orders that an operator gives it ([`control`]).
//!
//! It knows no protocol, no client and no way to accept a message. What it must know of a program, the program tells it:
//! [`config::Program`] names its command in master.cf and checks its services, [`jail::Needs`] lists the files and ports that
//! it uses. A program is a list of these and a command line.
//!
//! ```text
//! operator ─ control ─ signals, lock, state file ─ master ─ descriptors of master(8) ─ service process ─ jail
//!                                                    └── config ──────────────────────────┘
//! ```

pub mod address_space;
pub mod config;
pub mod control;
pub mod exit;
pub mod inherited;
pub mod jail;
pub mod log;
pub mod master;
pub mod peer_address;
pub mod port;
pub mod queue_directory;
pub mod service;
