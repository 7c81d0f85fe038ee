//! Flags that are shorthands of settings. Their help, choices and defaults are those of the settings.

use std::{marker::PhantomData, sync::LazyLock};

use cellforge::{
    settings::{ImageSize, Kind, Layer, Setting, assignment, list},
    study::{Preset, StudyConfig},
    train::{CLASSIFIER_RECIPES, GAN_RECIPES},
};
use clap::{
    Arg, ArgAction, ArgMatches, Command, FromArgMatches,
    builder::{PossibleValue, PossibleValuesParser},
};

/// Every setting there is.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(list::<StudyConfig>);

/// The shorthands of a verb: each a flag with the key of the setting that it sets.
pub trait Shorthands {
    /// Flag and key.
    const FLAGS: &'static [(&'static str, &'static str)];
    /// Whether every verb takes them.
    const GLOBAL: bool = false;

    /// The settings where none is given.
    fn defaults() -> StudyConfig {
        StudyConfig::default()
    }
}

/// Flags with their keys, and with them those that say how images are read.
macro_rules! with_reading {
    ($($flag:expr),* $(,)?) => {
        &[
            $($flag,)*
            ("channels", "data.channels"),
            ("fit", "data.fit"),
            ("layout", "data.layout"),
            ("table", "data.table.file"),
            ("name", "data.table.name"),
            ("label", "data.table.label"),
            ("group", "data.table.group"),
            ("side-column", "data.table.part"),
            ("group-pattern", "data.group_pattern"),
            ("slices", "data.slices"),
            ("axis", "data.axis"),
            ("window", "data.window"),
            ("masks", "data.masks"),
            ("duplicates", "data.duplicates"),
        ]
    };
}
pub(crate) use with_reading;

/// The settings that a verb's shorthands were given, in the order of the table of flags.
#[derive(Debug, Clone)]
pub struct Given<T> {
    values: Vec<(&'static str, &'static str, Vec<String>)>,
    verb: PhantomData<T>,
}

impl<T: Shorthands> Given<T> {
    /// A layer for each flag that was given.
    pub fn layers(&self) -> anyhow::Result<Vec<Layer>> {
        let layer = |(flag, key, values): &(&'static str, &'static str, Vec<String>)| {
            let value = match (&setting(key).kind, values.as_slice()) {
                (Kind::List(kind), values) => {
                    toml::Value::Array(values.iter().map(|value| parsed(kind, value)).collect::<Result<_, _>>()?)
                }
                (kind, [.., value]) => parsed(kind, value)?,
                (_, []) => toml::Value::Array(Vec::new()),
            };
            Ok(Layer::new(format!("--{flag}"), nested(key, value)))
        };
        self.values.iter().map(layer).collect()
    }

    /// The flags that were given, as they would be written again.
    pub fn words(&self) -> Vec<String> {
        let word = |(flag, key, values): &(&'static str, &'static str, Vec<String>)| {
            let kind = &setting(key).kind;
            let between = if *kind == Kind::Bool { '=' } else { ' ' };
            let one = |value: &str| format!("--{flag}{between}{}", super::shell_word(value));
            match kind {
                Kind::List(_) if *key == WINDOW => vec![one(&values.join(" "))],
                // A text may have a comma in it.
                Kind::List(inside) if **inside == Kind::Text => values.iter().map(|value| one(value)).collect(),
                _ => vec![one(&values.join(","))],
            }
        };
        self.values.iter().flat_map(word).collect()
    }

    /// Whether this flag was given.
    pub fn has(&self, flag: &str) -> bool {
        self.values.iter().any(|(given, ..)| *given == flag)
    }
}

/// The layer of one `KEY=VALUE` of `--set`. A text may be quoted, and need not be: a folder may have a name like a number.
pub fn assigned(text: &str) -> anyhow::Result<Layer> {
    let table = assignment(text)?;
    let (key, value) = text.split_once('=').map(|(key, value)| (key.trim(), value.trim())).unwrap_or_default();
    let is_text = SETTINGS.iter().any(|setting| setting.key == key && is_text(&setting.kind));
    let is_quoted = value.starts_with(['"', '\'']);
    let table = if is_text && !is_quoted { nested(key, toml::Value::String(value.to_owned())) } else { table };
    Ok(Layer::new("--set", table))
}

fn is_text(kind: &Kind) -> bool {
    match kind {
        Kind::Text => true,
        Kind::Optional(kind) => is_text(kind),
        _ => false,
    }
}

/// The value that a flag was given: a text as it is, anything else as TOML or else a word.
fn parsed(kind: &Kind, text: &str) -> anyhow::Result<toml::Value> {
    if is_text(kind) {
        return Ok(toml::Value::String(text.to_owned()));
    }
    let value = assignment(&format!("value={text}"))?.remove("value");
    Ok(value.unwrap_or_else(|| toml::Value::String(text.to_owned())))
}

/// A table with a value at a dotted key.
pub fn nested(key: &str, value: toml::Value) -> toml::Table {
    let mut parts = key.rsplit('.');
    let mut table = toml::Table::from_iter([(parts.next().unwrap_or_default().to_owned(), value)]);
    for part in parts {
        table = toml::Table::from_iter([(part.to_owned(), toml::Value::Table(table))]);
    }
    table
}

/// The setting of a key.
///
/// # Panics
/// If there is none: the tests build every command line.
fn setting(key: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("there is no setting {key}"))
}

impl<T: Shorthands> clap::Args for Given<T> {
    fn augment_args(command: Command) -> Command {
        let heading = T::GLOBAL.then_some("Global options");
        let defaults = T::defaults();
        let flag = |(flag, key): &(&'static str, &'static str)| {
            let arg = arg(flag, setting(key), &defaults).global(T::GLOBAL);
            if heading.is_some() { arg.help_heading(heading) } else { arg }
        };
        command.args(T::FLAGS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The flag of a setting.
fn arg(flag: &'static str, setting: &'static Setting, defaults: &StudyConfig) -> Arg {
    let limits = match &setting.kind {
        Kind::Numbers(_) => setting.kind.to_string(),
        Kind::Size => format!("each side {}", ImageSize::RULE),
        _ => setting.limits(),
    };
    let mut facts = vec![setting.key.clone()];
    if !limits.is_empty() {
        facts.push(limits);
    }
    facts.push(format!("default: {}", default(setting, defaults)));
    let arg =
        Arg::new(flag).long(flag).help(format!("{} [{}]", setting.summary().trim_end_matches('.'), facts.join("; ")));
    let kind = match &setting.kind {
        Kind::Optional(kind) => kind,
        kind => kind,
    };
    match kind {
        // A value only after `=`: what follows the flag may be a path.
        Kind::Bool => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(["true", "false"])
            .value_name("true|false"),
        Kind::Choice(words) => {
            arg.value_name("NAME").value_parser(PossibleValuesParser::new(choices(&setting.key, words)))
        }
        Kind::List(inside) => {
            if setting.key == WINDOW {
                return arg.num_args(2).allow_negative_numbers(true).value_names(["LOW", "HIGH"]);
            }
            let arg = arg.action(ArgAction::Append);
            match inside.as_ref() {
                Kind::Choice(words) => {
                    let choices = PossibleValuesParser::new(choices(&setting.key, words));
                    arg.value_parser(choices).value_delimiter(',').value_name("NAME,..")
                }
                Kind::Text => arg.value_name(text_name(&setting.key)),
                _ => arg.value_delimiter(',').value_name("X,.."),
            }
        }
        Kind::Integer | Kind::Numbers(_) => arg.value_name("N").allow_negative_numbers(true),
        Kind::Size => arg.value_name("N|WxH").allow_negative_numbers(true),
        Kind::Number => arg.value_name("X").allow_negative_numbers(true),
        Kind::Text | Kind::Table(_) | Kind::Optional(_) => arg.value_name(text_name(&setting.key)),
    }
}

/// A setting of two numbers, each a value of its flag.
const WINDOW: &str = "data.window";

/// What a text is called in help.
fn text_name(key: &str) -> &'static str {
    match key {
        "data.path" | "inputs.real" | "inputs.holdout" | "inputs.synthetic" => "PATH",
        "data.group_csv" | "data.table.file" | "inputs.split" | "inputs.strata" => "FILE",
        "data.table.name" | "data.table.label" | "data.table.group" | "data.table.part" => "COL",
        "data.group_pattern" => "REGEX",
        "data.layout" => "LEVELS",
        "data.slices" => "all|middle|N",
        "inputs.judge" | "inputs.checkpoint" | "inputs.discriminators" => "DIR",
        "inputs.features" => "SOURCE",
        "gan.from" => "DIR|built-in",
        "classifier.from" => "DIR|FILE",
        _ => "NAME",
    }
}

/// The choices of a setting, those of recipes and presets with what their files say they are.
fn choices(key: &str, words: &'static [String]) -> Vec<PossibleValue> {
    let help = |word: &str| match key {
        "preset" => word.parse::<Preset>().ok().map(Preset::summary),
        "gan.recipe" => GAN_RECIPES.iter().find(|recipe| recipe.name == word).map(|recipe| recipe.summary()),
        "classifier.recipe" => {
            CLASSIFIER_RECIPES.iter().find(|recipe| recipe.name == word).map(|recipe| recipe.summary())
        }
        _ => None,
    };
    let value = |word: &'static String| {
        let value = PossibleValue::new(word.as_str());
        match help(word) {
            Some(help) => value.help(help),
            None => value,
        }
    };
    words.iter().map(value).collect()
}

/// What the default is, where the recipe and the preset are the first.
fn default(setting: &Setting, defaults: &StudyConfig) -> String {
    match setting.key.as_str() {
        // A study starts from this one.
        "preset" => Preset::default().name().to_owned(),
        "data.path" => "the phantom".to_owned(),
        "inputs.features" => "pixels".to_owned(),
        "gan.discriminator_lr" => "gan.lr".to_owned(),
        "gan.grid_at" => "the first and each third".to_owned(),
        _ => setting.text_in(defaults).trim_matches('"').to_owned(),
    }
}

impl<T: Shorthands> FromArgMatches for Given<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |(flag, key): &(&'static str, &'static str)| {
            let values: Vec<String> = matches.get_many::<String>(flag)?.cloned().collect();
            Some((*flag, *key, values))
        };
        Ok(Self { values: T::FLAGS.iter().filter_map(given).collect(), verb: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
