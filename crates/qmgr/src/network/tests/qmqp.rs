//! QMQP: one reply for all recipients.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::world::{World, all_of, settings};
use crate::network::Protocol;

/// A server that waits for a whole request and says `reply`. Gives back the request.
async fn exchange(reply: &'static str) -> (Vec<String>, bool, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(reply.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        all_of(&mut stream).await
    });
    let world = World::new(settings(Protocol::Qmqp));
    let found = world.deliver(&format!("[127.0.0.1]:{port}"), &["a@x.example", "b@x.example"]).await;
    let request = server.await.unwrap();
    (found.words(), found.is_blamed(), String::from_utf8(request).unwrap())
}

#[tokio::test]
async fn the_reply_is_that_of_all_recipients() {
    for (reply, words, is_blamed) in [
        ("16:KOk: queued as X,", "sent 2.0.0 Ok: queued as X", false),
        ("14:Z4.3.1 no disk,", "deferred 4.3.1 host H said: 4.3.1 no disk", false),
        ("3:Dno,", "bounced 5.0.0 host H said: no", false),
        (
            "",
            "deferred 4.4.2 lost connection with H while waiting for the reply -- message may be sent more than once",
            true,
        ),
        ("nonsense", "deferred 4.5.0 host H: the server's reply is not a netstring", true),
    ] {
        let (found, blamed, request) = exchange(reply).await;
        assert_eq!((found, blamed), (vec![words.to_owned(); 2], is_blamed), "{reply}");
        let content = "22:Subject: x\n\n.dot\ntext\n,20:alice@sender.example,11:a@x.example,11:b@x.example,";
        assert_eq!(request, format!("{}:{content},", content.len()));
    }
}
