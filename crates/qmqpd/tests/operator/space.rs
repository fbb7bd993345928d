//! A queue without room: `Z` before the body is read.

use std::io::{Read, Write};
use std::net::TcpStream;

use testbed::trials::Trials;

use super::site::{PATIENCE, Site, free_address, send, text, until};

pub(crate) fn add(trials: &mut Trials) {
    trials.add(
        "space::too_little_free_space_is_z_before_the_body_comes",
        &[],
        too_little_free_space_is_z_before_the_body_comes,
    );
}

fn too_little_free_space_is_z_before_the_body_comes() {
    let site = Site::new();
    let address = free_address();
    let common =
        format!("qmqpd_listen = {address}\nqmqpd_authorized_clients = 127.0.0.1\nqmqpd_error_delay = 0\n");
    let more_than_any_disk = "9223372036854775807";
    for line in ["queue_minfree", "qmqpd_free_space_min"] {
        site.configure(&format!("{common}{line} = {more_than_any_disk}\n"));
        let server = site.serve(&["-c", "etc"]);
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // No byte of the content.
        client.write_all(b"10000:9000:").unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        let words = "Error: insufficient system storage, try again later";
        assert_eq!(reply, format!("{}:Z{words},", words.len() + 1), "{line}");
        assert_eq!(send(address), format!("Z{words},"), "a message in one piece");
        until("queue_minfree counts", || {
            let log = server.log();
            let end = format!(
                "bytes are free on the queue's file system, qmqpd_free_space_min = {more_than_any_disk}"
            );
            (log.matches(&format!("warning: NOQUEUE: localhost[127.0.0.1]: {words}: ")).count() == 2
                && log.contains(&end))
            .then_some(())
        });
        site.configure(&format!("{common}queue_minfree = {more_than_any_disk}\nqmqpd_free_space_min = 1\n"));
        let reloaded = server.control("reload");
        assert!(reloaded.status.success(), "{}", text(&reloaded.stderr));
        assert!(send(address).starts_with("KOk: queued as "), "{}", server.log());
    }
}
