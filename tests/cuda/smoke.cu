// Kernels of smoke.rs. They are compiled by NVRTC in the test and by g++ in the simulator.

// Sums `n` numbers; one block of 256 threads.
extern "C" __global__ void smoke_sum(const float *xs, unsigned n, float *sum) {
    __shared__ float partial[256];
    float mine = 0.0f;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) mine += xs[i];
    partial[threadIdx.x] = mine;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *sum = partial[0];
}

// Writes each block's numbers in reverse order, through shared memory whose size the launch gives.
extern "C" __global__ void smoke_reverse(const float *xs, float *ys) {
    extern __shared__ float reversed[];
    unsigned first = blockIdx.x * blockDim.x;
    reversed[blockDim.x - 1 - threadIdx.x] = xs[first + threadIdx.x];
    __syncthreads();
    ys[first + threadIdx.x] = reversed[threadIdx.x];
}

// Sums within each warp by shuffles, then over warps by an atomic addition; `sum` must hold 0.
extern "C" __global__ void smoke_warp_sum(const float *xs, unsigned n, float *sum) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float mine = i < n ? xs[i] : 0.0f;
    for (int lanes = 16; lanes > 0; lanes /= 2) mine += __shfl_xor_sync(0xffffffffu, mine, lanes);
    if (threadIdx.x % 32 == 0) atomicAdd(sum, mine);
}
