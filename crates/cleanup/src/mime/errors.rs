//! The MIME errors that a message can have.

use postfix::settings::words::EndOfHeader;

use crate::options::Options;

/// One thing that is wrong; the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MimeError {
    Nesting,
    EightBitHeader,
    EightBitBody,
    EncodingDomain,
    NonEmptyEndOfHeader,
}

impl MimeError {
    const ALL: [Self; 5] = [
        Self::Nesting,
        Self::EightBitHeader,
        Self::EightBitBody,
        Self::EncodingDomain,
        Self::NonEmptyEndOfHeader,
    ];

    /// The words of Postfix, for log and reply.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Nesting => "MIME nesting exceeds safety limit",
            Self::EightBitHeader => "improper use of 8-bit data in message header",
            Self::EightBitBody => "improper use of 8-bit data in message body",
            Self::EncodingDomain => "invalid message/* or multipart/* encoding domain",
            Self::NonEmptyEndOfHeader => "primary header was terminated with non-empty line",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Errors(u8);

impl Errors {
    /// `true` if it was not there.
    pub(crate) const fn add(&mut self, error: MimeError) -> bool {
        let is_new = !self.has(error);
        self.0 |= error.bit();
        is_new
    }

    pub(crate) const fn has(self, error: MimeError) -> bool {
        self.0 & error.bit() != 0
    }

    pub(crate) const fn without(self, error: MimeError) -> Self {
        Self(self.0 & !error.bit())
    }

    /// The one that is told to the client.
    pub(crate) fn gravest(self) -> Option<MimeError> {
        MimeError::ALL.into_iter().find(|&error| self.has(error))
    }
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Strictness {
    pub(crate) headers_are_7bit: bool,
    pub(crate) body_is_7bit: bool,
    pub(crate) encoding_domain: bool,
    pub(crate) nesting: bool,
    pub(crate) end_of_header_is_empty: bool,
}

impl Strictness {
    /// As the operator wants it. Nesting matters where something else is looked at, if only by header rules.
    pub(crate) fn new(options: &Options, has_header_checks: bool) -> Self {
        if options.disable_mime_input_processing || !options.header_body_checks {
            return Self::default();
        }
        let headers_are_7bit = options.strict_8bitmime || options.strict_7bit_headers;
        let body_is_7bit = options.strict_8bitmime || options.strict_8bitmime_body;
        let encoding_domain = options.strict_mime_encoding_domain;
        Self {
            headers_are_7bit,
            body_is_7bit,
            encoding_domain,
            nesting: headers_are_7bit || body_is_7bit || encoding_domain || has_header_checks,
            end_of_header_is_empty: options.non_empty_end_of_header_action != EndOfHeader::FixQuietly,
        }
    }
}
