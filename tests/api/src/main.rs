//! Holds the public interface of each crate, as rustdoc describes it in JSON, to the text in `tests/api`, or writes that text anew.
//!
//! `api JSON-FOLDER TEXT-FOLDER CRATE... [--renew]` exits with 3 if an interface is another than its text, and with 4 if the JSON is of a version that
//! it cannot read.

use std::{collections::BTreeSet, env, fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};

fn main() -> Result<ExitCode> {
    match compare() {
        Err(error) if matches!(error.downcast_ref(), Some(public_api::Error::SerdeJsonError(_))) => {
            eprintln!("{error:#}");
            Ok(ExitCode::from(4))
        }
        done => done,
    }
}

fn compare() -> Result<ExitCode> {
    let (flags, words): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|word| word.starts_with("--"));
    let renew = match flags.as_slice() {
        [] => false,
        [flag] if flag == "--renew" => true,
        other => bail!("no such option: {}", other.join(" ")),
    };
    let [json, texts, crates @ ..] = words.as_slice() else { bail!("name the folders and the crates") };
    ensure!(!crates.is_empty(), "name the crates");

    let mut differ = false;
    for name in crates {
        let now = interface(&Path::new(json).join(format!("{}.json", name.replace('-', "_"))))?;
        let path = Path::new(texts).join(format!("{name}.txt"));
        if renew {
            fs::write(&path, now).with_context(|| format!("cannot write {}", path.display()))?;
            continue;
        }
        let before = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (before, now): (BTreeSet<_>, BTreeSet<_>) = (before.lines().collect(), now.lines().collect());
        if before != now {
            differ = true;
            println!("{name}:");
            before.difference(&now).for_each(|line| println!("- {line}"));
            now.difference(&before).for_each(|line| println!("+ {line}"));
        }
    }
    Ok(if differ { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// The public items of a crate, one a line, without the traits that a type has of itself: those derived, those for all types, `Send` and its like.
fn interface(json: &Path) -> Result<String> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .sorted(true)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .with_context(|| format!("cannot read version {} of rustdoc's JSON", version(json)))?;
    Ok(api.items().map(|item| format!("{item}\n")).collect())
}

/// The version of a file of rustdoc's JSON, which stands near its end.
fn version(json: &Path) -> String {
    let text = fs::read_to_string(json).unwrap_or_default();
    let after = text.rsplit("\"format_version\":").next().unwrap_or_default();
    after.chars().take_while(char::is_ascii_digit).collect()
}
