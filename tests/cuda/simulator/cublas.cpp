// The part of cuBLAS that Candle calls: handles and products of matrices. Matrices are column-major; sums are of `float`, as on the GPU.
#include "include/small_float.h"
#include "simulator.h"
#include <cublas_v2.h>
#include <vector>

struct cublasContext {
    cudaStream_t stream = nullptr;
};

namespace {

struct Matrix {
    const void *data;
    cudaDataType_t type;
    int rows, columns, leading; // as it lies in memory
    long long stride;           // from one matrix of a batch to the next, in elements
    bool transposed;
};

struct Product {
    int m, n, k, batch;
    float alpha, beta;
    Matrix a, b, c;
};

size_t bytes_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF || type == CUDA_R_16F ? 2 : 0; }

float load(const void *data, cudaDataType_t type, size_t index) {
    switch (type) {
    case CUDA_R_32F:
        return static_cast<const float *>(data)[index];
    case CUDA_R_16BF:
        return static_cast<const Bfloat16 *>(data)[index];
    default:
        return static_cast<const Half *>(data)[index];
    }
}

void store(void *data, cudaDataType_t type, size_t index, float value) {
    switch (type) {
    case CUDA_R_32F:
        static_cast<float *>(data)[index] = value;
        break;
    case CUDA_R_16BF:
        static_cast<Bfloat16 *>(data)[index] = value;
        break;
    default:
        static_cast<Half *>(data)[index] = value;
    }
}

cublasStatus_t check(const Matrix &matrix, int batch, const char *name) {
    if (matrix.rows < 0 || matrix.columns < 0 || matrix.leading < (matrix.rows > 1 ? matrix.rows : 1))
        return cublasStatus_t(simulator_refuses(CUBLAS_STATUS_INVALID_VALUE, "cuBLAS: %s is %d x %d with a leading dimension of %d", name, matrix.rows,
                                                matrix.columns, matrix.leading));
    if (bytes_of(matrix.type) == 0)
        return cublasStatus_t(simulator_refuses(CUBLAS_STATUS_NOT_SUPPORTED, "cuBLAS: %s of type %d is not simulated", name, int(matrix.type)));
    if (matrix.rows == 0 || matrix.columns == 0 || batch == 0)
        return CUBLAS_STATUS_SUCCESS;
    size_t elements = size_t(batch - 1) * matrix.stride + size_t(matrix.columns - 1) * matrix.leading + matrix.rows;
    if (!simulator_holds(matrix.data, elements * bytes_of(matrix.type)))
        return cublasStatus_t(simulator_refuses(CUBLAS_STATUS_EXECUTION_FAILED, "cuBLAS: %s reaches beyond its memory", name));
    return CUBLAS_STATUS_SUCCESS;
}

/// One matrix of a batch as `float`, transposed where asked, its columns without gaps.
std::vector<float> unpack(const Matrix &matrix, int number) {
    int rows = matrix.transposed ? matrix.columns : matrix.rows, columns = matrix.transposed ? matrix.rows : matrix.columns;
    std::vector<float> values(size_t(rows) * columns);
    for (int j = 0; j < columns; j++)
        for (int i = 0; i < rows; i++) {
            size_t index = matrix.transposed ? size_t(i) * matrix.leading + j : size_t(j) * matrix.leading + i;
            values[size_t(j) * rows + i] = load(matrix.data, matrix.type, size_t(number) * matrix.stride + index);
        }
    return values;
}

void multiply(const Product &p, int number) {
    std::vector<float> a = unpack(p.a, number), b = unpack(p.b, number), sums(p.m);
    void *c = const_cast<void *>(p.c.data);
    for (int j = 0; j < p.n; j++) {
        sums.assign(p.m, 0.0f);
        for (int l = 0; l < p.k; l++)
            for (int i = 0; i < p.m; i++)
                sums[i] += a[size_t(l) * p.m + i] * b[size_t(j) * p.k + l];
        for (int i = 0; i < p.m; i++) {
            size_t index = size_t(number) * p.c.stride + size_t(j) * p.c.leading + i;
            float before = p.beta == 0 ? 0 : p.beta * load(c, p.c.type, index);
            store(c, p.c.type, index, p.alpha * sums[i] + before);
        }
    }
}

cublasStatus_t run(cublasHandle_t handle, const Product &product) {
    if (handle == nullptr)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (product.m < 0 || product.n < 0 || product.k < 0 || product.batch < 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (product.a.type != product.b.type)
        return cublasStatus_t(simulator_refuses(CUBLAS_STATUS_NOT_SUPPORTED, "cuBLAS: factors of two types"));
    if (cublasStatus_t status = check(product.a, product.batch, "A"))
        return status;
    if (cublasStatus_t status = check(product.b, product.batch, "B"))
        return status;
    if (cublasStatus_t status = check(product.c, product.batch, "C"))
        return status;
    for (int number = 0; number < product.batch; number++)
        multiply(product, number);
    return CUBLAS_STATUS_SUCCESS;
}

Matrix factor(const void *data, cudaDataType_t type, cublasOperation_t operation, int rows, int columns, int leading, long long stride) {
    bool transposed = operation != CUBLAS_OP_N;
    return {data, type, transposed ? columns : rows, transposed ? rows : columns, leading, stride, transposed};
}

bool sums_floats(cublasComputeType_t type) {
    return type == CUBLAS_COMPUTE_32F || type == CUBLAS_COMPUTE_32F_PEDANTIC || type == CUBLAS_COMPUTE_32F_FAST_TF32 ||
           type == CUBLAS_COMPUTE_32F_FAST_16BF || type == CUBLAS_COMPUTE_32F_FAST_16F;
}

} // namespace

extern "C" {

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t *stream) {
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

// Products are exact to `float` whatever the mode.
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *workspace, size_t bytes) {
    if (bytes != 0 && !simulator_holds(workspace, bytes))
        return cublasStatus_t(simulator_refuses(CUBLAS_STATUS_INVALID_VALUE, "cuBLAS: the workspace is not in an allocation"));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t, cublasPointerMode_t mode) {
    return mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS
                                            : cublasStatus_t(simulator_lacks("cuBLAS with factors in device memory", CUBLAS_STATUS_NOT_SUPPORTED));
}

const char *cublasGetStatusName(cublasStatus_t) { return "see cublasStatus_t"; }
const char *cublasGetStatusString(cublasStatus_t) { return "see cublasStatus_t"; }

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType_t type_a, int lda, long long stride_a, const void *b,
                                          cudaDataType_t type_b, int ldb, long long stride_b, const void *beta, void *c, cudaDataType_t type_c,
                                          int ldc, long long stride_c, int batch, cublasComputeType_t compute, cublasGemmAlgo_t) {
    if (!sums_floats(compute))
        return cublasStatus_t(simulator_refuses(CUBLAS_STATUS_NOT_SUPPORTED, "cuBLAS: compute type %d is not simulated", int(compute)));
    Product product{m,
                    n,
                    k,
                    batch,
                    *static_cast<const float *>(alpha),
                    *static_cast<const float *>(beta),
                    factor(a, type_a, op_a, m, k, lda, stride_a),
                    factor(b, type_b, op_b, k, n, ldb, stride_b),
                    factor(c, type_c, CUBLAS_OP_N, m, n, ldc, stride_c)};
    return run(handle, product);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType_t type_a, int lda, const void *b, cudaDataType_t type_b, int ldb, const void *beta, void *c,
                            cudaDataType_t type_c, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c, type_c, ldc, 0, 1, compute,
                                      algorithm);
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k, const float *alpha,
                           const float *a, int lda, const float *b, int ldb, const float *beta, float *c, int ldc) {
    return cublasGemmEx(handle, op_a, op_b, m, n, k, alpha, a, CUDA_R_32F, lda, b, CUDA_R_32F, ldb, beta, c, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F,
                        CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                         const float *alpha, const float *a, int lda, long long stride_a, const float *b, int ldb,
                                         long long stride_b, const float *beta, float *c, int ldc, long long stride_c, int batch) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, CUDA_R_32F, lda, stride_a, b, CUDA_R_32F, ldb, stride_b, beta, c,
                                      CUDA_R_32F, ldc, stride_c, batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

} // extern "C"
