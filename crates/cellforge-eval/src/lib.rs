//! Judging classifiers and synthetic images: figures with intervals, from arrays alone.
