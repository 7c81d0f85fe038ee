// Stands in for the toolkit's header of this name when kernels are compiled for the host.
#pragma once
#include "small_float.h"

using __half = Half;
using half = Half;
using __half_raw = Half;
SMALL_FLOAT_FUNCTIONS(Half)
SMALL_FLOAT_PAIR(__half2, Half)
using half2 = __half2;

static inline float __half2float(Half a) { return a; }
static inline Half __float2half(float a) { return a; }
static inline Half __float2half_rn(float a) { return a; }
static inline unsigned short __half_as_ushort(Half a) { return a.bits; }
static inline Half __ushort_as_half(unsigned short a) { return Half::from_bits(a); }
