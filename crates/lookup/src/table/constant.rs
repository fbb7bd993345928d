//! Tables without data of their own: `static:`, `fail:`, `environ:`.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use postfix::text::strip_braces;

use super::{Call, Opened, Table, TableError};
use crate::fold::fold_if;
use crate::options::Options;
use crate::syntax::shown;

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
