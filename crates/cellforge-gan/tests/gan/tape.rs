//! Holds the gradients of the kernels' tape against Candle's back-propagation; used by the tests of both model crates.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use cellforge_nn::gradients;

/// Fails unless the tape gives each of `vars` the gradient that Candle gives it. An operation of Candle's own in a network is a
/// constant to the tape: a gradient that passes it on one path and not on another is wrong there without an error.
pub fn assert_same_gradients(vars: &[(String, Var)], loss: impl Fn() -> Result<Tensor>) -> Result<()> {
    let graph = loss()?.backward()?;
    let (_, tape) = gradients(&loss)?;
    for (name, var) in vars {
        let values = |grads: &GradStore| -> Result<Vec<f32>> {
            grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient")).flatten_all()?.to_vec1()
        };
        let (ours, candles) = (values(&tape)?, values(&graph)?);
        assert_eq!(ours.len(), candles.len(), "{name}");
        let size = candles.iter().fold(0f32, |m, x| m.max(x.abs()));
        // Of all parameters only scales and shifts may have a gradient of zero, where a ReLU lets nothing through.
        assert!(var.rank() == 1 || size > 0.0, "the gradient of {name} is zero");
        for (a, b) in ours.iter().zip(&candles) {
            assert!((a - b).abs() <= 1e-6 * size, "{name}: {a} on the tape, {b} on Candle's graph, of {size} at most");
        }
    }
    Ok(())
}
