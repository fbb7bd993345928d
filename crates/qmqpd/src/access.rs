//! Whom we listen to: the two match lists of a service, asked about one client.

use std::sync::Arc;
use std::time::Duration;

use lookup::{Match, MatchList};
use postfix::notice::Notice;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::client::Client;
use daemon::log::{Log, Program};

/// How many look-ups of one list may wait for remote tables at a time, each in a thread of its own.
pub const REMOTE_LOOKUPS_MAX: usize = 64;

/// How long a client waits to be among these: short enough that it is still there to hear that there was no room.
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);

/// `qmqpd_authorized_clients` and `debug_peer_list`, opened before the jail.
#[derive(Debug)]
pub struct Access {
    /// Who may send mail.
    pub authorized_clients: List,
    /// Whose sessions are shown in the log.
    pub debug_peers: List,
    /// To whom the limits of one client do not apply; `None` is all who may send.
    pub exceptions: Option<List>,
    /// `debug_peer_level`.
    pub debug_peer_level: u32,
    /// What the master's `-v` adds for every client.
    pub verbosity: u32,
}

/// A match list, and the turns of those for whom its table servers are asked: each list has its own, so that what one
/// server does not answer holds up no other list.
#[derive(Debug)]
pub struct List {
    list: Arc<MatchList>,
    turns: Semaphore,
}

impl List {
    /// With [`REMOTE_LOOKUPS_MAX`] turns.
    #[must_use]
    pub fn new(list: MatchList) -> Self {
        Self { list: Arc::new(list), turns: Semaphore::new(REMOTE_LOOKUPS_MAX) }
    }
}

/// The answer about one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// It may send mail.
    Granted,
    /// It may not.
    Denied,
    /// It may not without a verified name, and the name is not there: for now, or yet.
    Undetermined,
    /// So many wait for table servers that its turn did not come.
    Busy,
    /// The list or one of its tables is broken; why is in the log.
    Broken,
}

/// What a list says about one client.
#[derive(Debug)]
pub struct Answer {
    /// May it send mail?
    pub authorization: Authorization,
    /// What is to be logged about it.
    pub notices: Vec<Notice>,
}

impl Access {
    /// May this client send mail?
    pub async fn authorize(&self, client: &Client, verbosity: u32) -> Answer {
        self.authorized_clients.ask(client, verbosity).await
    }

    /// The same, if no table server has to be asked.
    #[must_use]
    pub fn authorize_at_once(&self, client: &Client, verbosity: u32) -> Option<Answer> {
        self.authorized_clients.ask_at_once(client, verbosity)
    }

    /// Whether `qmqpd_client_event_limit_exceptions` names all who may send.
    #[must_use]
    pub const fn all_authorized_are_exempt(&self) -> bool {
        self.exceptions.is_none()
    }

    /// Whether the limits do not apply to this client, if not because it may send; a broken list counts as no match.
    pub async fn is_exempt(&self, client: &Client) -> bool {
        match &self.exceptions {
            Some(list) => list.ask(client, 0).await.authorization == Authorization::Granted,
            None => false,
        }
    }

    /// How much of this client's session goes to the log; a broken list counts as no match, and no session waits for its
    /// client's name on its account.
    pub async fn verbosity(&self, client: &Client, log: &Log) -> u32 {
        let Answer { authorization, notices } = self.debug_peers.ask(client, self.verbosity).await;
        notices.iter().for_each(|notice| log.notice(Program::Service, notice));
        let added = if authorization == Authorization::Granted { self.debug_peer_level } else { 0 };
        self.verbosity.saturating_add(added)
    }

    /// A table or included file that is no longer what was opened.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        self.lists().find_map(|list| list.list.changed())
    }

    /// Host and port of each table server in the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        self.lists().flat_map(|list| list.list.inet_servers()).collect()
    }

    fn lists(&self) -> impl Iterator<Item = &List> {
        [&self.authorized_clients, &self.debug_peers].into_iter().chain(&self.exceptions)
    }
}

impl List {
    /// Its patterns in their order. Only when one comes that asks a server, the rest is left to a thread that may wait.
    async fn ask(&self, client: &Client, verbosity: u32) -> Answer {
        match self.ask_at_once(client, verbosity) {
            Some(answer) => answer,
            None => self.ask_servers(client, verbosity).await,
        }
    }

    fn ask_at_once(&self, client: &Client, verbosity: u32) -> Option<Answer> {
        let mut notices = Vec::new();
        let asked = lookup::Client { name: client.name_for_lists(), address: &client.address };
        let authorization = match self.list.matches_at_once(&asked, verbosity, &mut notices) {
            Ok(answer) => answer?.into(),
            Err(_) => Authorization::Broken,
        };
        Some(Answer { authorization, notices })
    }

    async fn ask_servers(&self, client: &Client, verbosity: u32) -> Answer {
        let Ok(Ok(_turn)) = timeout(TURN_WAIT_MAX, self.turns.acquire()).await else {
            return Answer { authorization: Authorization::Busy, notices: Vec::new() };
        };
        let (list, client) = (Arc::clone(&self.list), client.clone());
        let answer = tokio::task::spawn_blocking(move || {
            let mut notices = Vec::new();
            let asked = lookup::Client { name: client.name_for_lists(), address: &client.address };
            let answer = list.matches_verbosely(&asked, verbosity, &mut notices);
            Answer { authorization: answer.map_or(Authorization::Broken, Authorization::from), notices }
        });
        answer.await.unwrap_or_else(|error| Answer {
            authorization: Authorization::Broken,
            notices: vec![Notice::error(format!("table lookup: {error}"))],
        })
    }
}

impl From<Match> for Authorization {
    fn from(answer: Match) -> Self {
        match answer {
            Match::Yes => Self::Granted,
            Match::No => Self::Denied,
            Match::Undetermined => Self::Undetermined,
        }
    }
}
