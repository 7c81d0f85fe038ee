// Stands in for the toolkit's header of this name when kernels are compiled for the host. Numbers of 8 bits are declared only, so that
// kernels over many types compile: a kernel that computes with them stops the program.
#pragma once
#include "cuda_fp16.h"
#include <cstdio>
#include <cstdlib>

enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };

[[noreturn]] static inline void simulator_lacks_fp8() {
    std::fprintf(stderr, "simulated CUDA: numbers of 8 bits are not simulated\n");
    std::abort();
}

struct __nv_fp8_e4m3 {
    unsigned char __x;
    __nv_fp8_e4m3() = default;
    template <typename T> explicit __nv_fp8_e4m3(T) { simulator_lacks_fp8(); }
    explicit operator float() const { simulator_lacks_fp8(); }
    template <typename T> __nv_fp8_e4m3 &operator+=(T) { simulator_lacks_fp8(); }
};

static inline __half __nv_cvt_fp8_to_halfraw(unsigned char, __nv_fp8_interpretation_t) { simulator_lacks_fp8(); }
