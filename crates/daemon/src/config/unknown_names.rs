//! Names that are set and mean nothing.

use postfix::settings::{ConfigError, UnknownName};

use super::files;
use super::mode::ConfigSource;

/// Names that can only be meant for us.
const OWN_PREFIX: &str = "qmqpd_";

/// The lines of master.cf without comments, because their arguments may refer to parameters of main.cf; empty if it
/// cannot be read.
pub(super) fn master_cf_text(source: &ConfigSource) -> String {
    let content =
        source.directory().and_then(|directory| files::read_at_rest(&directory.join("master.cf")).ok());
    let content = content.unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether the name can only be meant for us. Other names may be meant for any program.
pub(super) fn is_own(unknown: &UnknownName) -> bool {
    unknown.name.starts_with(OWN_PREFIX)
}

/// What is wrong about a name of our own that means nothing.
pub(super) fn mistake(unknown: &UnknownName) -> ConfigError {
    ConfigError::new(
        format!("no such parameter: {}", unknown.name),
        unknown
            .suggestion
            .map_or_else(|| "see qmqpd-config(5)".to_owned(), |name| format!("did you mean {name}?")),
    )
    .in_file(unknown.file.clone(), unknown.line)
    .about(unknown.name.clone(), "")
}
