//! From answers to the name that a client goes by. Nothing here queries a server.

use std::net::IpAddr;

use postfix::notice::Notice;

use super::hostname;

/// The name that a client goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The address has this name, and the name has this address. Letters, digits, `-`, `_` and `.` only, in the letter case of
    /// its source, at most 255 bytes.
    Verified(String),
    /// There is no such name.
    Unknown,
    /// Whether there is one could not be found out this time; another time it might be.
    Unresolved,
}

impl Name {
    /// How logs, replies and headers show it: `unknown` when there is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Verified(name) => name,
            Self::Unknown | Self::Unresolved => "unknown",
        }
    }
}

/// What a look-up ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerName {
    /// The name.
    pub name: Name,
    /// What Postfix logs before it says `connect from`.
    pub notices: Vec<Notice>,
}

impl PeerName {
    /// Without a word in the log.
    pub(super) const fn silent(name: Name) -> Self {
        Self { name, notices: Vec::new() }
    }

    fn with_warning(name: Name, text: String) -> Self {
        Self { name, notices: vec![Notice::warning(text)] }
    }
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Found(T),
    /// The name does not exist.
    NoName,
    /// The name exists, but not with such data.
    NoData,
    /// No server could say.
    Temporary,
}

impl<T> Answer<T> {
    /// Makes something else of what was found; nothing means that there is no such data.
    pub(super) fn and_then<U>(self, convert: impl FnOnce(T) -> Option<U>) -> Answer<U> {
        match self {
            Self::Found(found) => convert(found).map_or(Answer::NoData, Answer::Found),
            Self::NoName => Answer::NoName,
            Self::NoData => Answer::NoData,
            Self::Temporary => Answer::Temporary,
        }
    }
}

/// The name to be verified, after the question for the name of an address.
///
/// `None` in the answer is a name that the C library would not pass on.
pub(super) fn claimed(answer: Answer<Option<Vec<u8>>>) -> Result<String, PeerName> {
    match answer {
        Answer::Found(Some(name)) => {
            hostname::check(&name).map_err(|warning| PeerName::with_warning(Name::Unknown, warning))
        }
        Answer::Found(None) | Answer::NoName | Answer::NoData => Err(PeerName::silent(Name::Unknown)),
        Answer::Temporary => Err(PeerName::silent(Name::Unresolved)),
    }
}

/// The outcome, after the question for the addresses of that name. The reasons are those of gai_strerror(3).
pub(super) fn verified(host: String, address: IpAddr, answer: &Answer<Vec<IpAddr>>) -> PeerName {
    let (name, reason) = match answer {
        Answer::Found(addresses) if addresses.contains(&address) => {
            return PeerName::silent(Name::Verified(host));
        }
        Answer::Found(_) => (Name::Unknown, ""),
        Answer::NoName => (Name::Unknown, ": Name or service not known"),
        Answer::NoData => (Name::Unknown, ": No address associated with hostname"),
        Answer::Temporary => (Name::Unresolved, ": Temporary failure in name resolution"),
    };
    PeerName::with_warning(name, format!("hostname {host} does not resolve to address {address}{reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_the_claimed_name() {
        assert_eq!(claimed(Answer::Found(Some(b"Web.e.com".to_vec()))).as_deref(), Ok("Web.e.com"));
        for (answer, name) in [
            (Answer::Found(None), Name::Unknown),
            (Answer::NoName, Name::Unknown),
            (Answer::NoData, Name::Unknown),
            (Answer::Temporary, Name::Unresolved),
        ] {
            assert_eq!(claimed(answer), Err(PeerName::silent(name)));
        }
        let numeric = claimed(Answer::Found(Some(b"10.0.0.5".to_vec()))).unwrap_err();
        assert_eq!(numeric.name, Name::Unknown);
        assert_eq!(numeric.notices, [Notice::warning("numeric hostname: 10.0.0.5")]);
    }

    #[test]
    fn what_verification_says() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        let words = "hostname h.e.com does not resolve to address 192.0.2.1";
        for (answer, name, reason) in [
            (Answer::Found(vec![other]), Name::Unknown, ""),
            (Answer::Found(Vec::new()), Name::Unknown, ""),
            (Answer::NoName, Name::Unknown, ": Name or service not known"),
            (Answer::NoData, Name::Unknown, ": No address associated with hostname"),
            (Answer::Temporary, Name::Unresolved, ": Temporary failure in name resolution"),
        ] {
            let expected = PeerName { name, notices: vec![Notice::warning(format!("{words}{reason}"))] };
            assert_eq!(verified("h.e.com".to_owned(), address, &answer), expected);
        }
        let good = verified("H.e.com".to_owned(), address, &Answer::Found(vec![other, address]));
        assert_eq!(good, PeerName::silent(Name::Verified("H.e.com".to_owned())));
        assert_eq!(Name::Unresolved.as_str(), "unknown");
    }
}
