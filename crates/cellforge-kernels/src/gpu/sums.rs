//! Transposed images, and sums over the rows of matrices.

use super::{Arg, Buffer, Gpu, LANES, Ptr, ROWS, args, channels, size, with_contiguous};
use candle_core::{Result, Storage, Tensor, bail};
use cudarc::driver::LaunchConfig;

impl Gpu {
    /// `(images, rows, cols)` to `(images, cols, rows)`.
    pub(crate) fn transpose(&self, from: Ptr, to: Ptr, images: usize, rows: usize, cols: usize) -> Result<()> {
        const MOST_IMAGES: usize = 65_535;
        if images > MOST_IMAGES {
            bail!("a batch of {images} images is too large for a GPU, which takes {MOST_IMAGES}");
        }
        let config = LaunchConfig {
            grid_dim: (size(cols.div_ceil(LANES))?, size(rows.div_ceil(LANES))?, size(images)?),
            block_dim: (LANES as u32, ROWS as u32, 1),
            shared_mem_bytes: 0,
        };
        self.launch("transpose", config, &args![from, to, size(rows)?, size(cols)?])
    }

    /// Runs a kernel that sums over the rows of `(rows, c)` in parts, and one that adds these up.
    pub(crate) fn sum_rows<const N: usize, const M: usize>(
        &self,
        [first, second]: [&'static str; 2],
        (rows, c): (usize, usize),
        first_args: impl FnOnce(&Buffer, [u32; 3]) -> [Arg; N],
        second_args: impl FnOnce(&Buffer, [u32; 2]) -> [Arg; M],
    ) -> Result<()> {
        // Enough blocks to fill a large GPU, and enough rows in each that they are worth it.
        const BLOCKS: usize = 1024;
        const LEAST_ROWS: usize = 4 * ROWS;
        let wanted = (BLOCKS / c.div_ceil(LANES)).max(1);
        let rows_a_part = rows.div_ceil(wanted).max(LEAST_ROWS);
        let parts = rows.div_ceil(rows_a_part);
        let sums = self.buffer(parts * 2 * c)?;
        let sizes = [size(rows)?, size(c)?, size(rows_a_part)?];
        self.launch(first, channels(c, parts)?, &first_args(&sums, sizes))?;
        self.launch(second, channels(c, 1)?, &second_args(&sums, [size(parts)?, size(c)?]))
    }

    /// The sum of each channel of `(rows, c)`.
    pub(crate) fn channel_sums(&self, xs: Ptr, rows: usize, c: usize) -> Result<Buffer> {
        let out = self.buffer(c)?;
        self.sum_rows(
            ["channel_sums", "channel_sums_total"],
            (rows, c),
            |parts, [rows, c, rows_a_part]| args![xs, parts, rows, c, rows_a_part],
            |parts, [count, c]| args![parts, &out, count, c],
        )?;
        Ok(out)
    }
}

/// The images of a contiguous tensor as matrices, each transposed: `(images, rows, cols)` to `(images, cols, rows)`.
pub(crate) fn transposed(xs: &Tensor, images: usize, rows: usize, cols: usize) -> Result<Storage> {
    with_contiguous("layout", [xs], |gpu, [xs]| {
        let ys = gpu.buffer(images * rows * cols)?;
        gpu.transpose(xs, ys.ptr, images, rows, cols)?;
        Ok(Storage::Cuda(ys.storage()))
    })
}

/// The sum of two tensors whose elements are in one order, in the shape of the first.
pub(crate) fn sum_of(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let len = a.elem_count();
    with_contiguous("add", [a, b], |gpu, [x, y]| {
        Ok(gpu.map("add", len, |out, n| args![x, y, out, n])?.tensor(a.shape()))
    })
}
