//! The dialogue with one filter: what is sent at each step, and what the reply means.

use std::sync::Arc;

use postfix::milter_protocol::{
    BadNegotiation, BadReply, DefaultAction, Edit, Negotiated, QUIT, Reply, Service, Step, encode_packet,
};

use super::macros::Macros;

/// What a filter, or its being out of order, decides about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// Into the `hold` queue, for this reason; empty if the filter gave none. Postfix logs it since 3.10.
    Hold(String),
    /// Taken, and dropped.
    Discard,
    /// Rejected; begins with an SMTP code that says whether permanently.
    Refuse(String),
}

/// What is to be done after a step was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing is awaited: this is the decision.
    Decided(Option<Response>),
    /// Send what was written, then read answers until one decides.
    Await,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// There are more answers to come.
    More,
    /// A change, and more answers to come.
    Edit(Edit),
    /// The step is over.
    Decided(Option<Response>),
}

/// How a filter went out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be reached, has gone, or makes no sense.
    Communication,
    /// It asks for something impossible.
    Configuration,
}

impl From<BadReply> for Fault {
    fn from(bad: BadReply) -> Self {
        if bad.is_configuration() { Self::Configuration } else { Self::Communication }
    }
}

/// Where the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterState {
    /// Nothing has been agreed on.
    New,
    /// At work.
    Open,
    /// It wants no more of this message.
    MessageAccepted,
    /// It wants no more of this connection, which is closed.
    ConnectionDecided,
    /// Out of order.
    Failed,
}

/// One filter and one message.
#[derive(Debug)]
pub struct Filter {
    service: Arc<Service>,
    state: FilterState,
    negotiated: Option<Negotiated>,
    /// What is answered for it from here on.
    standing: Option<Response>,
    /// Steps of this kind are left out until another one comes.
    skipped: Option<Step>,
    soft_bounce: bool,
}

impl Filter {
    /// A filter that was not contacted yet. `soft_bounce`: its permanent rejections become temporary ones.
    #[must_use]
    pub const fn new(service: Arc<Service>, soft_bounce: bool) -> Self {
        Self {
            service,
            state: FilterState::New,
            negotiated: None,
            standing: None,
            skipped: None,
            soft_bounce,
        }
    }

    /// Where it is, and how long it may take.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Appends the packet that opens the connection.
    pub fn open(&self, out: &mut Vec<u8>) {
        self.service.offer.encode(out);
    }

    /// Takes the answer to it.
    ///
    /// # Errors
    /// The filter cannot be worked with: say so, and [`Filter::fail`].
    pub fn negotiate(&mut self, command: u8, data: &[u8]) -> Result<&Negotiated, BadNegotiation> {
        let negotiated = Negotiated::parse(self.service.offer, command, data)?;
        self.state = FilterState::Open;
        Ok(self.negotiated.insert(negotiated))
    }

    /// What was agreed on, if anything.
    #[must_use]
    pub const fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// Whether the filter still takes part in the message: not once it has a standing answer, such as a quarantine.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == FilterState::Open && self.standing.is_none()
    }

    /// What is answered for the filter without asking it.
    #[must_use]
    pub fn standing(&self) -> Option<Response> {
        self.standing.clone()
    }

    /// Writes what a step sends: macros, and the step with its data.
    pub fn event(&mut self, step: Step, macros: &Macros<'_>, data: &[&[u8]], out: &mut Vec<u8>) -> Event {
        let decided = Event::Decided(self.standing.clone());
        let Some(negotiated) = &self.negotiated else { return decided };
        if !self.is_open() || !negotiated.has(step) || self.skipped == Some(step) {
            return decided;
        }
        self.skipped = None;
        macros.encode(step, negotiated.macros(step), out);
        if !negotiated.wants(step) {
            return decided;
        }
        encode_packet(out, step.command(), data);
        if negotiated.answers(step) { Event::Await } else { decided }
    }

    /// Takes an answer to a step.
    ///
    /// # Errors
    /// It makes no sense: say so, and [`Filter::fail`].
    pub fn answer(&mut self, step: Step, command: u8, data: &[u8]) -> Result<Heard, BadReply> {
        let reply = Reply::parse(step, command, data)?;
        Ok(match reply {
            Reply::Progress => Heard::More,
            Reply::Edit(edit) => Heard::Edit(edit),
            Reply::Quarantine(reason) => {
                self.standing = Some(Response::Hold(reason));
                Heard::More
            }
            Reply::Continue => Heard::Decided(self.standing.clone()),
            Reply::Skip => {
                self.skipped = Some(step);
                Heard::Decided(self.standing.clone())
            }
            Reply::Accept => {
                self.state = if step.is_connection() {
                    FilterState::ConnectionDecided
                } else {
                    FilterState::MessageAccepted
                };
                Heard::Decided(self.standing.clone())
            }
            // Postfix warns of it and goes on: there is nothing to discard yet.
            Reply::Discard if step.is_connection() => Heard::Decided(self.standing.clone()),
            Reply::Discard => {
                self.state = FilterState::MessageAccepted;
                Heard::Decided(Some(Response::Discard))
            }
            Reply::Reject => self.refuse(step, "550 5.7.1 Command rejected".to_owned()),
            Reply::Tempfail => self.refuse(step, UNAVAILABLE.to_owned()),
            Reply::ReplyCode(text) => {
                let text = if self.soft_bounce { softened(&text) } else { text };
                self.refuse(step, text)
            }
            Reply::Shutdown => {
                self.state = FilterState::ConnectionDecided;
                let response = Some(Response::Refuse("421 4.7.0 Service unavailable".to_owned()));
                self.standing.clone_from(&response);
                Heard::Decided(response)
            }
        })
    }

    fn refuse(&mut self, step: Step, text: String) -> Heard {
        let response = Some(Response::Refuse(text));
        if step.is_connection() {
            self.state = FilterState::ConnectionDecided;
            self.standing.clone_from(&response);
        }
        Heard::Decided(response)
    }

    /// The filter is out of order; what happens to the message then.
    pub fn fail(&mut self, fault: Fault) -> Option<Response> {
        self.state = FilterState::Failed;
        self.standing = match (self.service.default_action, fault) {
            (DefaultAction::Accept, _) => None,
            (DefaultAction::Quarantine, _) => Some(Response::Hold("default_action".to_owned())),
            (DefaultAction::Shutdown, Fault::Configuration) => {
                Some(Response::Refuse("421 4.3.5 Server configuration problem - try again later".to_owned()))
            }
            (_, Fault::Configuration) => {
                Some(Response::Refuse("451 4.3.5 Server configuration problem - try again later".to_owned()))
            }
            (DefaultAction::Reject, Fault::Communication) => {
                Some(Response::Refuse("550 5.5.0 Service unavailable".to_owned()))
            }
            (DefaultAction::Tempfail, Fault::Communication) => Some(Response::Refuse(UNAVAILABLE.to_owned())),
            (DefaultAction::Shutdown, Fault::Communication) => {
                Some(Response::Refuse("421 4.7.1 Service unavailable - try again later".to_owned()))
            }
        };
        self.standing.clone()
    }

    /// Appends the packet that ends the conversation, where there still is one.
    pub fn quit(&self, out: &mut Vec<u8>) {
        if matches!(self.state, FilterState::Open | FilterState::MessageAccepted) {
            encode_packet(out, QUIT, &[]);
        }
    }
}

const UNAVAILABLE: &str = "451 4.7.1 Service unavailable - try again later";

/// A permanent rejection as a temporary one, line by line.
fn softened(text: &str) -> String {
    let soften = |line: &str| match line.strip_prefix('5') {
        Some(rest) => match rest.split_at_checked(3) {
            Some((code, status)) if status.starts_with('5') => {
                format!("4{code}4{}", status.get(1..).unwrap_or_default())
            }
            _ => format!("4{rest}"),
        },
        None => line.to_owned(),
    };
    text.split("\r\n").map(soften).collect::<Vec<_>>().join("\r\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postfix::milter_protocol::{Defaults, parse_services};
    use proptest::prelude::*;

    use super::super::macros::MacroNames;
    use super::*;

    fn filter(action: &str) -> Filter {
        let defaults = Defaults {
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(1),
            content_timeout: Duration::from_secs(1),
            protocol: "6",
            default_action: action,
        };
        let service = parse_services("inet:localhost:1", defaults).unwrap().remove(0);
        Filter::new(Arc::new(service), false)
    }

    fn open(options: u32) -> Filter {
        let mut filter = filter("tempfail");
        let answer = [6, 0x1ff, options].map(u32::to_be_bytes);
        filter.negotiate(b'O', answer.as_flattened()).unwrap();
        filter
    }

    fn event(filter: &mut Filter, step: Step) -> (Event, Vec<u8>) {
        let names = MacroNames { mail: "i {mail_addr} {none}".to_owned(), ..MacroNames::default() };
        let macros =
            Macros { names: &names, myhostname: "mx", queue_id: "ID", sender: Some(b"a@b"), recipient: None };
        let mut out = Vec::new();
        let event = filter.event(step, &macros, &[b"x\0"], &mut out);
        (event, out)
    }

    #[test]
    fn a_step_is_macros_and_the_step() {
        let (awaited, sent) = event(&mut open(0), Step::Mail);
        assert_eq!(awaited, Event::Await);
        assert_eq!(sent, b"\0\0\0\x17DMi\0ID\0{mail_addr}\0a@b\0\0\0\0\x03Mx\0");
        // Macros are sent even when the step is not.
        let (awaited, sent) = event(&mut open(Step::Mail.unwanted()), Step::Mail);
        assert_eq!((awaited, sent.len()), (Event::Decided(None), 27));
        let (awaited, sent) = event(&mut open(Step::Mail.unanswered()), Step::Mail);
        assert_eq!((awaited, sent.len()), (Event::Decided(None), 34));
    }

    #[test]
    fn a_skipped_step_comes_back_after_another() {
        let mut filter = open(0);
        assert_eq!(filter.answer(Step::Body, b's', b""), Ok(Heard::Decided(None)));
        assert_eq!(event(&mut filter, Step::Body), (Event::Decided(None), vec![]));
        assert_eq!(event(&mut filter, Step::EndOfBody).0, Event::Await);
        assert_eq!(event(&mut filter, Step::Body).0, Event::Await);
    }

    #[test]
    fn what_is_said_of_the_connection_stands() {
        let mut filter = open(0);
        let refused = Some(Response::Refuse("550 5.7.1 Command rejected".to_owned()));
        assert_eq!(filter.answer(Step::Helo, b'r', b""), Ok(Heard::Decided(refused.clone())));
        assert_eq!(event(&mut filter, Step::Mail), (Event::Decided(refused), vec![]));
        let mut out = Vec::new();
        filter.quit(&mut out);
        assert_eq!(out, b"");
    }

    #[test]
    fn an_agreement_comes_before_all_steps() {
        let mut new = filter("tempfail");
        assert!(new.negotiated().is_none() && !new.is_open());
        let mut sent = Vec::new();
        new.open(&mut sent);
        assert_eq!(sent.get(..5), Some(&b"\0\0\0\x0dO"[..]));
        assert_eq!(sent.len(), 17);
        assert_eq!(event(&mut new, Step::Connect), (Event::Decided(None), vec![]));
        assert!(open(0).negotiated().is_some_and(|agreed| agreed.wants(Step::Mail)));
        assert!(open(0).is_open());
    }

    #[test]
    fn nothing_is_discarded_before_there_is_a_message() {
        let mut filter = open(0);
        assert_eq!(filter.answer(Step::Connect, b'd', b""), Ok(Heard::Decided(None)));
        assert_eq!(filter.answer(Step::Helo, b'd', b""), Ok(Heard::Decided(None)));
        assert!(filter.is_open());
        assert_eq!(filter.answer(Step::Mail, b'd', b""), Ok(Heard::Decided(Some(Response::Discard))));
        assert!(!filter.is_open());
    }

    #[test]
    fn what_is_answered_for_a_filter_stays_known() {
        let mut filter = open(0);
        assert_eq!(filter.standing(), None);
        filter.answer(Step::Mail, b'q', b"why\0").unwrap();
        assert_eq!(filter.standing(), Some(Response::Hold("why".to_owned())));
    }

    #[test]
    fn quarantine_waits_for_the_decision_and_stands() {
        let mut filter = open(0);
        assert_eq!(filter.answer(Step::Mail, b'q', b"why\0"), Ok(Heard::More));
        assert_eq!(
            filter.answer(Step::Mail, b'c', b""),
            Ok(Heard::Decided(Some(Response::Hold("why".to_owned()))))
        );
        assert_eq!(
            event(&mut filter, Step::Rcpt),
            (Event::Decided(Some(Response::Hold("why".to_owned()))), vec![])
        );
        let mut out = Vec::new();
        filter.quit(&mut out);
        assert_eq!(out, b"\0\0\0\x01Q");
    }

    #[test]
    fn default_actions() {
        let code = |action: &str, fault| match filter(action).fail(fault) {
            Some(Response::Refuse(text)) => text.get(..9).unwrap().to_owned(),
            Some(Response::Hold(_)) => "hold".to_owned(),
            Some(Response::Discard) => "discard".to_owned(),
            None => String::new(),
        };
        for (action, communication, configuration) in [
            ("accept", "", ""),
            ("reject", "550 5.5.0", "451 4.3.5"),
            ("tempfail", "451 4.7.1", "451 4.3.5"),
            ("shutdown", "421 4.7.1", "421 4.3.5"),
            ("quarantine", "hold", "hold"),
        ] {
            assert_eq!(code(action, Fault::Communication), communication);
            assert_eq!(code(action, Fault::Configuration), configuration);
        }
    }

    #[test]
    fn soft_bounce_softens_each_line() {
        assert_eq!(softened("550-5.7.1 a\r\n550 b"), "450-4.7.1 a\r\n450 b");
        assert_eq!(softened("451 4.7.1 a"), "451 4.7.1 a");
    }

    proptest! {
        #[test]
        fn any_answers_lead_to_a_decision_or_to_more(
            answers in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..20),
        ) {
            let mut filter = open(0);
            for (command, data) in answers {
                if let Err(bad) = filter.answer(Step::EndOfBody, command, &data) {
                    filter.fail(bad.into());
                    prop_assert!(!filter.is_open());
                }
            }
        }
    }
}
