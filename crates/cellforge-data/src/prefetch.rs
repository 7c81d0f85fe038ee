//! Work done ahead on a background thread.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Results of a background thread, in order. Dropping it ends the thread after the item under way.
#[derive(Debug)]
pub struct Prefetch<T> {
    // Both are taken when the iterator is dropped: the receiver first, which unblocks the thread.
    receiver: Option<Receiver<T>>,
    worker: Option<JoinHandle<()>>,
}

/// Runs `make` for each of `steps` in order on a background thread, at most `depth` (at least 1) results ahead of
/// whoever iterates. Errors are results like others: let `make` return them. A panic in `make` goes on in the caller.
pub fn prefetch<I, T, F>(steps: I, depth: usize, mut make: F) -> Prefetch<T>
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
    T: Send + 'static,
    F: FnMut(I::Item) -> T + Send + 'static,
{
    let (sender, receiver) = sync_channel(depth.max(1));
    let mut steps = steps.into_iter();
    let worker = std::thread::spawn(move || {
        for step in &mut steps {
            if sender.send(make(step)).is_err() {
                break;
            }
        }
    });
    Prefetch { receiver: Some(receiver), worker: Some(worker) }
}

impl<T> Iterator for Prefetch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if let Ok(item) = self.receiver.as_ref()?.recv() {
            return Some(item);
        }
        // The thread is done: with its work, or with a panic that must not pass for the end.
        if let Some(Err(panic)) = self.worker.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the thread no longer matters to anybody.
            worker.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_ends() {
        let squares: Vec<u64> = prefetch(0..100u64, 3, |i| i * i).collect();
        assert_eq!(squares, (0..100).map(|i| i * i).collect::<Vec<u64>>());
    }

    #[test]
    fn dropping_it_early_does_not_hang() {
        let mut endless = prefetch(0u64.., 2, |i| i);
        assert_eq!(endless.next(), Some(0));
        drop(endless);
    }

    #[test]
    #[should_panic(expected = "the third one")]
    fn a_panic_reaches_the_caller() {
        prefetch(0..5, 1, |i| assert!(i < 2, "the third one")).for_each(drop);
    }
}
