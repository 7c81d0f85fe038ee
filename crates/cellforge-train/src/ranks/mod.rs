//! Several processes that train one network together: ranks, as MPI calls them.
//!
//! A world of `N` ranks computes what one process computes with `accumulation_steps = N`, to the byte. Rank `r` takes part `r` of each batch,
//! with the randomness of that part. Gradients are added up in the order of the parts, so that no rounding differs.
//!
//! Ranks go in step: each calls the same functions of [`Ranks`] in the same order. Every exchange begins with a round of a few words, in which
//! a rank can say that it failed instead. So an error of one rank ends all of them at their next exchange, and nobody waits for ever.

mod begin;
#[cfg(feature = "mpi")]
mod mpi;
mod phase;
mod threads;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::Device;
use cellforge_data::{Augment, Batch, Scale, View};

use crate::{Error, Result};

pub(crate) use begin::begin_together;
#[cfg(feature = "mpi")]
pub use mpi::MpiWorld;
pub(crate) use phase::Phase;
pub use threads::{ThreadWorld, run_ranks};

/// What moves numbers between ranks. Every rank calls the same functions in the same order, each from one thread.
///
/// [`Ranks`] is what is used; this is for another engine below it. There are [`ThreadWorld`], ranks that are threads of one process, and with
/// the feature `mpi` `MpiWorld`.
pub trait Collective: Send + Sync + fmt::Debug {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// The words of every rank, one rank behind the other. Each gives as many.
    ///
    /// # Errors
    /// [`Error::Collective`] if a rank is lost.
    fn gather_words(&self, own: &[u64]) -> Result<Vec<u64>>;

    /// The numbers of every rank, one rank behind the other. Each gives as many.
    ///
    /// # Errors
    /// As [`Collective::gather_words`].
    fn gather_numbers(&self, own: &[f32]) -> Result<Vec<f32>>;

    /// `own` is a piece for each rank, of one length for all. Returned are the pieces that the ranks have for this one, in the order of ranks.
    ///
    /// # Errors
    /// As [`Collective::gather_words`].
    fn exchange_numbers(&self, own: &[f32]) -> Result<Vec<f32>>;

    /// Overwrites `bytes` by those of rank `from`; there are as many on each rank.
    ///
    /// # Errors
    /// As [`Collective::gather_words`].
    fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<()>;
}

/// The ranks that a training runs on, and which of them this is. The default is a process that is alone.
///
/// Whoever has several must end with [`Ranks::end`] on each of them: it tells the others of a failure.
#[derive(Debug, Clone, Default)]
pub struct Ranks(Option<Arc<dyn Collective>>);

/// What a rank says in a round, besides its words.
pub(crate) mod flags {
    /// It was asked to stop.
    pub(crate) const STOP: u64 = 1;
    /// The run is complete.
    pub(crate) const END: u64 = 2;
    /// The losses are to be read now.
    pub(crate) const READ: u64 = 4;
    /// Rank 0 has gone back to a checkpoint.
    pub(super) const BACK: u64 = 8;
    /// It failed. Its first word is the length of its message.
    pub(super) const FAILED: u64 = 16;
}

/// Words of a rank in a round: the flags first.
const WORDS: usize = 4;
/// The most bytes of one broadcast: MPI counts in 32 bits.
const PIECE: usize = 1 << 28;

/// What all ranks said in a round.
struct Round {
    /// The flags of any rank.
    flags: u64,
    /// The words of each rank.
    words: Vec<[u64; WORDS - 1]>,
}

impl Ranks {
    /// A process that is alone. Nothing is exchanged.
    #[must_use]
    pub fn alone() -> Self {
        Self(None)
    }

    /// The ranks of an engine. One rank is a process that is alone.
    pub fn new(collective: impl Collective + 'static) -> Self {
        if collective.size() > 1 { Self(Some(Arc::new(collective))) } else { Self(None) }
    }

    /// The number of this rank, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |ranks| ranks.rank())
    }

    /// How many ranks there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |ranks| ranks.size())
    }

    /// Whether there are no others.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this is rank 0, which owns the run's folder, judges, and speaks for all.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    /// Ends the work of this rank: waits until all have ended theirs, and tells them of a failure, if it has one.
    ///
    /// # Errors
    /// [`Error::Rank`] of the lowest rank that failed, if that is another one.
    pub fn end(&self, failure: Option<&str>) -> Result<()> {
        match failure {
            Some(reason) => self.fail(reason),
            None => self.round(0, [0; WORDS - 1]).map(|_| ()),
        }
    }

    /// Ends the work of this rank ([`Ranks::end`]) with what became of it. A failure that it heard of from others is not told again.
    ///
    /// # Errors
    /// That of `done`, or [`Error::Rank`] if another rank failed.
    pub fn conclude<T>(&self, done: Result<T>) -> Result<T> {
        match done {
            Ok(made) => self.end(None).map(|()| made),
            Err(error) if error.is_told() => Err(error),
            Err(error) => self.end(Some(&error.to_string())).and(Err(error)),
        }
    }

    /// Does `work` on rank 0 first, and on the others when it is done there: what rank 0 makes on a disk that they share, they find.
    ///
    /// # Errors
    /// Those of `work`; on other ranks [`Error::Rank`] if it failed on rank 0.
    pub fn root_first<T, E: From<Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        if self.is_root() {
            let done = work()?;
            self.round(0, [0; WORDS - 1])?;
            Ok(done)
        } else {
            self.round(0, [0; WORDS - 1])?;
            work()
        }
    }

    /// The bytes of rank 0, on every rank. What others give is not looked at.
    ///
    /// # Errors
    /// [`Error::Rank`] if a rank failed, [`Error::Collective`] if one is lost.
    pub fn share(&self, own: Vec<u8>) -> Result<Vec<u8>> {
        let round = self.round(0, [own.len() as u64, 0, 0])?;
        self.broadcast(0, own, round.words[0][0])
    }

    /// The bytes of every rank, in their order, on every rank. They may differ in length.
    ///
    /// # Errors
    /// As [`Ranks::share`].
    pub fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let round = self.round(0, [own.len() as u64, 0, 0])?;
        let lengths = round.words.iter().map(|words| words[0]).enumerate();
        lengths.map(|(rank, length)| self.broadcast(rank, own.to_vec(), length)).collect()
    }

    /// The bytes of rank `from`, of this length.
    fn broadcast(&self, from: usize, own: Vec<u8>, length: u64) -> Result<Vec<u8>> {
        let Some(ranks) = &self.0 else { return Ok(own) };
        let mut bytes = own;
        bytes.resize(length as usize, 0);
        bytes.chunks_mut(PIECE).try_for_each(|piece| ranks.broadcast(from, piece))?;
        Ok(bytes)
    }

    /// The flags that any rank has; a rank's own where it is alone.
    pub(crate) fn any(&self, own: u64) -> Result<u64> {
        Ok(self.round(own, [0; WORDS - 1])?.flags)
    }

    /// Tells the others that rank 0 has gone back to a checkpoint: their next exchange fails with [`Error::WentBack`].
    pub(crate) fn went_back(&self) -> Result<()> {
        self.any(flags::BACK).map(|_| ())
    }

    /// The sum of `own` over all ranks.
    pub(crate) fn count(&self, own: usize) -> Result<usize> {
        Ok(self.round(0, [own as u64, 0, 0])?.words.iter().map(|words| words[0] as usize).sum())
    }

    /// Which of so many parts of a batch are this rank's. `parts` is a multiple of the ranks.
    pub(crate) fn parts(&self, parts: usize) -> Range<usize> {
        let own = parts / self.size();
        self.rank() * own..(self.rank() + 1) * own
    }

    /// The sum of the parts of all ranks, each a list of as many numbers, in the order of ranks and of their parts; and with it the `others` of
    /// each rank, of which lists may differ in length. A rank may have no part.
    ///
    /// Each rank sums the piece of the numbers that has its number, and then all get all pieces: as many bytes as a ring moves, and the order of
    /// the additions is that of a loop over the parts.
    pub(crate) fn combine(&self, parts: &[Vec<f32>], others: &[f32]) -> Result<Combined> {
        let Some(ranks) = &self.0 else {
            let sum = parts.iter().skip(1).fold(parts.first().cloned().unwrap_or_default(), |mut sum, part| {
                add(&mut sum, part);
                sum
            });
            return Ok(Combined { sum, others: vec![others.to_vec()], parts: vec![parts.len()] });
        };
        let n = ranks.size();
        let length = parts.first().map_or(0, Vec::len);
        let round = self.round(0, [parts.len() as u64, length as u64, others.len() as u64])?;
        let word = |at: usize| round.words.iter().map(move |words| words[at] as usize);
        let (counts, length, longest) =
            (word(0).collect::<Vec<_>>(), word(1).max().unwrap_or(0), word(2).max().unwrap_or(0));
        if let Some(rank) = round.words.iter().position(|words| words[0] > 0 && words[1] as usize != length) {
            return Err(Error::Collective(format!(
                "rank {rank} has other numbers than the rest: it trains another network"
            )));
        }

        let mut padded = others.to_vec();
        padded.resize(longest, 0.0);
        let gathered = if longest > 0 { ranks.gather_numbers(&padded)? } else { Vec::new() };
        let others =
            word(2).enumerate().map(|(rank, len)| gathered[rank * longest..rank * longest + len].to_vec()).collect();

        let (most, piece) = (counts.iter().copied().max().unwrap_or(0), length.div_ceil(n));
        let mut outgoing = vec![0.0; n * most * piece];
        for rank in 0..n {
            let from = (rank * piece).min(length)..((rank + 1) * piece).min(length);
            for (number, part) in parts.iter().enumerate() {
                let at = (rank * most + number) * piece;
                outgoing[at..at + from.len()].copy_from_slice(&part[from.clone()]);
            }
        }
        let incoming = ranks.exchange_numbers(&outgoing)?;
        let mut own: Option<Vec<f32>> = None;
        for (rank, count) in counts.iter().enumerate() {
            for number in 0..*count {
                let at = (rank * most + number) * piece;
                let part = &incoming[at..at + piece];
                match &mut own {
                    Some(sum) => add(sum, part),
                    None => own = Some(part.to_vec()),
                }
            }
        }
        let mut sum = ranks.gather_numbers(&own.unwrap_or_else(|| vec![0.0; piece]))?;
        sum.truncate(length);
        Ok(Combined { sum, others, parts: counts })
    }

    /// What all say, if none failed and rank 0 has not gone back.
    fn round(&self, own: u64, words: [u64; WORDS - 1]) -> Result<Round> {
        let Some(ranks) = &self.0 else { return Ok(Round { flags: own, words: vec![words] }) };
        let [a, b, c] = words;
        let all = ranks.gather_words(&[own, a, b, c])?;
        let all: Vec<&[u64]> = all.chunks_exact(WORDS).collect();
        let any = all.iter().fold(0, |any, words| any | words[0]);
        if any & flags::FAILED != 0 {
            return Err(self.failure(&all, Vec::new())?);
        }
        if any & flags::BACK != 0 && own & flags::BACK == 0 {
            return Err(Error::WentBack);
        }
        Ok(Round { flags: any, words: all.iter().map(|words| [words[1], words[2], words[3]]).collect() })
    }

    /// Tells the others that this rank failed, at their next round.
    fn fail(&self, reason: &str) -> Result<()> {
        let Some(ranks) = &self.0 else { return Ok(()) };
        let all = ranks.gather_words(&[flags::FAILED, reason.len() as u64, 0, 0])?;
        let all: Vec<&[u64]> = all.chunks_exact(WORDS).collect();
        match self.failure(&all, reason.as_bytes().to_vec())? {
            Error::Rank { rank, .. } if rank == ranks.rank() => Ok(()),
            other => Err(other),
        }
    }

    /// The failure of the lowest rank that failed. `own` is this one's message, if it did.
    fn failure(&self, all: &[&[u64]], own: Vec<u8>) -> Result<Error> {
        let failed = all.iter().position(|words| words[0] & flags::FAILED != 0);
        let (Some(ranks), Some(rank)) = (&self.0, failed) else { return Ok(Error::WentBack) };
        let mut message = own;
        message.resize(all[rank][1] as usize, 0);
        ranks.broadcast(rank, &mut message)?;
        Ok(Error::Rank { rank, reason: String::from_utf8_lossy(&message).into_owned() })
    }
}

/// What [`Ranks::combine`] found.
pub(crate) struct Combined {
    /// The sum of all parts.
    pub(crate) sum: Vec<f32>,
    /// The other numbers of each rank.
    pub(crate) others: Vec<Vec<f32>>,
    /// How many parts each rank had.
    pub(crate) parts: Vec<usize>,
}

fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
}

/// The rows of each of `parts` parts of a batch of `b`: one after the other, and of two sizes at most, the larger ones first. Some are empty
/// where the batch is smaller than that.
pub(crate) fn part_rows(b: usize, parts: usize) -> impl Fn(usize) -> Range<usize> {
    let (size, larger) = (b / parts, b % parts);
    let start = move |part: usize| part * size + part.min(larger);
    move |part| start(part)..start(part + 1)
}

/// Which images of each batch this rank gathers: those of its parts.
pub(crate) struct OwnRows {
    own: Range<usize>,
    parts: usize,
}

impl OwnRows {
    /// Those of a rank, of batches in so many parts.
    pub(crate) fn new(ranks: &Ranks, parts: u64) -> Self {
        Self { own: ranks.parts(parts as usize), parts: parts as usize }
    }

    /// Those of a process that is alone.
    pub(crate) fn all() -> Self {
        Self { own: 0..1, parts: 1 }
    }

    /// This rank's images of a batch at these positions. Where it has none, the batch has the first image, and no index: it does not count.
    pub(crate) fn gather(
        &self,
        view: &View,
        positions: &[usize],
        scale: Scale,
        augment: Option<(&Augment, u64, u64)>,
        device: &Device,
    ) -> Result<Batch> {
        let rows = part_rows(positions.len(), self.parts);
        let own = &positions[rows(self.own.start).start..rows(self.own.end).start];
        if own.is_empty() {
            let first = Batch::gather(view, &positions[..1], scale, augment, device)?;
            return Ok(Batch { indices: Vec::new(), ..first });
        }
        Ok(Batch::gather(view, own, scale, augment, device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_batch() {
        let rows = |b, parts| (0..parts).map(part_rows(b, parts)).collect::<Vec<_>>();
        assert_eq!(rows(8, 4), [0..2, 2..4, 4..6, 6..8]);
        assert_eq!(rows(7, 3), [0..3, 3..5, 5..7]);
        assert_eq!(rows(2, 4), [0..1, 1..2, 2..2, 2..2]);
    }

    /// Of numbers whose sum depends on the order: the part that is 1 in the middle is lost in one order and not in another.
    #[test]
    fn sums_are_in_the_order_of_the_parts() {
        // Rank 0 has one part, rank 1 two, rank 2 none.
        let parts: [Vec<Vec<f32>>; 3] =
            [vec![vec![1e8, 1.0, -0.0]], vec![vec![1.0, 2.0, -0.0], vec![-1e8, 3.0, -0.0]], vec![]];
        let by_loop = [(1e8f32 + 1.0) - 1e8, 6.0, -0.0].map(f32::to_bits);
        assert_ne!(f32::from_bits(by_loop[0]), 1e8f32 - 1e8 + 1.0);
        let found = run_ranks(3, |ranks| {
            let found = ranks.combine(&parts[ranks.rank()], &vec![ranks.rank() as f32; ranks.rank()])?;
            ranks.end(None)?;
            Ok::<_, Error>((found.sum.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), found.others, found.parts))
        });
        for found in found {
            let (sum, others, parts) = found.unwrap();
            assert_eq!(sum, by_loop);
            assert_eq!(others, [vec![], vec![1.0], vec![2.0, 2.0]]);
            assert_eq!(parts, [1, 2, 0]);
        }
        let alone = Ranks::alone().combine(&parts.concat(), &[]).unwrap();
        assert_eq!(alone.sum.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), by_loop);
    }

    #[test]
    fn a_failure_reaches_every_rank() {
        let ended = run_ranks(3, |ranks| {
            if ranks.rank() > 0 {
                // In the middle of whatever the others do.
                return ranks.end(Some(&format!("number {} is out of paper", ranks.rank())));
            }
            let found = ranks.combine(&[vec![1.0; 5]], &[]);
            found.map(|_| ())
        });
        let said: Vec<String> =
            ended.into_iter().map(|end| end.map_or_else(|error| error.to_string(), |()| String::new())).collect();
        assert_eq!(said, ["rank 1: number 1 is out of paper", "", "rank 1: number 1 is out of paper"]);
    }

    #[test]
    fn a_lost_rank_is_an_error() {
        let ended = run_ranks(2, |ranks| if ranks.is_root() { ranks.count(1).map(|_| ()) } else { Ok(()) });
        assert!(matches!(ended[0], Err(Error::Collective(_))), "{ended:?}");
    }

    #[test]
    fn bytes_and_signs_are_shared() {
        let found = run_ranks(2, |ranks| {
            let bytes = ranks.share(if ranks.is_root() { b"of the root".to_vec() } else { vec![7] })?;
            let own = vec![ranks.rank() as u8; ranks.rank()];
            assert_eq!(ranks.gather(&own)?, [vec![], vec![1]]);
            let any = ranks.any(if ranks.is_root() { flags::READ } else { flags::STOP })?;
            let sum = ranks.count(3 + ranks.rank())?;
            ranks.end(None)?;
            Ok::<_, Error>((bytes, any, sum))
        });
        for found in found {
            assert_eq!(found.unwrap(), (b"of the root".to_vec(), flags::READ | flags::STOP, 7));
        }
    }

    #[test]
    fn going_back_is_told_in_the_next_exchange() {
        let found = run_ranks(2, |ranks| {
            let heard = if ranks.is_root() { ranks.went_back() } else { ranks.combine(&[vec![1.0]], &[]).map(|_| ()) };
            ranks.end(None)?;
            Ok::<_, Error>(heard.err().map(|error| error.to_string()))
        });
        let found: Vec<_> = found.into_iter().map(|found| found.unwrap()).collect();
        assert_eq!(found, [None, Some(Error::WentBack.to_string())]);
    }
}
