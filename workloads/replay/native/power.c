#include "power.h"

#include <string.h>

/* x = 2^k m, sqrt(1/2) <= m < sqrt(2). With s = (m - 1) / (m + 1): log2 m = 2/ln 2 (s + s^3/3 + s^5/5 + ...).
 * y log2 x = n + f, |f| <= 1/2; 2^f = sum of (f ln 2)^i / i!. Both series end where terms are below 2^-56. */
#define SQRT_HALF_BITS UINT64_C(0x3FE6A09E667F3BCD)
#define EXPONENT_ONE 52
#define LN2 0x1.62e42fefa39efp-1
#define TWO_OVER_LN2 0x1.71547652b82fep+1
#define ROUNDER 0x1.8p+52 /* added, it leaves an integer in the low bits of what it is added to */
#define ROUNDER_BITS UINT64_C(0x4338000000000000)
#define OFFSET UINT64_C(2048) /* keeps k positive while its bits are shifted */
#define BLOCK 64

/* Where instructions are chosen for a function, what it calls must be in it. */
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

INLINE uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE double of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE double log2_of(double x)
{
    /* Numbers below the smallest normal one are 2^54 times as large first. */
    double scale = x < 0x1p-1022 ? 0x1p54 : 1.0, shift = x < 0x1p-1022 ? 54.0 : 0.0;
    uint64_t bits = bits_of(x * scale);
    uint64_t k = ((bits - SQRT_HALF_BITS + (OFFSET << EXPONENT_ONE)) >> EXPONENT_ONE) - OFFSET;
    double m = of_bits(bits - (k << EXPONENT_ONE));
    double whole = (of_bits(ROUNDER_BITS + k) - ROUNDER) - shift;
    double s = (m - 1.0) / (m + 1.0), q = s * s;
    double sum = 1.0 / 21;
    sum = sum * q + 1.0 / 19;
    sum = sum * q + 1.0 / 17;
    sum = sum * q + 1.0 / 15;
    sum = sum * q + 1.0 / 13;
    sum = sum * q + 1.0 / 11;
    sum = sum * q + 1.0 / 9;
    sum = sum * q + 1.0 / 7;
    sum = sum * q + 1.0 / 5;
    sum = sum * q + 1.0 / 3;
    sum = sum * q + 1.0;
    return s * sum * TWO_OVER_LN2 + whole;
}

INLINE double exp2_of(double z)
{
    z = z < -1021.0 ? -1021.0 : z;
    z = z > 1023.0 ? 1023.0 : z;
    double rounded = z + ROUNDER;
    uint64_t n = bits_of(rounded); /* in its low bits */
    double g = (z - (rounded - ROUNDER)) * LN2;
    double sum = 1.0 / 6227020800;
    sum = sum * g + 1.0 / 479001600;
    sum = sum * g + 1.0 / 39916800;
    sum = sum * g + 1.0 / 3628800;
    sum = sum * g + 1.0 / 362880;
    sum = sum * g + 1.0 / 40320;
    sum = sum * g + 1.0 / 5040;
    sum = sum * g + 1.0 / 720;
    sum = sum * g + 1.0 / 120;
    sum = sum * g + 1.0 / 24;
    sum = sum * g + 1.0 / 6;
    sum = sum * g + 0.5;
    sum = sum * g + 1.0;
    sum = sum * g + 1.0;
    return of_bits(bits_of(sum) + (n << EXPONENT_ONE));
}

/* First all logarithms, then all powers of two: so a processor has more numbers on their way side by side, each of whose
 * steps waits for the last one, and takes a third less time. */
INLINE void powers(const double *base, double exponent, double *made, int64_t n)
{
    double some[BLOCK];
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t count = n - at < BLOCK ? n - at : BLOCK;
        for (int64_t i = 0; i < count; i++)
            some[i] = exponent * log2_of(base[at + i]);
        for (int64_t i = 0; i < count; i++) {
            double power = exp2_of(some[i]);
            made[at + i] = base[at + i] > 0 ? power : 0;
        }
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void powers_avx2(const double *base, double exponent, double *made, int64_t n)
{
    powers(base, exponent, made, n);
}
#endif

void replay_power(const double *base, double exponent, double *made, int64_t n)
{
    if (exponent == 0 || exponent == 1) {
        for (int64_t i = 0; i < n; i++)
            made[i] = exponent == 0 ? base[i] > 0 : base[i];
        return;
    }
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2")) {
        powers_avx2(base, exponent, made, n);
        return;
    }
#endif
    powers(base, exponent, made, n);
}
