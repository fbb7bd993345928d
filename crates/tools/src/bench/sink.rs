//! The sink: takes messages and throws them away, one event loop a thread.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};
use qmqp::reply::{self, Status};
use qmqp::server::{Event, Limits, Server};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};

use super::descriptors;
use super::exit::EXIT_TROUBLE;
use super::interrupt::Interrupt;
use super::part::{Delay, Mix, Percentage};
use crate::send::DEFAULT_SERVER;
use crate::send::server::{QMQP_PORT, Server as SinkAddress, ServerError};

/// Where to listen, and how to reply.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Listen on HOST:PORT, `[IPV6]:PORT` or unix:PATH; port 0 chooses a free port
    #[arg(value_name = "ADDRESS", default_value = DEFAULT_SERVER, value_parser = place)]
    listen: SinkAddress,

    /// Send these replies in these proportions, for example K=90,Z=8,D=2
    #[arg(short, long, value_name = "MIX", default_value = "K")]
    replies: Mix,

    /// Delay each reply by so many milliseconds, or by a random time from MIN to MAX
    #[arg(long, value_name = "MIN[-MAX]", default_value = "0")]
    delay: Delay,

    /// Close this percentage of connections without a reply, somewhere in the message
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    close_early: Percentage,

    /// Limit the time for a connection, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,

    /// Serve this many connections at a time; further ones wait to be accepted
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Limit the size of the content in bytes; larger messages are permanently rejected
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    content_bytes_max: u64,

    /// Exit after this many messages
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,

    /// Use this many threads
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,

    /// Seed the random numbers; without a seed every run is different
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Print the results as JSON
    #[arg(long)]
    json: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

fn place(text: &str) -> Result<SinkAddress, ServerError> {
    match text.strip_suffix(":0").filter(|_| !text.starts_with("unix:")) {
        None => text.parse(),
        Some(host) => format!("{host}:{QMQP_PORT}").parse().map(|place| match place {
            SinkAddress::Inet { host, .. } => SinkAddress::Inet { host, port: 0 },
            place @ SinkAddress::Unix(_) => place,
        }),
    }
}

/// Runs the command until it is interrupted, or got its messages.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "qmqp-bench: {error}");
            ExitCode::from(EXIT_TROUBLE)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SinkError {
    #[error("cannot listen on {place}: {source}")]
    Listen { place: String, source: io::Error },
    #[error("{0}")]
    Descriptors(String),
    #[error("cannot continue: {0}")]
    Run(io::Error),
}

/// What arrived so far.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    messages: AtomicU64,
    recipients: AtomicU64,
    content_bytes: AtomicU64,
    accepted: AtomicU64,
    temporary: AtomicU64,
    permanent: AtomicU64,
    /// Closed by us, as asked for.
    closed_early: AtomicU64,
    /// Ended by the client, or by a time limit, before the message was complete.
    incomplete: AtomicU64,
    is_over: AtomicBool,
}

fn serve(arguments: &Arguments) -> Result<(), SinkError> {
    descriptors::make_room(arguments.connections.into()).map_err(SinkError::Descriptors)?;
    let listener = Listener::bind(&arguments.listen)
        .map_err(|source| SinkError::Listen { place: arguments.listen.to_string(), source })?;
    let mut interrupt = Interrupt::listen();
    let counts = Counts::default();
    let started = Instant::now();
    let mut loops = Vec::new();
    for thread in 0..arguments.threads {
        let seed = arguments.seed.map_or_else(|| fastrand::u64(..), |seed| seed.wrapping_add(thread.into()));
        let places = arguments.connections.div_ceil(arguments.threads);
        loops.push(Loop::new(arguments, &listener, &counts, seed, places).map_err(SinkError::Run)?);
    }
    // A script that started the sink may wait for this line.
    let _ = writeln!(io::stderr(), "qmqp-bench: listening on {}", listener.shown());
    let bar = if arguments.quiet { ProgressBar::hidden() } else { spinner() };
    let (sender, finished) = channel();
    let outcome = std::thread::scope(|scope| {
        for each in loops {
            let sender = sender.clone();
            scope.spawn(move || {
                let _ = sender.send(each.run());
            });
        }
        drop(sender);
        let mut outcome = Ok(());
        let mut last = 0;
        loop {
            match finished.recv_timeout(PROGRESS_INTERVAL) {
                Ok(ended) => {
                    counts.is_over.store(true, Ordering::Relaxed);
                    outcome = outcome.and(ended);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if interrupt.has_come() {
                counts.is_over.store(true, Ordering::Relaxed);
            }
            let messages = counts.messages.load(Ordering::Relaxed);
            bar.set_message(format!("{messages} messages, {}/s", messages.saturating_sub(last)));
            last = messages;
            bar.tick();
        }
        outcome
    });
    bar.finish_and_clear();
    let text = counts.report(started.elapsed(), arguments.json);
    let _ = io::stdout().write_all(text.as_bytes());
    outcome.map_err(SinkError::Run)
}

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed_precise}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

impl Counts {
    fn report(&self, elapsed: Duration, as_json: bool) -> String {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (messages, seconds) = (read(&self.messages), elapsed.as_secs_f64());
        if as_json {
            let report = json!({
                "seconds": seconds,
                "connections": read(&self.connections),
                "messages": messages,
                "recipients": read(&self.recipients),
                "content_bytes": read(&self.content_bytes),
                "accepted": read(&self.accepted),
                "temporary": read(&self.temporary),
                "permanent": read(&self.permanent),
                "closed_early": read(&self.closed_early),
                "incomplete": read(&self.incomplete),
            });
            return format!("{report:#}\n");
        }
        format!(
            "{} connections, {messages} messages to {} recipients with {} bytes in {seconds:.1} s\n\
             replies: {} K, {} Z, {} D; {} closed early, {} incomplete\n",
            read(&self.connections),
            read(&self.recipients),
            read(&self.content_bytes),
            read(&self.accepted),
            read(&self.temporary),
            read(&self.permanent),
            read(&self.closed_early),
            read(&self.incomplete),
        )
    }
}

/// The socket that all threads accept from.
#[derive(Debug)]
enum Listener {
    Inet(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(place: &SinkAddress) -> io::Result<Self> {
        match place {
            SinkAddress::Inet { host, port } => {
                let address: SocketAddr = (host.as_str(), *port)
                    .to_socket_addrs()?
                    .next()
                    .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                Ok(Self::Inet(listen(socket)?.into()))
            }
            SinkAddress::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.bind(&SockAddr::unix(path)?)?;
                Ok(Self::Unix(listen(socket)?.into()))
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Inet(listener) => {
                listener.local_addr().map_or_else(|_| "?".to_owned(), |it| it.to_string())
            }
            Self::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "?".to_owned(), |path| format!("unix:{}", path.display()))
            }
        }
    }
}

fn listen(socket: Socket) -> io::Result<Socket> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// As many as most systems allow.
const BACKLOG: i32 = 4096;

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Inet(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// One client.
#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    machine: Server,
    opened: Instant,
    /// Bytes after which it is closed, if that is its lot.
    bytes_left: Option<u64>,
    recipients: u64,
    content_bytes: u64,
    /// Tells it from others that have had its place.
    number: u64,
    /// The reply that is being held back, or written.
    reply: Option<Vec<u8>>,
}

/// One thread.
#[derive(Debug)]
struct Loop<'s> {
    arguments: &'s Arguments,
    listener: &'s Listener,
    counts: &'s Counts,
    random: Rng,
    epoll: OwnedFd,
    is_accepting: bool,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Replies that are held back: when, place, number.
    delayed: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    accepted: u64,
    input: Vec<u8>,
}

impl<'s> Loop<'s> {
    fn new(
        arguments: &'s Arguments,
        listener: &'s Listener,
        counts: &'s Counts,
        seed: u64,
        places: u32,
    ) -> io::Result<Self> {
        let places = usize::try_from(places).unwrap_or(usize::MAX);
        let mut this = Self {
            arguments,
            listener,
            counts,
            random: Rng::with_seed(seed),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            is_accepting: false,
            connections: std::iter::repeat_with(|| None).take(places).collect(),
            free: (0..places).rev().collect(),
            delayed: BinaryHeap::new(),
            accepted: 0,
            input: Vec::with_capacity(READ_BYTES),
        };
        this.watch_listener()?;
        Ok(this)
    }

    fn watch_listener(&mut self) -> io::Result<()> {
        if !self.is_accepting && !self.free.is_empty() {
            // Of several threads one is enough.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            epoll::add(&self.epoll, self.listener, epoll::EventData::new_u64(LISTENER), flags)?;
            self.is_accepting = true;
        }
        Ok(())
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut next_check = Instant::now();
        while !self.counts.is_over.load(Ordering::Relaxed) {
            let now = Instant::now();
            self.reply_delayed(now);
            if now >= next_check {
                self.close_overdue(now);
                next_check = now.checked_add(CHECK_INTERVAL).unwrap_or(now);
            }
            let wake = self.delayed.peek().map_or(next_check, |Reverse((when, ..))| next_check.min(*when));
            let patience = wake.saturating_duration_since(now);
            let patience = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    place => self.advance(usize::try_from(place).unwrap_or(usize::MAX)),
                }
            }
            self.watch_listener()?;
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPT_BATCH {
            let Some(&place) = self.free.last() else {
                epoll::delete(&self.epoll, self.listener)?;
                self.is_accepting = false;
                return Ok(());
            };
            match rustix::net::accept_with(self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => {
                    self.free.pop();
                    self.open(place, socket);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                // Out of descriptors or memory: others end, or the next wait comes back here.
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, place: usize, socket: OwnedFd) {
        count(&self.counts.connections, 1);
        self.accepted = self.accepted.saturating_add(1);
        let is_closed_early = self.arguments.close_early.draw(&mut self.random);
        let limits = Limits {
            content_bytes_max: self.arguments.content_bytes_max,
            sender_bytes_max: ADDRESS_BYTES_MAX,
            recipient_bytes_max: ADDRESS_BYTES_MAX,
        };
        let data = epoll::EventData::new_u64(place as u64);
        let watched = epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN);
        let connection = Connection {
            socket,
            machine: Server::new(limits),
            opened: Instant::now(),
            bytes_left: is_closed_early.then(|| self.random.u64(..EARLY_CLOSE_BYTES)),
            recipients: 0,
            content_bytes: 0,
            number: self.accepted,
            reply: None,
        };
        if let Some(slot) = self.connections.get_mut(place) {
            *slot = Some(connection);
        }
        if watched.is_err() {
            self.close(place, &self.counts.incomplete);
        }
    }

    /// Reads what a client has sent, or goes on with a reply.
    fn advance(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        if connection.reply.is_some() {
            // Readiness behind a whole message: the client has closed, or there is room for the reply.
            self.write_reply(place);
            return;
        }
        for _ in 0..READS_AT_A_TIME {
            self.input.clear();
            match rustix::net::recv(&connection.socket, spare_capacity(&mut self.input), RecvFlags::DONTWAIT)
            {
                Ok((0, _)) => return self.close(place, &self.counts.incomplete),
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.close(place, &self.counts.incomplete),
            }
            if let Some(left) = &mut connection.bytes_left {
                match left.checked_sub(self.input.len() as u64) {
                    Some(less) => *left = less,
                    None => return self.close(place, &self.counts.closed_early),
                }
            }
            let is_full = self.input.len() == self.input.capacity();
            match take(connection, &self.input) {
                Ok(false) if is_full => {}
                Ok(false) => return,
                Ok(true) => return self.complete(place),
                Err(fault) => return self.refuse(place, &fault),
            }
        }
    }

    /// The message is there: now, or after its delay, the reply.
    fn complete(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        if connection.bytes_left.is_some() {
            return self.close(place, &self.counts.closed_early);
        }
        count(&self.counts.recipients, connection.recipients);
        count(&self.counts.content_bytes, connection.content_bytes);
        let messages = self.counts.messages.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let status = self.arguments.replies.draw(&mut self.random);
        let (counter, text) = match status {
            Status::Queued => (&self.counts.accepted, "Ok: thrown away"),
            Status::Temporary => (&self.counts.temporary, "Error: not now"),
            Status::Permanent => (&self.counts.permanent, "Error: never"),
        };
        count(counter, 1);
        connection.reply = Some(reply::encode(status, text));
        let number = connection.number;
        let delay = self.arguments.delay.draw(&mut self.random);
        if delay.is_zero() {
            self.write_reply(place);
        } else {
            // Until then its readiness is of no interest.
            let _ = epoll::delete(&self.epoll, &connection.socket);
            let now = Instant::now();
            self.delayed.push(Reverse((now.checked_add(delay).unwrap_or(now), place, number)));
        }
        if self.arguments.messages.is_some_and(|most| messages >= most) && self.delayed.is_empty() {
            self.counts.is_over.store(true, Ordering::Relaxed);
        }
    }

    fn refuse(&mut self, place: usize, fault: &str) {
        count(&self.counts.incomplete, 1);
        if let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) {
            connection.reply = Some(reply::encode(Status::Permanent, fault));
            self.write_reply(place);
        }
    }

    fn reply_delayed(&mut self, now: Instant) {
        while let Some(Reverse((when, place, number))) = self.delayed.peek().copied() {
            if when > now {
                return;
            }
            self.delayed.pop();
            let is_there = self.connections.get(place).and_then(Option::as_ref);
            if is_there.is_some_and(|connection| connection.number == number) {
                self.write_reply(place);
            }
        }
    }

    /// A reply fits into any socket buffer; a client that has closed gets none.
    fn write_reply(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::take) else { return };
        if let Some(reply) = &connection.reply {
            let _ = rustix::net::send(&connection.socket, reply, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
        self.free.push(place);
    }

    fn close(&mut self, place: usize, why: &AtomicU64) {
        count(why, 1);
        if let Some(slot) = self.connections.get_mut(place) {
            *slot = None;
            self.free.push(place);
        }
    }

    fn close_overdue(&mut self, now: Instant) {
        let limit = Duration::from_secs(self.arguments.timeout);
        for place in 0..self.connections.len() {
            let connection = self.connections.get(place).and_then(Option::as_ref);
            let is_overdue = connection.is_some_and(|it| now.saturating_duration_since(it.opened) >= limit);
            if is_overdue {
                self.close(place, &self.counts.incomplete);
            }
        }
    }
}

/// Puts what came through the protocol machine; whether the message is complete now.
fn take(connection: &mut Connection, mut input: &[u8]) -> Result<bool, String> {
    loop {
        match connection.machine.next(&mut input) {
            Ok(None) => return Ok(false),
            Ok(Some(Event::End)) => return Ok(true),
            Ok(Some(Event::Content(piece))) => {
                connection.content_bytes = connection.content_bytes.saturating_add(piece.len() as u64);
            }
            Ok(Some(Event::Recipient(_))) => {
                connection.recipients = connection.recipients.saturating_add(1);
            }
            Ok(Some(_)) => {}
            Err(fault) => return Err(format!("Error: {} while {}", fault.problem, fault.phase)),
        }
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// No place of a connection has this number.
const LISTENER: u64 = u64::MAX;
const EVENTS_MAX: usize = 256;
const READ_BYTES: usize = 64 * 1024;
/// So that a fast client does not keep the others waiting.
const READS_AT_A_TIME: usize = 16;
const ACCEPT_BATCH: usize = 64;
const ADDRESS_BYTES_MAX: u64 = 64 * 1024;
/// An early close comes after less than this, or at the end of a shorter message.
const EARLY_CLOSE_BYTES: u64 = 8 * 1024;
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
