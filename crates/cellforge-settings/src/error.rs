//! What can be wrong with settings.

/// A setting that cannot be taken, by name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key that no setting has.
    #[error("{}there is no setting {key}{}", from(.origin), meant(.suggestion.as_deref()))]
    Unknown {
        /// Where it stands: a file, or a flag.
        origin: String,
        /// The key, dotted.
        key: String,
        /// The setting whose name is nearest, if one is near.
        suggestion: Option<String>,
    },
    /// A key of an earlier version.
    #[error("{}{key} is of an earlier version: {now}", from(.origin))]
    Renamed {
        /// Where it stands.
        origin: String,
        /// The key, dotted.
        key: String,
        /// What to write now.
        now: String,
    },
    /// A value of the wrong type, or a choice that is none.
    #[error("{}{key} cannot be {value}: {reason}", from(.origin))]
    Value {
        /// Where it stands.
        origin: String,
        /// The key, dotted.
        key: String,
        /// What was given.
        value: String,
        /// What is expected.
        reason: String,
    },
    /// A number out of its range.
    #[error("{}{key} is {value}: it must be {range}", from(.origin))]
    Range {
        /// Where it stands; empty for a value that no layer has.
        origin: String,
        /// The key, dotted.
        key: String,
        /// What was given.
        value: String,
        /// What it may be.
        range: String,
    },
    /// A text that is not `KEY=VALUE`.
    #[error("{0:?} sets nothing: write KEY=VALUE, as in gan.batch=16")]
    Assignment(String),
    /// A text that is not TOML.
    #[error("{origin} is not valid TOML: {reason}")]
    Toml {
        /// The file.
        origin: String,
        /// What the parser says.
        reason: String,
    },
    /// Settings that cannot be written as TOML.
    #[error("the settings cannot be written as TOML: {0}")]
    Write(String),
}

impl Error {
    /// Where what is wrong stands: a file, a flag or a preset. Empty where it is no layer's.
    #[must_use]
    pub fn origin(&self) -> &str {
        match self {
            Self::Unknown { origin, .. }
            | Self::Renamed { origin, .. }
            | Self::Value { origin, .. }
            | Self::Range { origin, .. }
            | Self::Toml { origin, .. } => origin,
            Self::Assignment(_) | Self::Write(_) => "",
        }
    }
}

fn from(origin: &str) -> String {
    if origin.is_empty() { String::new() } else { format!("{origin}: ") }
}

fn meant(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |key| format!("; did you mean {key}?"))
}
