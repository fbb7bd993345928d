//! Where a recipient goes: its address class, then transport and next-hop (trivial-rewrite(8), transport(5),
//! ADDRESS_CLASS_README; each rule was seen on Postfix 3.7).
//!
//! | class | its domains | transport | next-hop |
//! |---|---|---|---|
//! | local | `mydestination`, addresses of this system | `local_transport` | the domain |
//! | virtual alias | `virtual_alias_domains` | none: the address should have been rewritten | |
//! | virtual mailbox | `virtual_mailbox_domains` | `virtual_transport` | the domain |
//! | relay | `relay_domains` | `relay_transport` | `relayhost`, or the domain |
//! | default | all others | `default_transport` | `relayhost`, or the domain |
//!
//! A next-hop in the transport parameter beats `relayhost`; `transport_maps` beats both.

use std::net::IpAddr;

use postfix::hostname::check_hostname;

/// A parameter that lists domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domains {
    /// `mydestination`.
    Local,
    /// `virtual_alias_domains`.
    VirtualAlias,
    /// `virtual_mailbox_domains`.
    VirtualMailbox,
    /// `relay_domains`, with sub-domains.
    Relay,
}

impl Domains {
    /// The parameter's name.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Local => "mydestination",
            Self::VirtualAlias => "virtual_alias_domains",
            Self::VirtualMailbox => "virtual_mailbox_domains",
            Self::Relay => "relay_domains",
        }
    }
}

/// A parameter that names tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Maps {
    /// `transport_maps`.
    Transport,
    /// `relocated_maps`.
    Relocated,
    /// `sender_dependent_default_transport_maps`.
    SenderDefaultTransport,
    /// `sender_dependent_relayhost_maps`.
    SenderRelayhost,
}

impl Maps {
    /// The parameter's name.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Transport => "transport_maps",
            Self::Relocated => "relocated_maps",
            Self::SenderDefaultTransport => "sender_dependent_default_transport_maps",
            Self::SenderRelayhost => "sender_dependent_relayhost_maps",
        }
    }
}

/// A table or list that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {words}")]
pub struct LookupFailure {
    /// Which parameter names it.
    pub parameter: &'static str,
    /// What went wrong.
    pub words: String,
}

/// Which part of an address a key is. Tables that are no fixed strings (regular expressions, servers of tcp_table(5))
/// want whole addresses only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The whole address.
    Address,
    /// A part of it: the address without its extension, a domain, a parent domain, `*`.
    Part,
}

/// What routing asks of the world outside.
pub trait Directory {
    /// Is this domain, in lower case, on the list?
    ///
    /// # Errors
    /// When the list cannot be asked.
    fn lists(&self, domains: Domains, domain: &str) -> Result<bool, LookupFailure>;

    /// What do the tables say of this key, in lower case? The first table that has it counts.
    ///
    /// # Errors
    /// When a table cannot be asked.
    fn find(&self, maps: Maps, key: &str, kind: Key) -> Result<Option<String>, LookupFailure>;

    /// Is this an address of this system (`inet_interfaces`, `proxy_interfaces`)?
    fn is_own_address(&self, address: IpAddr) -> bool;
}

/// The parameters that decide.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)]
pub struct Settings {
    /// `myhostname`.
    pub hostname: String,
    /// `local_transport`, expanded.
    pub local_transport: String,
    /// `virtual_transport`.
    pub virtual_transport: String,
    /// `relay_transport`.
    pub relay_transport: String,
    /// `default_transport`.
    pub default_transport: String,
    /// `relayhost`; empty: none.
    pub relayhost: String,
    /// `recipient_delimiter`.
    pub recipient_delimiter: String,
    /// `empty_address_recipient`.
    pub empty_recipient: String,
    /// `empty_address_relayhost_maps_lookup_key` and its sister: the key of the null sender.
    pub null_sender_key: String,
    /// `allow_percent_hack`.
    pub percent_hack: bool,
    /// `swap_bangpath`.
    pub swap_bangpath: bool,
    /// `resolve_numeric_domain`.
    pub numeric_domain: bool,
    /// `allow_min_user`.
    pub min_user: bool,
    /// Is `transport_maps` on `parent_domain_matches_subdomains`? Then a parent domain is looked up without its dot.
    pub parents_without_dot: bool,
    /// `show_user_unknown_table_name`.
    pub shows_table_name: bool,
}

/// The five kinds of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Class {
    Local,
    VirtualAlias,
    VirtualMailbox,
    Relay,
    Default,
}

/// Where a recipient goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The kind of its address.
    pub class: Class,
    /// A service of master.cf; `error`, `retry` and `discard` are part of the queue manager.
    pub transport: String,
    /// Where that service is to deliver to; for `error` and `retry` the words.
    pub nexthop: String,
    /// The address to deliver to.
    pub recipient: String,
    /// Was the next-hop chosen by `relayhost`? A relay host that cannot be found is this system's fault, not the
    /// recipient's.
    pub by_relayhost: bool,
}

/// Why there is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The address is invalid. Such a recipient bounces: `5.1.3 bad address syntax`.
    #[error("bad address syntax")]
    BadAddress,
    /// A table or list failed. Such a recipient is deferred: `4.3.0 address resolver failure`.
    #[error(transparent)]
    Failed(#[from] LookupFailure),
}

/// How often an address may be taken apart (`a%b%c@local`): each turn removes an operator.
const TURNS_MAX: usize = 100;

/// Where `recipient` of a message from `sender` goes. Both come in unquoted form, as a queue file holds them.
///
/// # Errors
/// When the address is invalid, or a table fails.
pub fn route(
    sender: &[u8],
    recipient: &[u8],
    settings: &Settings,
    directory: &impl Directory,
) -> Result<Route, NoRoute> {
    let recipient = std::str::from_utf8(recipient).map_err(|_| NoRoute::BadAddress)?;
    let Resolved { local_part, domain, is_local } = resolve(recipient, settings, directory)?;
    if local_part.starts_with('-') && !settings.min_user {
        return Err(NoRoute::BadAddress);
    }
    let sender = String::from_utf8_lossy(sender);
    let mut route = by_class(&sender, &domain, is_local, settings, directory)?;
    route.recipient = format!("{local_part}@{domain}");
    if route.class != Class::VirtualAlias
        && let Some(entry) = transport_entry(&route.recipient, &domain, settings, directory)?
    {
        apply(&mut route, &entry, &domain);
    }
    if let Some(place) = find_address(Maps::Relocated, &route.recipient, settings, directory, true)? {
        (route.transport, route.nexthop) = ("error".into(), format!("5.1.6 User has moved to {place}"));
        route.by_relayhost = false;
    }
    if route.nexthop.is_empty() {
        route.nexthop = domain;
    }
    Ok(route)
}

/// An address as it counts: local domains are taken off while there is another one inside.
struct Resolved {
    local_part: String,
    domain: String,
    is_local: bool,
}

fn resolve(recipient: &str, settings: &Settings, directory: &impl Directory) -> Result<Resolved, NoRoute> {
    let mut address = recipient.to_owned();
    let mut stripped: Option<String> = None;
    for _ in 0..TURNS_MAX {
        let (local_part, domain) = match address.rsplit_once('@') {
            Some((local_part, domain)) => (local_part.to_owned(), Some(domain_text(domain))),
            None => (address.clone(), None),
        };
        if let Some(domain) = domain {
            // `user%domain@` names a domain all the same; nothing at all behind the last `@` is found out below.
            if !domain.is_empty() {
                let domain = checked_domain(&domain, settings)?;
                if !is_local(&domain, directory)? {
                    return Ok(Resolved { local_part, domain, is_local: false });
                }
            }
            stripped = Some(domain);
        }
        if let Some(inner) = inner_address(&local_part, settings) {
            address = inner;
        } else if local_part.is_empty() {
            // Without a domain of its own, so that it is looked at as any other address.
            address.clone_from(&settings.empty_recipient);
            if address.is_empty() {
                return Err(NoRoute::BadAddress);
            }
        } else if let Some(domain) = stripped {
            let domain = checked_domain(&domain, settings)?;
            return Ok(Resolved { local_part, domain, is_local: true });
        } else {
            address = format!("{local_part}@{}", settings.hostname);
        }
    }
    Err(NoRoute::BadAddress)
}

/// `user%domain` and `domain!user` name another place inside of a local part.
fn inner_address(local_part: &str, settings: &Settings) -> Option<String> {
    if local_part.contains('@') {
        return Some(local_part.to_owned());
    }
    if settings.swap_bangpath
        && let Some((domain, user)) = local_part.split_once('!')
    {
        return Some(format!("{user}@{domain}"));
    }
    let (user, domain) = local_part.rsplit_once('%').filter(|_| settings.percent_hack)?;
    Some(format!("{user}@{domain}"))
}

/// A domain without the dot at its end, and with a bracket at its end if only that one is missing.
fn domain_text(domain: &str) -> String {
    let without_dot = domain.strip_suffix('.').filter(|rest| !rest.is_empty() && !rest.ends_with('.'));
    let domain = without_dot.unwrap_or(domain);
    let bracket = if domain.starts_with('[') && !domain.contains(']') { "]" } else { "" };
    format!("{domain}{bracket}")
}

/// The domain, if it is a host name or an address in brackets.
fn checked_domain(domain: &str, settings: &Settings) -> Result<String, NoRoute> {
    if domain.starts_with('[') {
        return literal(domain).map(|_| domain.to_owned()).ok_or(NoRoute::BadAddress);
    }
    if domain.parse::<IpAddr>().is_ok() {
        return if settings.numeric_domain { Ok(format!("[{domain}]")) } else { Err(NoRoute::BadAddress) };
    }
    let is_name = if domain.is_ascii() {
        check_hostname(domain).is_ok()
    } else {
        // The labels are checked when the name is looked up.
        domain.split('.').all(|label| !label.is_empty())
            && !domain.chars().any(|letter| letter.is_control() || letter == ' ')
    };
    if is_name { Ok(domain.to_owned()) } else { Err(NoRoute::BadAddress) }
}

/// The address in `[192.0.2.1]` or `[ipv6:2001:db8::1]`.
fn literal(domain: &str) -> Option<IpAddr> {
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inside.split_at_checked(5).filter(|(prefix, _)| prefix.eq_ignore_ascii_case("ipv6:")) {
        Some((_, address)) => address.parse().ok().map(IpAddr::V6),
        None => inside.parse().ok(),
    }
}

fn is_local(domain: &str, directory: &impl Directory) -> Result<bool, LookupFailure> {
    if let Some(address) = literal(domain)
        && directory.is_own_address(address)
    {
        return Ok(true);
    }
    directory.lists(Domains::Local, &domain.to_lowercase())
}

fn by_class(
    sender: &str,
    domain: &str,
    is_local: bool,
    settings: &Settings,
    directory: &impl Directory,
) -> Result<Route, LookupFailure> {
    let direct = |class, parameter, transport: &str| {
        parameter_route(class, (parameter, transport), domain.to_owned(), false)
    };
    if is_local {
        return direct(Class::Local, "local_transport", &settings.local_transport);
    }
    let key = domain.to_lowercase();
    if directory.lists(Domains::VirtualAlias, &key)? {
        let table = if settings.shows_table_name { " in virtual alias table" } else { "" };
        let mut route = direct(Class::VirtualAlias, "virtual_alias_domains", "error")?;
        route.nexthop = format!("5.1.1 User unknown{table}");
        return Ok(route);
    }
    if directory.lists(Domains::VirtualMailbox, &key)? {
        return direct(Class::VirtualMailbox, "virtual_transport", &settings.virtual_transport);
    }
    let (class, parameter, transport) = if directory.lists(Domains::Relay, &key)? {
        (Class::Relay, "relay_transport", settings.relay_transport.clone())
    } else {
        match by_sender(Maps::SenderDefaultTransport, sender, settings, directory)? {
            Some(chosen) => (Class::Default, Maps::SenderDefaultTransport.parameter(), chosen),
            None => (Class::Default, "default_transport", settings.default_transport.clone()),
        }
    };
    let chosen = by_sender(Maps::SenderRelayhost, sender, settings, directory)?;
    // A relay host of one sender's is his own affair: what Postfix forgives is the one of main.cf.
    let by_relayhost = chosen.is_none() && !settings.relayhost.is_empty();
    let nexthop = match chosen {
        Some(relayhost) => relayhost,
        None if by_relayhost => settings.relayhost.clone(),
        None => domain.to_owned(),
    };
    parameter_route(class, (parameter, &transport), nexthop, by_relayhost)
}

/// A route by a parameter with the value `transport[:nexthop]`; its next-hop counts more than the one given.
fn parameter_route(
    class: Class,
    (parameter, value): (&'static str, &str),
    nexthop: String,
    by_relayhost: bool,
) -> Result<Route, LookupFailure> {
    let (transport, own) = value.split_once(':').unwrap_or((value, ""));
    if transport.is_empty() {
        let words = format!("{value:?} names no transport; write transport:next-hop");
        return Err(LookupFailure { parameter, words });
    }
    let (nexthop, by_relayhost) =
        if own.is_empty() { (nexthop, by_relayhost) } else { (own.to_owned(), false) };
    Ok(Route { class, transport: transport.to_owned(), nexthop, recipient: String::new(), by_relayhost })
}

/// What a table by sender says; `DUNNO` and an empty value say nothing.
fn by_sender(
    maps: Maps,
    sender: &str,
    settings: &Settings,
    directory: &impl Directory,
) -> Result<Option<String>, LookupFailure> {
    let found = if sender.is_empty() {
        directory.find(maps, &settings.null_sender_key, Key::Address)?
    } else {
        find_address(maps, sender, settings, directory, true)?
    };
    Ok(found.filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case("DUNNO")))
}

/// Looks up an address, the address without its extension, and, if wanted, `@domain`.
fn find_address(
    maps: Maps,
    address: &str,
    settings: &Settings,
    directory: &impl Directory,
    with_domain: bool,
) -> Result<Option<String>, LookupFailure> {
    let address = address.to_lowercase();
    if let Some(found) = directory.find(maps, &address, Key::Address)? {
        return Ok(Some(found));
    }
    if let Some(plain) = without_extension(&address, &settings.recipient_delimiter)
        && let Some(found) = directory.find(maps, &plain, Key::Part)?
    {
        return Ok(Some(found));
    }
    match address.rsplit_once('@') {
        Some((_, domain)) if with_domain => directory.find(maps, &format!("@{domain}"), Key::Part),
        _ => Ok(None),
    }
}

/// `user@domain` of `user+extension@domain`; nothing without an extension. Names of the mail system have none.
fn without_extension(address: &str, delimiters: &str) -> Option<String> {
    let (local_part, domain) = address.rsplit_once('@')?;
    if local_part.starts_with("owner-") && delimiters.contains('-') || local_part.ends_with("-request") {
        return None;
    }
    let (user, _) =
        local_part.split_once(|letter| delimiters.contains(letter)).filter(|(user, _)| !user.is_empty())?;
    let is_reserved = ["mailer-daemon", "double-bounce"].contains(&local_part);
    (!is_reserved).then(|| format!("{user}@{domain}"))
}

fn transport_entry(
    recipient: &str,
    domain: &str,
    settings: &Settings,
    directory: &impl Directory,
) -> Result<Option<String>, LookupFailure> {
    if let Some(found) = find_address(Maps::Transport, recipient, settings, directory, false)? {
        return Ok(Some(found));
    }
    let mut key = domain.to_lowercase();
    loop {
        if let Some(found) = directory.find(Maps::Transport, &key, Key::Part)? {
            return Ok(Some(found));
        }
        let name = key.strip_prefix('.').unwrap_or(&key);
        let Some((_, parent)) = name.split_once('.').filter(|_| !name.starts_with('[')) else { break };
        key = if settings.parents_without_dot { parent.to_owned() } else { format!(".{parent}") };
    }
    directory.find(Maps::Transport, "*", Key::Part)
}

/// Changes a route as an entry of `transport_maps` wants it.
fn apply(route: &mut Route, entry: &str, domain: &str) {
    let (transport, nexthop) = entry.split_once(':').unwrap_or((entry, ""));
    if !nexthop.is_empty() {
        nexthop.clone_into(&mut route.nexthop);
        route.by_relayhost = false;
    }
    if transport.is_empty() {
        return;
    }
    transport.clone_into(&mut route.transport);
    if nexthop.is_empty() {
        let is_refusal = matches!(transport, "error" | "retry");
        route.nexthop = if is_refusal { "Address is undeliverable".to_owned() } else { domain.to_owned() };
        route.by_relayhost = false;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct World {
        lists: HashMap<&'static str, Vec<&'static str>>,
        maps: HashMap<&'static str, Vec<(&'static str, &'static str)>>,
        broken: Option<&'static str>,
    }

    impl Directory for World {
        fn lists(&self, domains: Domains, domain: &str) -> Result<bool, LookupFailure> {
            self.fail(domains.parameter())?;
            let names = self.lists.get(domains.parameter()).map(Vec::as_slice).unwrap_or_default();
            let is_parent = |name: &str| domains == Domains::Relay && domain.ends_with(&format!(".{name}"));
            Ok(names.iter().any(|&name| name == domain || is_parent(name)))
        }

        fn find(&self, maps: Maps, key: &str, _: Key) -> Result<Option<String>, LookupFailure> {
            self.fail(maps.parameter())?;
            let entries = self.maps.get(maps.parameter()).map(Vec::as_slice).unwrap_or_default();
            Ok(entries.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned()))
        }

        fn is_own_address(&self, address: IpAddr) -> bool {
            address.is_loopback()
        }
    }

    impl World {
        fn new() -> Self {
            let lists = [
                ("mydestination", vec!["local.example", "mx.example.test"]),
                ("virtual_alias_domains", vec!["alias.example"]),
                ("virtual_mailbox_domains", vec!["store.example"]),
                ("relay_domains", vec!["relay.example"]),
            ];
            Self { lists: lists.into(), ..Self::default() }
        }

        fn with(mut self, maps: &'static str, entries: &[(&'static str, &'static str)]) -> Self {
            self.maps.insert(maps, entries.to_vec());
            self
        }

        fn fail(&self, parameter: &'static str) -> Result<(), LookupFailure> {
            match self.broken {
                Some(broken) if broken == parameter => {
                    Err(LookupFailure { parameter, words: "no answer".into() })
                }
                _ => Ok(()),
            }
        }
    }

    fn settings() -> Settings {
        Settings {
            hostname: "mx.example.test".into(),
            local_transport: "local:mx.example.test".into(),
            virtual_transport: "virtual".into(),
            relay_transport: "relay".into(),
            default_transport: "smtp".into(),
            relayhost: String::new(),
            recipient_delimiter: "+".into(),
            empty_recipient: "MAILER-DAEMON".into(),
            null_sender_key: "<>".into(),
            percent_hack: true,
            swap_bangpath: true,
            numeric_domain: false,
            min_user: false,
            parents_without_dot: false,
            shows_table_name: true,
        }
    }

    fn to(recipient: &str, settings: &Settings, world: &World) -> String {
        match route(b"alice@sender.example", recipient.as_bytes(), settings, world) {
            Ok(route) => format!("{}|{}|{}", route.transport, route.nexthop, route.recipient),
            Err(NoRoute::BadAddress) => "bad".into(),
            Err(NoRoute::Failed(failure)) => failure.to_string(),
        }
    }

    /// What trivial-rewrite of Postfix 3.7 answered.
    #[test]
    fn classes() {
        for (recipient, found) in [
            ("bob@other.example", "smtp|other.example|bob@other.example"),
            ("bob@Other.Example.", "smtp|Other.Example|bob@Other.Example"),
            ("bob@LOCAL.example", "local|mx.example.test|bob@LOCAL.example"),
            ("a%b@", "smtp|b|a@b"),
            ("bob@local.example", "local|mx.example.test|bob@local.example"),
            ("bob", "local|mx.example.test|bob@mx.example.test"),
            ("bob@sub.relay.example", "relay|sub.relay.example|bob@sub.relay.example"),
            ("bob@store.example", "virtual|store.example|bob@store.example"),
            ("bob@alias.example", "error|5.1.1 User unknown in virtual alias table|bob@alias.example"),
            ("bob@[1.2.3.4]", "smtp|[1.2.3.4]|bob@[1.2.3.4]"),
            ("bob@[127.0.0.1]", "local|mx.example.test|bob@[127.0.0.1]"),
            ("bob@[IPv6:::1]", "local|mx.example.test|bob@[IPv6:::1]"),
            ("a%b@local.example", "smtp|b|a@b"),
            ("b!a@local.example", "smtp|b|a@b"),
            ("a%b%c@local.example", "smtp|c|a%b@c"),
            ("a@b@local.example", "smtp|b|a@b"),
            ("a%b@other.example", "smtp|other.example|a%b@other.example"),
            ("", "local|mx.example.test|MAILER-DAEMON@mx.example.test"),
            ("bob@1.2.3.4", "bad"),
            ("bob@", "bad"),
            ("@other.example", "smtp|other.example|@other.example"),
            ("bob@x..y", "bad"),
            ("bob@[x]", "bad"),
            ("-bob@other.example", "bad"),
            ("bob@b\u{fc}cher.example", "smtp|b\u{fc}cher.example|bob@b\u{fc}cher.example"),
        ] {
            assert_eq!(to(recipient, &settings(), &World::new()), found, "{recipient}");
        }
        let numeric = Settings { numeric_domain: true, ..settings() };
        assert_eq!(to("bob@1.2.3.4", &numeric, &World::new()), "smtp|[1.2.3.4]|bob@[1.2.3.4]");
    }

    #[test]
    fn a_relay_host_takes_what_is_neither_local_nor_virtual() {
        let settings = Settings { relayhost: "[gw]:587".into(), ..settings() };
        for (recipient, nexthop) in [
            ("a@other.example", "[gw]:587"),
            ("a@relay.example", "[gw]:587"),
            ("a@store.example", "store.example"),
        ] {
            let route = route(b"s@x", recipient.as_bytes(), &settings, &World::new()).unwrap();
            assert_eq!((route.nexthop.as_str(), route.by_relayhost), (nexthop, nexthop == "[gw]:587"));
        }
        let own = Settings { default_transport: "smtp:[own]".into(), ..settings };
        assert_eq!(to("a@other.example", &own, &World::new()), "smtp|[own]|a@other.example");
    }

    #[test]
    fn senders_choose() {
        let world = World::new()
            .with(
                "sender_dependent_relayhost_maps",
                &[("alice@sender.example", "[alices]"), ("<>", "[bounces]"), ("@dunno.example", "DUNNO")],
            )
            .with("sender_dependent_default_transport_maps", &[("@sender.example", "slow:")]);
        let settings = Settings { relayhost: "[gw]".into(), ..settings() };
        let nexthop = |sender: &[u8]| route(sender, b"a@other.example", &settings, &world).unwrap();
        assert_eq!(
            (
                nexthop(b"Alice+x@sender.example").nexthop.as_str(),
                nexthop(b"alice@sender.example").by_relayhost
            ),
            ("[alices]", false)
        );
        assert_eq!(nexthop(b"alice@sender.example").transport, "slow");
        assert_eq!(nexthop(b"").nexthop, "[bounces]");
        assert_eq!(
            (nexthop(b"x@dunno.example").nexthop.as_str(), nexthop(b"x@dunno.example").by_relayhost),
            ("[gw]", true)
        );
    }

    /// The order of keys, and what each form of a value does (observed on Postfix 3.7).
    #[test]
    fn transport_maps() {
        for (key, value, found) in [
            ("bob+x@a.b.example", "t:n", "t|n"),
            ("bob@a.b.example", "t:n", "t|n"),
            ("a.b.example", "t:n", "t|n"),
            (".b.example", "t:n", "t|n"),
            (".example", "t:n", "t|n"),
            ("*", "t:n", "t|n"),
            ("b.example", "t:n", "smtp|[gw]"),
            (".a.b.example", "t:n", "smtp|[gw]"),
            ("*", "t:", "t|a.b.example"),
            ("*", "t", "t|a.b.example"),
            ("*", ":n", "smtp|n"),
            ("*", ":", "smtp|[gw]"),
            ("*", "error:5.7.1 no, not: here", "error|5.7.1 no, not: here"),
            ("*", "error:", "error|Address is undeliverable"),
            ("*", "retry:", "retry|Address is undeliverable"),
        ] {
            let entries: &'static [(&str, &str)] = Box::leak(Box::new([(key, value)]));
            let world = World::new().with("transport_maps", entries);
            let settings = Settings { relayhost: "[gw]".into(), ..settings() };
            assert_eq!(
                to("Bob+x@a.b.example", &settings, &world),
                format!("{found}|Bob+x@a.b.example"),
                "{key} {value}"
            );
        }
        let world = World::new().with("transport_maps", &[("example", "t:n")]);
        let settings = Settings { parents_without_dot: true, ..settings() };
        assert_eq!(to("a@b.c.example", &settings, &world), "t|n|a@b.c.example");
        let world = World::new().with("transport_maps", &[("*", "t:n")]);
        assert!(to("a@alias.example", &settings, &world).starts_with("error|5.1.1"));
    }

    /// Postfix says "null transport is not allowed", and defers.
    #[test]
    fn a_parameter_without_a_transport_is_named() {
        let world =
            World::new().with("sender_dependent_default_transport_maps", &[("@sender.example", ":[gw]")]);
        let words =
            "sender_dependent_default_transport_maps: \":[gw]\" names no transport; write transport:next-hop";
        assert_eq!(to("a@other.example", &settings(), &world), words);
        let empty = Settings { local_transport: String::new(), ..settings() };
        assert!(
            to("a@local.example", &empty, &World::new())
                .starts_with("local_transport: \"\" names no transport")
        );
    }

    #[test]
    fn who_has_moved_is_told_where() {
        let world = World::new().with("relocated_maps", &[("bob@local.example", "bob@new.example")]);
        assert_eq!(
            to("bob@local.example", &settings(), &world),
            "error|5.1.6 User has moved to bob@new.example|bob@local.example"
        );
    }

    #[test]
    fn each_table_and_list_that_fails_is_named() {
        for broken in [
            "mydestination",
            "virtual_alias_domains",
            "virtual_mailbox_domains",
            "relay_domains",
            "transport_maps",
            "relocated_maps",
            "sender_dependent_default_transport_maps",
            "sender_dependent_relayhost_maps",
        ] {
            let world = World { broken: Some(broken), ..World::new() };
            assert_eq!(to("bob@other.example", &settings(), &world), format!("{broken}: no answer"));
        }
    }

    proptest! {
        /// Whatever an address is: an answer comes, and a route has a transport, a next-hop and an address with a domain.
        #[test]
        fn every_address_has_an_answer(address in proptest::collection::vec(prop_oneof![Just(b'@'), Just(b'%'), Just(b'!'), Just(b'.'), Just(b'['), any::<u8>()], 0..40)) {
            if let Ok(route) = route(b"", &address, &settings(), &World::new()) {
                prop_assert!(!route.transport.is_empty() && !route.nexthop.is_empty());
                prop_assert!(route.recipient.rsplit_once('@').is_some_and(|(_, domain)| !domain.is_empty()));
            }
        }
    }
}
