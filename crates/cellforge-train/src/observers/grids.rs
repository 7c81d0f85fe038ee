use std::io::Cursor;

use candle_core::Tensor;
use cellforge_data::{View, make_private_folder, sample_grid};
use cellforge_nn::one_hot;

use crate::gan_step::GanStep;
use crate::{Error, Event, Observer, Phase, Position, Result, RunDir, generate};

/// Draws the generator's images of the same fixed noise at chosen iterations, as `grid-00005000.png` and, for
/// TensorBoard, as an image of the event.
#[derive(Debug)]
pub struct SampleGrids {
    dir: RunDir,
    at: Vec<u64>,
    noise: Tensor,
    classes: usize,
    columns: usize,
}

impl SampleGrids {
    /// Writes into the run's folder of grids after the iterations `at`; `noise` has shape (images, latent). A generator of several
    /// `classes` draws the same noise as each of them, one class below the other.
    pub fn new(dir: &RunDir, at: Vec<u64>, noise: Tensor, classes: usize, columns: usize) -> Self {
        Self { dir: dir.clone(), at, noise, classes, columns }
    }
}

impl Observer<GanStep> for SampleGrids {
    fn phase(&self) -> Phase {
        Phase::Measure
    }

    fn wants(&self, iteration: u64, _total: u64) -> bool {
        self.at.contains(&iteration)
    }

    fn on_start(&mut self, _step: &mut GanStep, _start: &Position, _total: u64) -> Result<()> {
        let folder = self.dir.grids();
        make_private_folder(&folder).map_err(Error::io(&folder))
    }

    fn on_step(&mut self, step: &mut GanStep, event: &mut Event<'_>) -> Result<()> {
        let iteration = event.position.iteration;
        if !self.wants(iteration, event.total) {
            return Ok(());
        }
        let rows = |class: usize| -> Result<Option<Tensor>> {
            let labels = vec![class as u32; self.noise.dim(0)?];
            Ok(if self.classes > 1 { Some(one_hot(&labels, self.classes, self.noise.device())?) } else { None })
        };
        let mut images = generate::images_of(step.generator(), &self.noise, rows(0)?.as_ref())?;
        // Every class begins a row.
        let n = self.noise.dim(0)?;
        let missing = n.next_multiple_of(self.columns.max(1)) - n;
        for class in 1..self.classes {
            let more = generate::images_of(step.generator(), &self.noise, rows(class)?.as_ref())?;
            let white = vec![255; missing * more.pixels.len() / n];
            images.pixels.extend(white.into_iter().chain(more.pixels));
        }
        let grid = sample_grid(&View::new(images)?, self.columns);
        let path = self.dir.grid(iteration);
        let mut png = Cursor::new(Vec::new());
        let written = grid.write_to(&mut png, image::ImageFormat::Png);
        written.map_err(|source| Error::Png { path: path.clone(), source })?;
        cellforge_data::write_atomic(&path, png.get_ref())?;
        event.images.push(("samples".to_owned(), grid));
        Ok(())
    }
}
