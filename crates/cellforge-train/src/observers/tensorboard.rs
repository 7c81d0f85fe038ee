use std::fs::{self, File};
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Instant;

use cellforge_data::{make_private, make_private_folder, private_file};
use image::{ImageFormat, RgbImage};

use super::tfrecord::{Content, event, first_record, record, time_and_step};
use crate::{Error, Event, Observer, Phase, Position, Result, Step};

/// The one event file of a run; TensorBoard looks for `tfevents` in the name.
const FILE: &str = "events.out.tfevents.0000000000.cellforge";

/// Writes losses, figures and image grids for TensorBoard (`tensorboard --logdir DIR`).
///
/// Times in the file are seconds of training, pauses between resumed runs left out, and not dates: look at the
/// "relative" axis. A resumed run cuts the file back to the iteration it resumes from.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    every: u64,
    file: Option<File>,
    began: Instant,
    /// Seconds of training before this process started.
    before: f64,
}

impl TensorBoard {
    /// Writes into the folder `dir`, the losses of every `every`th step and of those with figures.
    pub fn new(dir: impl Into<PathBuf>, every: u64) -> Self {
        Self { path: dir.into().join(FILE), every: every.max(1), file: None, began: Instant::now(), before: 0.0 }
    }

    fn put(&mut self, step: u64, content: &Content<'_>) -> Result<()> {
        let seconds = self.before + self.began.elapsed().as_secs_f64();
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&record(&event(seconds, step, content))).map_err(Error::io(&self.path))
    }

    fn scalars(&mut self, group: &str, event: &Event<'_>) -> Result<()> {
        let values: Vec<_> = event.values().map(|(name, value)| (format!("{group}/{name}"), value)).collect();
        self.put(event.position.iteration, &Content::Scalars(&values))
    }

    fn images(&mut self, step: u64, images: &[(String, RgbImage)]) -> Result<()> {
        for (tag, image) in images {
            let mut png = Cursor::new(Vec::new());
            let written = image.write_to(&mut png, ImageFormat::Png);
            written.map_err(|source| Error::Png { path: tag.into(), source })?;
            let (width, height) = image.dimensions();
            self.put(step, &Content::Image { tag, width, height, png: png.get_ref() })?;
        }
        Ok(())
    }
}

/// Length in bytes of the whole records of `bytes` up to step `iteration`, and the time of the last of them.
fn kept_length(bytes: &[u8], iteration: u64) -> (u64, f64) {
    let (mut length, mut seconds) = (0, 0.0);
    while let Some(payload) = first_record(&bytes[length..]) {
        match time_and_step(payload) {
            Some((time, step)) if step <= iteration => seconds = time,
            _ => break,
        }
        length += payload.len() + 16;
    }
    (length as u64, seconds)
}

impl<S: Step> Observer<S> for TensorBoard {
    fn phase(&self) -> Phase {
        Phase::Record
    }

    fn wants(&self, _iteration: u64, _total: u64) -> bool {
        false
    }

    fn on_start(&mut self, _step: &mut S, start: &Position, _total: u64) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            make_private_folder(folder).map_err(Error::io(folder))?;
        }
        // Not for appending: Windows cuts no file that is opened so.
        let open = private_file().read(true).write(true).create(true).truncate(false).open(&self.path);
        let mut file = open.map_err(Error::io(&self.path))?;
        make_private(&file);
        let bytes = fs::read(&self.path).map_err(Error::io(&self.path))?;
        let (length, seconds) = if start.iteration == 0 { (0, 0.0) } else { kept_length(&bytes, start.iteration) };
        file.set_len(length).map_err(Error::io(&self.path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(&self.path))?;
        (self.file, self.before, self.began) = (Some(file), seconds, Instant::now());
        if length == 0 { self.put(0, &Content::FileVersion) } else { Ok(()) }
    }

    fn on_step(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        let iteration = event.position.iteration;
        let due = iteration == 1 || iteration.is_multiple_of(self.every) || iteration == event.total;
        if due || !event.figures.is_empty() {
            self.scalars("step", event)?;
        }
        self.images(iteration, &event.images)
    }

    fn on_epoch(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        self.scalars("epoch", event)?;
        self.images(event.position.iteration, &event.images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_file_keeps_only_what_came_before() {
        let records = [0, 1, 2, 3].map(|step| record(&event(step as f64, step, &Content::Scalars(&[]))));
        let mut bytes = records.concat();
        bytes.truncate(bytes.len() - 3);
        let expected = records[..2].concat().len() as u64;
        assert_eq!(kept_length(&bytes, 1), (expected, 1.0));
        assert_eq!(kept_length(&bytes, 9), (records[..3].concat().len() as u64, 2.0));
    }
}
