//! Gradients on the tape are those of Candle's graph.

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};
use cellforge_kernels::{
    Conv2dConfig, DropoutMask, ImageMap, Padding, Precision, add, avg_pool2d, avg_pool2d_global, batch_norm_eval,
    batch_norm_leaky_relu_train, batch_norm_train, bce_with_logits, conv2d, conv2d_add, cross_entropy, demodulation,
    dropout, gradients, hinge, leaky_relu, leaky_relu_jvp, linear, max_pool2d, mean, modulate, mse, mul,
    pad_bottom_right, record, relu, remap, reshape, row_dot, scale, spectral_normalised, sqr, sub, sum, tanh,
    upsample_nearest2x, upsample2x_conv2d,
};

use crate::common::{device, off_zero, values, variable};

/// A network with every operation in it and a tensor that is used three times.
fn loss(v: &[Var]) -> Result<Tensor> {
    let same = Conv2dConfig::new(1, Padding::uniform(1));
    let xs = conv2d(&v[0], &v[1], Some(&v[2]), &same)?; // (2, 4, 6, 6)
    let (xs, _) = batch_norm_leaky_relu_train(&xs, &v[3], &v[4], 1e-3, 0.2, None)?;
    let ys = avg_pool2d(&max_pool2d(&upsample_nearest2x(&xs)?, 2, 2, 0)?, 3, 1, 1, false)?;
    let ys = add(&add(&ys, &xs)?, &relu(&xs)?)?;
    let (normed, stats) = batch_norm_train(&ys, &v[3], &v[4], 1e-3)?;
    let ys = conv2d_add(&normed, &v[5], &ys, &same)?;
    let ys = batch_norm_eval(&ys, &v[4], &v[3], &stats.mean, &stats.var_unbiased, 1e-3)?;
    let ys = tanh(&conv2d(&leaky_relu(&ys, 0.1)?, &v[5], None, &same)?)?;
    let ys = upsample2x_conv2d(&ys, &v[5], None, Precision::F32)?; // (2, 4, 12, 12)
    let keep = (0..ys.elem_count()).map(|i| u8::from(i % 3 > 0)).collect();
    let ys = pad_bottom_right(&dropout(&ys, DropoutMask::new(keep, 1.5))?, 1)?;
    let ys = linear(&reshape(&avg_pool2d_global(&ys)?, &[1, 8])?, &v[6], Some(&v[7]), Precision::F32)?;
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
    let xs = upsample2x_conv2d(&xs, &v[3], None, Precision::F32)?; // (2, 3, 6, 6)
    tanh(&modulate(&xs, &scale(&demodulation(&v[3], &v[1])?, 1.5)?, &v[4], 0.2)?)
}

/// What a discriminator thinks of the images, by the others.
fn judged(images: &Tensor, v: &[Var]) -> Result<Tensor> {
    let map = ImageMap { turns: 1, shift: [1, -2], hole: [0, 0, 2, 2], ..ImageMap::default() };
    let xs = remap(images, &[map, ImageMap { mirrored: true, ..ImageMap::default() }])?;
    let [u, ones] = [5, 27].map(|n| variable(90, &[n]).detach());
    let weight = spectral_normalised(&v[5], &u, &ones)?;
    let same = Conv2dConfig::new(1, Padding::uniform(1));
    let ys = conv2d(&xs, &weight, Some(&v[6]), &same)?; // (2, 5, 6, 6)
    let features = avg_pool2d_global(&leaky_relu_jvp(&ys, &ys, 0.2)?)?; // (2, 5)
    let logits = add(&row_dot(&features, &v[7])?, &linear(&features, &v[8], None, Precision::F32)?)?;
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
        let same = Conv2dConfig::new(1, Padding::uniform(1));
        let features = avg_pool2d_global(&leaky_relu(&conv2d(&images, weight, None, &same)?, 0.2)?)?;
        bce_with_logits(&linear(&features, fc, None, Precision::F32)?, 1.)
    };
    let (_, frozen) = gradients(|| loss(&weight.detach(), &fc.detach()))?;
    assert_same(&frozen, &loss(&weight, &fc)?.backward()?, std::slice::from_ref(&images));
    assert!(frozen.get(&weight).is_none() && frozen.get(&fc).is_none());
    Ok(())
}

#[test]
fn recordings_that_cannot_be_walked_back_are_errors() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3]), variable(2, &[4, 3]));
    let wrong = record(|| linear(&xs, &weight, None, Precision::F32))?
        .gradients(&variable(3, &[4, 2]))
        .err()
        .map(|e| e.to_string());
    assert!(wrong.as_ref().is_some_and(|e| e.contains("has shape [4, 2], the result [2, 4]")), "{wrong:?}");

    // Nested in any way, and nothing is left behind.
    let forward = || linear(&xs, &weight, None, Precision::F32);
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
    let between =
        record(|| linear(&forward()?.sqr()?, &variable(4, &[2, 4]), None, Precision::F32)).err().map(|e| e.to_string());
    let between = between.expect("its gradient would be lost");
    assert!(between.contains("linear depends on a variable through Candle's own `sqr`"), "{between}");
    assert!(between.contains("the result of linear, of shape [2, 4]"), "{between}");
    let mixed = record(|| forward()? + weight.sqr()?.narrow(0, 0, 2)?.pad_with_zeros(1, 0, 1)?).err();
    let mixed = mixed.map(|e| e.to_string());
    assert!(mixed.as_ref().is_some_and(|e| e.contains("the result depends on a variable through")), "{mixed:?}");

    // On Candle's graph alone it is an error as well.
    let alone = record(|| xs.sqr()).err().map(|e| e.to_string());
    let alone = alone.expect("the tape knows nothing of it");
    assert!(alone.contains("Candle's own `sqr`, applied to a variable of shape [2, 3]"), "{alone}");
    Ok(())
}

#[test]
fn an_operation_of_candles_in_between_is_an_error() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3]), variable(2, &[4, 3]));
    let broken =
        gradients(|| relu(&linear(&xs, &weight, None, Precision::F32)?.sqr()?)?.sum_all()).unwrap_err().to_string();
    assert!(broken.contains("relu depends on a variable through Candle's own `sqr`"), "{broken}");
    let other = variable(3, &[1, 8]);
    let unreached = gradients(|| {
        linear(&linear(&xs, &weight, None, Precision::F32)?.sqr()?.reshape((1, 8))?, &other, None, Precision::F32)
    })
    .unwrap_err();
    assert!(unreached.to_string().contains("linear depends on a variable through Candle's own `sqr`"), "{unreached}");
    let mixed = gradients(|| relu(&xs)?.sum_all()? + xs.sqr()?.sum_all()?).unwrap_err().to_string();
    assert!(mixed.contains("the loss depends on a variable through Candle's own"), "{mixed}");
    Ok(())
}

/// A layer's output and three times itself, tripled by Candle: the gradient of the path beside it alone would be a quarter of the
/// whole, and nothing would tell.
#[test]
fn an_operation_of_candles_beside_one_of_this_crate_is_an_error() -> Result<()> {
    let (xs, weight) = (Tensor::new(&[[4f32]], &device())?, variable(2, &[1, 1]));
    let ys = || linear(&xs, &weight, None, Precision::F32);
    let lost = gradients(|| mean(&add(&ys()?, &(ys()? * 3.)?)?)).unwrap_err().to_string();
    assert!(lost.contains("add depends on a variable through Candle's own"), "{lost}");
    assert!(lost.contains("the result of linear, of shape [1, 1]"), "{lost}");
    let lost = record(|| add(&ys()?, &(ys()? * 3.)?)).err().map(|e| e.to_string());
    assert!(lost.is_some_and(|e| e.contains("Candle's own")));
    let whole = |loss: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<Vec<f32>> {
        Ok(values(gradients(|| mean(&loss(&ys()?)?))?.1.get(&weight).expect("it is used")))
    };
    assert_eq!(whole(&|ys| add(ys, &scale(ys, 3.)?))?, [16.]);
    // A constant on purpose.
    assert_eq!(whole(&|ys| add(ys, &(ys.detach() * 3.)?))?, [4.]);
    Ok(())
}

/// The operation of Candle's that stands between, by its name.
#[test]
fn each_operation_of_candles_is_named() -> Result<()> {
    type Between = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let (xs, weight) = (variable(1, &[2, 3]).detach(), variable(2, &[4, 3]));
    let constant = off_zero(3, &[2, 4]).detach();
    let cases: [(&str, Between); 44] = [
        ("affine", |ys, _| ys * 3.),
        ("affine", |ys, _| ys + 1.),
        ("affine", |ys, _| ys.affine(2., -1.)),
        ("affine", |ys, _| 1. - ys),
        ("sum", |ys, _| ys.mean_all()? * 2.),
        ("add", |ys, _| ys + ys),
        ("sub", |ys, c| c - ys),
        ("add", |ys, c| ys + c),
        ("mul", |ys, c| ys * c),
        ("mul", |ys, _| ys * (ys * 2.)?.detach()),
        ("div", |ys, c| ys / c),
        ("div", |ys, _| ys / ys),
        ("maximum", |ys, _| ys.maximum(&scale(ys, 2.)?)),
        ("sqr", |ys, _| ys.sqr()),
        ("sqrt", |ys, _| relu(ys)?.sqrt()),
        ("neg", |ys, _| ys.neg()),
        ("recip", |ys, _| ys.recip()),
        ("exp", |ys, _| ys.exp()),
        ("exp", |ys, _| ys.exp()?.log()),
        ("log", |ys, _| add(&relu(ys)?, &Tensor::ones((2, 4), DType::F32, ys.device())?)?.log()),
        ("sin", |ys, _| ys.sin()),
        ("cos", |ys, _| ys.cos()),
        ("abs", |ys, _| ys.abs()),
        ("relu", |ys, _| ys.relu()),
        ("tanh", |ys, _| ys.tanh()),
        ("silu", |ys, _| ys.silu()),
        ("gelu", |ys, _| ys.gelu()),
        ("erf", |ys, _| ys.erf()),
        ("elu", |ys, _| ys.elu(1.)),
        ("element-wise operation", |ys, _| relu(ys)?.powf(3.)),
        ("sum", |ys, _| ys.sum_all()),
        ("sum", |ys, _| ys.mean_all()),
        ("sum", |ys, _| ys.sum(1)),
        ("max", |ys, _| ys.max_keepdim(1)),
        ("min", |ys, _| ys.min(0)),
        ("matmul", |ys, c| ys.matmul(&c.t()?)),
        ("cat", |ys, c| Tensor::cat(&[ys, c], 0)),
        ("index_select", |ys, _| ys.index_select(&Tensor::new(&[1u32, 0, 1], ys.device())?, 0)),
        ("transpose", |ys, _| ys.t()),
        ("reshape", |ys, _| ys.reshape((4, 2))),
        ("reshape", |ys, _| ys.flatten_all()),
        ("narrow", |ys, _| ys.narrow(1, 1, 2)),
        ("narrow", |ys, _| ys.get(0)),
        ("broadcast_as", |ys, _| ys.broadcast_as((3, 2, 4))),
    ];
    for (name, between) in cases {
        let forward = || between(&linear(&xs, &weight, None, Precision::F32)?, &constant);
        let named = |error: String| assert!(error.contains(&format!("Candle's own `{name}`")), "{name}: {error}");
        // On the way to an operation of this crate, as the loss, and as what is recorded.
        named(gradients(|| mean(&scale(&forward()?, 2.)?)).unwrap_err().to_string());
        named(gradients(forward).unwrap_err().to_string());
        named(record(forward).err().expect("its gradient would be lost").to_string());
        named(record(|| reshape(&forward()?, &[1, 1, 1])).err().expect("its gradient would be lost").to_string());
    }
    // Nothing of what failed is left behind.
    assert!(gradients(|| mean(&linear(&xs, &weight, None, Precision::F32)?)).is_ok());
    Ok(())
}

/// Images lie in memory with their channels side by side, so that results are views already.
#[test]
fn operations_of_candles_on_images_and_parameters_are_named() -> Result<()> {
    type Between = fn(&Tensor) -> Result<Tensor>;
    let (images, weight) = (variable(1, &[2, 3, 4, 4]).detach(), variable(2, &[5, 3, 1, 1]));
    let cases: [(&str, Between); 7] = [
        ("sqr", |ys| ys.sqr()),
        ("contiguous", |ys| ys.contiguous()),
        ("permute", |ys| ys.permute((0, 2, 3, 1))?.contiguous()),
        ("narrow", |ys| ys.narrow(2, 1, 2)),
        ("sum", |ys| ys.sum((2, 3))),
        ("convolution, pooling or upsampling", |ys| ys.upsample_nearest2d(8, 8)),
        ("convolution, pooling or upsampling", |ys| ys.contiguous()?.detach().avg_pool2d(2)? + ys.avg_pool2d(2)?),
    ];
    for (name, between) in cases {
        let forward = || between(&conv2d(&images, &weight, None, &Conv2dConfig::default())?);
        let error = gradients(|| mean(&forward()?)).unwrap_err().to_string();
        assert!(error.contains(&format!("Candle's own `{name}`")), "{name}: {error}");
    }
    let (xs, weight) = (variable(3, &[2, 4]).detach(), variable(4, &[4, 3]));
    let transposed = gradients(|| mean(&linear(&xs, &weight.t()?, None, Precision::F32)?)).unwrap_err().to_string();
    assert!(transposed.contains("`transpose`, applied to a variable of shape [4, 3]"), "{transposed}");
    let decayed = gradients(|| {
        add(&mean(&linear(&xs, &reshape(&weight, &[3, 4])?, None, Precision::F32)?)?, &weight.sqr()?.sum_all()?)
    });
    assert!(decayed.unwrap_err().to_string().contains("`sqr`, applied to a variable"), "weight decay by Candle");
    Ok(())
}

/// What is looked at on the side changes nothing, by whatever it is computed.
#[test]
fn values_may_be_looked_at() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3]).detach(), variable(2, &[4, 3]));
    let mut seen = Vec::new();
    let (loss, grads) = gradients(|| {
        let ys = linear(&xs, &weight, None, Precision::F32)?;
        seen.push(ys.detach().sqr()?.sum_all()?);
        seen.push((ys.sqr()?.sum_all()? * 2.)?.detach());
        seen.push(ys.argmax(1)?.to_dtype(DType::F32)?.sum_all()?);
        seen.push(ys.gt(0f32)?.to_dtype(DType::F32)?.sum_all()?.detach());
        seen.push(weight.sqr()?.sum_all()?);
        add(&mean(&ys)?, &ys.detach().mean_all()?)
    })?;
    let want: Vec<f32> = [xs.matmul(&weight.t()?)?.mean_all()?].iter().map(|x| 2. * values(x)[0]).collect();
    assert!((values(&loss)[0] - want[0]).abs() < 1e-6);
    let expected = mean(&linear(&xs, &weight, None, Precision::F32)?)?.backward()?;
    assert_same(&grads, &expected, std::slice::from_ref(&weight));
    assert!(seen.iter().all(|x| x.elem_count() == 1));
    Ok(())
}

/// A result that outlives its recording is no constant, and no part of another.
#[test]
fn results_of_a_recording_that_has_ended_are_errors() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3]).detach(), variable(2, &[4, 3]));
    let mut kept = None;
    gradients(|| {
        let ys = linear(&xs, &weight, None, Precision::F32)?;
        kept = Some(ys.clone());
        mean(&ys)
    })?;
    let kept = kept.expect("the closure ran");
    let error = gradients(|| mean(&add(&kept, &linear(&xs, &weight, None, Precision::F32)?)?)).unwrap_err().to_string();
    assert!(error.contains("add depends on a value of shape [2, 4] from a recording that has ended"), "{error}");
    let error = gradients(|| mean(&kept.sqr()?)).unwrap_err().to_string();
    assert!(error.contains("from a recording that has ended"), "{error}");
    let error = kept.sum_all()?.backward().err().map(|e| e.to_string());
    assert!(error.as_ref().is_some_and(|e| e.contains("belongs to a recording")), "{error:?}");
    assert!(gradients(|| mean(&add(&kept.detach(), &linear(&xs, &weight, None, Precision::F32)?)?)).is_ok());
    Ok(())
}

/// The new operations under both entry points, on a path of its own and on several.
#[test]
fn arithmetic_has_a_place_on_the_tape() -> Result<()> {
    let vars = [variable(1, &[2, 4, 3, 3]), variable(2, &[4, 4, 1, 1]), variable(3, &[2, 4, 3, 3])];
    let loss = |v: &[Var]| {
        let ys = conv2d(&v[0], &v[1], None, &Conv2dConfig::default())?;
        let zs = sub(&mul(&ys, &v[2])?, &scale(&sqr(&ys)?, 0.5)?)?;
        add(&add(&mse(&zs, &v[0])?, &scale(&sum(&zs)?, 0.1)?)?, &mean(&ys)?)
    };
    let graph = loss(&vars)?.backward()?;
    assert_same(&gradients(|| loss(&vars))?.1, &graph, &vars);
    let recorded = record(|| loss(&vars))?;
    assert_same(&recorded.gradients(&Tensor::new(1f32, &device())?)?, &graph, &vars);
    Ok(())
}

/// Memory: a result does not keep what it was computed from.
#[test]
fn a_result_keeps_no_operand() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3]).detach(), variable(2, &[4, 3]));
    let mut kept = None;
    gradients(|| {
        let ys = relu(&linear(&xs, &weight, None, Precision::F32)?)?;
        kept = Some(ys.clone());
        mean(&ys)
    })?;
    // The tensor itself and the marker that makes Candle track it.
    assert_eq!(kept.expect("the closure ran").sorted_nodes().len(), 2);
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
