//! Log-in with a name and a password: PLAIN and LOGIN (RFC 4616; LOGIN was never made a standard).

use delivery::dialogue::Consequence;
use delivery::outcome::{Diagnostic, Outcome, status};
use smtp::client::{Event, Stage};

use super::session::{Session, handshake_failure};
use super::settings::Settings;

/// How many challenges are answered. LOGIN has two.
const CHALLENGES_MAX: usize = 4;

/// What smtp_sasl_password_maps has for a host.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// Who logs in.
    pub user: String,
    /// With what.
    pub password: String,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Password for {:?}", self.user)
    }
}

impl Password {
    /// Reads `user:password`, as the table has it.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (user, password) = value.split_once(':')?;
        Some(Self { user: user.to_owned(), password: password.to_owned() })
    }
}

/// Logs in, as the mechanisms of the server and the settings allow.
///
/// # Errors
/// The consequence when the server does not let us in.
pub(super) async fn log_in(
    session: &mut Session,
    settings: &Settings,
    password: &Password,
) -> Result<(), Box<Consequence>> {
    let offers = |name: &str| session.client.extensions().mechanisms.iter().any(|offered| offered == name);
    let plain = base64(format!("\0{}\0{}", password.user, password.password).as_bytes());
    let begun = match (settings.allows_plaintext, offers("PLAIN"), offers("LOGIN")) {
        (true, true, _) => session.client.authenticate("PLAIN", Some(&plain)),
        (true, _, true) => session.client.authenticate("LOGIN", None),
        _ => {
            let words = format!(
                "SASL authentication failed; cannot authenticate to server {}: no mechanism available",
                session.peer
            );
            return Err(handshake_failure(Outcome::failed(status(4, 7, 0), words)));
        }
    };
    if let Err(error) = begun {
        return Err(handshake_failure(Outcome::failed(status(4, 3, 0), error.to_string())));
    }
    let mut answers = [&password.user, &password.password].into_iter();
    for _ in 0..=CHALLENGES_MAX {
        match session.event(&settings.timeouts).await {
            Err(loss) => return Err(session.lost(loss, settings)),
            Ok(Event::Authenticated) => return Ok(()),
            Ok(Event::AuthChallenge(_)) => {
                let answer = answers.next().map_or_else(|| "*".to_owned(), |text| base64(text.as_bytes()));
                if let Err(error) = session.client.auth_response(&answer) {
                    return Err(handshake_failure(Outcome::failed(status(4, 3, 0), error.to_string())));
                }
            }
            Ok(Event::AuthRefused(reply)) => {
                let soft = settings.auth_soft_bounce;
                let code = if soft { reply.status.made_temporary() } else { reply.status };
                let words =
                    format!("SASL authentication failed; server {} said: {}", session.peer, reply.text());
                let mut outcome = Outcome::failed(code, words);
                outcome.diagnostic = Some(Diagnostic { kind: "smtp".into(), text: reply.text() });
                outcome.remote_mta = Some(session.peer.name.clone());
                return Err(handshake_failure(outcome));
            }
            Ok(Event::Unsolicited(reply)) => return Err(session.refused(Stage::Idle, &reply, settings)),
            Ok(_) => {}
        }
    }
    let words = format!("SASL authentication failed; server {} asks without end", session.peer);
    Err(handshake_failure(Outcome::failed(status(4, 7, 0), words)))
}

/// Base64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let is_padding = place > group.len();
            let letter = DIGITS.get(usize::try_from(digit).unwrap_or(0)).copied().unwrap_or(b'=');
            text.push(if is_padding { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn a_password_is_not_shown() {
        let password = Password::parse("me:se:cret").unwrap();
        assert_eq!((password.user.as_str(), password.password.as_str()), ("me", "se:cret"));
        assert!(!format!("{password:?}").contains("cret"));
        assert_eq!(Password::parse("me"), None);
    }
}
