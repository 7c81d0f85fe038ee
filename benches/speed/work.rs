//! The work of a step, counted and not timed, so that a step that does more than it did is seen on any machine, however busy.

use std::collections::BTreeMap;
use std::path::Path;

use cellforge::kernels::profile;
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

    fn is_near(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.max(b);
        near(self.gflop, other.gflop) && near(self.mib, other.mib) && near(self.passes as f64, other.passes as f64)
    }
}

/// Holds what was found against `benches/work.json`, or with `CELLFORGE_WORK=update` writes it there.
///
/// # Panics
/// Where anything differs, more or less.
pub fn hold(found: &BTreeMap<String, Work>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/work.json");
    if std::env::var_os("CELLFORGE_WORK").is_some_and(|what| what == "update") {
        let json = serde_json::to_string_pretty(found).expect("figures") + "\n";
        return std::fs::write(&path, json).expect("benches/work.json can be written");
    }
    let json = std::fs::read_to_string(&path).expect("benches/work.json can be read");
    let known: BTreeMap<String, Work> = serde_json::from_str(&json).expect("benches/work.json is what was written");
    for (name, found) in found {
        let known = known.get(name).unwrap_or_else(|| panic!("{name} is not in benches/work.json"));
        assert!(
            found.is_near(known),
            "the work of {name} has changed from {known:?} to {found:?}: if it is meant to, run with CELLFORGE_WORK=update"
        );
    }
}
