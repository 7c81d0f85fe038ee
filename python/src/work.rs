//! Work beside Python: in a thread of its own, without Python's lock, until it is done or Ctrl-C is pressed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// What becomes of work that is under way when Ctrl-C is pressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// It looks at the flag that it is given and ends soon. That is waited for.
    Wait,
    /// It has no place to stop at. It runs on by itself, its result is dropped, and Python goes on at once.
    Leave,
}

/// Time between two looks for signals.
const TICK: Duration = Duration::from_millis(50);

/// Does the work, which is given a flag that says whether to stop.
///
/// # Errors
/// What Ctrl-C raises; `RuntimeError` where the work panics, and in a process that was forked from one that had used this module.
pub(crate) fn run<T: Send + 'static>(
    py: Python<'_>,
    on_signal: OnSignal,
    work: impl FnOnce(&Arc<AtomicBool>) -> T + Send + 'static,
) -> PyResult<T> {
    check_process()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, mut receiver) = channel();
    let flag = Arc::clone(&stop);
    thread::Builder::new()
        .name("cellforge".to_owned())
        .spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&flag)));
            // Nobody listens any more to work that was left.
            let _ = sender.send(done);
        })
        .map_err(|error| PyRuntimeError::new_err(format!("cannot start a thread: {error}")))?;
    let mut signal = None;
    loop {
        // A receiver is for one thread at a time, and Python's lock is no part of that.
        let waiting = &mut receiver;
        match py.detach(move || waiting.recv_timeout(TICK)) {
            Ok(done) => {
                return match (signal, done) {
                    (Some(signal), _) => Err(signal),
                    (None, Ok(found)) => Ok(found),
                    (None, Err(panic)) => Err(failed(&*panic)),
                };
            }
            Err(RecvTimeoutError::Disconnected) => return Err(failed(&"its thread ended")),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Err(raised) = py.check_signals() {
            stop.store(true, Ordering::SeqCst);
            if on_signal == OnSignal::Leave {
                return Err(raised);
            }
            signal = Some(raised);
        }
    }
}

fn failed(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    PyRuntimeError::new_err(format!("cellforge failed, which it should not: {}", text.unwrap_or_default()))
}

/// Threads do not survive a fork: work in a forked process would wait for them for ever.
fn check_process() -> PyResult<()> {
    static FIRST: OnceLock<u32> = OnceLock::new();
    if *FIRST.get_or_init(std::process::id) == std::process::id() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(
        "this process was forked from one that had used cellforge, whose threads it lacks: start processes with \
         multiprocessing.get_context(\"spawn\")",
    ))
}
