//! Whether numbers are in their ranges.

use serde_json::Value;

use crate::list::{Kind, show};
use crate::{Error, Result, Settings, list};

/// Checks that each number of `settings` is in its range, and each choice one that there is. Errors name the setting as `prefix.name`, with
/// an empty `prefix` by its own name.
///
/// # Errors
/// [`Error::Range`] for the first that is not.
pub fn check<T: Settings>(settings: &T, prefix: &str) -> Result<()> {
    let values = serde_json::to_value(settings).map_err(|error| Error::Write(error.to_string()))?;
    for setting in list::<T>() {
        let Some(value) = setting.key.split('.').try_fold(&values, |value, part| value.get(part)) else { continue };
        let key = || if prefix.is_empty() { setting.key.clone() } else { format!("{prefix}.{}", setting.key) };
        let wrong =
            |value: String, range: String| Err(Error::Range { origin: String::new(), key: key(), value, range });
        match (value, &setting.kind) {
            // What JSON has no word for.
            (Value::Null, Kind::Number) => {
                let value = toml::Value::try_from(settings).ok();
                let value =
                    value.as_ref().and_then(|value| setting.key.split('.').try_fold(value, |v, part| v.get(part)));
                let value = value.and_then(toml::Value::as_float).unwrap_or(f64::NAN);
                return wrong(format!("not finite ({value})"), "a finite number".to_owned());
            }
            (Value::Number(number), _) => {
                let fits = number.as_f64().is_some_and(|number| setting.range.contains(number));
                if !fits {
                    return wrong(show(value), setting.range.to_string());
                }
            }
            // The names of recipes are texts to serde, and choices to the schema.
            (Value::String(word), Kind::Choice(words)) if !words.contains(word) => {
                return wrong(show(value), format!("one of {}", words.join(", ")));
            }
            _ => {}
        }
    }
    Ok(())
}
