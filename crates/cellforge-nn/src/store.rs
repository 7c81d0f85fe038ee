//! The parameters of a model, by path.

use crate::Key;
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::init::{FanInOut, NormalOrUniform};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// The parameters and running statistics of a model, `f32`, ordered by path. Clones share the same variables.
///
/// A layer asks the [`VarBuilder`] of [`ParamStore::vb`] for a path and gets the variable there, which is created at
/// the first request. Random starts come from the store's key and the path, so that they do not depend on the order
/// in which layers are built.
#[derive(Clone)]
pub struct ParamStore(Arc<Inner>);

struct Inner {
    key: Key,
    device: Device,
    vars: Mutex<BTreeMap<String, Var>>,
    /// Values of all variables there can be, for a store of weights that were read.
    given: Option<BTreeMap<String, Tensor>>,
}

impl ParamStore {
    /// An empty store whose variables will start from `key` and live on `device`.
    pub fn new(key: Key, device: &Device) -> Self {
        Self(Arc::new(Inner { key, device: device.clone(), vars: Mutex::default(), given: None }))
    }

    /// What `build` makes of a builder of these weights, whose parameters take no gradient ([`ParamStore::frozen_vb`]). As strict
    /// as [`ParamStore::set`], and nothing larger than the weights themselves is made: a configuration that does not belong to them is
    /// an error before memory is taken for it.
    pub fn built<T>(
        tensors: BTreeMap<String, Tensor>,
        device: &Device,
        build: impl FnOnce(VarBuilder<'static>) -> Result<T>,
    ) -> Result<T> {
        let given = Some(tensors.clone());
        let store = Self(Arc::new(Inner { key: Key::new(0), device: device.clone(), vars: Mutex::default(), given }));
        let built = build(store.frozen_vb())?;
        check_names(&store.vars(), &tensors)?;
        Ok(built)
    }

    /// A builder that creates variables in this store, or returns those that are there.
    pub fn vb(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, self.0.device.clone())
    }

    /// As [`ParamStore::vb`], but the parameters take no gradient: they share their values with this store's variables
    /// and follow every update, and a backward pass through them does not compute what nobody asks for. A GAN trains
    /// its generator through a discriminator that is built this way. Running statistics are the store's own.
    pub fn frozen_vb(&self) -> VarBuilder<'static> {
        self.vb_frozen_at(|_| true)
    }

    /// As [`ParamStore::vb`], but the parameters whose path is `frozen` take no gradient, as those of [`ParamStore::frozen_vb`].
    pub fn vb_frozen_at(&self, frozen: impl Fn(&str) -> bool + Send + Sync + 'static) -> VarBuilder<'static> {
        let backend = Frozen { store: self.clone(), frozen: Box::new(frozen) };
        VarBuilder::from_backend(Box::new(backend), DType::F32, self.0.device.clone())
    }

    /// The variables that an optimizer changes, sorted by path: all but the running statistics.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        self.all().into_iter().filter(|(name, _)| !is_buffer(name)).collect()
    }

    /// Every variable, running statistics included, sorted by path.
    pub fn all(&self) -> Vec<(String, Var)> {
        self.vars().iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// A copy of every variable, which later updates do not change.
    ///
    /// # Panics
    ///
    /// If the device cannot copy a variable, which happens only where it is lost or out of memory.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let copy = |var: &Var| var.as_tensor().detach().copy().expect("the device copies a tensor of its own");
        self.vars().iter().map(|(name, var)| (name.clone(), copy(var))).collect()
    }

    /// Gives every variable the value of the tensor of the same name. A missing or unknown name or a different shape
    /// is an error and changes nothing; PyTorch's `num_batches_tracked` is passed over.
    pub fn set(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let vars = self.vars();
        check_names(&vars, tensors)?;
        for (name, var) in vars.iter() {
            check_shape(name, &tensors[name], var.shape())?;
        }
        for (name, var) in vars.iter() {
            // The copy keeps apart storage that the caller may share with this store.
            var.set(&tensors[name].detach().to_device(&self.0.device)?.to_dtype(DType::F32)?.copy()?)?;
        }
        Ok(())
    }

    /// Writes every variable to a safetensors file, under the names that PyTorch gives them.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors: HashMap<String, Tensor> = self.tensors().into_iter().collect();
        candle_core::safetensors::save(&tensors, path)
    }

    /// Reads every variable from a safetensors file; as strict as [`ParamStore::set`].
    pub fn load(&self, path: &Path) -> Result<()> {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| e.with_path(path))?;
        self.set(&tensors.into_iter().collect()).map_err(|e| e.with_path(path))
    }

    /// Moves every variable towards the same one of `other`, by `decay * own + (1 - decay) * other`: an exponential moving average
    /// of the weights, if done after each update of them. Running statistics are copied.
    ///
    /// # Errors
    /// If `other` is the store of another model; nothing is changed then.
    pub fn ema_update(&self, other: &ParamStore, decay: f64) -> Result<()> {
        let others = other.vars().clone();
        let vars = self.vars();
        let shapes = |vars: &BTreeMap<String, Var>| -> Vec<_> {
            vars.iter().map(|(name, var)| (name.clone(), var.shape().clone())).collect()
        };
        if shapes(&vars) != shapes(&others) {
            bail!("an average of the weights of another model");
        }
        let pairs =
            vars.iter().zip(others.values()).map(|((name, var), value)| (is_buffer(name), (var, value.as_tensor())));
        let (buffers, weights): (Vec<_>, Vec<_>) = pairs.partition(|(buffer, _)| *buffer);
        for (pairs, decay) in [(buffers, 0.), (weights, decay)] {
            let pairs: Vec<(&Var, &Tensor)> = pairs.into_iter().map(|(_, pair)| pair).collect();
            crate::ops::ema_update(&pairs, decay)?;
        }
        Ok(())
    }

    /// The number of elements as Keras counts parameters: running statistics included.
    pub fn num_elements(&self) -> usize {
        self.vars().values().map(|var| var.elem_count()).sum()
    }

    fn vars(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        // No code panics while it holds the lock half-way through a change, so a poisoned map is still whole.
        self.0.vars.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn start(&self, name: &str, shape: Shape, init: Init) -> Result<Var> {
        if let Some(given) = &self.0.given {
            let Some(value) = given.get(name) else { bail!("the weights are of another model: missing {name:?}") };
            check_shape(name, value, &shape)?;
            return Var::from_tensor(&value.to_device(&self.0.device)?.to_dtype(DType::F32)?);
        }
        let key = self.0.key.with(name);
        let device = &self.0.device;
        let uniform = |lo, up, shape| key.uniform(lo, up, shape, device);
        let normal = |mean, stdev: f64, shape| key.normal(shape, device)?.affine(stdev, mean);
        let values = match init {
            Init::Const(value) => Tensor::full(value as f32, shape, device)?.contiguous()?,
            Init::Uniform { lo, up } => uniform(lo, up, shape)?,
            Init::Randn { mean, stdev } => normal(mean, stdev, shape)?,
            Init::Kaiming { dist, fan, non_linearity } => {
                let fan: FanInOut = fan;
                let std = non_linearity.gain() / (fan.for_shape(&shape) as f64).sqrt();
                match dist {
                    NormalOrUniform::Normal => normal(0., std, shape)?,
                    NormalOrUniform::Uniform => uniform(-std * 3f64.sqrt(), std * 3f64.sqrt(), shape)?,
                }
            }
        };
        Var::from_tensor(&values)
    }
}

/// Whether weights of these names are those of a model with these variables.
fn check_names(vars: &BTreeMap<String, Var>, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let missing: Vec<&String> = vars.keys().filter(|name| !tensors.contains_key(*name)).collect();
    let known = |name: &str| vars.contains_key(name) || name.ends_with("num_batches_tracked");
    let unknown: Vec<&String> = tensors.keys().filter(|name| !known(name)).collect();
    if !missing.is_empty() || !unknown.is_empty() {
        bail!("the weights are of another model: missing {missing:?}, not known {unknown:?}");
    }
    Ok(())
}

fn check_shape(name: &str, value: &Tensor, shape: &Shape) -> Result<()> {
    if value.shape() != shape {
        let dims = value.dims();
        bail!("the weights are of another model: {name} has shape {dims:?}, expected {:?}", shape.dims());
    }
    Ok(())
}

/// Whether a path is that of a running statistic or of a vector of spectral normalisation, which take no gradient.
fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "running_mean" | "running_var" | "num_batches_tracked" | "weight_u" | "weight_v")
}

impl SimpleBackend for ParamStore {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, _device: &Device) -> Result<Tensor> {
        if dtype != DType::F32 {
            bail!("parameter {name} was asked for as {dtype:?}; this store holds F32");
        }
        let mut vars = self.vars();
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                bail!("parameter {name} has shape {:?} but was asked for as {:?}", var.dims(), shape.dims());
            }
            return Ok(var.as_tensor().clone());
        }
        let var = self.start(name, shape, init)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> Result<Tensor> {
        match self.vars().get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => bail!("parameter {name} is not in the store, and without a shape it cannot be created"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.vars().contains_key(name)
    }
}

/// A store some of whose parameters are handed out without their gradient.
struct Frozen {
    store: ParamStore,
    frozen: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Frozen {
    fn handed_out(&self, name: &str, tensor: Tensor) -> Tensor {
        if is_buffer(name) || !(self.frozen)(name) { tensor } else { tensor.detach() }
    }
}

impl SimpleBackend for Frozen {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(self.handed_out(name, self.store.get(shape, name, init, dtype, device)?))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(self.handed_out(name, self.store.get_unchecked(name, dtype, device)?))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.store.contains_tensor(name)
    }
}
