//! Studies of whole sets on tiny networks and phantom images. One binary, because linking is the slowest part.

mod two_sample;
mod utility;
