// Stands in for the toolkit's header of this name when kernels are compiled for the host.
#pragma once
#include "small_float.h"

using __nv_bfloat16 = Bfloat16;
using nv_bfloat16 = Bfloat16;
SMALL_FLOAT_FUNCTIONS(Bfloat16)
SMALL_FLOAT_PAIR(__nv_bfloat162, Bfloat16)

static inline float __bfloat162float(Bfloat16 a) { return a; }
static inline Bfloat16 __float2bfloat16(float a) { return a; }
static inline Bfloat16 __float2bfloat16_rn(float a) { return a; }
static inline Bfloat16 __double2bfloat16(double a) { return a; }
static inline unsigned short __bfloat16_as_ushort(Bfloat16 a) { return a.bits; }
static inline Bfloat16 __ushort_as_bfloat16(unsigned short a) { return Bfloat16::from_bits(a); }
