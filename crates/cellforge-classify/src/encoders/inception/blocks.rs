//! The blocks of Inception-v3, by the letters of PyTorch's ports. Each runs branches side by side and joins their channels.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::DEFAULT_KAIMING_NORMAL;
use cellforge_nn::{BatchNorm2d, BatchNormConfig, Conv2dConfig, Padding, Precision, batch_norm2d, ops};

/// Added to the variance in batch normalisation.
const EPS: f64 = 1e-3;

/// Where a part of the network finds its tensors, and what its convolutions multiply.
pub(super) struct Place<'a> {
    pub precision: Precision,
    pub vb: VarBuilder<'a>,
}

impl Place<'_> {
    /// The same for a part of the part.
    fn pp(&self, name: &str) -> Self {
        Self { precision: self.precision, vb: self.vb.pp(name) }
    }
}

/// Kernel, stride and padding of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    kernel: (usize, usize),
    cfg: Conv2dConfig,
}

impl Shape {
    /// A square kernel at stride 1 without padding.
    pub fn square(k: usize) -> Self {
        Self { kernel: (k, k), cfg: Conv2dConfig::new(1, Padding::NONE) }
    }

    pub fn stride(mut self, stride: usize) -> Self {
        self.cfg.stride = stride;
        self
    }

    /// With the padding by which images keep their size at stride 1.
    pub fn same(mut self) -> Self {
        let (h, w) = (self.kernel.0 / 2, self.kernel.1 / 2);
        self.cfg.padding = Padding { top: h, bottom: h, left: w, right: w };
        self
    }

    /// One row of `k` pixels, for images that keep their size.
    fn row(k: usize) -> Self {
        Self { kernel: (1, k), ..Self::square(1) }.same()
    }

    /// One column of `k` pixels, for images that keep their size.
    fn column(k: usize) -> Self {
        Self { kernel: (k, 1), ..Self::square(1) }.same()
    }
}

/// Convolution without a bias, batch norm by its running statistics and ReLU: `(b, c_in, h, w)` to `(b, c_out, oh, ow)`.
#[derive(Debug, Clone)]
pub(super) struct ConvNorm {
    weight: Tensor,
    bn: BatchNorm2d,
    cfg: Conv2dConfig,
}

impl ConvNorm {
    pub fn new(c_in: usize, c_out: usize, Shape { kernel: (h, w), cfg }: Shape, place: Place) -> Result<Self> {
        let (vb, cfg) = (place.vb, cfg.in_precision(place.precision));
        let weight = vb.pp("conv").get_with_hints((c_out, c_in, h, w), "weight", DEFAULT_KAIMING_NORMAL)?;
        let bn_cfg = BatchNormConfig { eps: EPS, ..Default::default() };
        Ok(Self { weight, bn: batch_norm2d(c_out, bn_cfg, vb.pp("bn"))?, cfg })
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.bn.forward_relu_t(&ops::conv2d(xs, &self.weight, None, &self.cfg)?, false)
    }
}

/// Layers one after the other.
#[derive(Debug, Clone)]
struct Branch(Vec<ConvNorm>);

impl Branch {
    /// Layers with their keys and output channels.
    fn new(mut c_in: usize, layers: &[(&str, usize, Shape)], place: &Place) -> Result<Self> {
        let layer = |&(name, c_out, shape): &(&str, usize, Shape)| {
            ConvNorm::new(std::mem::replace(&mut c_in, c_out), c_out, shape, place.pp(name))
        };
        Ok(Self(layers.iter().map(layer).collect::<Result<_>>()?))
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs))
    }
}

/// How a block's branch of pooling pools: 3x3 at stride 1.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pool {
    /// By the mean of the window's values inside the image.
    Mean,
    /// By the maximum.
    Max,
}

impl Pool {
    fn forward(self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Mean => ops::avg_pool2d(xs, 3, 1, 1, false),
            Self::Max => ops::max_pool2d(xs, 3, 1, 1),
        }
    }
}

/// Joins channels of images of one size: `(b, c_i, h, w)` to `(b, sum of c_i, h, w)`.
fn join(branches: &[Tensor]) -> Result<Tensor> {
    if branches.iter().all(Tensor::is_contiguous) {
        return Tensor::cat(branches, 1);
    }
    // Channels lie side by side in memory: whole pixels are copied, and they lie so afterwards.
    let pixels = branches.iter().map(|xs| xs.permute((0, 2, 3, 1))).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&pixels, 3)?.permute((0, 3, 1, 2))
}

/// 1x1, 5x5 and twice 3x3: `(b, c_in, h, w)` to `(b, 224 + pool, h, w)`.
#[derive(Debug, Clone)]
pub(super) struct BlockA {
    branches: [Branch; 3],
    pool: Branch,
}

impl BlockA {
    /// `pool` is the number of channels of the branch that pools.
    pub fn new(c_in: usize, pool: usize, place: Place) -> Result<Self> {
        let (one, three, five) = (Shape::square(1), Shape::square(3).same(), Shape::square(5).same());
        let branch = |layers: &[(&str, usize, Shape)]| Branch::new(c_in, layers, &place);
        Ok(Self {
            branches: [
                branch(&[("branch1x1", 64, one)])?,
                branch(&[("branch5x5_1", 48, one), ("branch5x5_2", 64, five)])?,
                branch(&[("branch3x3dbl_1", 64, one), ("branch3x3dbl_2", 96, three), ("branch3x3dbl_3", 96, three)])?,
            ],
            pool: branch(&[("branch_pool", pool, one)])?,
        })
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let [a, b, c] = &self.branches;
        join(&[a.forward(xs)?, b.forward(xs)?, c.forward(xs)?, self.pool.forward(&Pool::Mean.forward(xs)?)?])
    }
}

/// Halves the side by a 3x3, twice a 3x3 and a pool: `(b, c_in, h, w)` to `(b, 480 + c_in, (h - 1) / 2, (w - 1) / 2)`.
#[derive(Debug, Clone)]
pub(super) struct BlockB([Branch; 2]);

impl BlockB {
    pub fn new(c_in: usize, place: Place) -> Result<Self> {
        let (one, three, half) = (Shape::square(1), Shape::square(3).same(), Shape::square(3).stride(2));
        let branch = |layers: &[(&str, usize, Shape)]| Branch::new(c_in, layers, &place);
        Ok(Self([
            branch(&[("branch3x3", 384, half)])?,
            branch(&[("branch3x3dbl_1", 64, one), ("branch3x3dbl_2", 96, three), ("branch3x3dbl_3", 96, half)])?,
        ]))
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let [a, b] = &self.0;
        join(&[a.forward(xs)?, b.forward(xs)?, ops::max_pool2d(xs, 3, 2, 0)?])
    }
}

/// 1x1 and, as rows and columns, 7x7 and twice 7x7: `(b, 768, h, w)` to the same shape.
#[derive(Debug, Clone)]
pub(super) struct BlockC {
    branches: [Branch; 3],
    pool: Branch,
}

impl BlockC {
    /// `mid` is the number of channels between the layers of a branch.
    pub fn new(mid: usize, place: Place) -> Result<Self> {
        let (one, row, column) = (Shape::square(1), Shape::row(7), Shape::column(7));
        let branch = |layers: &[(&str, usize, Shape)]| Branch::new(768, layers, &place);
        Ok(Self {
            branches: [
                branch(&[("branch1x1", 192, one)])?,
                branch(&[("branch7x7_1", mid, one), ("branch7x7_2", mid, row), ("branch7x7_3", 192, column)])?,
                branch(&[
                    ("branch7x7dbl_1", mid, one),
                    ("branch7x7dbl_2", mid, column),
                    ("branch7x7dbl_3", mid, row),
                    ("branch7x7dbl_4", mid, column),
                    ("branch7x7dbl_5", 192, row),
                ])?,
            ],
            pool: branch(&[("branch_pool", 192, one)])?,
        })
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let [a, b, c] = &self.branches;
        join(&[a.forward(xs)?, b.forward(xs)?, c.forward(xs)?, self.pool.forward(&Pool::Mean.forward(xs)?)?])
    }
}

/// Halves the side by a 3x3, a 7x7 with a 3x3 and a pool: `(b, c_in, h, w)` to `(b, 512 + c_in, (h - 1) / 2, (w - 1) / 2)`.
#[derive(Debug, Clone)]
pub(super) struct BlockD([Branch; 2]);

impl BlockD {
    pub fn new(c_in: usize, place: Place) -> Result<Self> {
        let (one, half) = (Shape::square(1), Shape::square(3).stride(2));
        let branch = |layers: &[(&str, usize, Shape)]| Branch::new(c_in, layers, &place);
        Ok(Self([
            branch(&[("branch3x3_1", 192, one), ("branch3x3_2", 320, half)])?,
            branch(&[
                ("branch7x7x3_1", 192, one),
                ("branch7x7x3_2", 192, Shape::row(7)),
                ("branch7x7x3_3", 192, Shape::column(7)),
                ("branch7x7x3_4", 192, half),
            ])?,
        ]))
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let [a, b] = &self.0;
        join(&[a.forward(xs)?, b.forward(xs)?, ops::max_pool2d(xs, 3, 2, 0)?])
    }
}

/// 1x1 and, each ending in a row and a column side by side, 3x3 and twice 3x3: `(b, c_in, h, w)` to `(b, 2048, h, w)`.
#[derive(Debug, Clone)]
pub(super) struct BlockE {
    one: Branch,
    /// Each with the row and the column that it ends in.
    forks: [(Branch, [Branch; 2]); 2],
    pooling: Pool,
    pool: Branch,
}

impl BlockE {
    pub fn new(c_in: usize, pooling: Pool, place: Place) -> Result<Self> {
        let (one, three) = (Shape::square(1), Shape::square(3).same());
        let branch = |layers: &[(&str, usize, Shape)]| Branch::new(c_in, layers, &place);
        let ends = |row: &str, column: &str| -> Result<[Branch; 2]> {
            let end = |name, shape| Branch::new(384, &[(name, 384, shape)], &place);
            Ok([end(row, Shape::row(3))?, end(column, Shape::column(3))?])
        };
        Ok(Self {
            one: branch(&[("branch1x1", 320, one)])?,
            forks: [
                (branch(&[("branch3x3_1", 384, one)])?, ends("branch3x3_2a", "branch3x3_2b")?),
                (
                    branch(&[("branch3x3dbl_1", 448, one), ("branch3x3dbl_2", 384, three)])?,
                    ends("branch3x3dbl_3a", "branch3x3dbl_3b")?,
                ),
            ],
            pooling,
            pool: branch(&[("branch_pool", 192, one)])?,
        })
    }

    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut all = vec![self.one.forward(xs)?];
        for (stem, ends) in &self.forks {
            let ys = stem.forward(xs)?;
            for end in ends {
                all.push(end.forward(&ys)?);
            }
        }
        all.push(self.pool.forward(&self.pooling.forward(xs)?)?);
        join(&all)
    }
}
