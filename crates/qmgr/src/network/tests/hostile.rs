//! Servers that mean ill.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::world::{World, settings};
use crate::network::{Protocol, Settings};

/// A server that repeats a piece for ever, with a pause in between.
async fn repeating(first: &'static [u8], piece: Vec<u8>, pause: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        if stream.write_all(first).await.is_err() {
            return;
        }
        while stream.write_all(&piece).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    });
    port
}

async fn outcome(port: u16, settings: Settings) -> String {
    let found = World::new(settings).deliver(&format!("[127.0.0.1]:{port}"), &["a@x.example"]).await;
    found.words().remove(0)
}

#[tokio::test]
async fn replies_without_end_are_cut_off() {
    for (first, piece, stage) in [
        (&b""[..], &b"x"[..], "receiving the initial server greeting"),
        (b"", b"220-and\r\n220-so\r\n220-on\r\n", "receiving the initial server greeting"),
        (b"220 h\r\n", b"250-AUTH A B C D\r\n", "performing the EHLO handshake"),
        (b"220 ", &[0][..], "receiving the initial server greeting"),
    ] {
        let port = repeating(first, piece.repeat(1000), Duration::ZERO).await;
        let words = outcome(port, settings(Protocol::Smtp)).await;
        assert_eq!(words, format!("deferred 4.4.2 lost connection with H while {stage}"));
    }
}

/// A byte now and then does not prolong the time that a reply has.
#[tokio::test]
async fn a_reply_that_drips_in_has_the_time_of_one_reply() {
    let port = repeating(b"220 ", b"x".to_vec(), Duration::from_millis(50)).await;
    let mut settings = settings(Protocol::Smtp);
    settings.timeouts.helo = Duration::from_secs(1);
    assert_eq!(
        outcome(port, settings).await,
        "deferred 4.4.2 conversation with H timed out while receiving the initial server greeting"
    );
}

#[tokio::test]
async fn a_server_that_does_not_read_ends_the_content_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for reply in ["220 h\r\n", "250 h\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"] {
            stream.write_all(reply.as_bytes()).await.unwrap();
            // Without pipelining, the next command is one piece. Of the content, this is all that is read.
            assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
        }
        tokio::time::sleep(super::world::PATIENCE).await;
    });
    let mut settings = settings(Protocol::Smtp);
    settings.timeouts.data_xfer = Duration::from_secs(1);
    let line = "x".repeat(900);
    let lines = vec![line.as_str(); 20_000];
    let request = super::world::to(&format!("[127.0.0.1]:{port}"), &["a@x.example"]);
    let found = World::new(settings).deliver_this(&request, &crate::fixtures::queue_file(&lines)).await;
    assert_eq!(found.words(), ["deferred 4.4.2 conversation with H timed out while sending message body"]);
    server.abort();
}

/// Replies that came before their commands were sent say nothing about the mail: it waits.
#[tokio::test]
async fn a_server_that_speaks_out_of_turn() {
    let port = repeating(
        b"220 h\r\n250 h\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
        Vec::new(),
        Duration::from_secs(60),
    )
    .await;
    let words = outcome(port, settings(Protocol::Smtp)).await;
    assert_eq!(words, "deferred 4.5.0 host H speaks out of turn: 250 ok");
}
