// The kernels of everything but convolutions and matrix products, compiled by NVRTC when a device is first used.
//
// Arrays are f32 and contiguous. Images are (b, h, w, c): the channels of a pixel lie side by side, so that neighbouring threads, which
// take neighbouring elements, read neighbouring memory. Sums are taken in an order that depends on shapes alone and never by atomic
// additions, so that the same step gives the same bytes. The formulas are those of the CPU kernels, in files of the same names.
//
// Elementwise kernels have one thread for each of `n` elements, in blocks of 256. Kernels with other blocks say so.

#define KERNEL extern "C" __global__ void

// The size of blocks of kernels that sum: 32 channels, or elements, by 8 rows.
#define LANES 32
#define ROWS 8

__device__ __forceinline__ unsigned element() { return blockIdx.x * blockDim.x + threadIdx.x; }

__device__ __forceinline__ float slope_at(float x, float slope) { return x > 0.f ? 1.f : slope; }

// What dropout makes of element i; without a mask all are kept.
__device__ __forceinline__ float masked(float x, const unsigned char* keep, unsigned i, float scale) {
    if (!keep) return x;
    return keep[i] ? x * scale : 0.f;
}

// ---- Elements ----

KERNEL leaky_relu(const float* xs, const unsigned char* keep, float* ys, unsigned n, float slope, float scale) {
    unsigned i = element();
    if (i < n) ys[i] = masked(xs[i] * slope_at(xs[i], slope), keep, i, scale);
}

// The gradient through leaky_relu at `at`, and its Jacobian-vector product.
KERNEL leaky_relu_slope(const float* at, const float* grad, const unsigned char* keep, float* out, unsigned n, float slope, float scale) {
    unsigned i = element();
    if (i < n) out[i] = masked(grad[i] * slope_at(at[i], slope), keep, i, scale);
}

KERNEL tanh_forward(const float* xs, float* ys, unsigned n) {
    unsigned i = element();
    if (i < n) ys[i] = tanhf(xs[i]);
}

KERNEL tanh_gradient(const float* ys, const float* grad, float* out, unsigned n) {
    unsigned i = element();
    if (i < n) out[i] = grad[i] * (1.f - ys[i] * ys[i]);
}

KERNEL dropout(const float* xs, const unsigned char* keep, float* ys, unsigned n, float scale) {
    unsigned i = element();
    if (i < n) ys[i] = masked(xs[i], keep, i, scale);
}

KERNEL add(const float* a, const float* b, float* out, unsigned n) {
    unsigned i = element();
    if (i < n) out[i] = a[i] + b[i];
}

KERNEL mul(const float* a, const float* b, float* out, unsigned n) {
    unsigned i = element();
    if (i < n) out[i] = a[i] * b[i];
}

KERNEL scale(const float* xs, float* ys, unsigned n, float factor) {
    unsigned i = element();
    if (i < n) ys[i] = factor * xs[i];
}

// Adds a number to each channel, or an array of the same shape, or both, in place.
KERNEL add_in_place(float* ys, const float* bias, const float* addend, unsigned n, unsigned c) {
    unsigned i = element();
    if (i >= n) return;
    float y = ys[i];
    if (bias) y += bias[i % c];
    if (addend) y += addend[i];
    ys[i] = y;
}

// Rounds to bf16, of two neighbours to the even one.
KERNEL to_bf16(const float* xs, unsigned short* ys, unsigned n) {
    unsigned i = element();
    if (i >= n) return;
    unsigned bits = __float_as_uint(xs[i]);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    ys[i] = nan ? 0x7fc0 : (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

KERNEL from_bf16(const unsigned short* xs, float* ys, unsigned n) {
    unsigned i = element();
    if (i < n) ys[i] = __uint_as_float((unsigned)xs[i] << 16);
}

// (images, rows, cols) to (images, cols, rows). Blocks of LANES by ROWS move tiles of LANES by LANES.
KERNEL transpose(const float* xs, float* ys, unsigned rows, unsigned cols) {
    __shared__ float tile[LANES][LANES + 1];
    unsigned long long image = (unsigned long long)blockIdx.z * rows * cols;
    unsigned row = blockIdx.y * LANES, col = blockIdx.x * LANES;
    for (unsigned k = threadIdx.y; k < LANES; k += ROWS) {
        if (row + k < rows && col + threadIdx.x < cols) {
            tile[k][threadIdx.x] = xs[image + (unsigned long long)(row + k) * cols + col + threadIdx.x];
        }
    }
    __syncthreads();
    for (unsigned k = threadIdx.y; k < LANES; k += ROWS) {
        if (col + k < cols && row + threadIdx.x < rows) {
            ys[image + (unsigned long long)(col + k) * rows + row + threadIdx.x] = tile[threadIdx.x][k];
        }
    }
}

// ---- Dropout's masks: ChaCha with 12 rounds, as the host's generator has it ----

#define QUARTER(a, b, c, d)                                                       \
    a += b; d ^= a; d = (d << 16) | (d >> 16); c += d; b ^= c; b = (b << 12) | (b >> 20); \
    a += b; d ^= a; d = (d << 8) | (d >> 24); c += d; b ^= c; b = (b << 7) | (b >> 25);

// One thread makes a block of 64 bytes, which are 16 random bits for each of 32 elements; after `chunk` elements the next stream of the
// generator begins.
KERNEL dropout_mask(unsigned char* keep, unsigned n, unsigned chunk, unsigned threshold, unsigned k0, unsigned k1, unsigned k2,
                    unsigned k3, unsigned k4, unsigned k5, unsigned k6, unsigned k7) {
    unsigned first = element() * 32;
    if (first >= n) return;
    unsigned start[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u, k0, k1, k2, k3, k4, k5, k6, k7,
                          first % chunk / 32, 0u, first / chunk, 0u};
    unsigned x[16];
    for (int i = 0; i < 16; i++) x[i] = start[i];
    for (int round = 0; round < 6; round++) {
        QUARTER(x[0], x[4], x[8], x[12])
        QUARTER(x[1], x[5], x[9], x[13])
        QUARTER(x[2], x[6], x[10], x[14])
        QUARTER(x[3], x[7], x[11], x[15])
        QUARTER(x[0], x[5], x[10], x[15])
        QUARTER(x[1], x[6], x[11], x[12])
        QUARTER(x[2], x[7], x[8], x[13])
        QUARTER(x[3], x[4], x[9], x[14])
    }
    for (unsigned i = 0; i < 32 && first + i < n; i++) {
        unsigned word = x[i / 2] + start[i / 2];
        unsigned bits = i % 2 ? word >> 16 : word & 0xffffu;
        keep[first + i] = bits >= threshold;
    }
}

// ---- Sums over the rows of (rows, c), for each channel ----
//
// First blocks of LANES channels by ROWS rows sum a part of the rows each, into parts (parts, 2, c); then others add up the parts. f(i, ch)
// returns two numbers for element i of channel ch.

template <class F>
__device__ void sum_part(F f, float* parts, unsigned rows, unsigned c, unsigned rows_a_part) {
    __shared__ float sums[2][ROWS][LANES + 1];
    unsigned ch = blockIdx.x * LANES + threadIdx.x;
    unsigned first = blockIdx.y * rows_a_part, last = min(rows, first + rows_a_part);
    float2 sum = {0.f, 0.f};
    if (ch < c) {
        for (unsigned row = first + threadIdx.y; row < last; row += ROWS) {
            float2 term = f((unsigned long long)row * c + ch, ch);
            sum.x += term.x;
            sum.y += term.y;
        }
    }
    sums[0][threadIdx.y][threadIdx.x] = sum.x;
    sums[1][threadIdx.y][threadIdx.x] = sum.y;
    __syncthreads();
    if (threadIdx.y < 2 && ch < c) {
        float total = 0.f;
        for (unsigned k = 0; k < ROWS; k++) total += sums[threadIdx.y][k][threadIdx.x];
        parts[((unsigned long long)blockIdx.y * 2 + threadIdx.y) * c + ch] = total;
    }
}

// The total of one of the two sums, for the threads with threadIdx.y of 0. Both sums may be asked for, one after the other.
__device__ double sum_of_parts(const float* parts, unsigned count, unsigned c, unsigned which) {
    __shared__ double sums[ROWS][LANES + 1];
    unsigned ch = blockIdx.x * LANES + threadIdx.x;
    double sum = 0.;
    if (ch < c) {
        for (unsigned part = threadIdx.y; part < count; part += ROWS) sum += parts[((unsigned long long)part * 2 + which) * c + ch];
    }
    __syncthreads();
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    double total = 0.;
    if (threadIdx.y == 0) {
        for (unsigned k = 0; k < ROWS; k++) total += sums[k][threadIdx.x];
    }
    return total;
}

struct Plain {
    const float* xs;
    __device__ float2 operator()(unsigned long long i, unsigned) const { return {xs[i], 0.f}; }
};

KERNEL channel_sums(const float* xs, float* parts, unsigned rows, unsigned c, unsigned rows_a_part) {
    sum_part(Plain{xs}, parts, rows, c, rows_a_part);
}

KERNEL channel_sums_total(const float* parts, float* sums, unsigned count, unsigned c) {
    double total = sum_of_parts(parts, count, c, 0);
    unsigned ch = blockIdx.x * LANES + threadIdx.x;
    if (threadIdx.y == 0 && ch < c) sums[ch] = (float)total;
}

// ---- Batch norm ----

// Deviations from the first row, so that a mean that is large beside the deviation costs little precision.
struct Deviations {
    const float* xs;
    __device__ float2 operator()(unsigned long long i, unsigned ch) const {
        float x = xs[i] - xs[ch];
        return {x, x * x};
    }
};

KERNEL batch_statistics(const float* xs, float* parts, unsigned rows, unsigned c, unsigned rows_a_part) {
    sum_part(Deviations{xs}, parts, rows, c, rows_a_part);
}

KERNEL batch_statistics_total(const float* xs, const float* parts, float* mean, float* inv_std, float* var_unbiased, unsigned count,
                              unsigned rows, unsigned c, float eps) {
    double sum = sum_of_parts(parts, count, c, 0), squares = sum_of_parts(parts, count, c, 1);
    unsigned ch = blockIdx.x * LANES + threadIdx.x;
    if (threadIdx.y != 0 || ch >= c) return;
    double level = sum / rows, var = squares / rows - level * level;
    // A NaN passes: it is not below zero.
    if (var < 0.) var = 0.;
    mean[ch] = (float)(xs[ch] + level);
    inv_std[ch] = (float)(1. / sqrt(var + (double)eps));
    var_unbiased[ch] = (float)(var * rows / ((rows > 2 ? rows : 2) - 1));
}

KERNEL inverse_deviation(const float* var, float* inv_std, unsigned n, float eps) {
    unsigned i = element();
    if (i < n) inv_std[i] = (float)(1. / sqrt((double)var[i] + (double)eps));
}

// What a channel is before the activation. The gradient uses the same expression, so that both agree on the side of zero.
__device__ __forceinline__ float normed(float deviation, float scale, float beta) { return fmaf(deviation, scale, beta); }

KERNEL normalise(const float* xs, const float* mean, const float* inv_std, const float* gamma, const float* beta,
                 const unsigned char* keep, float* ys, unsigned n, unsigned c, float slope, float scale) {
    unsigned i = element();
    if (i >= n) return;
    unsigned ch = i % c;
    float y = normed(xs[i] - mean[ch], inv_std[ch] * gamma[ch], beta[ch]);
    ys[i] = masked(y * slope_at(y, slope), keep, i, scale);
}

struct NormProducts {
    const float *xs, *grad, *mean, *inv_std, *gamma, *beta;
    const unsigned char* keep;
    float slope, scale;
    __device__ float2 operator()(unsigned long long i, unsigned ch) const {
        float deviation = xs[i] - mean[ch];
        float g = masked(grad[i], keep, (unsigned)i, scale);
        g *= slope_at(normed(deviation, inv_std[ch] * gamma[ch], beta[ch]), slope);
        return {g, deviation * g};
    }
};

KERNEL normalise_products(const float* xs, const float* grad, const float* mean, const float* inv_std, const float* gamma,
                          const float* beta, const unsigned char* keep, float* parts, unsigned rows, unsigned c,
                          unsigned rows_a_part, float slope, float scale) {
    sum_part(NormProducts{xs, grad, mean, inv_std, gamma, beta, keep, slope, scale}, parts, rows, c, rows_a_part);
}

// The gradients of beta and gamma.
KERNEL normalise_products_total(const float* parts, const float* inv_std, float* by_beta, float* by_gamma, unsigned count, unsigned c) {
    double sum = sum_of_parts(parts, count, c, 0), product = sum_of_parts(parts, count, c, 1);
    unsigned ch = blockIdx.x * LANES + threadIdx.x;
    if (threadIdx.y != 0 || ch >= c) return;
    by_beta[ch] = (float)sum;
    by_gamma[ch] = (float)(product * (double)inv_std[ch]);
}

// The gradient of the input, to which `more` is added. `share` is one over the number of rows, or 0 where the statistics are constants.
KERNEL normalise_gradient(const float* xs, const float* grad, const float* mean, const float* inv_std, const float* gamma,
                          const float* beta, const float* by_beta, const float* by_gamma, const unsigned char* keep, const float* more,
                          float* out, unsigned n, unsigned c, float slope, float scale, float share) {
    unsigned i = element();
    if (i >= n) return;
    unsigned ch = i % c;
    float deviation = xs[i] - mean[ch], factor = inv_std[ch] * gamma[ch];
    float g = masked(grad[i], keep, i, scale) * slope_at(normed(deviation, factor, beta[ch]), slope);
    float level = by_beta[ch] * share, tilt = by_gamma[ch] * share * inv_std[ch];
    float y = factor * (g - level - deviation * tilt);
    out[i] = more ? y + more[i] : y;
}

// ---- Pools ----

struct Windows {
    int h, w, c, oh, ow, window, stride, padding;
};

// A NaN wins, and of equal numbers the first stays.
__device__ __forceinline__ bool wins(float x, float max) { return x > max || x != x; }

// The maximum of a window and its place, as row * w + column.
__device__ __forceinline__ float maximum(const float* image, const Windows& o, int oi, int oj, int ch, int* place) {
    float max = __uint_as_float(0xff800000u);
    *place = -1;
    for (int i = oi * o.stride - o.padding; i < oi * o.stride - o.padding + o.window; i++) {
        for (int j = oj * o.stride - o.padding; j < oj * o.stride - o.padding + o.window; j++) {
            if (i < 0 || i >= o.h || j < 0 || j >= o.w) continue;
            float x = image[(i * o.w + j) * o.c + ch];
            if (wins(x, max)) {
                max = x;
                *place = i * o.w + j;
            }
        }
    }
    return max;
}

__device__ __forceinline__ float share_of(const Windows& o, int oi, int oj, int count_padding) {
    if (count_padding) return 1.f / (float)(o.window * o.window);
    int top = oi * o.stride - o.padding, left = oj * o.stride - o.padding;
    int rows = min(top + o.window, o.h) - max(top, 0), cols = min(left + o.window, o.w) - max(left, 0);
    return 1.f / (float)(rows * cols);
}

#define WINDOWS Windows{h, w, c, oh, ow, window, stride, padding}

// The sum of f(row, column) over the windows that cover pixel (i, j).
template <class F>
__device__ __forceinline__ float sum_over_windows(const Windows& o, int i, int j, F f) {
    int top = i + o.padding, left = j + o.padding;
    float sum = 0.f;
    for (int oi = max(0, (top - o.window + o.stride) / o.stride); oi <= min(o.oh - 1, top / o.stride); oi++) {
        for (int oj = max(0, (left - o.window + o.stride) / o.stride); oj <= min(o.ow - 1, left / o.stride); oj++) sum += f(oi, oj);
    }
    return sum;
}

KERNEL max_pool(const float* xs, float* ys, unsigned n, int h, int w, int c, int oh, int ow, int window, int stride, int padding) {
    unsigned i = element();
    if (i >= n) return;
    unsigned pixel = i / c;
    int place;
    const float* image = xs + (unsigned long long)(pixel / (oh * ow)) * h * w * c;
    ys[i] = maximum(image, WINDOWS, pixel / ow % oh, pixel % ow, i % c, &place);
}

// One thread for each element of the input looks at the windows that cover it.
KERNEL max_pool_gradient(const float* xs, const float* grad, float* out, unsigned n, int h, int w, int c, int oh, int ow, int window,
                         int stride, int padding) {
    unsigned at = element();
    if (at >= n) return;
    int ch = at % c, j = at / c % w, i = at / c / w % h;
    unsigned long long b = at / c / w / h;
    Windows o = WINDOWS;
    out[at] = sum_over_windows(o, i, j, [&](int oi, int oj) {
        int place;
        maximum(xs + b * h * w * c, o, oi, oj, ch, &place);
        return place == i * w + j ? grad[((b * oh + oi) * ow + oj) * c + ch] : 0.f;
    });
}

KERNEL avg_pool(const float* xs, float* ys, unsigned n, int h, int w, int c, int oh, int ow, int window, int stride, int padding,
                int count_padding) {
    unsigned at = element();
    if (at >= n) return;
    unsigned pixel = at / c;
    int oi = pixel / ow % oh, oj = pixel % ow, top = oi * stride - padding, left = oj * stride - padding;
    const float* image = xs + (unsigned long long)(pixel / (oh * ow)) * h * w * c;
    float sum = 0.f;
    for (int i = max(top, 0); i < min(top + window, h); i++) {
        for (int j = max(left, 0); j < min(left + window, w); j++) sum += image[(i * w + j) * c + at % c];
    }
    ys[at] = sum * share_of(WINDOWS, oi, oj, count_padding);
}

KERNEL avg_pool_gradient(const float* grad, float* out, unsigned n, int h, int w, int c, int oh, int ow, int window, int stride,
                         int padding, int count_padding) {
    unsigned at = element();
    if (at >= n) return;
    int ch = at % c, j = at / c % w, i = at / c / w % h;
    unsigned long long b = at / c / w / h;
    Windows o = WINDOWS;
    out[at] = sum_over_windows(o, i, j, [&](int oi, int oj) {
        return grad[((b * oh + oi) * ow + oj) * c + ch] * share_of(o, oi, oj, count_padding);
    });
}

// The sums of one image for LANES channels, by ROWS rows of threads: the total, for the threads with threadIdx.y of 0.
template <class F>
__device__ float2 sum_image(F f, unsigned pixels, unsigned c) {
    __shared__ float sums[2][ROWS][LANES + 1];
    unsigned ch = blockIdx.x * LANES + threadIdx.x;
    float2 sum = {0.f, 0.f};
    if (ch < c) {
        for (unsigned pixel = threadIdx.y; pixel < pixels; pixel += ROWS) {
            float2 term = f(((unsigned long long)blockIdx.y * pixels + pixel) * c + ch, ch);
            sum.x += term.x;
            sum.y += term.y;
        }
    }
    sums[0][threadIdx.y][threadIdx.x] = sum.x;
    sums[1][threadIdx.y][threadIdx.x] = sum.y;
    __syncthreads();
    float2 total = {0.f, 0.f};
    if (threadIdx.y == 0) {
        for (unsigned k = 0; k < ROWS; k++) {
            total.x += sums[0][k][threadIdx.x];
            total.y += sums[1][k][threadIdx.x];
        }
    }
    return total;
}

// Blocks of LANES channels by ROWS, one for each image in y.
KERNEL global_average(const float* xs, float* ys, unsigned pixels, unsigned c) {
    float2 total = sum_image(Plain{xs}, pixels, c);
    unsigned ch = blockIdx.x * LANES + threadIdx.x;
    if (threadIdx.y == 0 && ch < c) ys[blockIdx.y * c + ch] = total.x / (float)pixels;
}

KERNEL global_average_gradient(const float* grad, float* out, unsigned n, unsigned pixels, unsigned c) {
    unsigned i = element();
    if (i < n) out[i] = grad[i / c / pixels * c + i % c] / (float)pixels;
}

// ---- Sizes of images ----

KERNEL upsample(const float* xs, float* ys, unsigned n, unsigned h, unsigned w, unsigned c) {
    unsigned i = element();
    if (i >= n) return;
    unsigned ch = i % c, col = i / c % (2 * w), row = i / c / (2 * w) % (2 * h), b = i / c / (2 * w) / (2 * h);
    ys[i] = xs[((unsigned long long)(b * h + row / 2) * w + col / 2) * c + ch];
}

KERNEL upsample_gradient(const float* grad, float* out, unsigned n, unsigned h, unsigned w, unsigned c) {
    unsigned i = element();
    if (i >= n) return;
    unsigned ch = i % c, col = i / c % w, row = i / c / w % h, b = i / c / w / h;
    const float* at = grad + ((unsigned long long)(b * 2 * h + 2 * row) * 2 * w + 2 * col) * c + ch;
    unsigned long long below = (unsigned long long)2 * w * c;
    out[i] = (at[0] + at[c]) + (at[below] + at[below + c]);
}

// (b, h, w, c) in the midst of zeros: one thread for each element of (b, oh, ow, c). Negative margins cut off.
KERNEL pad(const float* xs, float* ys, unsigned n, int h, int w, int c, int oh, int ow, int top, int left) {
    unsigned at = element();
    if (at >= n) return;
    int ch = at % c, j = (int)(at / c % ow) - left, i = (int)(at / c / ow % oh) - top;
    unsigned long long b = at / c / ow / oh;
    bool inside = i >= 0 && i < h && j >= 0 && j < w;
    ys[at] = inside ? xs[((b * h + i) * w + j) * c + ch] : 0.f;
}

// ---- Upsampling by 2 and a 3x3 convolution, as one convolution of the small image with 2x2 kernels ----
//
// Along one axis, with taps k0 k1 k2, y[2i] = k0 x[i-1] + (k1 + k2) x[i] and y[2i+1] = (k0 + k1) x[i] + k2 x[i+1]. Each is a kernel of two
// taps at the position p = i or p = i + 1, where position p sees x[p-1] and x[p] and there is one position more than pixels. All four
// phases of two axes are computed at all positions, as 4 o channels (row phase, column phase, o), and those that are needed are picked.

// What tap k of three contributes to tap `at` of a phase's two.
__device__ __forceinline__ float contribution(unsigned phase, unsigned at, unsigned k) {
    if (phase == 0) return at == 0 ? (k == 0 ? 1.f : 0.f) : (k == 0 ? 0.f : 1.f);
    return at == 0 ? (k == 2 ? 0.f : 1.f) : (k == 2 ? 1.f : 0.f);
}

// Weights (o, c, 3, 3) to (4 o, 2, 2, c).
KERNEL phase_weights(const float* weight, float* out, unsigned n, unsigned o, unsigned c) {
    unsigned i = element();
    if (i >= n) return;
    unsigned in = i % c, col = i / c % 2, row = i / c / 2 % 2, to = i / c / 4 % o, phase = i / c / 4 / o;
    const float* kernel = weight + ((unsigned long long)to * c + in) * 9;
    float sum = 0.f;
    for (unsigned k = 0; k < 9; k++) sum += contribution(phase / 2, row, k / 3) * contribution(phase % 2, col, k % 3) * kernel[k];
    out[i] = sum;
}

// The gradient of (o, c, 3, 3) from that of (4 o, 2, 2, c); one thread for each element of the first.
KERNEL phase_weights_gradient(const float* grad, float* out, unsigned n, unsigned o, unsigned c) {
    unsigned i = element();
    if (i >= n) return;
    unsigned k = i % 9, in = i / 9 % c, to = i / 9 / c;
    float sum = 0.f;
    for (unsigned phase = 0; phase < 4; phase++) {
        for (unsigned at = 0; at < 4; at++) {
            float factor = contribution(phase / 2, at / 2, k / 3) * contribution(phase % 2, at % 2, k % 3);
            if (factor != 0.f) sum += grad[(((unsigned long long)phase * o + to) * 4 + at) * c + in];
        }
    }
    out[i] = sum;
}

// (b, h + 1, w + 1, 4 o) to (b, 2 h, 2 w, o), with a bias where there is one.
KERNEL pick_phases(const float* zs, const float* bias, float* ys, unsigned n, unsigned h, unsigned w, unsigned o) {
    unsigned i = element();
    if (i >= n) return;
    unsigned ch = i % o, col = i / o % (2 * w), row = i / o / (2 * w) % (2 * h), b = i / o / (2 * w) / (2 * h);
    unsigned phase = row % 2 * 2 + col % 2;
    unsigned long long p = ((unsigned long long)b * (h + 1) + row / 2 + row % 2) * (w + 1) + col / 2 + col % 2;
    float y = zs[(p * 4 + phase) * o + ch];
    ys[i] = bias ? y + bias[ch] : y;
}

// The other way round, with zeros where a phase is not needed; one thread for each element of (b, h + 1, w + 1, 4 o).
KERNEL place_phases(const float* ys, float* zs, unsigned n, unsigned h, unsigned w, unsigned o) {
    unsigned i = element();
    if (i >= n) return;
    unsigned ch = i % o, phase = i / o % 4, q = i / o / 4 % (w + 1), p = i / o / 4 / (w + 1) % (h + 1);
    unsigned long long b = i / o / 4 / (w + 1) / (h + 1);
    unsigned row_phase = phase / 2, col_phase = phase % 2;
    bool inside = p >= row_phase && p - row_phase < h && q >= col_phase && q - col_phase < w;
    unsigned row = 2 * (p - row_phase) + row_phase, col = 2 * (q - col_phase) + col_phase;
    zs[i] = inside ? ys[((b * 2 * h + row) * 2 * w + col) * o + ch] : 0.f;
}

// ---- Styles ----

KERNEL modulate(const float* xs, const float* factors, const float* shift, float* ys, unsigned n, unsigned pixels, unsigned c,
                unsigned shift_stride, float slope) {
    unsigned i = element();
    if (i >= n) return;
    unsigned ch = i % c, b = i / c / pixels;
    float z = fmaf(xs[i], factors[b * c + ch], shift[b * shift_stride + ch]);
    ys[i] = z * slope_at(z, slope);
}

KERNEL modulate_gradient(const float* xs, const float* grad, const float* factors, const float* shift, float* out, unsigned n,
                         unsigned pixels, unsigned c, unsigned shift_stride, float slope) {
    unsigned i = element();
    if (i >= n) return;
    unsigned ch = i % c, b = i / c / pixels;
    float s = factors[b * c + ch];
    out[i] = grad[i] * slope_at(fmaf(xs[i], s, shift[b * shift_stride + ch]), slope) * s;
}

struct ModulateProducts {
    const float *xs, *grad, *factors, *shift;
    float slope;
    __device__ float2 operator()(unsigned long long i, unsigned) const {
        float g = grad[i] * slope_at(fmaf(xs[i], *factors, *shift), slope);
        return {g * xs[i], g};
    }
};

// The gradients by the factors and the shift of each image, both (b, c). Blocks of LANES channels by ROWS, one for each image in y.
KERNEL modulate_sums(const float* xs, const float* grad, const float* factors, const float* shift, float* by_factor, float* by_shift,
                     unsigned pixels, unsigned c, unsigned shift_stride, float slope) {
    unsigned ch = min(blockIdx.x * LANES + threadIdx.x, c - 1), at = blockIdx.y * c + ch;
    float2 total = sum_image(ModulateProducts{xs, grad, factors + at, shift + blockIdx.y * shift_stride + ch, slope}, pixels, c);
    if (threadIdx.y == 0 && blockIdx.x * LANES + threadIdx.x < c) {
        by_factor[at] = total.x;
        by_shift[at] = total.y;
    }
}

// The sum of each kernel's squares, (o, c).
KERNEL kernel_energies(const float* weight, float* energies, unsigned n, unsigned taps) {
    unsigned i = element();
    if (i >= n) return;
    float sum = 0.f;
    for (unsigned k = 0; k < taps; k++) sum = fmaf(weight[i * taps + k], weight[i * taps + k], sum);
    energies[i] = sum;
}

KERNEL demodulation(const float* energies, const float* styles, float* ys, unsigned n, unsigned o, unsigned c, float eps) {
    unsigned i = element();
    if (i >= n) return;
    const float *row = energies + i % o * c, *style = styles + i / o * c;
    float sum = 0.f;
    for (unsigned k = 0; k < c; k++) sum = fmaf(style[k] * style[k], row[k], sum);
    ys[i] = 1.f / sqrtf(sum + eps);
}

// The gradient by the sum under the root.
__device__ __forceinline__ float by_sum(float y, float grad) { return -0.5f * y * y * y * grad; }

KERNEL demodulation_by_style(const float* energies, const float* styles, const float* ys, const float* grad, float* out, unsigned n,
                             unsigned o, unsigned c) {
    unsigned i = element();
    if (i >= n) return;
    unsigned b = i / c, in = i % c;
    float sum = 0.f;
    for (unsigned k = 0; k < o; k++) sum = fmaf(by_sum(ys[b * o + k], grad[b * o + k]), energies[k * c + in], sum);
    out[i] = sum * 2.f * styles[i];
}

// One thread for each of the (o, c) kernels.
KERNEL demodulation_by_weight(const float* weight, const float* styles, const float* ys, const float* grad, float* out, unsigned n,
                              unsigned batch, unsigned o, unsigned c, unsigned taps) {
    unsigned i = element();
    if (i >= n) return;
    unsigned to = i / c, in = i % c;
    float sum = 0.f;
    for (unsigned b = 0; b < batch; b++) {
        float style = styles[b * c + in];
        sum = fmaf(by_sum(ys[b * o + to], grad[b * o + to]), style * style, sum);
    }
    for (unsigned k = 0; k < taps; k++) out[i * taps + k] = 2.f * weight[i * taps + k] * sum;
}

// ---- Remapped images ----

// One image's map, as the host writes it.
struct Map {
    float turns, mirrored, shift[2], fill, colour[3][4], hole[4];
};

// Where pixel (i, j) of the result comes from, as row * w + column: -1 for one that came into view, -2 for one that is covered.
__device__ __forceinline__ int source(const Map& map, int i, int j, int h, int w) {
    int top = (int)map.hole[0], left = (int)map.hole[1];
    if (i >= top && i < top + (int)map.hole[2] && j >= left && j < left + (int)map.hole[3]) return -2;
    i -= (int)map.shift[0];
    j -= (int)map.shift[1];
    if (i < 0 || i >= h || j < 0 || j >= w) return -1;
    if (map.mirrored != 0.f) j = w - 1 - j;
    switch ((int)map.turns) {
        case 0: return i * w + j;
        case 1: return j * w + h - 1 - i;
        case 2: return (h - 1 - i) * w + w - 1 - j;
        default: return (w - 1 - j) * w + i;
    }
}

// One thread for each pixel.
KERNEL remap(const float* xs, const float* maps, float* ys, unsigned n, int h, int w, int c) {
    unsigned at = element();
    if (at >= n) return;
    unsigned long long image = at / (h * w), pixel = at % (h * w);
    const Map& map = ((const Map*)maps)[image];
    int from = source(map, pixel / w, pixel % w, h, w);
    for (int to = 0; to < c; to++) {
        float sum = from == -2 ? 0.f : map.colour[to][3];
        for (int k = 0; k < c && from != -2; k++) {
            float x = from == -1 ? map.fill : xs[(image * h * w + from) * c + k];
            sum += map.colour[to][k] * x;
        }
        ys[(unsigned long long)at * c + to] = sum;
    }
}

// One thread for each pixel of the result; `out` is zeros, and every pixel of the source is used at most once.
KERNEL remap_gradient(const float* grad, const float* maps, float* out, unsigned n, int h, int w, int c) {
    unsigned at = element();
    if (at >= n) return;
    unsigned long long image = at / (h * w), pixel = at % (h * w);
    const Map& map = ((const Map*)maps)[image];
    int from = source(map, pixel / w, pixel % w, h, w);
    if (from < 0) return;
    for (int k = 0; k < c; k++) {
        float sum = 0.f;
        for (int to = 0; to < c; to++) sum += grad[(unsigned long long)at * c + to] * map.colour[to][k];
        out[(image * h * w + from) * c + k] = sum;
    }
}

// ---- Rows ----

// The sum over a block of LANES * ROWS threads in one dimension, for all of them. It may be asked for again.
__device__ double sum_block(double x) {
    __shared__ double sums[LANES * ROWS];
    __syncthreads();
    sums[threadIdx.x] = x;
    for (unsigned half = LANES * ROWS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    __syncthreads();
    return sums[0];
}

// Dot products of the rows of `a` with those of `b`, or with one vector where the stride is 0. A block of 256 threads for each row.
KERNEL row_dots(const float* a, const float* b, float* out, unsigned cols, unsigned b_stride) {
    unsigned long long row = blockIdx.x;
    double sum = 0.;
    for (unsigned col = threadIdx.x; col < cols; col += blockDim.x) sum += (double)a[row * cols + col] * (double)b[row * b_stride + col];
    sum = sum_block(sum);
    if (threadIdx.x == 0) out[row] = (float)sum;
}

// Each row times a number of its own.
KERNEL scale_rows(const float* xs, const float* factors, float* ys, unsigned n, unsigned cols) {
    unsigned i = element();
    if (i < n) ys[i] = factors[i / cols] * xs[i];
}

// The sum over rows of products, `sum(a b)`, by one block's threads.
__device__ double dot_of_few(const float* a, const float* b, unsigned n) {
    double sum = 0.;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) sum += (double)a[i] * (double)(b ? b[i] : 1.f);
    return sum_block(sum);
}

// Weights over sigma = sum of u (W v), whose products W v are known.
KERNEL spectral(const float* weight, const float* u, const float* products, float* ys, unsigned rows, unsigned n) {
    double sigma = dot_of_few(u, products, rows);
    unsigned i = element();
    if (i < n) ys[i] = weight[i] * (float)(1. / sigma);
}

// `along` is the dot product of each row of the gradient with the same row of the result.
KERNEL spectral_gradient(const float* grad, const float* u, const float* v, const float* products, const float* along, float* out,
                         unsigned rows, unsigned cols, unsigned n) {
    double sigma = dot_of_few(u, products, rows), sum = dot_of_few(along, nullptr, rows);
    unsigned i = element();
    if (i < n) out[i] = (grad[i] - (float)sum * (u[i / cols] * v[i % cols])) * (float)(1. / sigma);
}

// ---- Losses: one block of 256 threads ----

#define CROSS_ENTROPY 0
#define SOFTMAX_BCE 1
#define BCE 2
#define HINGE 3
#define MEAN 4

// The largest logit of a row, and the sum of exponentials less that.
__device__ double2 softmax_parts(const float* row, unsigned cols) {
    double max = row[0], sum = 0.;
    for (unsigned j = 1; j < cols; j++) max = row[j] > max ? (double)row[j] : max;
    for (unsigned j = 0; j < cols; j++) sum += exp((double)row[j] - max);
    return {max, sum};
}

// The probability given to what was the case: that of the target, or that of not being another; clipped, with the sign and size of
// the loss's slope by the class's own probability in `slope`.
__device__ double clipped(double p, double total, bool is_target, double eps, double* slope) {
    double q = is_target ? p : total - p;
    double c = q < eps ? eps : q > 1. - eps ? 1. - eps : q;
    double inside = q == c ? 1. / c : 0.;
    *slope = is_target ? -inside : inside;
    return c;
}

// A row's loss. Where `grad` is given, its gradients times `factor` are written there.
__device__ double row_loss_of(const float* row, unsigned cols, unsigned kind, float param, unsigned target, float* grad, double factor) {
    double loss = 0., slope, mean = 0.;
    if (kind <= SOFTMAX_BCE) {
        // No class of this number: what training makes of it is to be seen.
        if (target >= cols) return __uint_as_float(0x7fc00000u);
        double2 parts = softmax_parts(row, cols);
        if (kind == CROSS_ENTROPY) {
            for (unsigned j = 0; grad && j < cols; j++) {
                double p = exp((double)row[j] - parts.x) / parts.y;
                grad[j] = (float)((p - (j == target ? 1. : 0.)) * factor);
            }
            return parts.x + log(parts.y) - (double)row[target];
        }
        double total = 0.;
        for (unsigned j = 0; j < cols; j++) total += exp((double)row[j] - parts.x) / parts.y;
        for (unsigned j = 0; j < cols; j++) {
            double p = exp((double)row[j] - parts.x) / parts.y;
            loss -= log(clipped(p, total, j == target, (double)param, &slope));
            mean += slope * p;
        }
        for (unsigned j = 0; grad && j < cols; j++) {
            double p = exp((double)row[j] - parts.x) / parts.y;
            clipped(p, total, j == target, (double)param, &slope);
            grad[j] = (float)(p * (slope - mean) * factor);
        }
        return loss;
    }
    for (unsigned j = 0; j < cols; j++) {
        double z = row[j], term = z, by = 1.;
        if (kind == BCE) {
            by = 1. / (1. + exp(-z)) - (double)param;
            term = (z > 0. ? z : 0.) - z * (double)param + log1p(exp(z > 0. ? -z : z));
            if (z != z) term = z;
        } else if (kind == HINGE) {
            term = 1. - (double)param * z;
            by = term > 0. ? -(double)param : 0.;
            if (term <= 0.) term = 0.;
        }
        loss += term;
        if (grad) grad[j] = (float)(by * factor);
    }
    return loss;
}

KERNEL row_loss(const float* logits, const unsigned* targets, float* loss, unsigned rows, unsigned cols, unsigned kind, float param) {
    double sum = 0.;
    for (unsigned row = threadIdx.x; row < rows; row += blockDim.x) {
        sum += row_loss_of(logits + row * cols, cols, kind, param, targets ? targets[row] : 0, nullptr, 0.);
    }
    sum = sum_block(sum);
    if (threadIdx.x == 0) loss[0] = (float)(sum / (kind == CROSS_ENTROPY ? (double)rows : (double)rows * cols));
}

// One thread for each row.
KERNEL row_loss_gradient(const float* logits, const unsigned* targets, const float* upstream, float* grad, unsigned rows, unsigned cols,
                         unsigned kind, float param) {
    unsigned row = element();
    if (row >= rows) return;
    double factor = (double)upstream[0] / (kind == CROSS_ENTROPY ? (double)rows : (double)rows * cols);
    row_loss_of(logits + row * cols, cols, kind, param, targets ? targets[row] : 0, grad + row * cols, factor);
}

// ---- Optimisers ----
//
// All parameters of an optimiser in one launch: blocks with one number in y share a row of the table, which has the addresses of a
// parameter, of what it is changed by, and of its moments, and the number of elements.

template <unsigned TENSORS, class F>
__device__ void update(const unsigned long long* table, F f) {
    const unsigned long long* row = table + (unsigned long long)blockIdx.y * (TENSORS + 1);
    unsigned n = (unsigned)row[TENSORS];
    for (unsigned i = element(); i < n; i += gridDim.x * blockDim.x) f(row, i);
}

__device__ __forceinline__ float* tensor(const unsigned long long* row, unsigned which) { return (float*)row[which]; }

struct Adam {
    float b1, b2, c1, c2, rate, root, eps;
    __device__ void operator()(const unsigned long long* row, unsigned i) const {
        float g = tensor(row, 1)[i], *m = tensor(row, 2) + i, *v = tensor(row, 3) + i;
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        tensor(row, 0)[i] -= rate * *m / (sqrtf(*v) / root + eps);
    }
};

KERNEL adam(const unsigned long long* table, float b1, float b2, float c1, float c2, float rate, float root, float eps) {
    update<4>(table, Adam{b1, b2, c1, c2, rate, root, eps});
}

// The fourth entry of a row is the decay, which differs between parameters, as the bits of a float.
struct Sgd {
    float lr, momentum;
    unsigned nesterov;
    __device__ void operator()(const unsigned long long* row, unsigned i) const {
        float *param = tensor(row, 0) + i, *velocity = tensor(row, 2) + i, decay = __uint_as_float((unsigned)row[3]);
        float change = lr * (tensor(row, 1)[i] + decay * *param), u = momentum * *velocity - change;
        *velocity = u;
        *param = nesterov ? *param + momentum * u - change : *param + u;
    }
};

KERNEL sgd(const unsigned long long* table, float lr, float momentum, unsigned nesterov) {
    update<4>(table, Sgd{lr, momentum, nesterov});
}

struct Average {
    float kept, share;
    __device__ void operator()(const unsigned long long* row, unsigned i) const {
        float* average = tensor(row, 0) + i;
        *average = kept * *average + share * tensor(row, 1)[i];
    }
};

KERNEL average(const unsigned long long* table, float kept, float share) { update<2>(table, Average{kept, share}); }
