//! Ranks: processes that MPI has started together for one training.

use std::fmt;

use anyhow::{Error, Result, bail};
use cellforge::train::{self, Ranks};

use super::{Interrupted, terminal};

/// What those who start processes together say in the environment: the number of this one, how many there are, how many on this machine. Open
/// MPI; MPICH and Slurm's PMI; PMIx, which says the number alone.
const VARIABLES: [[&str; 3]; 3] = [
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"],
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"],
    ["PMIX_RANK", "", ""],
];

/// The environment's numbers, where this process was started by MPI.
fn launched() -> Option<[Option<usize>; 3]> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    VARIABLES.map(|names| names.map(number)).into_iter().find(|[rank, ..]| rank.is_some())
}

/// Whether MPI has started this process.
pub(super) fn is_launched() -> bool {
    launched().is_some()
}

/// Whether another rank speaks for this process.
pub fn is_silent() -> bool {
    launched().is_some_and(|[rank, size, _]| rank > Some(0) && size != Some(1))
}

/// The ranks of this machine, which share its processors.
pub(super) fn on_this_machine() -> usize {
    launched().and_then(|[.., local]| local).unwrap_or(1).max(1)
}

/// Refuses to do in several processes at once what one is to do.
pub fn refuse_several() -> Result<()> {
    match launched() {
        Some([_, Some(size), _]) if size > 1 => {
            bail!(
                "MPI has started this {size} times, and only `train gan`, `train classifier` and `generate` run over ranks: start it alone"
            )
        }
        _ => Ok(()),
    }
}

/// The ranks that this process is one of; alone where MPI did not start it.
#[cfg(feature = "mpi")]
pub fn open() -> Result<Ranks> {
    if launched().is_none() {
        return Ok(Ranks::alone());
    }
    Ok(Ranks::new(train::MpiWorld::open()?))
}

/// The ranks that this process is one of; alone where MPI did not start it.
#[cfg(not(feature = "mpi"))]
pub fn open() -> Result<Ranks> {
    match launched() {
        Some([_, Some(size), _]) if size > 1 => bail!(
            "MPI has started this {size} times, but this cellforge was built without MPI; build one that has it with: cargo build --release --features mpi"
        ),
        _ => Ok(Ranks::alone()),
    }
}

/// An error that was printed already, or that another rank prints.
#[derive(Debug)]
pub struct Told {
    /// The exit code for it.
    pub code: u8,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another rank says why")
    }
}

impl std::error::Error for Told {}

/// Ends the work of this rank with what became of it. Rank 0 prints what went wrong on any of them.
pub fn end(ranks: &Ranks, done: Result<()>) -> Result<()> {
    if ranks.is_alone() {
        close();
        return done;
    }
    let is_told = |error: &Error| error.chain().any(|cause| cause.downcast_ref().is_some_and(train::Error::is_told));
    // Every rank was stopped with the others.
    let is_stopped = |error: &Error| error.chain().any(|cause| cause.is::<Interrupted>());
    let ended = match done {
        Err(error) if is_told(&error) => Err(error),
        Err(error) if !is_stopped(&error) => {
            ranks.end(Some(&terminal::in_one_line(&error))).map_err(Error::from).and(Err(error))
        }
        done => ranks.end(None).map_err(Error::from).and(done),
    };
    let Err(error) = ended else {
        close();
        return Ok(());
    };
    let code = if ranks.is_root() { terminal::show(&error) } else { terminal::code_of(&error) };
    // Without the others there is no end by agreement: whoever started them ends them.
    if !error.chain().any(|cause| matches!(cause.downcast_ref(), Some(train::Error::Collective(_)))) {
        close();
    }
    Err(Told { code }.into())
}

#[cfg(feature = "mpi")]
fn close() {
    train::MpiWorld::close();
}

#[cfg(not(feature = "mpi"))]
fn close() {}
