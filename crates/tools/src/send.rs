//! qmqp-send(1): sends one message to the first of several QMQP servers that accepts it.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use qmqp::client::Reply;
use qmqp::reply::{Status, printable};

pub mod header;
pub mod message;
pub mod sendmail;
pub mod server;
pub mod transaction;

use message::{Envelope, EnvelopeError, Message, MessageError};
pub use server::DEFAULT_SERVER;
use server::Server;
use transaction::{Ending, Timeouts, TransactionError};

/// Send a message to a QMQP server and print its reply
#[derive(Debug, Parser)]
#[command(name = "qmqp-send", version, after_help = EXIT_STATUS)]
pub struct Arguments {
    /// Set the envelope sender; '' is the null sender. Required, but for sendmail
    #[arg(short = 'f', long = "sender", value_name = "SENDER", allow_hyphen_values = true)]
    sender: Option<OsString>,

    /// Send to HOST, HOST:PORT, `[IPV6]:PORT` or unix:PATH; the default port is 628. May be repeated: the next server is
    /// tried when it is certain that this one has not accepted the message. The default is what QMQP_SERVERS lists in the
    /// environment, or 127.0.0.1:6628
    #[arg(short = 's', long = "server", value_name = "SERVER")]
    servers: Vec<Server>,

    /// Read more recipients from FILE, one per line; - is standard input (then --message must name a file)
    #[arg(short = 'r', long = "recipients-file", value_name = "FILE")]
    recipients_files: Vec<PathBuf>,

    /// Read the message from FILE instead of standard input
    #[arg(short = 'm', long = "message", value_name = "FILE")]
    message: Option<PathBuf>,

    /// Limit the time for connecting, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    connect_timeout: u64,

    /// Limit the time for each write, and for the reply, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Print nothing; use the exit status
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Report each step on standard error
    #[arg(short, long)]
    verbose: bool,

    /// Options of sendmail(1)
    #[command(flatten)]
    sendmail: sendmail::SendmailArguments,

    /// Send to these envelope recipients
    #[arg(value_name = "RECIPIENT", required_unless_present_any = ["recipients_files", "mode", "headers"])]
    recipients: Vec<OsString>,
}

const EXIT_STATUS: &str = "Exit status, as in qmail-qmqpc: 0 accepted; 31 permanently rejected; 71 temporarily rejected; 72 connection \
timed out; 73 connection failed; 74 connection lost; 53, 54 and 55 error in a temporary file, in the input, in a server's \
name. 64: wrong command line. With an option of sendmail, or under that name: 0 accepted; 69 permanently rejected; 75 try again \
later; 64 wrong command line.";

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let is_named_sendmail = sendmail::is_name_of_program();
    let parsed = sendmail::command(Arguments::command(), is_named_sendmail)
        .try_get_matches()
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match crate::parsed(parsed) {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    let is_sendmail = is_named_sendmail || arguments.sendmail.is_asked_for();
    let name = if is_named_sendmail { "sendmail" } else { "qmqp-send" };
    let is_quiet = arguments.quiet || is_sendmail && !arguments.verbose;
    match send(arguments, is_sendmail, name) {
        Ok(text) => {
            if !is_quiet {
                // The message is accepted, even if this cannot be printed.
                let _ = writeln!(std::io::stdout(), "{text}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            if !is_quiet || is_sendmail {
                let _ = writeln!(std::io::stderr(), "{name}: {error}");
            }
            ExitCode::from(if is_sendmail {
                sendmail::exit_status(error.exit_status())
            } else {
                error.exit_status()
            })
        }
    }
}

/// Why the message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The message or a list of recipients cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// An address cannot be sent, or there are none or too many.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Both inputs would come from standard input.
    #[error("standard input cannot contain both the message and the recipients: name a file with --message")]
    OneInput,
    /// The list of servers is empty.
    #[error("no server: name one with --server")]
    NoServer,
    /// No envelope sender.
    #[error("no envelope sender: name it with --sender, '' for the null sender")]
    NoSender,
    /// A server in the environment.
    #[error("QMQP_SERVERS: {0}")]
    Server(#[from] server::ServerError),
    /// A mode of sendmail(1) that this program does not have.
    #[error(transparent)]
    Mode(#[from] sendmail::OtherMode),
    /// A header too large to look for recipients in it.
    #[error(
        "the header has more than {} bytes: name the recipients on the command line",
        sendmail::HEADER_BYTES_MAX
    )]
    Header,
    /// The server replied, but not K.
    #[error("{server} {}: {text}", if *.status == Status::Permanent { "permanently rejected the message" } else { "temporarily rejected the message" })]
    Refused {
        /// The server.
        server: String,
        /// Z or D.
        status: Status,
        /// The text of the reply.
        text: String,
    },
    /// The last server that was tried did not reply.
    #[error(transparent)]
    Failed(#[from] TransactionError),
}

impl SendError {
    /// The exit status of qmail-qmqpc for the same event, where it has one.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Refused { status: Status::Permanent, .. } => 31,
            Self::Refused { .. } => 71,
            Self::Message(MessageError::Spool(_)) => 53,
            Self::Message(_) => 54,
            Self::Envelope(_)
            | Self::OneInput
            | Self::NoServer
            | Self::NoSender
            | Self::Server(_)
            | Self::Mode(_)
            | Self::Header => crate::EXIT_USAGE,
            Self::Failed(failure) => failure.exit_status(),
        }
    }

    /// Whether another server may be tried: this one has neither accepted nor permanently rejected the message.
    fn leaves_the_message_to_others(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status == Status::Temporary,
            Self::Failed(failure) => failure.is_certain(),
            _ => false,
        }
    }
}

/// Tries one server after the other and returns the text of the reply that accepts the message.
///
/// The next server is tried only while it is certain that no server has accepted the message: there was no connection, it
/// broke before the last byte was sent, or the reply is `Z`. When a server got the last byte and did not reply, the next
/// one is not tried, since that could deliver the message twice.
fn send(arguments: Arguments, is_sendmail: bool, name: &str) -> Result<String, SendError> {
    arguments.sendmail.check_mode()?;
    let from_stdin = |path: &PathBuf| path.as_os_str() == "-";
    if arguments.message.is_none() && arguments.recipients_files.iter().any(from_stdin) {
        return Err(SendError::OneInput);
    }
    let servers = if arguments.servers.is_empty() { sendmail::default_servers()? } else { arguments.servers };
    let sender = match arguments.sender {
        Some(sender) if is_sendmail => sendmail::without_quotes(&sender),
        Some(sender) => sender,
        None if is_sendmail => sendmail::user(),
        None => return Err(SendError::NoSender),
    };
    let mut envelope = Envelope::new(sender.as_bytes())?;
    for recipient in &arguments.recipients {
        if is_sendmail {
            sendmail::add_recipients(recipient, &mut envelope)?;
        } else {
            envelope.add(recipient.as_bytes())?;
        }
    }
    for path in &arguments.recipients_files {
        message::read_recipients(path, &mut envelope)??;
    }
    let path = arguments.message.as_deref();
    let mut message = if is_sendmail {
        Message::open_text(path, arguments.sendmail.ends_at_dot())?
    } else {
        Message::open(path)?
    };
    if arguments.sendmail.headers {
        for recipient in header::recipients(&sendmail::header_of(&mut message)?.ok_or(SendError::Header)?) {
            envelope.add(&recipient)?;
        }
    }
    if envelope.recipient_count() == 0 {
        return Err(EnvelopeError::NoRecipients.into());
    }
    let request = envelope.request(message.bytes()).map_err(EnvelopeError::from)?;
    let timeouts = Timeouts {
        connect: Duration::from_secs(arguments.connect_timeout),
        progress: Duration::from_secs(arguments.timeout),
    };
    let say = |text: &str| {
        if arguments.verbose {
            let _ = writeln!(std::io::stderr(), "{name}: {text}");
        }
    };
    let recipients = envelope.recipient_count();
    say(&format!("{} bytes of content, recipients: {recipients}", message.bytes()));

    let mut last_error = SendError::NoServer;
    for (index, server) in servers.iter().enumerate() {
        if index > 0 {
            say(&last_error.to_string());
        }
        say(&format!("{server}: connecting"));
        match transaction::attempt(server, request, &envelope, &mut message, timeouts)? {
            Ending::Reply(Reply { status: Status::Queued, text }) => return Ok(printable(&text)),
            Ending::Reply(Reply { status, text }) => {
                last_error =
                    SendError::Refused { server: server.to_string(), status, text: printable(&text) };
            }
            Ending::Failed(failure) => last_error = SendError::Failed(failure),
        }
        if !last_error.leaves_the_message_to_others() {
            break;
        }
    }
    Err(last_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_default_server_is_one() {
        assert_eq!(
            DEFAULT_SERVER.parse::<Server>().map(|server| server.to_string()).as_deref(),
            Ok(DEFAULT_SERVER)
        );
    }
}
