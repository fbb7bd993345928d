//! The sockets of mail filters: connect, agree, send packets, wait for answers, each in its time. What is said, and what
//! an answer means, is in [`cleanup::milter`].

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use cleanup::milter::{
    Chunks, Event, Fault, Filter, Heard, Inspection, MacroNames, Macros, NewBody, Response, Stage,
    header_packet,
};
use postfix::milter_protocol::{BadReply, Edit, Endpoint, Service, Step, packet_len};
use postfix::notice::{Notice, Severity};
use postfix::settings::Settings;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::cleanup_service::words;
use super::kept::{Kept, Part};
use super::overflow::{Overflow, TemporaryFiles};
use super::tables::Lookups;
use crate::config::port_number;
use crate::log::{Log, Program};

/// Bytes that are collected before they are sent although no answer is awaited.
const SEND_BYTES: usize = 64 * 1024;

/// The filters that every message is shown to.
#[derive(Debug)]
pub struct Milters {
    filters: Vec<Place>,
    names: MacroNames,
    myhostname: String,
    soft_bounce: bool,
    /// How long all filters together may take for one message.
    time_max: Duration,
    /// One permit per message before the filters.
    turns: Semaphore,
    pub(super) files: TemporaryFiles,
    log: Log,
}

/// A filter and its addresses, which were looked up when the process started.
#[derive(Debug)]
struct Place {
    service: Arc<Service>,
    addresses: Vec<SocketAddr>,
}

impl Milters {
    /// The filters of main.cf, `None` if there are none. Looks up host names, so it must come before the jail. Temporary
    /// files are made in `incoming` below the working directory, by at most `threads` threads at a time.
    #[must_use]
    pub fn open(settings: &Settings, threads: usize, log: &Log) -> Option<Self> {
        if settings.receive_override_options.contains("no_milters") {
            return None;
        }
        // What is wrong with them was found when the configuration was loaded.
        let (services, defaults) = settings.milters().ok().filter(|(services, _)| !services.is_empty())?;
        let protocols = &settings.inet_protocols;
        let has = |version| protocols.contains(version) || protocols.contains("all");
        let is_allowed = |address: &SocketAddr| if address.is_ipv4() { has("ipv4") } else { has("ipv6") };
        let place = |service: Service| {
            let addresses = addresses(&service).unwrap_or_else(|error| {
                let Service { name, .. } = &service;
                let text = format!("host or service of milter {name} not found: {error}");
                log.write(Program::Cleanup, Severity::Warning, &text);
                Vec::new()
            });
            let addresses = addresses.into_iter().filter(is_allowed).collect();
            Place { service: Arc::new(service), addresses }
        };
        let limit = usize::try_from(settings.default_process_limit).unwrap_or(usize::MAX);
        Some(Self {
            filters: services.into_iter().map(place).collect(),
            names: MacroNames {
                connect: settings.milter_connect_macros.clone(),
                helo: settings.milter_helo_macros.clone(),
                mail: settings.milter_mail_macros.clone(),
                rcpt: settings.milter_rcpt_macros.clone(),
                data: settings.milter_data_macros.clone(),
                end_of_header: settings.milter_end_of_header_macros.clone(),
                end_of_data: settings.milter_end_of_data_macros.clone(),
                defaults,
                daemon_name: settings.milter_macro_daemon_name.clone(),
                version: settings.milter_macro_v.clone(),
                ipv6_only: !has("ipv4"),
            },
            myhostname: settings.myhostname.clone(),
            soft_bounce: settings.soft_bounce,
            time_max: settings.qmqpd_session_deadline,
            turns: Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)),
            files: TemporaryFiles::new("incoming", threads),
            log: log.clone(),
        })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.filters.len()
    }

    /// Address and port of each that is reached through the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        let addresses = self.filters.iter().flat_map(|place| &place.addresses);
        addresses.map(|address| (address.ip().to_string(), address.port())).collect()
    }

    /// What filters hear of the client's address.
    pub(super) const fn client_address(&self) -> &'static str {
        self.names.client_address()
    }

    fn say(&self, inspection: &mut Inspection) {
        for notice in inspection.take_notices() {
            self.log.notice(Program::Cleanup, &notice);
        }
    }
}

fn addresses(service: &Service) -> io::Result<Vec<SocketAddr>> {
    let Endpoint::Inet(endpoint) = &service.endpoint else { return Ok(Vec::new()) };
    let host = endpoint.host.as_deref().unwrap_or("localhost");
    let port = port_number(&endpoint.port).map_err(io::Error::other)?;
    Ok((host, port).to_socket_addrs()?.collect())
}

/// One message before the filters.
pub(super) struct Conversation<'a> {
    milters: &'a Milters,
    lookups: &'a Lookups,
    connections: Vec<Connection>,
    sender: Option<Vec<u8>>,
    recipient: Option<Vec<u8>>,
    deadline: Instant,
    _turn: Option<tokio::sync::SemaphorePermit<'a>>,
}

impl<'a> Conversation<'a> {
    /// Waits for its turn.
    pub(super) async fn begin(milters: &'a Milters, lookups: &'a Lookups) -> Self {
        let deadline = Instant::now().checked_add(milters.time_max);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        // Nobody closes the semaphore.
        let turn = milters.turns.acquire().await.ok();
        let connections = milters.filters.iter().map(|place| Connection {
            filter: Filter::new(Arc::clone(&place.service), milters.soft_bounce),
            stream: None,
            unsent: Vec::new(),
        });
        Self {
            milters,
            lookups,
            connections: connections.collect(),
            sender: None,
            recipient: None,
            deadline,
            _turn: turn,
        }
    }

    /// Tells the filters of client, sender and recipients.
    pub(super) async fn envelope(
        &mut self,
        inspection: &mut Inspection,
        recipients: &Overflow,
    ) -> io::Result<()> {
        if let Some(response) = self.connect(inspection).await {
            inspection.apply(Stage::Connect, &response);
        } else if let Some(response) = self.all(Step::Helo, inspection, &[b"localhost\0"]).await {
            inspection.apply(Stage::Ehlo, &response);
        } else {
            let sender = inspection.heard_sender();
            self.sender = Some(sender.clone());
            if let Some(response) = self.all(Step::Mail, inspection, &[&sender, b"\0"]).await {
                inspection.apply(Stage::Mail, &response);
            }
        }
        self.milters.say(inspection);
        let mut reader = recipients.records();
        while let Some(records) = reader.next(&self.milters.files).await? {
            let mut heard = Vec::new();
            cleanup::milter::recipients(
                &records,
                &mut |address| heard.push(address.to_vec()),
                &mut Vec::new(),
            );
            for address in heard {
                let address = inspection.recipient(&address);
                if !inspection.goes_on() {
                    return Ok(());
                }
                self.recipient = Some(address.clone());
                if let Some(response) = self.all(Step::Rcpt, inspection, &[&address, b"\0"]).await {
                    inspection.apply(Stage::Rcpt, &response);
                    self.milters.say(inspection);
                }
            }
        }
        Ok(())
    }

    /// Connects to one filter after the other and tells each of the client.
    async fn connect(&mut self, inspection: &Inspection) -> Option<Response> {
        let address = self.milters.names.client_address();
        let family: &[u8] =
            if self.milters.names.ipv6_only { b"localhost\x006\0\0" } else { b"localhost\x004\0\0" };
        for number in 0..self.connections.len() {
            let place = self.milters.filters.get(number)?;
            let connection = self.connections.get_mut(number)?;
            if let Err(failure) = connection.open(place, self.deadline, &self.milters.log).await {
                let response = connection.fail(&failure, &self.milters.log);
                if response.is_some() {
                    return response;
                }
            }
            let data: [&[u8]; 3] = [family, address.as_bytes(), b"\0"];
            let response = self.one(number, Step::Connect, inspection, &data).await;
            if response.is_some() {
                return response;
            }
        }
        None
    }

    /// Tells all filters of a step, until one has decided.
    async fn all(&mut self, step: Step, inspection: &Inspection, data: &[&[u8]]) -> Option<Response> {
        for number in 0..self.connections.len() {
            let response = self.one(number, step, inspection, data).await;
            if response.is_some() {
                return response;
            }
        }
        None
    }

    /// Tells one filter of a step at which it can change nothing.
    async fn one(
        &mut self,
        number: usize,
        step: Step,
        inspection: &Inspection,
        data: &[&[u8]],
    ) -> Option<Response> {
        let event = self.announce(number, step, inspection, data);
        let (milters, deadline) = (self.milters, self.deadline);
        let connection = self.connections.get_mut(number)?;
        match connection.decision(event, step, deadline).await {
            Ok(response) => response,
            Err(failure) => connection.fail(&failure, &milters.log),
        }
    }

    fn announce(&mut self, number: usize, step: Step, inspection: &Inspection, data: &[&[u8]]) -> Event {
        let macros = Macros {
            names: &self.milters.names,
            myhostname: &self.milters.myhostname,
            queue_id: inspection.queue_id(),
            sender: self.sender.as_deref(),
            recipient: self.recipient.as_deref(),
        };
        match self.connections.get_mut(number) {
            Some(Connection { filter, unsent, .. }) => filter.event(step, &macros, data, unsent),
            None => Event::Decided(None),
        }
    }

    /// Shows the filters the content, and lets them change the message.
    pub(super) async fn content(&mut self, inspection: &mut Inspection, kept: &mut Kept) -> io::Result<()> {
        if let Some(response) = self.all(Step::Data, inspection, &[]).await {
            inspection.apply(Stage::Data, &response);
        }
        if inspection.goes_on() {
            for number in 0..self.connections.len() {
                let response = self.message(number, inspection, kept).await?;
                self.milters.say(inspection);
                if let Some(response) = response {
                    inspection.apply(Stage::EndOfMessage, &response);
                    break;
                }
                if !inspection.goes_on() {
                    break;
                }
            }
        }
        self.milters.say(inspection);
        Ok(())
    }

    /// Shows one filter the content.
    async fn message(
        &mut self,
        number: usize,
        inspection: &mut Inspection,
        kept: &mut Kept,
    ) -> io::Result<Option<Response>> {
        let Some(connection) = self.connections.get(number) else { return Ok(None) };
        if !connection.filter.is_open() {
            return Ok(connection.filter.standing());
        }
        let negotiated = connection.filter.negotiated();
        let leading_blank = negotiated.is_some_and(|agreed| agreed.leading_blank());
        let wants = |step| negotiated.is_some_and(|agreed| agreed.wants(step));
        let (wants_headers, wants_end, wants_body) =
            (wants(Step::Header), wants(Step::EndOfHeader), wants(Step::Body));
        let mut chunks = Chunks::default();
        let milters = self.milters;
        let mut walk = kept.walk(inspection.edits.pass(), &milters.files);
        while let Some(part) = walk.next().await? {
            let mut response = None;
            match part {
                Part::Header(records, true) if wants_headers => {
                    if let Some(data) = header_packet(&records, leading_blank) {
                        response = self.one(number, Step::Header, inspection, &[&data]).await;
                    }
                }
                Part::EndOfHeaders if wants_end => {
                    response = self.one(number, Step::EndOfHeader, inspection, &[]).await;
                }
                Part::Body(records) if wants_body => {
                    let mut full = Vec::new();
                    chunks.records(&records, &mut |chunk| full.push(chunk));
                    for chunk in full {
                        response = self.one(number, Step::Body, inspection, &[&chunk]).await;
                        if response.is_some() || !self.is_open(number) {
                            break;
                        }
                    }
                }
                // A filter that wants no body need not wait for it.
                Part::Body(_) => break,
                Part::Header(..) | Part::EndOfHeaders => {}
            }
            if response.is_some() || !self.is_open(number) {
                return Ok(response);
            }
        }
        drop(walk);
        if let Some(chunk) = chunks.finish() {
            let response = self.one(number, Step::Body, inspection, &[&chunk]).await;
            if response.is_some() || !self.is_open(number) {
                return Ok(response);
            }
        }
        self.end_of_body(number, inspection, kept, leading_blank).await
    }

    fn is_open(&self, number: usize) -> bool {
        self.connections.get(number).is_some_and(|connection| connection.filter.is_open())
    }

    /// The end of the content: the filter changes the message, and decides.
    async fn end_of_body(
        &mut self,
        number: usize,
        inspection: &mut Inspection,
        kept: &mut Kept,
        leading_blank: bool,
    ) -> io::Result<Option<Response>> {
        let event = self.announce(number, Step::EndOfBody, inspection, &[]);
        let Self { milters, lookups, deadline, connections, .. } = self;
        let Some(connection) = connections.get_mut(number) else { return Ok(None) };
        let mut body = Replacement::None;
        let ended = match event {
            Event::Decided(response) => Ok(response),
            Event::Await => loop {
                match connection.answer(Step::EndOfBody, *deadline).await {
                    Ok(Heard::More) => {}
                    Ok(Heard::Decided(response)) => break Ok(response),
                    Ok(Heard::Edit(Edit::ReplaceBody(bytes))) => {
                        if !body.takes_more() {
                            break Err(Failure::mixed_body());
                        }
                        body.append(&bytes, inspection, &milters.files).await?;
                    }
                    Ok(Heard::Edit(edit)) => {
                        body.end(kept, &milters.files).await?;
                        let edited = lookups.run(|| inspection.edit(&edit, leading_blank)).await;
                        if let Err(limit) = edited {
                            break Err(Failure { fault: Fault::Configuration, text: limit.to_string() });
                        }
                        milters.say(inspection);
                    }
                    Err(failure) => break Err(failure),
                }
            },
        };
        match ended {
            Ok(response) => {
                body.end(kept, &milters.files).await?;
                Ok(response)
            }
            Err(failure) => {
                let response = connection.fail(&failure, &milters.log);
                let half = matches!(body, Replacement::Open(..));
                // Half of a body is worse than none.
                let refused = Some(Response::Refuse("421 4.7.0 Service unavailable".to_owned()));
                Ok(if half && matches!(response, None | Some(Response::Hold)) { refused } else { response })
            }
        }
    }

    /// Tells the filters that this was all.
    pub(super) async fn end(mut self) {
        for connection in &mut self.connections {
            connection.unsent.clear();
            let Connection { filter, unsent, .. } = &mut *connection;
            filter.quit(unsent);
            // Nobody waits for what a filter makes of it.
            let _ = connection.send(self.deadline).await;
        }
    }
}

/// A new body, as it comes from a filter.
enum Replacement {
    None,
    Open(NewBody, Overflow),
    /// It is complete: another change has followed.
    Complete,
}

impl Replacement {
    const fn takes_more(&self) -> bool {
        !matches!(self, Self::Complete)
    }

    async fn append(
        &mut self,
        bytes: &[u8],
        inspection: &mut Inspection,
        files: &TemporaryFiles,
    ) -> io::Result<()> {
        if matches!(self, Self::None) {
            let mut records = Overflow::default();
            let body = NewBody::new(inspection.line_length_limit(), records.end());
            *self = Self::Open(body, records);
        }
        let Self::Open(body, records) = self else { return Ok(()) };
        if inspection.exceeds_limit(records.bytes().saturating_add(bytes.len() as u64)) {
            inspection.refuse_size();
            return Ok(());
        }
        body.bytes(bytes, records.end());
        records.settle(files).await
    }

    async fn end(&mut self, kept: &mut Kept, files: &TemporaryFiles) -> io::Result<()> {
        if let Self::Open(..) = self
            && let Self::Open(body, mut records) = std::mem::replace(self, Self::Complete)
        {
            body.finish(records.end());
            records.settle(files).await?;
            kept.body = Some(records);
        }
        Ok(())
    }
}

/// Why a filter is out of order.
struct Failure {
    fault: Fault,
    /// Goes behind `milter NAME: `.
    text: String,
}

impl Failure {
    fn communication(text: String) -> Self {
        Self { fault: Fault::Communication, text }
    }

    fn mixed_body() -> Self {
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
struct Connection {
    filter: Filter,
    stream: Option<Box<dyn Socket>>,
    /// Packets that wait to be sent with the next that is answered.
    unsent: Vec<u8>,
}

impl Connection {
    /// Connects, and agrees on how to talk.
    async fn open(&mut self, place: &Place, deadline: Instant, log: &Log) -> Result<(), Failure> {
        let service = Arc::clone(&place.service);
        let limit = within(service.connect_timeout, deadline);
        let connected = timeout(limit, connect(&service, &place.addresses)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        match connected {
            Ok(stream) => self.stream = Some(stream),
            // Postfix's line for this one does not begin with "milter NAME".
            Err(error) => {
                let text = format!("connect to Milter service {}: {}", service.name, words(&error));
                log.write(Program::Cleanup, Severity::Warning, &text);
                return Err(Failure::communication(String::new()));
            }
        }
        self.filter.open(&mut self.unsent);
        let limit = within(service.command_timeout, deadline);
        let read = match self.send_within(limit).await {
            Ok(()) => self.packet("SMFIC_OPTNEG", limit).await,
            Err(error) => Err(format!("error writing command: {}", words(&error))),
        };
        let (command, data) = read.map_err(|text| {
            let line = format!("milter {}: {text}", service.name);
            log.write(Program::Cleanup, Severity::Warning, &line);
            Failure::communication("read error in initial handshake".to_owned())
        })?;
        let agreed = self.filter.negotiate(command, &data);
        let agreed = agreed.map_err(|bad| Failure::communication(bad.to_string()))?;
        for oddity in &agreed.oddities {
            let text = format!("milter {}: {oddity}", service.name);
            log.write(Program::Cleanup, Severity::Warning, &text);
        }
        Ok(())
    }

    /// The filter is out of order: says so, and hangs up.
    fn fail(&mut self, failure: &Failure, log: &Log) -> Option<Response> {
        if !failure.text.is_empty() {
            let text = format!("milter {}: {}", self.filter.service().name, failure.text);
            log.notice(Program::Cleanup, &Notice::warning(text));
        }
        self.stream = None;
        self.unsent.clear();
        self.filter.fail(failure.fault)
    }

    /// Sends a step, and waits for the decision if there is one.
    async fn decision(
        &mut self,
        event: Event,
        step: Step,
        deadline: Instant,
    ) -> Result<Option<Response>, Failure> {
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
    async fn answer(&mut self, step: Step, deadline: Instant) -> Result<Heard, Failure> {
        self.send_step(step, deadline).await?;
        let limit = within(self.limit(step), deadline);
        let (command, data) = self.packet(step.name(), limit).await.map_err(Failure::communication)?;
        self.filter.answer(step, command, &data).map_err(|bad| Failure::reply(bad, &data))
    }

    fn limit(&self, step: Step) -> Duration {
        let service = self.filter.service();
        match step {
            Step::Header | Step::EndOfHeader | Step::Body | Step::EndOfBody => service.content_timeout,
            _ => service.command_timeout,
        }
    }

    async fn send_step(&mut self, step: Step, deadline: Instant) -> Result<(), Failure> {
        let sent = self.send_within(within(self.limit(step), deadline)).await;
        sent.map_err(|error| Failure::communication(format!("error writing command: {}", words(&error))))
    }

    async fn send(&mut self, deadline: Instant) -> io::Result<()> {
        self.send_within(within(self.limit(Step::Helo), deadline)).await
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
            Err(format!("can't read {step} reply packet header: {}", words(&error)))
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
        words(error)
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
