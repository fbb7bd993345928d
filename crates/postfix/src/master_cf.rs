//! master.cf: which services run, where they listen and how they are started.
//!
//! The same logical lines as main.cf, eight columns separated by blanks, then arguments; `{ … }` keeps blanks inside
//! an argument together and is taken off. `-` stands for the default of a column. Rules and texts of errors as in
//! Postfix 3.7.

use crate::config_error::ConfigError;
use crate::endpoint::Endpoint;
use crate::notice::Notice;
use crate::text::{LogicalLine, read_logical_lines, split_at_bytes, split_plain_list, strip_braces};

/// What to do about an invalid line.
const LINE_REMEDY: &str = "write: name type private unprivileged chroot wakeup maxproc command, with - for a default, for \
                           example: 628 inet n - n - - qmqpd";

/// How a service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A TCP port.
    Inet(Endpoint),
    /// A UNIX-domain stream socket.
    Unix,
    /// A UNIX-domain datagram socket.
    UnixDatagram,
    /// A named pipe.
    Fifo,
    /// A UNIX-domain socket that passes open connections.
    Pass,
}

impl Transport {
    /// The word in the second column.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Inet(_) => "inet",
            Self::Unix => "unix",
            Self::UnixDatagram => "unix-dgram",
            Self::Fifo => "fifo",
            Self::Pass => "pass",
        }
    }
}

/// One service, its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Number of its first physical line, from 1.
    pub line: usize,
    /// The first column as written: the service's name, or where it listens.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// Only Postfix itself may connect. Never true for inet.
    pub private: bool,
    /// The process gives up its privileges and becomes `mail_owner`.
    pub unprivileged: bool,
    /// The process locks itself up in the queue directory.
    pub chroot: bool,
    /// The service is woken every so many seconds; 0 is never.
    pub wakeup_seconds: u32,
    /// It is woken only once it has been used.
    pub wakeup_if_used: bool,
    /// How many processes it may have at the same time; 0 is no limit.
    pub process_limit: u32,
    /// The program, relative to `daemon_directory`.
    pub command: String,
    /// What the line says behind the command.
    pub arguments: Vec<String>,
}

impl Service {
    /// The last part of the command's path.
    #[must_use]
    pub fn program(&self) -> &str {
        self.command.rsplit('/').find(|part| !part.is_empty()).unwrap_or(&self.command)
    }
}

/// What `-` means, and which services do not run: values of main.cf.
#[derive(Debug, Clone, Copy)]
pub struct Defaults<'a> {
    /// `default_process_limit`.
    pub process_limit: u32,
    /// The default of the chroot column, which is `y` below compatibility level 1.
    pub chroot: bool,
    /// `master_service_disable`.
    pub disabled: &'a str,
}

/// A master.cf file. Bad lines are left out of the services; Postfix's master stops at the first.
#[derive(Debug, Clone, Default)]
pub struct MasterCf {
    path: String,
    services: Vec<Service>,
    notices: Vec<Notice>,
    errors: Vec<ConfigError>,
}

impl MasterCf {
    /// Reads the content of the file `path`; the path serves for messages only.
    #[must_use]
    pub fn parse(path: &str, input: &[u8], defaults: &Defaults<'_>) -> Self {
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        let lines = read_logical_lines(path, input, &mut file.notices);
        for line in lines {
            match parse_line(path, &line, defaults, &mut file.notices) {
                Ok(Some(service)) => file.services.push(service),
                Ok(None) => {}
                Err(what) => {
                    let what = format!("{path}: line {}: {what}", line.first_line);
                    let text = String::from_utf8_lossy(&line.text);
                    let error = ConfigError::new(what, LINE_REMEDY).in_file(path, Some(line.first_line));
                    file.errors.push(error.about("", text));
                }
            }
        }
        file
    }

    /// The path that messages show.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The services that run, in the order of the file.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The TCP services that run `program`, and where each listens.
    pub fn inet_services<'a>(
        &'a self,
        program: &'a str,
    ) -> impl Iterator<Item = (&'a Service, &'a Endpoint)> {
        self.services.iter().filter_map(move |service| match &service.transport {
            Transport::Inet(endpoint) if service.program() == program => Some((service, endpoint)),
            _ => None,
        })
    }

    /// What Postfix's master logs while it reads this file.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Lines that are no service.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

struct Fields<'l> {
    rest: Vec<&'l str>,
    place: String,
}

impl<'l> Fields<'l> {
    fn next(&mut self, column: &str) -> Result<&'l str, String> {
        if self.rest.is_empty() {
            return Err(format!("missing \"{column}\" field"));
        }
        Ok(self.rest.remove(0))
    }

    fn required(&mut self, column: &str) -> Result<&'l str, String> {
        match self.next(column)? {
            "-" => Err(format!("field \"{column}\" has no default value")),
            value => Ok(value),
        }
    }

    fn boolean(&mut self, column: &str, default: bool) -> Result<bool, String> {
        match self.next(column)? {
            "-" => Ok(default),
            "y" => Ok(true),
            "n" => Ok(false),
            value => Err(format!("field \"{column}\": bad value: \"{value}\"")),
        }
    }

    /// A number, and whether the column ends in `?`. Like Postfix this looks no further than the digits.
    fn number(&mut self, column: &str, default: u32) -> Result<(u32, bool), String> {
        let value = match self.next(column)? {
            "-" => return Ok((default, false)),
            value => value,
        };
        let digits = value.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = value.strip_suffix(digits).unwrap_or(value);
        match digits.parse::<i32>().map(u32::try_from) {
            Ok(Ok(number)) => Ok((number, value.ends_with('?'))),
            _ => Err(format!("field \"{column}\": bad value: \"{value}\"")),
        }
    }
}

fn parse_line(
    path: &str,
    line: &LogicalLine,
    defaults: &Defaults<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Option<Service>, String> {
    let text = std::str::from_utf8(&line.text).map_err(|_| "the line is not UTF-8 text".to_owned())?;
    // Only what stands behind the eight columns may use braces.
    let (columns, arguments) = columns_and_arguments(text);
    let mut fields = Fields { rest: columns, place: format!("{path}: line {}", line.first_line) };
    let Ok(name) = fields.next("service name") else { return Ok(None) };
    let transport = fields.required("transport type")?;
    if is_disabled(defaults.disabled, name, transport) {
        return Ok(None);
    }
    let transport = parse_transport(transport, name)?;
    let private = fields.boolean("private", true)?;
    if private && matches!(transport, Transport::Inet(_)) {
        return Err("inet service cannot be private".to_owned());
    }
    let unprivileged = fields.boolean("unprivileged", true)?;
    if defaults.chroot && fields.rest.first() == Some(&"-") {
        let place = &fields.place;
        notices.push(Notice::info(format!("{place}: using backwards-compatible default setting chroot=y")));
    }
    let chroot = fields.boolean("chroot", defaults.chroot)?;
    let (wakeup_seconds, wakeup_if_used) = fields.number("wakeup_time", 0)?;
    let (process_limit, _) = fields.number("max_proc", defaults.process_limit)?;
    let command = fields.required("command")?.to_owned();
    Ok(Some(Service {
        line: line.first_line,
        name: name.to_owned(),
        transport,
        private,
        unprivileged,
        chroot,
        wakeup_seconds,
        wakeup_if_used: wakeup_if_used && wakeup_seconds > 0,
        process_limit,
        command,
        arguments: parse_arguments(arguments)?,
    }))
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The first eight words, and the text behind them.
fn columns_and_arguments(text: &str) -> (Vec<&str>, &str) {
    let blank = |c: char| u8::try_from(c).is_ok_and(is_blank);
    let mut columns = Vec::new();
    let mut rest = text.trim_start_matches(blank);
    while columns.len() < 8 && !rest.is_empty() {
        let (word, behind) = rest.split_once(blank).unwrap_or((rest, ""));
        columns.push(word);
        rest = behind.trim_start_matches(blank);
    }
    (columns, rest)
}

fn parse_arguments(text: &str) -> Result<Vec<String>, String> {
    let mut arguments = Vec::new();
    for word in split_at_bytes(text.as_bytes(), is_blank, true) {
        let word = if word.first() == Some(&b'{') { strip_braces(word)? } else { word };
        arguments.push(String::from_utf8_lossy(word).into_owned());
    }
    Ok(arguments)
}

fn parse_transport(word: &str, name: &str) -> Result<Transport, String> {
    Ok(match word {
        "inet" => Transport::Inet(Endpoint::parse(name).map_err(|bad| format!("{bad} in \"{name}\""))?),
        "unix" => Transport::Unix,
        "unix-dgram" => Transport::UnixDatagram,
        "fifo" => Transport::Fifo,
        "pass" => Transport::Pass,
        _ => return Err(format!("bad transport type: {word}")),
    })
}

/// Whether `master_service_disable` names the service: `name/type`, the older `name.type`, or `type`; any case; the
/// first pattern that matches decides, and each `!` before it turns the decision round.
fn is_disabled(patterns: &str, name: &str, transport: &str) -> bool {
    for item in split_plain_list(patterns) {
        let pattern = item.trim_start_matches('!');
        let disabled = item.len().saturating_sub(pattern.len()) % 2 == 0;
        let matches = match pattern.rsplit_once('/').or_else(|| pattern.rsplit_once('.')) {
            Some((head, tail)) => head.eq_ignore_ascii_case(name) && tail.eq_ignore_ascii_case(transport),
            None => pattern.eq_ignore_ascii_case(transport),
        };
        if matches {
            return disabled;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFAULTS: Defaults<'static> = Defaults { process_limit: 100, chroot: false, disabled: "" };

    fn parse(text: &str) -> MasterCf {
        MasterCf::parse("/p/master.cf", text.as_bytes(), &DEFAULTS)
    }

    #[test]
    fn a_full_line() {
        let file = parse(
            "# service type\n628 inet n - y 10? 1 sub/qmqpd -v\n  -o soft_bounce=yes\n# x\n  -o { mail_name = My {x} Mail }\n",
        );
        assert!(file.errors().is_empty());
        assert_eq!(
            file.services(),
            [Service {
                line: 2,
                name: "628".to_owned(),
                transport: Transport::Inet(Endpoint { host: None, port: "628".to_owned() }),
                private: false,
                unprivileged: true,
                chroot: true,
                wakeup_seconds: 10,
                wakeup_if_used: true,
                process_limit: 1,
                command: "sub/qmqpd".to_owned(),
                arguments: ["-v", "-o", "soft_bounce=yes", "-o", "mail_name = My {x} Mail"]
                    .map(str::to_owned)
                    .to_vec(),
            }]
        );
    }

    #[test]
    fn the_services_that_matter_here() {
        let file = parse(
            "smtp inet n - n - - smtpd\n127.0.0.1:628 inet n - n - - qmqpd\n[::1]:qmqp inet n - n - 0 qmqpd\n\
             pickup unix n - n 60 1 pickup\nq unix n - n - - qmqpd\n",
        );
        let found: Vec<_> = file
            .inet_services("qmqpd")
            .map(|(service, endpoint)| (service.line, endpoint.to_string(), service.process_limit))
            .collect();
        assert_eq!(found, [(2, "127.0.0.1:628".to_owned(), 100), (3, "[::1]:qmqp".to_owned(), 0)]);
        assert_eq!(file.services().len(), 5);
    }

    #[test]
    fn bad_lines_in_the_words_of_postfix() {
        for (line, what) in [
            ("628", "missing \"transport type\" field"),
            ("628 -", "field \"transport type\" has no default value"),
            ("628 tcp n - n - - qmqpd", "bad transport type: tcp"),
            ("628 inet - - n - - qmqpd", "inet service cannot be private"),
            ("628 inet n", "missing \"unprivileged\" field"),
            ("628 inet n - no - - qmqpd", "field \"chroot\": bad value: \"no\""),
            ("628 inet n - n x - qmqpd", "field \"wakeup_time\": bad value: \"x\""),
            ("628 inet n - n - -1 qmqpd", "field \"max_proc\": bad value: \"-1\""),
            ("628 inet n - n - -", "missing \"command\" field"),
            ("628 inet n - n - - -", "field \"command\" has no default value"),
            ("1x inet n - n - - qmqpd", "garbage after numerical service in \"1x\""),
            ("[::1 inet n - n - - qmqpd", "missing \"]\" in \"[::1\""),
            ("628 inet n - n - - qmqpd -o {a=b}c", "syntax error after '}' in \"{a=b}c\""),
            ("628 inet n - n - - qmqpd -o {a=b", "missing '}' in \"{a=b\""),
        ] {
            let file = parse(&format!("\n{line}\n"));
            let whats: Vec<_> = file.errors().iter().map(|error| error.what.clone()).collect();
            assert_eq!(whats, [format!("/p/master.cf: line 2: {what}")], "{line}");
            assert!(file.services().is_empty());
        }
    }

    #[test]
    fn an_old_level_means_chroot() {
        let defaults = Defaults { chroot: true, ..DEFAULTS };
        let file = MasterCf::parse("/p/master.cf", b"628 inet n - - - - qmqpd\n", &defaults);
        assert!(file.services()[0].chroot);
        assert_eq!(
            file.notices(),
            [Notice::info("/p/master.cf: line 1: using backwards-compatible default setting chroot=y")]
        );
    }

    #[test]
    fn disabled_services_are_not_even_checked() {
        let text = "628 inet\nq unix n - n - - qmqpd\n";
        for (patterns, count, errors) in [
            ("", 1, 1),
            ("inet", 1, 0),
            ("!628/inet INET", 1, 1),
            ("628/inet, q.unix", 0, 0),
            ("!!unix", 0, 1),
            ("629/inet", 1, 1),
        ] {
            let defaults = Defaults { disabled: patterns, ..DEFAULTS };
            let file = MasterCf::parse("p", text.as_bytes(), &defaults);
            assert_eq!((file.services().len(), file.errors().len()), (count, errors), "{patterns}");
        }
    }

    #[test]
    fn columns_mean_what_they_say() {
        let one = |line: &str, chroot| {
            let file = MasterCf::parse("/p/master.cf", line.as_bytes(), &Defaults { chroot, ..DEFAULTS });
            assert!(file.errors().is_empty(), "{:?}", file.errors());
            assert_eq!(file.path(), "/p/master.cf");
            (file.services()[0].clone(), file.notices().len())
        };
        let (service, notices) = one("q unix - - - 0? - dir/qmqpd", false);
        assert!(service.private && service.unprivileged && !service.chroot && !service.wakeup_if_used);
        assert_eq!((service.program(), service.wakeup_seconds, notices), ("qmqpd", 0, 0));
        let (service, notices) = one("q unix n n n 10 - qmqpd", true);
        assert!(!service.private && !service.unprivileged && !service.chroot && !service.wakeup_if_used);
        assert_eq!((service.program(), service.wakeup_seconds, notices), ("qmqpd", 10, 0));
        for (word, transport) in [
            ("unix", Transport::Unix),
            ("unix-dgram", Transport::UnixDatagram),
            ("fifo", Transport::Fifo),
            ("pass", Transport::Pass),
        ] {
            let (service, _) = one(&format!("q {word} n - n - - qmqpd"), false);
            assert_eq!((service.transport.as_str(), &service.transport), (word, &transport));
        }
        assert_eq!(one("628 inet n - n - - qmqpd", false).0.transport.as_str(), "inet");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(input in proptest::collection::vec(prop_oneof![
            Just(b'\n'), Just(b' '), Just(b'{'), Just(b'}'), Just(b'-'), Just(b'n'), any::<u8>()
        ], 0..200)) {
            let _ = MasterCf::parse("p", &input, &DEFAULTS);
        }

        #[test]
        fn arguments_round_trip(words in proptest::collection::vec("[a-z=/$]{1,8}", 0..6)) {
            let file = parse(&format!("1 inet n - n - - qmqpd {}\n", words.join(" \t")));
            prop_assert_eq!(&file.services()[0].arguments, &words);
        }
    }
}
