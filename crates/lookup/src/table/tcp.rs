//! `tcp:` tables: a line `get KEY` to a server, a line with a code and a text back, both with `%XX` for odd bytes.

use std::time::{Duration, Instant};

use postfix::notice::Notice;
use postfix::text::is_space;

use super::remote::{Connection, Endpoint, Lifetime, Server};
use super::{Call, Opened, Table, TableError};
use crate::options::Options;
use crate::syntax::shown;
use postfix::text::system_words;

/// How often a server is tried, one second apart, before the lookup fails.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// A reply line must be shorter, in bytes without the newline.
const REPLY_BYTES_MAX: usize = 4096;
/// Postfix keeps its connection for as long as the process lives.
const LIFETIME: Lifetime =
    Lifetime { idle_max: Duration::from_secs(3600), age_max: Duration::from_secs(86400) };

struct Tcp {
    name: String,
    /// `host:port`, for the log.
    place: String,
    server: Server,
}

/// `tcp:host:port`. The server is asked at the first lookup only.
pub(super) fn open(name: &[u8], options: &Options) -> Opened {
    let server = Server::new(Endpoint::inet(name)?, LIFETIME, options);
    Ok(Box::new(Tcp { name: format!("tcp:{}", shown(name)), place: shown(name), server }))
}

impl Tcp {
    /// Asks until the server answers, the tries are used up, or the deadline is over. Gives the line, and the
    /// connection that it came on.
    fn reply(&self, query: &[u8], call: &mut Call<'_>) -> Option<(Vec<u8>, Connection)> {
        for attempt in 1..=TRIES {
            let idle = if attempt == 1 { self.server.idle() } else { None };
            match idle.map_or_else(|| self.server.connect(call.deadline), Ok) {
                Err(error) => {
                    let text = format!("connect to TCP map {}: {}", self.place, system_words(&error));
                    call.notices.push(Notice::warning(text));
                }
                Ok(connection) => match self.ask(&connection, query, call.deadline) {
                    Ok(line) => return Some((line, connection)),
                    Err(reason) => {
                        let text = format!("read TCP map reply from {}: {reason}", self.place);
                        call.notices.push(Notice::warning(text));
                    }
                },
            }
            let over = call
                .deadline
                .is_some_and(|deadline| deadline.saturating_duration_since(Instant::now()) <= PAUSE);
            if attempt == TRIES || over {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    fn ask(
        &self,
        connection: &Connection,
        query: &[u8],
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>, String> {
        let lost = |error: std::io::Error| format!("unexpected EOF ({})", system_words(&error));
        self.server.send(connection, query, deadline).map_err(lost)?;
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.server.receive(connection, &mut buffer, deadline).map_err(lost)?;
            if count == 0 {
                return Err("unexpected EOF (Success)".to_owned());
            }
            line.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let end = line.iter().position(|&byte| byte == b'\n');
            if end.unwrap_or(line.len()) >= REPLY_BYTES_MAX {
                return Err(format!("text longer than {REPLY_BYTES_MAX}"));
            }
            if let Some(end) = end {
                line.truncate(end);
                return Ok(line);
            }
        }
    }
}

impl Table for Tcp {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        let failed = || TableError { table: self.name.clone(), temporary: true };
        let query = [&b"get "[..], &quote(key), b"\n"].concat();
        let (line, connection) = self.reply(&query, call).ok_or_else(failed)?;
        let wrong = match parse(&line) {
            Reply::Found(value) => {
                self.server.keep(connection);
                return Ok(Some(value));
            }
            Reply::NotFound => {
                self.server.keep(connection);
                return Ok(None);
            }
            Reply::SoftError => return Err(failed()),
            Reply::BadStatus => "bad status code",
            Reply::Malformed => "malformed reply",
        };
        let start = shown(line.get(..100).unwrap_or(&line));
        let text = format!("read TCP map reply from {}: {wrong}: {start}", self.place);
        call.notices.push(Notice::warning(text));
        Err(failed())
    }

    fn is_fixed(&self) -> bool {
        false
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn inet_servers(&self) -> Vec<(String, u16)> {
        self.server.inet().into_iter().collect()
    }
}

/// What a reply line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Found(Vec<u8>),
    NotFound,
    SoftError,
    BadStatus,
    Malformed,
}

pub(super) fn parse(line: &[u8]) -> Reply {
    let Some((head, text)) = line.split_first_chunk::<4>() else { return Reply::Malformed };
    let [first, second, third, blank] = *head;
    let digits = [first, second, third].iter().all(u8::is_ascii_digit);
    match (first, unquote(text)) {
        _ if !digits || !is_space(blank) => Reply::Malformed,
        (_, None) => Reply::Malformed,
        (b'2', Some(value)) => Reply::Found(value),
        (b'4', _) => Reply::SoftError,
        (b'5', _) => Reply::NotFound,
        _ => Reply::BadStatus,
    }
}

/// `%XX` for `%`, white space, and what is not printable ASCII.
pub(super) fn quote(key: &[u8]) -> Vec<u8> {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
    let mut quoted = Vec::with_capacity(key.len());
    for &byte in key {
        if byte != b'%' && byte.is_ascii_graphic() {
            quoted.push(byte);
        } else {
            quoted.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
    quoted
}

pub(super) fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let (&[high, low], after) = rest.split_first_chunk::<2>()?;
        plain.push(digit(high)? << 4 | digit(low)?);
        rest = after;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufRead, BufReader, Write};

    #[test]
    fn a_conversation() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let replies = ["200 a%20b\n", "500 none\n", "400 later\n", "300 what\n", "200 %zz\n", "2\n"];
        let server = std::thread::spawn(move || {
            let mut queries = Vec::new();
            let mut stream = None;
            for reply in replies {
                let reader = stream.get_or_insert_with(|| BufReader::new(listener.accept().unwrap().0));
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                queries.push(line);
                reader.get_mut().write_all(reply.as_bytes()).unwrap();
                // After anything but an answer the client hangs up.
                if !reply.starts_with("200 a") && !reply.starts_with('5') {
                    stream = None;
                }
            }
            queries
        });
        let table = open(place.as_bytes(), &Options::default()).unwrap();
        let mut notices = Vec::new();
        let mut ask =
            |key: &[u8]| table.lookup(key, &mut Call { notices: &mut notices, deadline: None, budget: None });
        assert_eq!(ask(b"x y%\xff"), Ok(Some(b"a b".to_vec())));
        assert_eq!(ask(b"k"), Ok(None));
        for _ in 0..4 {
            assert!(ask(b"k").is_err_and(|error| error.temporary));
        }
        let queries = server.join().unwrap();
        assert_eq!(queries, ["get x%20y%25%FF\n", "get k\n", "get k\n", "get k\n", "get k\n", "get k\n"]);
        let texts: Vec<_> = notices.iter().map(|notice| notice.text.rsplit_once(&place).unwrap().1).collect();
        assert_eq!(
            texts,
            [": bad status code: 300 what", ": malformed reply: 200 %zz", ": malformed reply: 2"]
        );
    }

    #[test]
    fn a_reply_line_is_three_digits_a_blank_and_a_text() {
        let found = |value: &[u8]| Reply::Found(value.to_vec());
        for (line, expected) in [
            (&b"200 a"[..], found(b"a")),
            (b"200\ta", found(b"a")),
            (b"299 ", found(b"")),
            (b"200 %4a%4A%2f", found(b"JJ/")),
            (b"400 later", Reply::SoftError),
            (b"500 none", Reply::NotFound),
            (b"300 what", Reply::BadStatus),
            (b"2x0 a", Reply::Malformed),
            (b"x00 a", Reply::Malformed),
            (b"20x a", Reply::Malformed),
            (b"200xa", Reply::Malformed),
            (b"300xa", Reply::Malformed),
            (b"200", Reply::Malformed),
            (b"200 %4", Reply::Malformed),
            (b"500 %4x", Reply::Malformed),
        ] {
            assert_eq!(parse(line), expected, "{}", shown(line));
        }
    }

    #[test]
    fn a_reply_is_shorter_than_the_bound_or_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let value = "x".repeat(REPLY_BYTES_MAX - 5);
        let replies = [
            (format!("200 {value}\n"), true),
            (format!("200 {value}x\n"), false),
            (format!("200 {value}x"), false),
            (String::new(), false),
        ];
        let server = std::thread::spawn(move || {
            let mut reader = None;
            for (reply, stays) in replies {
                let stream = reader.get_or_insert_with(|| BufReader::new(listener.accept().unwrap().0));
                stream.read_line(&mut String::new()).unwrap();
                stream.get_mut().write_all(reply.as_bytes()).unwrap();
                // The client hangs up when a reply is wrong; so does the server that has none.
                if !stays {
                    reader = None;
                }
            }
        });
        let table = open(place.as_bytes(), &Options::default()).unwrap();
        // So short that there is no second try, a second later.
        let ask = |notices: &mut Vec<Notice>| {
            let deadline = Some(Instant::now() + PAUSE);
            table.lookup(b"k", &mut Call { notices, deadline, budget: None })
        };
        let mut notices = Vec::new();
        assert_eq!(ask(&mut notices), Ok(Some(value.into_bytes())));
        for _ in 0..3 {
            assert!(ask(&mut notices).is_err());
        }
        server.join().unwrap();
        let text = |reason: &str| Notice::warning(format!("read TCP map reply from {place}: {reason}"));
        let too_long = text("text longer than 4096");
        assert_eq!(notices, [too_long.clone(), too_long, text("unexpected EOF (Success)")]);
    }

    #[test]
    fn a_server_that_hangs_up_is_asked_again_a_second_later() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            for reply in ["", "200 a\n"] {
                let mut reader = BufReader::new(listener.accept().unwrap().0);
                reader.read_line(&mut String::new()).unwrap();
                reader.get_mut().write_all(reply.as_bytes()).unwrap();
            }
        });
        let table = open(place.as_bytes(), &Options::default()).unwrap();
        let mut notices = Vec::new();
        let began = Instant::now();
        let mut call = Call { notices: &mut notices, deadline: None, budget: None };
        assert_eq!(table.lookup(b"k", &mut call), Ok(Some(b"a".to_vec())));
        assert!(began.elapsed() >= PAUSE);
        server.join().unwrap();
        let text = format!("read TCP map reply from {place}: unexpected EOF (Success)");
        assert_eq!(notices, [Notice::warning(text)]);
    }

    #[test]
    fn the_deadline_ends_the_tries() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        drop(listener);
        let table = open(place.as_bytes(), &Options::default()).unwrap();
        let mut notices = Vec::new();
        let deadline = Some(Instant::now() + Duration::from_millis(500));
        assert!(table.lookup(b"k", &mut Call { notices: &mut notices, deadline, budget: None }).is_err());
        assert_eq!(notices, [Notice::warning(format!("connect to TCP map {place}: Connection refused"))]);
    }

    proptest! {
        #[test]
        fn quoting_is_undone(key in proptest::collection::vec(any::<u8>(), 0..40)) {
            let quoted = quote(&key);
            prop_assert!(quoted.iter().all(u8::is_ascii_graphic));
            prop_assert_eq!(unquote(&quoted), Some(key));
        }

        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..40)) {
            parse(&line);
        }
    }
}
