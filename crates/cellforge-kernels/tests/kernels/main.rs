//! Every kernel, and its composed form, against a plain `f64` reference and, where it has a gradient, its central differences.

mod activation;
mod common;
mod conv;
mod fused;
mod loss;
mod memory;
mod modulate;
mod modules;
mod norm;
mod optim;
mod pool;
mod precision;
mod remap;
mod shape;
mod spectral;
mod tape;
mod threads;
mod transformer;
