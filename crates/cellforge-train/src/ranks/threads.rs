//! Ranks that are threads of one process: the same exchanges as between processes, for tests and for trying things out.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Collective, Ranks};
use crate::{Error, Result};

/// What a rank puts in.
#[derive(Debug, Clone, Default)]
struct Message {
    words: Vec<u64>,
    numbers: Vec<f32>,
    bytes: Vec<u8>,
}

/// What the threads share.
#[derive(Debug, Default)]
struct Board {
    /// Exchanges that are complete.
    done: u64,
    /// What was put into the one under way.
    put: Vec<Option<Message>>,
    /// What was put into the last complete one. It stays until all have come to the next, and so have read it.
    all: Arc<Vec<Message>>,
    /// Whether a rank has ended.
    left: bool,
}

#[derive(Debug)]
struct Shared {
    board: Mutex<Board>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Board> {
        // Nothing panics half-way through a change.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of several ranks that are threads of this process.
#[derive(Debug)]
pub struct ThreadWorld {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
}

impl ThreadWorld {
    /// So many ranks, one for each thread.
    #[must_use]
    pub fn ranks(size: usize) -> Vec<Self> {
        let board = Board { put: vec![None; size], ..Board::default() };
        let shared = Arc::new(Shared { board: Mutex::new(board), changed: Condvar::new() });
        (0..size).map(|rank| Self { rank, size, shared: Arc::clone(&shared) }).collect()
    }

    fn exchange(&self, own: Message) -> Result<Arc<Vec<Message>>> {
        let lost = || Error::Collective("a rank has ended before the others".to_owned());
        let mut board = self.shared.lock();
        if board.left {
            return Err(lost());
        }
        let now = board.done;
        board.put[self.rank] = Some(own);
        if board.put.iter().all(Option::is_some) {
            board.all = Arc::new(board.put.iter_mut().filter_map(Option::take).collect());
            board.done += 1;
            self.shared.changed.notify_all();
        }
        while board.done == now {
            if board.left {
                return Err(lost());
            }
            board = self.shared.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Arc::clone(&board.all))
    }
}

impl Drop for ThreadWorld {
    /// Whoever waits for this rank is told that it will not come.
    fn drop(&mut self) {
        self.shared.lock().left = true;
        self.shared.changed.notify_all();
    }
}

impl Collective for ThreadWorld {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather_words(&self, own: &[u64]) -> Result<Vec<u64>> {
        let all = self.exchange(Message { words: own.to_vec(), ..Message::default() })?;
        Ok(all.iter().flat_map(|message| message.words.iter().copied()).collect())
    }

    fn gather_numbers(&self, own: &[f32]) -> Result<Vec<f32>> {
        let all = self.exchange(Message { numbers: own.to_vec(), ..Message::default() })?;
        Ok(all.iter().flat_map(|message| message.numbers.iter().copied()).collect())
    }

    fn exchange_numbers(&self, own: &[f32]) -> Result<Vec<f32>> {
        let all = self.exchange(Message { numbers: own.to_vec(), ..Message::default() })?;
        let piece = own.len() / self.size;
        let mine = self.rank * piece..(self.rank + 1) * piece;
        Ok(all.iter().flat_map(|message| message.numbers[mine.clone()].iter().copied()).collect())
    }

    fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        let own = if self.rank == from { bytes.to_vec() } else { Vec::new() };
        let all = self.exchange(Message { bytes: own, ..Message::default() })?;
        bytes.copy_from_slice(&all[from].bytes);
        Ok(())
    }
}

/// Does `work` on each of `size` ranks, which are threads, and returns what each made of it, in their order. A panic in one goes on in the
/// caller.
///
/// ```
/// use cellforge_train::{Error, run_ranks};
///
/// let found = run_ranks(3, |ranks| {
///     let bytes = ranks.share(format!("hello from {}", ranks.rank()).into_bytes())?;
///     ranks.end(None)?;
///     Ok::<_, Error>(String::from_utf8_lossy(&bytes).into_owned())
/// });
/// for found in found {
///     assert_eq!(found.unwrap(), "hello from 0");
/// }
/// ```
pub fn run_ranks<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let ranks = ThreadWorld::ranks(size).into_iter();
        let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || work(Ranks::new(rank)))).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
