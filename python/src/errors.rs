//! Errors of the libraries as exceptions of Python.

use std::io;

use pyo3::exceptions::{PyFileNotFoundError, PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

type Cause = dyn std::error::Error + 'static;

/// The exception for an error: `FileNotFoundError` or another `OSError` where a file is to blame, `RuntimeError` where the computation failed, and
/// `ValueError` for everything else, which is what was given.
pub(crate) fn raise(error: &Cause) -> PyErr {
    let message = message(error);
    let chain = || std::iter::successors(Some(error), |&cause| next(cause));
    if chain().any(is_interrupt) {
        return PyKeyboardInterrupt::new_err(message);
    }
    if let Some(io) = chain().find_map(|cause| cause.downcast_ref::<io::Error>()) {
        return io::Error::new(io.kind(), message).into();
    }
    if chain().any(is_missing) {
        return PyFileNotFoundError::new_err(message);
    }
    if chain().any(is_failure) { PyRuntimeError::new_err(message) } else { PyValueError::new_err(message) }
}

/// What caused an error. One that stands in another's place names that one's cause as its own, and not that one.
fn next(error: &Cause) -> Option<&Cause> {
    use cellforge_assess::Error as Assess;
    use cellforge_train::Error as Train;
    if let Some(boxed) = error.downcast_ref::<Box<Train>>() {
        return Some(boxed.as_ref());
    }
    let inner: Option<&Cause> = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(Assess::Train(inner)), _) => Some(inner),
        (Some(Assess::Data(inner)), _) | (_, Some(Train::Data(inner))) => Some(inner),
        (Some(Assess::Eval(inner)), _) => Some(inner),
        (Some(Assess::Candle(inner)), _) | (_, Some(Train::Tensor(inner))) => Some(inner),
        _ => match error.downcast_ref() {
            Some(cellforge_data::Error::Candle(inner)) => Some(inner),
            _ => None,
        },
    };
    inner.or_else(|| error.source())
}

/// An error and its causes in one line, each that the one before does not quote already.
fn message(error: &Cause) -> String {
    let mut text = without_backtrace(&error.to_string());
    let mut cause = next(error);
    while let Some(found) = cause {
        let more = without_backtrace(&found.to_string());
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next(found);
    }
    text
}

/// Candle puts the stack into its messages where `RUST_BACKTRACE` asks for it: lines that begin with the number of a frame, or with its place.
fn without_backtrace(text: &str) -> String {
    let is_frame = |line: &&str| {
        let line = line.trim_start();
        let (number, rest) = line.split_at(line.find(|c: char| !c.is_ascii_digit()).unwrap_or(line.len()));
        line.starts_with("at ") || (!number.is_empty() && rest.starts_with(": "))
    };
    let lines: Vec<&str> =
        text.lines().enumerate().filter(|(at, line)| *at == 0 || !is_frame(line)).map(|(_, line)| line).collect();
    lines.join("\n").trim_end().to_owned()
}

fn is_interrupt(cause: &Cause) -> bool {
    matches!(cause.downcast_ref(), Some(cellforge_assess::Error::Interrupted))
}

fn is_missing(cause: &Cause) -> bool {
    matches!(cause.downcast_ref(), Some(cellforge_train::Error::NoCheckpoint(_)))
        || matches!(cause.downcast_ref(), Some(cellforge_data::Error::NotFound(_)))
}

/// Whether nobody's input is to blame.
fn is_failure(cause: &Cause) -> bool {
    use cellforge_train::Error::{Diverged, Exploded};
    cause.is::<candle_core::Error>()
        || matches!(cause.downcast_ref(), Some(Diverged { .. } | Exploded { .. }))
        || matches!(cause.downcast_ref(), Some(cellforge_data::Error::Worker(_)))
        || matches!(cause.downcast_ref(), Some(cellforge_eval::Error::NotConverged))
}
