//! The configured filters: `non_smtpd_milters` and related parameters.

use std::time::Duration;

use super::negotiation::{BadProtocol, Offer};
use crate::endpoint::{BadEndpoint, Endpoint as InetEndpoint};
use crate::text::{split_list, split_name_value, strip_braces};
use crate::value::{self, Bounds};

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What main.cf calls it, for log lines: `inet:host:port` or `unix:path`.
    pub name: String,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long one read or write may take before the content.
    pub command_timeout: Duration,
    /// How long one read or write may take with the content.
    pub content_timeout: Duration,
    /// What it is offered.
    pub offer: Offer,
    /// What happens to a message when the filter is out of order.
    pub default_action: DefaultAction,
}

/// Where a filter listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A host, `localhost` if none is named, and a port.
    Inet(InetEndpoint),
    /// The path of a socket, relative to the queue directory.
    Unix(String),
}

/// A macro and its value; the name in braces.
pub type Macro = (String, String);

/// Values of `milter_default_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// As if the filter were not there.
    Accept,
    /// Reject permanently.
    Reject,
    /// Refuse for now.
    Tempfail,
    /// Refuse for now, and close the connection. The default since Postfix 3.11.
    Shutdown,
    /// Take it into the `hold` queue.
    Quarantine,
}

impl DefaultAction {
    fn parse(value: &str) -> Result<Self, BadService> {
        [
            ("accept", Self::Accept),
            ("reject", Self::Reject),
            ("tempfail", Self::Tempfail),
            ("shutdown", Self::Shutdown),
            ("quarantine", Self::Quarantine),
        ]
        .into_iter()
        .find_map(|(word, action)| word.eq_ignore_ascii_case(value).then_some(action))
        .ok_or_else(|| BadService::DefaultAction(value.to_owned()))
    }
}

/// What a filter has that says nothing else for itself: the parameters without their `milter_`.
#[derive(Debug, Clone, Copy)]
pub struct Defaults<'a> {
    /// `milter_connect_timeout`
    pub connect_timeout: Duration,
    /// `milter_command_timeout`
    pub command_timeout: Duration,
    /// `milter_content_timeout`
    pub content_timeout: Duration,
    /// `milter_protocol`
    pub protocol: &'a str,
    /// `milter_default_action`
    pub default_action: &'a str,
}

/// Why a list of filters is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadService {
    /// Unbalanced braces, an option without `=`.
    #[error("{0}")]
    Syntax(String),
    /// Braces with nothing in them.
    #[error("empty milter definition")]
    Empty,
    /// An option that no filter has.
    #[error("unknown option: \"{0}\"")]
    Option(String),
    /// Neither `inet:` nor `unix:`.
    #[error("Milter service needs transport:endpoint instead of \"{0}\"; transport is inet or unix")]
    Transport(String),
    /// `inet:` without a valid address.
    #[error("Milter service {name}: {error}")]
    Endpoint {
        /// The filter.
        name: String,
        /// What is wrong with it.
        error: BadEndpoint,
    },
    /// A bad `milter_protocol`.
    #[error(transparent)]
    Protocol(#[from] BadProtocol),
    /// A bad `milter_default_action`.
    #[error("unrecognized default action: {0}; write accept, reject, tempfail, shutdown or quarantine")]
    DefaultAction(String),
    /// A macro without value.
    #[error("malformed default macro entry: {0}")]
    Macro(String),
}

/// Reads a list of filters. Each is `transport:endpoint`, or that and options in braces:
/// `{ inet:host:port, connect_timeout=10s, default_action=accept }`.
///
/// # Errors
/// What is wrong with the first that is not one.
pub fn parse_services(list: &str, defaults: Defaults<'_>) -> Result<Vec<Service>, BadService> {
    split_list(list).into_iter().map(|item| parse_service(item, defaults)).collect()
}

fn parse_service(item: &str, defaults: Defaults<'_>) -> Result<Service, BadService> {
    if !item.starts_with('{') {
        return finish(item, &defaults);
    }
    let inside = without_braces(item)?;
    let mut own = defaults;
    let mut words = split_list(&inside).into_iter();
    let name = words.next().ok_or(BadService::Empty)?;
    for word in words {
        override_default(word, &mut own)?;
    }
    finish(name, &own)
}

fn finish(name: &str, own: &Defaults<'_>) -> Result<Service, BadService> {
    let unusable = || BadService::Transport(name.to_owned());
    let (transport, endpoint) = name.split_once(':').ok_or_else(unusable)?;
    let endpoint = match transport {
        "inet" => Endpoint::Inet(
            InetEndpoint::parse(endpoint)
                .map_err(|error| BadService::Endpoint { name: name.to_owned(), error })?,
        ),
        "unix" | "local" if !endpoint.is_empty() => Endpoint::Unix(endpoint.to_owned()),
        _ => return Err(unusable()),
    };
    Ok(Service {
        name: name.to_owned(),
        endpoint,
        connect_timeout: own.connect_timeout,
        command_timeout: own.command_timeout,
        content_timeout: own.content_timeout,
        offer: Offer::parse(own.protocol)?,
        default_action: DefaultAction::parse(own.default_action)?,
    })
}

fn without_braces(item: &str) -> Result<String, BadService> {
    let inside = strip_braces(item.as_bytes()).map_err(BadService::Syntax)?;
    Ok(String::from_utf8_lossy(inside).into_owned())
}

fn override_default<'a>(word: &'a str, own: &mut Defaults<'a>) -> Result<(), BadService> {
    // `{ name = value }`: the braces enclose the whole word, so cutting them off leaves a slice of it.
    let word = match word.strip_prefix('{') {
        Some(rest) => {
            strip_braces(word.as_bytes()).map_err(BadService::Syntax)?;
            rest.strip_suffix('}').unwrap_or(rest).trim_ascii()
        }
        None => word,
    };
    let syntax = |error: String| BadService::Syntax(format!("malformed option: {error}: \"{word}\""));
    let (name, value) = split_name_value(word.as_bytes()).map_err(|error| syntax(error.to_string()))?;
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|error| syntax(error.to_string()));
    let (name, value) = (text(name)?, text(value)?);
    let time = || value::time(name, value, b's', Bounds::at_least(1)).map_err(BadService::Syntax);
    match name {
        "connect_timeout" => own.connect_timeout = time()?,
        "command_timeout" => own.command_timeout = time()?,
        "content_timeout" => own.content_timeout = time()?,
        "protocol" => own.protocol = value,
        "default_action" => own.default_action = value,
        _ => return Err(BadService::Option(word.to_owned())),
    }
    Ok(())
}

/// Reads `milter_macro_defaults`: `name=value`, or in braces where there are blanks. Names get the braces that macro
/// names have.
///
/// # Errors
/// An entry without `=`.
pub fn parse_macro_defaults(list: &str) -> Result<Vec<Macro>, BadService> {
    let mut macros: Vec<Macro> = Vec::new();
    for item in split_list(list) {
        // A name may have braces as well: `{name}=value` is no group.
        let is_group = item.starts_with('{') && item.ends_with('}') && strip_braces(item.as_bytes()).is_ok();
        let inside = if is_group { without_braces(item)? } else { item.to_owned() };
        let (name, value) = split_name_value(inside.as_bytes())
            .map_err(|error| BadService::Macro(format!("{error} in \"{list}\"")))?;
        let name = canonical_macro(&String::from_utf8_lossy(name));
        if !macros.iter().any(|(known, _)| *known == name) {
            macros.push((name, String::from_utf8_lossy(value).into_owned()));
        }
    }
    Ok(macros)
}

/// The name of a macro with braces.
#[must_use]
pub fn canonical_macro(name: &str) -> String {
    if name.starts_with('{') { name.to_owned() } else { format!("{{{name}}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults<'static> = Defaults {
        connect_timeout: Duration::from_secs(30),
        command_timeout: Duration::from_secs(31),
        content_timeout: Duration::from_secs(300),
        protocol: "6",
        default_action: "tempfail",
    };

    fn services(list: &str) -> Result<Vec<Service>, String> {
        parse_services(list, DEFAULTS).map_err(|error| error.to_string())
    }

    #[test]
    fn several_filters_in_order() {
        let list = services(
            "inet:localhost:8891, unix:/run/a.sock { inet:[::1]:1, connect_timeout = 2m default_action=accept, {protocol=2}}",
        )
        .unwrap_err();
        // Blanks around `=` need braces of their own.
        assert_eq!(list, "malformed option: missing '=' after attribute name: \"connect_timeout\"");
        let list = services(
            "inet:localhost:8891, unix:/run/a.sock { inet:[::1]:1, { connect_timeout = 2m } default_action=accept, {protocol=2}}",
        )
        .unwrap();
        let names: Vec<_> = list.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["inet:localhost:8891", "unix:/run/a.sock", "inet:[::1]:1"]);
        assert_eq!(list[1].endpoint, Endpoint::Unix("/run/a.sock".to_owned()));
        assert_eq!(list[0].default_action, DefaultAction::Tempfail);
        let last = &list[2];
        assert_eq!(
            (last.connect_timeout, last.command_timeout),
            (Duration::from_mins(2), DEFAULTS.command_timeout)
        );
        assert_eq!(last.default_action, DefaultAction::Accept);
        assert_eq!(last.offer, Offer::parse("2").unwrap());
    }

    #[test]
    fn a_filter_may_have_times_of_its_own() {
        let options = "connect_timeout=1s command_timeout=2m content_timeout=3h";
        let list = services(&format!("{{local:/s {options}}}")).unwrap();
        let times = [list[0].connect_timeout, list[0].command_timeout, list[0].content_timeout];
        assert_eq!(times.map(|time| time.as_secs()), [1, 120, 10_800]);
        assert_eq!(list[0].endpoint, Endpoint::Unix("/s".to_owned()));
    }

    #[test]
    fn what_is_no_filter() {
        for (list, error) in [
            (
                "localhost:8891",
                "Milter service needs transport:endpoint instead of \"localhost:8891\"; transport is inet or unix",
            ),
            (
                "unix:",
                "Milter service needs transport:endpoint instead of \"unix:\"; transport is inet or unix",
            ),
            ("inet:host:", "Milter service inet:host:: missing service information"),
            ("{}", "empty milter definition"),
            ("{inet:a:1", "missing '}' in \"{inet:a:1\""),
            ("{inet:a:1, x=y}", "unknown option: \"x=y\""),
            ("{inet:a:1, protocol=5}", "bad protocol information: 5"),
            ("{inet:a:1, connect_timeout=0}", "invalid connect_timeout: 0 (min 1)"),
            (
                "{inet:a:1, default_action=drop}",
                "unrecognized default action: drop; write accept, reject, tempfail, shutdown or quarantine",
            ),
        ] {
            assert_eq!(services(list).unwrap_err(), error, "{list}");
        }
    }

    #[test]
    fn default_macros() {
        let macros = parse_macro_defaults("auth_type=none {x}=1, { {two} = a b } auth_type=again").unwrap();
        let pairs: Vec<_> = macros.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("{auth_type}", "none"), ("{x}", "1"), ("{two}", "a b")]);
        assert!(parse_macro_defaults("novalue").is_err());
        let braced = parse_macro_defaults("{a}={b}").unwrap();
        assert_eq!(braced, [("{a}".to_owned(), "{b}".to_owned())]);
    }
}
