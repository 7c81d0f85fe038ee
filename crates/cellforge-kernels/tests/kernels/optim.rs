use crate::common::{device, values, variable};
use candle_core::{DType, Result, Var};
use cellforge_kernels::{AdamStep, AdamUpdate, SgdStep, SgdUpdate, adam_update, ema_update, sgd_update};

/// A parameter of more elements than one task takes, and a small one.
const SIZES: [usize; 2] = [40_000, 7];

fn zeros(n: usize) -> Result<Var> {
    Var::zeros(n, DType::F32, &device())
}

/// Several steps of Adam against the formula in `f64`.
#[test]
fn adam() -> Result<()> {
    let (lr, beta1, beta2, eps) = (0.1, 0.5, 0.9, 1e-3);
    let params = SIZES.map(|n| variable(1, &[n]));
    let (m, v) = ([zeros(SIZES[0])?, zeros(SIZES[1])?], [zeros(SIZES[0])?, zeros(SIZES[1])?]);
    let mut want = params
        .each_ref()
        .map(|param| values(param).into_iter().map(|w| [f64::from(w), 0., 0.]).collect::<Vec<[f64; 3]>>());
    for step in 1..=3u64 {
        let grads = SIZES.map(|n| variable(10 + step, &[n]).as_detached_tensor());
        let updates = [0, 1].map(|i| AdamUpdate { param: &params[i], grad: &grads[i], m: &m[i], v: &v[i] });
        adam_update(&updates, &AdamStep { lr, beta1, beta2, eps, step })?;
        for ([w, m, v], g) in want.iter_mut().flatten().zip(grads.iter().flat_map(values)) {
            let (g, t) = (f64::from(g), step as i32);
            *m = beta1 * *m + (1. - beta1) * g;
            *v = beta2 * *v + (1. - beta2) * g * g;
            let (m_hat, v_hat) = (*m / (1. - beta1.powi(t)), *v / (1. - beta2.powi(t)));
            *w -= lr * m_hat / (v_hat.sqrt() + eps);
        }
    }
    for (got, want) in params.iter().flat_map(|param| values(param)).zip(want.iter().flatten()) {
        assert!((f64::from(got) - want[0]).abs() < 2e-6, "{got} {want:?}");
    }
    Ok(())
}

#[test]
fn sgd() -> Result<()> {
    // The second parameter has no penalty.
    for (momentum, nesterov, l2) in [(0., false, [0., 0.]), (0.9, false, [0.01, 0.]), (0.9, true, [0.01, 0.])] {
        let (params, velocities) = (SIZES.map(|n| variable(1, &[n])), [zeros(SIZES[0])?, zeros(SIZES[1])?]);
        let start = |i: usize| values(&params[i]).into_iter().map(move |w| ([f64::from(w), 0.], l2[i]));
        let mut want: Vec<([f64; 2], f64)> = start(0).chain(start(1)).collect();
        for step in 0..3 {
            let grads = SIZES.map(|n| variable(20 + step, &[n]).as_detached_tensor());
            let update =
                |i: usize| SgdUpdate { param: &params[i], grad: &grads[i], velocity: &velocities[i], l2: l2[i] };
            sgd_update(&[update(0), update(1)], &SgdStep { lr: 0.1, momentum, nesterov })?;
            for (([w, u], l2), g) in want.iter_mut().zip(grads.iter().flat_map(values)) {
                let g = f64::from(g) + 2. * *l2 * *w;
                *u = momentum * *u - 0.1 * g;
                *w += if nesterov { momentum * *u - 0.1 * g } else { *u };
            }
        }
        for (got, (want, _)) in params.iter().flat_map(|param| values(param)).zip(&want) {
            assert!((f64::from(got) - want[0]).abs() < 1e-6, "{got} {want:?}");
        }
    }
    Ok(())
}

#[test]
fn another_shape_is_an_error() -> Result<()> {
    let (param, other) = (variable(1, &[3]), variable(2, &[4]));
    let step = SgdStep { lr: 0.1, momentum: 0., nesterov: false };
    let update = SgdUpdate { param: &param, grad: &other, velocity: &param.clone(), l2: 0. };
    let error = sgd_update(&[update], &step).expect_err("3 is not 4").to_string();
    assert!(error.contains("sgd_update: grad has shape [4], the parameter [3]"), "{error}");
    Ok(())
}

/// Several updates of an average, over more elements than one task takes, by values in another order in memory.
#[test]
fn averages() -> Result<()> {
    let (rows, cols, decay) = (200, 200, 0.7);
    let average = variable(1, &[rows, cols]);
    let mut want: Vec<f64> = values(&average).into_iter().map(f64::from).collect();
    for step in 0..3 {
        let value = variable(10 + step, &[cols, rows]).t()?;
        ema_update(&[(&average, &value)], decay)?;
        for (a, x) in want.iter_mut().zip(values(&value)) {
            *a = decay * *a + (1. - decay) * f64::from(x);
        }
    }
    for (got, want) in values(&average).into_iter().zip(&want) {
        assert!((f64::from(got) - want).abs() < 1e-6, "{got} {want}");
    }
    ema_update(&[(&average, &variable(2, &[rows, cols]))], 0.)?;
    assert_eq!(values(&average), values(&variable(2, &[rows, cols])), "without decay it is the value");
    let error = ema_update(&[(&average, &variable(3, &[3]))], decay).expect_err("another shape").to_string();
    assert!(error.contains("ema_update: value has shape [3], the parameter [200, 200]"), "{error}");
    Ok(())
}
