//! What the answers of a panel say.

use std::{collections::BTreeMap, fmt::Write};

use cellforge_eval::{
    BootstrapOptions, Estimate, Proportion,
    panel::{Agreement, Discrimination, PanelInput, Ratings, panel},
};
use serde::{Deserialize, Serialize};

use super::{Answers, Key, KeyImage, Source};
use crate::{
    Error, Result,
    markdown::escaped,
    numeric::median,
    report::format::{count, percent, percent_range},
};

/// The version of `panel.json`.
pub const PANEL_SCHEMA: u32 = 1;

/// The figures of a panel, as `panel.json` has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PanelScore {
    /// [`PANEL_SCHEMA`] at the time of writing.
    pub schema_version: u32,
    /// The id of the panel.
    pub panel: String,
    /// Real images, and as many synthetic ones, of each class.
    pub images: BTreeMap<String, usize>,
    /// Patients of the real images, where they are known of all.
    pub patients: Option<usize>,
    /// How many times an image is shown.
    pub showings: usize,
    /// Each rater, in the order of the files.
    pub raters: Vec<RaterScore>,
    /// All raters together.
    pub pooled: Discrimination,
    /// All raters together, on the images of each class; empty where there is one class.
    pub per_class: BTreeMap<String, Discrimination>,
    /// Each two raters.
    pub pairs: Vec<PairScore>,
    /// Agreement of all raters, where there are three or more.
    pub all: Option<Agreement>,
    /// A published panel beside which this one may stand.
    pub published: Published,
    /// How intervals were made.
    pub bootstrap: BootstrapOptions,
}

/// The figures of one rater.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaterScore {
    /// Initials.
    pub rater: String,
    /// Showings that were answered.
    pub answered: usize,
    /// The median time of an answer, in seconds.
    pub median_seconds: f64,
    /// How well the rater told images apart.
    pub discrimination: Discrimination,
    /// Agreement with the own answers on images shown twice.
    pub repeated: Option<Agreement>,
}

/// The agreement of two raters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairScore {
    /// Their initials.
    pub raters: [String; 2],
    /// How far they agree.
    pub agreement: Agreement,
}

/// A published panel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Who was asked.
    pub raters: String,
    /// How many of their answers were right.
    pub accuracy: Estimate,
    /// Where it was published.
    pub source: String,
}

impl Published {
    /// Haematologists on images of a diffusion model: 52.3% (50.5 to 54.2).
    fn anchor() -> Self {
        Self {
            raters: "haematologists".to_owned(),
            accuracy: Estimate { value: 0.523, low: 0.505, high: 0.542 },
            source: "Deltadahl et al., arXiv:2408.08982".to_owned(),
        }
    }
}

/// Scores the answers of one or more raters.
///
/// # Errors
/// [`Error::PanelImages`] where two raters have the same initials; [`Error::Eval`] where there is no rater, or the intervals cannot be made.
pub fn score(key: &Key, answers: &[Answers], options: &BootstrapOptions) -> Result<PanelScore> {
    for (i, own) in answers.iter().enumerate() {
        if answers[..i].iter().any(|other| other.rater.to_lowercase() == own.rater.to_lowercase()) {
            let problem =
                format!("two files are of the rater {:?}; give one, or other initials to one of them", own.rater);
            return Err(Error::PanelAnswers(problem));
        }
    }
    let all: Vec<&KeyImage> = key.images.iter().collect();
    let found = judged(&all, answers, options)?;
    let name = |rater: usize| answers[rater].rater.clone();
    let classes: std::collections::BTreeSet<&String> = key.images.iter().map(|image| &image.class).collect();
    let of = |class: &String| all.iter().copied().filter(|image| image.class == *class).collect::<Vec<_>>();
    let mut per_class = BTreeMap::new();
    if classes.len() > 1 {
        for &class in &classes {
            per_class.insert(class.clone(), judged(&of(class), answers, options)?.pooled);
        }
    }
    let real = |image: &&KeyImage| image.source == Source::Real;
    let patients: Option<std::collections::BTreeSet<&String>> =
        all.iter().copied().filter(real).map(|image| image.patient.as_ref()).collect();
    Ok(PanelScore {
        schema_version: PANEL_SCHEMA,
        panel: key.panel.clone(),
        images: classes.iter().map(|&class| (class.clone(), of(class).into_iter().filter(real).count())).collect(),
        patients: patients.map(|patients| patients.len()),
        showings: key.showings(),
        raters: answers
            .iter()
            .zip(&found.raters)
            .map(|(own, figures)| RaterScore {
                rater: own.rater.clone(),
                answered: own.given.len(),
                median_seconds: median(own.given.values().map(|(_, seconds)| *seconds).collect()),
                discrimination: figures.discrimination,
                repeated: figures.repeated,
            })
            .collect(),
        pooled: found.pooled,
        per_class,
        pairs: found
            .pairs
            .iter()
            .map(|pair| PairScore { raters: pair.raters.map(name), agreement: pair.agreement })
            .collect(),
        all: found.all,
        published: Published::anchor(),
        bootstrap: *options,
    })
}

/// The figures of these images.
fn judged(
    images: &[&KeyImage],
    answers: &[Answers],
    options: &BootstrapOptions,
) -> Result<cellforge_eval::panel::PanelFigures> {
    let synthetic: Vec<bool> = images.iter().map(|image| image.source == Source::Synthetic).collect();
    // A patient's images belong together; a synthetic image is of no patient.
    let unit = |image: &&KeyImage| match &image.patient {
        Some(patient) => format!("patient {patient}"),
        None => format!("image {}", image.id),
    };
    let units: Vec<String> = images.iter().map(unit).collect();
    let raters: Vec<Ratings> = answers
        .iter()
        .map(|own| {
            let at = |n: usize| {
                let answer = |image: &&KeyImage| own.given.get(image.positions.get(n)?).map(|(level, _)| *level);
                images.iter().map(answer).collect()
            };
            Ratings { first: at(0), second: at(1) }
        })
        .collect();
    Ok(panel(&PanelInput { synthetic: &synthetic, units: &units, raters: &raters }, options)?)
}

/// The figures as Markdown, with tables that can be read as plain text too.
///
/// `many` is what the images are called.
#[must_use]
pub fn markdown(found: &PanelScore, many: &str) -> String {
    let each: usize = found.images.values().sum();
    let mut text = format!("# Blinded panel {}\n\n", escaped(&found.panel));
    let raters = found.raters.len();
    let many = escaped(many);
    let _ = writeln!(
        text,
        "{} real and as many synthetic {many}{}; {} showings; {raters} rater{}.\n",
        count(each as u64),
        found.patients.map_or_else(String::new, |n| format!(", the real ones of {n} patients")),
        count(found.showings as u64),
        if raters == 1 { "" } else { "s" }
    );
    let _ = writeln!(text, "{}\n", sentence(found));
    let mut rows = vec![words(["rater", "answered", "accuracy", "sensitivity", "specificity", "AUC"])];
    let row = |name: &str, answered: String, d: &Discrimination| {
        [name.to_owned(), answered, share(&d.accuracy), share(&d.sensitivity), share(&d.specificity), area(d.auc)]
    };
    for rater in &found.raters {
        let answered = format!("{} of {}", rater.answered, found.showings);
        rows.push(row(&escaped(&rater.rater), answered, &rater.discrimination));
    }
    if raters > 1 {
        let answered = found.raters.iter().map(|rater| rater.answered).sum::<usize>();
        rows.push(row("all", format!("{answered} of {}", raters * found.showings), &found.pooled));
    }
    for (class, figures) in &found.per_class {
        rows.push(row(&format!("all, {}", escaped(class)), String::new(), figures));
    }
    text.push_str(&table(&rows));
    text.push_str(
        "\nSensitivity is the share of synthetic images called synthetic, specificity the share of real images called real. Repeated showings \
         do not count here.\n\n",
    );

    let mut rows = vec![words(["agreement", "images", "same call", "kappa", "median seconds"])];
    let agreement = |who: String, a: &Agreement, seconds: String| {
        [who, a.images.to_string(), share(&a.same), a.kappa.map_or_else(|| "not defined".to_owned(), number), seconds]
    };
    for rater in &found.raters {
        let seconds = format!("{:.1}", rater.median_seconds);
        let who = format!("{}, shown twice", escaped(&rater.rater));
        rows.push(match &rater.repeated {
            Some(a) => agreement(who, a, seconds),
            None => [who, "0".to_owned(), "none".to_owned(), "none".to_owned(), seconds],
        });
    }
    for pair in &found.pairs {
        rows.push(agreement(escaped(&pair.raters.join(" and ")), &pair.agreement, String::new()));
    }
    if let Some(all) = &found.all {
        rows.push(agreement("all raters".to_owned(), all, String::new()));
    }
    text.push_str(&table(&rows));
    let published = &found.published;
    let _ = write!(
        text,
        "\nKappa is Cohen's, and Fleiss' for all raters: 0 is chance, 1 full agreement. Intervals are {:.0}%{}.\n\nFor comparison: {} told \
         synthetic from real images in {} ({}) of their answers ({}).\n",
        100.0 * found.bootstrap.level,
        if raters > 1 { "; those of all raters are about other raters and other images" } else { "" },
        published.raters,
        percent(published.accuracy.value),
        percent_range(published.accuracy.low, published.accuracy.high),
        published.source
    );
    text
}

/// What the area of all raters says.
fn sentence(found: &PanelScore) -> String {
    let many = if found.raters.len() == 1 { "The rater" } else { "The raters" };
    match found.pooled.auc {
        None => format!("{many} did not answer for real and synthetic images: there is no AUC."),
        // Every draw of answers that are all alike has an area of one half.
        Some(auc) if auc.low == 0.5 && auc.high == 0.5 => {
            format!(
                "{many} gave the same answer to real and synthetic images alike: that says nothing about the images."
            )
        }
        Some(auc) if auc.low > 0.5 => {
            format!("{many} told synthetic from real images better than chance: AUC {}.", number(auc))
        }
        Some(auc) if auc.high < 0.5 => {
            format!("{many} took real images for synthetic ones more often than chance does: AUC {}.", number(auc))
        }
        Some(auc) => format!(
            "{many} did not show that synthetic images can be told from real ones: AUC {}. An AUC of {:.3} is not excluded.",
            number(auc),
            auc.high
        ),
    }
}

fn words<const N: usize>(words: [&str; N]) -> [String; N] {
    words.map(str::to_owned)
}

fn share(p: &Proportion) -> String {
    if p.total == 0 { "none".to_owned() } else { format!("{} ({})", percent(p.rate), percent_range(p.low, p.high)) }
}

fn area(auc: Option<Estimate>) -> String {
    auc.map_or_else(|| "not defined".to_owned(), number)
}

fn number(e: Estimate) -> String {
    format!("{:.3} ({:.3} to {:.3})", e.value, e.low, e.high)
}

/// A Markdown table whose columns are as wide as their longest entry; the first row names them.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let fields = row.iter().zip(widths).map(|(field, width)| format!(" {field:<width$} |"));
        format!("|{}\n", fields.collect::<String>())
    };
    let rule = format!("|{}\n", widths.map(|width| format!("{}|", "-".repeat(width + 2))).concat());
    let mut lines = rows.iter().map(line);
    let head = lines.next().unwrap_or_default();
    format!("{head}{rule}{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two real images of one patient and two synthetic ones; the first is shown again at the end.
    fn key() -> Key {
        let image = |id: &str, source, patient: Option<&str>, positions: &[usize]| KeyImage {
            id: id.to_owned(),
            source,
            class: String::new(),
            patient: patient.map(str::to_owned),
            file: format!("{id}.png"),
            positions: positions.to_vec(),
        };
        Key {
            panel: "p1".to_owned(),
            images: vec![
                image("i1", Source::Real, Some("P1"), &[1, 5]),
                image("i2", Source::Real, Some("P1"), &[3]),
                image("i3", Source::Synthetic, None, &[2]),
                image("i4", Source::Synthetic, None, &[4]),
            ],
        }
    }

    fn answers(rater: &str, given: &[(usize, u8)]) -> Answers {
        let given = given.iter().map(|&(position, level)| (position, (level, position as f64))).collect();
        Answers { rater: rater.to_owned(), given }
    }

    #[test]
    fn first_answers_count_and_second_ones_are_compared() {
        // At first sight 1, 4, 3, 6: all right. The first image is called synthetic when it comes again.
        let whole = answers("AB", &[(1, 1), (2, 4), (3, 3), (4, 6), (5, 5)]);
        let found = score(&key(), &[whole], &BootstrapOptions::default()).unwrap();
        let rater = &found.raters[0];
        assert_eq!((found.pooled.accuracy.successes, found.pooled.accuracy.total), (4, 4));
        assert_eq!((rater.answered, rater.median_seconds, found.patients), (5, 3.0, Some(1)));
        let repeated = rater.repeated.unwrap();
        assert_eq!((repeated.images, repeated.same.successes), (1, 0));
        assert_eq!(found.images, BTreeMap::from([(String::new(), 2)]));
    }

    #[test]
    fn partial_answers_are_scored_and_said() {
        let part = answers("AB", &[(1, 1), (2, 4)]);
        let found =
            score(&key(), &[part, answers("CD", &[(2, 6), (3, 6), (4, 1)])], &BootstrapOptions::default()).unwrap();
        assert_eq!((found.pooled.accuracy.successes, found.pooled.accuracy.total), (3, 5));
        assert_eq!((found.pairs[0].agreement.images, found.pairs[0].agreement.same.successes), (1, 1));
        let text = markdown(&found, "images");
        for expected in ["| AB ", "2 of 5", "3 of 5", "5 of 10", "AB and CD", "haematologists", "52.3% (50.5–54.2%)"]
        {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn the_same_answer_to_all_says_nothing() {
        let same = answers("AB", &[(1, 3), (2, 3), (3, 3), (4, 3)]);
        let text = markdown(&score(&key(), &[same], &BootstrapOptions::default()).unwrap(), "images");
        assert!(text.contains("says nothing about the images") && !text.contains("is not excluded"), "{text}");
    }

    #[test]
    fn a_rater_has_one_file() {
        let twice = [answers("AB", &[(1, 1)]), answers("ab", &[(2, 1)])];
        let error = score(&key(), &twice, &BootstrapOptions::default()).unwrap_err().to_string();
        assert!(error.contains("\"ab\""), "{error}");
    }
}
