//! A second view of a network whose parameters take no gradient.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use cellforge_nn::ParamStore;

/// A builder over the parameters of `store`. A network built from it always has the store's present values, because it
/// shares their memory, but back-propagation passes through it without computing its parameters' gradients. Running
/// statistics stay variables and are updated as ever.
pub(crate) fn frozen(store: &ParamStore, device: &Device) -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Frozen(store.clone())), DType::F32, device.clone())
}

struct Frozen(ParamStore);

impl Frozen {
    fn view(name: &str, tensor: Tensor) -> Tensor {
        let statistic = name.ends_with("running_mean") || name.ends_with("running_var");
        if statistic { tensor } else { tensor.detach() }
    }
}

impl SimpleBackend for Frozen {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(Self::view(name, SimpleBackend::get(&self.0, shape, name, init, dtype, device)?))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(Self::view(name, self.0.get_unchecked(name, dtype, device)?))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_tensor(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_nn::Key;

    #[test]
    fn it_follows_the_store_and_takes_no_gradient() -> Result<()> {
        let device = Device::Cpu;
        let store = ParamStore::new(Key::new(0), &device);
        let weight = store.vb().get_with_hints(2, "weight", Init::Const(1.0))?;
        let view = frozen(&store, &device).get_with_hints(2, "weight", Init::Const(1.0))?;
        let statistic = frozen(&store, &device).get_with_hints(2, "running_mean", Init::Const(0.0))?;
        assert!(weight.is_variable() && !view.is_variable() && statistic.is_variable());
        store.trainable()[0].1.set(&Tensor::new(&[3f32, 4.0], &device)?)?;
        assert_eq!(view.to_vec1::<f32>()?, [3.0, 4.0]);
        Ok(())
    }
}
