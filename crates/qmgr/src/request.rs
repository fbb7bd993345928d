//! What the queue manager asks of a delivery agent, and what the agent answers. Plain data; [`crate::wire`] carries it.

use std::ops::Range;

use delivery::outcome::Outcome;
use postfix::queue_id::QueueId;
use spool::Timestamp;

/// A delivery: some recipients of one message, to one next-hop. The open queue file comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names the request in the answers. No two requests on the way to an agent have the same one.
    pub number: u64,
    /// The service of master.cf, as routing named it: `smtp`, `relay`, `lmtp`, …
    pub transport: String,
    /// Where the service is to deliver to, as tables and parameters write it (`delivery::nexthop` reads it).
    pub nexthop: String,
    /// Was the next-hop chosen by `relayhost`? A relay host that cannot be found is this system's fault: what would
    /// bounce is deferred.
    pub by_relayhost: bool,
    /// The message's queue ID.
    pub queue_id: QueueId,
    /// The envelope sender, unquoted; empty for the null sender. VERP is expanded.
    pub sender: Vec<u8>,
    /// When the message arrived.
    pub arrival: Timestamp,
    /// When the queue manager took it, for `delays=`.
    pub active: Timestamp,
    /// The content in the queue file: the offset of its first record, and that of the record `X` that ends it. A pointer
    /// of a mail filter can lead outside, and back.
    pub content: Range<u64>,
    /// The size of the content in bytes, as `SIZE=` announces it.
    pub size_bytes: u64,
    /// Does the content, as far as it is known, hold bytes of 128 and more (`A encoding=8bit`)?
    pub is_eight_bit: bool,
    /// Must the next server know SMTPUTF8 (bits 1, 2 and 4 of the send options: requested, headers, sender)?
    pub is_smtp_utf8: bool,
    /// The sender's name for the envelope, if there is one.
    pub envelope_id: Vec<u8>,
    /// How much of the message a report is to return, if the sender said.
    pub returned: Option<Returned>,
    /// Who brought the message, for XFORWARD and for the flags of pipe(8).
    pub client: Client,
    /// Who gets it. Not empty.
    pub recipients: Vec<Recipient>,
    /// Did an operator ask for an attempt now? Then what an agent remembers of dead hosts does not count.
    pub is_flushed: bool,
}

/// How much of a message its report returns (RFC 3461).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// All of it.
    Whole,
    /// Its headers.
    Headers,
}

/// Who brought the message, as the queue file says it; empty or `unknown` where it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// `log_client_name`.
    pub name: Vec<u8>,
    /// `log_client_address`.
    pub address: Vec<u8>,
    /// `log_client_port`.
    pub port: Vec<u8>,
    /// `log_helo_name`.
    pub helo: Vec<u8>,
    /// `log_protocol_name`.
    pub protocol: Vec<u8>,
    /// `sasl_method`.
    pub sasl_method: Vec<u8>,
    /// `sasl_username`.
    pub sasl_username: Vec<u8>,
    /// `sasl_sender`.
    pub sasl_sender: Vec<u8>,
    /// `log_ident`: the message's name on the way here.
    pub log_ident: Vec<u8>,
    /// `rewrite_context`: `local` or `remote`.
    pub rewrite_context: Vec<u8>,
}

/// A recipient of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Where its record stands in the queue file. An agent has no use for it but to tell recipients apart.
    pub offset: u64,
    /// The address to deliver to, unquoted.
    pub address: Vec<u8>,
    /// The address as it was received; empty where the queue file does not say.
    pub original: Vec<u8>,
    /// The original recipient with its type, for `ORCPT=`; empty without.
    pub dsn_original: Vec<u8>,
    /// When the sender wants a report: 1 never, 2 success, 4 failure, 8 delay, added up; 0: he did not say.
    pub notify: u32,
}

/// What became of a recipient. It is said once for each, as soon as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientOutcome {
    /// [`Request::number`].
    pub number: u64,
    /// Which of [`Request::recipients`].
    pub index: usize,
    /// What became of it. The agent has logged it.
    pub outcome: Outcome,
    /// Did the next system promise to report success itself (DSN)? Where not, the queue manager does it as `relayed`.
    pub is_dsn_passed_on: bool,
}

/// The delivery is over. Recipients without an outcome are tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// [`Request::number`].
    pub number: u64,
    /// Nothing, unless the destination is to blame: then further mail for it waits.
    pub blame: Option<Blame>,
    /// Did the destination work and ask for less (421 or 450 to MAIL, RCPT or DATA)?
    pub is_congested: bool,
    /// Is the content of the queue file damaged? The queue manager puts the message aside.
    pub is_content_damaged: bool,
}

impl Finished {
    /// A delivery that ended well, whatever became of the recipients.
    #[must_use]
    pub const fn well(number: u64) -> Self {
        Self { number, blame: None, is_congested: false, is_content_damaged: false }
    }
}

/// Why a destination is to blame. Mail that waits for it is deferred with these words behind `delivery temporarily
/// suspended: `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// The status, of class 4.
    pub status: delivery::outcome::Status,
    /// The words, in one line.
    pub reason: String,
    /// What the other side said.
    pub diagnostic: Option<delivery::outcome::Diagnostic>,
    /// The host that said it.
    pub remote_mta: Option<String>,
}

/// What an agent sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One recipient.
    Recipient(RecipientOutcome),
    /// The end of a delivery.
    Finished(Finished),
}
