//! The optimizers against hand-worked numbers, and exact resumption.

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{Module, Optimizer};
use cellforge_nn::{Adam, AdamConfig, AnyOptimizer, Key, ParamStore, Sgd, SgdConfig, accumulate, linear};
use std::collections::BTreeMap;

fn value(var: &Var) -> f32 {
    var.to_vec1::<f32>().expect("a vector")[0]
}

/// One parameter `w` of value 1.
fn one() -> Result<Vec<(String, Var)>> {
    Ok(vec![("w".into(), Var::new(&[1f32], &Device::Cpu)?)])
}

/// The gradient of `g * w`, which is `g`.
fn gradient(vars: &[(String, Var)], g: f64) -> Result<GradStore> {
    (vars[0].1.as_tensor() * g)?.sum_all()?.backward()
}

/// lr 0.1, beta1 0.5, beta2 0.75, eps 0.1, gradients 2 and then 1.
/// Step 1: m = 1, v = 1; corrected by 1/2 and 1/4: 2 and 4; w = 1 - 0.1 * 2 / (2 + 0.1) = 0.9047619.
/// Step 2: m = 1, v = 0.75 + 0.25 = 1; corrected by 3/4 and 7/16: 4/3 and 16/7 (root 1.5118579);
/// w = 0.9047619 - 0.1 * 1.3333333 / 1.6118579 = 0.8220414.
#[test]
fn adam() -> Result<()> {
    let vars = one()?;
    let cfg = AdamConfig { lr: 0.1, beta1: 0.5, beta2: 0.75, eps: 0.1 };
    let mut adam = Adam::named(vars.clone(), cfg)?;
    adam.step(&gradient(&vars, 2.)?)?;
    assert!((value(&vars[0].1) - 0.904_761_9).abs() < 1e-6);
    adam.step(&gradient(&vars, 1.)?)?;
    assert!((value(&vars[0].1) - 0.822_041_4).abs() < 1e-6, "{}", value(&vars[0].1));
    Ok(())
}

/// lr 0.1, momentum 0.5, l2(0.25) so that 2 * 0.25 * w is added to the gradients 2 and 1.
/// Plain: g = 2 + 0.5 = 2.5, v = -0.25, w = 0.75; then g = 1 + 0.375 = 1.375, v = -0.125 - 0.1375 = -0.2625 and
/// w = 0.4875. Nesterov: v = -0.25, w = 1 - 0.125 - 0.25 = 0.625; then g = 1 + 0.3125 = 1.3125,
/// v = -0.125 - 0.13125 = -0.25625 and w = 0.625 - 0.128125 - 0.13125 = 0.365625.
#[test]
fn sgd() -> Result<()> {
    for (nesterov, want) in [(false, [0.75, 0.4875]), (true, [0.625, 0.365_625])] {
        let vars = one()?;
        let cfg = SgdConfig { lr: 0.1, momentum: 0.5, nesterov };
        let mut sgd = Sgd::named(vars.clone(), cfg, BTreeMap::from([("w".to_string(), 0.25)]))?;
        for (g, want) in [2., 1.].into_iter().zip(want) {
            sgd.step(&gradient(&vars, g)?)?;
            assert!((value(&vars[0].1) - want).abs() < 1e-6, "{nesterov} {}", value(&vars[0].1));
        }
    }
    let unknown = Sgd::named(one()?, SgdConfig::default(), BTreeMap::from([("x".to_string(), 0.25)]));
    assert!(unknown.err().is_some_and(|e| e.to_string().contains("x, which is not a parameter")));
    Ok(())
}

fn build(adam: bool) -> Result<(ParamStore, impl Fn(u64) -> Result<GradStore>, AnyOptimizer)> {
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    let layer = linear(6, 4, store.vb())?;
    let grads = move |step| {
        let xs = Key::new(9).at(step).normal((8, 6), &Device::Cpu)?;
        layer.forward(&xs)?.sqr()?.mean_all()?.backward()
    };
    let optimizer = if adam {
        AnyOptimizer::Adam(Adam::named(store.trainable(), AdamConfig::default())?)
    } else {
        let cfg = SgdConfig { lr: 0.05, momentum: 0.9, nesterov: true };
        AnyOptimizer::Sgd(Sgd::named(store.trainable(), cfg, BTreeMap::from([("weight".to_string(), 1e-3)]))?)
    };
    Ok((store, grads, optimizer))
}

fn bytes(store: &ParamStore) -> Result<Vec<u32>> {
    let mut bits = Vec::new();
    for tensor in store.tensors().values() {
        bits.extend(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

#[test]
fn a_restored_state_continues_to_the_same_bytes() -> Result<()> {
    for adam in [true, false] {
        let (through, grads, mut optimizer) = build(adam)?;
        let mut saved = None;
        for step in 0..10 {
            if step == 5 {
                saved = Some((through.tensors(), optimizer.state()?));
            }
            optimizer.step(&grads(step)?)?;
        }
        let (weights, state) = saved.expect("step 5 was passed");
        assert_eq!(state["step"].to_scalar::<f64>()?, 5.);
        // Through a file, as a checkpoint goes.
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("state.safetensors");
        candle_core::safetensors::save(&state.into_iter().collect(), &path)?;
        let state: BTreeMap<String, Tensor> =
            candle_core::safetensors::load(&path, &Device::Cpu)?.into_iter().collect();
        let (resumed, grads, mut optimizer) = build(adam)?;
        resumed.set(&weights)?;
        optimizer.set_state(&state)?;
        for step in 5..10 {
            optimizer.step(&grads(step)?)?;
        }
        assert_eq!(bytes(&resumed)?, bytes(&through)?);
    }
    Ok(())
}

#[test]
fn a_state_of_another_model_is_an_error() -> Result<()> {
    let (_, _, mut adam) = build(true)?;
    let (_, _, sgd) = build(false)?;
    let error = adam.set_state(&sgd.state()?).expect_err("velocities are not moments").to_string();
    assert!(error.contains("m.bias"), "{error}");
    let mut state = adam.state()?;
    state.insert("m.other".into(), state["m.bias"].clone());
    assert!(adam.set_state(&state).is_err());
    adam.set_learning_rate(0.5);
    assert_eq!(adam.learning_rate(), 0.5);
    Ok(())
}

/// Losses 2a, 3a + 5b and 7b: the gradients of their sum are 5 and 12.
#[test]
fn accumulated_gradients_are_those_of_the_sum() -> Result<()> {
    let vars: Vec<(String, Var)> = ["a", "b"]
        .into_iter()
        .map(|name| Ok((name.to_owned(), Var::new(&[1f32], &Device::Cpu)?)))
        .collect::<Result<_>>()?;
    let gradient = |a: f64, b: f64| -> Result<GradStore> {
        let part = |i: usize, g: f64| vars[i].1.as_tensor() * g;
        match (a, b) {
            (a, 0.) => part(0, a)?.sum_all()?.backward(),
            (0., b) => part(1, b)?.sum_all()?.backward(),
            (a, b) => (part(0, a)? + part(1, b)?)?.sum_all()?.backward(),
        }
    };
    let mut total = None;
    let at = |total: &Option<GradStore>| {
        let of =
            |i: usize| total.as_ref().and_then(|t| t.get(&vars[i].1)).map(|g| g.to_vec1::<f32>().expect("a vector")[0]);
        [of(0), of(1)]
    };
    for (losses, want) in
        [((2., 0.), [Some(2.), None]), ((3., 5.), [Some(5.), Some(5.)]), ((0., 7.), [Some(5.), Some(12.)])]
    {
        accumulate(&mut total, gradient(losses.0, losses.1)?, &vars)?;
        assert_eq!(at(&total), want);
    }
    Ok(())
}

/// Through Candle's traits alone, as code that takes any optimizer and any layer uses them.
#[test]
fn candles_traits_carry_a_training() -> Result<()> {
    fn train<O: Optimizer>(mut optimizer: O, layer: &impl Module, rate: f64) -> Result<[f32; 2]> {
        let xs = Key::new(9).normal((8, 6), &Device::Cpu)?;
        let loss = || layer.forward(&xs)?.sqr()?.mean_all();
        let before = loss()?.to_scalar::<f32>()?;
        optimizer.set_learning_rate(rate);
        assert_eq!(optimizer.learning_rate(), rate);
        for _ in 0..5 {
            optimizer.backward_step(&loss()?)?;
        }
        Ok([before, loss()?.to_scalar::<f32>()?])
    }
    let store = ParamStore::new(Key::new(1), &Device::Cpu);
    let layer = linear(6, 4, store.vb())?;
    let vars: Vec<Var> = store.trainable().into_iter().map(|(_, var)| var).collect();
    let adam = Adam::new(vars.clone(), AdamConfig::default())?;
    assert!(adam.state()?.contains_key("m.0"), "its parameters are numbered");
    let [before, after] = train(adam, &layer, 0.01)?;
    assert!(after < before, "{before} to {after}");
    let [before, after] = train(Sgd::new(vars, SgdConfig::default())?, &layer, 0.1)?;
    assert!(after < before, "{before} to {after}");
    Ok(())
}
