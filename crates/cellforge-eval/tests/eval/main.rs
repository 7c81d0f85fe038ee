//! Every figure and verdict, by hand, by other programs, and by simulation. One binary, because linking is the slowest part.

mod by_hand;
mod coverage;
mod fidelity;
mod neighbours;
mod panel;
mod population;
mod privacy;
mod scikit_learn;
mod utility;
