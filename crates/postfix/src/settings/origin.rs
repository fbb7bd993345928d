//! `myorigin = /etc/mailname`: on Debian and Ubuntu a value that begins with `/` names a file, and its first line is
//! the domain.
//!
//! Observed on Debian's Postfix 3.7: white space around the line is left out, nothing in it is expanded, and `$myorigin`
//! in other parameters is still the path. myorigin is the only parameter that is read so.

use super::namespace::Namespace;
use crate::config_error::ConfigError;
use crate::parameter::table::Settings;

/// Puts the domain into the place of the file's name. The error has the words of Debian's Postfix.
pub(super) fn resolve(settings: &mut Settings, namespace: &Namespace<'_>) -> Result<(), Box<ConfigError>> {
    const NAME: &str = "myorigin";
    let Some(line) = namespace.origin_line() else { return Ok(()) };
    let path = std::mem::take(&mut settings.myorigin);
    let wrong = |what: String, remedy: &str| Box::new(namespace.error(NAME, &path, what, remedy.to_owned()));
    let line = line.as_ref().map_err(|reason| {
        wrong(
            format!("{path}: cannot open file: {reason}"),
            "write the domain for addresses without one on its first line, or a domain instead of the file's name",
        )
    })?;
    let text = line.split(|&byte| byte == 0).next().unwrap_or_default();
    let domain = std::str::from_utf8(crate::text::trim(text))
        .map_err(|_| wrong(format!("myorigin file {path} is not UTF-8 text"), "write the domain in UTF-8"))?;
    if domain.is_empty() {
        return Err(wrong(
            format!("myorigin file {path} is empty"),
            "write the domain for addresses without one on its first line",
        ));
    }
    domain.clone_into(&mut settings.myorigin);
    Ok(())
}
