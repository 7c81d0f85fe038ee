//! Layers and optimizers. One binary, because linking is the slowest part.

mod layers;
mod optimizers;
