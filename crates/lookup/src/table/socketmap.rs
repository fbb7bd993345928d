//! `socketmap:` tables: one netstring `name key` to a server, one netstring back. The protocol is Sendmail's.

use std::time::{Duration, Instant};

use postfix::notice::Notice;
use postfix::text::trim_start;

use super::remote::{Connection, Endpoint, Lifetime, Server};
use super::{Call, Opened, Table, TableError};
use crate::options::Options;
use crate::syntax::shown;
use postfix::text::system_words;

/// As in Postfix: an idle connection is closed after 10 s, any after 100 s.
const LIFETIME: Lifetime = Lifetime { idle_max: Duration::from_secs(10), age_max: Duration::from_secs(100) };

struct Socketmap {
    name: String,
    /// What stands before the key in a query.
    map: Vec<u8>,
    server: Server,
    endpoint: String,
    query_bytes_max: usize,
    reply_bytes_max: usize,
}

/// `socketmap:inet:host:port:map` or `socketmap:unix:path:map`. The server is asked at the first lookup only.
pub(super) fn open(name: &[u8], options: &Options) -> Opened {
    let colon = name.iter().rposition(|&byte| byte == b':');
    let Some((service, map)) = colon.and_then(|colon| name.split_at_checked(colon)) else {
        return Err("socketmap requires server:socketmap argument".to_owned());
    };
    let map = map.get(1..).unwrap_or_default();
    let (endpoint, shown_endpoint) = endpoint(service)?;
    Ok(Box::new(Socketmap {
        name: format!("socketmap:{}", shown(name)),
        map: map.to_vec(),
        server: Server::new(endpoint, LIFETIME, options),
        endpoint: shown_endpoint,
        query_bytes_max: options.socketmap_max_query_size,
        reply_bytes_max: options.socketmap_max_reply_size,
    }))
}

fn endpoint(service: &[u8]) -> Result<(Endpoint, String), String> {
    let whole = shown(service);
    let Some((transport, place)) =
        whole.split_once(':').filter(|(transport, place)| !transport.is_empty() && !place.is_empty())
    else {
        return Err(format!("need service transport:endpoint instead of \"{whole}\""));
    };
    let bytes = service.get(transport.len().saturating_add(1)..).unwrap_or_default();
    let endpoint = match transport {
        "inet" => Endpoint::inet(bytes)?,
        "unix" | "local" => Endpoint::unix(bytes),
        _ => return Err(format!("invalid transport name: {transport} in service: {whole}")),
    };
    Ok((endpoint, place.to_owned()))
}

/// Why a query got no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SocketmapError {
    /// The connection broke; a new one may do.
    Disconnect,
    /// A time limit is over.
    Timeout,
    /// The reply is no netstring.
    Format,
    /// The reply is longer than allowed.
    Size,
}

impl SocketmapError {
    pub(super) const fn words(&self) -> &'static str {
        match self {
            Self::Disconnect => "unexpected disconnect",
            Self::Timeout => "time limit exceeded",
            Self::Format => "input format error",
            Self::Size => "input exceeds size limit",
        }
    }
}

impl From<std::io::Error> for SocketmapError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::TimedOut { Self::Timeout } else { Self::Disconnect }
    }
}

/// The beginning of a reply, as far as it has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// More bytes are needed.
    Incomplete,
    /// The whole netstring is there.
    Complete(&'a [u8]),
}

/// Reads a netstring that may not be complete yet.
pub(super) fn netstring(bytes: &[u8], bytes_max: usize) -> Result<Reply<'_>, SocketmapError> {
    let mut len: usize = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                let digit = usize::from(byte.saturating_sub(b'0'));
                len =
                    len.checked_mul(10).and_then(|len| len.checked_add(digit)).ok_or(SocketmapError::Size)?;
                // More digits than any size has would be zeros, without end.
                if at > 20 {
                    return Err(SocketmapError::Format);
                }
            }
            b':' if len > bytes_max => return Err(SocketmapError::Size),
            b':' => {
                let rest = bytes.get(at.saturating_add(1)..).unwrap_or_default();
                return match rest.split_at_checked(len) {
                    Some((data, [b',', ..])) => Ok(Reply::Complete(data)),
                    Some((_, [])) | None => Ok(Reply::Incomplete),
                    Some(_) => Err(SocketmapError::Format),
                };
            }
            _ => return Err(SocketmapError::Format),
        }
    }
    Ok(Reply::Incomplete)
}

/// What a reply says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Found(Vec<u8>),
    NotFound,
    /// The class of the error, whether trying again can help, and the server's own words.
    Failed(&'static str, bool, Vec<u8>),
}

pub(super) fn answer(reply: &[u8]) -> Answer {
    let end = reply.iter().position(|&byte| byte == b' ').unwrap_or(reply.len());
    let (status, payload) = reply.split_at_checked(end).unwrap_or((reply, b""));
    let payload = payload.get(1..).unwrap_or_default().to_vec();
    match status {
        // Without even a blank behind it: an empty value, as in Postfix 3.12; "not found" in 3.7.
        b"OK" => Answer::Found(payload),
        b"NOTFOUND" => Answer::NotFound,
        b"TEMP" => Answer::Failed("temporary", true, payload),
        b"TIMEOUT" => Answer::Failed("timeout", true, payload),
        b"PERM" => Answer::Failed("permanent", false, payload),
        _ => Answer::Failed("unknown", true, payload),
    }
}

impl Socketmap {
    fn ask(
        &self,
        connection: &Connection,
        query: &[u8],
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>, SocketmapError> {
        self.server.send(connection, query, deadline)?;
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.server.receive(connection, &mut buffer, deadline)?;
            if count == 0 {
                return Err(SocketmapError::Disconnect);
            }
            received.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if let Reply::Complete(reply) = netstring(&received, self.reply_bytes_max)? {
                return Ok(reply.to_vec());
            }
        }
    }

    /// The reply; a connection that breaks is replaced once, so that a restart of the server is not noticed.
    fn reply(&self, query: &[u8], call: &mut Call<'_>) -> Result<Vec<u8>, String> {
        let mut first_try = true;
        loop {
            let idle = self.server.idle().filter(|_| first_try);
            let connection = match idle.map_or_else(|| self.server.connect(call.deadline), Ok) {
                Ok(connection) => connection,
                Err(error) => {
                    let reason = system_words(&error);
                    call.notices.push(Notice::warning(format!("connect to {}: {reason}", self.endpoint)));
                    return Err(reason);
                }
            };
            match self.ask(&connection, query, call.deadline) {
                Ok(reply) => {
                    self.server.keep(connection);
                    return Ok(reply);
                }
                Err(SocketmapError::Disconnect) if first_try => first_try = false,
                Err(failure) => return Err(failure.words().to_owned()),
            }
        }
    }
}

impl Table for Socketmap {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        if self.query_bytes_max > 0 && key.len() > self.query_bytes_max {
            let start = shown(key.get(..100).unwrap_or(key));
            let text = format!("table {} query too large: '{start}', returning 'not found'", self.name);
            call.notices.push(Notice::warning(text));
            return Ok(None);
        }
        let data = [&self.map, &b" "[..], key].concat();
        let query = [data.len().to_string().as_bytes(), b":", &data, b","].concat();
        let reply = self.reply(&query, call).map_err(|reason| {
            call.notices.push(Notice::warning(format!("table {} lookup error: {reason}", self.name)));
            TableError { table: self.name.clone(), temporary: true }
        })?;
        match answer(&reply) {
            Answer::Found(value) => Ok(Some(value)),
            Answer::NotFound => Ok(None),
            Answer::Failed(class, temporary, reason) => {
                let reason = trim_start(&reason);
                let colon = if reason.is_empty() { "" } else { ": " };
                let reason = shown(reason.get(..200).unwrap_or(reason));
                let text = format!("{} socketmap server {class} error{colon}{reason}", self.name);
                call.notices.push(Notice::warning(text));
                Err(TableError { table: self.name.clone(), temporary })
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    /// Answers one query per entry; an empty entry hangs up instead. Gives the queries back.
    fn serve(
        replies: Vec<&'static str>,
    ) -> (tempfile::TempDir, String, std::thread::JoinHandle<Vec<String>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let mut queries = Vec::new();
            let mut stream = None;
            for reply in replies {
                let mut buffer = [0; 1000];
                let (mut connection, count) = loop {
                    let mut connection = stream.take().unwrap_or_else(|| listener.accept().unwrap().0);
                    let count = connection.read(&mut buffer).unwrap();
                    // The client hangs up, too, when a reply is wrong.
                    if count > 0 {
                        break (connection, count);
                    }
                };
                queries.push(shown(&buffer[..count]));
                if !reply.is_empty() {
                    connection.write_all(reply.as_bytes()).unwrap();
                    stream = Some(connection);
                }
            }
            queries
        });
        let name = format!("unix:{}:map", path.display());
        (dir, name, thread)
    }

    fn ask(table: &dyn Table, key: &str) -> (Result<Option<String>, TableError>, Vec<String>) {
        let mut notices = Vec::new();
        let mut call = Call { notices: &mut notices, deadline: None, budget: None };
        let result = table.lookup(key.as_bytes(), &mut call).map(|value| value.map(|value| shown(&value)));
        (result, notices.into_iter().map(|notice| notice.text).collect())
    }

    #[test]
    fn a_conversation_on_one_connection_and_one_reconnect() {
        let (_dir, name, server) =
            serve(vec!["4:OK a,", "9:NOTFOUND ,", "", "2:OK,", "12:PERM  go on!,", "6:TEMP x,"]);
        let table = open(name.as_bytes(), &Options::default()).unwrap();
        assert_eq!(ask(table.as_ref(), "k1").0, Ok(Some("a".to_owned())));
        assert_eq!(ask(table.as_ref(), "k2"), (Ok(None), vec![]));
        assert_eq!(ask(table.as_ref(), "k3"), (Ok(Some(String::new())), vec![]));
        let full_name = format!("socketmap:{name}");
        let failed = |temporary| Err(TableError { table: full_name.clone(), temporary });
        let text = |class: &str| vec![format!("{full_name} socketmap server {class}")];
        assert_eq!(ask(table.as_ref(), "k4"), (failed(false), text("permanent error: go on!")));
        assert_eq!(ask(table.as_ref(), "k5"), (failed(true), text("temporary error: x")));
        let queries = server.join().unwrap();
        assert_eq!(queries, ["6:map k1,", "6:map k2,", "6:map k3,", "6:map k3,", "6:map k4,", "6:map k5,"]);
    }

    #[test]
    fn a_server_that_hangs_up_twice_and_others_that_say_why() {
        let (_dir, name, server) = serve(vec!["", "", "9:TIMEOUT x,", "4:WHAT,", "3:OK?x"]);
        let table = open(name.as_bytes(), &Options::default()).unwrap();
        let full_name = format!("socketmap:{name}");
        for text in [
            format!("table {full_name} lookup error: unexpected disconnect"),
            format!("{full_name} socketmap server timeout error: x"),
            format!("{full_name} socketmap server unknown error"),
            format!("table {full_name} lookup error: input format error"),
        ] {
            let error = TableError { table: full_name.clone(), temporary: true };
            assert_eq!(ask(table.as_ref(), "k"), (Err(error), vec![text]));
        }
        assert_eq!(server.join().unwrap().len(), 5);
    }

    #[test]
    fn a_reply_that_is_too_long_or_never_comes_is_said_in_words() {
        let (_dir, name, server) = serve(vec!["8:OK 12345,", "7:OK 1234,"]);
        let table =
            open(name.as_bytes(), &Options { socketmap_max_reply_size: 7, ..Options::default() }).unwrap();
        let words = |reason: &str| vec![format!("table socketmap:{name} lookup error: {reason}")];
        assert_eq!(ask(table.as_ref(), "k").1, words("input exceeds size limit"));
        assert_eq!(ask(table.as_ref(), "k").0, Ok(Some("1234".to_owned())));
        server.join().unwrap();

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let name = format!("unix:{}:map", path.display());
        let options = Options { operation_timeout: Duration::from_millis(20), ..Options::default() };
        let table = open(name.as_bytes(), &options).unwrap();
        let text = format!("table socketmap:{name} lookup error: time limit exceeded");
        assert_eq!(ask(table.as_ref(), "k").1, [text]);
    }

    #[test]
    fn a_server_that_is_not_there() {
        let (dir, name, server) = serve(vec![]);
        server.join().unwrap();
        let path = dir.path().join("s").display().to_string();
        std::fs::remove_file(&path).unwrap();
        let table = open(name.as_bytes(), &Options::default()).unwrap();
        let (result, notices) = ask(table.as_ref(), "k");
        assert!(result.is_err_and(|error| error.temporary));
        let none = "No such file or directory";
        assert_eq!(
            notices,
            [format!("connect to {path}: {none}"), format!("table socketmap:{name} lookup error: {none}")]
        );
    }

    #[test]
    fn a_key_that_is_too_long_is_not_found() {
        let table =
            open(b"unix:/nowhere:map", &Options { socketmap_max_query_size: 3, ..Options::default() })
                .unwrap();
        let text = "table socketmap:unix:/nowhere:map query too large: 'four', returning 'not found'";
        assert_eq!(ask(table.as_ref(), "four"), (Ok(None), vec![text.to_owned()]));
        // One that is just short enough is asked for, and any without a bound.
        for (query_bytes_max, key) in [(4, "four"), (0, "fourteen bytes")] {
            let (_dir, name, server) = serve(vec!["4:OK a,"]);
            let options = Options { socketmap_max_query_size: query_bytes_max, ..Options::default() };
            let table = open(name.as_bytes(), &options).unwrap();
            assert_eq!(ask(table.as_ref(), key), (Ok(Some("a".to_owned())), vec![]));
            server.join().unwrap();
        }
    }

    #[test]
    fn names_that_are_no_servers() {
        let reason = |name: &str| open(name.as_bytes(), &Options::default()).err().unwrap();
        assert_eq!(reason("x"), "socketmap requires server:socketmap argument");
        for name in ["x:m", "unix::m", ":/s:m", "::m"] {
            let service = name.strip_suffix(":m").unwrap();
            assert_eq!(reason(name), format!("need service transport:endpoint instead of \"{service}\""));
        }
        assert_eq!(reason("tcp:x:m"), "invalid transport name: tcp in service: tcp:x");
    }

    #[test]
    fn netstrings_are_bounded() {
        assert_eq!(netstring(b"3:abc,", 3), Ok(Reply::Complete(b"abc")));
        assert_eq!(netstring(b"4:", 3), Err(SocketmapError::Size));
        let zeros = |count| [b"0".repeat(count), b"3:abc,".to_vec()].concat();
        assert_eq!(netstring(&zeros(20), 3), Ok(Reply::Complete(b"abc")));
        assert_eq!(netstring(&zeros(21), 3), Err(SocketmapError::Format));
        assert_eq!(netstring(b"99999999999999999999999", 3), Err(SocketmapError::Size));
        assert_eq!(netstring(b"0000000000000000000000000", 3), Err(SocketmapError::Format));
        assert_eq!(netstring(b"3:abcd", 3), Err(SocketmapError::Format));
        assert_eq!(netstring(b"x", 3), Err(SocketmapError::Format));
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(data in proptest::collection::vec(any::<u8>(), 0..30)) {
            let whole = [data.len().to_string().as_bytes(), b":", &data, b","].concat();
            for end in 0..whole.len() {
                prop_assert_eq!(netstring(&whole[..end], 30), Ok(Reply::Incomplete));
            }
            prop_assert_eq!(netstring(&whole, 30), Ok(Reply::Complete(&data[..])));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = netstring(&bytes, 10);
            answer(&bytes);
        }
    }
}
