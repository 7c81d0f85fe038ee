//! The malaria study end to end: stages, presets, results.json and the HTML report.
