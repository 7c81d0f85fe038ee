//! `cellforge config`: every setting there is.

use anyhow::{Result, bail};
use cellforge::{
    settings::{Layer, Setting, markdown},
    study::{Preset, StudyConfig},
    train::{CLASSIFIER_RECIPES, GAN_RECIPES},
};

use crate::common::{ARGUMENT, Globals, SETTINGS, nested, say, settings};

/// What to do with settings.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Print each key with its value, default, range and meaning
    Show(ShowArgs),
}

/// Arguments of `config show`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge config show                  all settings, one line each
  cellforge config show gan              the settings of a GAN's training
  cellforge config show gan.r1           one setting in full
  cellforge config show gan --set gan.recipe=best    the same with a recipe, beside the defaults
  cellforge config show --markdown       all settings as a page

A settings file is TOML, with nested or dotted keys:

  seed = 7
  [gan]
  r1 = 1.0
  augment.translation = 0.25

Every verb takes a file with --config FILE and single settings with --set gan.r1=1.")]
pub struct ShowArgs {
    /// A key, or the table of several, such as gan or evaluate.privacy
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Print a page of Markdown
    #[arg(long, conflicts_with = "key")]
    markdown: bool,
}

pub fn run(globals: &Globals, command: &Command) -> Result<()> {
    match command {
        Command::Show(args) => show(globals, args),
    }
}

fn show(globals: &Globals, args: &ShowArgs) -> Result<()> {
    let in_force = settings(globals, Vec::new(), Vec::new(), None)?;
    // Its value, and the default where that is another.
    let assigned = |setting: &Setting| {
        let (value, default) = (setting.text_in(&in_force), setting.default_text());
        let plain = setting.value_in(&in_force) == setting.value_in(&StudyConfig::default());
        if plain {
            format!("{} = {default}", setting.key)
        } else {
            format!("{} = {value} (default: {default})", setting.key)
        }
    };
    if args.markdown {
        if in_force != StudyConfig::default() {
            bail!("--markdown prints the defaults: leave out what sets others");
        }
        say(page().trim_end());
        return Ok(());
    }
    let wanted = args.key.as_deref().unwrap_or_default();
    let within = |key: &str| wanted.is_empty() || key == wanted || key.starts_with(&format!("{wanted}."));
    let found: Vec<_> = SETTINGS.iter().filter(|setting| within(&setting.key)).collect();
    match found.as_slice() {
        [] => {
            // What is said of it as a setting: the name that is near, or that of today.
            let layer = Layer::new(ARGUMENT, nested(wanted, toml::Value::Boolean(true)));
            StudyConfig::layered(&[layer], None)?;
            bail!("there is no setting {wanted}; `cellforge config show` prints all")
        }
        [setting] => {
            say(assigned(setting));
            say(format!("values: {}", setting.values()));
            say(setting.meaning.trim());
        }
        several => {
            let lines: Vec<String> = several.iter().map(|setting| assigned(setting)).collect();
            let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).min(48);
            for (setting, line) in several.iter().zip(lines) {
                say(format!("{line:<width$}  {} ({})", setting.summary(), setting.values()));
            }
        }
    }
    Ok(())
}

/// The page `docs/settings.md`.
fn page() -> String {
    let mut page = "# Settings\n\n<!-- made by: cellforge config show --markdown -->\n\n\
        Each setting has one name. It is the same in a settings file (`--config FILE.toml`), on the command line (`--set gan.r1=1`) and in the\n\
        `state.json` of a checkpoint. Settings come from these places, each laid over the ones before: the defaults below, the recipes that\n\
        `gan.recipe` and `classifier.recipe` name, the preset, the file, the flags, `--set`.\n\n\
        ## Presets of a study\n\n| preset | what it is |\n|---|---|\n"
        .to_owned();
    for preset in Preset::ALL {
        page.push_str(&format!("| `{preset}` | {} |\n", preset.summary()));
    }
    for (of, recipes) in [("GANs", GAN_RECIPES), ("classifiers", CLASSIFIER_RECIPES)] {
        page.push_str(&format!("\n## Recipes for {of}\n\n| recipe | what it is |\n|---|---|\n"));
        for recipe in recipes {
            page.push_str(&format!("| `{}` | {} |\n", recipe.name, recipe.summary()));
        }
    }
    page.push_str(&markdown::<StudyConfig>());
    page
}
