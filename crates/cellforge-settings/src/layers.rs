//! Settings from several places, laid over each other.

use serde_json::Value as Json;
use toml::{Table, Value};

use crate::list::{Kind, show};
use crate::{Error, Renamed, Result, Setting, Settings, list};

/// Some settings, with the place that they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// A file, a flag or a preset, as errors name it.
    pub origin: String,
    /// The settings, nested.
    pub table: Table,
}

impl Layer {
    /// A layer of `table`, which comes from `origin`.
    pub fn new(origin: impl Into<String>, table: Table) -> Self {
        Self { origin: origin.into(), table }
    }

    /// A layer from a TOML text.
    ///
    /// # Errors
    /// [`Error::Toml`] naming `origin` and the line.
    pub fn parse(origin: impl Into<String>, text: &str) -> Result<Self> {
        let origin = origin.into();
        match text.parse() {
            Ok(table) => Ok(Self { origin, table }),
            Err(error) => Err(Error::Toml { origin, reason: toml::de::Error::to_string(&error).trim_end().to_owned() }),
        }
    }
}

/// The table of one `KEY=VALUE`, with a dotted key. The value is TOML, or else a text without quotes. `none` unsets a value that may be
/// missing.
///
/// # Errors
/// [`Error::Assignment`].
pub fn assignment(text: &str) -> Result<Table> {
    let wrong = || Error::Assignment(text.to_owned());
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || key.split('.').any(|part| part.is_empty() || part.contains(char::is_whitespace)) {
        return Err(wrong());
    }
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let mut value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    for part in key.rsplit('.') {
        value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
    }
    match value {
        Value::Table(table) => Ok(table),
        _ => Err(wrong()),
    }
}

/// Lays `top` over `base`: tables are merged key by key, everything else is replaced. A table of another `kind` than the one below replaces it
/// whole, for the fields of one kind mean nothing to another.
pub fn overlay(base: &mut Table, top: &Table) {
    for (key, value) in top {
        match (base.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above))
                if above.get("kind").is_none_or(|kind| below.get("kind") == Some(kind)) =>
            {
                overlay(below, above);
            }
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The settings that the layers make, the last on top, over the defaults of `T`. `renamed` are names of earlier versions.
///
/// # Errors
/// [`Error::Unknown`], [`Error::Renamed`], [`Error::Value`] and [`Error::Range`], each naming the layer and the key.
pub fn assemble<T: Settings>(layers: &[Layer], renamed: &Renamed) -> Result<T> {
    let known = list::<T>();
    let mut merged = Table::try_from(T::default()).map_err(|error| Error::Write(error.to_string()))?;
    for layer in layers {
        let mut table = layer.table.clone();
        verify(&known, renamed, layer, &mut table, "")?;
        overlay(&mut merged, &table);
    }
    for setting in known.iter().filter(|setting| matches!(setting.kind, Kind::Optional(_))) {
        unset(&mut merged, &setting.key);
    }
    let last = |key: &str| layers.iter().rev().find(|layer| lookup(&layer.table, key).is_some());
    let found: T = serde_path_to_error::deserialize(Value::Table(merged.clone())).map_err(|error| {
        let key = error.path().to_string();
        let layer = last(&key);
        Error::Value {
            origin: layer.map_or_else(String::new, |layer| layer.origin.clone()),
            value: layer.and_then(|layer| lookup(&layer.table, &key)).map_or_else(String::new, Value::to_string),
            reason: expected(&known, &key, &error.inner().to_string()),
            key,
        }
    })?;
    used(&found, &known, layers, &merged)?;
    crate::check(&found, "").map_err(|error| match error {
        Error::Range { key, value, range, .. } => {
            let origin = last(&key).map_or_else(String::new, |layer| layer.origin.clone());
            Error::Range { origin, key, value, range }
        }
        error => error,
    })?;
    Ok(found)
}

/// Refuses settings that the chosen kind of their table does not have: serde ignores them where that kind has none at all.
fn used<T: Settings>(found: &T, known: &[Setting], layers: &[Layer], merged: &Table) -> Result<()> {
    let values = Table::try_from(found).map_err(|error| Error::Write(error.to_string()))?;
    for setting in known {
        let Some((table, name)) = setting.key.rsplit_once('.') else { continue };
        let Some(Value::String(kind)) = lookup(&values, &format!("{table}.kind")) else { continue };
        if lookup(merged, &setting.key).is_none() || lookup(&values, &setting.key).is_some() {
            continue;
        }
        for layer in layers.iter().rev() {
            if let Some(value) = lookup(&layer.table, &setting.key) {
                return Err(Error::Value {
                    origin: layer.origin.clone(),
                    key: setting.key.clone(),
                    value: value.to_string(),
                    reason: format!("{table}.kind is {kind:?}, which has no {name}"),
                });
            }
        }
    }
    Ok(())
}

/// Refuses keys that are no settings.
fn verify(known: &[Setting], renamed: &Renamed, layer: &Layer, table: &mut Table, prefix: &str) -> Result<()> {
    for (name, value) in table.iter_mut() {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        // A value of earlier versions, or else a key of theirs.
        for old in [format!("{key} = {value}"), key.clone()] {
            if let Some(now) = of_today(renamed, &old) {
                return Err(Error::Renamed { origin: layer.origin.clone(), key: old, now });
            }
        }
        if let Some(setting) = known.iter().find(|setting| setting.key == key) {
            as_text(&setting.kind, value);
            as_list(&setting.kind, value);
            verify_entries(setting, renamed, layer, value)?;
            continue;
        }
        let below = format!("{key}.");
        let is_table = known.iter().any(|setting| setting.key.starts_with(&below));
        let was_table = renamed.iter().any(|(old, _)| old.starts_with(&below));
        match value {
            Value::Table(inside) if is_table || was_table => verify(known, renamed, layer, inside, &key)?,
            value if is_table => {
                return Err(Error::Value {
                    origin: layer.origin.clone(),
                    value: value.to_string(),
                    reason: format!("it is a table of settings, such as {}", first_in(known, &key)),
                    key,
                });
            }
            value => {
                let key = first_key(value, key);
                return Err(Error::Unknown { origin: layer.origin.clone(), suggestion: nearest(known, &key), key });
            }
        }
    }
    Ok(())
}

/// What to write in place of a key, or of a `KEY = VALUE`, of an earlier version.
fn of_today(renamed: &Renamed, old: &str) -> Option<String> {
    let (_, now) = renamed.iter().find(|(name, _)| *name == old)?;
    Some(if now.contains(' ') { (*now).to_owned() } else { format!("write {now}") })
}

/// Refuses keys that the tables in a list do not have.
fn verify_entries(setting: &Setting, renamed: &Renamed, layer: &Layer, value: &Value) -> Result<()> {
    let (Kind::List(kind), Value::Array(entries)) = (&setting.kind, value) else { return Ok(()) };
    let Kind::Table(fields) = kind.as_ref() else { return Ok(()) };
    for (i, entry) in entries.iter().enumerate() {
        let mut names = entry.as_table().into_iter().flat_map(Table::keys);
        if let Some(name) = names.find(|name| fields.iter().all(|field| field.key != **name)) {
            let (origin, key) = (layer.origin.clone(), format!("{}[{i}].{name}", setting.key));
            return Err(match of_today(renamed, &format!("{}.{name}", setting.key)) {
                Some(now) => Error::Renamed { origin, key, now },
                None => {
                    let suggestion = nearest(fields, name).map(|name| format!("{}[{i}].{name}", setting.key));
                    Error::Unknown { origin, key, suggestion }
                }
            });
        }
    }
    Ok(())
}

/// What is expected of a key, in its own words; what the parser says of keys that are none.
fn expected(known: &[Setting], key: &str, said: &str) -> String {
    match find(known, key) {
        Some(setting) => format!("it takes {}", setting.values()),
        None => said.lines().next().unwrap_or_default().to_owned(),
    }
}

fn first_in<'a>(known: &'a [Setting], table: &str) -> &'a str {
    let inside = format!("{table}.");
    known.iter().find(|setting| setting.key.starts_with(&inside)).map_or("", |setting| &setting.key)
}

/// Makes a text of a number or a date that is given for one, such as a class of the name `1`.
fn as_text(kind: &Kind, value: &mut Value) {
    let is_text = matches!(kind, Kind::Text) || matches!(kind, Kind::Optional(kind) if **kind == Kind::Text);
    if is_text && matches!(value, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_)) {
        *value = Value::String(value.to_string());
    }
}

/// Makes a list of a single text that is given for one.
fn as_list(kind: &Kind, value: &mut Value) {
    if let Kind::List(inside) = kind
        && **inside == Kind::Text
    {
        as_text(inside, value);
        if value.is_str() {
            *value = Value::Array(vec![value.clone()]);
        }
    }
}

/// The key of the first value inside a table, which says more than the table's own.
fn first_key(value: &Value, key: String) -> String {
    match value.as_table().and_then(|table| table.iter().next()) {
        Some((name, inside)) => first_key(inside, format!("{key}.{name}")),
        None => key,
    }
}

/// The setting whose key is nearest: by the whole key, or by its last part in another table.
fn nearest(known: &[Setting], key: &str) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |setting: &Setting| {
        let whole = strsim::jaro_winkler(&setting.key, key);
        let part = if last(&setting.key) == last(key) {
            0.95
        } else {
            0.9 * strsim::jaro_winkler(&last(&setting.key), &last(key))
        };
        whole.max(part)
    };
    let best = known.iter().map(|setting| (likeness(setting), setting)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.8).then(|| best.1.key.clone())
}

/// The setting of a key, which may be one in an entry of a list: `runs[0].epochs`.
fn find<'a>(known: &'a [Setting], key: &str) -> Option<&'a Setting> {
    let Some((list, rest)) = key.split_once('[') else { return known.iter().find(|setting| setting.key == key) };
    let (_, name) = rest.split_once("].")?;
    match &known.iter().find(|setting| setting.key == list)?.kind {
        Kind::List(kind) => match kind.as_ref() {
            Kind::Table(fields) => find(fields, name),
            _ => None,
        },
        _ => None,
    }
}

/// The value at a key, which may be one in an entry of a list.
fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.').flat_map(|part| part.split('['));
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| match part.strip_suffix(']') {
        Some(index) => value.get(index.parse::<usize>().ok()?),
        None => value.get(part),
    })
}

/// Removes a value that is `"none"`.
fn unset(table: &mut Table, key: &str) {
    match key.split_once('.') {
        Some((first, rest)) => {
            if let Some(Value::Table(inside)) = table.get_mut(first) {
                unset(inside, rest);
            }
        }
        None => {
            if table.get(key).and_then(Value::as_str) == Some("none") {
                table.remove(key);
            }
        }
    }
}

/// The settings as TOML, every value named, facts of a run left out: what [`assemble`] reads back.
///
/// # Errors
/// [`Error::Write`] for a value that TOML cannot hold, such as a seed above 2^63.
pub fn to_toml<T: Settings>(settings: &T) -> Result<String> {
    let fail = |error: &dyn std::fmt::Display| Error::Write(error.to_string());
    let mut table = Table::try_from(settings).map_err(|error| fail(&error))?;
    let known = list::<T>();
    retain(&mut table, &known, "");
    toml::to_string_pretty(&table).map_err(|error| fail(&error))
}

fn retain(table: &mut Table, known: &[Setting], prefix: &str) {
    let names: Vec<String> = table.keys().cloned().collect();
    for name in names {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if known.iter().any(|setting| setting.key == key) {
            continue;
        }
        match table.get_mut(&name) {
            Some(Value::Table(inside)) => {
                retain(inside, known, &key);
                if inside.is_empty() {
                    table.remove(&name);
                }
            }
            _ => _ = table.remove(&name),
        }
    }
}

impl Setting {
    /// The value of this setting among `settings`; null where it has none.
    #[must_use]
    pub fn value_in<T: Settings>(&self, settings: &T) -> Json {
        let values = serde_json::to_value(settings).unwrap_or_default();
        self.key.split('.').try_fold(&values, |value, part| value.get(part)).cloned().unwrap_or_default()
    }

    /// The value of this setting among `settings` as TOML writes it; "none" where it has none.
    #[must_use]
    pub fn text_in<T: Settings>(&self, settings: &T) -> String {
        show(&self.value_in(settings))
    }
}
