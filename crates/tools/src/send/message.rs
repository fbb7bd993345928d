//! What is sent: a message whose length is known before the first byte goes out, and an envelope.

use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use qmqp::client::{Request, TooLong};
use qmqp::netstring;
use rustix::fs::OFlags;
use tempfile::SpooledTempFile;

use super::header::Text;

/// As much of a message that comes through a pipe is held in memory; the rest goes to an unlinked temporary file. In bytes.
pub const MEMORY_BYTES_MAX: usize = 1 << 20;

/// Why the message or a list of recipients cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// A named file.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The program was started with standard input closed.
    #[error("standard input is closed: pass the message there, or name a file with --message")]
    Closed,
    /// The temporary file for a message that comes through a pipe.
    #[error("cannot write the message to a temporary file (TMPDIR names the directory): {0}")]
    Spool(io::Error),
    /// The file ended before the length that was announced to the server.
    #[error("the message became shorter while it was being sent")]
    Shrunk,
}

/// A message that can be read again for every server.
#[derive(Debug)]
pub struct Message {
    source: Source,
    path: String,
    bytes: u64,
}

#[derive(Debug)]
enum Source {
    /// A regular file is sent from where it stands.
    File { file: File, start: u64 },
    /// Anything else must be read whole to know its length.
    Spooled(SpooledTempFile),
}

impl Message {
    /// Opens the message: the file at `path`, or standard input from its current position.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: Option<&Path>) -> Result<Self, MessageError> {
        let (mut file, name) = Self::source(path)?;
        let failed = |source| MessageError::File { path: name.clone(), source };
        let metadata = file.metadata().map_err(failed)?;
        // Files of the kernel's own say that they are empty.
        if metadata.is_file() && metadata.len() > 0 {
            let start = file.stream_position().map_err(failed)?;
            let bytes = metadata.len().saturating_sub(start);
            return Ok(Self { source: Source::File { file, start }, path: name, bytes });
        }
        Self::spool(file, name, |piece, spooled| io::Write::write_all(spooled, piece).map(|()| false))
    }

    /// Opens the message as sendmail(1) does: a line may end in CR LF, and, if it `ends_at_dot`, a line that is a dot alone
    /// ends the message.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open_text(path: Option<&Path>, ends_at_dot: bool) -> Result<Self, MessageError> {
        let (file, name) = Self::source(path)?;
        let mut text = Text::new(ends_at_dot);
        let mut out = Vec::new();
        let mut message = Self::spool(file, name, |piece, spooled| {
            out.clear();
            let is_over = text.feed(piece, &mut out);
            io::Write::write_all(spooled, &out).map(|()| is_over)
        })?;
        // What the last line held back.
        if let Source::Spooled(spooled) = &mut message.source {
            out.clear();
            text.finish(&mut out);
            io::Write::write_all(spooled, &out).map_err(MessageError::Spool)?;
            message.bytes = spooled.stream_position().map_err(MessageError::Spool)?;
        }
        Ok(message)
    }

    fn source(path: Option<&Path>) -> Result<(File, String), MessageError> {
        let name = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        let failed = |source| MessageError::File { path: name.clone(), source };
        let file = match path {
            Some(path) => File::open(path).map_err(failed)?,
            None => File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?),
        };
        let metadata = file.metadata().map_err(failed)?;
        if path.is_none() && stands_in_for_closed(&file, &metadata).map_err(failed)? {
            return Err(MessageError::Closed);
        }
        Ok((file, name))
    }

    /// Copies all of `file`, or what `write` makes of it until it says that the message is over.
    fn spool(
        mut file: File,
        name: String,
        mut write: impl FnMut(&[u8], &mut SpooledTempFile) -> io::Result<bool>,
    ) -> Result<Self, MessageError> {
        let mut spooled = SpooledTempFile::new(MEMORY_BYTES_MAX);
        let mut buffer = vec![0; 65_536];
        loop {
            let piece = read_some(&mut file, &mut buffer)
                .map_err(|source| MessageError::File { path: name.clone(), source })?;
            let is_over = piece.is_empty() || write(piece, &mut spooled).map_err(MessageError::Spool)?;
            if is_over {
                let bytes = spooled.stream_position().map_err(MessageError::Spool)?;
                return Ok(Self { source: Source::Spooled(spooled), path: name, bytes });
            }
        }
    }

    /// The length of the content.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Back to the first byte.
    ///
    /// # Errors
    /// When the file cannot be positioned.
    pub fn rewind(&mut self) -> Result<(), MessageError> {
        match &mut self.source {
            Source::File { file, start } => file
                .seek(SeekFrom::Start(*start))
                .map(|_| ())
                .map_err(|source| MessageError::File { path: self.path.clone(), source }),
            Source::Spooled(file) => file.rewind().map_err(MessageError::Spool),
        }
    }

    /// Reads the next piece into `buffer`; empty at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b [u8], MessageError> {
        match &mut self.source {
            Source::File { file, .. } => read_some(file, buffer)
                .map_err(|source| MessageError::File { path: self.path.clone(), source }),
            Source::Spooled(file) => read_some(file, buffer).map_err(MessageError::Spool),
        }
    }
}

/// Whether this is what a Rust program finds in the place of a closed standard input: the null device, opened for reading
/// *and* writing. A shell opens it for reading alone, and means an empty message.
fn stands_in_for_closed(file: &File, metadata: &Metadata) -> io::Result<bool> {
    let null = rustix::fs::makedev(1, 3);
    let is_null = metadata.file_type().is_char_device() && metadata.rdev() == null;
    Ok(is_null && rustix::fs::fcntl_getfl(file)?.contains(OFlags::RDWR))
}

fn read_some<'b>(from: &mut impl Read, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    loop {
        match from.read(buffer) {
            Ok(count) => return Ok(buffer.get(..count).unwrap_or(&[])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Why an envelope cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Mail systems misread such an address.
    #[error("the address {0:?} contains a NUL, CR or LF: remove it")]
    Address(String),
    /// A recipient without a letter: an unset variable, most likely. (Servers may take it for one of their own.)
    #[error("a recipient is empty: is a variable unset?")]
    NoAddress,
    /// All the lists of recipients are empty.
    #[error("no recipients: no line of a recipients file, or with -t no field of the header, has an address")]
    NoRecipients,
    /// See there.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// Sender and recipients, encoded as they are sent. All recipients are held in memory.
#[derive(Debug)]
pub struct Envelope {
    /// The sizes so far, without content.
    sizes: Request,
    netstrings: Vec<u8>,
    recipient_count: usize,
}

impl Envelope {
    /// An envelope without recipients.
    ///
    /// # Errors
    /// When the sender is not fit to be sent.
    pub fn new(sender: &[u8]) -> Result<Self, EnvelopeError> {
        let sizes = Request::new(0, checked(sender)?)?;
        let mut netstrings = Vec::new();
        netstring::encode(sender, &mut netstrings);
        Ok(Self { sizes, netstrings, recipient_count: 0 })
    }

    /// Adds a recipient.
    ///
    /// # Errors
    /// When the address is not fit to be sent.
    pub fn add(&mut self, recipient: &[u8]) -> Result<(), EnvelopeError> {
        if recipient.is_empty() {
            return Err(EnvelopeError::NoAddress);
        }
        self.sizes = self.sizes.with_recipient(checked(recipient)?)?;
        self.recipient_count = self.recipient_count.saturating_add(1);
        netstring::encode(recipient, &mut self.netstrings);
        Ok(())
    }

    /// How many recipients there are.
    #[must_use]
    pub const fn recipient_count(&self) -> usize {
        self.recipient_count
    }

    /// The sizes of a request with this envelope and so much content.
    ///
    /// # Errors
    /// When they add up to more than can be expressed.
    pub fn request(&self, content_bytes: u64) -> Result<Request, TooLong> {
        self.sizes.with_content(content_bytes)
    }

    /// The sender and the recipients as netstrings, one after the other.
    #[must_use]
    pub fn netstrings(&self) -> &[u8] {
        &self.netstrings
    }
}

/// The length of an address that is fit to be sent.
fn checked(address: &[u8]) -> Result<u64, EnvelopeError> {
    if address.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
        return Err(EnvelopeError::Address(String::from_utf8_lossy(address).into_owned()));
    }
    Ok(u64::try_from(address.len()).unwrap_or(u64::MAX))
}

/// Adds the recipients that stand in the file at `path`, or in standard input if that is `-`: one a line, which may end in
/// CR LF; empty lines are skipped. The outer result is about the file, the inner about an address in it.
///
/// # Errors
/// When the file cannot be read, or an address in it is not fit to be sent.
pub fn read_recipients(
    path: &Path,
    envelope: &mut Envelope,
) -> Result<Result<(), EnvelopeError>, MessageError> {
    let failed = |source| MessageError::File { path: path.display().to_string(), source };
    let mut lines: BufReader<Box<dyn Read>> = BufReader::new(match path.as_os_str().to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path).map_err(failed)?),
    });
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(Ok(()));
        }
        let address = line.strip_suffix(b"\n").unwrap_or(&line);
        let address = address.strip_suffix(b"\r").unwrap_or(address);
        if address.is_empty() {
            continue;
        }
        if let Err(error) = envelope.add(address) {
            return Ok(Err(error));
        }
    }
}
