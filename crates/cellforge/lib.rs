//! Cellforge.
