//! What every kind of run does around `fit`: claim or resume an output folder, and check the settings.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use cellforge_data::View;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::{self, State};
use crate::{Error, Result, Step};

/// Batches made ahead of the step that uses them.
pub(crate) const PREFETCH: usize = 4;

/// Steps after which losses are read: at once where that costs nothing, and else seldom enough that a GPU is not kept waiting.
pub(crate) fn read_every(device: &Device) -> u64 {
    if device.is_cpu() { 1 } else { 10 }
}

/// How a run is driven, as against what it computes: none of this changes a byte of the weights on one device.
#[derive(Debug, Clone)]
pub struct Control {
    /// Go on from the checkpoint `last` in the output folder; with none there, start. A `best` that is damaged or gone is done without.
    pub resume: bool,
    /// Start afresh even if the output folder holds a run, which is then removed. `resume` goes before it where there
    /// is a checkpoint.
    pub overwrite: bool,
    /// Once true, the step under way is finished, a checkpoint written and the run returns.
    pub stop: Arc<AtomicBool>,
    /// Show progress (see [`crate::Progress`]).
    pub progress: bool,
    /// Where to compute.
    pub device: Device,
    /// Text files, by path, to write once the run has its folder, for example its settings. A run that is refused must not
    /// replace those of the run that holds the folder.
    pub records: Vec<(PathBuf, String)>,
}

impl Control {
    /// Whether the run was asked to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

impl Default for Control {
    /// A fresh run on the CPU without progress.
    fn default() -> Self {
        Self {
            resume: false,
            overwrite: false,
            stop: Arc::default(),
            progress: false,
            device: Device::Cpu,
            records: Vec::new(),
        }
    }
}

/// Keeps other processes out of a run's folder for as long as it lives. The system releases it when the process ends,
/// however it ends.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    lock: File,
}

/// Makes a folder, if need be, claims it, and removes what a process that died there was in the middle of writing.
///
/// # Errors
/// [`Error::Busy`] while another process holds it; an I/O error if the folder cannot be made.
pub fn claim(out: &Path) -> Result<Claim> {
    fs::create_dir_all(out).map_err(Error::io(out))?;
    let path = out.join(".lock");
    let mut options = File::options();
    let mut lock = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(Error::io(&path))?;
    if let Err(fs::TryLockError::WouldBlock) = lock.try_lock() {
        let holder = fs::read_to_string(&path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        return Err(Error::Busy { path: out.to_path_buf(), holder });
    }
    // Where the file system has no locks, the folder is the user's to keep apart.
    lock.set_len(0).and_then(|()| lock.write_all(myself().as_bytes())).map_err(Error::io(&path))?;
    cellforge_data::remove_unfinished(out)?;
    Ok(Claim { lock })
}

/// What a process that is refused is told about this one.
fn myself() -> String {
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    format!("{program}, process {}\n", std::process::id())
}

impl Drop for Claim {
    /// The file stays, empty: if it were removed, two processes could each hold a file of that name.
    fn drop(&mut self) {
        let _ = self.lock.set_len(0);
    }
}

/// Makes `out` ready and, to resume, puts `step` back to its last checkpoint. Returns the state to start from, the
/// checkpoint's or `fresh`, with the claim on the folder.
pub(crate) fn open<S: Step, C>(
    out: &Path,
    control: &Control,
    step: &mut S,
    fresh: State<C>,
) -> Result<(Claim, State<C>)>
where
    C: Serialize + DeserializeOwned,
{
    let claim = claim(out)?;
    cellforge_data::remove_unfinished(&out.join("grids"))?;
    let occupied = ["last", "best"].iter().any(|name| checkpoint::exists(out, name));
    if control.resume && checkpoint::settle(out, "last")? {
        let dir = out.join("last");
        let mut saved = checkpoint::read_state::<C>(&dir, &fresh.kind)?;
        check_same(&dir, &saved, &fresh)?;
        step.restore(&checkpoint::read_snapshot(&dir, &saved, &control.device)?)?;
        settle_best(out, &mut saved)?;
        tracing::info!("resuming {} after iteration {}", out.display(), saved.position.iteration);
        record(control)?;
        return Ok((claim, saved));
    }
    if occupied {
        // A run can die after its first `best` and before its first `last`: resuming it starts it again.
        if !control.overwrite && !control.resume {
            return Err(Error::Occupied(out.to_path_buf()));
        }
        // The figures on the test images, too, are those of the run that goes.
        for leftover in ["log.jsonl", "tensorboard", "grids", "test.json"] {
            checkpoint::remove(&out.join(leftover))?;
        }
    }
    for name in ["last", "best"] {
        checkpoint::delete(out, name)?;
    }
    record(control)?;
    Ok((claim, fresh))
}

/// Makes `best` whole. Where it is lost, the run goes on without it and finds another.
fn settle_best<C>(out: &Path, saved: &mut State<C>) -> Result<()> {
    let lost = match checkpoint::settle(out, "best") {
        Ok(there) if there || saved.best.is_none() => return Ok(()),
        Ok(_) => format!("{} is gone", out.join("best").display()),
        Err(error @ Error::Damaged { .. }) => error.to_string(),
        Err(error) => return Err(error),
    };
    tracing::warn!("{lost}; the run goes on without it, and the best from here on takes its place");
    checkpoint::delete(out, "best")?;
    saved.best = None;
    // The guard goes back to the best one: a collapse is to be seen anew, when there is one again.
    saved.guard.alike = 0;
    Ok(())
}

fn record(control: &Control) -> Result<()> {
    control.records.iter().try_for_each(|(path, text)| Ok(cellforge_data::write_atomic(path, text.as_bytes())?))
}

/// Compares what would make a resumed run differ from the one that was started.
fn check_same<C: Serialize>(dir: &Path, saved: &State<C>, given: &State<C>) -> Result<()> {
    let view = |state: &State<C>| -> Result<Value> {
        let reason = |e: serde_json::Error| Error::Damaged { path: dir.to_path_buf(), reason: e.to_string() };
        // Through text, so that both sides hold numbers as they are after reading them back.
        let config = serde_json::to_string(&state.config).map_err(reason)?;
        let config: Value = serde_json::from_str(&config).map_err(reason)?;
        Ok(serde_json::json!({ "config": config, "classes": state.classes, "data": state.data, "judge": state.judge }))
    };
    match difference(&view(saved)?, &view(given)?, "") {
        None => Ok(()),
        Some((field, saved, given)) => {
            let field = field.trim_start_matches("config.").to_owned();
            let field = match field.as_str() {
                "data" => "the choice of training images (data)".to_owned(),
                "judge" => "the fingerprint of the judge and its validation images".to_owned(),
                _ => field,
            };
            Err(Error::Mismatch { field, saved, given, path: dir.to_path_buf() })
        }
    }
}

/// The first place where two values differ: its dotted path and both values.
fn difference(saved: &Value, given: &Value, path: &str) -> Option<(String, String, String)> {
    if let (Value::Object(a), Value::Object(b)) = (saved, given) {
        let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
        return names.into_iter().find_map(|name| {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            difference(a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null), &inner)
        });
    }
    (saved != given).then(|| (path.to_owned(), saved.to_string(), given.to_string()))
}

/// Identifies the images a run trains on and in what order they are listed: their stored sets, and their rows in these.
pub(crate) fn data_fingerprint(views: &[&View]) -> String {
    let mut text = Vec::new();
    for (at, view) in views.iter().enumerate() {
        if at == 0 || !view.shares_set(views[at - 1]) {
            text.extend(view.whole().fingerprint().into_bytes());
        }
        text.push(b'|');
        text.extend(view.rows().into_iter().flat_map(|row| (row as u64).to_le_bytes()));
    }
    checkpoint::hex(&text)
}

/// Checks that images and model agree on size and channels, and that there is something to train on.
pub(crate) fn check_images(images: &View, side: usize, channels: usize) -> Result<()> {
    let invalid = |field, reason| Err(Error::Invalid { field, reason });
    if (images.side(), images.channels()) != (side, channels) {
        let reason = format!(
            "the model takes {side}x{side} pixels and {channels} channels, the images have {0}x{0} and {1}: load them at the model's size",
            images.side(),
            images.channels()
        );
        return invalid("model", reason);
    }
    if images.is_empty() {
        return invalid("images", "none to train on".to_owned());
    }
    Ok(())
}

/// Checks that each count is at least 1.
pub(crate) fn check_counts(counts: &[(&'static str, u64)]) -> Result<()> {
    match counts.iter().find(|(_, count)| *count == 0) {
        Some((field, _)) => Err(Error::Invalid { field, reason: "is 0: at least 1 is needed".to_owned() }),
        None => Ok(()),
    }
}

/// Checks that a learning rate is a positive number.
pub(crate) fn check_rate(field: &'static str, rate: f64) -> Result<()> {
    if rate.is_finite() && rate > 0.0 {
        return Ok(());
    }
    Err(Error::Invalid { field, reason: format!("{rate} is out of range: above 0") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = claim(dir.path()).unwrap();
        let refused = claim(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        assert_eq!(fs::read(dir.path().join(".lock")).unwrap(), b"");
        // What a process that was killed has left is in nobody's way.
        fs::write(dir.path().join(".lock"), "cellforge, process 1\n").unwrap();
        assert!(claim(dir.path()).is_ok());
    }

    #[test]
    fn images_are_known_by_their_set_and_their_rows() {
        use cellforge_data::phantom::{self, PhantomConfig};
        let config = PhantomConfig { side: 16, cells_per_class: 4, ..PhantomConfig::default() };
        let all = phantom::render(&config).unwrap();
        // What a state.json of earlier versions holds: the fingerprint of the whole set, then the rows of each choice.
        let mut text = all.fingerprint().into_bytes();
        for rows in [&[5u64, 1][..], &[2]] {
            text.push(b'|');
            text.extend(rows.iter().flat_map(|row| row.to_le_bytes()));
        }
        let (train, val) = (all.part(&[5, 1]), all.part(&[2]));
        let known = data_fingerprint(&[&train, &val]);
        assert_eq!(known, checkpoint::hex(&text));
        // However they were narrowed.
        let again = all.part(&[7, 5, 3, 1]).part(&[1, 3]);
        assert_eq!(data_fingerprint(&[&again, &val]), known);
        assert_ne!(data_fingerprint(&[&val, &train]), known);
        let other = phantom::render(&PhantomConfig { seed: 1, ..config }).unwrap();
        assert_ne!(data_fingerprint(&[&train, &other.part(&[2])]), known);
    }

    #[test]
    fn the_first_difference_is_named() {
        let saved = serde_json::json!({"lr": 0.1, "model": {"width": 1.0, "side": 64}});
        assert_eq!(difference(&saved, &saved, ""), None);
        let given = serde_json::json!({"lr": 0.1, "model": {"width": 0.5, "side": 64}});
        let expected = ("model.width".to_owned(), "1.0".to_owned(), "0.5".to_owned());
        assert_eq!(difference(&saved, &given, ""), Some(expected));
    }
}
