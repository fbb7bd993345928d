//! Postfix's formats and protocols as data: what changes when Postfix changes? Bytes in, values out.
//!
//! | module | what it reads or writes |
//! |---|---|
//! | [`main_cf`], [`master_cf`], [`text`], [`expand`] | the configuration files, their lines and their `$name` |
//! | [`parameter`], [`settings`], [`value`], [`compatibility`] | parameters: names, types, defaults, bounds |
//! | [`own_networks`], [`hostname`] | `$mynetworks` and the addresses of this host; the syntax of host names |
//! | [`record`], [`queue_file`], [`queue_id`] | queue files and their names |
//! | [`attr`], [`child`], [`cleanup_dialogue`], [`proxymap_dialogue`] | what Postfix's processes say to each other |
//! | [`milter_protocol`] | what mail filters are sent, and what they reply |
//! | [`notice`] | log lines as values |
//!
//! # What it is not
//!
//! It does no I/O: it opens no file or socket, and asks no clock and no user database. The caller hands in bytes
//! and facts ([`settings::HostFacts`]). It decides nothing about a message or a client; the crates above it do.
//!
//! # The two types that matter
//!
//! [`settings::Settings`] has one typed field for each parameter. [`settings::load()`] makes it of a
//! [`main_cf::MainCf`], or names all errors at once. [`record::Record`] is what queue files and the dialogue with
//! cleanup(8) consist of.
//!
//! # Example
//!
//! ```
//! use postfix::main_cf::MainCf;
//! use postfix::own_networks::InterfaceAddress;
//! use postfix::settings::{HostFacts, load};
//!
//! let text = b"mydomain = example.com\nmyhostname = mx.$mydomain\nqmqpd_timeout = 5m\n";
//! let main_cf = MainCf::parse("/etc/qmqpd/main.cf", text);
//! let host = HostFacts {
//!     host_name: "mx.example.com".to_owned(),
//!     interfaces: vec![InterfaceAddress { address: [127, 0, 0, 1].into(), prefix_len: 8 }],
//!     resolve: &|_name| Vec::new(),
//!     first_line: &|_path| Err("there is no such file".to_owned()),
//!     config_directory: "/etc/qmqpd".to_owned(),
//!     process_name: "qmqpd".to_owned(),
//!     process_id: 1,
//!     service_name: "628".to_owned(),
//!     is_under_postfix: false,
//! };
//!
//! let loaded = load(&main_cf, &[], &host)?;
//! assert_eq!(loaded.settings.myhostname, "mx.example.com");
//! assert_eq!(loaded.settings.message_bytes_max(), Some(10_240_000));
//! # Ok::<(), postfix::settings::LoadError>(())
//! ```
#![warn(clippy::missing_errors_doc)]
#![forbid(unsafe_code)]

pub mod attr;
pub mod child;
pub mod cleanup_dialogue;
pub mod compatibility;
mod config_error;
mod endpoint;
pub mod expand;
mod fold;
pub mod hostname;
pub mod main_cf;
pub mod master_cf;
pub mod milter_protocol;
pub mod notice;
pub mod own_networks;
pub mod parameter;
mod printable;
pub mod proxymap_dialogue;
pub mod queue_file;
pub mod queue_id;
pub mod record;
pub mod settings;
pub mod text;
pub mod value;
