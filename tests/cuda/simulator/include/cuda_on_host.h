// What CUDA C++ has beyond C++, for g++: included before a kernel source. `__global__` and `__shared__` are left as they are; rewrite.awk
// replaces them in the preprocessed text.
#pragma once
#include "../simulator.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_fp8.h"
#include <cuda/std/limits>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <math.h>
#include <stdint.h>
#include <type_traits>

#define __CUDA_ARCH__ 900
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

// The position of a thread; fibers.cpp keeps it.
using uint3 = Coordinates;
using dim3 = Coordinates;
extern Coordinates threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

extern "C" {
void simulator_block_barrier(int line);
void simulator_warp_barrier(int line);
unsigned simulator_thread();
extern unsigned char simulator_dynamic_shared[];
}

#define __syncthreads() simulator_block_barrier(__LINE__)
#define __syncwarp(...) simulator_warp_barrier(__LINE__)
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// Vectors. Their alignment is the device's: an access that is not aligned stops the program, as it stops the GPU.
#define SIMULATOR_VECTOR(TYPE, NAME, ALIGNMENT_2, ALIGNMENT_4)                                                                                       \
    struct NAME##1 {                                                                                                                                 \
        TYPE x;                                                                                                                                      \
    };                                                                                                                                               \
    struct alignas(ALIGNMENT_2) NAME##2 {                                                                                                            \
        TYPE x, y;                                                                                                                                   \
    };                                                                                                                                               \
    struct alignas(ALIGNMENT_4) NAME##4 {                                                                                                            \
        TYPE x, y, z, w;                                                                                                                             \
    };                                                                                                                                               \
    static inline NAME##2 make_##NAME##2(TYPE x, TYPE y) { return {x, y}; }                                                                          \
    static inline NAME##4 make_##NAME##4(TYPE x, TYPE y, TYPE z, TYPE w) { return {x, y, z, w}; }
SIMULATOR_VECTOR(float, float, 8, 16)
SIMULATOR_VECTOR(int, int, 8, 16)
SIMULATOR_VECTOR(unsigned, uint, 8, 16)
SIMULATOR_VECTOR(double, double, 16, 16)
SIMULATOR_VECTOR(unsigned char, uchar, 2, 4)
SIMULATOR_VECTOR(unsigned short, ushort, 4, 8)

// `min` and `max` take operands of two types, and ignore a NaN where the other operand is a number.
template <typename A, typename B> static inline std::common_type_t<A, B> min(A a, B b) {
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>)
        return std::fmin(C(a), C(b));
    else
        return C(b) < C(a) ? C(b) : C(a);
}
template <typename A, typename B> static inline std::common_type_t<A, B> max(A a, B b) {
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>)
        return std::fmax(C(a), C(b));
    else
        return C(a) < C(b) ? C(b) : C(a);
}

// Mathematics. The fast forms are the exact ones here.
static inline float rsqrtf(float a) { return 1.0f / std::sqrt(a); }
static inline double rsqrt(double a) { return 1.0 / std::sqrt(a); }
static inline float normcdff(float a) { return 0.5f * std::erfc(-a * 0.70710678f); }
static inline double normcdf(double a) { return 0.5 * std::erfc(-a * 0.70710678118654752); }
static inline float __saturatef(float a) { return std::fmin(std::fmax(a, 0.0f), 1.0f); }
static inline float simulator_expf(float a) { return std::exp(a); }
static inline float simulator_logf(float a) { return std::log(a); }
static inline float simulator_powf(float a, float b) { return std::pow(a, b); }
static inline float simulator_sinf(float a) { return std::sin(a); }
static inline float simulator_cosf(float a) { return std::cos(a); }
// The host's mathematics library has hidden functions of some of these names, so they cannot be declared again.
#define __expf simulator_expf
#define __logf simulator_logf
#define __powf simulator_powf
#define __sinf simulator_sinf
#define __cosf simulator_cosf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline float __frsqrt_rn(float a) { return 1.0f / std::sqrt(a); }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }

// Conversions. Those to integers clamp as the GPU does, where C++ leaves the result open.
template <typename TO, typename FROM> static inline TO simulator_bits(FROM from) {
    static_assert(sizeof(TO) == sizeof(FROM), "bits are reinterpreted between types of one size");
    TO to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
template <typename TO> static inline TO simulator_clamp(double value) {
    if (std::isnan(value))
        return 0;
    if (value <= double(std::numeric_limits<TO>::min()))
        return std::numeric_limits<TO>::min();
    if (value >= double(std::numeric_limits<TO>::max()))
        return std::numeric_limits<TO>::max();
    return TO(value);
}
static inline unsigned __float_as_uint(float a) { return simulator_bits<unsigned>(a); }
static inline int __float_as_int(float a) { return simulator_bits<int>(a); }
static inline float __uint_as_float(unsigned a) { return simulator_bits<float>(a); }
static inline float __int_as_float(int a) { return simulator_bits<float>(a); }
static inline long long __double_as_longlong(double a) { return simulator_bits<long long>(a); }
static inline double __longlong_as_double(long long a) { return simulator_bits<double>(a); }
static inline int __float2int_rn(float a) { return simulator_clamp<int>(std::nearbyint(a)); }
static inline int __float2int_rz(float a) { return simulator_clamp<int>(a); }
static inline int __float2int_rd(float a) { return simulator_clamp<int>(std::floor(a)); }
static inline int __float2int_ru(float a) { return simulator_clamp<int>(std::ceil(a)); }
static inline unsigned __float2uint_rn(float a) { return simulator_clamp<unsigned>(std::nearbyint(a)); }
static inline unsigned __float2uint_rz(float a) { return simulator_clamp<unsigned>(a); }
static inline float __int2float_rn(int a) { return float(a); }
static inline float __uint2float_rn(unsigned a) { return float(a); }

// Integers.
static inline int __popc(unsigned a) { return __builtin_popcount(a); }
static inline int __clz(int a) { return a == 0 ? 32 : __builtin_clz(unsigned(a)); }
static inline int __ffs(int a) { return __builtin_ffs(a); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
static inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
template <typename T> static inline T __ldg(const T *pointer) { return *pointer; }

// Atomic operations: one thread runs at a time, so these are plain ones. Each returns the old value.
template <typename T, typename F> static inline T simulator_update(T *address, F function) {
    T old = *address;
    *address = function(old);
    return old;
}
template <typename T> using SimulatorSame = typename std::common_type<T>::type;
#define SIMULATOR_ATOMIC(NAME, EXPRESSION)                                                                                                           \
    template <typename T> static inline T NAME(T *address, SimulatorSame<T> value) {                                                                 \
        return simulator_update(address, [=](T old) -> T { return EXPRESSION; });                                                                    \
    }
SIMULATOR_ATOMIC(atomicAdd, old + value)
SIMULATOR_ATOMIC(atomicSub, old - value)
SIMULATOR_ATOMIC(atomicExch, value)
SIMULATOR_ATOMIC(atomicMin, value < old ? value : old)
SIMULATOR_ATOMIC(atomicMax, old < value ? value : old)
SIMULATOR_ATOMIC(atomicAnd, old &value)
SIMULATOR_ATOMIC(atomicOr, old | value)
SIMULATOR_ATOMIC(atomicXor, old ^ value)
template <typename T> static inline T atomicCAS(T *address, SimulatorSame<T> expected, SimulatorSame<T> value) {
    return simulator_update(address, [=](T old) -> T { return old == expected ? value : old; });
}

// Shuffles: all lanes of a warp write a value, and then read that of another lane. A lane that does not exist gives the own value.
template <typename T> static inline T simulator_shuffle(int line, T value, unsigned lane) {
    static T exchanged[1024];
    unsigned thread = simulator_thread(), from = thread / 32 * 32 + lane;
    exchanged[thread] = value;
    simulator_warp_barrier(line);
    T received = lane < 32 && from < blockDim.x * blockDim.y * blockDim.z ? exchanged[from] : value;
    simulator_warp_barrier(line);
    return received;
}
static inline unsigned simulator_lane() { return simulator_thread() % 32; }
#define __shfl_sync(mask, value, lane, ...) simulator_shuffle(__LINE__, value, unsigned(lane))
#define __shfl_xor_sync(mask, value, lanes, ...) simulator_shuffle(__LINE__, value, simulator_lane() ^ unsigned(lanes))
#define __shfl_down_sync(mask, value, delta, ...) simulator_shuffle(__LINE__, value, simulator_lane() + unsigned(delta))
#define __shfl_up_sync(mask, value, delta, ...) simulator_shuffle(__LINE__, value, simulator_lane() - unsigned(delta))

// Here rewrite.awk opens a namespace without a name: nothing of a kernel source meets what another one calls by the same name. Headers of the
// host must therefore be included above.
#pragma simulator source
