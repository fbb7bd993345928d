//! Facts about the host that a configuration depends on.

use std::net::IpAddr;

use crate::own_networks::InterfaceAddress;

/// What the host knows about itself, and what the process was called. The caller finds it out; nothing here does.
pub struct HostFacts<'a> {
    /// What gethostname(2) says.
    pub host_name: String,
    /// The addresses of the network interfaces, in the system's order.
    pub interfaces: Vec<InterfaceAddress>,
    /// Looks up the addresses of a host name; asked only for names in `inet_interfaces`.
    pub resolve: &'a dyn Fn(&str) -> Vec<IpAddr>,
    /// Reads the first line of a file, without its end, or says in words of the system why that is not possible; asked
    /// only for a `myorigin` that begins with `/`.
    pub first_line: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    /// The directory of main.cf; empty when there is none.
    pub config_directory: String,
    /// The program's name, as `$process_name`.
    pub process_name: String,
    /// The program's process ID, as `$process_id`.
    pub process_id: u32,
    /// The service's name, as `$service_name`.
    pub service_name: String,
    /// Whether Postfix's master(8) started this process: its cleanup(8) is there then.
    pub is_under_postfix: bool,
}
