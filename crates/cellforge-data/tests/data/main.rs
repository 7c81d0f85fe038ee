//! Images from where they lie to the batches that training draws. One binary, because linking is the slowest part.

mod batches;
mod common;
mod fetch;
mod fit;
mod formats;
mod layouts;
mod phantom;
mod pillow;
mod sources;
mod splits;
mod vision;
