//! Lookup tables: a key goes in, a text, nothing, or an error comes out.
//!
//! A table is written `type:name`. One that cannot be opened does not stop the server (unless
//! daemon_table_open_error_is_fatal says so): it becomes a table whose every lookup fails, so that it neither
//! authorizes nor rejects a client. Names of types, formats of files and texts of log lines are Postfix's.

mod berkeley;
mod broken;
mod cdb;
mod cidr;
mod combined;
mod constant;
mod driver;
mod expression;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod guarded;
mod indexed;
mod lmdb;
mod measure;
mod open;
mod proxy;
mod remote;
mod replacement;
mod rules;
mod socketmap;
mod tcp;
mod text;
pub(crate) mod values;

pub use self::driver::{Call, Table};
pub use self::open::open;
pub use crate::error::TableError;

pub(crate) use self::broken::Broken;
use self::driver::Opened;
pub(crate) use self::open::Opener;
