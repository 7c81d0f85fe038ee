//! The stages of GANs of other recipes, which stand beside the study's own.

use cellforge_assess::files::{read_json, write_json};
use cellforge_train::Stage;

use super::{Line, Trained, data::Cells, evaluate, gan, outcome};
use crate::{
    Result, judge,
    results::Beside,
    runner::{Makes, Runner},
    stamp::Stamp,
};

/// Trains the GANs of each line, makes as many images as the study's own make, and has the study's residual network judge them.
pub(crate) fn run(
    lines: &[Line],
    cells: &Cells,
    (network, data, resnet): (&Trained, &Stamp, &Stamp),
    runner: &mut Runner<'_>,
) -> Result<Vec<Beside>> {
    let control = runner.control;
    let mut all = Vec::new();
    for line in lines {
        let config = &line.config;
        let (runs, gans) = gan::train(line, cells, data, resnet, runner)?;
        let synthetic = gan::generate(line, &runs, &gans, runner)?;

        let (judgement, folder) = (line.dir(control).judgement(), line.folder(Stage::Judge));
        let name = line.name(Stage::Judge, "judge");
        runner.stage(&name, &config.judge, &[data, resnet, &synthetic], Makes::Folder(&folder), |_| {
            let images = line.path(Stage::Synthetic, control);
            let recognition = judge::recognition(config, cells, network, &images, control)?;
            Ok(write_json(&judgement, &recognition)?)
        })?;

        let upstream: Vec<&Stamp> = [data, resnet, &synthetic].into_iter().chain(&gans).collect();
        all.push(Beside {
            recipe: config.gan.recipe.clone(),
            gan: outcome::gan_results(&runs, runner)?,
            recognition: read_json(&judgement)?,
            evaluation: evaluate::run(line, cells, &runs, &upstream, runner)?,
        });
    }
    Ok(all)
}
