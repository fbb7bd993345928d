//! Ports by number or name.

/// The number of a TCP port that is given as one, or by a name of services(5).
///
/// # Errors
/// It is neither, in words.
pub fn port_number(port: &str) -> Result<u16, String> {
    if let Ok(number) = port.parse::<u16>() {
        return Ok(number);
    }
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    find_service(&services, port)
        .ok_or_else(|| format!("\"{port}\" is neither a port number nor a TCP service in /etc/services"))
}

/// Looks a TCP service up in the text of services(5), by name or alias.
fn find_service(services: &str, wanted: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let name = words.next()?;
        let number = words.next()?.strip_suffix("/tcp")?;
        (name == wanted || words.any(|alias| alias == wanted)).then(|| number.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_by_name_and_alias() {
        let text = "# c\nsmtp 25/tcp mail\nqmqp\t628/udp\nqmqp\t628/tcp # x\n";
        assert_eq!(find_service(text, "qmqp"), Some(628));
        assert_eq!(find_service(text, "mail"), Some(25));
        assert_eq!(find_service(text, "x"), None);
    }
}
