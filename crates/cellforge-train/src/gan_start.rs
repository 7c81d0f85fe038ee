//! Starting a GAN from one that was trained.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use cellforge_gan::{DiscriminatorKind, GanConfig};
use cellforge_nn::ParamStore;

use crate::checkpoint::{Checkpoint, DISCRIMINATOR, TRAINED};
use crate::gan::KIND;
use crate::packed::Packed;
use crate::{Error, GAN_RECIPES, GanState, GanTrainConfig, Result, SeenImages, StartedFrom};

/// What `gan.from` calls the generator that is built in.
pub const BUILT_IN: &str = "built-in";

/// The SHA-256 of the weights of the GAN that `gan.from` names, by which a start is known from others.
///
/// # Errors
/// [`Error::NoCheckpoint`] or [`Error::Damaged`].
pub fn gan_start_sha256(from: &str) -> Result<String> {
    let state = if from == BUILT_IN { built_in()?.state()? } else { Checkpoint::find(Path::new(from))?.state(KIND)? };
    Ok(state.as_start().weights)
}

type Tensors = BTreeMap<String, Tensor>;

/// A trained GAN to start from.
pub(crate) struct Start {
    name: String,
    state: GanState,
    /// The generator as it is sampled.
    average: Tensors,
    /// The same as it was trained, where the other is an average.
    trained: Option<Tensors>,
    /// None of a packed generator.
    discriminator: Option<Tensors>,
}

impl Start {
    /// The GAN that `config.from` names, whose networks must be those of `config` but for the images and classes.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`] or [`Error::Damaged`]; [`Error::Unsuitable`] for other networks, naming the settings that differ.
    pub(crate) fn open(from: &str, config: &GanTrainConfig, device: &Device) -> Result<Self> {
        let start = Self::read(from, device)?;
        let there = &start.state.config.model;
        // What is a fact of the images, or of the machine, may differ.
        let alike = GanConfig {
            image_size: config.model.image_size,
            channels: config.model.channels,
            classes: config.model.classes,
            precision: config.model.precision,
            ..there.clone()
        };
        if alike == config.model {
            return Ok(start);
        }
        let texts = [&alike, &config.model].map(|model| serde_json::to_value(model).unwrap_or_default());
        let fields = texts[0].as_object().into_iter().flatten();
        let differing =
            fields.filter(|(name, value)| texts[1].get(name.as_str()) != Some(value)).map(|(name, value)| {
                format!(
                    "gan.model.{name} is {value} there and {} here",
                    texts[1].get(name.as_str()).unwrap_or_default()
                )
            });
        let differing = differing.collect::<Vec<_>>().join(", ");
        let kinds = |model: &GanConfig| (model.generator, model.discriminator);
        let of_recipe = GAN_RECIPES.iter().find(|recipe| {
            GanTrainConfig::recipe(recipe.name).is_ok_and(|config| kinds(&config.model) == kinds(there))
        });
        let hint = of_recipe
            .map_or_else(String::new, |recipe| format!(". The recipe {} has networks of its kinds", recipe.name));
        let reason = format!("its networks are others than those of these settings: {differing}{hint}");
        Err(Error::Unsuitable { path: Path::new(&start.name).to_path_buf(), reason })
    }

    fn read(from: &str, device: &Device) -> Result<Self> {
        if from == BUILT_IN {
            let (state, average, discriminator) = built_in()?.read(device)?;
            return Ok(Self { name: from.to_owned(), state, average, trained: None, discriminator });
        }
        let (found, state, average) = Checkpoint::load::<GanTrainConfig>(Path::new(from), KIND, device)?;
        let file = |stem: &str| -> Result<Option<Tensors>> {
            if !state.may_have(stem) || !found.file(stem).is_file() {
                return Ok(None);
            }
            found.tensors(stem, device).map(Some)
        };
        let (trained, discriminator) = (file(TRAINED)?, file(DISCRIMINATOR)?);
        Ok(Self { name: from.to_owned(), state, average, trained, discriminator })
    }

    /// The images that it was trained on, where its checkpoint says.
    pub(crate) fn seen(&self) -> Option<&SeenImages> {
        self.state.seen.as_ref()
    }

    /// What a run that starts here records of it.
    pub(crate) fn record(&self) -> StartedFrom {
        self.state.as_start()
    }

    /// Gives the generator, and its average where there is one, the weights that fit.
    pub(crate) fn generator(&self, store: &ParamStore, average: Option<&ParamStore>, classes: &[String]) -> Result<()> {
        let taken = self.give(store, self.trained.as_ref().unwrap_or(&self.average), classes, str::to_owned)?;
        if let Some(average) = average {
            self.give(average, &self.average, classes, str::to_owned)?;
        }
        if taken.numbers == 0 {
            let reason = "nothing of its generator fits these images".to_owned();
            return Err(Error::Unsuitable { path: Path::new(&self.name).to_path_buf(), reason });
        }
        taken.tell(&self.name, "generator");
        Ok(())
    }

    /// Gives the discriminator the weights that fit.
    pub(crate) fn discriminator(&self, store: &ParamStore, config: &GanTrainConfig, classes: &[String]) -> Result<()> {
        let Some(discriminator) = &self.discriminator else {
            if config.freeze > 0 {
                let reason = "it has no discriminator, of which gan.freeze could freeze layers: it was packed without";
                return Err(Error::Unsuitable { path: Path::new(&self.name).to_path_buf(), reason: reason.to_owned() });
            }
            tracing::info!("starting from {}: it has no discriminator, which starts anew", self.name);
            return Ok(());
        };
        // Blocks count from the largest image down. Those of the same size of map are meant.
        let depth = |model: &GanConfig| model.discriminator_layers().len();
        let (here, there) = (depth(&config.model), depth(&self.state.config.model));
        let residual = config.model.discriminator == DiscriminatorKind::Residual;
        let counterpart = |name: &str| match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((block, rest)) if residual => {
                let block = block.parse::<usize>().unwrap_or_default() + there;
                // One that there is none of has a name that nothing has.
                block.checked_sub(here).map_or_else(String::new, |block| format!("blocks.{block}.{rest}"))
            }
            _ => name.to_owned(),
        };
        let taken = self.give(store, discriminator, classes, counterpart)?;
        let frozen = config.frozen();
        if let Some(layer) = taken.anew.iter().find(|name| frozen.iter().any(|path| name.starts_with(path))) {
            let reason = format!("its {layer} does not fit these images, so gan.freeze cannot keep it as it is");
            return Err(Error::Unsuitable { path: Path::new(&self.name).to_path_buf(), reason });
        }
        taken.tell(&self.name, "discriminator");
        Ok(())
    }

    /// Sets each variable to the tensor of its counterpart where that has its shape, and each column of a class to that of the class of this
    /// name.
    fn give(
        &self,
        store: &ParamStore,
        tensors: &Tensors,
        classes: &[String],
        counterpart: impl Fn(&str) -> String,
    ) -> Result<Taken> {
        let mut own = store.tensors();
        let mut taken = Taken::default();
        for (name, value) in &mut own {
            let size = value.elem_count();
            taken.all += size;
            let there = tensors.get(&counterpart(name));
            let found = match there {
                Some(there) if is_class_table(name) => self.columns(value, there, classes)?,
                Some(there) if there.dims() == value.dims() => Some((there.clone(), size)),
                _ => None,
            };
            match found {
                Some((tensor, numbers)) => {
                    if numbers < size {
                        taken.anew.push(name.clone());
                    }
                    taken.numbers += numbers;
                    *value = tensor;
                }
                None => taken.anew.push(name.clone()),
            }
        }
        store.set(&own)?;
        Ok(taken)
    }

    /// The table `own`, a column for each class, with the columns of the classes that are known by name, and how many numbers those are.
    fn columns(&self, own: &Tensor, there: &Tensor, classes: &[String]) -> Result<Option<(Tensor, usize)>> {
        let (rows, columns) = own.dims2()?;
        if there.dim(0)? != rows {
            return Ok(None);
        }
        let (mut all, mut known) = (Vec::with_capacity(columns), 0);
        for (at, class) in classes.iter().enumerate().take(columns) {
            match self.state.classes.iter().position(|name| name == class) {
                Some(from) if from < there.dim(1)? => {
                    known += 1;
                    all.push(there.narrow(1, from, 1)?.to_dtype(own.dtype())?);
                }
                _ => all.push(own.narrow(1, at, 1)?),
            }
        }
        if known == 0 || all.len() != columns {
            return Ok(None);
        }
        Ok(Some((Tensor::cat(&all, 1)?, known * rows)))
    }
}

/// The GAN that is built in.
#[cfg(feature = "builtin")]
fn built_in() -> Result<Packed<'static>> {
    Ok(crate::builtin::BUILTIN)
}

#[cfg(not(feature = "builtin"))]
fn built_in() -> Result<Packed<'static>> {
    let reason = "this build has no built-in generator (feature builtin)".to_owned();
    Err(Error::Invalid { field: "gan.from", reason })
}

/// How much of a network was taken.
#[derive(Debug, Default)]
struct Taken {
    /// Numbers in the network.
    all: usize,
    /// Those that were taken.
    numbers: usize,
    /// The tensors that start anew, or part of which does.
    anew: Vec<String>,
}

impl Taken {
    fn tell(&self, name: &str, network: &str) {
        // Rounded down: not all is not 100%.
        let share = (1000.0 * self.numbers as f64 / self.all.max(1) as f64).floor() / 10.0;
        let rest = if self.anew.is_empty() { String::new() } else { format!("; anew: {}", self.anew.join(", ")) };
        tracing::info!("starting from {name}: {share:.1}% of the {network}'s numbers{rest}");
    }
}

/// Whether a tensor of this path has a column for each class.
fn is_class_table(name: &str) -> bool {
    ["class.weight", "scale.weight", "shift.weight"].iter().any(|end| name.ends_with(end))
}
