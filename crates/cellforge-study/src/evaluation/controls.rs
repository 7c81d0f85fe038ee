//! What the privacy tests say of cells of which it is known whether they leak.

use cellforge_eval::privacy::Finding;

use super::PrivacyPart;

/// The controls, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Controls {
    /// Tests that were run on the replayed training cells.
    pub(crate) tests: usize,
    /// Of these, those that found the leak.
    pub(crate) caught: usize,
    /// Tests that accused cells of patients whom no generator saw; none where there are too few held-out patients to see.
    pub(crate) accused: Option<usize>,
}

impl Controls {
    /// Counts the controls of a part, if it has them.
    pub(crate) fn of(part: &PrivacyPart) -> Option<Self> {
        let controls = part.figures.controls.as_ref()?;
        let found = |findings: &[Finding]| findings.iter().filter(|finding| finding.leaks).count();
        Some(Self {
            tests: controls.replay.len(),
            caught: found(&controls.replay),
            accused: controls.innocent.as_deref().map(found),
        })
    }
}
