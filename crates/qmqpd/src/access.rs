//! Whom we listen to: the two match lists of a service, asked about one client.

use std::sync::Arc;

use lookup::{ClientName, Match, MatchList};
use postfix::notice::Notice;
use tokio::sync::Semaphore;

use crate::client::Client;
use crate::log::lines::SessionLog;
use crate::log::{Log, Program};

/// `qmqpd_authorized_clients` and `debug_peer_list`, opened before the jail.
#[derive(Debug)]
pub struct Access {
    /// Who may send mail.
    pub authorized_clients: Arc<MatchList>,
    /// Whose sessions are shown in the log.
    pub debug_peers: Arc<MatchList>,
    /// `debug_peer_level`.
    pub debug_peer_level: u32,
    /// What the master's `-v` adds for every client.
    pub verbosity: u32,
    /// How many lookups may wait for remote tables at a time, each in a thread of its own.
    pub remote_lookups: Arc<Semaphore>,
}

/// The answer about one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// It may send mail.
    Granted,
    /// It may not.
    Denied,
    /// It may not without a verified name, and the name could not be had for now.
    Undetermined,
    /// The list or one of its tables is broken; why is in the log.
    Broken,
}

impl Access {
    /// May this client send mail?
    pub async fn authorize(&self, client: &Client, log: &SessionLog<'_>) -> Authorization {
        let (answer, notices) = self.ask(&self.authorized_clients, client, log.verbosity()).await;
        notices.iter().for_each(|notice| log.notice(notice));
        match answer {
            Some(Match::Yes) => Authorization::Granted,
            Some(Match::No) => Authorization::Denied,
            Some(Match::Undetermined) => Authorization::Undetermined,
            None => Authorization::Broken,
        }
    }

    /// How much of this client's session goes to the log; a broken list counts as no match.
    pub async fn verbosity(&self, client: &Client, log: &Log) -> u32 {
        let (answer, notices) = self.ask(&self.debug_peers, client, self.verbosity).await;
        notices.iter().for_each(|notice| log.notice(Program::Qmqpd, notice));
        let added = if answer == Some(Match::Yes) { self.debug_peer_level } else { 0 };
        self.verbosity.saturating_add(added)
    }

    /// A table or included file that is no longer what was opened.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        self.authorized_clients.changed().or_else(|| self.debug_peers.changed())
    }

    /// Host and port of each table server in the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        let mut servers = self.authorized_clients.inet_servers();
        servers.extend(self.debug_peers.inet_servers());
        servers
    }

    async fn ask(
        &self,
        list: &Arc<MatchList>,
        client: &Client,
        verbosity: u32,
    ) -> (Option<Match>, Vec<Notice>) {
        if !list.is_remote() {
            return evaluate(list, client, verbosity);
        }
        let Ok(_turn) = self.remote_lookups.acquire().await else { return (None, Vec::new()) };
        let (list, client) = (Arc::clone(list), client.clone());
        let answer = tokio::task::spawn_blocking(move || evaluate(&list, &client, verbosity)).await;
        answer.unwrap_or_else(|error| (None, vec![Notice::error(format!("table lookup: {error}"))]))
    }
}

fn evaluate(list: &MatchList, client: &Client, verbosity: u32) -> (Option<Match>, Vec<Notice>) {
    let name = match client.name.as_str() {
        _ if client.is_unresolved => ClientName::Unresolved,
        "unknown" => ClientName::Unknown,
        name => ClientName::Verified(name),
    };
    let mut notices = Vec::new();
    let client = lookup::Client { name, address: &client.address };
    let answer = list.matches_verbosely(&client, verbosity, &mut notices);
    (answer.ok(), notices)
}
