use crate::common::{check, random, values, variable};
use candle_core::{Device, Result, Tensor, Var};
use cellforge_kernels::{composed, leaky_relu, mask_scale, relu, tanh};

#[test]
fn values_and_gradients() {
    // More elements than one task takes.
    let vars = [variable(1, &[3, 7001])];
    let leaky = |slope: f64| {
        move |p: &[Vec<f64>]| -> Vec<f64> { p[0].iter().map(|&x| x.max(0.) + slope * x.min(0.)).collect() }
    };
    check(&vars, |t| relu(&t[0]), leaky(0.));
    check(&vars, |t| leaky_relu(&t[0], 0.2), leaky(f64::from(0.2f32)));
    check(&vars, |t| composed::leaky_relu(&t[0], 0.2), leaky(f64::from(0.2f32)));
    let plain_tanh = |p: &[Vec<f64>]| -> Vec<f64> { p[0].iter().map(|x| x.tanh()).collect() };
    check(&vars, |t| tanh(&t[0]), plain_tanh);
    check(&vars, |t| composed::tanh(&t[0]), plain_tanh);
}

/// PyTorch's convention at zero: 0 for ReLU (Candle's own says 1) and the slope for the leaky one.
/// Results beyond a few megabytes are written in another way.
#[test]
fn large_results() {
    for len in [(1 << 19) + 1, 600_003] {
        let xs = random(1, len);
        let ys = relu(&Tensor::new(xs.as_slice(), &Device::Cpu).expect("a vector")).expect("a vector");
        assert_eq!(values(&ys), xs.iter().map(|x| x.max(0.)).collect::<Vec<_>>());
    }
}

#[test]
fn gradient_at_zero() -> Result<()> {
    let xs = Var::from_vec(vec![0f32, -0., 1., -1.], 4, &Device::Cpu)?;
    let grad = |slope| -> Result<[Vec<f32>; 2]> {
        let fast = if slope == 0. { relu(&xs)? } else { leaky_relu(&xs, slope)? };
        let get =
            |ys: Tensor| -> Result<Vec<f32>> { Ok(values(ys.sum_all()?.backward()?.get(&xs).expect("a variable"))) };
        Ok([get(fast)?, get(composed::leaky_relu(&xs, slope)?)?])
    };
    assert_eq!(grad(0.)?, [[0., 0., 1., 0.], [0., 0., 1., 0.]]);
    assert_eq!(grad(0.25)?, [[0.25, 0.25, 1., 0.25], [0.25, 0.25, 1., 0.25]]);
    Ok(())
}

#[test]
fn masks() {
    let keep: Vec<u8> = (0..60).map(|i| u8::from(i % 3 != 0)).collect();
    let vars = [variable(1, &[3, 4, 5])];
    let plain = |p: &[Vec<f64>]| -> Vec<f64> { p[0].iter().zip(&keep).map(|(x, &k)| 1.5 * x * f64::from(k)).collect() };
    check(&vars, |t| mask_scale(&t[0], keep.clone(), 1.5), plain);
    check(&vars, |t| composed::mask_scale(&t[0], &keep, 1.5), plain);
    assert!(mask_scale(&vars[0], vec![1; 59], 1.5).is_err());
}
