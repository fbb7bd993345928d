//! What the end of a command says about the mail that it was given (pipe(8), sysexits(3); observed on Postfix 3.7).

use crate::outcome::{Diagnostic, Outcome, Status, status};

/// How much of a command's output the log shows after a success, in characters.
const SHOWN_CHARACTERS_MAX: usize = 100;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEnd {
    /// By itself, with this status.
    Exited(i32),
    /// Through this signal.
    Killed(i32),
    /// It took longer than it may.
    TimedOut,
}

/// What it leads to. `service` is the transport's name, `command` the program's path, `output` what the command printed
/// on both of its outputs: bytes that are no printable ASCII are masked.
#[must_use]
pub fn outcome(service: &str, command: &str, end: CommandEnd, output: &[u8]) -> Outcome {
    let output = printable(output);
    let exit = match end {
        CommandEnd::TimedOut => {
            return failed(status(5, 3, 0), format!("Command time limit exceeded: \"{command}\""), &output);
        }
        CommandEnd::Killed(signal) => {
            return failed(
                status(4, 3, 0),
                format!("Command died with signal {signal}: \"{command}\""),
                &output,
            );
        }
        CommandEnd::Exited(0) => return delivered(service, &output),
        CommandEnd::Exited(exit) => exit,
    };
    if let Some(found) = Status::parse(output.as_bytes()) {
        let text = output.get(found.to_string().len()..).unwrap_or_default().trim_start();
        // A success beside a failure: the failure counts, without saying what it is.
        let status = if found.class == 2 { status(5, 0, 0) } else { found };
        return with_diagnostic(Outcome::failed(status, text), text);
    }
    match words(exit) {
        Some((status, words)) => failed(status, words.to_owned(), &output),
        None => failed(status(5, 3, 0), format!("Command died with status {exit}: \"{command}\""), &output),
    }
}

/// The exit codes that mean something (sysexits.h).
const fn words(exit: i32) -> Option<(Status, &'static str)> {
    Some(match exit {
        64 => (status(5, 3, 0), "command line usage error"),
        65 => (status(5, 6, 0), "data format error"),
        66 => (status(5, 3, 0), "cannot open input"),
        67 => (status(5, 1, 1), "user unknown"),
        68 => (status(5, 1, 2), "host name unknown"),
        69 => (status(5, 3, 0), "service unavailable"),
        70 => (status(5, 3, 0), "internal software error"),
        71 => (status(4, 3, 0), "system resource problem"),
        72 => (status(5, 3, 0), "critical OS file missing"),
        73 => (status(5, 2, 0), "can't create user output file"),
        74 => (status(5, 3, 0), "input/output error"),
        75 => (status(4, 3, 0), "temporary failure"),
        76 => (status(5, 5, 0), "remote error in protocol"),
        77 => (status(5, 7, 0), "permission denied"),
        78 => (status(5, 3, 5), "local configuration error"),
        _ => return None,
    })
}

fn delivered(service: &str, output: &str) -> Outcome {
    let shown: String = output.chars().take(SHOWN_CHARACTERS_MAX).collect();
    let shown = if shown.is_empty() { shown } else { format!(" ({shown})") };
    Outcome::sent(status(2, 0, 0), format!("delivered via {service} service{shown}"))
}

fn failed(status: Status, words: String, output: &str) -> Outcome {
    if output.is_empty() {
        let diagnostic = words.clone();
        return with_diagnostic(Outcome::failed(status, words), &diagnostic);
    }
    with_diagnostic(Outcome::failed(status, format!("{words}. Command output: {output}")), output)
}

fn with_diagnostic(mut outcome: Outcome, text: &str) -> Outcome {
    outcome.diagnostic = Some(Diagnostic { kind: "x-unix".into(), text: text.to_owned() });
    outcome
}

fn printable(output: &[u8]) -> String {
    let text = output.trim_ascii();
    text.iter()
        .map(|&byte| if byte == b' ' || byte.is_ascii_graphic() { char::from(byte) } else { '?' })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::outcome::Fate;

    fn after(end: CommandEnd, output: &str) -> (Fate, String, String) {
        let outcome = outcome("myprog", "/bin/sh", end, output.as_bytes());
        (outcome.fate, outcome.status.to_string(), outcome.reason)
    }

    #[test]
    fn exit_codes() {
        for (exit, fate, status, reason) in [
            (0, Fate::Sent, "2.0.0", "delivered via myprog service"),
            (64, Fate::Bounced, "5.3.0", "command line usage error"),
            (65, Fate::Bounced, "5.6.0", "data format error"),
            (66, Fate::Bounced, "5.3.0", "cannot open input"),
            (67, Fate::Bounced, "5.1.1", "user unknown"),
            (68, Fate::Bounced, "5.1.2", "host name unknown"),
            (69, Fate::Bounced, "5.3.0", "service unavailable"),
            (70, Fate::Bounced, "5.3.0", "internal software error"),
            (71, Fate::Deferred, "4.3.0", "system resource problem"),
            (72, Fate::Bounced, "5.3.0", "critical OS file missing"),
            (73, Fate::Bounced, "5.2.0", "can't create user output file"),
            (74, Fate::Bounced, "5.3.0", "input/output error"),
            (75, Fate::Deferred, "4.3.0", "temporary failure"),
            (76, Fate::Bounced, "5.5.0", "remote error in protocol"),
            (77, Fate::Bounced, "5.7.0", "permission denied"),
            (78, Fate::Bounced, "5.3.5", "local configuration error"),
            (1, Fate::Bounced, "5.3.0", "Command died with status 1: \"/bin/sh\""),
            (127, Fate::Bounced, "5.3.0", "Command died with status 127: \"/bin/sh\""),
        ] {
            assert_eq!(after(CommandEnd::Exited(exit), ""), (fate, status.into(), reason.into()), "{exit}");
        }
    }

    #[test]
    fn signals_are_tried_again_and_time_limits_are_not() {
        let died = after(CommandEnd::Killed(9), "");
        assert_eq!(died, (Fate::Deferred, "4.3.0".into(), "Command died with signal 9: \"/bin/sh\"".into()));
        let slow = after(CommandEnd::TimedOut, "");
        assert_eq!(slow, (Fate::Bounced, "5.3.0".into(), "Command time limit exceeded: \"/bin/sh\"".into()));
    }

    #[test]
    fn the_output_is_shown_and_masked() {
        assert_eq!(after(CommandEnd::Exited(67), "out 67\n").2, "user unknown. Command output: out 67");
        assert_eq!(after(CommandEnd::Exited(0), "a\x1bb\n").2, "delivered via myprog service (a?b)");
        let long = "x".repeat(300);
        assert_eq!(
            after(CommandEnd::Exited(0), &long).2.len(),
            "delivered via myprog service ()".len() + 100
        );
        let told = outcome("s", "/bin/sh", CommandEnd::Exited(67), b"out 67");
        assert_eq!(told.diagnostic.unwrap(), Diagnostic { kind: "x-unix".into(), text: "out 67".into() });
    }

    #[test]
    fn a_status_in_the_output_decides() {
        assert_eq!(
            after(CommandEnd::Exited(75), "5.7.1 no way"),
            (Fate::Bounced, "5.7.1".into(), "no way".into())
        );
        assert_eq!(
            after(CommandEnd::Exited(1), "4.2.2 full"),
            (Fate::Deferred, "4.2.2".into(), "full".into())
        );
        assert_eq!(
            after(CommandEnd::Exited(1), "2.0.0 fine"),
            (Fate::Bounced, "5.0.0".into(), "fine".into())
        );
    }
}
