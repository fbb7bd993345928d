//! `cidr:` tables: networks in order, the first one that holds the address gives the result.

use std::net::IpAddr;

use postfix::notice::Notice;
use postfix::text::{LogicalLine, is_space, trim, trim_end, trim_start};

use super::rules::{Rules, Step, keyword, negations, rule_lines};
use super::{Call, Opened, Table, TableError, values};
use crate::address::{Network, parse_address};
use crate::options::Options;
use crate::syntax::shown;
use crate::watch::Watched;

/// A network, or with `negated` every other address of its family.
struct Pattern {
    network: Network,
    negated: bool,
}

impl Pattern {
    fn holds(&self, address: IpAddr) -> bool {
        self.network.is_family_of(address) && self.network.contains(address) != self.negated
    }
}

struct Rule {
    pattern: Pattern,
    value: Vec<u8>,
}

struct Cidr {
    name: String,
    rules: Rules<Rule, Pattern>,
    file: Option<Watched>,
}

impl Table for Cidr {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], _call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        let Some(address) = parse_address(key) else { return Ok(None) };
        self.rules.first(
            |rule| Ok(rule.pattern.holds(address).then(|| rule.value.clone())),
            |condition| Ok(condition.holds(address)),
        )
    }

    fn is_fixed(&self) -> bool {
        false
    }

    fn could_know_a_name(&self) -> bool {
        false
    }

    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        let rule = self.rules.matches().find(|rule| values::is_foreign(&rule.value))?;
        Some((rule.pattern.network.net().to_string(), rule.value.clone()))
    }

    fn changed(&self) -> Option<String> {
        self.file.as_ref().filter(|file| file.changed()).map(|file| file.path().display().to_string())
    }
}

/// `cidr:file` or `cidr:{{rule}, {rule}}`.
pub(super) fn open(name: &[u8], options: &Options, notices: &mut Vec<Notice>) -> Opened {
    let (lines, file) = rule_lines("cidr", name, options, notices)?;
    let name = shown(name);
    let rules = parse(&name, &lines, notices);
    Ok(Box::new(Cidr { name: format!("cidr:{name}"), rules, file }))
}

fn parse(name: &str, lines: &[LogicalLine], notices: &mut Vec<Notice>) -> Rules<Rule, Pattern> {
    let place = |line: usize| format!("cidr map {name}, line {line}");
    let mut rules = Rules::new();
    for line in lines {
        match parse_rule(&line.text, rules.depth()) {
            Ok(step) => rules.push(step, line.first_line),
            Err(reason) => {
                let place = place(line.first_line);
                notices.push(Notice::warning(format!("{place}: {reason}: skipping this rule")));
            }
        }
    }
    rules.finish(place, notices);
    rules
}

fn parse_rule(line: &[u8], depth: usize) -> Result<Step<Rule, Pattern>, String> {
    let no_pattern = || "no address pattern".to_owned();
    if let Some(rest) = keyword(line, "IF") {
        let (negated, rest) = negations(rest);
        if rest.is_empty() {
            return Err(no_pattern());
        }
        let network = Network::parse(trim_end(rest)).map_err(|error| error.to_string())?;
        return Ok(Step::If(Pattern { network, negated }));
    }
    if let Some(rest) = keyword(line, "ENDIF") {
        return match (trim_start(rest).is_empty(), depth) {
            (false, _) => Err("garbage after ENDIF".to_owned()),
            (true, 0) => Err("ENDIF without IF".to_owned()),
            (true, _) => Ok(Step::EndIf),
        };
    }
    let (negated, rest) = negations(line);
    let end = rest.iter().position(|&byte| is_space(byte)).unwrap_or(rest.len());
    let (pattern, value) = rest.split_at_checked(end).unwrap_or((rest, b""));
    if pattern.is_empty() {
        return Err(no_pattern());
    }
    let network = Network::parse(pattern).map_err(|error| error.to_string())?;
    let value = trim(value);
    if value.is_empty() {
        return Err("no lookup result".to_owned());
    }
    Ok(Step::Match(Rule { pattern: Pattern { network, negated }, value: value.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix::text::read_logical_lines;
    use proptest::prelude::*;

    fn table(rules: &str) -> (Cidr, Vec<String>) {
        let mut notices = Vec::new();
        let lines = read_logical_lines("f", rules.as_bytes(), &mut notices);
        let rules = parse("f", &lines, &mut notices);
        let cidr = Cidr { name: "cidr:f".to_owned(), rules, file: None };
        (cidr, notices.into_iter().map(|notice| notice.text).collect())
    }

    fn ask(cidr: &Cidr, key: &str) -> Option<String> {
        let mut notices = Vec::new();
        let mut call = Call { notices: &mut notices, deadline: None, budget: None };
        cidr.lookup(key.as_bytes(), &mut call).unwrap().map(|value| shown(&value))
    }

    #[test]
    fn the_first_network_wins() {
        let (cidr, notices) = table(
            "10.0.0.0/8 eight\n10.1.0.0/16 never\n!192.168.0.0/16 not local \n[2001:db8::]/32 six\n192.168.1.1 host\n",
        );
        assert_eq!(notices, Vec::<String>::new());
        for (key, value) in [
            ("10.1.2.3", Some("eight")),
            ("172.16.0.1", Some("not local")),
            ("192.168.1.1", Some("host")),
            ("192.168.1.2", None),
            ("2001:db8::7", Some("six")),
            ("2001:db9::7", None),
            ("host.example", None),
            ("10.1.2", None),
        ] {
            assert_eq!(ask(&cidr, key).as_deref(), value, "{key}");
        }
    }

    #[test]
    fn conditions_nest() {
        let (cidr, _) = table(
            "if 10.0.0.0/8\nIF !10.1.0.0/16\n10.0.0.0/8 outer\nEndIf\n10.0.0.0/8 inner\nendif\n0.0.0.0/0 rest\n",
        );
        assert_eq!(ask(&cidr, "10.2.0.1").as_deref(), Some("outer"));
        assert_eq!(ask(&cidr, "10.1.0.1").as_deref(), Some("inner"));
        assert_eq!(ask(&cidr, "11.0.0.1").as_deref(), Some("rest"));
        let (cidr, notices) = table("if 10.0.0.0/8\n0.0.0.0/0 x\n");
        assert_eq!(ask(&cidr, "11.0.0.1"), None);
        assert_eq!(ask(&cidr, "10.0.0.1").as_deref(), Some("x"));
        assert_eq!(notices, ["cidr map f, line 1: IF has no matching ENDIF"]);
    }

    #[test]
    fn bad_rules_are_skipped_with_a_warning() {
        let (cidr, notices) =
            table("10.0.0.1/8 x\n10.0.0.0/8\nendif\n!\nif\n10.0.0.0/8 y\nif 10.0.0.0/8\nendif x\n");
        let words: Vec<_> = notices.iter().map(|notice| notice.split(": ").nth(1).unwrap()).collect();
        assert_eq!(
            words,
            [
                "non-null host address bits in \"10.0.0.1/8\", perhaps you should use \"10.0.0.0/8\" instead",
                "no lookup result",
                "ENDIF without IF",
                "no address pattern",
                "no address pattern",
                "garbage after ENDIF",
                "IF has no matching ENDIF",
            ]
        );
        assert_eq!(ask(&cidr, "10.0.0.1").as_deref(), Some("y"));
        assert_eq!(cidr.rules.len(), 2);
    }

    proptest! {
        #[test]
        fn no_rules_make_it_panic(rules in "([!if edn\\[\\]/:.0-9\n]|endif\n|if ){0,40}", key in "[0-9a-f:.]{0,12}") {
            let (cidr, _) = table(&rules);
            ask(&cidr, &key);
        }

        #[test]
        fn random_networks_are_searched_in_order(
            nets in proptest::collection::vec((any::<u32>(), 0_u32..=32), 1..12),
            key: u32,
        ) {
            use std::fmt::Write as _;
            let mask = |bits: u32| u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let mut text = String::new();
            for (at, (net, bits)) in nets.iter().enumerate() {
                // Keep the networks near the key, so that some of them hold it.
                let net = (key ^ (net & 0xff)) & mask(*bits);
                writeln!(text, "{}/{bits} r{at}", std::net::Ipv4Addr::from(net)).unwrap();
            }
            let expected = nets
                .iter()
                .position(|(net, bits)| (key ^ (net & 0xff)) & mask(*bits) == key & mask(*bits))
                .map(|at| format!("r{at}"));
            let (cidr, notices) = table(&text);
            prop_assert!(notices.is_empty());
            prop_assert_eq!(ask(&cidr, &std::net::Ipv4Addr::from(key).to_string()), expected);
        }
    }
}
