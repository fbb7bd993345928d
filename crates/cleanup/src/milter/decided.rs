//! The decisions so far of filters, and of rules about their headers, for one message.

/// A sender that filters have set in place of the client's.
#[derive(Debug, Default)]
pub(super) struct NewSender {
    pub(super) address: Vec<u8>,
    /// Records of the recipients that it and those before it have brought with them, the last first.
    pub(super) copies: Vec<u8>,
    /// `full` or `hdrs`, as a number.
    pub(super) returned: Option<u8>,
    pub(super) envelope_id: Option<Vec<u8>>,
}

/// What rules about headers of filters have decided about the message.
#[derive(Debug, Default)]
pub(super) struct HeaderRules {
    /// `transport:next-hop`
    pub(super) filter: Option<Vec<u8>>,
    /// The address that takes the place of all recipients.
    pub(super) redirect: Option<Vec<u8>>,
    /// A rule has decided: no rule looks at further headers.
    pub(super) is_over: bool,
}
