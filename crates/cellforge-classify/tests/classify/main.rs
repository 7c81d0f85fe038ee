//! The networks against hand-worked numbers and against PyTorch. One binary, because linking is the slowest part.

mod dinov2;
#[path = "../../../cellforge-gan/tests/gan/distance.rs"]
mod distance;
#[path = "../../../cellforge-gan/tests/gan/fixtures.rs"]
mod fixtures;
mod inception;
mod networks;
mod parity;
mod support;
#[path = "../../../cellforge-gan/tests/gan/tape.rs"]
mod tape;
mod torchvision;
