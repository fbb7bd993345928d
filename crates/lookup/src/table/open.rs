//! From `type:name` to a table.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use postfix::notice::Notice;
use postfix::text::until_nul;

use super::berkeley::{self, Method};
use super::broken::Broken;
use super::combined::{self, How};
use super::driver::{OpenInner, Opened, Table};
use super::expression::{self, Engine};
use super::guarded::Guarded;
use super::{cdb, cidr, constant, lmdb, proxy, socketmap, tcp, text};
use crate::error::OpenError;
use crate::options::Options;
use crate::syntax::shown;
use crate::watch::Missed;

/// Opens `type_name:name`. Relative paths count from the current directory, which is queue_directory in a daemon.
///
/// A table that cannot be opened gives `Ok` with a table that fails each lookup, and an `error: ` notice.
///
/// # Errors
/// The type or the name is empty, tables are nested too deep, or (under daemon_table_open_error_is_fatal) the table
/// cannot be opened.
pub fn open(
    type_name: &str,
    name: &str,
    options: &Options,
    notices: &mut Vec<Notice>,
) -> Result<Box<dyn Table>, OpenError> {
    Opener { parameter: "open dictionary", options, notices, depth: 0 }
        .open(type_name.as_bytes(), name.as_bytes())
}

/// The road from a text to a table; remembers how deep tables are nested.
pub(crate) struct Opener<'a> {
    /// Who asks, for error texts.
    pub(crate) parameter: &'a str,
    pub(crate) options: &'a Options,
    pub(crate) notices: &'a mut Vec<Notice>,
    pub(crate) depth: usize,
}

impl Opener<'_> {
    /// Opens a table that is written as one item, `type:name`.
    pub(crate) fn open_item(&mut self, item: &[u8]) -> Result<Box<dyn Table>, OpenError> {
        let colon = item.iter().position(|&byte| byte == b':').unwrap_or(item.len());
        let (type_name, name) = item.split_at_checked(colon).unwrap_or((item, b""));
        self.open(type_name, name.get(1..).unwrap_or_default())
    }

    fn open(&mut self, type_name: &[u8], name: &[u8]) -> Result<Box<dyn Table>, OpenError> {
        let (name, shown_type) = (until_nul(name), shown(type_name));
        if type_name.is_empty() || name.is_empty() {
            let item = format!("{shown_type}:{}", shown(name));
            let remedy = if crate::address::parse_address(item.as_bytes()).is_some() {
                format!("; write an IPv6 address in brackets: [{item}]")
            } else {
                String::new()
            };
            return Err(OpenError::NotTypeName { parameter: self.parameter.to_owned(), item, remedy });
        }
        if self.depth > self.options.nesting_max {
            let what = format!("{shown_type}:{}", shown(name));
            let nesting_max = self.options.nesting_max;
            return Err(OpenError::Nesting { parameter: self.parameter.to_owned(), what, nesting_max });
        }
        let missed = Missed::before(files_of(type_name, name));
        let table = match self.open_driver(type_name, name)? {
            Ok(driver) => driver,
            Err(reason) if self.options.daemon_table_open_error_is_fatal => {
                return Err(OpenError::Table { reason });
            }
            Err(reason) => {
                self.notices.push(Notice::error(reason.clone()));
                Broken::boxed(format!("{shown_type}:{}", shown(name)), reason, missed)
            }
        };
        Ok(Box::new(Guarded { table, unicode: self.options.smtputf8_enable }))
    }

    fn open_driver(&mut self, type_name: &[u8], name: &[u8]) -> Result<Opened, OpenError> {
        let options = self.options;
        Ok(match type_name {
            b"static" => constant::open_static(name),
            b"randmap" => constant::open_random(name),
            b"fail" => Ok(constant::open_fail(name)),
            b"environ" => Ok(constant::open_environ(name, options)),
            b"inline" => text::open_inline(name, options),
            b"texthash" => text::open_texthash(name, options, self.notices),
            b"cdb" => cdb::open(name, options, self.notices),
            b"hash" => berkeley::open(Method::Hash, name, options, self.notices),
            b"btree" => berkeley::open(Method::Btree, name, options, self.notices),
            b"lmdb" => lmdb::open(name, options, self.notices),
            b"socketmap" => socketmap::open(name, options),
            b"tcp" => tcp::open(name, options),
            b"proxy" => proxy::open(name, options, self.notices),
            b"unionmap" => combined::open(How::Union, name, self)?,
            b"pipemap" => combined::open(How::Pipe, name, self)?,
            b"debug" => combined::open_debug(name, self)?,
            b"regexp" => expression::open(Engine::Posix, name, options, self.notices),
            b"pcre" => expression::open(Engine::Perl, name, options, self.notices),
            b"cidr" => cidr::open(name, options, self.notices),
            _ => Err(unsupported(&shown(type_name), &shown(name))),
        })
    }
}

impl OpenInner for Opener<'_> {
    fn open_inner(&mut self, item: &[u8]) -> Result<Box<dyn Table>, OpenError> {
        let Self { parameter, options, notices, depth } = self;
        Opener { parameter, options, notices, depth: depth.saturating_add(1) }.open_item(item)
    }
}

/// Why a type is not supported; for those that Postfix may know, with the remedy.
fn unsupported(type_name: &str, name: &str) -> String {
    let reason = format!("unsupported dictionary type: {type_name}");
    match way_out(type_name, name) {
        Some(way_out) => format!("{reason}; {way_out}"),
        None => reason,
    }
}

/// What to write instead of a type that Postfix has and this server has not.
fn way_out(type_name: &str, name: &str) -> Option<String> {
    match type_name {
        "dbm" | "sdbm" => Some(format!(
            "run \"postmap lmdb:{name}\" and write lmdb:{name}, or write texthash:{name} to read the source file itself, \
             or proxy:{type_name}:{name} where Postfix runs its proxymap(8)"
        )),
        "ldap" | "mysql" | "pgsql" | "sqlite" | "mongodb" | "memcache" | "nis" | "nisplus" | "netinfo" => {
            Some(format!(
                "write proxy:{type_name}:{name} where Postfix runs its proxymap(8), or put a socketmap: or tcp: server in front of it, or export \
             it to a file and run \"postmap lmdb:FILE\""
            ))
        }
        "unix" | "internal" => Some("write the entries into a texthash: file".to_owned()),
        _ => None,
    }
}

/// The files that a table is read from. Tables in tables have theirs for themselves.
fn files_of(type_name: &[u8], name: &[u8]) -> Option<PathBuf> {
    let suffix: &[u8] = match type_name {
        b"texthash" | b"regexp" | b"pcre" | b"cidr" => b"",
        b"cdb" => b".cdb",
        b"lmdb" => b".lmdb",
        b"hash" | b"btree" => b".db",
        _ => return None,
    };
    let is_inline = name.first() == Some(&b'{');
    (!is_inline).then(|| PathBuf::from(OsString::from_vec([name, suffix].concat())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Call;

    #[test]
    fn types_that_postfix_has_and_we_have_not_come_with_a_way_out() {
        for type_name in ["dbm", "sdbm", "ldap", "mysql", "pgsql", "sqlite", "mongodb", "memcache", "nis"] {
            let mut notices = Vec::new();
            let table = open(type_name, "/etc/postfix/t", &Options::default(), &mut notices);
            let mut call = Call { notices: &mut Vec::new(), deadline: None, budget: None };
            assert!(table.is_ok_and(|table| table.lookup(b"k", &mut call).is_err()), "{type_name}");
            let start = format!("unsupported dictionary type: {type_name}; ");
            assert!(notices[0].text.starts_with(&start) && notices[0].text.len() > start.len() + 20);
        }
    }
}
