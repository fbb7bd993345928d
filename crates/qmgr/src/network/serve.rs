//! The agent's process: requests come in over the socket to the queue manager, each becomes a task, outcomes go back.

use std::fs::File;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};

use super::Agent;
use crate::request::Answer;
use crate::wire::{self, Channel, ChannelError, Sender};

/// Serves until the queue manager closes the socket, and then ends what is under way.
///
/// `deliveries_max`: how many run at a time; further requests wait in the socket.
///
/// # Errors
/// When the socket fails, or the queue manager sends what no program of ours sends.
pub async fn serve(agent: Arc<Agent>, socket: UnixStream, deliveries_max: usize) -> Result<(), ChannelError> {
    let Channel { sender, mut receiver } = Channel::new(socket);
    let turns = Arc::new(Semaphore::new(deliveries_max.clamp(1, Semaphore::MAX_PERMITS)));
    // Bounded by the recipients of the deliveries under way.
    let (answers, answered) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write_answers(sender, answered));
    let end = loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { break Ok(()) };
        let frame = match receiver.receive().await {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let (request, file) = match (wire::decode_request(&frame), receiver.take_file()) {
            (Ok(request), Ok(file)) => (request, File::from(file)),
            (Err(error), _) => break Err(error.into()),
            (_, Err(error)) => break Err(error),
        };
        let (agent, answers) = (Arc::clone(&agent), answers.clone());
        tokio::spawn(async move {
            // The queue manager may be gone, and an answer has no reader then.
            let mut report = |outcome| drop(answers.send(Answer::Recipient(outcome)));
            let finished = agent.deliver(&request, &file, &mut report).await;
            drop(answers.send(Answer::Finished(finished)));
            drop(turn);
        });
    };
    drop(answers);
    // Ends when the last delivery has dropped its sender.
    let written = writer.await.unwrap_or(Ok(()));
    end.and(written)
}

async fn write_answers(
    mut sender: Sender,
    mut answers: mpsc::UnboundedReceiver<Answer>,
) -> Result<(), ChannelError> {
    let mut end = Ok(());
    while let Some(answer) = answers.recv().await {
        if end.is_ok() {
            end = match wire::encode_answer(&answer) {
                Ok(frame) => sender.send(&frame, None).await.map_err(Into::into),
                Err(error) => Err(error.into()),
            };
        }
    }
    end
}
