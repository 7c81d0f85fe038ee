//! Gradients on the tape are those of Candle's graph.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use cellforge_kernels::{
    Conv2dConfig, DropoutMask, Padding, add, avg_pool2d, avg_pool2d_global, batch_norm_eval,
    batch_norm_leaky_relu_train, batch_norm_train, bce_with_logits, conv2d, conv2d_add, cross_entropy, dropout,
    gradients, leaky_relu, linear, max_pool2d, pad_bottom_right, relu, reshape, tanh, upsample_nearest2x,
    upsample2x_conv2d,
};

use crate::common::{assert_close, values, variable};

/// A network with every operation in it and a tensor that is used three times.
fn loss(v: &[Var]) -> Result<Tensor> {
    let same = Conv2dConfig { stride: 1, padding: Padding::uniform(1) };
    let xs = conv2d(&v[0], &v[1], Some(&v[2]), &same)?; // (2, 4, 6, 6)
    let (xs, _) = batch_norm_leaky_relu_train(&xs, &v[3], &v[4], 1e-3, 0.2, None)?;
    let ys = avg_pool2d(&max_pool2d(&upsample_nearest2x(&xs)?, 2, 2, 0)?, 3, 1, 1, false)?;
    let ys = add(&add(&ys, &xs)?, &relu(&xs)?)?;
    let (normed, stats) = batch_norm_train(&ys, &v[3], &v[4], 1e-3)?;
    let ys = conv2d_add(&normed, &v[5], &ys, &same)?;
    let ys = batch_norm_eval(&ys, &v[4], &v[3], &stats.mean, &stats.var_unbiased, 1e-3)?;
    let ys = tanh(&conv2d(&leaky_relu(&ys, 0.1)?, &v[5], None, &same)?)?;
    let ys = upsample2x_conv2d(&ys, &v[5], None)?; // (2, 4, 12, 12)
    let keep = (0..ys.elem_count()).map(|i| u8::from(i % 3 > 0)).collect();
    let ys = pad_bottom_right(&dropout(&ys, DropoutMask { keep, scale: 1.5 })?, 1)?;
    let ys = linear(&reshape(&avg_pool2d_global(&ys)?, &[1, 8])?, &v[6], Some(&v[7]))?;
    cross_entropy(&ys, &Tensor::new(&[1u32], &Device::Cpu)?)
}

fn variables() -> Vec<Var> {
    let shapes: [&[usize]; 8] = [&[2, 3, 6, 6], &[4, 3, 3, 3], &[4], &[4], &[4], &[4, 4, 3, 3], &[3, 8], &[3]];
    shapes.iter().enumerate().map(|(i, shape)| variable(i as u64, shape)).collect()
}

#[test]
fn they_are_those_of_candles_graph() -> Result<()> {
    let vars = variables();
    let expected = loss(&vars)?;
    let graph = expected.backward()?;
    let (value, tape) = gradients(|| loss(&vars))?;
    assert_eq!(value.to_scalar::<f32>()?, expected.to_scalar::<f32>()?);
    for (i, var) in vars.iter().enumerate() {
        let [a, b] =
            [&tape, &graph].map(|grads| grads.get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let size = b.iter().fold(0f32, |m, x| m.max(x.abs()));
        assert!(size > 0., "variable {i} has a gradient of zero");
        // Candle adds each gradient to zero and in another order.
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * size), "variable {i}: {a:?} and {b:?}");
    }
    assert!(!value.track_op(), "the tape leaves no graph behind");
    Ok(())
}

#[test]
fn an_operation_of_candles_in_between_is_an_error() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3]), variable(2, &[4, 3]));
    let broken = gradients(|| relu(&linear(&xs, &weight, None)?.sqr()?)?.sum_all()).unwrap_err().to_string();
    assert!(broken.contains("no scalar computed from variables"), "{broken}");
    let other = variable(3, &[1, 8]);
    let unreached =
        gradients(|| linear(&linear(&xs, &weight, None)?.sqr()?.reshape((1, 8))?, &other, None)).unwrap_err();
    assert!(unreached.to_string().contains("none reaches a variable of shape [2, 3] that linear used"), "{unreached}");
    let mixed = gradients(|| relu(&xs)?.sum_all()? + xs.sqr()?.sum_all()?).unwrap_err().to_string();
    assert!(mixed.contains("operations of Candle's own"), "{mixed}");
    Ok(())
}

/// What the documentation warns of: beside an operation of this crate, one of Candle's is a constant and no error.
#[test]
fn an_operation_of_candles_beside_one_of_this_crate_is_a_constant() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3]).detach(), variable(2, &[1, 3]));
    // Three times the logits, one of them and two.
    let loss = |constant: bool| {
        let ys = linear(&xs, &weight, None)?;
        let other = if constant { ys.detach() } else { ys.clone() };
        bce_with_logits(&add(&ys, &(other * 2.)?)?, 1.)
    };
    let tape = gradients(|| loss(false))?.1;
    let [whole, part] = [loss(false)?.backward()?, loss(true)?.backward()?];
    let of_weight = |grads: &GradStore| values(grads.get(&weight).expect("it is used"));
    assert_eq!(of_weight(&tape), of_weight(&part));
    let thrice: Vec<f64> = of_weight(&part).into_iter().map(|g| 3. * f64::from(g)).collect();
    assert_close("the whole gradient", &of_weight(&whole), &thrice, 1e-6);
    Ok(())
}

#[test]
fn a_failed_recording_leaves_nothing_behind() -> Result<()> {
    let xs = variable(1, &[1, 1]);
    assert!(gradients(|| candle_core::bail!("failed")).is_err());
    assert!(gradients(|| gradients(|| relu(&xs)).map(|(loss, _)| loss)).unwrap_err().to_string().contains("within"));
    let loss = relu(&xs)?;
    assert!(loss.track_op());
    let constant = Tensor::zeros((1, 1), DType::F32, &Device::Cpu)?;
    assert!(gradients(|| relu(&constant)).is_err());
    Ok(())
}
