//! How often the 95% intervals of `fidelity` hold the true figure: features are drawn from normal distributions whose distances are
//! known, by patients with unequal numbers of images.
//!
//! ```sh
//! cargo run --release -p cellforge-eval --example coverage_of_intervals            # 40 repeats of each setting
//! cargo run --release -p cellforge-eval --example coverage_of_intervals -- 400     # more of them
//! ```
//!
//! The true Fréchet and kernel distance follow from the distributions. The other figures depend on the sizes of the sets: their true
//! value is the mean over all repeats of sets of these sizes, which with few repeats is itself not well known.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints what it shows")]

#[path = "../tests/eval/coverage.rs"]
mod coverage;

use coverage::{FIGURES, SETTINGS, simulate};

fn main() {
    let repeats = std::env::args().nth(1).map_or(Ok(40), |text| text.parse());
    let Ok(repeats @ 2..) = repeats else {
        eprintln!("give the number of repeats, 2 or more, or nothing for 40");
        std::process::exit(2);
    };
    println!("Coverage in percent of 95% intervals, {repeats} repeats of each setting.\n");
    println!("| dims | reference | compared | shift | scale | {} |", FIGURES.join(" | "));
    println!("|{}", "---|".repeat(5 + FIGURES.len()));
    for setting in &SETTINGS {
        let found = simulate(setting, repeats, 1);
        let shown: Vec<String> = found.iter().map(|share| format!("{:.0}", 100.0 * share)).collect();
        let compared = match setting.compared_patients {
            0 => "images".to_owned(),
            patients => format!("{patients} patients"),
        };
        println!(
            "| {} | {} patients | {compared} | {} | {} | {} |",
            setting.dims,
            setting.patients,
            setting.shift,
            setting.scale,
            shown.join(" | ")
        );
    }
}
