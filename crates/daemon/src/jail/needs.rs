//! What a program needs of the world behind its jail. The program says it; the sandbox takes all else away.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Files and ports that a process uses when it serves. Paths are relative to the queue directory, which is the working directory
/// there. Sockets in the file system are no part of it: the sandbox leaves them to the permissions of their directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Directories in which queue files are made, written and renamed.
    pub spool_directories: Vec<PathBuf>,
    /// Directories in which files are looked for and removed.
    pub log_directories: Vec<PathBuf>,
    /// Directories with named pipes that it writes into.
    pub pipe_directories: Vec<PathBuf>,
    /// TCP ports that it connects to.
    pub tcp_ports: BTreeSet<u16>,
    /// It connects to whatever TCP port mail is to be delivered to.
    pub connects_to_any_port: bool,
    /// The C library looks up the names of hosts: it reads its files, and loads its modules.
    pub resolves_by_libc: bool,
}

impl Needs {
    /// Adds name servers.
    pub fn ask_name_servers(&mut self) {
        self.tcp_ports.insert(DNS_PORT);
    }

    /// Adds servers by host and TCP port. A host that is not an address is looked up by the C library.
    pub fn connect_to(&mut self, servers: &[(String, u16)]) {
        self.tcp_ports.extend(servers.iter().map(|(_, port)| *port));
        self.resolves_by_libc |= servers.iter().any(|(host, _)| host.parse::<std::net::IpAddr>().is_err());
    }
}

/// Name servers are asked on this port.
const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_are_looked_up_and_addresses_are_not() {
        let mut needs = Needs::default();
        needs.ask_name_servers();
        needs.connect_to(&[("192.0.2.1".to_owned(), 3306), ("::1".to_owned(), 53)]);
        assert_eq!((needs.tcp_ports.len(), needs.resolves_by_libc), (2, false));
        needs.connect_to(&[("tables.example.com".to_owned(), 389)]);
        assert_eq!((needs.tcp_ports.len(), needs.resolves_by_libc), (3, true));
    }
}
