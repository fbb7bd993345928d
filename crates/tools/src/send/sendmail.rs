//! What makes qmqp-send stand in for sendmail(1): for content filters, and for programs that know nothing else.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use super::header;
use super::message::{Envelope, EnvelopeError, Message, MessageError};
use super::server::{DEFAULT_SERVER, Server, ServerError};

/// More of a header is not read to find recipients, in bytes.
pub const HEADER_BYTES_MAX: usize = 1 << 20;

/// Lists servers in the environment, separated by blanks or commas.
const SERVERS: &str = "QMQP_SERVERS";

/// Exit statuses of sysexits(3): pipe(8) knows what they mean to the mail.
const EXIT_UNAVAILABLE: u8 = 69;
const EXIT_TEMPORARY: u8 = 75;

/// Options that sendmail(1) has. With one of them, input and exit status are as there.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of sendmail")]
pub struct SendmailArguments {
    /// Take a line that is a dot alone for a line of the message, not for its end
    #[arg(short = 'i')]
    ignores_dots: bool,

    /// Also send to the addresses in the fields To, Cc and Bcc of the message
    #[arg(short = 't')]
    pub headers: bool,

    /// Relay the message. Has no effect here: no header is added
    #[arg(short = 'G')]
    is_gateway: bool,

    /// Set an option: -oi is -i; others have no effect
    #[arg(short = 'o', value_name = "OPTION", allow_hyphen_values = true)]
    options: Vec<String>,

    /// Choose a mode: -bm, send a message, is what this program does; it has no other mode
    #[arg(id = "mode", short = 'b', value_name = "MODE")]
    mode: Option<String>,

    /// Set the sender's full name. Has no effect: no header is added
    #[arg(short = 'F', value_name = "NAME", allow_hyphen_values = true, hide = true)]
    full_name: Option<OsString>,

    /// Set the type of the body. Has no effect: QMQP has no place for it
    #[arg(short = 'B', value_name = "TYPE", hide = true)]
    body_type: Option<OsString>,
}

/// A mode that sendmail(1) has and this program lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("-b{mode} is not supported: {remedy}")]
pub struct OtherMode {
    mode: String,
    remedy: &'static str,
}

impl SendmailArguments {
    /// Is there one of these options?
    pub const fn is_asked_for(&self) -> bool {
        self.ignores_dots
            || self.headers
            || self.is_gateway
            || self.mode.is_some()
            || !self.options.is_empty()
            || self.full_name.is_some()
            || self.body_type.is_some()
    }

    /// Does a line that is a dot alone end the message?
    pub fn ends_at_dot(&self) -> bool {
        !self.ignores_dots && !self.options.iter().any(|option| option == "i")
    }

    /// # Errors
    /// A mode other than sending a message.
    pub fn check_mode(&self) -> Result<(), OtherMode> {
        let remedy = match self.mode.as_deref() {
            None | Some("m") => return Ok(()),
            Some("s") => {
                "pass the message itself on standard input, without -bs, and the recipients as arguments"
            }
            Some("p") => "qmqpctl queue list shows the queue",
            Some("i") => "there is no alias database; postalias(1) makes those of Postfix",
            Some("d" | "l") => "qmqpd serve runs the server",
            Some(_) => "this program only sends a message",
        };
        Err(OtherMode { mode: self.mode.clone().unwrap_or_default(), remedy })
    }
}

/// Was the program started as `sendmail`?
pub fn is_name_of_program() -> bool {
    let name = std::env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == "sendmail"))
}

/// The command line of that name: `-r` is the sender there, `-m` and `-q` are not ours.
pub fn command(command: clap::Command, is_named_sendmail: bool) -> clap::Command {
    if !is_named_sendmail {
        return command;
    }
    command
        .name("sendmail")
        .mut_arg("recipients_files", |argument| argument.short(None))
        .mut_arg("message", |argument| argument.short(None))
        .mut_arg("quiet", |argument| argument.short(None))
        .mut_arg("sender", |argument| argument.short_alias('r'))
}

/// What sendmail(1) exits with where this program exits with `status`: a pipe transport bounces the mail for any status that it does not know.
pub const fn exit_status(status: u8) -> u8 {
    match status {
        31 => EXIT_UNAVAILABLE,
        crate::EXIT_USAGE => crate::EXIT_USAGE,
        _ => EXIT_TEMPORARY,
    }
}

/// The servers of the environment, or the default one.
///
/// # Errors
/// The environment names a server that is not one.
pub fn default_servers() -> Result<Vec<Server>, ServerError> {
    let listed = std::env::var(SERVERS).unwrap_or_default();
    let servers = listed.split([' ', ',', '\t', '\n']).filter(|item| !item.is_empty());
    let servers = servers.map(str::parse).collect::<Result<Vec<Server>, _>>()?;
    if servers.is_empty() { Ok(vec![DEFAULT_SERVER.parse()?]) } else { Ok(servers) }
}

/// The name of the user who runs the program: the sender, where none is named. The server completes it.
pub fn user() -> OsString {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.map_or_else(|| std::env::var_os("LOGNAME").unwrap_or_default(), |user| user.name.into())
}

/// The sender as an envelope has it: without quotes and brackets. `<>` is the null sender.
pub fn without_quotes(sender: &OsStr) -> OsString {
    let mut found = Vec::new();
    header::addresses(sender.as_bytes(), &mut found);
    OsString::from_vec(found.into_iter().next().unwrap_or_default())
}

/// Adds the recipients of an argument: an address with its quotes, as a pipe transport writes it with the flag `q`, or a list.
///
/// # Errors
/// There is no address in it, or one that cannot be sent.
pub fn add_recipients(argument: &OsStr, envelope: &mut Envelope) -> Result<(), EnvelopeError> {
    let mut found = Vec::new();
    header::addresses(argument.as_bytes(), &mut found);
    if found.is_empty() {
        return Err(EnvelopeError::NoAddress);
    }
    found.iter().try_for_each(|address| envelope.add(address))
}

/// Reads the message up to its first empty line; `None` if that is more than [`HEADER_BYTES_MAX`].
///
/// # Errors
/// The message cannot be read.
pub fn header_of(message: &mut Message) -> Result<Option<Vec<u8>>, MessageError> {
    message.rewind()?;
    let mut header = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let seen = header.len().saturating_sub(1);
        let piece = message.read(&mut buffer)?;
        header.extend_from_slice(piece);
        let unseen = header.get(seen..).unwrap_or_default();
        if let Some(at) = unseen.windows(2).position(|pair| pair == b"\n\n") {
            header.truncate(seen.saturating_add(at));
            return Ok(Some(header));
        }
        if piece.is_empty() {
            return Ok(Some(header));
        }
        if header.len() > HEADER_BYTES_MAX {
            return Ok(None);
        }
    }
}
