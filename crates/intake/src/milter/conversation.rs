//! One message before the filters: each hears of it step by step, and changes it at its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cleanup::milter::{
    Chunks, Event, Fault, Filter, Heard, Inspection, Macros, NewBody, Response, Stage, header_packet,
};
use postfix::milter_protocol::{Edit, Step};
use tokio::time::Instant;

use super::connection::{Connection, FilterError};
use super::{Milters, ResolvedFilter};
use crate::held_message::{HeldMessage, Part};
use crate::spill_buffer::{SpillBuffer, TemporaryFiles};
use crate::tables::Lookups;

/// One message before the filters.
pub(crate) struct Conversation<'a> {
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
    pub(crate) async fn begin(milters: &'a Milters, lookups: &'a Lookups) -> Self {
        let deadline = Instant::now().checked_add(milters.time_max);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        // The semaphore is never closed.
        let turn = milters.turns.acquire().await.ok();
        let filter =
            |resolved: &ResolvedFilter| Filter::new(Arc::clone(&resolved.service), milters.soft_bounce);
        let connections = milters.filters.iter().map(|resolved| Connection::new(filter(resolved)));
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
    pub(crate) async fn envelope(
        &mut self,
        inspection: &mut Inspection,
        recipients: &SpillBuffer,
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
            let resolved = self.milters.filters.get(number)?;
            let connection = self.connections.get_mut(number)?;
            if let Err(failure) = connection.open(resolved, self.deadline, &self.milters.log).await {
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
    pub(crate) async fn content(
        &mut self,
        inspection: &mut Inspection,
        held: &mut HeldMessage,
    ) -> io::Result<()> {
        if let Some(response) = self.all(Step::Data, inspection, &[]).await {
            inspection.apply(Stage::Data, &response);
        }
        if inspection.goes_on() {
            for number in 0..self.connections.len() {
                let response = self.message(number, inspection, held).await?;
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
        held: &mut HeldMessage,
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
        let mut walk = held.walk(inspection.edits.pass(), &milters.files);
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
        self.end_of_body(number, inspection, held, leading_blank).await
    }

    fn is_open(&self, number: usize) -> bool {
        self.connections.get(number).is_some_and(|connection| connection.filter.is_open())
    }

    /// The end of the content: the filter changes the message, and decides.
    async fn end_of_body(
        &mut self,
        number: usize,
        inspection: &mut Inspection,
        held: &mut HeldMessage,
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
                            break Err(FilterError::mixed_body());
                        }
                        body.append(&bytes, inspection, &milters.files).await?;
                    }
                    Ok(Heard::Edit(edit)) => {
                        body.end(held, &milters.files).await?;
                        let edited = lookups.run(|| inspection.edit(&edit, leading_blank)).await;
                        if let Err(limit) = edited {
                            break Err(FilterError { fault: Fault::Configuration, text: limit.to_string() });
                        }
                        milters.say(inspection);
                    }
                    Err(failure) => break Err(failure),
                }
            },
        };
        match ended {
            Ok(response) => {
                body.end(held, &milters.files).await?;
                Ok(response)
            }
            Err(failure) => {
                let response = connection.fail(&failure, &milters.log);
                let half = matches!(body, Replacement::Open(..));
                // Half of a body is worse than none.
                let refused = Some(Response::Refuse("421 4.7.0 Service unavailable".to_owned()));
                Ok(if half && matches!(response, None | Some(Response::Hold(_))) {
                    refused
                } else {
                    response
                })
            }
        }
    }

    /// Tells the filters that this was all.
    pub(crate) async fn end(mut self) {
        for connection in &mut self.connections {
            connection.quit(self.deadline).await;
        }
    }
}

/// A new body, as it comes from a filter.
enum Replacement {
    None,
    Open(NewBody, SpillBuffer),
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
            let mut records = SpillBuffer::default();
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

    async fn end(&mut self, held: &mut HeldMessage, files: &TemporaryFiles) -> io::Result<()> {
        if let Self::Open(..) = self
            && let Self::Open(body, mut records) = std::mem::replace(self, Self::Complete)
        {
            body.finish(records.end());
            records.settle(files).await?;
            held.body = Some(records);
        }
        Ok(())
    }
}
