//! The settings of a struct, from its schema.

use std::fmt;

use serde_json::{Map, Value};

use crate::Settings;

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its name, dotted: `gan.augment.p`.
    pub key: String,
    /// What values it takes.
    pub kind: Kind,
    /// Its value where nobody says otherwise; null where there is none.
    pub default: Value,
    /// What it may be, for numbers.
    pub range: Range,
    /// What it means. The first paragraph is enough for a list.
    pub meaning: String,
}

impl Setting {
    /// The first paragraph of the meaning, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        self.meaning.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The default as TOML writes it; "none" where there is no value.
    #[must_use]
    pub fn default_text(&self) -> String {
        show(&self.default)
    }

    /// The values that it takes, in words: the type, its choices, its range.
    #[must_use]
    pub fn values(&self) -> String {
        match (&self.kind, self.range.to_string()) {
            (kind, range) if range.is_empty() => kind.to_string(),
            (kind, range) => format!("{kind}, {range}"),
        }
    }
}

/// What values a setting takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// One of these words.
    Choice(Vec<String>),
    /// A list of values.
    List(Box<Kind>),
    /// A table of named values, as an entry of a list.
    Table,
    /// A value that may be left out.
    Optional(Box<Kind>),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Integer => f.write_str("whole number"),
            Self::Number => f.write_str("number"),
            Self::Text => f.write_str("text"),
            Self::Choice(words) => f.write_str(&words.join(", ")),
            Self::List(kind) => write!(f, "list of {kind}"),
            Self::Table => f.write_str("table"),
            Self::Optional(kind) => write!(f, "{kind}, or none"),
        }
    }
}

/// The ends of a number's range, each open, closed or missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// The smallest value that is allowed.
    pub min: Option<f64>,
    /// The largest value that is allowed.
    pub max: Option<f64>,
    /// What values must be above.
    pub above: Option<f64>,
    /// What values must be below.
    pub below: Option<f64>,
}

impl Range {
    /// That of a schema. Of an unsigned type the 0 is left out, which goes without saying, and so are the limits of the type.
    fn of(schema: &Map<String, Value>) -> Self {
        let number = |name: &str| schema.get(name).and_then(Value::as_f64);
        let unsigned = schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"));
        Self {
            min: number("minimum").filter(|min| !(unsigned && *min == 0.0)),
            max: number("maximum"),
            above: number("exclusiveMinimum"),
            below: number("exclusiveMaximum"),
        }
    }

    /// Whether a number is within.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min)
            && self.max.is_none_or(|max| value <= max)
            && self.above.is_none_or(|end| value > end)
            && self.below.is_none_or(|end| value < end)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { min: Some(low), max: Some(high), .. } => write!(f, "from {low} to {high}"),
            Self { min: Some(low), below: Some(high), .. } => write!(f, "from {low} to below {high}"),
            Self { above: Some(low), max: Some(high), .. } => write!(f, "above {low} and at most {high}"),
            Self { above: Some(low), below: Some(high), .. } => write!(f, "above {low} and below {high}"),
            Self { min: Some(low), .. } => write!(f, "{low} or more"),
            Self { above: Some(low), .. } => write!(f, "above {low}"),
            Self { max: Some(high), .. } => write!(f, "at most {high}"),
            Self { below: Some(high), .. } => write!(f, "below {high}"),
            Self { .. } => Ok(()),
        }
    }
}

/// Every setting of `T`, in the order of their keys.
#[must_use]
pub fn list<T: Settings>() -> Vec<Setting> {
    let schema = schemars::schema_for!(T).to_value();
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    let mut found = Vec::new();
    let walk = Walk { defs: schema.get("$defs").cloned().unwrap_or_default() };
    walk.table(&schema, ("", ""), &defaults, &mut found);
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

/// A page of all settings, a table for each table of theirs, in Markdown.
#[must_use]
pub fn markdown<T: Settings>() -> String {
    let mut page = String::new();
    let mut heading = None;
    let settings = list::<T>();
    // Settings outside all tables come first.
    let (top, nested): (Vec<_>, Vec<_>) = settings.iter().partition(|setting| !setting.key.contains('.'));
    for setting in top.into_iter().chain(nested) {
        let (table, name) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if heading != Some(table) {
            heading = Some(table);
            let title = if table.is_empty() { "Outside all tables".to_owned() } else { format!("`[{table}]`") };
            page.push_str(&format!("\n## {title}\n\n| key | default | values | meaning |\n|---|---|---|---|\n"));
        }
        let escaped = |text: String| text.replace('|', "\\|");
        page.push_str(&format!(
            "| `{name}` | {} | {} | {} |\n",
            escaped(format!("`{}`", setting.default_text())),
            escaped(setting.values()),
            escaped(setting.summary())
        ));
    }
    page
}

struct Walk {
    defs: Value,
}

impl Walk {
    /// The schema that a reference leads to, with what stands beside the reference.
    fn resolved(&self, schema: &Value) -> Value {
        let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/")) else {
            return schema.clone();
        };
        let mut target = self.resolved(self.defs.get(name).unwrap_or(&Value::Null));
        if let (Some(target), Some(own)) = (target.as_object_mut(), schema.as_object()) {
            for (key, value) in own.iter().filter(|(key, _)| *key != "$ref") {
                match (target.get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
                    // The tag of a variant, beside the fields of what the variant holds.
                    (Some(fields), Some(more)) => fields.extend(more.clone()),
                    _ => _ = target.insert(key.clone(), value.clone()),
                }
            }
        }
        target
    }

    /// The variants of a schema of which a value matches one: those of an enum, and what an optional value is if it is there.
    fn variants(&self, schema: &Value) -> Vec<Value> {
        let of = |name: &str| schema.get(name).and_then(Value::as_array);
        of("oneOf").or(of("anyOf")).into_iter().flatten().map(|variant| self.resolved(variant)).collect()
    }

    /// Adds the settings of a table, or of each variant of one. The table means `of`, and so does the word that names its variant.
    fn table(&self, schema: &Value, (prefix, of): (&str, &str), defaults: &Value, found: &mut Vec<Setting>) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        for (name, property) in properties {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let property = self.resolved(property);
            let default = defaults.get(name).cloned().unwrap_or_default();
            let tables: Vec<Value> = self
                .variants(&property)
                .into_iter()
                .chain([property.clone()])
                .filter(|variant| variant.get("properties").is_some())
                .collect();
            if tables.is_empty() {
                let (kind, range) = self.kind(&property);
                let of = if property.get("const").is_some() { of } else { "" };
                let meaning = property.get("description").and_then(Value::as_str).unwrap_or(of).to_owned();
                merge(found, Setting { key, kind, default, range, meaning });
                continue;
            }
            let of = property.get("description").and_then(Value::as_str).unwrap_or_default();
            for table in tables {
                self.table(&table, (&key, of), &default, found);
            }
        }
    }

    fn kind(&self, schema: &Value) -> (Kind, Range) {
        let empty = Map::new();
        let object = schema.as_object().unwrap_or(&empty);
        let words =
            |values: &Vec<Value>| values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        if let Some(word) = object.get("const").and_then(Value::as_str) {
            return (Kind::Choice(vec![word.to_owned()]), Range::default());
        }
        if let Some(values) = object.get("enum").and_then(Value::as_array) {
            return (Kind::Choice(words(values)), Range::default());
        }
        let variants = self.variants(schema);
        if !variants.is_empty() {
            let is_null = |variant: &Value| variant.get("type").and_then(Value::as_str) == Some("null");
            let (nulls, others): (Vec<_>, Vec<_>) = variants.iter().partition(|variant| is_null(variant));
            let mut choices = Vec::new();
            let mut single = None;
            for variant in &others {
                match self.kind(variant) {
                    (Kind::Choice(words), _) => choices.extend(words),
                    other => single = Some(other),
                }
            }
            let (kind, range) = single.unwrap_or((Kind::Choice(choices), Range::default()));
            return if nulls.is_empty() { (kind, range) } else { (Kind::Optional(Box::new(kind)), range) };
        }
        let kind = |name: &str| match name {
            "boolean" => Kind::Bool,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "array" => {
                let items = object.get("items").map(|items| self.kind(&self.resolved(items)).0);
                Kind::List(Box::new(items.unwrap_or(Kind::Text)))
            }
            "object" => Kind::Table,
            _ => Kind::Text,
        };
        let range = Range::of(object);
        match object.get("type") {
            Some(Value::String(name)) => (kind(name), range),
            Some(Value::Array(names)) => {
                let name = names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default();
                (Kind::Optional(Box::new(kind(name))), range)
            }
            _ => (Kind::Text, range),
        }
    }
}

/// Adds a setting, or the choices of one that another variant of the same table has too.
fn merge(found: &mut Vec<Setting>, setting: Setting) {
    match found.iter_mut().find(|known| known.key == setting.key) {
        Some(known) => {
            if let (Kind::Choice(choices), Kind::Choice(more)) = (&mut known.kind, setting.kind) {
                for word in more {
                    if !choices.contains(&word) {
                        choices.push(word);
                    }
                }
            }
            if known.default.is_null() {
                known.default = setting.default;
            }
        }
        None => found.push(setting),
    }
}

/// A value as TOML writes it.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            // As `1e-7`, not as 0.0000001.
            if number != 0.0 && number.abs() < 1e-3 { format!("{number:e}") } else { format!("{number}") }
        }
        Value::Array(values) => format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(key, value)| format!("{key} = {}", show(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}
