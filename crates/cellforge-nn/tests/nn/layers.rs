//! Keys, the parameter store and the layers.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Module, ModuleT};
use cellforge_nn::{
    BatchNormConfig, Conv2dConfig, Dropout, Key, ParamStore, batch_norm2d, conv2d, embedding, he_normal, linear,
    linear_with, one_hot, ops::Padding, spectral_norm, summary::Table,
};
use std::collections::BTreeMap;

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("a tensor of f32")
}

fn bits(store: &ParamStore) -> BTreeMap<String, Vec<u32>> {
    store.tensors().iter().map(|(name, t)| (name.clone(), values(t).into_iter().map(f32::to_bits).collect())).collect()
}

#[test]
fn keys_depend_on_their_path_alone() -> Result<()> {
    let key = Key::new(3);
    assert_eq!(key.with("a").at(1), Key::new(3).with("a").at(1));
    let others = [key, Key::new(4), key.with("a"), key.with("b"), key.at(0), key.at(1), key.with("a").with("b")];
    for (i, a) in others.iter().enumerate() {
        assert!(others[..i].iter().all(|b| a != b));
    }
    let cpu = &Device::Cpu;
    assert_eq!(values(&key.normal((2, 3), cpu)?), values(&key.normal((2, 3), cpu)?));
    Ok(())
}

/// Of 40,000 draws the mean lies within 5 standard errors: 5 / 200 for the normal, 5 * 2 / sqrt(12) / 200 for the
/// uniform from 1 to 3.
#[test]
fn noise_has_the_right_moments() -> Result<()> {
    let mean = |xs: &[f32]| xs.iter().map(|&x| f64::from(x)).sum::<f64>() / xs.len() as f64;
    let normal = values(&Key::new(1).normal(40_000, &Device::Cpu)?);
    assert!(mean(&normal).abs() < 0.025);
    assert!((mean(&normal.iter().map(|x| x * x).collect::<Vec<_>>()) - 1.).abs() < 0.04);
    let uniform = values(&Key::new(1).uniform(1., 3., 40_000, &Device::Cpu)?);
    assert!((mean(&uniform) - 2.).abs() < 0.0145);
    assert!(uniform.iter().all(|x| (1. ..=3.).contains(x)));
    Ok(())
}

#[test]
fn the_start_does_not_depend_on_the_order_of_creation() -> Result<()> {
    let build = |reverse: bool, seed| -> Result<ParamStore> {
        let store = ParamStore::new(Key::new(seed), &Device::Cpu);
        let conv = || conv2d(3, 4, 3, true, Conv2dConfig::default(), store.vb().pp("conv")).map(drop);
        let fc = || linear(7, 5, store.vb().pp("fc")).map(drop);
        if reverse {
            fc().and_then(|()| conv())?
        } else {
            conv().and_then(|()| fc())?
        }
        Ok(store)
    };
    let store = build(false, 1)?;
    assert_eq!(bits(&store), bits(&build(true, 1)?));
    assert_ne!(bits(&store), bits(&build(false, 2)?));
    let names: Vec<String> = store.trainable().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["conv.bias", "conv.weight", "fc.bias", "fc.weight"]);
    // Glorot: fans 3 * 9 and 4 * 9 give sqrt(6 / 63) = 0.3086; fans 7 and 5 give sqrt(6 / 12) = 0.7071.
    for (name, limit) in [("conv.weight", 0.3087), ("fc.weight", 0.7072)] {
        let largest = values(&store.tensors()[name]).iter().fold(0f32, |m, x| m.max(x.abs()));
        assert!(largest < limit && largest > 0.8 * limit, "{name}: {largest}");
    }
    assert!(values(&store.tensors()["fc.bias"]).iter().all(|&b| b == 0.));
    assert_eq!(store.num_elements(), 4 * 27 + 4 + 35 + 5);
    Ok(())
}

/// Two channels of two images of 1x2, momentum 0.2. Channel 0 holds 1, 2, 3, 6: mean 3, squared deviations 4, 1, 0
/// and 9, so the unbiased variance is 14/3. Channel 1 holds 0, 0, 0, 4: mean 1, unbiased variance 12/3 = 4.
/// From (0, 1) the running mean becomes 0.2 * 3 = 0.6 and 0.2, the variance 0.8 + 0.2 * 14/3 = 1.733333 and 1.6.
#[test]
fn running_statistics() -> Result<()> {
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    let norm = batch_norm2d(2, BatchNormConfig { eps: 0., momentum: 0.2 }, store.vb().pp("bn"))?;
    let xs = Tensor::new(&[1f32, 2., 0., 0., 3., 6., 0., 4.], &Device::Cpu)?.reshape((2, 2, 1, 2))?;
    let near = |name: &str, want: [f32; 2]| {
        let got = values(&store.tensors()[name]);
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{name}: {got:?}");
    };
    norm.forward_t(&xs, true)?;
    near("bn.running_mean", [0.6, 0.2]);
    near("bn.running_var", [0.8 + 0.2 * 14. / 3., 1.6]);
    let eval = norm.forward_t(&xs, false)?;
    // (1 - 0.6) / sqrt(1.733333) = 0.303822
    assert!((values(&eval)[0] - 0.303_822).abs() < 1e-5);
    near("bn.running_mean", [0.6, 0.2]);
    norm.forward_t(&xs, true)?;
    near("bn.running_mean", [0.8 * 0.6 + 0.6, 0.8 * 0.2 + 0.2]);
    assert_eq!(store.trainable().len(), 2);
    assert_eq!(store.num_elements(), 8);
    Ok(())
}

#[test]
fn dropout() -> Result<()> {
    let (key, n) = (Key::new(5), 100_000);
    let xs = Tensor::ones(n, DType::F32, &Device::Cpu)?;
    let drop = Dropout::new(0.25);
    let ys = values(&drop.forward_t(&xs, true, &key)?);
    let kept = ys.iter().filter(|&&y| y != 0.).count() as f64 / n as f64;
    // The standard error of the rate is sqrt(0.25 * 0.75 / 100000) = 0.00137.
    assert!((kept - 0.75).abs() < 0.007, "{kept}");
    assert!(ys.iter().all(|&y| y == 0. || (y - 4. / 3.).abs() < 1e-6));
    assert_eq!(ys, values(&drop.forward_t(&xs, true, &key)?));
    assert_ne!(ys, values(&drop.forward_t(&xs, true, &key.at(1))?));
    assert_eq!(values(&drop.forward_t(&xs, false, &key)?), values(&xs));
    assert!(Dropout::new(1.).forward_t(&xs, true, &key).is_err());
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread starts");
    assert_eq!(ys, one.install(|| drop.forward_t(&xs, true, &key)).map(|t| values(&t))?);
    Ok(())
}

fn small(seed: u64) -> Result<ParamStore> {
    let store = ParamStore::new(Key::new(seed), &Device::Cpu);
    linear(3, 2, store.vb().pp("fc"))?;
    batch_norm2d(2, BatchNormConfig::default(), store.vb().pp("bn"))?;
    Ok(store)
}

#[test]
fn save_and_load() -> Result<()> {
    let (a, b) = (small(1)?, small(2)?);
    let dir = tempfile::tempdir()?;
    let (first, second) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
    a.save(&first)?;
    b.load(&first)?;
    assert_eq!(bits(&a), bits(&b));
    b.save(&second)?;
    assert_eq!(std::fs::read(first)?, std::fs::read(second)?);
    let error = b.load(&dir.path().join("none.safetensors")).expect_err("there is no such file").to_string();
    assert!(error.contains("none.safetensors"), "{error}");
    Ok(())
}

#[test]
fn set_is_strict() -> Result<()> {
    let store = small(1)?;
    let before = bits(&store);
    let message = |tensors: &BTreeMap<String, Tensor>| store.set(tensors).expect_err("this must fail").to_string();
    let mut tensors = small(2)?.tensors();
    let weight = tensors.remove("fc.weight").expect("it is there");
    assert!(message(&tensors).contains("missing [\"fc.weight\"]"), "{}", message(&tensors));
    tensors.insert("fc.weight".into(), weight.t()?);
    assert!(message(&tensors).contains("fc.weight has shape [3, 2], expected [2, 3]"), "{}", message(&tensors));
    tensors.insert("fc.weight".into(), weight);
    tensors.insert("fc.extra".into(), tensors["fc.bias"].clone());
    assert!(message(&tensors).contains("not known [\"fc.extra\"]"), "{}", message(&tensors));
    assert_eq!(bits(&store), before);
    let extra = tensors.remove("fc.extra").expect("it is there");
    tensors.insert("bn.num_batches_tracked".into(), extra);
    store.set(&tensors)?;
    assert_eq!(bits(&store), bits(&small(2)?));
    let vb = store.vb();
    assert!(vb.get((5, 5), "fc.weight").is_err());
    assert!(vb.to_dtype(DType::F64).get(1, "other").is_err());
    Ok(())
}

/// A frozen view computes with the same weights, later updates included, but they take no gradient.
#[test]
fn frozen_layers_share_their_weights() -> Result<()> {
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    let cfg = Conv2dConfig::new(1, Padding::uniform(1));
    let build = |vb: candle_nn::VarBuilder<'static>| -> Result<_> {
        Ok((conv2d(2, 3, 3, true, cfg, vb.pp("conv"))?, batch_norm2d(3, BatchNormConfig::default(), vb.pp("bn"))?))
    };
    let (live, frozen) = (build(store.vb())?, build(store.frozen_vb())?);
    let xs = candle_core::Var::from_tensor(&Key::new(2).normal((2, 2, 4, 4), &Device::Cpu)?)?;
    store.trainable()[3].1.set(&Key::new(3).normal((3, 2, 3, 3), &Device::Cpu)?)?;
    let run = |(conv, bn): &(cellforge_nn::Conv2d, cellforge_nn::BatchNorm2d)| bn.forward_t(&conv.forward(&xs)?, true);
    let (a, b) = (run(&live)?, run(&frozen)?);
    assert_eq!(values(&a), values(&b));
    let (a, b) = (a.sqr()?.sum_all()?.backward()?, b.sqr()?.sum_all()?.backward()?);
    assert_eq!(values(a.get(&xs).expect("a variable")), values(b.get(&xs).expect("a variable")));
    for (name, var) in store.trainable() {
        assert!(a.get(&var).is_some() && b.get(&var).is_none(), "{name}");
    }
    // Both runs moved the one running mean.
    assert!(values(&store.tensors()["bn.running_mean"]).iter().any(|&m| m != 0.));
    assert_eq!(store.all().len(), 6);
    Ok(())
}

/// The largest singular value of weights as a matrix of `rows` rows, by power iteration in `f64`.
fn largest_singular_value(weight: &Tensor) -> Result<f64> {
    let rows = weight.dim(0)?;
    let w: Vec<f64> = values(weight).into_iter().map(f64::from).collect();
    let cols = w.len() / rows;
    let (mut v, mut norm) = (vec![1.; cols], 0f64);
    for _ in 0..2000 {
        let u: Vec<f64> = w.chunks(cols).map(|row| row.iter().zip(&v).map(|(w, v)| w * v).sum()).collect();
        let back: Vec<f64> = (0..cols).map(|j| u.iter().enumerate().map(|(i, u)| u * w[i * cols + j]).sum()).collect();
        norm = back.iter().map(|x| x * x).sum::<f64>().sqrt();
        v = back.into_iter().map(|x| x / norm).collect();
    }
    // W^T W has grown v by the square of it.
    Ok(norm.sqrt())
}

#[test]
fn spectral_normalisation_brings_the_largest_singular_value_to_one() -> Result<()> {
    for shape in [&[6, 3, 3, 3][..], &[5, 40], &[40, 5], &[1, 9], &[9, 1]] {
        let store = ParamStore::new(Key::new(1), &Device::Cpu);
        let weight = candle_core::Var::from_tensor(&Key::new(2).normal(shape, &Device::Cpu)?)?;
        let norm = spectral_norm(&weight, store.vb().pp("layer"))?;
        // Near from the start, by the steps that new vectors take.
        let first = largest_singular_value(&norm.apply(&weight, false)?)?;
        assert!((1. - 1e-3..1.3).contains(&first), "{shape:?}: {first}");
        let start = bits(&store);
        norm.apply(&weight, false)?;
        assert_eq!(bits(&store), start, "without training nothing moves");

        for _ in 0..500 {
            norm.apply(&weight, true)?;
        }
        let last = largest_singular_value(&norm.apply(&weight, true)?)?;
        assert!((last - 1.).abs() < 1e-3, "{shape:?}: {last}");
        // After a change of the weights the vectors follow, in training alone.
        weight.set(&Key::new(3).normal(shape, &Device::Cpu)?)?;
        let moved = bits(&store);
        let stale = values(&norm.apply(&weight, false)?);
        assert_eq!(bits(&store), moved);
        norm.apply(&weight, true)?;
        if shape != [9, 1] && shape != [1, 9] {
            assert_ne!(stale, values(&norm.apply(&weight, false)?));
        }
        assert_ne!(bits(&store), moved);
    }
    Ok(())
}

#[test]
fn singular_vectors_are_buffers_that_frozen_layers_share() -> Result<()> {
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    let build = |vb: candle_nn::VarBuilder<'static>| -> Result<_> {
        let layer = linear(7, 4, vb.clone())?;
        Ok((spectral_norm(layer.weight(), vb)?, layer))
    };
    let (norm, layer) = build(store.vb().pp("fc"))?;
    let start = bits(&store);
    let (shared, frozen) = build(store.frozen_vb().pp("fc"))?;
    assert_eq!(bits(&store), start, "vectors that are there already stay as they are");
    let names = |vars: Vec<(String, candle_core::Var)>| vars.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(store.trainable()), ["fc.bias", "fc.weight"]);
    assert_eq!(names(store.all()), ["fc.bias", "fc.weight", "fc.weight_u", "fc.weight_v"]);

    let before = values(&shared.apply(frozen.weight(), false)?);
    let ys = norm.apply(layer.weight(), true)?;
    let after = shared.apply(frozen.weight(), false)?;
    assert!(before != values(&after) && values(&ys) == values(&after));
    assert!(ys.sqr()?.sum_all()?.backward()?.get(&store.trainable()[1].1).is_some() && !after.track_op());
    Ok(())
}

/// decay 0.75: each parameter becomes three quarters of itself and a quarter of the other's, and statistics are the other's.
#[test]
fn an_average_of_weights() -> Result<()> {
    let (average, trained) = (small(1)?, small(2)?);
    for (i, (_, var)) in trained.all().into_iter().enumerate() {
        var.set(&Key::new(3).at(i as u64).normal(var.shape(), &Device::Cpu)?)?;
    }
    let (before, other) = (average.tensors(), trained.tensors());
    average.ema_update(&trained, 0.75)?;
    for (name, tensor) in average.tensors() {
        let pairs = values(&before[&name]).into_iter().zip(values(&other[&name]));
        let running = name.contains("running");
        let want = pairs.map(|(a, b)| if running { b } else { 0.75 * a + 0.25 * b });
        assert!(values(&tensor).iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6), "{name}");
    }
    let unchanged = trained.tensors();
    assert!(unchanged.iter().all(|(name, tensor)| values(tensor) == values(&other[name])));

    let more = small(1)?;
    linear(1, 1, more.vb().pp("more"))?;
    let error = average.ema_update(&more, 0.75).expect_err("it has another layer").to_string();
    assert!(error.contains("another model"), "{error}");
    let wide = ParamStore::new(Key::new(1), &Device::Cpu);
    linear(3, 5, wide.vb().pp("fc"))?;
    batch_norm2d(2, BatchNormConfig::default(), wide.vb().pp("bn"))?;
    let held = bits(&average);
    let error = average.ema_update(&wide, 0.75).expect_err("its layers are of another size").to_string();
    assert!(error.contains("another model"), "{error}");
    assert_eq!(bits(&average), held, "an error changes nothing");
    Ok(())
}

#[test]
fn labels_as_rows() -> Result<()> {
    let rows = one_hot(&[2, 0, 1, 2], 3, &Device::Cpu)?;
    assert_eq!(rows.to_vec2::<f32>()?, [[0., 0., 1.], [1., 0., 0.], [0., 1., 0.], [0., 0., 1.]]);
    assert_eq!(one_hot(&[], 3, &Device::Cpu)?.dims(), [0, 3]);
    let error = one_hot(&[0, 3], 3, &Device::Cpu).expect_err("there is no class 3").to_string();
    assert!(error.contains("label 3 is not below the number of classes, 3"), "{error}");
    Ok(())
}

/// Fan-in 100: variance 2 / (1.04 * 100) before a leaky ReLU of slope 0.2, and 2 / 200 where there is none. Of 40,000 draws the mean
/// square lies within 5 standard errors, 5 * sqrt(2 / 40000) = 3.5% of it.
#[test]
fn he_normal_has_its_variance() -> Result<()> {
    for (slope, want) in [(0.2, 0.019_230_77), (1., 0.01), (0., 0.02)] {
        let store = ParamStore::new(Key::new(1), &Device::Cpu);
        linear_with(he_normal(100, slope), Some(3.), (100, 400), store.vb())?;
        let weight = values(&store.tensors()["weight"]);
        let variance = weight.iter().map(|w| f64::from(w * w)).sum::<f64>() / weight.len() as f64;
        assert!((variance / want - 1.).abs() < 0.035, "{slope}: {variance}");
        assert!(weight.iter().any(|w| f64::from(w.abs()) > 3. * want.sqrt()), "normal, not uniform");
        assert!(values(&store.tensors()["bias"]).iter().all(|&b| b == 3.));
    }
    Ok(())
}

#[test]
fn an_embedding_gives_each_class_its_numbers() -> Result<()> {
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    let rows = embedding(3, 500, 0.02, store.vb())?;
    let weight = store.tensors()["weight"].clone();
    assert_eq!((store.all().len(), weight.dims()), (1, &[500, 3][..]));
    let out = rows.forward(&one_hot(&[1, 2, 1], 3, &Device::Cpu)?)?;
    assert_eq!(
        out.to_vec2::<f32>()?,
        weight.t()?.contiguous()?.index_select(&Tensor::new(&[1u32, 2, 1], &Device::Cpu)?, 0)?.to_vec2::<f32>()?
    );
    // The deviation of 1500 draws, within 5 standard errors: 5 / sqrt(3000) = 9%.
    let deviation = (values(&weight).iter().map(|w| f64::from(w * w)).sum::<f64>() / 1500.).sqrt();
    assert!((deviation / 0.02 - 1.).abs() < 0.09, "{deviation}");
    let zero = ParamStore::new(Key::new(1), &Device::Cpu);
    embedding(3, 5, 0., zero.vb())?;
    assert!(values(&zero.tensors()["weight"]).iter().all(|&w| w == 0.));
    Ok(())
}

/// What a layer does to a small change of its input has no bias in it, and other weights take the place of its own.
#[test]
fn jvps_and_other_weights() -> Result<()> {
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    let cfg = Conv2dConfig::new(1, Padding::uniform(1));
    let (conv, fc) = (conv2d(2, 3, 3, true, cfg, store.vb().pp("conv"))?, linear(5, 4, store.vb().pp("fc"))?);
    for (name, var) in store.trainable().iter().filter(|(name, _)| name.ends_with("bias")) {
        var.set(&Key::new(2).with(name).normal(var.shape(), &Device::Cpu)?)?;
    }
    let draw = |label: &str, shape: &[usize]| Key::new(3).with(label).normal(shape, &Device::Cpu);
    let near = |a: &Tensor, b: &Tensor| values(a).iter().zip(values(b)).all(|(a, b)| (a - b).abs() < 1e-5);
    let (xs, dx) = (draw("x", &[2, 2, 4, 4])?, draw("dx", &[2, 2, 4, 4])?);
    let change = (conv.forward(&(&xs + &dx)?)?.contiguous()? - conv.forward(&xs)?.contiguous()?)?;
    assert!(near(&change, &conv.jvp(&dx)?) && !near(&change, &conv.forward(&dx)?));
    let twice = conv.with_weight((conv.weight() * 2.)?);
    assert!(near(&twice.jvp(&dx)?, &(&change * 2.)?) && !near(&twice.forward(&dx)?, &(&change * 2.)?));

    let (xs, dx) = (draw("x", &[3, 5])?, draw("dx", &[3, 5])?);
    let change = (fc.forward(&(&xs + &dx)?)? - fc.forward(&xs)?)?;
    assert!(near(&change, &fc.jvp(&dx)?) && !near(&change, &fc.forward(&dx)?));
    let twice = fc.with_weight((fc.weight() * 2.)?);
    assert!(near(&twice.jvp(&dx)?, &(&change * 2.)?) && !near(&twice.forward(&dx)?, &(&change * 2.)?));
    Ok(())
}

#[test]
fn layers_beside_the_path_and_buffers_are_counted() {
    let mut table = Table::new("small", &[8, 4, 4]);
    table.beside("style", "Dense", &[8], 129 * 8, 128 * 8);
    assert_eq!(table.image(), (8, 4, 4), "the shape at this point stays");
    table.buffers("norm", "SpectralNormalization", 80);
    assert_eq!(table.image(), (8, 4, 4));
    table.flatten("flatten");
    let summary = table.finish();
    let rows: Vec<_> = summary.layers.iter().map(|l| (l.output.as_slice(), l.params, l.trainable, l.macs)).collect();
    assert_eq!(rows, [(&[8][..], 1032, 1032, 1024), (&[8, 4, 4], 80, 0, 0), (&[128], 0, 0, 0)]);
    assert_eq!((summary.params(), summary.trainable(), summary.macs()), (1112, 1032, 1024));
}
