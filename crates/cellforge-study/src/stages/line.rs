//! The GANs of one recipe in a study: the study's own, or those beside them.

use std::path::PathBuf;

use cellforge_train::{RunDir, Stage};

use crate::{Control, Result, StudyConfig};

/// How GANs of one recipe are trained and judged, and where.
pub(crate) struct Line {
    pub(crate) config: StudyConfig,
    /// The recipe, if these are not the study's own GANs.
    pub(crate) beside: Option<String>,
}

impl Line {
    /// The study's own GANs.
    pub(crate) fn own(config: &StudyConfig) -> Self {
        Self { config: config.clone(), beside: None }
    }

    /// Those beside them.
    pub(crate) fn besides(config: &StudyConfig) -> Result<Vec<Self>> {
        let line = |config: StudyConfig| Self { beside: Some(config.gan.recipe.clone()), config };
        Ok(config.besides()?.into_iter().map(line).collect())
    }

    /// What lies in a folder of a stage, below the study's; parts are set apart by `/`.
    pub(crate) fn inside(&self, stage: Stage, name: &str) -> String {
        format!("{}/{name}", self.folder(stage))
    }

    /// The folder of a stage, below the study's.
    pub(crate) fn folder(&self, stage: Stage) -> String {
        match &self.beside {
            None => stage.folder().to_owned(),
            Some(recipe) => format!("{}/{}", Stage::Beside.run(recipe), stage.folder()),
        }
    }

    /// The name of a stage, which the study's own GANs call `own`.
    pub(crate) fn name(&self, stage: Stage, own: &str) -> String {
        if self.beside.is_some() { self.folder(stage) } else { own.to_owned() }
    }

    /// Whether a stage beside the study's own GANs is of these.
    pub(crate) fn has(&self, stage: &str) -> bool {
        let prefix = self.beside.as_deref().map(|recipe| Stage::Beside.run(recipe));
        prefix.is_some_and(|prefix| stage.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('/')))
    }

    /// The folder around those of the stages.
    pub(crate) fn dir(&self, control: &Control) -> RunDir {
        let study = RunDir::new(&control.out);
        self.beside.as_deref().map_or_else(|| study.clone(), |recipe| study.run_of(Stage::Beside, recipe))
    }

    /// The folder of a stage.
    pub(crate) fn path(&self, stage: Stage, control: &Control) -> PathBuf {
        self.dir(control).stage(stage).path().to_path_buf()
    }
}
