// Floating point numbers of 16 bits, computed with as `float` and rounded to nearest even after every operation, as the GPU does.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

template <int MANTISSA> struct SmallFloat {
    static constexpr int BIAS = (1 << (14 - MANTISSA)) - 1;
    static constexpr uint16_t INFINITE = 0x7FFF >> MANTISSA << MANTISSA;

    uint16_t bits;

    SmallFloat() = default;
    template <typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>> SmallFloat(T value) : bits(encode(double(value))) {}
    operator float() const { return decode(bits); }

    static SmallFloat from_bits(uint16_t bits) {
        SmallFloat value;
        value.bits = bits;
        return value;
    }

    static uint16_t encode(double value) {
        uint16_t sign = std::signbit(value) ? 0x8000 : 0;
        if (std::isnan(value))
            return 0x7FFF;
        if (value == 0)
            return sign;
        int exponent = 0;
        std::frexp(value, &exponent);
        exponent = std::isinf(value) ? BIAS + 1 : std::fmax(exponent - 1, 1 - BIAS);
        if (exponent > BIAS)
            return sign | INFINITE;
        // The mantissa as an integer; where it rounds up to the next power of two, the addition carries into the exponent.
        int mantissa = int(std::nearbyint(std::ldexp(std::fabs(value), MANTISSA - exponent)));
        return sign | uint16_t(((exponent + BIAS - 1) << MANTISSA) + mantissa);
    }

    static float decode(uint16_t bits) {
        if (MANTISSA == 7) { // bf16 is the upper half of a float.
            uint32_t wide = uint32_t(bits) << 16;
            float value;
            std::memcpy(&value, &wide, sizeof value);
            return value;
        }
        int exponent = (bits & 0x7FFF) >> MANTISSA;
        int mantissa = bits & ((1 << MANTISSA) - 1);
        float value;
        if ((bits & INFINITE) == INFINITE)
            value = mantissa == 0 ? INFINITY : NAN;
        else if (exponent == 0)
            value = std::ldexp(float(mantissa), 1 - BIAS - MANTISSA);
        else
            value = std::ldexp(float(mantissa + (1 << MANTISSA)), exponent - BIAS - MANTISSA);
        return bits & 0x8000 ? -value : value;
    }

    SmallFloat operator-() const { return from_bits(bits ^ 0x8000); }
    friend SmallFloat operator+(SmallFloat a, SmallFloat b) { return float(a) + float(b); }
    friend SmallFloat operator-(SmallFloat a, SmallFloat b) { return float(a) - float(b); }
    friend SmallFloat operator*(SmallFloat a, SmallFloat b) { return float(a) * float(b); }
    friend SmallFloat operator/(SmallFloat a, SmallFloat b) { return float(a) / float(b); }
    friend bool operator==(SmallFloat a, SmallFloat b) { return float(a) == float(b); }
    friend bool operator!=(SmallFloat a, SmallFloat b) { return float(a) != float(b); }
    friend bool operator<(SmallFloat a, SmallFloat b) { return float(a) < float(b); }
    friend bool operator<=(SmallFloat a, SmallFloat b) { return float(a) <= float(b); }
    friend bool operator>(SmallFloat a, SmallFloat b) { return float(a) > float(b); }
    friend bool operator>=(SmallFloat a, SmallFloat b) { return float(a) >= float(b); }
    SmallFloat &operator+=(SmallFloat other) { return *this = *this + other; }
    SmallFloat &operator-=(SmallFloat other) { return *this = *this - other; }
    SmallFloat &operator*=(SmallFloat other) { return *this = *this * other; }
    SmallFloat &operator/=(SmallFloat other) { return *this = *this / other; }
};

// Rounding twice, to `double` first where an integer is wide, is the one inexactness here: integers beyond 2^53.
using Half = SmallFloat<10>;
using Bfloat16 = SmallFloat<7>;

#define SMALL_FLOAT_FUNCTIONS(TYPE)                                                                                                                  \
    static inline bool __hisnan(TYPE a) { return std::isnan(float(a)); }                                                                             \
    static inline bool isnan(TYPE a) { return std::isnan(float(a)); }                                                                                \
    static inline TYPE __hneg(TYPE a) { return -a; }                                                                                                 \
    static inline TYPE __habs(TYPE a) { return TYPE::from_bits(a.bits & 0x7FFF); }                                                                   \
    static inline TYPE __hadd(TYPE a, TYPE b) { return a + b; }                                                                                      \
    static inline TYPE __hsub(TYPE a, TYPE b) { return a - b; }                                                                                      \
    static inline TYPE __hmul(TYPE a, TYPE b) { return a * b; }                                                                                      \
    static inline TYPE __hdiv(TYPE a, TYPE b) { return a / b; }                                                                                      \
    static inline TYPE __hfma(TYPE a, TYPE b, TYPE c) { return std::fma(double(float(a)), double(float(b)), double(float(c))); }                     \
    static inline TYPE __hmax(TYPE a, TYPE b) { return std::fmax(float(a), float(b)); }                                                              \
    static inline TYPE __hmin(TYPE a, TYPE b) { return std::fmin(float(a), float(b)); }                                                              \
    static inline TYPE __hmax_nan(TYPE a, TYPE b) { return isnan(a) || isnan(b) ? TYPE(NAN) : __hmax(a, b); }                                        \
    static inline TYPE __hmin_nan(TYPE a, TYPE b) { return isnan(a) || isnan(b) ? TYPE(NAN) : __hmin(a, b); }                                        \
    static inline TYPE hsqrt(TYPE a) { return std::sqrt(float(a)); }                                                                                 \
    static inline TYPE hrsqrt(TYPE a) { return 1.0f / std::sqrt(float(a)); }                                                                         \
    static inline TYPE hcos(TYPE a) { return std::cos(float(a)); }                                                                                   \
    static inline TYPE hsin(TYPE a) { return std::sin(float(a)); }                                                                                   \
    static inline TYPE hlog(TYPE a) { return std::log(float(a)); }                                                                                   \
    static inline TYPE hexp(TYPE a) { return std::exp(float(a)); }

#define SMALL_FLOAT_PAIR(PAIR, TYPE)                                                                                                                 \
    struct alignas(4) PAIR {                                                                                                                         \
        TYPE x, y;                                                                                                                                   \
    };                                                                                                                                               \
    static inline PAIR __hadd2(PAIR a, PAIR b) { return {a.x + b.x, a.y + b.y}; }                                                                    \
    static inline PAIR __hsub2(PAIR a, PAIR b) { return {a.x - b.x, a.y - b.y}; }                                                                    \
    static inline PAIR __hmul2(PAIR a, PAIR b) { return {a.x * b.x, a.y * b.y}; }                                                                    \
    static inline PAIR __h2div(PAIR a, PAIR b) { return {a.x / b.x, a.y / b.y}; }
