//! The work of a step, counted and not timed, so that a step that does more than it did is seen on any machine, however busy.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use cellforge::kernels::profile;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What one run of something asked of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Multiplications and additions by the definitions of its layers, in thousands of millions.
    gflop: f64,
    /// MiB of the operands of its passes over memory, each counted once a pass.
    mib: f64,
    /// Passes of operations, forward and back.
    passes: u64,
}

/// Change of any figure that is taken for one, as a share.
const TOLERANCE: f64 = 0.005;

impl Work {
    /// Of `f`, with its result. Nothing else may compute meanwhile.
    pub fn of<T>(f: impl FnOnce() -> T) -> (Self, T) {
        profile::start();
        let made = f();
        let lines = profile::finish().lines;
        let rounded = |x: f64| (x * 1e4).round() / 1e4;
        let work = Self {
            gflop: rounded(lines.iter().map(|line| line.flop).sum::<f64>() / 1e9),
            mib: rounded(lines.iter().map(|line| line.bytes).sum::<f64>() / f64::from(1 << 20)),
            passes: lines.iter().map(|line| line.calls).sum(),
        };
        (work, made)
    }

    pub fn is_near(&self, other: &Self) -> bool {
        let near = |a, b| is_near(a, b, TOLERANCE);
        near(self.gflop, other.gflop) && near(self.mib, other.mib) && near(self.passes as f64, other.passes as f64)
    }
}

/// Whether two figures differ by no more than a share of the greater.
pub fn is_near(a: f64, b: f64, share: f64) -> bool {
    (a - b).abs() <= share * a.max(b)
}

/// Holds what was found against a file in `benches`, or with `CELLFORGE_WORK=update` writes it there.
///
/// # Panics
/// Where anything differs, more or less.
pub fn hold<T: Debug + Serialize + DeserializeOwned>(
    file: &str,
    found: &BTreeMap<String, T>,
    is_near: impl Fn(&T, &T) -> bool,
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(file);
    if std::env::var_os("CELLFORGE_WORK").is_some_and(|what| what == "update") {
        let json = serde_json::to_string_pretty(found).expect("figures") + "\n";
        return std::fs::write(&path, json).unwrap_or_else(|e| panic!("{} can't be written: {e}", path.display()));
    }
    let json = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{} can't be read: {e}", path.display()));
    let known: BTreeMap<String, T> = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for (name, found) in found {
        let known = known.get(name).unwrap_or_else(|| panic!("{name} is not in {}", path.display()));
        assert!(
            is_near(found, known),
            "{name} was {known:?} in {} and is {found:?}: if it is meant to, run with CELLFORGE_WORK=update",
            path.display()
        );
    }
}
