//! The socket of one filter: connect, agree, send packets, wait for answers, each in its time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cleanup::milter::{Event, Fault, Filter, Heard, Response};
use postfix::milter_protocol::{BadReply, Endpoint, Service, Step, packet_len};
use postfix::notice::{Notice, Severity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::ResolvedFilter;
use daemon::log::{Log, Program};
use postfix::text::system_words;

/// Bytes that are collected before they are sent although no answer is awaited.
const SEND_BYTES: usize = 64 * 1024;

/// Why a filter is out of order.
pub(super) struct FilterError {
    pub(super) fault: Fault,
    /// Goes behind `milter NAME: `.
    pub(super) text: String,
}

impl FilterError {
    fn communication(text: String) -> Self {
        Self { fault: Fault::Communication, text }
    }

    pub(super) fn mixed_body() -> Self {
        let text = "body replacement requests can't currently be mixed with other requests";
        Self { fault: Fault::Configuration, text: text.to_owned() }
    }

    fn reply(bad: BadReply, data: &[u8]) -> Self {
        let mut text = bad.to_string();
        if bad == BadReply::ReplyCode {
            text = format!("{text}: {}", String::from_utf8_lossy(data.strip_suffix(b"\0").unwrap_or(data)));
        }
        Self { fault: bad.into(), text }
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// The way to one filter.
pub(super) struct Connection {
    pub(super) filter: Filter,
    stream: Option<Box<dyn Socket>>,
    /// Packets that wait to be sent with the next that is answered.
    pub(super) unsent: Vec<u8>,
}

impl Connection {
    pub(super) const fn new(filter: Filter) -> Self {
        Self { filter, stream: None, unsent: Vec::new() }
    }

    /// Connects, and agrees on how to talk.
    pub(super) async fn open(
        &mut self,
        resolved: &ResolvedFilter,
        deadline: Instant,
        log: &Log,
    ) -> Result<(), FilterError> {
        let service = Arc::clone(&resolved.service);
        let limit = within(service.connect_timeout, deadline);
        let connected = timeout(limit, connect(&service, &resolved.addresses)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        match connected {
            Ok(stream) => self.stream = Some(stream),
            // Postfix's line for this one does not begin with "milter NAME".
            Err(error) => {
                let text = format!("connect to Milter service {}: {}", service.name, system_words(&error));
                log.write(Program::Cleanup, Severity::Warning, &text);
                return Err(FilterError::communication(String::new()));
            }
        }
        self.filter.open(&mut self.unsent);
        let limit = within(service.command_timeout, deadline);
        let read = match self.send_within(limit).await {
            Ok(()) => self.packet("SMFIC_OPTNEG", limit).await,
            Err(error) => Err(format!("error writing command: {}", system_words(&error))),
        };
        let (command, data) = read.map_err(|text| {
            let line = format!("milter {}: {text}", service.name);
            log.write(Program::Cleanup, Severity::Warning, &line);
            FilterError::communication("read error in initial handshake".to_owned())
        })?;
        let agreed = self.filter.negotiate(command, &data);
        let agreed = agreed.map_err(|bad| FilterError::communication(bad.to_string()))?;
        for oddity in &agreed.oddities {
            let text = format!("milter {}: {oddity}", service.name);
            log.write(Program::Cleanup, Severity::Warning, &text);
        }
        Ok(())
    }

    /// The filter is out of order: says so, and hangs up.
    pub(super) fn fail(&mut self, failure: &FilterError, log: &Log) -> Option<Response> {
        if !failure.text.is_empty() {
            let text = format!("milter {}: {}", self.filter.service().name, failure.text);
            log.notice(Program::Cleanup, &Notice::warning(text));
        }
        self.stream = None;
        self.unsent.clear();
        self.filter.fail(failure.fault)
    }

    /// Sends a step, and waits for the decision if there is one.
    pub(super) async fn decision(
        &mut self,
        event: Event,
        step: Step,
        deadline: Instant,
    ) -> Result<Option<Response>, FilterError> {
        if let Event::Decided(response) = event {
            if self.unsent.len() >= SEND_BYTES {
                self.send_step(step, deadline).await?;
            }
            return Ok(response);
        }
        loop {
            if let Heard::Decided(response) = self.answer(step, deadline).await? {
                return Ok(response);
            }
        }
    }

    /// The next answer.
    pub(super) async fn answer(&mut self, step: Step, deadline: Instant) -> Result<Heard, FilterError> {
        self.send_step(step, deadline).await?;
        let limit = within(self.limit(step), deadline);
        let (command, data) = self.packet(step.name(), limit).await.map_err(FilterError::communication)?;
        self.filter.answer(step, command, &data).map_err(|bad| FilterError::reply(bad, &data))
    }

    fn limit(&self, step: Step) -> Duration {
        let service = self.filter.service();
        match step {
            Step::Header | Step::EndOfHeader | Step::Body | Step::EndOfBody => service.content_timeout,
            _ => service.command_timeout,
        }
    }

    async fn send_step(&mut self, step: Step, deadline: Instant) -> Result<(), FilterError> {
        let sent = self.send_within(within(self.limit(step), deadline)).await;
        sent.map_err(|error| {
            FilterError::communication(format!("error writing command: {}", system_words(&error)))
        })
    }

    /// Tells the filter that this was all. No reply is awaited.
    pub(super) async fn quit(&mut self, deadline: Instant) {
        self.unsent.clear();
        self.filter.quit(&mut self.unsent);
        let _ = self.send_within(within(self.limit(Step::Helo), deadline)).await;
    }

    async fn send_within(&mut self, limit: Duration) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        match timeout(limit, stream.write_all(&self.unsent)).await {
            Ok(written) => written?,
            Err(_) => return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
        }
        self.unsent.clear();
        Ok(())
    }

    /// The next packet, an answer to this step; or what went wrong, in words.
    async fn packet(&mut self, step: &str, limit: Duration) -> Result<(u8, Vec<u8>), String> {
        let Some(stream) = &mut self.stream else { return Err("not connected".to_owned()) };
        let read = async {
            let mut head = [0; 4];
            stream
                .read_exact(&mut head)
                .await
                .map_err(|error| format!("can't read {step} reply packet header: {}", read_words(&error)))?;
            let len = packet_len(head).map_err(|bad| bad.to_string())?;
            let broken = |error| format!("EOF while reading data: {}", read_words(&error));
            let mut packet = Vec::new();
            // Not more memory than really comes.
            let count = stream.take(len as u64).read_to_end(&mut packet).await.map_err(broken)?;
            if count < len {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(packet)
        };
        let timed_out = || {
            let error = io::Error::from_raw_os_error(libc::ETIMEDOUT);
            Err(format!("can't read {step} reply packet header: {}", system_words(&error)))
        };
        let mut packet = timeout(limit, read).await.unwrap_or_else(|_| timed_out())?;
        if packet.is_empty() {
            return Err(BadReply::Empty.to_string());
        }
        let data = packet.split_off(1);
        let command = packet.first().copied().unwrap_or_default();
        Ok((command, data))
    }
}

/// What went wrong with a read.
fn read_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        "the filter has closed the connection".to_owned()
    } else {
        system_words(error)
    }
}

fn within(limit: Duration, deadline: Instant) -> Duration {
    limit.min(deadline.saturating_duration_since(Instant::now()))
}

/// The first address that answers.
async fn connect(service: &Service, addresses: &[SocketAddr]) -> io::Result<Box<dyn Socket>> {
    if let Endpoint::Unix(path) = &service.endpoint {
        return Ok(Box::new(UnixStream::connect(path).await?));
    }
    let mut failed = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Box::new(stream));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
