//! What can a process of ours do when it has been taken over? All that processes have in common, whatever they
//! serve.
//!
//! | module | what it has |
//! |---|---|
//! | [`config`] | where the configuration is, and which services it asks for |
//! | [`log`] | where lines go, in which form, and how many of them |
//! | [`inherited`], [`jail`] | the descriptors that a master left; what a process keeps after it has confined itself |
//! | [`queue_directory`] | the queue directory and its owner |
//! | [`master`], [`control`] | the process that starts the others, and the orders that an operator gives it |
//! | [`service`] | the life of a service process: it opens, confines itself, accepts clients, drains, exits |
//!
//! ```text
//! operator ─ control ─ signals, lock, state file ─ master ─ descriptors of master(8) ─ service process ─ jail
//!                                                    └── config ──────────────────────────┘
//! ```
//!
//! # What it is not
//!
//! It knows no protocol, no client and no way to accept a message. What it must know of a program, the program
//! tells it. It never reads a byte from a client: it hands the connection over.
//!
//! # The two types that matter
//!
//! [`config::Program`] is a program as the configuration and the master see it: it names its command in master.cf
//! and checks its services. [`service::Server`] is the same program as a service process: it opens its files and
//! tables, names what it needs behind the jail ([`jail::Needs`]), and serves clients. A program is these two and a
//! command line.
//!
//! # Example
//!
//! ```
//! use daemon::config::{self, Config, ConfigSource, Finding, Program, Service};
//! use postfix::settings::Settings;
//!
//! #[derive(Debug)]
//! struct Mailer;
//!
//! impl Program for Mailer {
//!     fn name(&self) -> &'static str {
//!         "mailer"
//!     }
//!     fn description(&self) -> &'static str {
//!         "mail client"
//!     }
//!     fn missing_services(&self, _config: &Config, _service: &Service) -> Vec<String> {
//!         Vec::new()
//!     }
//!     fn has_journal(&self, _settings: &Settings) -> bool {
//!         false
//!     }
//!     fn check(&self, _config: &Config, _service: &Service) -> Vec<Finding> {
//!         Vec::new()
//!     }
//! }
//!
//! # let directory = tempfile::tempdir()?;
//! # std::fs::write(directory.path().join("main.cf"), "")?;
//! # std::fs::write(directory.path().join("master.cf"), "628 inet n - n - - qmqpd\n")?;
//! let source = ConfigSource::of_postfix(Some(directory.path()))?;
//! let errors = config::survey(&source, &[], &[&Mailer]).errors;
//! assert!(errors.iter().any(|error| error.to_string().contains("no line has the command mailer")));
//! # Ok::<(), std::io::Error>(())
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
