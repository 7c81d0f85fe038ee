//! Ranks that are processes which MPI has started.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::collective::{CommunicatorCollectives, Root};
use mpi::environment::Universe;
use mpi::request::{LocalScope, Request, scope};
use mpi::topology::{Communicator, SimpleCommunicator};

use super::Collective;
use crate::{Error, Result};

thread_local! {
    /// MPI itself, in the thread that has opened it. It is not dropped with the thread: a rank that ends by a panic must not wait for the
    /// others to end, too. Its launcher ends them.
    static UNIVERSE: RefCell<Option<ManuallyDrop<Universe>>> = const { RefCell::new(None) };
}

/// How long a rank that waits looks again without a pause, and the longest pause after that. Others may need the processor.
const EAGER: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(1);

/// One of the processes that MPI has started together. It is for the thread that opened it.
#[derive(Debug)]
pub struct MpiWorld {
    rank: usize,
    size: usize,
}

impl MpiWorld {
    /// Begins with MPI. To be called once, early, in the main thread.
    ///
    /// # Errors
    /// [`Error::Collective`] if MPI was begun with before, or cannot be used from a program with threads.
    pub fn open() -> Result<Self> {
        let refused = |reason: &str| Error::Collective(format!("MPI: {reason}"));
        let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Funneled) else {
            return Err(refused("it is in use already"));
        };
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        UNIVERSE.with_borrow_mut(|own| *own = Some(ManuallyDrop::new(universe)));
        if threading < Threading::Funneled {
            return Err(refused("it is built for programs without threads"));
        }
        Ok(Self { rank, size })
    }

    /// Ends with MPI, when all ranks do ([`Ranks::end`](crate::Ranks::end) has returned). Without it, the launcher takes the end of the process
    /// for a crash, and ends the others.
    pub fn close() {
        if let Some(universe) = UNIVERSE.with_borrow_mut(Option::take) {
            drop(ManuallyDrop::into_inner(universe));
        }
    }
}

/// Waits for a request without holding on to the processor, which a call of MPI that waits does.
fn wait<'a, D: ?Sized>(mut request: Request<'a, D, &LocalScope<'a>>) {
    let began = Instant::now();
    loop {
        request = match request.test() {
            Ok(_) => return,
            Err(request) => request,
        };
        let waited = began.elapsed();
        if waited > EAGER {
            // An eighth of the wait is what it may come too late. A judgement by rank 0 may take minutes.
            std::thread::sleep((waited / 8).min(LONGEST));
        } else {
            std::thread::yield_now();
        }
    }
}

impl Collective for MpiWorld {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather_words(&self, own: &[u64]) -> Result<Vec<u64>> {
        let mut all = vec![0; own.len() * self.size];
        scope(|scope| wait(SimpleCommunicator::world().immediate_all_gather_into(scope, own, &mut all[..])));
        Ok(all)
    }

    fn gather_numbers(&self, own: &[f32]) -> Result<Vec<f32>> {
        let mut all = vec![0.0; own.len() * self.size];
        scope(|scope| wait(SimpleCommunicator::world().immediate_all_gather_into(scope, own, &mut all[..])));
        Ok(all)
    }

    fn exchange_numbers(&self, own: &[f32]) -> Result<Vec<f32>> {
        let mut pieces = vec![0.0; own.len()];
        scope(|scope| wait(SimpleCommunicator::world().immediate_all_to_all_into(scope, own, &mut pieces[..])));
        Ok(pieces)
    }

    fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        let world = SimpleCommunicator::world();
        scope(|scope| wait(world.process_at_rank(from as i32).immediate_broadcast_into(scope, bytes)));
        Ok(())
    }
}
