//! What passes between master(8) and the service processes that it starts: arguments, descriptors, environment, and the
//! twelve bytes in which a child says that it is busy or idle.
//!
//! Source: observed on Postfix 3.7 and 3.12; the same from 3.4 on.

/// The read end of the flow-control pipe between cleanup(8) and qmgr(8).
pub const FLOW_READ_DESCRIPTOR: i32 = 3;
/// The write end of the flow-control pipe.
pub const FLOW_WRITE_DESCRIPTOR: i32 = 4;
/// The child's end of the status channel.
pub const STATUS_DESCRIPTOR: i32 = 5;
/// The first listening socket; the others follow it.
pub const FIRST_LISTEN_DESCRIPTOR: i32 = 6;

/// The variable with the master's generation, in octal.
pub const GENERATION_VARIABLE: &str = "GENERATION";

/// More listening sockets than any service has.
const LISTENERS_MAX: u32 = 1024;

/// The command line of a service process, `cdDi:lm:n:o:r:s:St:uvVz` in the notation of getopt(3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The last part of `argv[0]`: the process name.
    pub process_name: String,
    /// `-n`, else the process name.
    pub service_name: String,
    /// `-t`: `inet`, `unix` or `pass`.
    pub transport: String,
    /// `-c`: change the root directory to the queue directory.
    pub chroot: bool,
    /// `-u`: switch to mail_owner.
    pub unprivileged: bool,
    /// The values of `-o`; `-i` and `-m` as `max_idle=` and `max_use=`, in the order of the command line.
    pub overrides: Vec<String>,
    /// `-s`: how many listening sockets are inherited.
    pub listeners: u32,
    /// `-l`: the process limit is 1.
    pub is_only_process: bool,
    /// `-z`: there is no process limit.
    pub is_unlimited: bool,
    /// `-S`: serve one session on standard input and output, without a master.
    pub stdin_session: bool,
    /// How often `-v` is given.
    pub verbosity: u32,
    /// `-V`: log to standard error too.
    pub log_to_stderr: bool,
    /// `-d`: the master is in the foreground.
    pub is_attached: bool,
    /// `-D`: run debugger_command.
    pub debug: bool,
    /// What stands behind the options: the attributes of pipe(8). Other programs have none.
    pub attributes: Vec<String>,
}

/// The program whose command line has attributes behind the options.
const WITH_ATTRIBUTES: &str = "pipe";

/// Why a command line cannot be a service's. The words are Postfix's where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// An option that no Postfix daemon has.
    #[error("invalid option: {0}")]
    UnknownOption(char),
    /// An option without its argument.
    #[error("option requires an argument: {0}")]
    MissingValue(char),
    /// `-s` without a count.
    #[error("invalid socket count: {0}")]
    SocketCount(String),
    /// An argument that is not an option.
    #[error("unexpected command-line argument: {0}")]
    Unexpected(String),
    /// There is not even a program name.
    #[error("no command line")]
    Empty,
}

impl Arguments {
    /// Reads a command line; the first word is the program.
    ///
    /// # Errors
    /// It is not what a master gives to its children.
    pub fn parse<S: AsRef<str>>(argv: &[S]) -> Result<Self, ArgumentError> {
        let mut words = argv.iter().map(AsRef::as_ref);
        let program = words.next().ok_or(ArgumentError::Empty)?;
        let mut parsed = Self::of_program(program);
        while let Some(word) = words.next() {
            let Some(mut letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                if parsed.process_name == WITH_ATTRIBUTES {
                    parsed.attributes.push(word.to_owned());
                    parsed.attributes.extend(words.map(str::to_owned));
                    return Ok(parsed);
                }
                return Err(ArgumentError::Unexpected(word.to_owned()));
            };
            if letters == "-" {
                return words
                    .next()
                    .map_or(Ok(parsed), |word| Err(ArgumentError::Unexpected(word.to_owned())));
            }
            while let Some((letter, rest)) = split_first(letters) {
                letters = rest;
                if !"imnorst".contains(letter) {
                    parsed.set_flag(letter)?;
                    continue;
                }
                let value = if rest.is_empty() { words.next() } else { Some(rest) };
                parsed.set_value(letter, value.ok_or(ArgumentError::MissingValue(letter))?)?;
                break;
            }
        }
        Ok(parsed)
    }

    fn of_program(program: &str) -> Self {
        let process_name = program.rsplit('/').next().unwrap_or(program).to_owned();
        Self {
            service_name: process_name.clone(),
            process_name,
            transport: String::new(),
            chroot: false,
            unprivileged: false,
            overrides: Vec::new(),
            listeners: 1,
            is_only_process: false,
            is_unlimited: false,
            stdin_session: false,
            verbosity: 0,
            log_to_stderr: false,
            is_attached: false,
            debug: false,
            attributes: Vec::new(),
        }
    }

    fn set_flag(&mut self, letter: char) -> Result<(), ArgumentError> {
        match letter {
            'c' => self.chroot = true,
            'd' => self.is_attached = true,
            'D' => self.debug = true,
            'l' => self.is_only_process = true,
            'S' => self.stdin_session = true,
            'u' => self.unprivileged = true,
            'v' => self.verbosity = self.verbosity.saturating_add(1),
            'V' => self.log_to_stderr = true,
            'z' => self.is_unlimited = true,
            unknown => return Err(ArgumentError::UnknownOption(unknown)),
        }
        Ok(())
    }

    fn set_value(&mut self, letter: char, value: &str) -> Result<(), ArgumentError> {
        match letter {
            'i' => self.overrides.push(format!("max_idle={value}")),
            'm' => self.overrides.push(format!("max_use={value}")),
            'n' => value.clone_into(&mut self.service_name),
            'o' => self.overrides.push(value.to_owned()),
            // The time after which a process that serves one client retires: nothing that qmqpd(8) looks at.
            'r' => {}
            's' => {
                let count = value.parse().ok().filter(|count| (1..=LISTENERS_MAX).contains(count));
                self.listeners = count.ok_or_else(|| ArgumentError::SocketCount(value.to_owned()))?;
            }
            't' => value.clone_into(&mut self.transport),
            unknown => return Err(ArgumentError::UnknownOption(unknown)),
        }
        Ok(())
    }
}

fn split_first(text: &str) -> Option<(char, &str)> {
    let mut characters = text.chars();
    characters.next().map(|first| (first, characters.as_str()))
}

/// The value of [`GENERATION_VARIABLE`]: octal text. A missing or damaged one is 0, as Postfix reads it.
#[must_use]
pub fn parse_generation(value: &str) -> u32 {
    u32::from_str_radix(value, 8).unwrap_or(0)
}

/// What a child says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildState {
    /// `0`: it takes no further client.
    Taken,
    /// `1`: it waits for clients.
    Available,
    /// `2`: its sessions are over, and it only waits for the disk. Ours say it to our own master; Postfix's knows no such
    /// word.
    Syncing,
    /// `3`: it is alive; nothing else has changed. To our own master only.
    Alive,
    /// `LINES_LOST` and so many more: it ends, and so many of its log lines never reached the log. To our own master only.
    LinesLost(u16),
}

/// Far from the numbers that Postfix has, or may come to have.
const LINES_LOST: u32 = 0x4c4f_0000;

const STATES: [ChildState; 4] =
    [ChildState::Taken, ChildState::Available, ChildState::Syncing, ChildState::Alive];

/// How many bytes a status message has.
pub const STATUS_MESSAGE_BYTES: usize = 12;

/// A status message: process ID, generation and state as 32-bit integers in the machine's byte order. It goes out in
/// one write.
#[must_use]
pub fn status_message(process_id: u32, generation: u32, state: ChildState) -> [u8; STATUS_MESSAGE_BYTES] {
    let state: u32 = match state {
        ChildState::Taken => 0,
        ChildState::Available => 1,
        ChildState::Syncing => 2,
        ChildState::Alive => 3,
        ChildState::LinesLost(count) => LINES_LOST | u32::from(count),
    };
    let mut message = [0; STATUS_MESSAGE_BYTES];
    let fields = [process_id, generation, state].into_iter().flat_map(u32::to_ne_bytes);
    message.iter_mut().zip(fields).for_each(|(byte, value)| *byte = value);
    message
}

/// Reads a status message: process ID, generation, and the state, which is `None` for an unknown number.
#[must_use]
pub fn parse_status_message(message: &[u8; STATUS_MESSAGE_BYTES]) -> (u32, u32, Option<ChildState>) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *message;
    let number = u32::from_ne_bytes([i, j, k, l]);
    let lines_lost = u16::try_from(number ^ LINES_LOST).ok().map(ChildState::LinesLost);
    let state = usize::try_from(number).ok().and_then(|number| STATES.get(number).copied()).or(lines_lost);
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, ArgumentError> {
        Arguments::parse(&line.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn command_lines_of_a_running_master() {
        let first = parse("qmqpd -n 628 -t inet -u -o stress= -s 3").unwrap();
        assert_eq!((first.service_name.as_str(), first.transport.as_str()), ("628", "inet"));
        assert_eq!((first.unprivileged, first.chroot, first.listeners), (true, false, 3));
        assert_eq!(first.overrides, ["stress="]);
        let second =
            parse("qmqpd -l -n 629 -t inet -u -c -o syslog_name=postfix/$service_name -m 2 -i 3s").unwrap();
        assert!(second.is_only_process && second.chroot);
        assert_eq!(second.overrides, ["syslog_name=postfix/$service_name", "max_use=2", "max_idle=3s"]);
        let third = parse("/usr/libexec/postfix/qmqpd -z -t unix -uvv").unwrap();
        assert_eq!((third.process_name.as_str(), third.service_name.as_str()), ("qmqpd", "qmqpd"));
        assert_eq!((third.is_unlimited, third.unprivileged, third.verbosity), (true, true, 2));
    }

    #[test]
    fn a_value_may_hold_blanks() {
        let parsed = Arguments::parse(&["qmqpd", "-o", "mail_name = A B", "-n628"]).unwrap();
        assert_eq!(
            (parsed.overrides, parsed.service_name.as_str()),
            (vec!["mail_name = A B".to_owned()], "628")
        );
    }

    #[test]
    fn the_attributes_of_a_pipe_stand_behind_its_options() {
        let parsed = parse("pipe -n scan -t unix -o a=b user=x argv=cat -f -o").unwrap();
        assert_eq!(parsed.overrides, ["a=b"]);
        assert_eq!(parsed.attributes, ["user=x", "argv=cat", "-f", "-o"]);
    }

    #[test]
    fn what_is_no_child() {
        assert_eq!(parse("qmqpd -q"), Err(ArgumentError::UnknownOption('q')));
        assert_eq!(parse("qmqpd -u extra"), Err(ArgumentError::Unexpected("extra".to_owned())));
        assert_eq!(parse("qmqpd -n"), Err(ArgumentError::MissingValue('n')));
        assert_eq!(parse("qmqpd -s 0"), Err(ArgumentError::SocketCount("0".to_owned())));
        assert_eq!(Arguments::parse::<&str>(&[]), Err(ArgumentError::Empty));
    }

    #[test]
    fn the_eighth_generation_is_written_10() {
        assert_eq!(parse_generation("10"), 8);
        assert_eq!(parse_generation("nonsense"), 0);
    }

    #[test]
    fn every_state_is_read_back_and_other_numbers_mean_nothing() {
        for state in STATES {
            assert_eq!(parse_status_message(&status_message(7, 9, state)), (7, 9, Some(state)));
        }
        let mut message = status_message(7, 9, ChildState::Alive);
        message[8..].copy_from_slice(&4_u32.to_ne_bytes());
        assert_eq!(parse_status_message(&message), (7, 9, None));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn status_messages_as_captured() {
        let idle = status_message(17_530, 4, ChildState::Available);
        assert_eq!(idle, [0x7a, 0x44, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(parse_status_message(&idle), (17_530, 4, Some(ChildState::Available)));
        let busy = status_message(17_530, 4, ChildState::Taken);
        assert_eq!(parse_status_message(&busy), (17_530, 4, Some(ChildState::Taken)));
    }

    #[test]
    fn each_state_is_read_back_and_no_other_number_is_one() {
        let states = STATES.into_iter().chain([0, 1, u16::MAX].map(ChildState::LinesLost));
        for state in states {
            assert_eq!(parse_status_message(&status_message(1, 2, state)), (1, 2, Some(state)));
        }
        let unknown = [4, LINES_LOST - 1, LINES_LOST + 0x1_0000, u32::MAX];
        for number in unknown {
            let mut message = status_message(1, 2, ChildState::Alive);
            message[8..].copy_from_slice(&number.to_ne_bytes());
            assert_eq!(parse_status_message(&message), (1, 2, None), "{number}");
        }
    }
}
