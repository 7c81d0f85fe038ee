//! The networks against hand-worked numbers, Candle and PyTorch. One binary, because linking is the slowest part.

mod distance;
mod fixtures;
mod gan;
mod gradient_penalty;
mod networks;
mod parity;
mod sizes;
mod tape;
mod variants;
