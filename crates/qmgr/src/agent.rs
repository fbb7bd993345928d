//! The process of an agent that blocks: it takes requests from the queue manager, and works on a few at a time.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::request::{Answer, Finished, RecipientOutcome, Request};
use crate::wire::{Channel, ChannelError, Receiver, decode_request, encode_answer};

/// A delivery, as [`crate::pipe`] and [`crate::maildir`] have one: it may block as long as it takes.
pub type Deliver = dyn Fn(&Request, &File, &mut dyn FnMut(RecipientOutcome)) -> Finished + Send + Sync;

/// How many deliveries a process may have at the same time, by `default_process_limit`: in Postfix each is a process.
#[must_use]
pub fn deliveries_max(process_limit: i64) -> usize {
    usize::try_from(process_limit).unwrap_or(0).clamp(1, 1000)
}

/// How a process serves.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Deliveries at the same time. Further requests wait in the socket.
    pub deliveries_max: usize,
    /// The process ends when it has had no connection for so long.
    pub idle_max: Duration,
}

/// Serves queue managers that connect to `listener`, until none has been connected for a while, or `stop` is over and the
/// connection of that time has ended. To be called in a runtime of
/// tokio. `trouble` is told what ends a connection other than its end.
///
/// A delivery that has begun goes on when its queue manager is gone: the next one tries its recipients again.
///
/// # Errors
/// The listening socket fails.
pub async fn serve(
    listener: UnixListener,
    limits: Limits,
    deliver: Arc<Deliver>,
    trouble: &dyn Fn(String),
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut stop = std::pin::pin!(stop);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(limits.deliveries_max.max(1)));
    loop {
        let accepting = tokio::time::timeout(limits.idle_max, listener.accept());
        let (socket, _) = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            accepted = accepting => match accepted {
                Ok(accepted) => accepted?,
                Err(_) => return Ok(()),
            },
        };
        if let Err(error) = serve_connection(Channel::new(socket), &slots, &deliver).await {
            trouble(format!("connection to the queue manager: {error}"));
        }
    }
}

/// There is one queue manager: the next connection waits for the end of this one.
async fn serve_connection(
    channel: Channel,
    slots: &Arc<Semaphore>,
    deliver: &Arc<Deliver>,
) -> Result<(), ChannelError> {
    let Channel { mut sender, receiver } = channel;
    // As many answers can wait as recipients were asked for: the requests are bounded by the slots.
    let (answers, mut waiting) = mpsc::unbounded_channel::<Answer>();
    let writer: JoinHandle<Result<(), ChannelError>> = tokio::spawn(async move {
        while let Some(answer) = waiting.recv().await {
            sender.send(&encode_answer(&answer)?, None).await?;
        }
        Ok(())
    });
    take_requests(receiver, slots, deliver, &answers).await?;
    drop(answers);
    // Deliveries that still run hold the other ends; what they say is not heard any more.
    writer.abort();
    Ok(())
}

async fn take_requests(
    mut receiver: Receiver,
    slots: &Arc<Semaphore>,
    deliver: &Arc<Deliver>,
    answers: &mpsc::UnboundedSender<Answer>,
) -> Result<(), ChannelError> {
    while let Some(frame) = receiver.receive().await? {
        let request = decode_request(&frame)?;
        let file = File::from(receiver.take_file()?);
        let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
        let (deliver, answers) = (Arc::clone(deliver), answers.clone());
        tokio::task::spawn_blocking(move || {
            let mut report = |outcome| drop(answers.send(Answer::Recipient(outcome)));
            let finished = deliver(&request, &file, &mut report);
            let _gone = answers.send(Answer::Finished(finished));
            drop(slot);
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::sync::Mutex;
    use std::sync::mpsc as blocking;

    use delivery::outcome::{Outcome, status};

    use super::*;
    use crate::fixtures::{queue_file, request};
    use crate::wire::{decode_answer, encode_request};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    const LIMITS: Limits = Limits { deliveries_max: 2, idle_max: Duration::from_millis(10) };

    /// Serves one connection with `deliver`, and returns what `manager` makes of it.
    fn with_agent<T, F: Future<Output = T>>(
        deliver: Arc<Deliver>,
        manager: impl FnOnce(Channel) -> F,
    ) -> (T, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let troubles = Mutex::new(Vec::new());
        let trouble = |words| troubles.lock().unwrap().push(words);
        let result = runtime().block_on(async {
            let socket = tokio::net::UnixStream::connect(&path).await.unwrap();
            let (result, served) = tokio::join!(
                manager(Channel::new(socket)),
                serve(listener, LIMITS, deliver, &trouble, std::future::pending())
            );
            served.unwrap();
            result
        });
        (result, troubles.into_inner().unwrap())
    }

    async fn next(receiver: &mut Receiver) -> Answer {
        decode_answer(&receiver.receive().await.unwrap().unwrap()).unwrap()
    }

    #[test]
    fn requests_are_answered_recipient_by_recipient() {
        let deliver: Arc<Deliver> = Arc::new(|request, file, report| {
            assert!(file.metadata().unwrap().len() > 0);
            for index in 0..request.recipients.len() {
                let outcome = Outcome::sent(status(2, 0, 0), format!("to {}", request.nexthop));
                let number = request.number;
                report(RecipientOutcome { number, index, outcome, is_dsn_passed_on: false });
            }
            Finished::well(request.number)
        });
        let ((), troubles) = with_agent(deliver, |channel| async move {
            let Channel { mut sender, mut receiver } = channel;
            let request = request(&["a@e.com", "b@e.com"]);
            let file = queue_file(&["x"]);
            for _ in 0..3 {
                sender.send(&encode_request(&request).unwrap(), Some(file.as_fd())).await.unwrap();
                for expected in 0..2 {
                    let Answer::Recipient(told) = next(&mut receiver).await else { panic!("no recipient") };
                    assert_eq!((told.number, told.index), (7, expected));
                    assert_eq!(told.outcome.reason, "to Next.example");
                }
                assert_eq!(next(&mut receiver).await, Answer::Finished(Finished::well(7)));
            }
        });
        assert_eq!(troubles, [""; 0]);
    }

    /// A slow delivery holds up no other while there is a slot; beyond these, requests wait.
    #[test]
    fn so_many_deliveries_run_at_a_time() {
        let (go, wait) = blocking::channel::<()>();
        let wait = Mutex::new(wait);
        let running = Mutex::new((0, 0));
        let deliver: Arc<Deliver> = Arc::new(move |request, _, _| {
            {
                let mut running = running.lock().unwrap();
                running.0 += 1;
                running.1 = running.1.max(running.0);
                assert!(running.1 <= 2, "more at a time than there are slots");
            }
            if request.number == 0 {
                wait.lock().unwrap().recv().unwrap();
            }
            running.lock().unwrap().0 -= 1;
            Finished::well(request.number)
        });
        with_agent(deliver, |channel| async move {
            let Channel { mut sender, mut receiver } = channel;
            let file = queue_file(&["x"]);
            for number in 0..5 {
                let request = Request { number, ..request(&["a@e.com"]) };
                sender.send(&encode_request(&request).unwrap(), Some(file.as_fd())).await.unwrap();
            }
            for number in 1..5 {
                assert_eq!(next(&mut receiver).await, Answer::Finished(Finished::well(number)));
            }
            go.send(()).unwrap();
            assert_eq!(next(&mut receiver).await, Answer::Finished(Finished::well(0)));
        });
    }

    #[test]
    fn a_frame_that_is_not_one_ends_the_connection_with_words() {
        let deliver: Arc<Deliver> = Arc::new(|request, _, _| Finished::well(request.number));
        let ((), troubles) = with_agent(deliver, |channel| async move {
            let Channel { mut sender, mut receiver } = channel;
            sender.send(&[3, 0, 0, 0, 9, 9, 9], None).await.unwrap();
            assert!(matches!(receiver.receive().await, Ok(None) | Err(_)));
        });
        assert!(troubles[0].starts_with("connection to the queue manager: "), "{troubles:?}");
    }
}
