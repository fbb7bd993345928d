//! What a master.cf line says behind the command `pipe`: the attributes of pipe(8). No I/O.

use std::collections::BTreeSet;
use std::path::PathBuf;

use postfix::text::unescape;

use super::template::{InvalidTemplate, Template};

/// More attributes and arguments of one line are an error. Postfix has no limit.
pub const WORDS_MAX: usize = 1000;

/// How a pipe transport runs its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// The user that the command runs as.
    pub user: String,
    /// A group other than the user's.
    pub group: Option<String>,
    /// The program and its arguments. Not empty.
    pub command: Vec<Template>,
    /// What is done to message and addresses.
    pub flags: Flags,
    /// What ends each line.
    pub line_end: Vec<u8>,
    /// The working directory of the command; without it, the queue directory.
    pub directory: Option<PathBuf>,
    /// The root directory of the command.
    pub root_directory: Option<PathBuf>,
    /// What stands for the null sender.
    pub null_sender: Vec<u8>,
    /// Larger messages are returned, in bytes.
    pub size_bytes_max: Option<u64>,
}

/// The letters of `flags=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(BTreeSet<u8>);

impl Flags {
    const KNOWN: &'static [u8] = b"BDFORXhqu.>";

    /// Is this letter there?
    #[must_use]
    pub fn has(&self, letter: u8) -> bool {
        self.0.contains(&letter)
    }
}

/// What is wrong with a line. The words name the attribute and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAttributes {
    /// Not `name=value`.
    #[error("{0:?} is not an attribute of pipe: write name=value; argv= must be the last one")]
    NotAnAttribute(String),
    /// A name that pipe(8) does not know.
    #[error(
        "unknown attribute name: {0}; pipe knows argv, chroot, directory, eol, flags, null_sender, size and user"
    )]
    Unknown(String),
    /// No user.
    #[error("missing user= attribute: name an unprivileged user that the command runs as")]
    NoUser,
    /// No command.
    #[error("missing argv= attribute: name the command")]
    NoCommand,
    /// A flag that pipe(8) does not know.
    #[error("flags={0}: unknown flag: {1}")]
    Flag(String, char),
    /// Not a size.
    #[error("size={0}: bad numerical value: write a number of bytes")]
    Size(String),
    /// A value that must not be empty.
    #[error("{0}= has no value")]
    Empty(&'static str),
    /// A directory that is not absolute.
    #[error("{0}={1}: write an absolute path")]
    Relative(&'static str, String),
    /// An argument of the command.
    #[error("argv=: {0}")]
    Template(#[from] InvalidTemplate),
    /// More than [`WORDS_MAX`].
    #[error("more than {WORDS_MAX} attributes and arguments")]
    TooMany,
}

impl Attributes {
    /// Reads the words of the line, options such as `-o` taken away and braces removed.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self, InvalidAttributes> {
        if words.len() > WORDS_MAX {
            return Err(InvalidAttributes::TooMany);
        }
        let mut attributes = Self {
            user: String::new(),
            group: None,
            command: Vec::new(),
            flags: Flags::default(),
            line_end: b"\n".to_vec(),
            directory: None,
            root_directory: None,
            null_sender: b"MAILER-DAEMON".to_vec(),
            size_bytes_max: None,
        };
        let mut words = words.iter().map(AsRef::as_ref);
        while let Some(word) = words.next() {
            let not_one = || InvalidAttributes::NotAnAttribute(word.to_owned());
            let (name, value) = word.split_once('=').ok_or_else(not_one)?;
            if name == "argv" {
                let first = Some(value).filter(|value| !value.is_empty());
                let templates = first.into_iter().chain(words.by_ref()).map(Template::parse);
                attributes.command = templates.collect::<Result<_, _>>()?;
            } else {
                attributes.set(name, value)?;
            }
        }
        if attributes.user.is_empty() {
            return Err(InvalidAttributes::NoUser);
        }
        if attributes.command.is_empty() {
            return Err(InvalidAttributes::NoCommand);
        }
        Ok(attributes)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidAttributes> {
        match name {
            "user" => {
                let (user, group) = match value.split_once(':') {
                    Some((user, group)) => (user, Some(group.to_owned())),
                    None => (value, None),
                };
                if user.is_empty() || group.as_ref().is_some_and(String::is_empty) {
                    return Err(InvalidAttributes::Empty("user"));
                }
                self.user = user.to_owned();
                self.group = group;
            }
            "flags" => {
                let unknown = value
                    .chars()
                    .find(|letter| !u8::try_from(*letter).is_ok_and(|letter| Flags::KNOWN.contains(&letter)));
                if let Some(letter) = unknown {
                    return Err(InvalidAttributes::Flag(value.to_owned(), letter));
                }
                self.flags = Flags(value.bytes().collect());
            }
            "eol" => self.line_end = unescape(value.as_bytes()),
            "directory" => self.directory = Some(absolute("directory", value)?),
            "chroot" => self.root_directory = Some(absolute("chroot", value)?),
            "null_sender" => self.null_sender = value.as_bytes().to_vec(),
            "size" => {
                let size = value.parse().map_err(|_| InvalidAttributes::Size(value.to_owned()))?;
                // 0 is no limit, as for Postfix.
                self.size_bytes_max = Some(size).filter(|size| *size > 0);
            }
            _ => return Err(InvalidAttributes::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// The path of the program, for log and reports, as far as it names no macro.
    #[must_use]
    pub fn program(&self) -> String {
        self.command.first().map(Template::to_string).unwrap_or_default()
    }
}

fn absolute(name: &'static str, value: &str) -> Result<PathBuf, InvalidAttributes> {
    if value.starts_with('/') {
        Ok(value.into())
    } else {
        Err(InvalidAttributes::Relative(name, value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_as_administrators_write_it() {
        let words = [
            "flags=DRhu.>",
            "user=vmail:mail",
            "eol=\\r\\n",
            "null_sender=",
            "size=1000",
            "directory=/var/spool/filter",
            "chroot=/srv",
            "argv=/usr/lib/filter",
            "-f",
            "${sender}",
            "--",
            "$recipient",
        ];
        let read = Attributes::parse(&words).unwrap();
        assert_eq!((read.user.as_str(), read.group.as_deref()), ("vmail", Some("mail")));
        assert_eq!((read.line_end.as_slice(), read.null_sender.as_slice()), (&b"\r\n"[..], &b""[..]));
        assert_eq!(read.size_bytes_max, Some(1000));
        assert_eq!(read.directory, Some("/var/spool/filter".into()));
        assert_eq!(read.root_directory, Some("/srv".into()));
        assert!(read.flags.has(b'D') && read.flags.has(b'>') && !read.flags.has(b'q'));
        let command: Vec<String> = read.command.iter().map(Template::to_string).collect();
        assert_eq!(command, ["/usr/lib/filter", "-f", "${sender}", "--", "${recipient}"]);
        assert_eq!(read.program(), "/usr/lib/filter");
    }

    #[test]
    fn defaults_are_those_of_postfix() {
        let read = Attributes::parse(&["user=u", "size=0", "argv=", "/bin/cat"]).unwrap();
        assert_eq!(
            (read.line_end.as_slice(), read.null_sender.as_slice()),
            (&b"\n"[..], &b"MAILER-DAEMON"[..])
        );
        assert_eq!((read.program().as_str(), read.size_bytes_max), ("/bin/cat", None));
        assert_eq!((read.group, read.directory, read.root_directory), (None, None, None));
    }

    #[test]
    fn each_mistake_has_its_words() {
        for (words, expected) in [
            (&["argv=/bin/cat"][..], "missing user= attribute"),
            (&["user=u"], "missing argv= attribute"),
            (&["user=u", "argv="], "missing argv= attribute"),
            (&["user=u", "-x", "argv=/bin/cat"], "\"-x\" is not an attribute of pipe"),
            (&["usr=u", "argv=/bin/cat"], "unknown attribute name: usr; pipe knows argv"),
            (&["user=u:", "argv=/bin/cat"], "user= has no value"),
            (&["user=u", "flags=RzB", "argv=/bin/cat"], "flags=RzB: unknown flag: z"),
            (&["user=u", "size=1k", "argv=/bin/cat"], "size=1k: bad numerical value"),
            (&["user=u", "directory=tmp", "argv=/bin/cat"], "directory=tmp: write an absolute path"),
            (&["user=u", "argv=/bin/cat", "${nosuch}"], "argv=: unknown macro name: \"nosuch\""),
        ] {
            let said = Attributes::parse(words).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        }
        assert_eq!(Attributes::parse(&["x"; WORDS_MAX + 1]), Err(InvalidAttributes::TooMany));
    }

    proptest! {
        /// No line makes it panic, and what it accepts has a user and a command.
        #[test]
        fn any_words(words in proptest::collection::vec("(user=|argv=|flags=|eol=|size=|)[a-z$\\{\\}\\\\0-9=:]{0,12}", 0..8)) {
            if let Ok(read) = Attributes::parse(&words) {
                prop_assert!(!read.user.is_empty() && !read.command.is_empty());
            }
        }
    }
}
