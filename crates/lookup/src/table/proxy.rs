//! `proxy:` tables: proxymap(8), which is part of Postfix, opens the table and is asked for each key.
//!
//! So a table of a type that only Postfix can read works here too, where a Postfix runs on the same queue directory and
//! its proxy_read_maps lists the table. A proxymap(8) that is not there is no reason not to start: lookups fail until it
//! answers.

use std::fmt::Display;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use postfix::attr::{AttributeList, DecodeError, Decoder};
use postfix::notice::Notice;
use postfix::proxymap_dialogue::{
    Dialect, DialogueError, LIST_BYTES_MAX, LookupReply, Refusal, has_fixed_keys, instance_flags, open_reply,
    without_announcement,
};

use super::remote::{Connection, Endpoint, Lifetime, Server};
use super::{Call, Opened, Table, TableError};
use crate::options::Options;
use crate::syntax::shown;
use postfix::text::system_words;

/// How often a request is sent, on a new connection after the first time, and how long to wait in between, for a
/// proxymap(8) that is just being replaced. Postfix repeats it for ever.
const TRIES: u32 = 2;
const PAUSE: Duration = Duration::from_secs(1);
/// How long the start of the server waits for an answer. Postfix waits for ever.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);

struct Proxy {
    name: String,
    /// The same without `proxy:`, as proxymap(8) wants it.
    table: Vec<u8>,
    service: String,
    server: Server,
    instance_flags: u32,
    learned: Mutex<Learned>,
    has_neighbour: bool,
}

/// What the server has taught us about itself and the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Learned {
    /// The form of requests that it understands, or that is to be tried first.
    dialect: Dialect,
    /// What it said last about the table; `None` while the table is not opened.
    table_flags: Option<u32>,
}

/// Why there is no answer.
#[derive(Debug)]
enum ProxyError {
    /// The conversation broke down, for this reason; another connection may do.
    Broken(String),
    /// The server will not.
    Refused(Refusal),
}

impl From<io::Error> for ProxyError {
    fn from(error: io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "; is Postfix running on this queue directory?"
            }
            _ => "",
        };
        Self::Broken(format!("{}{remedy}", system_words(&error)))
    }
}

impl From<DialogueError> for ProxyError {
    fn from(error: DialogueError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<DecodeError> for ProxyError {
    fn from(error: DecodeError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// `proxy:type:name`. The server is asked at once whether it serves the table, so that the log says at the start what is
/// wrong.
pub(super) fn open(name: &[u8], options: &Options, notices: &mut Vec<Notice>) -> Opened {
    // Below the current directory, which is the queue directory before and after a change of the root directory.
    let endpoint = Endpoint::unix(format!("private/{}", options.proxymap_service_name).as_bytes());
    open_at(endpoint, name, options, notices)
}

fn open_at(endpoint: Endpoint, name: &[u8], options: &Options, notices: &mut Vec<Notice>) -> Opened {
    let lifetime = Lifetime { idle_max: options.ipc_idle, age_max: options.ipc_ttl };
    let proxy = Proxy {
        name: format!("proxy:{}", shown(name)),
        table: name.to_vec(),
        service: options.proxymap_service_name.clone(),
        server: Server::new(endpoint, lifetime, options),
        instance_flags: instance_flags(options.smtputf8_enable, options.fold_keys),
        learned: Mutex::new(Learned { dialect: Dialect::of(options.release), table_flags: None }),
        has_neighbour: options.is_beside_postfix,
    };
    if options.asks_at_open {
        match proxy.open_table() {
            Ok(()) => {}
            Err(ProxyError::Refused(refusal)) => {
                let reason = proxy.refused("open", "", refusal);
                if options.daemon_table_open_error_is_fatal {
                    return Err(reason);
                }
                notices.push(Notice::error(reason));
            }
            Err(ProxyError::Broken(reason)) => notices.push(Notice::warning(proxy.broken("open", &reason))),
        }
    }
    Ok(Box::new(proxy))
}

impl Proxy {
    /// Asks for the table on a connection of its own. It is not kept: the process may fork yet.
    fn open_table(&self) -> Result<(), ProxyError> {
        let deadline = Instant::now().checked_add(OPEN_TIME_MAX);
        let connection = self.server.connect(deadline)?;
        self.flags(&connection, deadline).map(drop)
    }

    fn learned(&self) -> Learned {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, learned: Learned) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = learned;
    }

    /// Opens the table if that has not been done: first in the form that is more likely, then in the other.
    fn flags(
        &self,
        connection: &Connection,
        deadline: Option<Instant>,
    ) -> Result<(Dialect, u32), ProxyError> {
        let Learned { dialect: likely, table_flags } = self.learned();
        if let Some(table_flags) = table_flags {
            return Ok((likely, table_flags));
        }
        for dialect in [likely, likely.other()] {
            let request = dialect.open_request(&self.table, self.instance_flags);
            match open_reply(&self.exchange(connection, &request, deadline)?)? {
                Ok(table_flags) => {
                    self.learn(Learned { dialect, table_flags: Some(table_flags) });
                    return Ok((dialect, table_flags));
                }
                Err(Refusal::BadRequest) => {}
                Err(refusal) => return Err(ProxyError::Refused(refusal)),
            }
        }
        Err(ProxyError::Refused(Refusal::BadRequest))
    }

    fn ask(
        &self,
        connection: &Connection,
        key: &[u8],
        deadline: Option<Instant>,
    ) -> Result<Option<Vec<u8>>, ProxyError> {
        // A second time for a server that is of another version than when it was asked last.
        for _ in 0..2 {
            let (dialect, table_flags) = self.flags(connection, deadline)?;
            let request = dialect.lookup_request(&self.table, self.instance_flags, table_flags, key);
            match dialect.lookup_reply(&self.exchange(connection, &request, deadline)?)? {
                LookupReply::Answer { value, table_flags } => {
                    if table_flags.is_some() {
                        self.learn(Learned { dialect, table_flags });
                    }
                    return Ok(value);
                }
                LookupReply::Refused(Refusal::BadRequest) => {
                    self.learn(Learned { dialect: dialect.other(), table_flags: None });
                }
                LookupReply::Refused(refusal) => return Err(ProxyError::Refused(refusal)),
            }
        }
        Err(ProxyError::Refused(Refusal::BadRequest))
    }

    /// Sends a request in one piece and receives the reply to it.
    fn exchange(
        &self,
        connection: &Connection,
        request: &[u8],
        deadline: Option<Instant>,
    ) -> Result<AttributeList, ProxyError> {
        self.server.send(connection, request, deadline)?;
        let mut decoder = Decoder::new(LIST_BYTES_MAX);
        let mut may_be_announced = true;
        let mut buffer = [0; 4096];
        loop {
            let count = self.server.receive(connection, &mut buffer, deadline)?;
            let mut received = buffer.get(..count).unwrap_or_default();
            if received.is_empty() {
                return Err(ProxyError::Broken("unexpected disconnect".to_owned()));
            }
            while let Some(list) = decoder.decode(&mut received)? {
                let list = if may_be_announced { without_announcement(list)? } else { Some(list) };
                may_be_announced = false;
                match list {
                    None => {}
                    Some(reply) if received.is_empty() => return Ok(reply),
                    Some(_) => return Err(ProxyError::Broken("data behind the reply".to_owned())),
                }
            }
        }
    }

    /// Postfix's words for a conversation that broke down.
    fn broken(&self, what: &str, reason: &dyn Display) -> String {
        format!("dict_proxy_{what}: service {}: {reason}", self.service)
    }

    /// Postfix's words for a refusal, and what to do about it.
    fn refused(&self, what: &str, key: &str, refusal: Refusal) -> String {
        let (service, table, name) = (&self.service, shown(&self.table), &self.name);
        let of_key = if key.is_empty() { String::new() } else { format!(" key \"{key}\"") };
        let failed = format!("{service} {what} failed for table \"{table}\"{of_key}");
        match refusal {
            Refusal::NotApproved => format!(
                "{service} service is not configured for table \"{table}\"; add {name} to proxy_read_maps in the main.cf \
                 of the Postfix that owns this queue directory, and reload that Postfix"
            ),
            Refusal::BadRequest => format!("{failed}: invalid request"),
            Refusal::TryLater => format!("{failed}: temporary error; see what {service} has logged about it"),
            Refusal::Configuration => {
                format!("{failed}: configuration error; see what {service} has logged about it")
            }
            Refusal::Unknown(status) => format!("{failed}: unexpected reply status {status}"),
        }
    }

    /// The answer, on an idle connection if there is one, or else on a new one.
    fn lookup_patiently(&self, key: &[u8], deadline: Option<Instant>) -> Result<Option<Vec<u8>>, ProxyError> {
        let mut attempt = 1;
        loop {
            let idle = if attempt == 1 { self.server.idle() } else { None };
            let connected = idle.map_or_else(|| self.server.connect(deadline), Ok).map_err(ProxyError::from);
            let failure = match connected.map(|connection| (self.ask(&connection, key, deadline), connection))
            {
                Ok((answer @ (Ok(_) | Err(ProxyError::Refused(_))), connection)) => {
                    self.server.keep(connection);
                    return answer;
                }
                Ok((Err(failure), _)) | Err(failure) => failure,
            };
            let is_over =
                deadline.is_some_and(|deadline| deadline.saturating_duration_since(Instant::now()) <= PAUSE);
            if attempt >= TRIES || is_over {
                return Err(failure);
            }
            attempt = attempt.saturating_add(1);
            std::thread::sleep(PAUSE);
        }
    }
}

impl Table for Proxy {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        self.lookup_patiently(key, call.deadline).map_err(|failure| {
            let (text, temporary) = match failure {
                ProxyError::Broken(reason) => (self.broken("lookup", &reason), true),
                ProxyError::Refused(refusal) => {
                    let temporary = matches!(refusal, Refusal::TryLater);
                    (self.refused("lookup", &shown(key), refusal), temporary)
                }
            };
            call.notices.push(Notice::warning(text));
            TableError { table: self.name.clone(), temporary }
        })
    }

    /// Known when the table is opened: at the latest, after the first lookup.
    fn is_fixed(&self) -> bool {
        self.learned().table_flags.is_some_and(has_fixed_keys)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn remarks(&self) -> Vec<String> {
        if self.has_neighbour {
            return Vec::new();
        }
        vec![format!(
            "this needs a Postfix that runs on the same queue directory, with {} in its proxy_read_maps",
            self.name
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix::compatibility::Release;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    const OPEN_OLD: &str = "request open table hash:/x/clients flags 0  ";
    const OPEN_NEW: &str = "request open table hash:/x/clients instance_flags 524352  ";
    const NEW: &str = "request lookup table hash:/x/clients instance_flags 524352 flags";

    /// A request or reply with blanks for NULs.
    fn spaced(bytes: &[u8]) -> String {
        shown(bytes).replace('\0', " ")
    }

    /// A server with one socket. Its connections are served one after the other: each question gets the reply that
    /// `answer` makes of it, blanks for NULs; none hangs up.
    struct Server {
        dir: tempfile::TempDir,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        fn start(greeting: &'static str, answer: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
            let server = Self { dir: tempfile::tempdir().unwrap(), asked: Arc::default() };
            let listener = UnixListener::bind(server.path()).unwrap();
            let asked = Arc::clone(&server.asked);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    serve(stream.unwrap(), greeting, &answer, &asked);
                }
            });
            server
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("proxymap")
        }

        fn table(&self, options: &Options) -> (Box<dyn Table>, Vec<String>) {
            let (table, notices) = open_there(&self.path(), options);
            (table.unwrap(), notices)
        }

        /// What it was asked since this was asked last.
        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }
    }

    fn serve(
        mut stream: UnixStream,
        greeting: &str,
        answer: &impl Fn(&str) -> Option<String>,
        asked: &Mutex<Vec<String>>,
    ) {
        let send = |mut stream: &UnixStream, text: &str| stream.write_all(text.replace(' ', "\0").as_bytes());
        // One that ends in one blank is no list yet: the first reply goes on with it.
        let mut greeted = send(&stream, greeting).is_ok();
        while greeted {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).unwrap_or(0);
            if count == 0 {
                return;
            }
            let request = spaced(&buffer[..count]);
            let reply = answer(&request);
            asked.lock().unwrap().push(request);
            greeted = reply.is_some_and(|reply| send(&stream, &reply).is_ok());
        }
    }

    fn open_there(path: &Path, options: &Options) -> (Opened, Vec<String>) {
        let mut notices = Vec::new();
        let endpoint = Endpoint::Unix(path.to_owned());
        let table = open_at(endpoint, b"hash:/x/clients", options, &mut notices);
        let texts = notices.into_iter().map(|notice| format!("{}{}", notice.severity.prefix(), notice.text));
        (table, texts.collect())
    }

    fn ask(table: &dyn Table, key: &str) -> (Result<Option<String>, bool>, Vec<String>) {
        let mut notices = Vec::new();
        let deadline = Instant::now().checked_add(Duration::from_secs(4));
        let mut call = Call { notices: &mut notices, deadline, budget: None };
        let result = table.lookup(key.as_bytes(), &mut call);
        let result = result.map(|value| value.map(|value| shown(&value))).map_err(|error| error.temporary);
        (result, notices.into_iter().map(|notice| notice.text).collect())
    }

    /// As proxymap(8) of Postfix 3.7.
    fn old(request: &str) -> Option<String> {
        let reply = match request {
            OPEN_OLD => "status 0 flags 28  ",
            "request lookup table hash:/x/clients flags 524352 key 127.0.0.1  " => "status 0 value ok  ",
            other if other.contains("instance_flags") => "status 3 value   ",
            _ => "status 1 value   ",
        };
        Some(reply.to_owned())
    }

    /// As proxymap(8) of Postfix 3.12.
    fn new(request: &str) -> Option<String> {
        let reply = if request == OPEN_NEW {
            "status 0 flags 1572956  "
        } else if !request.contains("instance_flags") {
            "status 3 flags 0  "
        } else if request.contains("key 127.0.0.1 ") {
            "status 0 flags 1572952 value ok  "
        } else {
            "status 1 flags 1572952 value   "
        };
        Some(reply.to_owned())
    }

    #[test]
    fn up_to_postfix_3_10() {
        for greeting in ["", "protocol proxymap_protocol  ", "protocol proxymap_protocol "] {
            let server = Server::start(greeting, old);
            let (table, notices) = server.table(&Options::default());
            assert_eq!((notices, table.is_fixed()), (vec![], true));
            assert_eq!(ask(table.as_ref(), "127.0.0.1"), (Ok(Some("ok".to_owned())), vec![]), "{greeting}");
            assert_eq!(ask(table.as_ref(), "10.0.0.1"), (Ok(None), vec![]));
            let lookup = |key: &str| format!("request lookup table hash:/x/clients flags 524352 key {key}  ");
            assert_eq!(server.asked(), [OPEN_OLD.to_owned(), lookup("127.0.0.1"), lookup("10.0.0.1")]);
        }
    }

    #[test]
    fn since_postfix_3_11_the_flags_of_the_latest_reply_go_into_the_next_request() {
        let server = Server::start("protocol proxymap_protocol  ", new);
        let (table, notices) = server.table(&Options::default());
        assert_eq!((notices, table.is_fixed()), (vec![], true));
        assert_eq!(ask(table.as_ref(), "10.0.0.1"), (Ok(None), vec![]));
        assert_eq!(ask(table.as_ref(), "127.0.0.1"), (Ok(Some("ok".to_owned())), vec![]));
        assert_eq!(
            server.asked(),
            [
                OPEN_OLD.to_owned(),
                OPEN_NEW.to_owned(),
                format!("{NEW} 1572956 key 10.0.0.1  "),
                format!("{NEW} 1572952 key 127.0.0.1  "),
            ]
        );
    }

    #[test]
    fn the_release_says_what_is_tried_first() {
        let later = Options { release: Release::new(3, 11), ..Options::default() };
        let server = Server::start("", new);
        let (table, notices) = server.table(&later);
        assert_eq!((notices, table.is_fixed()), (vec![], true));
        assert_eq!(server.asked(), [OPEN_NEW]);
        // What is not so is found out all the same.
        let server = Server::start("", old);
        let (table, notices) = server.table(&later);
        assert_eq!((notices, table.is_fixed()), (vec![], true));
        assert_eq!(server.asked(), [OPEN_NEW, OPEN_OLD]);
    }

    #[test]
    fn a_server_of_another_version_takes_over() {
        let is_new = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let switch = Arc::clone(&is_new);
        let server = Server::start("", move |request| {
            if switch.load(std::sync::atomic::Ordering::SeqCst) { new(request) } else { old(request) }
        });
        let (table, _) = server.table(&Options::default());
        for version in [false, true, false] {
            is_new.store(version, std::sync::atomic::Ordering::SeqCst);
            assert_eq!(ask(table.as_ref(), "127.0.0.1"), (Ok(Some("ok".to_owned())), vec![]));
        }
    }

    #[test]
    fn without_smtputf8_the_flags_are_others() {
        let server = Server::start("", |_| Some("status 1 value   ".to_owned()));
        let options = Options { smtputf8_enable: false, asks_at_open: false, ..Options::default() };
        let (table, _) = server.table(&options);
        table.lookup(b"k", &mut Call { notices: &mut Vec::new(), deadline: None, budget: None }).unwrap_err();
        assert_eq!(server.asked(), ["request open table hash:/x/clients flags 0  "]);
        let server = Server::start("", old);
        let (table, _) = server.table(&options);
        assert_eq!(ask(table.as_ref(), "k"), (Ok(None), vec![]));
        assert_eq!(server.asked()[1], "request lookup table hash:/x/clients flags 64 key k  ");
    }

    #[test]
    fn a_table_that_is_not_approved_fails_until_it_is() {
        let is_approved = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let switch = Arc::clone(&is_approved);
        let server = Server::start("", move |request| {
            if switch.load(std::sync::atomic::Ordering::SeqCst) {
                return old(request);
            }
            Some("status 4 flags 0  ".to_owned())
        });
        let reason = "proxymap service is not configured for table \"hash:/x/clients\"; add proxy:hash:/x/clients to \
                      proxy_read_maps in the main.cf of the Postfix that owns this queue directory, and reload that \
                      Postfix";
        // The server has one connection at a time: none is kept while another is opened.
        let options = Options { idle_connections_max: 0, ..Options::default() };
        let (table, notices) = server.table(&options);
        assert_eq!(notices, [format!("error: {reason}")]);
        assert_eq!(ask(table.as_ref(), "127.0.0.1"), (Err(false), vec![reason.to_owned()]));
        let fatal = Options { daemon_table_open_error_is_fatal: true, ..options };
        assert_eq!(open_there(&server.path(), &fatal).0.err().unwrap(), reason);
        is_approved.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(!table.is_fixed());
        assert_eq!(ask(table.as_ref(), "127.0.0.1"), (Ok(Some("ok".to_owned())), vec![]));
        assert!(table.is_fixed());
    }

    #[test]
    fn other_refusals_are_errors() {
        for (status, temporary, words) in [
            (2, true, "temporary error; see what proxymap has logged about it"),
            (3, false, "invalid request"),
            (5, false, "configuration error; see what proxymap has logged about it"),
            (77, false, "unexpected reply status 77"),
        ] {
            let server = Server::start("", move |request| match request {
                OPEN_OLD | OPEN_NEW => old(OPEN_OLD),
                _ => Some(format!("status {status} value   ")),
            });
            let (table, _) = server.table(&Options::default());
            let text = format!("proxymap lookup failed for table \"hash:/x/clients\" key \"k\": {words}");
            assert_eq!(ask(table.as_ref(), "k"), (Err(temporary), vec![text]));
        }
    }

    #[test]
    fn a_lost_connection_is_replaced_once() {
        let lost = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = Arc::clone(&lost);
        let server = Server::start("", move |request| {
            let is_lost = request.contains("key")
                && count
                    .fetch_update(
                        std::sync::atomic::Ordering::SeqCst,
                        std::sync::atomic::Ordering::SeqCst,
                        |n| n.checked_sub(1),
                    )
                    .is_ok();
            if is_lost { None } else { old(request) }
        });
        let (table, _) = server.table(&Options::default());
        for (lost_before, is_found) in [(0, true), (1, true), (2, false), (0, true)] {
            lost.store(lost_before, std::sync::atomic::Ordering::SeqCst);
            let (answer, notices) = ask(table.as_ref(), "127.0.0.1");
            let words = "dict_proxy_lookup: service proxymap: unexpected disconnect";
            let expected = if is_found { Ok(Some("ok".to_owned())) } else { Err(true) };
            assert_eq!(answer, expected);
            assert_eq!(notices, if is_found { vec![] } else { vec![words.to_owned()] });
        }
    }

    #[test]
    fn a_server_that_comes_later_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxymap");
        let (table, notices) = open_there(&path, &Options::default());
        let table = table.unwrap();
        let words =
            "service proxymap: No such file or directory; is Postfix running on this queue directory?";
        assert_eq!(notices, [format!("warning: dict_proxy_open: {words}")]);
        assert_eq!(ask(table.as_ref(), "k"), (Err(true), vec![format!("dict_proxy_lookup: {words}")]));
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            serve(listener.accept().unwrap().0, "", &old, &Mutex::default());
        });
        assert_eq!(ask(table.as_ref(), "127.0.0.1"), (Ok(Some("ok".to_owned())), vec![]));
    }

    #[test]
    fn hostile_replies_are_bounded() {
        for (reply, words) in [
            ("x".repeat(200_000), "attribute list of more than 65536 bytes"),
            ("protocol x  ".to_owned(), "the peer speaks \"x\""),
            (
                "protocol proxymap_protocol  protocol proxymap_protocol  ".to_owned(),
                "unexpected attribute protocol",
            ),
            ("status 0 value ok  status 0 value ok  ".to_owned(), "data behind the reply"),
            ("status none value ok  ".to_owned(), "which is not a number"),
            ("{ { ".to_owned(), "malformed hash"),
            (" ".to_owned(), "missing attribute status"),
        ] {
            let server = Server::start("", move |request| match request {
                OPEN_OLD => old(OPEN_OLD),
                _ => Some(reply.clone()),
            });
            let (table, _) = server.table(&Options::default());
            let (answer, notices) = ask(table.as_ref(), "k");
            assert_eq!(answer, Err(true));
            assert!(notices.len() == 1 && notices[0].contains(words), "{notices:?}: {words}");
        }
    }

    #[test]
    fn a_check_asks_nobody() {
        let (table, notices) = open_there(Path::new("/nowhere"), &Options::default());
        assert!(table.is_ok() && notices.len() == 1);
        let options = Options { asks_at_open: false, ..Options::default() };
        let (table, notices) = open_there(Path::new("/nowhere"), &options);
        assert_eq!(notices, [""; 0]);
        let remarks = table.unwrap().remarks();
        assert!(
            remarks.len() == 1 && remarks[0].contains("with proxy:hash:/x/clients in its proxy_read_maps")
        );
        let options = Options { is_beside_postfix: true, ..options };
        assert_eq!(open_there(Path::new("/nowhere"), &options).0.unwrap().remarks(), [""; 0]);
    }
}
