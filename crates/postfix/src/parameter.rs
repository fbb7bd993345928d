//! The table of parameters: name, type, default and effect of each.
//!
//! There is no parameter that is read and then ignored: [`Reach`] says of each row what becomes of its value. The
//! table itself is [`table`]; the fields of [`crate::settings::Settings`] are made from the same rows.

pub(crate) mod kind;
mod other;
mod search;
pub mod table;
pub mod words;

pub use kind::{DefaultValue, Kind, Parameter, Reach};
pub(crate) use other::is_template;
pub use other::{is_read_by_other_programs, other_names};
pub use search::{find, suggestion};
