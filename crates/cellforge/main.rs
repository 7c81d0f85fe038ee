//! The `cellforge` command.
fn main() {}
