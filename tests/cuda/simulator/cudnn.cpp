// The part of cuDNN that Cellforge calls: convolutions of images, by plain loops over strides, with sums of `double`.
//
// What the real library refuses is refused here too. Every algorithm that is accepted wants a workspace, so that a caller which forgets it
// is found out.
#include "include/small_float.h"
#include "simulator.h"
#include <cstring>
#include <cudnn.h>
#include <initializer_list>

struct cudnnContext {
    cudaStream_t stream = nullptr;
};

// Sizes are (n, c, h, w), or (k, c, r, s) of a filter; strides are in elements and in the same order.
struct cudnnTensorStruct {
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int size[4] = {0, 0, 0, 0};
    long stride[4] = {0, 0, 0, 0};
};

struct cudnnFilterStruct : cudnnTensorStruct {
    cudnnTensorFormat_t format = CUDNN_TENSOR_NCHW;
};

struct cudnnConvolutionStruct {
    int pad[2], step[2], dilation[2];
    cudnnConvolutionMode_t mode;
    cudnnDataType_t compute;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
    int groups = 1;
};

struct cudnnActivationStruct {
    cudnnActivationMode_t mode = CUDNN_ACTIVATION_IDENTITY;
};

namespace {

constexpr size_t WORKSPACE_BYTES = 1024;

template <typename... ARGUMENTS> cudnnStatus_t refuse(cudnnStatus_t status, const char *format, ARGUMENTS... arguments) {
    return cudnnStatus_t(simulator_refuses(status, format, arguments...));
}

size_t bytes_of(cudnnDataType_t type) { return type == CUDNN_DATA_FLOAT ? 4 : type == CUDNN_DATA_BFLOAT16 || type == CUDNN_DATA_HALF ? 2 : 0; }

/// Sets the strides of a tensor without gaps.
cudnnStatus_t pack(cudnnTensorStruct &tensor, cudnnTensorFormat_t format) {
    const int *size = tensor.size;
    long h = size[2], w = size[3], c = size[1];
    if (format == CUDNN_TENSOR_NCHW) {
        long strides[4] = {c * h * w, h * w, w, 1};
        std::memcpy(tensor.stride, strides, sizeof strides);
        return CUDNN_STATUS_SUCCESS;
    }
    if (format == CUDNN_TENSOR_NHWC) {
        long strides[4] = {h * w * c, 1, w * c, c};
        std::memcpy(tensor.stride, strides, sizeof strides);
        return CUDNN_STATUS_SUCCESS;
    }
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: tensor format %d is not simulated", int(format));
}

cudnnStatus_t describe(cudnnTensorStruct &tensor, cudnnDataType_t type, const int *size) {
    if (bytes_of(type) == 0)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: data type %d is not simulated", int(type));
    for (int i = 0; i < 4; i++)
        if (size[i] <= 0)
            return refuse(CUDNN_STATUS_BAD_PARAM, "cuDNN: a tensor of %d x %d x %d x %d", size[0], size[1], size[2], size[3]);
    tensor.type = type;
    std::memcpy(tensor.size, size, sizeof tensor.size);
    return CUDNN_STATUS_SUCCESS;
}

size_t extent_bytes(const cudnnTensorStruct &tensor) {
    size_t last = 0;
    for (int i = 0; i < 4; i++)
        last += size_t(tensor.size[i] - 1) * tensor.stride[i];
    return (last + 1) * bytes_of(tensor.type);
}

/// Whether a tensor is channels-last without gaps. The stride of a dimension of one element does not matter.
bool is_nhwc(const cudnnTensorStruct &tensor) {
    cudnnTensorStruct packed = tensor;
    pack(packed, CUDNN_TENSOR_NHWC);
    for (int i = 0; i < 4; i++)
        if (tensor.size[i] > 1 && tensor.stride[i] != packed.stride[i])
            return false;
    return true;
}

int output_size(const cudnnConvolutionStruct &conv, int input, int taps, int axis) {
    int reach = (taps - 1) * conv.dilation[axis] + 1;
    return (input + 2 * conv.pad[axis] - reach) / conv.step[axis] + 1;
}

/// A convolution from `x` with `w` to `y`, whichever of the three is wanted.
struct Problem {
    const cudnnTensorStruct &x;
    const cudnnFilterStruct &w;
    const cudnnConvolutionStruct &conv;
    const cudnnTensorStruct &y;
};

cudnnStatus_t check_types(const Problem &p) {
    if (p.x.type != p.w.type || p.x.type != p.y.type)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: x, w and y have the types %d, %d and %d", p.x.type, p.w.type, p.y.type);
    if (p.conv.compute != CUDNN_DATA_FLOAT)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: a convolution computed in type %d is not simulated", p.conv.compute);
    if (p.conv.mode != CUDNN_CROSS_CORRELATION || p.conv.groups != 1)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: convolutions with flipped filters or groups are not simulated");
    if (p.w.format == CUDNN_TENSOR_NHWC && !(is_nhwc(p.x) && is_nhwc(p.y)))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: a filter in NHWC needs x and y in NHWC without gaps");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_sizes(const Problem &p) {
    int expected[4] = {p.x.size[0], p.w.size[0], output_size(p.conv, p.x.size[2], p.w.size[2], 0), output_size(p.conv, p.x.size[3], p.w.size[3], 1)};
    if (p.w.size[1] != p.x.size[1])
        return refuse(CUDNN_STATUS_BAD_PARAM, "cuDNN: a filter over %d channels for an x of %d", p.w.size[1], p.x.size[1]);
    if (std::memcmp(expected, p.y.size, sizeof expected) != 0)
        return refuse(CUDNN_STATUS_BAD_PARAM, "cuDNN: y is %d x %d x %d x %d where x and w make %d x %d x %d x %d", p.y.size[0], p.y.size[1],
                      p.y.size[2], p.y.size[3], expected[0], expected[1], expected[2], expected[3]);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check(const Problem &p) {
    cudnnStatus_t status = check_types(p);
    return status != CUDNN_STATUS_SUCCESS ? status : check_sizes(p);
}

/// Algorithms 0 and 1 of each direction are the implicit products, the only ones that the real library has for NHWC.
bool has_algorithm(int algorithm) { return algorithm == 0 || algorithm == 1; }

cudnnStatus_t check_memory(const Problem &p, int algorithm, const void *x, const void *w, const void *y, void *workspace, size_t workspace_bytes) {
    if (!has_algorithm(algorithm))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: algorithm %d is not simulated", algorithm);
    if (workspace_bytes < WORKSPACE_BYTES || !simulator_holds(workspace, workspace_bytes))
        return refuse(CUDNN_STATUS_BAD_PARAM, "cuDNN: a workspace of %zu bytes at %p; %zu are needed", workspace_bytes, workspace, WORKSPACE_BYTES);
    if (!simulator_holds(x, extent_bytes(p.x)) || !simulator_holds(w, extent_bytes(p.w)) || !simulator_holds(y, extent_bytes(p.y)))
        return refuse(CUDNN_STATUS_EXECUTION_FAILED, "cuDNN: x, w or y reaches beyond its memory");
    // The real library leaves what it likes in a workspace.
    std::memset(workspace, 0xFF, workspace_bytes);
    return CUDNN_STATUS_SUCCESS;
}

// ---- The loops ----

template <typename T> struct View {
    const cudnnTensorStruct &tensor;
    T *data;
    T &at(int a, int b, int c, int d) const {
        const long *stride = tensor.stride;
        return data[a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3]];
    }
};

struct Scale {
    double alpha, beta;
    /// With a beta of 0, what was in memory before is not read: it may be NaN.
    template <typename T> void put(T &to, double value) const { to = T(alpha * value + (beta == 0 ? 0.0 : beta * double(to))); }
};

Scale scale(const void *alpha, const void *beta) { return {*static_cast<const float *>(alpha), *static_cast<const float *>(beta)}; }

/// The position in x that tap `tap` of output `out` reads along an axis.
int position(const cudnnConvolutionStruct &conv, int axis, int out, int tap) {
    return out * conv.step[axis] + tap * conv.dilation[axis] - conv.pad[axis];
}

/// Calls `body(a, b, c, d)` for all indices of a tensor.
template <typename F> void each(const cudnnTensorStruct &tensor, F body) {
    for (int a = 0; a < tensor.size[0]; a++)
        for (int b = 0; b < tensor.size[1]; b++)
            for (int c = 0; c < tensor.size[2]; c++)
                for (int d = 0; d < tensor.size[3]; d++)
                    body(a, b, c, d);
}

template <typename T> double forward_at(const Problem &p, View<const T> x, View<const T> w, int n, int k, int oy, int ox) {
    double sum = 0;
    for (int r = 0; r < p.w.size[2]; r++)
        for (int s = 0; s < p.w.size[3]; s++) {
            int iy = position(p.conv, 0, oy, r), ix = position(p.conv, 1, ox, s);
            if (iy < 0 || iy >= p.x.size[2] || ix < 0 || ix >= p.x.size[3])
                continue;
            const T *from = &x.at(n, 0, iy, ix), *tap = &w.at(k, 0, r, s);
            for (int c = 0; c < p.x.size[1]; c++)
                sum += double(from[c * p.x.stride[1]]) * double(tap[c * p.w.stride[1]]);
        }
    return sum;
}

template <typename T> double backward_data_at(const Problem &p, View<const T> w, View<const T> dy, int n, int c, int iy, int ix) {
    double sum = 0;
    for (int r = 0; r < p.w.size[2]; r++)
        for (int s = 0; s < p.w.size[3]; s++) {
            int oy = iy - position(p.conv, 0, 0, r), ox = ix - position(p.conv, 1, 0, s);
            if (oy < 0 || ox < 0 || oy % p.conv.step[0] != 0 || ox % p.conv.step[1] != 0)
                continue;
            oy /= p.conv.step[0];
            ox /= p.conv.step[1];
            if (oy >= p.y.size[2] || ox >= p.y.size[3])
                continue;
            const T *from = &dy.at(n, 0, oy, ox), *tap = &w.at(0, c, r, s);
            for (int k = 0; k < p.y.size[1]; k++)
                sum += double(from[k * p.y.stride[1]]) * double(tap[k * p.w.stride[0]]);
        }
    return sum;
}

template <typename T> double backward_filter_at(const Problem &p, View<const T> x, View<const T> dy, int k, int c, int r, int s) {
    double sum = 0;
    for (int n = 0; n < p.y.size[0]; n++)
        for (int oy = 0; oy < p.y.size[2]; oy++) {
            int iy = position(p.conv, 0, oy, r);
            if (iy < 0 || iy >= p.x.size[2])
                continue;
            for (int ox = 0; ox < p.y.size[3]; ox++) {
                int ix = position(p.conv, 1, ox, s);
                if (ix >= 0 && ix < p.x.size[3])
                    sum += double(x.at(n, c, iy, ix)) * double(dy.at(n, k, oy, ox));
            }
        }
    return sum;
}

enum class Wanted { y, dx, dw };

template <typename T> void compute_as(const Problem &p, Wanted wanted, Scale scale, const void *x, const void *w, const void *y) {
    View<const T> x_view{p.x, static_cast<const T *>(x)}, w_view{p.w, static_cast<const T *>(w)}, y_view{p.y, static_cast<const T *>(y)};
    switch (wanted) {
    case Wanted::y:
        each(p.y, [&](int n, int k, int oy, int ox) { scale.put(const_cast<T &>(y_view.at(n, k, oy, ox)), forward_at(p, x_view, w_view, n, k, oy, ox)); });
        break;
    case Wanted::dx:
        each(p.x, [&](int n, int c, int iy, int ix) { scale.put(const_cast<T &>(x_view.at(n, c, iy, ix)), backward_data_at(p, w_view, y_view, n, c, iy, ix)); });
        break;
    case Wanted::dw:
        each(p.w, [&](int k, int c, int r, int s) { scale.put(const_cast<T &>(w_view.at(k, c, r, s)), backward_filter_at(p, x_view, y_view, k, c, r, s)); });
    }
}

cudnnStatus_t compute(const Problem &p, Wanted wanted, Scale scale, int algorithm, const void *x, const void *w, const void *y, void *workspace,
                      size_t workspace_bytes) {
    cudnnStatus_t status = check(p);
    if (status == CUDNN_STATUS_SUCCESS)
        status = check_memory(p, algorithm, x, w, y, workspace, workspace_bytes);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (p.x.type == CUDNN_DATA_FLOAT)
        compute_as<float>(p, wanted, scale, x, w, y);
    else if (p.x.type == CUDNN_DATA_BFLOAT16)
        compute_as<Bfloat16>(p, wanted, scale, x, w, y);
    else
        compute_as<Half>(p, wanted, scale, x, w, y);
    return CUDNN_STATUS_SUCCESS;
}

template <typename T> void bias_and_activation(const cudnnTensorStruct &y, void *data, double alpha, const void *z, const void *bias, bool relu) {
    View<T> out{y, static_cast<T *>(data)};
    View<const T> added{y, static_cast<const T *>(z)};
    each(y, [&](int n, int k, int h, int w) {
        double value = double(out.at(n, k, h, w)) + double(static_cast<const T *>(bias)[k]);
        if (alpha != 0)
            value += alpha * double(added.at(n, k, h, w));
        out.at(n, k, h, w) = T(relu && value < 0 ? 0.0 : value);
    });
}

// ---- Algorithms ----

/// Lists algorithm 1, then 0, then the others as unsupported, as the real library does with what a problem does not allow.
template <typename PERFORMANCE> cudnnStatus_t list_algorithms(const Problem &p, int all, int requested, int *returned, PERFORMANCE *results) {
    if (cudnnStatus_t status = check(p))
        return status;
    if (requested <= 0)
        return CUDNN_STATUS_BAD_PARAM;
    *returned = requested < all ? requested : all;
    for (int i = 0; i < *returned; i++) {
        int algorithm = i == 0 ? 1 : i == 1 ? 0 : i;
        PERFORMANCE &result = results[i];
        std::memset(&result, 0, sizeof result);
        result.algo = static_cast<decltype(result.algo)>(algorithm);
        result.status = has_algorithm(algorithm) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
        result.time = has_algorithm(algorithm) ? float(i + 1) : -1.0f;
        result.memory = has_algorithm(algorithm) ? WORKSPACE_BYTES : 0;
        result.determinism = algorithm == 1 ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
        result.mathType = p.conv.math;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t workspace_size(const Problem &p, int algorithm, size_t *bytes) {
    if (cudnnStatus_t status = check(p))
        return status;
    *bytes = WORKSPACE_BYTES;
    return has_algorithm(algorithm) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

/// The searches by trial leave garbage in the result that they tried to compute.
cudnnStatus_t spoil(const cudnnTensorStruct &tensor, void *data) {
    if (!simulator_holds(data, extent_bytes(tensor)))
        return refuse(CUDNN_STATUS_BAD_PARAM, "cuDNN: a tensor reaches beyond its memory");
    std::memset(data, 0xFF, extent_bytes(tensor));
    return CUDNN_STATUS_SUCCESS;
}

template <typename T> cudnnStatus_t create(T **descriptor) {
    *descriptor = new T;
    return CUDNN_STATUS_SUCCESS;
}

template <typename T> cudnnStatus_t destroy(T *descriptor) {
    delete descriptor;
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

extern "C" {

// ---- Handles and descriptors ----

size_t cudnnGetVersion() { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion() { return 13000; }

const char *cudnnGetErrorString(cudnnStatus_t status) {
    switch (status) {
    case CUDNN_STATUS_SUCCESS:
        return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_BAD_PARAM:
        return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_NOT_SUPPORTED:
        return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_EXECUTION_FAILED:
        return "CUDNN_STATUS_EXECUTION_FAILED";
    default:
        return "see cudnnStatus_t";
    }
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) { return create(handle); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy(handle); }

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream) {
    *stream = handle->stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *tensor) { return create(tensor); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) { return destroy(tensor); }

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format, cudnnDataType_t type, int n, int c, int h, int w) {
    int size[4] = {n, c, h, w};
    cudnnStatus_t status = describe(*tensor, type, size);
    return status != CUDNN_STATUS_SUCCESS ? status : pack(*tensor, format);
}

cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int n, int c, int h, int w, int n_stride,
                                           int c_stride, int h_stride, int w_stride) {
    int size[4] = {n, c, h, w}, stride[4] = {n_stride, c_stride, h_stride, w_stride};
    return cudnnSetTensorNdDescriptor(tensor, type, 4, size, stride);
}

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int dimensions, const int *size, const int *stride) {
    if (dimensions != 4)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: tensors of %d dimensions are not simulated", dimensions);
    for (int i = 0; i < 4; i++)
        tensor->stride[i] = stride[i];
    return describe(*tensor, type, size);
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *filter) { return create(filter); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) { return destroy(filter); }

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type, cudnnTensorFormat_t format, int k, int c, int r, int s) {
    int size[4] = {k, c, r, s};
    return cudnnSetFilterNdDescriptor(filter, type, format, 4, size);
}

cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type, cudnnTensorFormat_t format, int dimensions,
                                         const int *size) {
    if (dimensions != 4)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: filters of %d dimensions are not simulated", dimensions);
    filter->format = format;
    cudnnStatus_t status = describe(*filter, type, size);
    return status != CUDNN_STATUS_SUCCESS ? status : pack(*filter, format);
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *conv) { return create(conv); }
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t conv) { return destroy(conv); }

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t conv, int pad_h, int pad_w, int step_h, int step_w, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
    int pad[2] = {pad_h, pad_w}, step[2] = {step_h, step_w}, dilation[2] = {dilation_h, dilation_w};
    return cudnnSetConvolutionNdDescriptor(conv, 2, pad, step, dilation, mode, compute);
}

cudnnStatus_t cudnnSetConvolutionNdDescriptor(cudnnConvolutionDescriptor_t conv, int axes, const int *pad, const int *step, const int *dilation,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
    if (axes != 2)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: convolutions along %d axes are not simulated", axes);
    for (int i = 0; i < 2; i++) {
        if (pad[i] < 0 || step[i] <= 0 || dilation[i] <= 0)
            return refuse(CUDNN_STATUS_BAD_PARAM, "cuDNN: a padding of %d, a stride of %d, a dilation of %d", pad[i], step[i], dilation[i]);
        conv->pad[i] = pad[i];
        conv->step[i] = step[i];
        conv->dilation[i] = dilation[i];
    }
    conv->mode = mode;
    conv->compute = compute;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t conv, cudnnMathType_t math) {
    conv->math = math;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t conv, int groups) {
    conv->groups = groups;
    return groups > 0 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnGetConvolution2dForwardOutputDim(const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t x,
                                                    const cudnnFilterDescriptor_t w, int *n, int *k, int *oh, int *ow) {
    *n = x->size[0];
    *k = w->size[0];
    *oh = output_size(*conv, x->size[2], w->size[2], 0);
    *ow = output_size(*conv, x->size[3], w->size[3], 1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateActivationDescriptor(cudnnActivationDescriptor_t *activation) { return create(activation); }
cudnnStatus_t cudnnDestroyActivationDescriptor(cudnnActivationDescriptor_t activation) { return destroy(activation); }

cudnnStatus_t cudnnSetActivationDescriptor(cudnnActivationDescriptor_t activation, cudnnActivationMode_t mode, cudnnNanPropagation_t, double) {
    activation->mode = mode;
    return CUDNN_STATUS_SUCCESS;
}

// ---- Forward ----

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
                                                     const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t y, int requested,
                                                     int *returned, cudnnConvolutionFwdAlgoPerf_t *results) {
    return list_algorithms({*x, *w, *conv, *y}, CUDNN_CONVOLUTION_FWD_ALGO_COUNT, requested, returned, results);
}

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t, const cudnnTensorDescriptor_t x, const void *, const cudnnFilterDescriptor_t w,
                                                     const void *, const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t y,
                                                     void *y_data, int requested, int *returned, cudnnConvolutionFwdAlgoPerf_t *results, void *,
                                                     size_t) {
    cudnnStatus_t status = spoil(*y, y_data);
    return status != CUDNN_STATUS_SUCCESS
               ? status
               : list_algorithms({*x, *w, *conv, *y}, CUDNN_CONVOLUTION_FWD_ALGO_COUNT, requested, returned, results);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
                                                      const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t y,
                                                      cudnnConvolutionFwdAlgo_t algorithm, size_t *bytes) {
    return workspace_size({*x, *w, *conv, *y}, algorithm, bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t, const void *alpha, const cudnnTensorDescriptor_t x, const void *x_data,
                                      const cudnnFilterDescriptor_t w, const void *w_data, const cudnnConvolutionDescriptor_t conv,
                                      cudnnConvolutionFwdAlgo_t algorithm, void *workspace, size_t workspace_bytes, const void *beta,
                                      const cudnnTensorDescriptor_t y, void *y_data) {
    return compute({*x, *w, *conv, *y}, Wanted::y, scale(alpha, beta), algorithm, x_data, w_data, y_data, workspace, workspace_bytes);
}

cudnnStatus_t cudnnConvolutionBiasActivationForward(cudnnHandle_t, const void *alpha1, const cudnnTensorDescriptor_t x, const void *x_data,
                                                    const cudnnFilterDescriptor_t w, const void *w_data, const cudnnConvolutionDescriptor_t conv,
                                                    cudnnConvolutionFwdAlgo_t algorithm, void *workspace, size_t workspace_bytes, const void *alpha2,
                                                    const cudnnTensorDescriptor_t z, const void *z_data, const cudnnTensorDescriptor_t bias,
                                                    const void *bias_data, const cudnnActivationDescriptor_t activation,
                                                    const cudnnTensorDescriptor_t y, void *y_data) {
    bool relu = activation->mode == CUDNN_ACTIVATION_RELU;
    double added = *static_cast<const float *>(alpha2);
    if (!relu && activation->mode != CUDNN_ACTIVATION_IDENTITY)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: activation %d is not simulated", activation->mode);
    if (!relu && algorithm != CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: the identity after a convolution needs the algorithm IMPLICIT_PRECOMP_GEMM");
    if (bias->size[1] != y->size[1] || bias->size[0] * bias->size[2] * bias->size[3] != 1 || !simulator_holds(bias_data, extent_bytes(*bias)))
        return refuse(CUDNN_STATUS_BAD_PARAM, "cuDNN: the bias must be 1 x %d x 1 x 1", y->size[1]);
    if (added != 0 && (z_data == y_data || std::memcmp(z->size, y->size, sizeof z->size) != 0 || std::memcmp(z->stride, y->stride, sizeof z->stride) != 0))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "cuDNN: z in place of y, or with strides of its own, is not simulated");
    cudnnStatus_t status = compute({*x, *w, *conv, *y}, Wanted::y, {*static_cast<const float *>(alpha1), 0}, algorithm, x_data, w_data, y_data,
                                   workspace, workspace_bytes);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (y->type == CUDNN_DATA_FLOAT)
        bias_and_activation<float>(*y, y_data, added, z_data, bias_data, relu);
    else if (y->type == CUDNN_DATA_BFLOAT16)
        bias_and_activation<Bfloat16>(*y, y_data, added, z_data, bias_data, relu);
    else
        bias_and_activation<Half>(*y, y_data, added, z_data, bias_data, relu);
    return CUDNN_STATUS_SUCCESS;
}

// ---- Gradient of the input ----

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
                                                          const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t dx, int requested,
                                                          int *returned, cudnnConvolutionBwdDataAlgoPerf_t *results) {
    return list_algorithms({*dx, *w, *conv, *dy}, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, requested, returned, results);
}

cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(cudnnHandle_t, const cudnnFilterDescriptor_t w, const void *,
                                                          const cudnnTensorDescriptor_t dy, const void *, const cudnnConvolutionDescriptor_t conv,
                                                          const cudnnTensorDescriptor_t dx, void *dx_data, int requested, int *returned,
                                                          cudnnConvolutionBwdDataAlgoPerf_t *results, void *, size_t) {
    cudnnStatus_t status = spoil(*dx, dx_data);
    return status != CUDNN_STATUS_SUCCESS
               ? status
               : list_algorithms({*dx, *w, *conv, *dy}, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, requested, returned, results);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
                                                           const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t dx,
                                                           cudnnConvolutionBwdDataAlgo_t algorithm, size_t *bytes) {
    return workspace_size({*dx, *w, *conv, *dy}, algorithm, bytes);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t, const void *alpha, const cudnnFilterDescriptor_t w, const void *w_data,
                                           const cudnnTensorDescriptor_t dy, const void *dy_data, const cudnnConvolutionDescriptor_t conv,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void *workspace, size_t workspace_bytes, const void *beta,
                                           const cudnnTensorDescriptor_t dx, void *dx_data) {
    return compute({*dx, *w, *conv, *dy}, Wanted::dx, scale(alpha, beta), algorithm, dx_data, w_data, dy_data, workspace, workspace_bytes);
}

// ---- Gradient of the filter ----

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
                                                            const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t dw, int requested,
                                                            int *returned, cudnnConvolutionBwdFilterAlgoPerf_t *results) {
    return list_algorithms({*x, *dw, *conv, *dy}, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, requested, returned, results);
}

cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(cudnnHandle_t, const cudnnTensorDescriptor_t x, const void *,
                                                            const cudnnTensorDescriptor_t dy, const void *, const cudnnConvolutionDescriptor_t conv,
                                                            const cudnnFilterDescriptor_t dw, void *dw_data, int requested, int *returned,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t *results, void *, size_t) {
    cudnnStatus_t status = spoil(*dw, dw_data);
    return status != CUDNN_STATUS_SUCCESS
               ? status
               : list_algorithms({*x, *dw, *conv, *dy}, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, requested, returned, results);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
                                                             const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t dw,
                                                             cudnnConvolutionBwdFilterAlgo_t algorithm, size_t *bytes) {
    return workspace_size({*x, *dw, *conv, *dy}, algorithm, bytes);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t, const void *alpha, const cudnnTensorDescriptor_t x, const void *x_data,
                                             const cudnnTensorDescriptor_t dy, const void *dy_data, const cudnnConvolutionDescriptor_t conv,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm, void *workspace, size_t workspace_bytes, const void *beta,
                                             const cudnnFilterDescriptor_t dw, void *dw_data) {
    return compute({*x, *dw, *conv, *dy}, Wanted::dw, scale(alpha, beta), algorithm, x_data, dw_data, dy_data, workspace, workspace_bytes);
}

} // extern "C"
