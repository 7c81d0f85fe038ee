//! Recipes: settings that were found to go together, as TOML files.

use cellforge_settings::{Layer, assemble};

use crate::{ClassifierTrainConfig, Error, GanTrainConfig, Result};

/// A file of settings under a name.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Its name, which is that of the file.
    pub name: &'static str,
    /// The file: comments, then settings without the table that they belong to.
    pub text: &'static str,
}

macro_rules! recipes {
    ($folder:literal: $($name:literal),+) => {
        &[$(Recipe { name: $name, text: include_str!(concat!("../../recipes/", $folder, "/", $name, ".toml")) }),+]
    };
}

/// The recipes for GANs, the default first.
pub const GAN_RECIPES: &[Recipe] = recipes!("gan": "study", "best");

/// The recipes for classifiers, the default first.
pub const CLASSIFIER_RECIPES: &[Recipe] = recipes!("classifier": "resnet", "resnet-flips", "cnn-1", "cnn-2", "cnn-3", "cnn-paper-1", "cnn-paper-2", "cnn-paper-3", "resnet18", "resnet50");

impl Recipe {
    /// What it is, in a line: the comment at its top.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }

    /// Its settings.
    ///
    /// # Errors
    /// [`Error::Settings`] if the file is no TOML.
    pub fn layer(&self) -> Result<Layer> {
        Ok(Layer::parse(format!("the recipe {}", self.name), self.text)?)
    }

    fn find(recipes: &'static [Self], name: &str) -> Result<&'static Self> {
        let known = || recipes.iter().map(|recipe| recipe.name).collect::<Vec<_>>().join(", ");
        let unknown =
            || Error::Invalid { field: "recipe", reason: format!("there is none named {name:?}, but {}", known()) };
        recipes.iter().find(|recipe| recipe.name == name).ok_or_else(unknown)
    }
}

impl GanTrainConfig {
    /// The settings of a recipe.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none of this name.
    pub fn recipe(name: &str) -> Result<Self> {
        let config: Self = assemble(&[Recipe::find(GAN_RECIPES, name)?.layer()?], &[])?;
        Ok(Self { recipe: name.to_owned(), ..config })
    }
}

impl ClassifierTrainConfig {
    /// The settings of a recipe.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none of this name.
    pub fn recipe(name: &str) -> Result<Self> {
        let config: Self = assemble(&[Recipe::find(CLASSIFIER_RECIPES, name)?.layer()?], &[])?;
        Ok(Self { recipe: name.to_owned(), ..config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_valid_and_says_what_it_is() {
        for recipe in GAN_RECIPES {
            let config = GanTrainConfig::recipe(recipe.name).unwrap().for_images(64, 3, 2);
            config.validate().unwrap();
            assert!(recipe.summary().ends_with('.'), "{}", recipe.name);
        }
        for recipe in CLASSIFIER_RECIPES {
            ClassifierTrainConfig::recipe(recipe.name).unwrap().validate().unwrap();
            assert!(recipe.summary().ends_with('.'), "{}", recipe.name);
        }
        let unknown = GanTrainConfig::recipe("bset").unwrap_err().to_string();
        assert!(unknown.contains("study, best"), "{unknown}");
    }

    #[test]
    fn the_first_recipe_is_the_default() {
        assert_eq!(GanTrainConfig::recipe(GAN_RECIPES[0].name).unwrap(), GanTrainConfig::default());
        assert_eq!(
            ClassifierTrainConfig::recipe(CLASSIFIER_RECIPES[0].name).unwrap(),
            ClassifierTrainConfig::default()
        );
    }

    #[test]
    fn the_published_networks_are_as_published() {
        let epochs = |name: &str| ClassifierTrainConfig::recipe(name).unwrap().epochs;
        assert_eq!(["cnn-paper-1", "cnn-paper-2", "cnn-paper-3"].map(epochs), [30, 100, 50]);
    }
}
