//! Match lists: is this client one of those?
//!
//! Patterns are tried from left to right, each first with the client's name and then with its address; the first hit
//! decides. So an earlier match hides a later error, as in Postfix.

use postfix::notice::Notice;

use crate::address::Address;
use crate::error::{LookupError, OpenError};
use crate::host::{self, ParentStyle};
use crate::list::{Kind, List, Listed, Pattern};
use crate::options::Options;
use crate::table::Call;
use postfix::text::fold;

/// A client, as far as a match list wants to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its name.
    pub name: ClientName<'a>,
    /// Its address as text, IPv6 without brackets; `unknown` if it is gone.
    pub address: &'a str,
}

/// What the resolver said about the name of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientName<'a> {
    /// Reverse and forward lookup agree; in any letter case.
    Verified(&'a str),
    /// There is no (agreeing) name. The pattern `unknown` matches.
    Unknown,
    /// A lookup failed, and may succeed later. The pattern `unknown` matches.
    Unresolved,
    /// The lookup is still under way. No pattern matches by the name, and no table is asked for it.
    Pending,
}

/// The answer of a match list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The client is on the list.
    Yes,
    /// It is not.
    No,
    /// The name of the client is [`ClientName::Unresolved`] or [`ClientName::Pending`], and whether it is on the list
    /// depends on that name. Postfix answers as if the client had no name.
    Undetermined,
}

/// Why an evaluation ended without an answer.
enum Stop {
    Failed(LookupError),
    /// A table that talks over a socket is next.
    Remote,
}

impl From<LookupError> for Stop {
    fn from(error: LookupError) -> Self {
        Self::Failed(error)
    }
}

/// A match list, such as qmqpd_authorized_clients or debug_peer_list. Safe to share between threads; evaluating it
/// blocks when [`is_remote`](Self::is_remote).
pub struct MatchList {
    list: List,
    style: ParentStyle,
    options: Options,
}

impl std::fmt::Debug for MatchList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MatchList").field("parameter", &self.list.parameter).finish_non_exhaustive()
    }
}

impl MatchList {
    /// Reads the patterns, their `/file`s and tables. `patterns` is the value of the parameter with `$name` expanded.
    ///
    /// A table or file that cannot be opened is no error here: it gives an `error: ` notice, and each evaluation that
    /// reaches it fails.
    ///
    /// # Errors
    /// What is fatal in Postfix; see [`OpenError`].
    pub fn open(
        parameter: &'static str,
        patterns: &str,
        options: &Options,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, OpenError> {
        let style = parent_style(parameter, options, notices)?;
        let list = List::open(parameter, patterns, options, notices)?;
        Ok(Self { list, style, options: options.clone() })
    }

    /// Whether the client is on the list.
    ///
    /// # Errors
    /// A pattern or table that is reached before any hit cannot be evaluated. The warnings of Postfix about it are in
    /// `notices`.
    pub fn matches(&self, client: &Client<'_>, notices: &mut Vec<Notice>) -> Result<Match, LookupError> {
        self.matches_verbosely(client, 0, notices)
    }

    /// As [`matches`](Self::matches); adds what Postfix logs at a verbosity of 1 (each comparison) and 2 (each key).
    ///
    /// # Errors
    /// As for [`matches`](Self::matches).
    pub fn matches_verbosely(
        &self,
        client: &Client<'_>,
        verbosity: u32,
        notices: &mut Vec<Notice>,
    ) -> Result<Match, LookupError> {
        match self.evaluate(client, verbosity, true, notices) {
            Ok(answer) => Ok(answer),
            Err(Stop::Failed(error)) => Err(error),
            // It stops there only on request.
            Err(Stop::Remote) => Ok(Match::No),
        }
    }

    /// As [`matches_verbosely`](Self::matches_verbosely), but it never blocks: `None` if a table that talks over a socket
    /// would have to be asked before the answer is known. What is in `notices` then comes again.
    ///
    /// # Errors
    /// As for [`matches`](Self::matches).
    pub fn matches_at_once(
        &self,
        client: &Client<'_>,
        verbosity: u32,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Match>, LookupError> {
        match self.evaluate(client, verbosity, false, notices) {
            Ok(answer) => Ok(Some(answer)),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Remote) => Ok(None),
        }
    }

    fn evaluate(
        &self,
        client: &Client<'_>,
        verbosity: u32,
        asks_remote: bool,
        notices: &mut Vec<Notice>,
    ) -> Result<Match, Stop> {
        let given_name = match client.name {
            ClientName::Verified(name) => name,
            ClientName::Unknown | ClientName::Unresolved | ClientName::Pending => "unknown",
        };
        let mut question = Question {
            list: self,
            name: fold(given_name.as_bytes(), self.list.unicode),
            address: Address::new(fold(client.address.as_bytes(), self.list.unicode)),
            unresolved: matches!(client.name, ClientName::Unresolved | ClientName::Pending),
            is_pending: client.name == ClientName::Pending,
            asks_remote,
            verbosity,
            call: Call { notices, deadline: self.options.deadline(), budget: None },
        };
        let decided = question.decide()?;
        if verbosity >= 1 && decided.is_none() {
            for text in [given_name, client.address] {
                notices.push(Notice::info(format!("match_list_match: {text}: no match")));
            }
        }
        Ok(decided.unwrap_or(Match::No))
    }

    /// Whether some table talks over a socket, so that an evaluation can take long;
    /// [`matches_at_once`](Self::matches_at_once) tells whether it does for one client.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.list.is_remote()
    }

    /// Host and port of each server that the tables of the list reach through the network.
    #[must_use]
    pub fn inet_servers(&self) -> Vec<(String, u16)> {
        self.list.inet_servers()
    }

    /// Which table or included file is no longer what was opened, if its change is not seen anyway. A table is called
    /// what Postfix calls it when it logs `table … has changed`: `type:name(0,lock|utf8_request)`.
    #[must_use]
    pub fn changed(&self) -> Option<String> {
        self.list.changed()
    }

    /// Whether the list has no pattern, so that no client is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.patterns.is_empty()
    }
}

/// Whether `example.com` stands for its subdomains in this list.
pub(crate) fn parent_style(
    parameter: &str,
    options: &Options,
    notices: &mut Vec<Notice>,
) -> Result<ParentStyle, OpenError> {
    let text = &options.parent_domain_matches_subdomains;
    // Used once, so no connection to a remote table is kept.
    let options = Options { idle_connections_max: 0, ..options.clone() };
    let parents = List::open("parent_domain_matches_subdomains", text, &options, notices)?;
    let named = parents
        .matches_text(parameter.as_bytes(), &mut Call { notices, deadline: options.deadline(), budget: None })
        .map_err(OpenError::ParentDomains)?;
    Ok(if named { ParentStyle::Domain } else { ParentStyle::Dot })
}

/// One client before one list.
struct Question<'a, 'n> {
    list: &'a MatchList,
    name: Vec<u8>,
    address: Address,
    unresolved: bool,
    is_pending: bool,
    asks_remote: bool,
    verbosity: u32,
    call: Call<'n>,
}

impl Question<'_, '_> {
    /// `None` if no pattern was hit and none could have been.
    ///
    /// For a client whose name is not resolved, every pattern that could match some name is remembered with what it would
    /// decide; if that differs from what the address decides, the answer is open. A plain pattern that matches
    /// `unknown` decides at once, as in Postfix. A `!` pattern that matches `unknown` only by the name does not: with a
    /// name the client might go on to a plain one.
    fn decide(&mut self) -> Result<Option<Match>, Stop> {
        let (mut could_be_yes, mut could_be_no) = (false, false);
        let list = self.list;
        for pattern in &list.list.patterns {
            if !self.asks_remote
                && let Kind::Table(listed) = &pattern.kind
                && listed.table.is_remote()
            {
                return Err(Stop::Remote);
            }
            let by_name = self.matches_name(pattern)?;
            let undecided = self.unresolved && (pattern.negated || !by_name);
            if undecided && (by_name || self.could_match_a_name(pattern)) {
                could_be_yes |= !pattern.negated;
                could_be_no |= pattern.negated;
            }
            if (by_name && !undecided) || self.matches_address(pattern)? {
                return Ok(Some(match pattern.negated {
                    false if could_be_no => Match::Undetermined,
                    false => Match::Yes,
                    true if could_be_yes => Match::Undetermined,
                    true => Match::No,
                }));
            }
        }
        Ok(could_be_yes.then_some(Match::Undetermined))
    }

    fn could_match_a_name(&self, pattern: &Pattern) -> bool {
        match &pattern.kind {
            Kind::Literal(literal) => host::could_match_a_name(&literal.text, self.list.style),
            Kind::Table(listed) => listed.table.could_know_a_name(),
        }
    }

    fn matches_name(&mut self, pattern: &Pattern) -> Result<bool, LookupError> {
        if self.is_pending {
            return Ok(false);
        }
        self.trace("match_hostname", pattern, true);
        match &pattern.kind {
            Kind::Literal(literal) => Ok(host::matches(&self.name, &literal.text, self.list.style)),
            Kind::Table(Listed { table, .. }) => {
                let keys = host::keys(&self.name, true, self.list.style);
                for (parents, key) in keys.into_iter().enumerate() {
                    // Asked only now: a remote table may not have known before the first lookup.
                    if parents > 0 && !table.is_fixed() {
                        break;
                    }
                    let found = self.list.list.ask(table.as_ref(), key, &mut self.call);
                    if self.verbosity >= 2 {
                        let found = if matches!(found, Ok(true)) { "found" } else { "notfound" };
                        let key = String::from_utf8_lossy(key);
                        let text = format!(
                            "match_hostname: {}: lookup {} {key}: {found}",
                            self.list.list.parameter,
                            table.name()
                        );
                        self.call.notices.push(Notice::info(text));
                    }
                    if found? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    fn matches_address(&mut self, pattern: &Pattern) -> Result<bool, LookupError> {
        self.trace("match_hostaddr", pattern, false);
        if self.address.text.is_empty() {
            return Ok(false);
        }
        match &pattern.kind {
            Kind::Literal(literal) => literal.matches(&self.address).map_err(|error| {
                let parameter = self.list.list.parameter.to_owned();
                let error = LookupError::Pattern { parameter, reason: error.to_string() };
                self.call.notices.push(Notice::warning(error.to_string()));
                error
            }),
            Kind::Table(listed) => {
                self.list.list.ask(listed.table.as_ref(), &self.address.text, &mut self.call)
            }
        }
    }

    /// What Postfix logs before each comparison when it is verbose.
    fn trace(&mut self, who: &str, pattern: &Pattern, name: bool) {
        if self.verbosity == 0 {
            return;
        }
        let asked = String::from_utf8_lossy(if name { &self.name } else { &self.address.text });
        let shown = match &pattern.kind {
            Kind::Literal(literal) => String::from_utf8_lossy(&literal.text).into_owned(),
            Kind::Table(listed) => listed.registered_name(),
        };
        let text = format!("{who}: {}: {asked} ~? {shown}", self.list.list.parameter);
        self.call.notices.push(Notice::info(text));
    }
}
