//! One training loop, schedules, checkpoints and observers.
