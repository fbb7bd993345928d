//! What stands in which frame.

use std::borrow::Cow;

use delivery::outcome::{Diagnostic, Fate, Outcome, Status};
use postfix::queue_id::QueueId;
use spool::Timestamp;

use super::InvalidFrame;
use super::field::{Reader, Writer};
use crate::request::{Answer, Blame, Client, Finished, Recipient, RecipientOutcome, Request, Returned};

const REQUEST: u8 = 1;
const RECIPIENT: u8 = 2;
const FINISHED: u8 = 3;

/// The words behind `status=`, by their number in a frame.
const WORDS: [&str; 4] = ["sent", "deferred", "bounced", "SOFTBOUNCE"];

/// The frame of a request, its length included.
///
/// # Errors
/// When it would be too long.
pub fn encode_request(request: &Request) -> Result<Vec<u8>, InvalidFrame> {
    let mut out = Writer::new(REQUEST);
    out.number(request.number);
    out.bytes(request.transport.as_bytes());
    out.bytes(request.nexthop.as_bytes());
    out.flag(request.by_relayhost);
    out.bytes(request.queue_id.as_bytes());
    out.bytes(&request.sender);
    for time in [request.arrival, request.active] {
        out.number(time.seconds);
        out.number(u64::from(time.microseconds));
    }
    out.number(request.content.start);
    out.number(request.content.end);
    out.number(request.size_bytes);
    out.flag(request.is_eight_bit);
    out.flag(request.is_smtp_utf8);
    out.bytes(&request.envelope_id);
    out.byte(match request.returned {
        None => 0,
        Some(Returned::Whole) => 1,
        Some(Returned::Headers) => 2,
    });
    let client = &request.client;
    for text in [
        &client.name,
        &client.address,
        &client.port,
        &client.helo,
        &client.protocol,
        &client.sasl_method,
        &client.sasl_username,
        &client.sasl_sender,
        &client.log_ident,
        &client.rewrite_context,
    ] {
        out.bytes(text);
    }
    out.flag(request.is_flushed);
    out.number(request.recipients.len() as u64);
    for recipient in &request.recipients {
        out.number(recipient.offset);
        out.bytes(&recipient.address);
        out.bytes(&recipient.original);
        out.bytes(&recipient.dsn_original);
        out.number(u64::from(recipient.notify));
    }
    out.finish()
}

/// Reads a request: the bytes behind the length.
///
/// # Errors
/// When the bytes are not a request.
pub fn decode_request(bytes: &[u8]) -> Result<Request, InvalidFrame> {
    let mut from = Reader(bytes);
    if from.byte()? != REQUEST {
        return Err(InvalidFrame::Field("kind"));
    }
    let request = Request {
        number: from.number()?,
        transport: from.text()?,
        nexthop: from.text()?,
        by_relayhost: from.flag()?,
        queue_id: QueueId::parse(&from.text()?).ok_or(InvalidFrame::Field("queue ID"))?,
        sender: from.bytes()?,
        arrival: timestamp(&mut from)?,
        active: timestamp(&mut from)?,
        content: from.number()?..from.number()?,
        size_bytes: from.number()?,
        is_eight_bit: from.flag()?,
        is_smtp_utf8: from.flag()?,
        envelope_id: from.bytes()?,
        returned: match from.byte()? {
            0 => None,
            1 => Some(Returned::Whole),
            2 => Some(Returned::Headers),
            _ => return Err(InvalidFrame::Field("RET")),
        },
        client: Client {
            name: from.bytes()?,
            address: from.bytes()?,
            port: from.bytes()?,
            helo: from.bytes()?,
            protocol: from.bytes()?,
            sasl_method: from.bytes()?,
            sasl_username: from.bytes()?,
            sasl_sender: from.bytes()?,
            log_ident: from.bytes()?,
            rewrite_context: from.bytes()?,
        },
        is_flushed: from.flag()?,
        recipients: recipients(&mut from)?,
    };
    from.end()?;
    Ok(request)
}

fn timestamp(from: &mut Reader<'_>) -> Result<Timestamp, InvalidFrame> {
    let seconds = from.number()?;
    let microseconds = u32::try_from(from.number()?).ok().filter(|count| *count < 1_000_000);
    Ok(Timestamp { seconds, microseconds: microseconds.ok_or(InvalidFrame::Field("time"))? })
}

fn recipients(from: &mut Reader<'_>) -> Result<Vec<Recipient>, InvalidFrame> {
    // No place is reserved by the number: a frame ends where it ends.
    let mut recipients = Vec::new();
    for _ in 0..from.number()? {
        recipients.push(Recipient {
            offset: from.number()?,
            address: from.bytes()?,
            original: from.bytes()?,
            dsn_original: from.bytes()?,
            notify: u32::try_from(from.number()?).map_err(|_| InvalidFrame::Field("NOTIFY"))?,
        });
    }
    Ok(recipients)
}

/// The frame of an answer, its length included.
///
/// # Errors
/// When it would be too long.
pub fn encode_answer(answer: &Answer) -> Result<Vec<u8>, InvalidFrame> {
    match answer {
        Answer::Recipient(recipient) => {
            let mut out = Writer::new(RECIPIENT);
            out.number(recipient.number);
            out.number(recipient.index as u64);
            let outcome = &recipient.outcome;
            out.byte(match outcome.fate {
                Fate::Sent => 0,
                Fate::Deferred => 1,
                Fate::Bounced => 2,
            });
            let word = WORDS.iter().position(|word| *word == outcome.word);
            out.byte(word.and_then(|at| u8::try_from(at).ok()).ok_or(InvalidFrame::Field("word"))?);
            put_reason(
                &mut out,
                outcome.status,
                &outcome.reason,
                outcome.diagnostic.as_ref(),
                outcome.remote_mta.as_deref(),
            );
            out.flag(recipient.is_dsn_passed_on);
            out.finish()
        }
        Answer::Finished(finished) => {
            let mut out = Writer::new(FINISHED);
            out.number(finished.number);
            out.flag(finished.blame.is_some());
            if let Some(blame) = &finished.blame {
                let remote_mta = blame.remote_mta.as_deref();
                put_reason(&mut out, blame.status, &blame.reason, blame.diagnostic.as_ref(), remote_mta);
            }
            out.flag(finished.is_congested);
            out.flag(finished.is_content_damaged);
            out.finish()
        }
    }
}

fn put_reason(
    out: &mut Writer,
    status: Status,
    reason: &str,
    diagnostic: Option<&Diagnostic>,
    remote_mta: Option<&str>,
) {
    out.byte(status.class);
    out.number(u64::from(status.subject));
    out.number(u64::from(status.detail));
    out.bytes(reason.as_bytes());
    out.optional(diagnostic.map(|diagnostic| diagnostic.kind.as_ref()));
    out.optional(diagnostic.map(|diagnostic| diagnostic.text.as_str()));
    out.optional(remote_mta);
}

type Reason = (Status, String, Option<Diagnostic>, Option<String>);

fn take_reason(from: &mut Reader<'_>) -> Result<Reason, InvalidFrame> {
    let class = from.byte()?;
    let mut part = || {
        let number = from.number()?;
        u16::try_from(number).map_err(|_| InvalidFrame::Field("status"))
    };
    let status = Status { class, subject: part()?, detail: part()? };
    let reason = from.text()?;
    let diagnostic = match (from.optional()?, from.optional()?) {
        (Some(kind), Some(text)) => Some(Diagnostic { kind: Cow::Owned(kind), text }),
        (None, None) => None,
        _ => return Err(InvalidFrame::Field("diagnostic")),
    };
    Ok((status, reason, diagnostic, from.optional()?))
}

/// Reads an answer: the bytes behind the length.
///
/// # Errors
/// When the bytes are not an answer.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, InvalidFrame> {
    let mut from = Reader(bytes);
    let answer = match from.byte()? {
        RECIPIENT => Answer::Recipient(recipient_outcome(&mut from)?),
        FINISHED => {
            let number = from.number()?;
            let blame = if from.flag()? {
                let (status, reason, diagnostic, remote_mta) = take_reason(&mut from)?;
                Some(Blame { status, reason, diagnostic, remote_mta })
            } else {
                None
            };
            let (is_congested, is_content_damaged) = (from.flag()?, from.flag()?);
            Answer::Finished(Finished { number, blame, is_congested, is_content_damaged })
        }
        _ => return Err(InvalidFrame::Field("kind")),
    };
    from.end()?;
    Ok(answer)
}

fn recipient_outcome(from: &mut Reader<'_>) -> Result<RecipientOutcome, InvalidFrame> {
    let number = from.number()?;
    let index = usize::try_from(from.number()?).map_err(|_| InvalidFrame::Field("index"))?;
    let fate = match from.byte()? {
        0 => Fate::Sent,
        1 => Fate::Deferred,
        2 => Fate::Bounced,
        _ => return Err(InvalidFrame::Field("fate")),
    };
    let word = WORDS.get(usize::from(from.byte()?)).copied().ok_or(InvalidFrame::Field("word"))?;
    let (status, reason, diagnostic, remote_mta) = take_reason(from)?;
    let outcome = Outcome { fate, word, status, reason, diagnostic, remote_mta };
    Ok(RecipientOutcome { number, index, outcome, is_dsn_passed_on: from.flag()? })
}
