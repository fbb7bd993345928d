//! Routes of many addresses under a dozen configurations, asked of Postfix's trivial-rewrite(8) and of ours: the same
//! transport, next-hop and recipient, and the same addresses refused.
//!
//! The addresses follow from a number that a failure names.
#![cfg(test)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use delivery::routing::{Class, Directory, Domains, Key, LookupFailure, Maps, NoRoute, Settings, route};
use testbed::peers::{self, Peer};
use testbed::postfix::{scratch, write_config};
use testbed::trials::Trials;

/// By itself, trivial-rewrite(8) answers one question and ends.
const ADDRESSES_PER_CONFIGURATION: u64 = 120;

fn main() -> ExitCode {
    testbed::program::set("", env!("CARGO_TARGET_TMPDIR"));
    let mut trials = Trials::default();
    for (name, changes) in CONFIGURATIONS {
        trials.add(&format!("trivial_rewrite::{name}"), &[Peer::Postfix], move || compare(changes));
    }
    trials.run()
}

/// What each configuration sets besides that of [`BASE`].
const CONFIGURATIONS: &[(&str, &[(&str, &str)])] = &[
    ("base", &[]),
    ("relayhost", &[("relayhost", "[gw.example]:587")]),
    (
        "own_nexthop",
        &[
            ("relayhost", "gw.example"),
            ("default_transport", "slow:[own.example]"),
            ("relay_transport", "relay:"),
        ],
    ),
    ("transport_maps", &[("transport_maps", TRANSPORTS), ("relayhost", "gw.example")]),
    (
        "transport_maps_with_parents",
        &[("transport_maps", TRANSPORTS), ("parent_domain_matches_subdomains", "transport_maps")],
    ),
    (
        "wildcard",
        &[
            ("transport_maps", "inline:{ {* = w:}, {b.example = :}, {other.example = x:y} }"),
            ("relayhost", "gw"),
        ],
    ),
    (
        "relocated",
        &[("relocated_maps", "inline:{ {bob@other.example = new@x.example}, {@c.b.example = elsewhere} }")],
    ),
    (
        "senders",
        &[
            (
                "sender_dependent_relayhost_maps",
                "inline:{ {@sender.example = [senders]}, {<> = [bounces]}, {dunno@sender.example = DUNNO} }",
            ),
            (
                "sender_dependent_default_transport_maps",
                "inline:{ {alice@sender.example = alices:}, {<> = nobodys:[nh]} }",
            ),
            ("relayhost", "gw"),
        ],
    ),
    ("no_hacks", &[("allow_percent_hack", "no"), ("swap_bangpath", "no")]),
    ("numeric_domains", &[("resolve_numeric_domain", "yes")]),
    ("min_user", &[("allow_min_user", "yes")]),
    ("two_delimiters", &[("recipient_delimiter", "+-"), ("transport_maps", TRANSPORTS)]),
    (
        "names_without_table",
        &[
            ("show_user_unknown_table_name", "no"),
            ("local_transport", "local"),
            ("empty_address_recipient", "root"),
        ],
    ),
];

const TRANSPORTS: &str = "inline:{ {bob@other.example = t1:n1}, {bob+x@c.b.example = t2:}, {b.example = t3}, {.b.example = :n4}, \
    {local.example = t5:}, {store.example = error:5.7.1 not here}, {relay.example = retry:}, {.example = t6:[n6]:26, n7}, \
    {alias.example = t7:} }";

const BASE: &[(&str, &str)] = &[
    ("compatibility_level", "3.6"),
    ("myhostname", "mx.example.test"),
    ("mydomain", "example.test"),
    ("myorigin", "example.test"),
    ("mydestination", "local.example, mx.example.test"),
    ("virtual_alias_domains", "alias.example"),
    ("virtual_mailbox_domains", "store.example"),
    ("relay_domains", "relay.example"),
    ("inet_interfaces", "127.0.0.1"),
    ("inet_protocols", "ipv4"),
    ("proxy_interfaces", "192.0.2.7"),
    ("recipient_delimiter", "+"),
    ("append_at_myorigin", "yes"),
];

/// Numbers that look random and follow from the first one.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.roll(from.len())]
    }
}

const USERS: &[&str] = &[
    "bob",
    "alice",
    "bob+x",
    "bob+x+y",
    "bob-x",
    "-bob",
    "a b",
    "a.b",
    "a..b",
    "owner-bob+x",
    "postmaster",
    "",
    "J\u{f6}rg",
    "bob+",
    "+x",
    "double-bounce",
];
const DOMAINS: &[&str] = &[
    "other.example",
    "Other.Example",
    "other.example.",
    "local.example",
    "mx.example.test",
    "relay.example",
    "sub.relay.example",
    "alias.example",
    "store.example",
    "b.example",
    "c.b.example",
    "d.c.b.example",
    "x.example",
    "[192.0.2.1]",
    "[127.0.0.1]",
    "[192.0.2.7]",
    "[ipv6:2001:db8::1]",
    "[IPv6:::1]",
    "[x]",
    "192.0.2.1",
    "x..y",
    "x-",
    "-x",
    "x_y.example",
    "",
    "com",
    "1",
    "\u{fc}.example",
    "x y.example",
];

/// Addresses as users and attackers write them, one of which in ten is taken apart more than once.
fn address(dice: &mut Dice) -> String {
    let user = dice.pick(USERS);
    let domain = dice.pick(DOMAINS);
    match dice.roll(20) {
        0 => user.to_owned(),
        1 => format!("{user}%{domain}@{}", dice.pick(DOMAINS)),
        2 => format!("{domain}!{user}@{}", dice.pick(DOMAINS)),
        3 => format!("{user}@{domain}@{}", dice.pick(DOMAINS)),
        4 => format!("{user}%{domain}"),
        5 => format!("{domain}!{user}"),
        6 => format!("{user}%{}%{domain}@local.example", dice.pick(DOMAINS)),
        _ => format!("{user}@{domain}"),
    }
}

fn compare(changes: &[(&str, &str)]) {
    let mut parameters: BTreeMap<&str, &str> = BASE.iter().copied().collect();
    parameters.extend(changes.iter().copied());
    let mut dice = Dice(changes.len() as u64);
    let questions: Vec<(&str, String)> = (0..ADDRESSES_PER_CONFIGURATION)
        .map(|_| {
            (
                dice.pick(&["alice@sender.example", "", "dunno@sender.example", "x@y.example"]),
                address(&mut dice),
            )
        })
        .collect();
    let theirs = ask(&parameters, &questions);
    assert_eq!(theirs.len(), questions.len());
    let world = World(&parameters);
    let settings = settings(&parameters);
    let mut differences = Vec::new();
    for ((sender, address), theirs) in questions.iter().zip(theirs) {
        let ours = match route(sender.as_bytes(), address.as_bytes(), &settings, &world) {
            Ok(route) => {
                format!("{:?} {}:{} {}", route.class, route.transport, route.nexthop, route.recipient)
            }
            Err(NoRoute::BadAddress) => "bad".to_owned(),
            Err(NoRoute::Failed(failure)) => failure.to_string(),
        };
        // `@host:` begins a source route of long ago; an address behind it that is none is refused.
        let is_route = theirs == "bad" && ours.contains(" @") && address.contains(':');
        if ours != theirs && !is_route {
            differences.push(format!("<{sender}> {address:?}: ours {ours}, Postfix {theirs}"));
        }
    }
    differences.dedup();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// What trivial-rewrite(8) answers, over its standard input and output.
fn ask(parameters: &BTreeMap<&str, &str>, questions: &[(&str, String)]) -> Vec<String> {
    let dir = scratch("routing");
    let queue = dir.path().join("queue");
    std::fs::create_dir_all(queue.join("pid")).unwrap();
    let mut main_cf: String = parameters.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    main_cf
        .push_str(&format!("queue_directory = {0}\ndata_directory = {0}\nmaillog_file =\n", queue.display()));
    let config = write_config(dir.path(), &main_cf, "");
    let question = |(sender, address): &(&str, String)| {
        let words = ["request", "resolve", "sender", sender, "address", address, ""];
        answer(&run(&config, &queue, &format!("{}\0", words.join("\0"))))
    };
    questions.iter().map(question).collect()
}

fn run(config: &Path, queue: &Path, input: &str) -> BTreeMap<String, String> {
    let mut command = peers::command("/usr/lib/postfix/sbin/trivial-rewrite").unwrap();
    command.arg("-S").env("MAIL_CONFIG", config).current_dir(queue);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split('\0').map(str::to_owned);
    let mut values = BTreeMap::new();
    while let Some(name) = words.next().filter(|name| !name.is_empty()) {
        // There are two flags: those of the answer come last.
        values.insert(name, words.next().unwrap());
    }
    values
}

fn answer(values: &BTreeMap<String, String>) -> String {
    let flags: u32 = values["flags"].parse().unwrap();
    // The address is none. (2 says that it has routing characters in its local part, 8 that a table failed.)
    if flags & 4 != 0 {
        return "bad".to_owned();
    }
    let class = [
        (256, Class::Local),
        (512, Class::VirtualAlias),
        (1024, Class::VirtualMailbox),
        (2048, Class::Relay),
        (4096, Class::Default),
    ];
    let class = class.iter().find(|(bit, _)| flags & bit != 0).map(|(_, class)| *class);
    format!("{:?} {}:{} {}", class.unwrap(), values["transport"], values["nexthop"], values["recipient"])
}

fn settings(parameters: &BTreeMap<&str, &str>) -> Settings {
    let text = |name: &str, default: &str| parameters.get(name).copied().unwrap_or(default).to_owned();
    let yes = |name: &str, default: bool| parameters.get(name).map_or(default, |value| *value == "yes");
    Settings {
        hostname: text("myhostname", ""),
        local_transport: text("local_transport", "local:mx.example.test"),
        virtual_transport: text("virtual_transport", "virtual"),
        relay_transport: text("relay_transport", "relay"),
        default_transport: text("default_transport", "smtp"),
        relayhost: text("relayhost", ""),
        recipient_delimiter: text("recipient_delimiter", "+"),
        empty_recipient: text("empty_address_recipient", "MAILER-DAEMON"),
        null_sender_key: "<>".to_owned(),
        percent_hack: yes("allow_percent_hack", true),
        swap_bangpath: yes("swap_bangpath", true),
        numeric_domain: yes("resolve_numeric_domain", false),
        min_user: yes("allow_min_user", false),
        parents_without_dot: parameters.contains_key("parent_domain_matches_subdomains"),
        shows_table_name: yes("show_user_unknown_table_name", true),
    }
}

/// Tables as `inline:` writes them.
struct World<'a>(&'a BTreeMap<&'a str, &'a str>);

impl Directory for World<'_> {
    fn lists(&self, domains: Domains, domain: &str) -> Result<bool, LookupFailure> {
        let list = self.0.get(domains.parameter()).copied().unwrap_or_default();
        // sub-domains count for relay_domains as long as parent_domain_matches_subdomains says nothing else.
        let with_parents =
            domains == Domains::Relay && !self.0.contains_key("parent_domain_matches_subdomains");
        Ok(list
            .split(", ")
            .any(|name| name == domain || with_parents && domain.ends_with(&format!(".{name}"))))
    }

    fn find(&self, maps: Maps, key: &str, _: Key) -> Result<Option<String>, LookupFailure> {
        let Some(table) = self.0.get(maps.parameter()) else { return Ok(None) };
        let entries = table.trim_start_matches("inline:{").trim_end_matches('}').split('{').skip(1);
        let mut entries = entries.filter_map(|entry| entry.split('}').next()?.split_once(" = "));
        Ok(entries.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned()))
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        ["127.0.0.1", "192.0.2.7"].contains(&address.to_string().as_str())
    }
}
