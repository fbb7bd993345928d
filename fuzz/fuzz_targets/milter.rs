//! What two mail filters answer. Lines for the settings, a letter each, the sender, recipients (blanks between), and one of
//! `milter_header_checks`, what to look for up to `=` and the action; then the content up to a line with a dot; then answers:
//! a byte of length, a command, data of that length.
#![no_main]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cleanup::milter::{
    Chunks, Event, Fault, Filter, Heard, Inspection, MacroNames, Macros, NewBody, Response, Stage,
    header_packet, recipients,
};
use cleanup::{Fate, Finished, Key, LookupFailed, Maps, Names, Options, Outcome, Tables};
use fuzz::message::{Received, begin, check, check_notices, check_reply, give_content, small_limits};
use libfuzzer_sys::fuzz_target;
use postfix::milter_protocol::{
    BODY_CHUNK_BYTES, Defaults, Edit, HEADER_BYTES_MAX, MACROS, QUIT, Service, Step, packet_len,
    parse_services,
};
use postfix::notice::Notice;
use postfix::queue_file::POINTER_RECORD_BYTES;
use postfix::record::Reader;

/// One rule about the headers of filters.
#[derive(Debug)]
struct HeaderChecks {
    needle: Vec<u8>,
    action: Vec<u8>,
}

impl Tables for HeaderChecks {
    fn has(&self, maps: Maps) -> bool {
        maps == Maps::MilterHeaderChecks && !self.action.is_empty()
    }

    fn find(&self, _: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(text) | Key::Part(text)) = key;
        let is_in = self.needle.is_empty() || text.windows(self.needle.len()).any(|part| part == self.needle);
        match &*self.action {
            b"FAIL" if is_in => Err(LookupFailed),
            action => Ok(is_in.then(|| action.to_vec())),
        }
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

/// What filters answer, one after the other.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let ([len, command], rest) = self.0.split_first_chunk()?;
        let (data, behind) = rest.split_at(usize::from(*len).min(rest.len()));
        self.0 = behind;
        Some((*command, data))
    }
}

/// The message that filters are shown.
struct HeldContent {
    content: Vec<u8>,
    header_bytes: usize,
    received: Vec<u8>,
    from: Option<(u64, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl HeldContent {
    /// Headers with all changes, and whether filters see them. They are the same however the records are cut.
    fn headers(&self, inspection: &Inspection) -> Vec<(Vec<u8>, bool)> {
        let mut records = self.content[..self.header_bytes].to_vec();
        if let Some((slot, from)) = &self.from {
            let slot = usize::try_from(*slot).expect("a place in memory");
            if slot < records.len() {
                records.splice(slot..slot + POINTER_RECORD_BYTES, from.iter().copied());
            }
        }
        let mut ends: Vec<usize> = Reader::new(&records).map(|item| item.expect("whole records").0).collect();
        ends.push(records.len());
        let mut passes = [vec![0, records.len()], ends].map(|ends| {
            let mut headers = Vec::new();
            let mut sink = |records, is_seen| headers.push((records, is_seen));
            let mut pass = inspection.edits.pass();
            pass.hidden(&self.received, &mut sink);
            for pair in ends.windows(2) {
                pass.records(&records[pair[0]..pair[1]], &mut sink);
            }
            pass.finish(&mut sink);
            headers
        });
        assert_eq!(passes[0], passes[1], "the headers depend on the split");
        std::mem::take(&mut passes[0])
    }

    fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or(&self.content[self.header_bytes..])
    }

    /// What a filter is shown of the body. It is the same however the records are cut.
    fn chunks(&self) -> Vec<Vec<u8>> {
        let shown = |pieces: &[&[u8]]| {
            let (mut chunks, mut full) = (Chunks::default(), Vec::new());
            for piece in pieces {
                chunks.records(piece, &mut |chunk| full.push(chunk));
            }
            full.extend(chunks.finish());
            full
        };
        let body = self.body();
        let mut ends: Vec<usize> = Reader::new(body).map(|item| item.expect("whole records").0).collect();
        ends.push(body.len());
        let pieces: Vec<&[u8]> = ends.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
        let whole = shown(&[body]);
        assert_eq!(shown(&pieces), whole, "the chunks depend on the split");
        assert!(whole.iter().all(|chunk| chunk.len() <= BODY_CHUNK_BYTES));
        whole
    }
}

/// A message before its filters.
struct Conversation<'a> {
    names: MacroNames,
    filters: Vec<Filter>,
    script: Script<'a>,
    inspection: Inspection,
    recipient: Option<Vec<u8>>,
    /// Recipients that were deleted, and nobody has named since.
    gone: HashSet<Vec<u8>>,
}

impl Conversation<'_> {
    /// Tells a filter of a step. What it asks for in the body's place goes to `kept`.
    fn one(
        &mut self,
        number: usize,
        step: Step,
        data: &[&[u8]],
        kept: Option<&mut HeldContent>,
    ) -> Option<Response> {
        let sender = self.inspection.heard_sender();
        let macros = Macros {
            names: &self.names,
            myhostname: "mx.example.test",
            queue_id: "23A5D9AA1F6",
            sender: Some(&sender),
            recipient: self.recipient.as_deref(),
        };
        let filter = &mut self.filters[number];
        let (was_open, standing, mut sent) = (filter.is_open(), filter.standing(), Vec::new());
        let event = filter.event(step, &macros, data, &mut sent);
        check_packets(&sent, step);
        assert!(was_open || sent.is_empty(), "a filter that has left hears more");
        let response = match event {
            Event::Decided(response) => {
                assert_eq!(response, standing);
                response
            }
            Event::Await => {
                assert!(was_open && !sent.is_empty());
                self.answers(number, step, kept)
            }
        };
        if let Some(Response::Refuse(text)) = &response {
            assert!(text.starts_with(['4', '5']) && text.is_char_boundary(4), "{text:?}");
        }
        response
    }

    fn answers(&mut self, number: usize, step: Step, mut kept: Option<&mut HeldContent>) -> Option<Response> {
        let mut pieces = Vec::new();
        let response = loop {
            let Some((command, data)) = self.script.next() else {
                break self.fail(number, Fault::Communication);
            };
            match self.filters[number].answer(step, command, data) {
                Ok(Heard::More) => {}
                Ok(Heard::Decided(response)) => break response,
                Ok(Heard::Edit(edit)) => {
                    assert_eq!(step, Step::EndOfBody, "a change at a step that allows none");
                    if let Edit::ReplaceBody(bytes) = edit {
                        pieces.push(bytes);
                    } else if self.edit(number, &edit).is_err() {
                        break self.fail(number, Fault::Configuration);
                    }
                }
                Err(bad) => {
                    check_reply(&bad.to_string());
                    break self.fail(number, bad.into());
                }
            }
        };
        if let Some(kept) = &mut kept
            && !pieces.is_empty()
        {
            kept.body = Some(new_body(self.inspection.line_length_limit(), &pieces));
        }
        response
    }

    fn fail(&mut self, number: usize, fault: Fault) -> Option<Response> {
        let response = self.filters[number].fail(fault);
        assert!(!self.filters[number].is_open() && self.filters[number].standing() == response);
        let mut sent = Vec::new();
        self.filters[number].quit(&mut sent);
        assert!(sent.is_empty(), "a word to a filter that is out of order");
        response
    }

    fn edit(&mut self, number: usize, edit: &Edit) -> Result<(), cleanup::milter::LimitExceeded> {
        match edit {
            Edit::DeleteRecipient { address } => {
                let is_plain = |byte: &u8| byte.is_ascii_lowercase() || b"@.".contains(byte);
                let domain = address.split(|byte| *byte == b'@').nth(1).unwrap_or_default();
                if address.iter().all(is_plain)
                    && address.first() != Some(&b'@')
                    && domain.starts_with(b"dest")
                {
                    self.gone.insert(address.clone());
                }
            }
            Edit::AddRecipient { .. } | Edit::ChangeSender { .. } => self.gone.clear(),
            // A rule about it can name a recipient.
            _ => self.gone.clear(),
        }
        let leading_blank = self.filters[number].negotiated().is_some_and(|agreed| agreed.leading_blank());
        let edited = self.inspection.edit(edit, leading_blank);
        check_notices(&self.inspection.take_notices());
        edited
    }

    fn all(&mut self, step: Step, data: &[&[u8]]) -> Option<Response> {
        (0..self.filters.len()).find_map(|number| self.one(number, step, data, None))
    }

    fn apply(&mut self, stage: Stage, response: &Response) {
        let went_on = self.inspection.goes_on();
        self.inspection.apply(stage, response);
        assert!(went_on || !self.inspection.goes_on(), "a decision is taken back");
        check_notices(&self.inspection.take_notices());
        if let Some(refusal) = self.inspection.refusal() {
            check_reply(&refusal.to_string());
        }
    }

    fn envelope(&mut self, records: &[u8]) {
        if let Some(response) = self.all(Step::Connect, &[b"localhost\x004\0\x00127.0.0.1\0"]) {
            self.apply(Stage::Connect, &response);
        } else if let Some(response) = self.all(Step::Helo, &[b"localhost\0"]) {
            self.apply(Stage::Ehlo, &response);
        } else {
            let sender = self.inspection.heard_sender();
            if let Some(response) = self.all(Step::Mail, &[&sender, b"\0"]) {
                self.apply(Stage::Mail, &response);
            }
        }
        let mut heard = Vec::new();
        recipients(records, &mut |address| heard.push(address.to_vec()), &mut Vec::new());
        for address in heard {
            let address = self.inspection.recipient(&address);
            if !self.inspection.goes_on() {
                return;
            }
            self.recipient = Some(address.clone());
            if let Some(response) = self.all(Step::Rcpt, &[&address, b"\0"]) {
                self.apply(Stage::Rcpt, &response);
            }
        }
    }

    fn content(&mut self, kept: &mut HeldContent) {
        if let Some(response) = self.all(Step::Data, &[]) {
            self.apply(Stage::Data, &response);
        }
        for number in 0..self.filters.len() {
            if !self.inspection.goes_on() {
                return;
            }
            if let Some(response) = self.message(number, kept) {
                self.apply(Stage::EndOfMessage, &response);
                return;
            }
        }
    }

    fn message(&mut self, number: usize, kept: &mut HeldContent) -> Option<Response> {
        if !self.filters[number].is_open() {
            return self.filters[number].standing();
        }
        let leading_blank = self.filters[number].negotiated().is_some_and(|agreed| agreed.leading_blank());
        let seen = kept.headers(&self.inspection).into_iter().filter(|(_, is_seen)| *is_seen);
        let packets = seen.filter_map(|(records, _)| header_packet(&records, leading_blank));
        let headers = packets.map(|data| (Step::Header, data));
        let body = kept.chunks().into_iter().map(|chunk| (Step::Body, chunk));
        let steps: Vec<_> = headers.chain([(Step::EndOfHeader, Vec::new())]).chain(body).collect();
        for (step, data) in steps {
            assert!(step != Step::Header || data.len() <= HEADER_BYTES_MAX);
            let response = self.one(number, step, &[&data], None);
            if response.is_some() || !self.filters[number].is_open() {
                return response;
            }
        }
        self.one(number, Step::EndOfBody, &[], Some(kept))
    }
}

/// Lines of a new body. They are the same however it comes.
fn new_body(line_length_limit: usize, pieces: &[Vec<u8>]) -> Vec<u8> {
    let written = |pieces: &[&[u8]]| {
        let mut records = Vec::new();
        let mut body = NewBody::new(line_length_limit, &mut records);
        for piece in pieces {
            body.bytes(piece, &mut records);
        }
        body.finish(&mut records);
        records
    };
    let whole = pieces.concat();
    let records = written(&[&whole]);
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    assert_eq!(written(&pieces), records, "the body depends on the split");
    assert_eq!(written(&fuzz::pieces(&whole)), records, "the body depends on the split");
    for record in Reader::new(&records) {
        let (_, record) = record.expect("whole records");
        assert!(record.data.len() <= line_length_limit);
    }
    records
}

/// What is sent is packets: macros for the step, and the step.
fn check_packets(mut sent: &[u8], step: Step) {
    while !sent.is_empty() {
        let (head, rest) = sent.split_first_chunk().expect("a length");
        let len = packet_len(*head).expect("a packet that the other side takes");
        let (packet, behind) = rest.split_at(len);
        match packet[0] {
            MACROS => assert_eq!(packet[1], step.command()),
            command => assert_eq!(command, step.command()),
        }
        sent = behind;
    }
}

fn service(settings: &[u8]) -> Arc<Service> {
    let has = |letter| settings.contains(&letter);
    let default_action = match () {
        () if has(b'a') => "accept",
        () if has(b'r') => "reject",
        () if has(b'q') => "quarantine",
        () if has(b's') => "shutdown",
        () => "tempfail",
    };
    let second = Duration::from_secs(1);
    let defaults = Defaults {
        connect_timeout: second,
        command_timeout: second,
        content_timeout: second,
        protocol: if has(b'2') { "2" } else { "6" },
        default_action,
    };
    Arc::new(parse_services("inet:localhost:1", defaults).expect("a filter").remove(0))
}

/// What is left of the message goes into a queue file.
fn write(
    conversation: &mut Conversation<'_>,
    kept: &HeldContent,
    records: &[u8],
    mut finished: Finished,
) -> Received {
    let inspection = &mut conversation.inspection;
    let mut content: Vec<u8> =
        kept.headers(inspection).into_iter().flat_map(|(records, _)| records).collect();
    content.extend_from_slice(kept.body());
    let old_copies = finished.sender_copies.bytes.min(records.len());
    inspection.change_envelope(&mut finished);
    let mut written = inspection.new_sender_copies().to_vec();
    let (copies, rest) = records.split_at(old_copies);
    let mut count = 0;
    for (part, is_copy) in [(copies, true), (rest, false)] {
        let mut all = Vec::new();
        recipients(part, &mut |_| {}, &mut all);
        count += inspection.keep_recipients(&all, &mut written);
        if is_copy {
            finished.sender_copies.bytes = written.len();
        }
    }
    written.extend_from_slice(inspection.added_recipients());
    count += inspection.added_count();
    inspection.seal(&mut finished, content.len() as u64, written.len() as u64, count);
    let notices = inspection.take_notices();
    let result = inspection.refusal().cloned().map_or(Ok(finished), Err);
    let outcome = Outcome { notices, envelope_notices: 0, result, is_passed: false };
    Received { outcome, content, recipients: written }
}

/// What else is in an input.
struct Input<'a> {
    settings: &'a [u8],
    sender: &'a [u8],
    recipients: Vec<&'a [u8]>,
    rule: HeaderChecks,
    content: &'a [u8],
    script: Script<'a>,
}

fn input(data: &[u8]) -> Input<'_> {
    let (settings, rest) = fuzz::split_line(data);
    let (sender, rest) = fuzz::split_line(rest);
    let (to, rest) = fuzz::split_line(rest);
    let (rule, rest) = fuzz::split_line(rest);
    let end = rest.windows(3).position(|part| part == b"\n.\n").unwrap_or(rest.len());
    let (needle, action) = match rule.iter().position(|byte| *byte == b'=') {
        Some(at) => (&rule[..at], &rule[at + 1..]),
        None => (rule, &b""[..]),
    };
    Input {
        settings,
        sender,
        recipients: to.split(|byte| *byte == b' ').collect(),
        rule: HeaderChecks { needle: needle.to_vec(), action: action.to_vec() },
        content: &rest[..rest.len().min(end + 1)],
        script: Script(rest.get(end + 3..).unwrap_or_default()),
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = data.first_chunk().map(|head| packet_len(*head));
    let Input { settings, sender, recipients: to, rule, content, mut script } = input(data);
    let has = |letter| settings.contains(&letter);
    let options = Arc::new(Options {
        smtputf8_enable: !has(b'u'),
        smtputf8_autodetect: has(b'U'),
        enable_original_recipient: !has(b'o'),
        always_bcc: if has(b'b') { "archive".to_owned() } else { String::new() },
        ..small_limits()
    });
    let tables: Arc<dyn Tables> = Arc::new(rule);
    let mut message = begin(&options, &tables);
    let content = give_content(&mut message, &[content]);
    let mut records = Vec::new();
    message.sender(sender, &mut records);
    for recipient in &to {
        message.recipient_for_filters(recipient, &mut records);
    }
    let (outcome, inspection) = message.finish_for_filters("127.0.0.1");
    let (Ok(mut finished), Some(inspection)) = (outcome.result, inspection) else { return };

    let service = service(settings);
    let mut filters = Vec::new();
    for _ in 0..2 {
        let mut filter = Filter::new(Arc::clone(&service), has(b'S'));
        let agreed = match has(b'N').then(|| script.next()).flatten() {
            Some((command, data)) => filter.negotiate(command, data).map(|_| ()),
            None => {
                let version = if has(b'2') { 2 } else { 6 };
                filter.negotiate(b'O', [version, 0x1ff, 0].map(u32::to_be_bytes).as_flattened()).map(|_| ())
            }
        };
        if let Err(bad) = agreed {
            check_reply(&bad.to_string());
            filter.fail(Fault::Communication);
        }
        filters.push(filter);
    }
    let mut kept = HeldContent {
        content,
        header_bytes: usize::try_from(inspection.header_bytes()).expect("a place in memory"),
        received: std::mem::take(&mut finished.received),
        from: finished.from.take(),
        body: None,
    };
    let names = MacroNames {
        mail: "i {mail_addr}".to_owned(),
        rcpt: "i {rcpt_addr}".to_owned(),
        ..MacroNames::default()
    };
    let mut conversation =
        Conversation { names, filters, script, inspection, recipient: None, gone: HashSet::new() };
    conversation.envelope(&records);
    if conversation.inspection.goes_on() {
        conversation.content(&mut kept);
    }
    for filter in &conversation.filters {
        let mut sent = Vec::new();
        filter.quit(&mut sent);
        assert!(sent.is_empty() || sent == [0, 0, 0, 1, QUIT]);
    }
    if !conversation.inspection.goes_on() || finished.fate == Fate::Discard {
        return;
    }
    let received = write(&mut conversation, &kept, &records, finished);
    if let Some(read) = check(&options, &received) {
        for (original, address) in read.recipients {
            let original = original.unwrap_or(address);
            assert!(!conversation.gone.contains(&original), "a deleted recipient: {original:?}");
        }
    }
});
