//! Macros: names and values that go with a step.

use postfix::milter_protocol::{MACROS, Macro, Step, canonical_macro, encode_packet};

/// The lists of names that go to every filter that has not asked for others: `milter_…_macros`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MacroNames {
    /// `milter_connect_macros`
    pub connect: String,
    /// `milter_helo_macros`
    pub helo: String,
    /// `milter_mail_macros`
    pub mail: String,
    /// `milter_rcpt_macros`
    pub rcpt: String,
    /// `milter_data_macros`
    pub data: String,
    /// `milter_end_of_header_macros`
    pub end_of_header: String,
    /// `milter_end_of_data_macros`
    pub end_of_data: String,
    /// `milter_macro_defaults`: names in braces, and values.
    pub defaults: Vec<Macro>,
    /// `milter_macro_daemon_name`
    pub daemon_name: String,
    /// `milter_macro_v`
    pub version: String,
    /// Filters hear of a client `::1`, not `127.0.0.1`: IPv4 is off.
    pub ipv6_only: bool,
}

impl MacroNames {
    fn of(&self, step: Step) -> &str {
        match step {
            Step::Connect => &self.connect,
            Step::Helo => &self.helo,
            Step::Mail => &self.mail,
            Step::Rcpt => &self.rcpt,
            Step::Data => &self.data,
            Step::Header | Step::EndOfHeader => &self.end_of_header,
            Step::Body | Step::EndOfBody => &self.end_of_data,
        }
    }

    /// The address that filters are told for the client.
    #[must_use]
    pub const fn client_address(&self) -> &'static str {
        if self.ipv6_only { "::1" } else { "127.0.0.1" }
    }
}

/// What is known of a message as it comes along.
#[derive(Debug, Clone, Copy)]
pub struct Macros<'a> {
    /// Which names go with which step.
    pub names: &'a MacroNames,
    /// The macro `j`: this host.
    pub myhostname: &'a str,
    /// The macro `i`.
    pub queue_id: &'a str,
    /// The sender as the filters hear it, from [`Step::Mail`] on.
    pub sender: Option<&'a [u8]>,
    /// The last recipient as the filters hear it, from the first [`Step::Rcpt`] on.
    pub recipient: Option<&'a [u8]>,
}

impl Macros<'_> {
    /// Appends the packet with the macros for a step. `own`: the names that the filter has asked for.
    pub(super) fn encode(&self, step: Step, own: Option<&str>, out: &mut Vec<u8>) {
        let mut data = vec![step.command()];
        let list = own.unwrap_or_else(|| self.names.of(step));
        for name in list.split([',', ' ', '\t', '\r', '\n']).filter(|name| !name.is_empty()) {
            let canonical = canonical_macro(name);
            let default = || {
                let found = self.names.defaults.iter().find(|(known, _)| *known == canonical);
                found.map(|(_, value)| value.clone().into_bytes())
            };
            let Some(value) = self.value(&canonical).or_else(default) else { continue };
            for text in [name.as_bytes(), value.as_slice()] {
                data.extend_from_slice(text);
                data.push(0);
            }
        }
        encode_packet(out, MACROS, &[&data]);
    }

    fn value(&self, name: &str) -> Option<Vec<u8>> {
        let address = self.names.client_address();
        let text = match name {
            "{daemon_name}" => self.names.daemon_name.as_str(),
            "{v}" => &self.names.version,
            "{_}" => return Some(format!("localhost [{address}]").into_bytes()),
            "{j}" => self.myhostname,
            "{client_addr}" | "{daemon_addr}" => address,
            "{client_name}" | "{client_ptr}" => "localhost",
            "{client_port}" | "{daemon_port}" => "0",
            "{i}" => self.queue_id,
            "{mail_addr}" => return self.sender.map(<[u8]>::to_vec),
            "{rcpt_addr}" => return self.recipient.map(<[u8]>::to_vec),
            _ => return None,
        };
        Some(text.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and values as a filter hears them with a step.
    fn sent(names: &MacroNames, step: Step, own: Option<&str>) -> String {
        let macros = Macros {
            names,
            myhostname: "mx.test",
            queue_id: "ID",
            sender: Some(b"s@x"),
            recipient: Some(b"r@x"),
        };
        let mut out = Vec::new();
        macros.encode(step, own, &mut out);
        let (_, data) = out.split_at(6);
        String::from_utf8_lossy(data).trim_end_matches('\0').replace('\0', " ")
    }

    #[test]
    fn each_macro_has_its_value() {
        let names = MacroNames {
            daemon_name: "daemon".to_owned(),
            version: "Postfix 3.7".to_owned(),
            defaults: vec![
                ("{mine}".to_owned(), "default".to_owned()),
                ("{j}".to_owned(), "other".to_owned()),
            ],
            ..MacroNames::default()
        };
        for (name, value) in [
            ("{daemon_name}", "daemon"),
            ("v", "Postfix 3.7"),
            ("{v}", "Postfix 3.7"),
            ("_", "localhost [127.0.0.1]"),
            ("j", "mx.test"),
            ("{client_addr}", "127.0.0.1"),
            ("{daemon_addr}", "127.0.0.1"),
            ("{client_name}", "localhost"),
            ("{client_ptr}", "localhost"),
            ("{client_port}", "0"),
            ("{daemon_port}", "0"),
            ("i", "ID"),
            ("{mail_addr}", "s@x"),
            ("{rcpt_addr}", "r@x"),
            ("mine", "default"),
            ("{mine}", "default"),
        ] {
            assert_eq!(sent(&names, Step::Mail, Some(name)), format!("{name} {value}"));
        }
        assert_eq!(sent(&names, Step::Mail, Some("{unknown}")), "");
        assert_eq!(sent(&names, Step::Mail, Some("i, {unknown}\tj")), "i ID j mx.test");
        assert_eq!(names.client_address(), "127.0.0.1");
        let ipv6 = MacroNames { ipv6_only: true, ..names };
        assert_eq!(
            (ipv6.client_address(), sent(&ipv6, Step::Mail, Some("_")).as_str()),
            ("::1", "_ localhost [::1]")
        );
    }

    #[test]
    fn each_step_has_its_list() {
        let list = |number: u8| format!("{{m{number}}}");
        let [connect, helo, mail, rcpt, data, end_of_header, end_of_data] = [1, 2, 3, 4, 5, 6, 7].map(list);
        let defaults = (1..=7).map(|number| (list(number), number.to_string())).collect();
        let names = MacroNames {
            connect,
            helo,
            mail,
            rcpt,
            data,
            end_of_header,
            end_of_data,
            defaults,
            ..MacroNames::default()
        };
        for (step, number) in [
            (Step::Connect, 1),
            (Step::Helo, 2),
            (Step::Mail, 3),
            (Step::Rcpt, 4),
            (Step::Data, 5),
            (Step::Header, 6),
            (Step::EndOfHeader, 6),
            (Step::Body, 7),
            (Step::EndOfBody, 7),
        ] {
            assert_eq!(sent(&names, step, None), format!("{{m{number}}} {number}"), "{step:?}");
        }
    }
}
