//! Attacks on a generator: was this image, or this patient, among those that it learned from?
//!
//! An attacker has images that a generator made, and a target: a real image that may or may not have been in training. Nothing here trains
//! or reads a file. The scores go to [`membership`](crate::privacy::membership()), which says how well members are told from others.
//!
//! - [`log_density`]: how dense the drawn images lie around each target.
//! - [`domias`]: that density over the density of reference images, which come from elsewhere. From van Breugel et al. (2023), Membership
//!   inference attacks against synthetic data through overfitting detection, AISTATS, arXiv:2302.12580.
//! - [`likelihood_ratios`]: the attacked generator's statistic of each target, against what generators give that were trained in the same way on
//!   other patients. From Carlini et al. (2022), Membership inference attacks from first principles, IEEE S&P, arXiv:2112.03570.
//! - [`Guesses`]: from guesses about units that were put in or out of training by a fair coin, a lower bound of epsilon. From Steinke, Nasr
//!   and Jagielski (2023), Privacy auditing with one (1) training run, NeurIPS, arXiv:2305.08846.
//!
//! ```
//! use cellforge_eval::{Features, attacks::{Guesses, domias}};
//!
//! // Three targets on a line. The generator made images close to the first; reference images lie evenly.
//! let synthetic = [0.1_f32, -0.1, 0.2, 11.0, 17.0];
//! let reference = [-3.0_f32, 2.0, 8.0, 13.0, 18.0];
//! let targets = Features::new(&[0.0, 10.0, 20.0], 1)?;
//! let scores = domias(targets, Features::new(&synthetic, 1)?, Features::new(&reference, 1)?, 1)?;
//! assert!(scores[0] > scores[1] && scores[0] > scores[2]);
//!
//! // Ten guesses, all right: no mechanism with an epsilon of 1 would be guessed so well but in 5% of runs.
//! let bound = Guesses { units: 10, guesses: 10, correct: 10 }.epsilon_bound(0.0, 0.95)?;
//! assert!(bound.lower > 1.0);
//! # Ok::<(), cellforge_eval::Error>(())
//! ```

mod density;
mod epsilon;
mod lira;

pub use density::{domias, log_density};
pub use epsilon::{EpsilonBound, Guesses};
pub use lira::{LikelihoodRatios, Reference, likelihood_ratios};
