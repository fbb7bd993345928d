//! Postfix's formats and protocols as data: main.cf, master.cf, parameters, records, queue files, internal
//! protocols. No I/O.
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
