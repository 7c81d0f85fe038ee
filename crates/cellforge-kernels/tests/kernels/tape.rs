//! Gradients on the tape are those of Candle's graph.

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};
use cellforge_kernels::{
    Conv2dConfig, DropoutMask, ImageMap, Padding, add, avg_pool2d, avg_pool2d_global, batch_norm_eval,
    batch_norm_leaky_relu_train, batch_norm_train, bce_with_logits, conv2d, conv2d_add, cross_entropy, demodulation,
    dropout, gradients, hinge, leaky_relu, leaky_relu_tangent, linear, max_pool2d, mean, modulate, pad_bottom_right,
    record, relu, remap, reshape, row_dot, scale, spectral_normalised, tanh, upsample_nearest2x, upsample2x_conv2d,
};

use crate::common::{assert_close, device, values, variable};

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
    let ys = pad_bottom_right(&dropout(&ys, DropoutMask::new(keep, 1.5))?, 1)?;
    let ys = linear(&reshape(&avg_pool2d_global(&ys)?, &[1, 8])?, &v[6], Some(&v[7]))?;
    cross_entropy(&ys, &Tensor::new(&[1u32], &device())?)
}

fn variables() -> Vec<Var> {
    let shapes: [&[usize]; 8] = [&[2, 3, 6, 6], &[4, 3, 3, 3], &[4], &[4], &[4], &[4, 4, 3, 3], &[3, 8], &[3]];
    shapes.iter().enumerate().map(|(i, shape)| variable(i as u64, shape)).collect()
}

type Loss = fn(&[Var]) -> Result<Tensor>;

#[test]
fn they_are_those_of_candles_graph() -> Result<()> {
    let styled: Loss = |v| judged(&styled(v)?, v);
    let networks = [(variables(), loss as Loss), (styled_variables(), styled)];
    for (vars, loss) in networks {
        let expected = loss(&vars)?;
        let graph = expected.backward()?;
        let (value, tape) = gradients(|| loss(&vars))?;
        assert_eq!(value.to_scalar::<f32>()?, expected.to_scalar::<f32>()?);
        assert_same(&tape, &graph, &vars);
        assert!(!value.track_op(), "the tape leaves no graph behind");
    }
    Ok(())
}

/// Fails unless both have the same gradients, none of them zero. Candle adds each gradient to zero and in another order.
fn assert_same(a: &GradStore, b: &GradStore, vars: &[Var]) {
    for (i, var) in vars.iter().enumerate() {
        let [a, b] = [a, b].map(|grads| values(grads.get(var).expect("it is used")));
        let size = b.iter().fold(0f32, |m, x| m.max(x.abs()));
        assert!(size > 0., "variable {i} has a gradient of zero");
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * size), "variable {i}: {a:?} and {b:?}");
    }
}

/// A generator of images with styles, by the first five variables.
fn styled(v: &[Var]) -> Result<Tensor> {
    let xs = modulate(&v[0], &v[1], &v[2], 0.2)?; // (2, 4, 3, 3)
    let xs = upsample2x_conv2d(&xs, &v[3], None)?; // (2, 3, 6, 6)
    tanh(&modulate(&xs, &scale(&demodulation(&v[3], &v[1])?, 1.5)?, &v[4], 0.2)?)
}

/// What a discriminator thinks of the images, by the others.
fn judged(images: &Tensor, v: &[Var]) -> Result<Tensor> {
    let map = ImageMap { turns: 1, shift: [1, -2], hole: [0, 0, 2, 2], ..ImageMap::default() };
    let xs = remap(images, &[map, ImageMap { mirrored: true, ..ImageMap::default() }])?;
    let [u, ones] = [5, 27].map(|n| variable(90, &[n]).detach());
    let weight = spectral_normalised(&v[5], &u, &ones)?;
    let same = Conv2dConfig { stride: 1, padding: Padding::uniform(1) };
    let ys = conv2d(&xs, &weight, Some(&v[6]), &same)?; // (2, 5, 6, 6)
    let features = avg_pool2d_global(&leaky_relu_tangent(&ys, &ys, 0.2)?)?; // (2, 5)
    let logits = add(&row_dot(&features, &v[7])?, &linear(&features, &v[8], None)?)?;
    add(&hinge(&logits, true)?, &scale(&mean(&logits)?, 0.3)?)
}

fn styled_variables() -> Vec<Var> {
    let shapes: [&[usize]; 9] =
        [&[2, 4, 3, 3], &[2, 4], &[4], &[3, 4, 3, 3], &[2, 3], &[5, 3, 3, 3], &[5], &[2, 5], &[1, 5]];
    shapes.iter().enumerate().map(|(i, shape)| variable(20 + i as u64, shape)).collect()
}

/// The generator's part is recorded; the discriminator, whose parameters are constants, is gone through later, and its gradient by
/// the images handed back.
#[test]
fn a_recording_goes_on_from_the_gradient_by_its_result() -> Result<()> {
    let vars = styled_variables();
    let (generator, others) = vars.split_at(5);
    let frozen: Vec<Var> = others.iter().map(|var| Var::from_tensor(&var.copy()?)).collect::<Result<_>>()?;
    let constants = [generator, &frozen].concat();
    let (_, whole) = gradients(|| judged(&styled(&vars)?, &vars))?;

    let recorded = record(|| styled(&vars))?;
    let images = Var::from_tensor(&recorded.result().contiguous()?)?;
    assert!(!recorded.result().track_op());
    let (_, by_images) = gradients(|| judged(&images, &constants))?;
    let parts = recorded.gradients(by_images.get(&images).expect("an input that is a variable has a gradient"))?;
    assert_same(&parts, &whole, generator);
    assert!(others.iter().all(|var| parts.get(var).is_none()));
    Ok(())
}

/// A network whose parameters take no gradient still passes one on to its input.
#[test]
fn the_input_of_a_frozen_network_has_a_gradient() -> Result<()> {
    let images = variable(1, &[2, 3, 6, 6]);
    let (weight, fc) = (variable(2, &[4, 3, 3, 3]), variable(3, &[1, 4]));
    let loss = |weight: &Tensor, fc: &Tensor| {
        let same = Conv2dConfig { stride: 1, padding: Padding::uniform(1) };
        let features = avg_pool2d_global(&leaky_relu(&conv2d(&images, weight, None, &same)?, 0.2)?)?;
        bce_with_logits(&linear(&features, fc, None)?, 1.)
    };
    let (_, frozen) = gradients(|| loss(&weight.detach(), &fc.detach()))?;
    assert_same(&frozen, &loss(&weight, &fc)?.backward()?, std::slice::from_ref(&images));
    assert!(frozen.get(&weight).is_none() && frozen.get(&fc).is_none());
    Ok(())
}

#[test]
fn recordings_that_cannot_be_walked_back_are_errors() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3]), variable(2, &[4, 3]));
    let wrong = record(|| linear(&xs, &weight, None))?.gradients(&variable(3, &[4, 2])).err().map(|e| e.to_string());
    assert!(wrong.as_ref().is_some_and(|e| e.contains("has shape [4, 2], the result [2, 4]")), "{wrong:?}");

    // Nested in any way, and nothing is left behind.
    let forward = || linear(&xs, &weight, None);
    let grad = variable(3, &[2, 4]).detach();
    let nested: [Result<Tensor>; 4] = [
        record(|| Ok(record(forward)?.result())).map(|recorded| recorded.result()),
        record(|| Ok(gradients(|| mean(&forward()?))?.0)).map(|recorded| recorded.result()),
        gradients(|| Ok(record(forward)?.result())).map(|(loss, _)| loss),
        {
            let recorded = record(forward)?;
            gradients(|| {
                recorded.gradients(&grad)?;
                mean(&forward()?)
            })
            .map(|(loss, _)| loss)
        },
    ];
    for (i, nested) in nested.into_iter().enumerate() {
        let error = nested.expect_err("one at a time").to_string();
        assert!(error.contains("from within"), "{i}: {error}");
        assert!(forward()?.track_op(), "{i} left a recording behind");
    }
    assert!(record(|| candle_core::bail!("failed")).is_err() && forward()?.track_op());

    // An operation of Candle's own in between, and one beside those of this crate.
    let unreached =
        record(|| linear(&forward()?.sqr()?, &variable(4, &[2, 4]), None))?.gradients(&variable(3, &[2, 2]));
    let unreached = unreached.err().map(|e| e.to_string());
    assert!(unreached.as_ref().is_some_and(|e| e.contains("none reaches a variable of shape [2, 3]")), "{unreached:?}");
    let mixed = record(|| forward()? + weight.sqr()?.narrow(0, 0, 2)?.pad_with_zeros(1, 0, 1)?).err();
    let mixed = mixed.map(|e| e.to_string());
    assert!(mixed.as_ref().is_some_and(|e| e.contains("operations of Candle's own")), "{mixed:?}");

    // On Candle's graph alone it is Candle's back-propagation.
    let grads = record(|| xs.sqr())?.gradients(&xs.detach())?;
    let want: Vec<f64> = values(&xs).into_iter().map(|x| 2. * f64::from(x) * f64::from(x)).collect();
    assert_close("gradient", &values(grads.get(&xs).expect("a variable")), &want, 1e-6);
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
    let constant = Tensor::zeros((1, 1), DType::F32, &device())?;
    assert!(gradients(|| relu(&constant)).is_err());
    Ok(())
}
