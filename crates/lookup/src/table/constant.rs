//! Tables without data of their own: `static:`, `randmap:`, `fail:`, `environ:`.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use postfix::text::strip_braces;

use super::{Call, Opened, Table, TableError};
use crate::options::Options;
use crate::syntax::{next_item, shown};
use postfix::text::fold_if;

/// Every key has the same value.
struct Static {
    name: String,
    value: Vec<u8>,
}

/// `static:value` or `static:{value with blanks}`.
pub(super) fn open_static(name: &[u8]) -> Opened {
    let value = if name.first() == Some(&b'{') {
        strip_braces(name).map_err(|error| format!("bad static:name syntax: {error}"))?
    } else {
        name
    };
    Ok(Box::new(Static { name: format!("static:{}", shown(name)), value: value.to_vec() }))
}

impl Table for Static {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, _key: &[u8], _call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        Ok(Some(self.value.clone()))
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

/// Every key has one of the same values, which is drawn anew for each lookup.
struct Random {
    name: String,
    /// At least one.
    values: Vec<Vec<u8>>,
}

/// `randmap:{value, …}`.
pub(super) fn open_random(name: &[u8]) -> Opened {
    let full_name = format!("randmap:{}", shown(name));
    let mut rest = strip_braces(name).unwrap_or_default();
    let values: Vec<_> = std::iter::from_fn(|| next_item(&mut rest).map(<[u8]>::to_vec)).collect();
    if values.is_empty() {
        return Err(format!("bad syntax: \"{full_name}\"; need \"randmap:{{value...}}\""));
    }
    Ok(Box::new(Random { name: full_name, values }))
}

impl Table for Random {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, _key: &[u8], _call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.values.get(fastrand::usize(..self.values.len())).cloned())
    }

    /// As in Postfix: no parent domain is asked for.
    fn is_fixed(&self) -> bool {
        false
    }
}

/// Every lookup fails.
struct Fail {
    name: String,
}

/// `fail:name`; the name only serves the log.
pub(super) fn open_fail(name: &[u8]) -> Box<dyn Table> {
    Box::new(Fail { name: format!("fail:{}", shown(name)) })
}

impl Table for Fail {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, _key: &[u8], _call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        Err(TableError { table: self.name.clone(), temporary: true })
    }

    fn is_fixed(&self) -> bool {
        false
    }
}

/// The environment of the process.
struct Environ {
    name: String,
    fold: bool,
    unicode: bool,
}

/// `environ:name`; the name means nothing.
pub(super) fn open_environ(name: &[u8], options: &Options) -> Box<dyn Table> {
    let name = format!("environ:{}", shown(name));
    Box::new(Environ { name, fold: options.fold_keys, unicode: options.smtputf8_enable })
}

impl Table for Environ {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], _call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        let key = fold_if(self.fold, key, self.unicode);
        if key.is_empty() || key.contains(&b'=') {
            return Ok(None);
        }
        Ok(std::env::var_os(OsStr::from_bytes(&key)).map(OsStringExt::into_vec))
    }

    fn is_fixed(&self) -> bool {
        true
    }
}
