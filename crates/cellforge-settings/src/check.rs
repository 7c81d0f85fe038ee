//! Whether numbers are in their ranges.

use serde_json::Value;

use crate::list::{Kind, Range, show};
use crate::{Error, ImageSize, Result, Settings, list};

/// Checks that each number of `settings` is in its range, and each choice one that there is. Errors name the setting as `prefix.name`, with
/// an empty `prefix` by its own name.
///
/// # Errors
/// [`Error::Range`] for the first that is not.
pub fn check<T: Settings>(settings: &T, prefix: &str) -> Result<()> {
    let values = serde_json::to_value(settings).map_err(|error| Error::Write(error.to_string()))?;
    for setting in list::<T>() {
        let Some(value) = setting.key.split('.').try_fold(&values, |value, part| value.get(part)) else { continue };
        let key = if prefix.is_empty() { setting.key.clone() } else { format!("{prefix}.{}", setting.key) };
        // What JSON has no word for.
        if value.is_null() {
            let value = toml::Value::try_from(settings).ok();
            let value = value.as_ref().and_then(|value| setting.key.split('.').try_fold(value, |v, part| v.get(part)));
            if let Some(value) = value.and_then(toml::Value::as_float) {
                return Err(wrong(key, format!("not finite ({value})"), "a finite number".to_owned()));
            }
        }
        within(&key, value, &setting.kind, &setting.range)?;
    }
    Ok(())
}

/// Checks a value and, in a list, each entry.
fn within(key: &str, value: &Value, kind: &Kind, range: &Range) -> Result<()> {
    let good = match (value, kind) {
        (value, Kind::Optional(kind)) => return within(key, value, kind, range),
        (Value::Number(number), Kind::Numbers(all)) => number.as_u64().is_some_and(|number| all.contains(&number)),
        (value, Kind::Size) => {
            serde_json::from_value::<ImageSize>(value.clone()).is_ok_and(|size| size.check().is_ok())
        }
        (Value::Number(number), _) => range.contains(number),
        // The names of recipes are texts to serde, and choices to the schema.
        (Value::String(word), Kind::Choice(words)) => words.contains(word),
        (Value::Array(entries), Kind::List(kind)) => {
            for (i, entry) in entries.iter().enumerate() {
                within(&format!("{key}[{i}]"), entry, kind, range)?;
            }
            true
        }
        (Value::Object(table), Kind::Table(fields)) => {
            for field in fields {
                let Some(value) = table.get(&field.key) else { continue };
                within(&format!("{key}.{}", field.key), value, &field.kind, &field.range)?;
            }
            true
        }
        _ => true,
    };
    if good {
        return Ok(());
    }
    let expected = match kind {
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::Numbers(_) => kind.to_string(),
        Kind::Size => format!("a {kind}"),
        _ => range.to_string(),
    };
    Err(wrong(key.to_owned(), show(value), expected))
}

fn wrong(key: String, value: String, range: String) -> Error {
    Error::Range { origin: String::new(), key, value, range }
}
