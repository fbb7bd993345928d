//! Taking clients, and giving way to a successor.

use std::io;
use std::sync::Arc;

use super::admission::{Admission, Place, Seat};
use super::status::Reporter;
use super::sync::{select, spawn, yield_now};
use super::wear::Wear;

/// Where clients arrive.
pub(super) trait Door: Send + Sync + 'static {
    /// Who comes through it.
    type Arrival: Send + 'static;

    /// Waits until somebody is there, without taking him.
    fn somebody_is_there(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Takes one; `None` if another process was faster, or nobody is left.
    fn accept(&self) -> io::Result<Option<Self::Arrival>>;
}

/// What is done with those who come.
pub(super) trait House: Send + Sync + 'static {
    /// Where they come from.
    type Door: Door;

    /// The places.
    fn admission(&self) -> &Admission;

    /// How much it has been used.
    fn wear(&self) -> &Wear;

    /// Why a process with fresh tables should take the next client, if one should.
    fn is_outdated(&self) -> Option<String>;

    /// All places are taken, and the master may start another process.
    fn full(&self);

    /// Nobody comes in any more: a successor takes over, and this process ends with its last session.
    fn give_way(&self, reason: &str);

    /// Serves a client to the end. The place is given back when all that is left is to tell the client that it may not send.
    fn serve(
        self: Arc<Self>,
        arrival: <Self::Door as Door>::Arrival,
        place: Place,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Tells somebody that there is no place.
    fn turn_away(
        self: Arc<Self>,
        arrival: <Self::Door as Door>::Arrival,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Nobody could be taken. Returns when it is worth another try.
    fn failed(&self, error: &io::Error) -> impl Future<Output = ()> + Send;
}

/// Accepts until a successor does. Where `relief` is there, clients that are too many wait in the backlog, for a place here
/// or for another process; elsewhere they are turned away.
pub(super) async fn run<H: House>(house: Arc<H>, door: H::Door, relief: Option<Arc<Reporter>>) {
    let mut over = house.admission().watch();
    loop {
        let ready = select! {
            biased;
            _ = over.wait_for(|is_over| *is_over) => return,
            ready = door.somebody_is_there() => ready,
        };
        if let Err(error) = ready {
            house.failed(&error).await;
            continue;
        }
        for taken in 0..=ACCEPT_BATCH {
            if taken == ACCEPT_BATCH {
                // Places of clients who may not send are free again when their tasks have run.
                yield_now().await;
                break;
            }
            // Asked before each client is taken: it is still in the backlog for a process with the new table.
            if let Some(reason) = house.is_outdated() {
                house.give_way(&reason);
                return;
            }
            let mut place = house.admission().try_place();
            if let (None, Some(relief)) = (&place, &relief) {
                house.full();
                place = select! {
                    biased;
                    _ = over.wait_for(|is_over| *is_over) => return,
                    place = wait_for_place(house.admission(), relief) => place,
                };
            }
            match door.accept() {
                Ok(Some(arrival)) => start_session(&house, arrival, place),
                nobody => {
                    drop(place);
                    house.wear().nobody_came();
                    if let Err(error) = nobody {
                        house.failed(&error).await;
                    }
                    break;
                }
            }
        }
    }
}

/// Meanwhile the master may start another process, as it does for a process of Postfix that is busy.
async fn wait_for_place(admission: &Admission, relief: &Reporter) -> Option<Place> {
    let full_house = relief.full_house();
    let place = admission.place().await;
    full_house.end();
    place
}

fn start_session<H: House>(house: &Arc<H>, arrival: <H::Door as Door>::Arrival, place: Option<Place>) {
    let house = Arc::clone(house);
    if let Some(place) = place {
        spawn(async move {
            Arc::clone(&house).serve(arrival, place).await;
            house.wear().session_ended();
        });
    } else if let Some(seat) = house.admission().try_seat() {
        spawn(house.turn_away(arrival, seat));
    }
}

/// Clients taken in a row before other work.
const ACCEPT_BATCH: usize = 16;
