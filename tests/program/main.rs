//! The program as its users run it. One binary, because linking is the slowest part.

mod audit;
mod bad_input;
mod classifier;
mod cli;
mod commands;
mod common;
mod corpus;
mod crash;
mod determinism;
mod evaluate;
mod found;
mod generate;
mod numbers;
mod panel;
mod private;
mod public_layouts;
mod report;
mod resume;
mod settings;
mod sizes;
mod study;
