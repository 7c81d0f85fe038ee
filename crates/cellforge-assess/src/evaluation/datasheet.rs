//! The data sheet that goes with a synthetic set, after Gebru et al. (2021), Datasheets for datasets.

use std::fmt::Write;

use cellforge_data::counted;
use cellforge_eval::Estimate;

use super::{
    Answer, Evaluation, FeatureInfo, FidelityPart, FidelityScope, OtherFeatures, PrivacyPart, SetInfo, Words, digits,
};
use crate::markdown::{escaped, fenced};
use crate::report::{found_word, space_name, test_name};

/// Writes the data sheet as Markdown.
#[must_use]
pub fn datasheet(found: &Evaluation) -> String {
    let mut text = String::new();
    write(&mut text, found).expect("writing into a string cannot fail");
    text
}

fn write(text: &mut String, found: &Evaluation) -> std::fmt::Result {
    let (sets, provenance, words) = (&found.sets, &found.provenance, &found.words);
    let words = &words_in_markdown(words);
    let (one, many) = (&words.one, &words.many);
    writeln!(text, "# Data sheet: synthetic {many}\n")?;
    writeln!(text, "Written by cellforge {} from the figures in `evaluation.json`.\n", found.versions.cellforge)?;
    writeln!(
        text,
        "This sheet shows no real {one} and names no patient. Names of classes and of the sets are those that they were given.\n"
    )?;
    for notice in &provenance.notices {
        writeln!(text, "> **{}** {}\n", notice.title, notice.sentence)?;
    }

    writeln!(text, "## What it is\n")?;
    let size = format!(
        "{} x {} pixels, {}",
        sets.side.width,
        sets.side.height,
        if sets.channels == 1 { "grey" } else { "colour" }
    );
    writeln!(text, "- {} synthetic {many} of {size}: {}.", sets.synthetic.available, classes(&sets.synthetic))?;
    writeln!(text, "- Source: {}.", escaped(&sets.synthetic.source))?;
    let generator = escaped(provenance.generator.as_deref().unwrap_or("not recorded"));
    writeln!(text, "- Made by: {generator}.")?;
    if let Some(seed) = provenance.seed {
        writeln!(text, "- Seed of the generation: {seed}.")?;
    }
    writeln!(text, "- Labels are the classes that the {many} were made for. No {one} was checked by a person.")?;
    writeln!(text, "- SHA-256 of the {many} that were measured: `{}`.\n", sets.synthetic.fingerprint)?;

    writeln!(text, "## What it was made from\n")?;
    let source = |set: &SetInfo| format!("{}; {}{}", escaped(&set.source), classes(set), patients(set));
    writeln!(text, "- Training {many}: {}.", source(&sets.real))?;
    match &sets.holdout {
        Some(holdout) => writeln!(
            text,
            "- Held out{}: {}.",
            match provenance.holdout_seen {
                None => String::new(),
                Some(0) => ", none of them seen by the generator".to_owned(),
                Some(seen) => format!(
                    ", though the generator was trained on {seen} of them, by which no figure below is one of new {many}"
                ),
            },
            source(holdout)
        )?,
        None => {
            writeln!(text, "- No {many} were held out: copies were looked for, and other leaks could not be tested.")?
        }
    }
    if let Some(left_out) = found.left_out() {
        writeln!(text, "- Not compared: {}.", escaped(&left_out))?;
    }
    for sentence in found.reading() {
        writeln!(text, "- {}", escaped(&sentence))?;
    }
    if let Some(shared) = sets.shared_patients {
        writeln!(text, "- Patients on both sides: {shared}.")?;
    }
    writeln!(text)?;

    writeln!(text, "## What was measured\n")?;
    for verdict in &found.verdicts {
        writeln!(
            text,
            "- **{}** {}. {}",
            escaped(&verdict.question),
            verdict.answer.word(),
            escaped(&verdict.sentence)
        )?;
    }
    writeln!(text)?;
    writeln!(text, "Compared by {}.\n", escaped(&found.features.source))?;
    figures(text, found)?;
    for (part, reason) in &found.not_measured {
        writeln!(text, "- Not measured, {part}: {}.", escaped(reason))?;
    }

    writeln!(text, "\n## What it may be used for\n")?;
    writeln!(text, "- Research on generative models and on their evaluation, teaching, and tests of software.")?;
    let trainable = found.verdicts.iter().any(|v| v.about == "utility" && v.answer == Answer::Good);
    if trainable {
        writeln!(text, "- Training classifiers for research, as far as the figures above go.")?;
    }
    writeln!(text, "\n## What it must not be used for\n")?;
    writeln!(text, "- Diagnosis, or any decision about a patient. It is no medical device and part of none.")?;
    writeln!(text, "- As evidence of how a method does on patients: judge it on real {many}.")?;
    writeln!(
        text,
        "- As anonymous data without a review of the privacy findings by whoever answers for the real {many}."
    )?;
    if !trainable {
        writeln!(text, "- In place of real {many} for training: that it can stand in for them was not shown.")?;
    }

    writeln!(text, "\n## Licence and citation of the source data\n")?;
    match &provenance.licence {
        Some(licence) => writeln!(text, "{licence}")?,
        None => writeln!(text, "Not recorded: whoever passes the set on has to add the terms of the real {many}.")?,
    }

    writeln!(text, "\n## How to repeat it\n")?;
    if !provenance.command.is_empty() {
        writeln!(text, "{}", fenced("sh", &provenance.command))?;
    }
    let versions = &found.versions;
    writeln!(
        text,
        "With cellforge {}, Candle {}, {} ({}), device {}, seed {}. The settings are in `config.toml`.",
        versions.cellforge, versions.candle, versions.os, versions.arch, versions.device, found.settings.seed
    )
}

/// What the images are called, for sentences that are Markdown already.
fn words_in_markdown(words: &Words) -> Words {
    Words { one: escaped(&words.one), many: escaped(&words.many) }
}

fn classes(set: &SetInfo) -> String {
    set.images_per_class.iter().map(|(class, n)| format!("{n} {}", escaped(class))).collect::<Vec<_>>().join(", ")
}

fn patients(set: &SetInfo) -> String {
    match (set.patients, set.effective_patients) {
        (Some(n), Some(effective)) => {
            format!(" of {} ({effective:.1} effective)", counted(n, "patient", "patients"))
        }
        _ => " of patients that are not known".to_owned(),
    }
}

/// An estimate with its interval.
fn show(e: Estimate) -> String {
    format!("{} ({} to {})", digits(e.value), digits(e.low), digits(e.high))
}

/// The figures that verdicts rest on.
fn figures(text: &mut String, found: &Evaluation) -> std::fmt::Result {
    let words = &words_in_markdown(&found.words);
    let many = &words.many;
    seen(text, &found.features, &found.words)?;
    if let Some(fidelity) = &found.fidelity {
        scopes(text, fidelity, &found.features, found)?;
    }
    for OtherFeatures { features, fidelity } in &found.other_features {
        writeln!(text, "By other features, {}:\n", escaped(&features.source))?;
        seen(text, features, &found.words)?;
        scopes(text, fidelity, features, found)?;
    }
    if let Some(utility) = &found.utility {
        let figures = &utility.figures;
        writeln!(text, "- Accuracy on real {many}, trained on synthetic ones: {}.", show(figures.tstr.accuracy))?;
        writeln!(text, "- The same, trained on real ones: {}.", show(figures.trtr.accuracy))?;
        writeln!(text, "- Accuracy on synthetic {many}, trained on real ones: {}.", show(figures.trts.accuracy))?;
    }
    let copies = found.copies.in_words(&found.words, found.sets.synthetic.images);
    let searched = if found.copies.near.is_some() { "" } else { " Only identical ones were looked for." };
    writeln!(
        text,
        "- Copies: {}{searched}",
        copies.map_or_else(|| format!("no copy of a training {} was found.", words.one), |copies| escaped(&copies))
    )?;
    if let Some(twice) = found.copies.twice_in_words(&found.words, found.sets.synthetic.images) {
        writeln!(text, "- {}", escaped(&twice))?;
    }
    if let Some(near) = &found.copies.near {
        let alarms = &near.false_alarms;
        writeln!(
            text,
            "- Of {} patients of whom no {} can be a copy, {} would have been accused.",
            alarms.units, words.one, alarms.accused
        )?;
    }
    if let Some(privacy) = &found.privacy {
        let leaks = privacy.findings.iter().filter(|finding| finding.leaks).count();
        writeln!(text, "- Tests for leaks: {leaks} of {} find one.", privacy.findings.len())?;
        if let Some(linked) = &privacy.reidentification {
            writeln!(text, "- Re-identification: {}", escaped(&linked.in_words(&found.words)))?;
        }
        writeln!(text)?;
        leak_tests(text, privacy, &found.words)?;
    }
    Ok(())
}

/// Whether the network of the features has seen the images.
fn seen(text: &mut String, features: &FeatureInfo, words: &Words) -> std::fmt::Result {
    features.seen_in_words(words).map_or(Ok(()), |sentence| writeln!(text, "{}\n", escaped(&sentence)))
}

/// A table of all classes together, and one of each class, which is what verdicts go by.
fn scopes(text: &mut String, part: &FidelityPart, features: &FeatureInfo, found: &Evaluation) -> std::fmt::Result {
    part.scopes(&found.classes).into_iter().try_for_each(|(name, of)| scope(text, name, of, features, found))
}

fn scope(
    text: &mut String,
    name: &str,
    scope: &FidelityScope,
    features: &FeatureInfo,
    found: &Evaluation,
) -> std::fmt::Result {
    let (n, many, against) = (scope.images, escaped(&found.words.many), scope.judged_against());
    let name = escaped(name);
    writeln!(text, "| {name} ({n} {many} on each side) | Synthetic {against} | Real {against} |\n|---|---|---|")?;
    let [a, b] = scope.judged();
    let metric = escaped(&features.metric);
    let measured = [a, b].map(|found| digits(found.frechet_measured));
    writeln!(text, "| {metric} | {} | {} |", show(a.frechet), show(b.frechet))?;
    writeln!(text, "| {metric} as measured | {} | {} |", measured[0], measured[1])?;
    for (name, a, b) in [
        ("KID", a.kid, b.kid),
        ("precision", a.precision, b.precision),
        ("recall", a.recall, b.recall),
        ("density", a.density, b.density),
        ("coverage", a.coverage, b.coverage),
        ("alpha-precision", a.alpha_precision, b.alpha_precision),
        ("beta-recall", a.beta_recall, b.beta_recall),
        ("realistic", a.realistic, b.realistic),
        ("Vendi score", a.vendi, b.vendi),
    ] {
        writeln!(text, "| {name} | {} | {} |", show(a), show(b))?;
    }
    for (name, a, b) in [("rarity", a.rarity, b.rarity), ("FLD", scope.fld, scope.fld_real)] {
        let shown = |e: Option<Estimate>| e.map_or_else(|| "none".to_owned(), show);
        writeln!(text, "| {name} | {} | {} |", shown(a), shown(b))?;
    }
    writeln!(text)
}

/// A table of the tests for leaks, with the p-value of each and the one adjusted for all of them.
fn leak_tests(text: &mut String, part: &PrivacyPart, words: &Words) -> std::fmt::Result {
    writeln!(
        text,
        "| Test for leaks | By | Figure | By chance | p | p (all tests) | Leak |\n|---|---|---|---|---|---|---|"
    )?;
    for finding in &part.findings {
        let space =
            finding.space.as_deref().map_or_else(|| "a network".to_owned(), |space| escaped(&space_name(space)));
        let [chance, p, adjusted] = match finding.chance {
            Some(chance) => [
                format!("{} to {}", digits(chance.low), digits(chance.high)),
                format!("{:.4}", chance.p),
                format!("{:.4}", finding.p_adjusted),
            ],
            None => Default::default(),
        };
        writeln!(
            text,
            "| {} | {space} | {} | {chance} | {p} | {adjusted} | {} |",
            escaped(&test_name(&finding.test, words)),
            digits(finding.value),
            found_word(finding),
        )?;
    }
    writeln!(text)
}
