use crate::common::{cases, check, check_at, check_in_bf16, device, on_gpu, values, variable};
use candle_core::{DType, Result, Tensor, Var};
use cellforge_kernels::{
    Conv2dConfig, Padding, Precision, composed, conv2d, conv2d_add, linear, upsample_nearest2x, upsample2x_conv2d,
};
use proptest::prelude::*;

/// Convolution as its definition says. `dims` is (b, c, h, w) and `kernel` (o, kh, kw).
fn reference(
    (xs, weight, bias): (&[f64], &[f64], Option<&[f64]>),
    [b, c, h, w]: [usize; 4],
    [o, kh, kw]: [usize; 3],
    cfg: &Conv2dConfig,
) -> Vec<f64> {
    let (oh, ow) = cfg.out_size((h, w), (kh, kw)).expect("the kernel fits");
    let mut ys = Vec::with_capacity(b * o * oh * ow);
    for n in 0..b {
        for k in 0..o {
            for y in 0..oh {
                for x in 0..ow {
                    let mut sum = bias.map_or(0., |bias| bias[k]);
                    for ch in 0..c {
                        for i in 0..kh {
                            for j in 0..kw {
                                let row = (y * cfg.stride + i).wrapping_sub(cfg.padding.top);
                                let col = (x * cfg.stride + j).wrapping_sub(cfg.padding.left);
                                if row < h && col < w {
                                    let pixel = xs[((n * c + ch) * h + row) * w + col];
                                    sum += pixel * weight[((k * c + ch) * kh + i) * kw + j];
                                }
                            }
                        }
                    }
                    ys.push(sum);
                }
            }
        }
    }
    ys
}

/// The reference is slow: where it has much to do, fewer elements are checked.
fn samples(dims: [usize; 4]) -> usize {
    if dims.iter().product::<usize>() > 5000 { 3 } else { 40 }
}

fn check_conv(dims: [usize; 4], kernel: [usize; 3], bias: bool, cfg: Conv2dConfig) {
    let [o, kh, kw] = kernel;
    let mut vars = vec![variable(1, &dims), variable(2, &[o, dims[1], kh, kw])];
    if bias {
        vars.push(variable(3, &[o]));
    }
    let plain = |p: &[Vec<f64>]| reference((&p[0], &p[1], p.get(2).map(Vec::as_slice)), dims, kernel, &cfg);
    let samples = samples(dims);
    check_at(samples, &vars, |t| conv2d(&t[0], &t[1], t.get(2), &cfg), plain);
    // Candle's own convolution is not used on GPUs.
    if !on_gpu() {
        check_at(samples, &vars, |t| composed::conv2d(&t[0], &t[1], t.get(2), &cfg), plain);
    }
    check_in_bf16(samples, 1, &vars, |t| conv2d(&t[0], &t[1], t.get(2), &cfg), plain);
}

fn check_conv_add(dims: [usize; 4], kernel: [usize; 3], cfg: Conv2dConfig) {
    let [o, kh, kw] = kernel;
    let (oh, ow) = cfg.out_size((dims[2], dims[3]), (kh, kw)).expect("the kernel fits");
    let vars = [variable(1, &dims), variable(2, &[o, dims[1], kh, kw]), variable(3, &[dims[0], o, oh, ow])];
    let sum = |p: &[Vec<f64>]| {
        reference((&p[0], &p[1], None), dims, kernel, &cfg).iter().zip(&p[2]).map(|(y, x)| y + x).collect()
    };
    check_at(samples(dims), &vars, |t| conv2d_add(&t[0], &t[1], &t[2], &cfg), sum);
    // Images first.
    let vars = [0, 2, 1].map(|i| vars[i].clone());
    let sum = |p: &[Vec<f64>]| sum(&[p[0].clone(), p[2].clone(), p[1].clone()]);
    check_in_bf16(samples(dims), 2, &vars, |t| conv2d_add(&t[0], &t[2], &t[1], &cfg), sum);
}

fn padding() -> impl Strategy<Value = Padding> {
    (0usize..3, 0usize..3, 0usize..3, 0usize..3).prop_map(|(top, bottom, left, right)| Padding {
        top,
        bottom,
        left,
        right,
    })
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_shape(
        dims in (1usize..4, 1usize..5, 3usize..10, 3usize..10).prop_map(|(b, c, h, w)| [b, c, h, w]),
        kernel in (1usize..7, 1usize..4, 1usize..4).prop_map(|(o, kh, kw)| [o, kh, kw]),
        stride in 1usize..4,
        padding in padding(),
        bias: bool,
    ) {
        check_conv(dims, kernel, bias, Conv2dConfig::new(stride, padding));
        check_conv_add(dims, kernel, Conv2dConfig::new(stride, padding));
    }

    #[test]
    fn upsampled(b in 1usize..4, c in 1usize..5, o in 1usize..5, h in 1usize..7, w in 1usize..7, bias: bool) {
        check_upsampled([b, c, h, w], o, bias);
    }
}

fn check_upsampled([b, c, h, w]: [usize; 4], o: usize, bias: bool) {
    let mut vars = vec![variable(1, &[b, c, h, w]), variable(2, &[o, c, 3, 3])];
    if bias {
        vars.push(variable(3, &[o]));
    }
    let cfg = Conv2dConfig::new(1, Padding::uniform(1));
    let plain = |p: &[Vec<f64>]| {
        let large = upsample(&p[0], w);
        reference((&large, &p[1], p.get(2).map(Vec::as_slice)), [b, c, 2 * h, 2 * w], [o, 3, 3], &cfg)
    };
    let samples = samples([b, c, h, w]);
    check_at(samples, &vars, |t| upsample2x_conv2d(&t[0], &t[1], t.get(2), Precision::F32), plain);
    if !on_gpu() {
        check_at(samples, &vars, |t| composed::upsample2x_conv2d(&t[0], &t[1], t.get(2)), plain);
    }
    check_in_bf16(samples, 1, &vars, |t| upsample2x_conv2d(&t[0], &t[1], t.get(2), Precision::F32), plain);
}

fn upsample(xs: &[f64], w: usize) -> Vec<f64> {
    let rows = xs.chunks(w).map(|row| row.iter().flat_map(|&x| [x, x]).collect::<Vec<_>>());
    rows.flat_map(|row| [row.clone(), row].concat()).collect()
}

/// Sizes at which several images share a matrix product, one image needs several, and the last tile is a short one.
#[test]
fn tiles() {
    let same = Conv2dConfig::new(1, Padding::uniform(1));
    check_conv([17, 2, 3, 3], [3, 3, 3], true, same);
    check_conv([18, 3, 4, 5], [7, 1, 1], false, Conv2dConfig::default());
    check_conv([2, 120, 17, 19], [1, 3, 3], true, same);
    check_conv([1, 120, 17, 19], [61, 3, 3], true, same);
    check_conv([2, 3, 40, 33], [2, 1, 1], true, Conv2dConfig::default());
    check_upsampled([17, 3, 4, 4], 5, true);
    check_upsampled([2, 40, 18, 17], 2, true);
}

/// Kernels of 3x3 with many channels, which are computed over tiles: sides that fill the tiles of each size and sides that do not,
/// channels that fill vectors and panels and channels that do not, any padding.
#[test]
fn tiles_of_products() {
    let same = Conv2dConfig::new(1, Padding::uniform(1));
    check_conv([2, 48, 9, 9], [48, 3, 3], true, same);
    check_conv([1, 49, 8, 8], [65, 3, 3], false, same);
    check_conv([3, 52, 5, 4], [48, 3, 3], true, Conv2dConfig::default());
    check_conv([1, 48, 7, 13], [70, 3, 3], true, same);
    check_conv([9, 70, 6, 2], [49, 3, 3], false, same);
    let padding = Padding { top: 2, bottom: 0, left: 0, right: 3 };
    check_conv([2, 50, 6, 5], [48, 3, 3], true, Conv2dConfig::new(1, padding));
    // The gradient of the weights is computed so from 64 channels on; the third image is a single tile.
    check_conv([2, 64, 9, 9], [64, 3, 3], true, same);
    check_conv([3, 66, 5, 7], [65, 3, 3], false, same);
    check_conv([9, 65, 4, 4], [70, 3, 3], true, same);
    check_conv_add([2, 48, 7, 6], [48, 3, 3], same);
}

/// Images and results that are too large to be made in one piece.
#[test]
fn pieces() {
    let (same, strided) = (Conv2dConfig::new(1, Padding::uniform(1)), Conv2dConfig::new(2, Padding::uniform(1)));
    check_conv([1, 48, 41, 37], [48, 3, 3], true, same);
    check_conv([2, 2, 21, 20], [260, 3, 3], true, same);
    check_conv_add([2, 2, 21, 20], [260, 3, 3], same);
    check_conv([1, 2, 45, 47], [300, 1, 1], true, Conv2dConfig::default());
    check_conv([1, 300, 45, 47], [2, 1, 1], false, Conv2dConfig::default());
    check_conv([1, 33, 130, 128], [1, 3, 3], false, strided);
}

#[test]
fn upsampling_and_linear() {
    for op in [upsample_nearest2x, composed::upsample_nearest2x] {
        check(&[variable(1, &[2, 3, 5, 4])], |t| op(&t[0]), |p| upsample(&p[0], 4));
    }
    let images = [variable(1, &[2, 3, 5, 4])];
    check_in_bf16(40, 1, &images, |t| upsample_nearest2x(&t[0]), |p| upsample(&p[0], 4));
    for (b, features, out) in [(1, 1, 1), (3, 7, 5), (9, 5, 130), (2, 300, 1)] {
        let vars = [variable(1, &[b, features]), variable(2, &[out, features]), variable(3, &[out])];
        let plain = |p: &[Vec<f64>]| -> Vec<f64> {
            let dot = |row: &[f64], w: &[f64]| row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
            let rows = p[0].chunks(features);
            rows.flat_map(|row| p[1].chunks(features).zip(&p[2]).map(move |(w, b)| dot(row, w) + b)).collect()
        };
        check(&vars, |t| linear(&t[0], &t[1], Some(&t[2]), Precision::F32), plain);
        check(&vars, |t| composed::linear(&t[0], &t[1], Some(&t[2])), plain);
    }
}

/// A transposed image has strides that the kernels do not read; it is copied first, and the gradient still arrives.
#[test]
fn strided_input() -> Result<()> {
    let (xs, weight) = (variable(1, &[2, 3, 6, 5]), variable(2, &[4, 3, 3, 3]));
    let cfg = Conv2dConfig::new(1, Padding::uniform(1));
    let turned = xs.transpose(2, 3)?;
    let copied = Var::from_tensor(&turned.contiguous()?.detach())?;
    let (a, b) = (conv2d(&turned, &weight, None, &cfg)?, conv2d(&copied, &weight, None, &cfg)?);
    assert_eq!(values(&a), values(&b));
    let (a, b) = (a.sqr()?.sum_all()?.backward()?, b.sqr()?.sum_all()?.backward()?);
    let grad = b.get(&copied).expect("a variable").transpose(2, 3)?;
    assert_eq!(values(a.get(&xs).expect("a variable")), values(&grad));
    Ok(())
}

#[test]
fn an_input_without_gradient_gets_none() -> Result<()> {
    let xs = variable(1, &[2, 3, 6, 6]).detach();
    let weight = variable(2, &[4, 3, 3, 3]);
    let grads = conv2d(&xs, &weight, None, &Conv2dConfig::default())?.sum_all()?.backward()?;
    assert!(grads.get(&xs).is_none() && grads.get(&weight).is_some());
    Ok(())
}

#[test]
fn errors_name_the_operation_and_the_shapes() -> Result<()> {
    let xs = Tensor::zeros((1, 3, 4, 4), DType::F32, &device())?;
    let cfg = Conv2dConfig::default();
    let message = |weight: &Tensor| conv2d(&xs, weight, None, &cfg).expect_err("this must fail").to_string();
    let wrong = Tensor::zeros((2, 4, 3, 3), DType::F32, &device())?;
    assert!(message(&wrong).contains("conv2d: xs [1, 3, 4, 4] and weight [2, 4, 3, 3]"), "{}", message(&wrong));
    let large = Tensor::zeros((2, 3, 5, 5), DType::F32, &device())?;
    assert!(message(&large).contains("does not fit"), "{}", message(&large));
    let double = Tensor::zeros((2, 3, 3, 3), DType::F64, &device())?;
    assert!(message(&double).contains("conv2d: weight is F64, expected F32"), "{}", message(&double));
    let zero_stride = Conv2dConfig::new(0, Padding::NONE);
    assert!(conv2d(&xs, &xs, None, &zero_stride).is_err());
    Ok(())
}

/// Keras pads an even side by (0, 1) for a 3x3 kernel of stride 2, and an odd one by (1, 1).
#[test]
fn same_padding() {
    assert_eq!(Padding::same(64, 64, 3, 2), Padding { top: 0, bottom: 1, left: 0, right: 1 });
    assert_eq!(Padding::same(17, 64, 3, 2), Padding { top: 1, bottom: 1, left: 0, right: 1 });
    assert_eq!(Padding::same(9, 9, 3, 1), Padding::uniform(1));
    assert_eq!(Padding::same(8, 8, 1, 2), Padding::NONE);
}
