//! The checks that Postfix makes at start on combinations of valid values, and checks of our own parameters.

use super::namespace::Namespace;
use crate::config_error::ConfigError;
use crate::endpoint::Endpoint;
use crate::hostname::check_hostname;
use crate::milter_protocol::BadService;
use crate::notice::Notice;
use crate::parameter::table::Settings;
use crate::parameter::words::Submit;

/// Appends what is wrong, in the order in which Postfix would find it.
pub(super) fn check(
    settings: &Settings,
    namespace: &Namespace<'_>,
    errors: &mut Vec<ConfigError>,
    notices: &mut Vec<Notice>,
) {
    let mut check = Check { settings, namespace, errors };
    check.host_names();
    check.log_file(notices);
    check.networks();
    check.origin();
    check.verp();
    check.conversion();
    check.listeners();
    check.milters();
}

struct Check<'c, 'a> {
    settings: &'c Settings,
    namespace: &'c Namespace<'a>,
    errors: &'c mut Vec<ConfigError>,
}

impl Check<'_, '_> {
    fn add(&mut self, name: &str, value: &str, what: String, remedy: &str) -> Option<&mut ConfigError> {
        self.errors.push(self.namespace.error(name, value, what, remedy.to_owned()));
        self.errors.last_mut()
    }

    fn host_names(&mut self) {
        let names = [("myhostname", &self.settings.myhostname), ("mydomain", &self.settings.mydomain)];
        for (name, value) in names {
            let Err(bad) = check_hostname(value) else { continue };
            let what =
                format!("file {}: parameter {name}: bad parameter value: {value}", self.namespace.path());
            let remedy = "write a domain name of letters, digits and inner hyphens, such as mx.example.com";
            if let Some(error) = self.add(name, value, what, remedy) {
                error.warnings.push(bad.to_string());
            }
        }
    }

    fn log_file(&mut self, notices: &mut Vec<Notice>) {
        let file = &self.settings.maillog_file;
        let prefixes = &self.settings.maillog_file_prefixes;
        if !file.is_empty()
            && !crate::text::split_plain_list(prefixes).iter().any(|prefix| file.starts_with(prefix))
        {
            let what = format!("maillog_file value '{file}' does not match any prefix in {prefixes}");
            self.add(
                "maillog_file",
                file,
                what,
                "choose another file, or add its directory to maillog_file_prefixes",
            );
        }
        let mode = &self.settings.maillog_file_permissions;
        if !["600", "640", "644"].contains(&mode.strip_prefix('0').unwrap_or(mode)) {
            notices.push(Notice::warning(format!(
                "ignoring bad permissions: maillog_file_permissions = {mode}"
            )));
        }
    }

    fn networks(&mut self) {
        if let Some(error) = self.namespace.own_networks_error() {
            let value = &self.settings.inet_interfaces;
            self.add(
                "inet_interfaces",
                value,
                error.to_string(),
                "write all, loopback-only, or addresses of this host that inet_protocols allows",
            );
        }
    }

    /// Postfix's cleanup(8) finds out at the first message; our own must know before it takes one.
    fn milters(&mut self) {
        if self.settings.qmqpd_submit != Submit::Local {
            return;
        }
        if let Err(bad) = self.settings.milters() {
            let (name, value, remedy) = match bad {
                BadService::Macro(_) => {
                    ("milter_macro_defaults", &self.settings.milter_macro_defaults, "write name=value")
                }
                _ => (
                    "non_smtpd_milters",
                    &self.settings.non_smtpd_milters,
                    "write inet:host:port or unix:path, or { inet:host:port, default_action=accept }, \
                     and check milter_protocol and milter_default_action",
                ),
            };
            self.add(name, &value.clone(), bad.to_string(), remedy);
        }
    }

    fn origin(&mut self) {
        let (host, origin) = (&self.settings.myhostname, &self.settings.myorigin);
        if host.eq_ignore_ascii_case(&self.settings.relayhost) {
            let what = format!("myhostname and relayhost parameter settings must not be identical: {host}");
            self.add("relayhost", &self.settings.relayhost, what, "name another host in relayhost");
        }
        if origin.bytes().any(crate::text::is_list_separator) {
            let what = format!("myorigin parameter setting must not contain multiple values: {origin}");
            self.add("myorigin", origin, what, "write one domain");
        }
    }

    fn verp(&mut self) {
        let (delimiters, filter) =
            (&self.settings.default_verp_delimiters, &self.settings.verp_delimiter_filter);
        for (delimiter, which) in delimiters.bytes().zip(["first", "second"]) {
            if filter.as_bytes().contains(&delimiter) {
                continue;
            }
            let what = format!(
                "file {}: parameters default_verp_delimiters and verp_delimiter_filter: bad {which} VERP \
                 delimiter character",
                self.namespace.path()
            );
            let remedy = format!("choose two of {filter}");
            self.add("default_verp_delimiters", delimiters, what, &remedy);
            return;
        }
    }

    fn conversion(&mut self) {
        if self.settings.disable_mime_input_processing && self.settings.force_mime_input_conversion {
            let what =
                "do not specify both disable_mime_input_processing=yes and force_mime_input_conversion=yes";
            self.add("force_mime_input_conversion", "yes", what.to_owned(), "remove one of them");
        }
    }

    fn listeners(&mut self) {
        const REMEDY: &str = "write address:port, [ipv6-address]:port, or a port alone, separated by blanks";
        let list = &self.settings.qmqpd_listen;
        let items = crate::text::split_plain_list(list);
        if items.is_empty() {
            let what = format!("bad string length 0 < 1: qmqpd_listen = {list}");
            self.add("qmqpd_listen", list, what, REMEDY);
        }
        for item in items {
            if let Err(bad) = Endpoint::parse(item) {
                self.add(
                    "qmqpd_listen",
                    list,
                    format!("parameter qmqpd_listen: {bad} in \"{item}\""),
                    REMEDY,
                );
            }
        }
    }
}

impl Settings {
    /// Where `qmqpd_listen` says to listen. Every item was checked at load.
    #[must_use]
    pub fn listen_endpoints(&self) -> Vec<Endpoint> {
        crate::text::split_plain_list(&self.qmqpd_listen)
            .into_iter()
            .filter_map(|item| Endpoint::parse(item).ok())
            .collect()
    }

    /// `message_size_limit` as a limit: `None` when there is none.
    #[must_use]
    pub fn message_bytes_max(&self) -> Option<u64> {
        u64::try_from(self.message_size_limit).ok().filter(|&limit| limit > 0)
    }
}
