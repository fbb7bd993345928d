//! What was meant by a pattern that cannot mean it: words of other lists, ranges, ports, rules of tcprules(1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is wrong with a pattern, and what to write instead.
pub(crate) type Advice = (String, String);

/// For a pattern that is taken for a host name or an address, but was hardly meant as one.
pub(crate) fn by_literal(text: &str) -> Option<Advice> {
    if let Some(networks) = range(text) {
        return Some(("ranges of addresses are not supported".to_owned(), format!("write {networks}")));
    }
    let every_client = "write 0.0.0.0/0, [::]/0 if every client of the network may match, or $mynetworks";
    let word = |instead: &str| {
        let what = "only a client with this name matches".to_owned();
        Some((what, instead.to_owned()))
    };
    match text.to_ascii_lowercase().as_str() {
        "0.0.0.0" | "[::]" => Some(("no client has this address".to_owned(), every_client.to_owned())),
        "all" | "any" | "everyone" | "everybody" | "yes" | "on" | "true" | "permit" | "allow" => {
            word(every_client)
        }
        "no" | "none" | "nobody" | "off" | "false" | "reject" | "deny" => {
            word("leave the list empty if no client may match")
        }
        "permit_mynetworks" => word("write $mynetworks"),
        restriction if is_restriction(restriction) => word(
            "the restrictions of smtpd(8) have no effect here; write addresses, networks, names, files \
             or tables",
        ),
        parameter if is_parameter(parameter) => {
            word(&format!("write ${parameter} for the value of that parameter"))
        }
        _ => None,
    }
}

fn is_restriction(word: &str) -> bool {
    ["permit_", "reject_", "defer_", "check_", "warn_if_"].iter().any(|start| word.starts_with(start))
}

/// `myhostname`, say; a host may have the name of a parameter without underscore, and be meant.
fn is_parameter(word: &str) -> bool {
    ["mynetworks", "mydestination", "mydomain", "myhostname", "myorigin"].contains(&word)
        || (word.contains('_')
            && (postfix::parameter::find(word).is_some()
                || postfix::parameter::is_read_by_other_programs(word)))
}

/// For an item that is taken for `type:name`, but is an address with a port or a rule of tcprules(1).
pub(crate) fn by_table(text: &str) -> Option<Advice> {
    let (subject, behind) = text.rsplit_once(':')?;
    let is_port = !behind.is_empty() && behind.bytes().all(|byte| byte.is_ascii_digit());
    if is_port && is_host(subject) {
        return Some(("a pattern cannot contain a port".to_owned(), format!("write {subject}")));
    }
    let (subject, rule) = text.split_once(':')?;
    let action = rule.split(',').next()?;
    let mark = match action {
        "allow" => "",
        "deny" => "!",
        _ => return None,
    };
    let what = "a rule of tcprules(1) is not a pattern".to_owned();
    let host = subject.strip_prefix('=').unwrap_or(subject);
    let instead = match (subject.is_empty(), mark) {
        (true, "") => "write 0.0.0.0/0, [::]/0 if every client may match".to_owned(),
        (true, _) => "remove it: what is not listed does not match".to_owned(),
        (false, _) => {
            let pattern = range(host).or_else(|| network_of_octets(host)).unwrap_or_else(|| host.to_owned());
            format!("write {mark}{pattern}")
        }
    };
    Some((what, instead))
}

fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    // Names of table types have no dot.
    bare.parse::<IpAddr>().is_ok() || (bare.contains('.') && !bare.contains(['/', ':']))
}

/// The networks that `192.0.2.1-192.0.2.9`, `192.0.2.1-9` or a pair of IPv6 addresses stands for, if they are few.
fn range(text: &str) -> Option<String> {
    const NETWORKS_MAX: usize = 16;
    let (first, last) = text.split_once('-')?;
    let bare = |text: &str| text.trim_matches(['[', ']']).to_owned();
    let listed: Vec<String> = if let Ok(first) = first.parse::<Ipv4Addr>() {
        let last = match last.parse::<u8>() {
            Ok(octet) => {
                let [a, b, c, _] = first.octets();
                Ipv4Addr::new(a, b, c, octet)
            }
            Err(_) => last.parse().ok()?,
        };
        let networks = ipnet::Ipv4Subnets::new(first, last, 0).take(NETWORKS_MAX.saturating_add(1));
        networks.map(|network| without_full_mask(&network.to_string(), "/32")).collect()
    } else {
        let (first, last) = (bare(first).parse::<Ipv6Addr>().ok()?, bare(last).parse().ok()?);
        let networks = ipnet::Ipv6Subnets::new(first, last, 0).take(NETWORKS_MAX.saturating_add(1));
        let network = |it: ipnet::Ipv6Net| match it.prefix_len() {
            128 => format!("[{}]", it.addr()),
            bits => format!("[{}]/{bits}", it.addr()),
        };
        networks.map(network).collect()
    };
    match listed.len() {
        0 => Some("the lower address first, and networks instead of a range".to_owned()),
        few if few <= NETWORKS_MAX => Some(listed.join(", ")),
        _ => Some("its networks, or put them into a cidr: table".to_owned()),
    }
}

fn without_full_mask(network: &str, mask: &str) -> String {
    network.strip_suffix(mask).unwrap_or(network).to_owned()
}

/// The network that is meant by `127.`, `127.0.0` or `127.*`.
pub(crate) fn network_of_octets(text: &str) -> Option<String> {
    let mut octets: Vec<u8> = Vec::new();
    let known = text.trim_end_matches(['*', '.']);
    for octet in known.split('.') {
        octets.push(octet.parse().ok()?);
    }
    let bits = octets.len().checked_mul(8)?;
    if octets.len() > 3 {
        return None;
    }
    octets.resize(4, 0);
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(format!("{}/{bits}", Ipv4Addr::from(octets)))
}

/// What is meant by `192.0.2.010`: an address whose numbers begin with zeros, which inet_pton(3) rejects.
pub(crate) fn without_zeros(text: &str) -> Option<Ipv4Addr> {
    let octets: Option<Vec<u8>> = text.split('.').map(|octet| octet.parse().ok()).collect();
    let octets: [u8; 4] = octets?.try_into().ok()?;
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Option<String> {
        by_literal(text).map(|(what, instead)| format!("{what}; {instead}"))
    }

    fn table(text: &str) -> Option<String> {
        by_table(text).map(|(what, instead)| format!("{what}; {instead}"))
    }

    #[test]
    fn words_of_other_lists_are_known_and_names_of_hosts_are_not() {
        let only = |instead: &str| Some(format!("only a client with this name matches; {instead}"));
        for word in [
            "permit_sasl_authenticated",
            "reject_unauth_destination",
            "DEFER_IF_X",
            "check_client_access",
            "warn_if_reject",
        ] {
            let expected = "the restrictions of smtpd(8) have no effect here; write addresses, \
             networks, names, files or \
                            tables";
            assert_eq!(literal(word), only(expected), "{word}");
        }
        for word in ["mynetworks", "myhostname", "qmqpd_authorized_clients", "smtpd_client_restrictions"] {
            assert_eq!(literal(word), only(&format!("write ${word} for the value of that parameter")));
        }
        for host in ["relayhost", "mail_out", "mail_out.example.com", "permit", "reject-me", "a"] {
            let is_word = host == "permit";
            assert_eq!(literal(host).is_some(), is_word, "{host}");
        }
    }

    #[test]
    fn ports_and_rules_are_no_tables() {
        let port = |subject: &str| Some(format!("a pattern cannot contain a port; write {subject}"));
        let rule = |instead: &str| Some(format!("a rule of tcprules(1) is not a pattern; {instead}"));
        for (text, expected) in [
            ("192.0.2.1:25", port("192.0.2.1")),
            ("a.test:25", port("a.test")),
            ("[2001:db8::1]:25", port("[2001:db8::1]")),
            ("static:25", None),
            ("texthash:/etc/f.d:25", None),
            ("a.test:", None),
            ("a.test:2x", None),
            ("=a.test:allow", rule("write a.test")),
            ("=a.test:deny,X=\"y\"", rule("write !a.test")),
            ("192.0.2.1-3:deny", rule("write !192.0.2.1, 192.0.2.2/31")),
            ("10.:allow", rule("write 10.0.0.0/8")),
            (":allow", rule("write 0.0.0.0/0, [::]/0 if every client may match")),
            (":deny", rule("remove it: what is not listed does not match")),
            ("static:permit", None),
        ] {
            assert_eq!(table(text), expected, "{text}");
        }
    }

    #[test]
    fn a_range_is_its_networks_if_they_are_few() {
        let many = "its networks, or put them into a cidr: table";
        let sixteen = range("10.0.0.1-10.0.255.255").unwrap();
        assert_eq!(sixteen.split(", ").count(), 16);
        assert!(
            sixteen.starts_with("10.0.0.1, 10.0.0.2/31, ") && sixteen.ends_with(", 10.0.128.0/17"),
            "{sixteen}"
        );
        for (text, expected) in [
            ("10.0.0.1-10.1.255.255", Some(many)),
            ("192.0.2.1-192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.9-192.0.2.1", Some("the lower address first, and networks instead of a range")),
            ("192.0.2.0-127", Some("192.0.2.0/25")),
            ("2001:db8::1-2001:db8::3", Some("[2001:db8::1], [2001:db8::2]/127")),
            ("[2001:db8::1]-[2001:db8::1]", Some("[2001:db8::1]")),
            ("2001:db8::1-2001:db9::", Some(many)),
            ("192.0.2.1", None),
            ("192.0.2.1-x", None),
            ("a-b.test", None),
        ] {
            assert_eq!(range(text), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn octets_mean_a_network_and_zeros_an_address() {
        for (text, expected) in [
            ("127.", Some("127.0.0.0/8")),
            ("127.0", Some("127.0.0.0/16")),
            ("192.0.2", Some("192.0.2.0/24")),
            ("192.0.2.*", Some("192.0.2.0/24")),
            ("192.0.2.1", None),
            ("256.", None),
            ("a.", None),
            ("", None),
        ] {
            assert_eq!(network_of_octets(text), expected.map(str::to_owned), "{text}");
        }
        assert_eq!(without_zeros("192.000.02.010"), Some(Ipv4Addr::new(192, 0, 2, 10)));
        for text in ["192.0.2", "192.0.2.1.0", "192.0.2.256", "a.b.c.d", ""] {
            assert_eq!(without_zeros(text), None, "{text}");
        }
    }
}
