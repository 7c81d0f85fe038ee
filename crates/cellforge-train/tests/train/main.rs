//! Whole runs of tiny networks on phantom images. One binary, because linking is the slowest part.

mod balance;
mod common;
mod features;
mod fit;
mod generation;
mod monitor;
mod outputs;
mod own;
mod parity;
mod precision;
mod ranks;
mod recipes;
mod resume;
mod sizes;
mod start;
