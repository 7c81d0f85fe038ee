//! Instructions of training steps, counted by Valgrind and not timed: what a kernel needs for its work, on any machine and however busy.
//!
//! Networks are narrow and images small, for Valgrind takes a hundred times as long. It has no AVX-512 and no AMX: what is counted is AVX2's
//! form of each kernel.

use std::collections::BTreeMap;
use std::process::Command;

use crate::train;
use crate::work;

/// `speed --count-step NAME` takes one step and does nothing else.
const FLAG: &str = "--count-step";

/// Change that is taken for one, as a share. Another compiler may move a count by a few hundredths.
const TOLERANCE: f64 = 0.05;

/// Whether this process was started to be counted; it has taken its step then.
pub fn is_counted() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, name] = arguments.as_slice() else { return false };
    if flag == FLAG {
        train::narrow_step(name);
    }
    flag == FLAG
}

/// Counts each step, and holds it against `benches/instructions.json`. Without Valgrind, or on another processor than x86-64, it says so.
///
/// # Panics
/// Where a count differs, more or less.
#[allow(clippy::print_stderr)]
pub fn hold() {
    if !cfg!(target_arch = "x86_64") {
        return eprintln!("instructions are not counted: what is known of them is of x86-64");
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return eprintln!("instructions are not counted: there is no Valgrind");
    }
    let found: BTreeMap<_, _> = train::NARROW.iter().map(|name| ((*name).to_owned(), millions(name))).collect();
    work::hold("instructions.json", &found, |a, b| work::is_near(*a, *b, TOLERANCE));
}

/// Millions of instructions of a process that takes one step in one thread. Making the networks is a tenth of them.
fn millions(name: &str) -> f64 {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([FLAG, name])
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .expect("Valgrind runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
    let counted =
        counted.filter(|_| output.status.success()).unwrap_or_else(|| panic!("Valgrind counts {name}: {said}"));
    (counted as f64 / 1e4).round() / 1e2
}
