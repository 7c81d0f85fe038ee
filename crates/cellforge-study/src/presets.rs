//! The presets: TOML files with what each changes, and why.

use cellforge_settings::Layer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, StudyConfig};

/// A named set of settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Under a minute on two cores.
    Smoke,
    /// About ten minutes on two cores.
    #[default]
    Quick,
    /// The study's own settings.
    Paper,
    /// A recipe for better GANs in place of the study's.
    Best,
}

/// The table of a preset's file that gives reasons.
const WHY: &str = "why";

impl Preset {
    /// Every preset, fastest first.
    pub const ALL: [Self; 4] = [Self::Smoke, Self::Quick, Self::Paper, Self::Best];

    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Paper => "paper",
            Self::Best => "best",
        }
    }

    /// Its file.
    fn text(self) -> &'static str {
        match self {
            Self::Smoke => include_str!("../presets/smoke.toml"),
            Self::Quick => include_str!("../presets/quick.toml"),
            Self::Paper => include_str!("../presets/paper.toml"),
            Self::Best => include_str!("../presets/best.toml"),
        }
    }

    /// What it is, in a line: the comment at the top of its file.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.text().lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }

    /// Its settings, without the reasons.
    ///
    /// # Errors
    /// If its file is no TOML; the tests read every one.
    pub fn layer(self) -> Result<Layer> {
        let mut layer = Layer::parse(format!("the preset {self}"), self.text())?;
        layer.table.remove(WHY);
        Ok(layer)
    }

    /// Why it differs from the study in the setting `key`.
    #[must_use]
    pub fn why(self, key: &str) -> Option<String> {
        let table: toml::Table = self.text().parse().ok()?;
        Some(table.get(WHY)?.get(key)?.as_str()?.to_owned())
    }

    /// The settings of this preset.
    #[must_use]
    pub fn config(self) -> StudyConfig {
        StudyConfig::preset(self)
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name() == text)
            .ok_or_else(|| format!("no preset {text:?}; there are smoke, quick, paper and best"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A preset that changes a setting of the study says why; that a study measures everything goes without saying.
    #[test]
    fn every_change_has_its_reason() {
        fn keys(prefix: &str, table: &toml::Table, found: &mut Vec<String>) {
            for (name, value) in table {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                match value.as_table() {
                    Some(inside) => keys(&key, inside, found),
                    None => found.push(key),
                }
            }
        }
        for preset in Preset::ALL {
            let mut found = Vec::new();
            keys("", &preset.layer().unwrap().table, &mut found);
            found.retain(|key| key != "evaluate.measure");
            let unexplained: Vec<&String> = found.iter().filter(|key| preset.why(key).is_none()).collect();
            assert!(unexplained.is_empty(), "{preset}: {unexplained:?}");
        }
    }
}
