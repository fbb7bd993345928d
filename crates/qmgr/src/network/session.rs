//! One connection with the dialogue on it: what the machine of `smtp::client` wants is sent and read, within the time
//! that each step has.

use std::time::{Duration, Instant};

use delivery::dialogue::{self, Consequence, Rules, Scope};
use delivery::outcome::{Outcome, Peer, status};
use smtp::client::{Client, Event, Fault, Options, Stage};

use super::connection::{Broken, Stream};
use super::sasl;
use super::settings::{Protocol, Settings, Timeouts, TlsLevel};

/// How long a server that hangs up is listened to for its last words.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the good-bye may take. Its reply is not waited for.
const GOOD_BYE: Duration = Duration::from_secs(5);

/// A session that can take a message, or is on its way there.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    /// How many messages it has been used for, this one included.
    pub(super) uses: u32,
    began: Instant,
    /// What was wrong with a server's replies, for the log.
    pub(super) fault: Option<Fault>,
}

/// The end of a session that did not end well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub(super) stage: Stage,
    pub(super) how: Broken,
}

impl Session {
    pub(super) fn new(stream: Stream, peer: Peer, settings: &Settings) -> Self {
        let mut options = match settings.protocol {
            Protocol::Lmtp => Options::lmtp(&settings.hello_name),
            Protocol::Smtp | Protocol::Qmqp => Options::smtp(&settings.hello_name),
        };
        options.hidden.clone_from(&settings.hidden);
        options.extended = settings.extended;
        Self { client: Client::new(options), stream, peer, uses: 0, began: Instant::now(), fault: None }
    }

    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    /// What happens next. A reply, from its first byte to its last, has the time of its stage.
    pub(super) async fn event(&mut self, timeouts: &Timeouts) -> Result<Event, Loss> {
        let mut stage = self.client.stage();
        let mut since = Instant::now();
        let mut input = Vec::new();
        loop {
            if let Some(event) = self.client.next_event() {
                return Ok(event);
            }
            if self.client.stage() != stage {
                stage = self.client.stage();
                since = Instant::now();
            }
            let limit = timeouts.at(stage);
            let loss = |how| Loss { stage, how };
            let output = self.client.take_output();
            if !output.is_empty() {
                self.stream.write(limit, &output).await.map_err(loss)?;
            }
            let left = limit.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(loss(Broken::TimedOut));
            }
            input.clear();
            self.stream.read(left, &mut input).await.map_err(loss)?;
            if let Err(fault) = self.client.receive(&input) {
                self.fault = Some(fault);
                return Err(loss(Broken::Lost));
            }
        }
    }

    /// From the connection to a session that takes mail: greeting, EHLO, log-in.
    pub(super) async fn establish(
        &mut self,
        settings: &Settings,
        password: Option<&sasl::Password>,
    ) -> Result<(), Box<Consequence>> {
        loop {
            match self.event(&settings.timeouts).await {
                Err(loss) => return Err(self.lost(loss, settings)),
                Ok(Event::Ready) => break,
                Ok(Event::Refused { stage, reply }) => return Err(self.refused(stage, &reply, settings)),
                Ok(Event::Unsolicited(reply)) => return Err(self.refused(Stage::Idle, &reply, settings)),
                Ok(_) => {}
            }
        }
        if settings.tls == TlsLevel::Mandatory {
            return Err(self.without_tls());
        }
        match password {
            Some(password) if !self.client.extensions().mechanisms.is_empty() => {
                sasl::log_in(self, settings, password).await
            }
            _ => Ok(()),
        }
    }

    /// TLS is a must, and this agent cannot do it: the mail waits.
    fn without_tls(&self) -> Box<Consequence> {
        let words = if self.client.extensions().start_tls {
            (
                status(4, 7, 5),
                format!("TLS is required for host {}, but this agent has no TLS yet", self.peer),
            )
        } else {
            (status(4, 7, 4), format!("TLS is required, but was not offered by host {}", self.peer))
        };
        handshake_failure(Outcome::failed(words.0, words.1))
    }

    pub(super) fn lost(&self, loss: Loss, settings: &Settings) -> Box<Consequence> {
        let trouble = match loss.how {
            Broken::Lost => dialogue::Trouble::Lost,
            Broken::TimedOut => dialogue::Trouble::TimedOut,
        };
        Box::new(dialogue::consequence(loss.stage, &trouble, &self.peer, rules(settings)))
    }

    pub(super) fn refused(
        &self,
        stage: Stage,
        reply: &smtp::reply::Reply,
        settings: &Settings,
    ) -> Box<Consequence> {
        let trouble = dialogue::Trouble::Refused(reply);
        Box::new(dialogue::consequence(stage, &trouble, &self.peer, rules(settings)))
    }

    /// A connection broke while content was sent: what the server said before it hung up, if it did.
    pub(super) async fn hear_last_words(&mut self) {
        let mut input = Vec::new();
        let until = Instant::now();
        while self.client.early_failure().is_none() {
            let left = LAST_WORDS.saturating_sub(until.elapsed());
            input.clear();
            if left.is_zero() || self.stream.read(left, &mut input).await.is_err() {
                return;
            }
            if self.client.receive(&input).is_err() {
                return;
            }
        }
    }

    /// Sends QUIT and does not wait for its reply (Postfix's `smtp_skip_quit_response`).
    pub(super) async fn quit(&mut self) {
        self.client.quit();
        let output = self.client.take_output();
        let _it_is_over = self.stream.write(GOOD_BYE, &output).await;
    }
}

/// A failure before mail could be sent that another host may not have.
pub(super) fn handshake_failure(outcome: Outcome) -> Box<Consequence> {
    let is_temporary = outcome.status.class != 5;
    Box::new(Consequence {
        scope: Scope::Message,
        tries_next_host: true,
        outcome,
        blames_destination: is_temporary,
        asks_for_less: false,
    })
}

const fn rules(settings: &Settings) -> Rules {
    Rules { skip_5xx_greeting: settings.skip_5xx_greeting }
}
