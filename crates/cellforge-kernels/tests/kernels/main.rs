//! Every kernel, and its composed form, against a plain `f64` reference and its central differences.

mod activation;
mod common;
mod conv;
mod loss;
mod norm;
mod optim;
mod pool;
mod tape;
mod threads;
