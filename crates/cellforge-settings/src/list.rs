//! The settings of a struct, from its schema.

use std::{cmp::Ordering, fmt};

use serde_json::{Map, Number, Value};

use crate::{ImageSize, Settings, image_size};

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its name, dotted: `gan.augment.p`.
    pub key: String,
    /// What values it takes.
    pub kind: Kind,
    /// Its value where nobody says otherwise; null where there is none.
    pub default: Value,
    /// What it may be, for numbers; of a list, what each of its numbers may be.
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
        match (&self.kind, self.limits()) {
            (kind, limits) if limits.is_empty() => kind.to_string(),
            (Kind::Optional(kind), limits) => format!("{kind}, {limits}, or none"),
            (kind, limits) => format!("{kind}, {limits}"),
        }
    }

    /// Its range in words; of a list, that of each of its numbers. Empty where there is none.
    #[must_use]
    pub fn limits(&self) -> String {
        let range = self.range.to_string();
        let is_list = |kind: &Kind| matches!(kind, Kind::List(_));
        match &self.kind {
            _ if range.is_empty() => range,
            Kind::Optional(kind) if is_list(kind) => format!("each {range}"),
            kind if is_list(kind) => format!("each {range}"),
            _ => range,
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
    /// One of these whole numbers.
    Numbers(Vec<u64>),
    /// The size of images, an [`ImageSize`](crate::ImageSize).
    Size,
    /// A list of values.
    List(Box<Kind>),
    /// A table of named values, as an entry of a list. The keys are those within the table.
    Table(Vec<Setting>),
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
            Self::Numbers(numbers) => {
                let (last, others) = numbers.split_last().unwrap_or((&0, &[]));
                let others = others.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                if others.is_empty() { write!(f, "{last}") } else { write!(f, "{others} or {last}") }
            }
            Self::Size => write!(f, "side, or \"WIDTHxHEIGHT\"; each side {}", ImageSize::RULE),
            Self::List(kind) => write!(f, "list of {kind}"),
            Self::Table(fields) => {
                let of = |field: &Setting| match &field.kind {
                    // A list of words would hide where the next field begins.
                    Kind::Choice(_) => field.key.clone(),
                    _ => format!("{} ({})", field.key, field.values()),
                };
                write!(f, "tables of {}", fields.iter().map(of).collect::<Vec<_>>().join(", "))
            }
            Self::Optional(kind) => write!(f, "{kind}, or none"),
        }
    }
}

/// The ends of a number's range, each open, closed or missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Range {
    /// The smallest value that is allowed.
    pub min: Option<Number>,
    /// The largest value that is allowed.
    pub max: Option<Number>,
    /// What values must be above.
    pub above: Option<Number>,
    /// What values must be below.
    pub below: Option<Number>,
}

impl Range {
    /// That of a schema.
    fn of(schema: &Map<String, Value>) -> Self {
        let number = |name: &str| schema.get(name).and_then(Value::as_number).cloned();
        Self {
            min: number("minimum"),
            max: number("maximum"),
            above: number("exclusiveMinimum"),
            below: number("exclusiveMaximum"),
        }
    }

    /// Whether a number is within.
    #[must_use]
    pub fn contains(&self, value: &Number) -> bool {
        let is = |end: &Option<Number>, good: fn(Ordering) -> bool| {
            end.as_ref().is_none_or(|end| compared(value, end).is_some_and(good))
        };
        is(&self.min, Ordering::is_ge)
            && is(&self.max, Ordering::is_le)
            && is(&self.above, Ordering::is_gt)
            && is(&self.below, Ordering::is_lt)
    }
}

/// The order of two numbers. Whole ones are not rounded, as those above 2^53 would be.
fn compared(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, max, above, below] =
            [&self.min, &self.max, &self.above, &self.below].map(|end| end.as_ref().map(number));
        match (min, max, above, below) {
            (Some(low), Some(high), ..) => write!(f, "from {low} to {high}"),
            (Some(low), _, _, Some(high)) => write!(f, "from {low} to below {high}"),
            (_, Some(high), Some(low), _) => write!(f, "above {low} and at most {high}"),
            (_, _, Some(low), Some(high)) => write!(f, "above {low} and below {high}"),
            (Some(low), ..) => write!(f, "{low} or more"),
            (_, _, Some(low), _) => write!(f, "above {low}"),
            (_, Some(high), ..) => write!(f, "at most {high}"),
            (_, _, _, Some(high)) => write!(f, "below {high}"),
            _ => Ok(()),
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
            let numbers: Vec<u64> = values.iter().filter_map(Value::as_u64).collect();
            let kind = if numbers.is_empty() { Kind::Choice(words(values)) } else { Kind::Numbers(numbers) };
            let types = object.get("type").and_then(Value::as_array);
            let may_be_missing = types.is_some_and(|types| types.iter().any(|name| name.as_str() == Some("null")));
            return (if may_be_missing { Kind::Optional(Box::new(kind)) } else { kind }, Range::default());
        }
        if object.get("format").and_then(Value::as_str) == Some(image_size::FORMAT) {
            return (Kind::Size, Range::default());
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
        let of_type = |name: &str| match name {
            "boolean" => (Kind::Bool, Range::default()),
            "integer" => (Kind::Integer, Range::of(object)),
            "number" => (Kind::Number, Range::of(object)),
            "array" => {
                let items = object.get("items").map(|items| self.kind(&self.resolved(items)));
                let (kind, range) = items.unwrap_or((Kind::Text, Range::default()));
                (Kind::List(Box::new(kind)), range)
            }
            "object" => {
                let mut fields = Vec::new();
                self.table(schema, ("", ""), &Value::Null, &mut fields);
                (Kind::Table(fields), Range::default())
            }
            _ => (Kind::Text, Range::default()),
        };
        match object.get("type") {
            Some(Value::String(name)) => of_type(name),
            Some(Value::Array(names)) => {
                let name = names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default();
                let (kind, range) = of_type(name);
                (Kind::Optional(Box::new(kind)), range)
            }
            _ => (Kind::Text, Range::default()),
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
        Value::Number(value) => number(value),
        Value::Array(values) => format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(key, value)| format!("{key} = {}", show(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// A number as TOML writes it.
fn number(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        // As `1e-7`, not as 0.0000001.
        Some(number) if number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        Some(number) => format!("{number}"),
        None => number.to_string(),
    }
}
