/* Powers of priorities that are the same bits everywhere: made of additions, multiplications, one division and
 * shifts of bits, in one order, so that a compiler or NumPy can do many at once and none may round differently.
 * A C library's pow may differ in its last bit from another's, and from NumPy's.
 */
#ifndef REPLAY_POWER_H
#define REPLAY_POWER_H

#include <stdint.h>

/* made[i] = base[i]^exponent, of finite bases from 0 on and a finite exponent from 0 on. Zero stays zero even where
 * the exponent is 0. Exponents 0 and 1 are exact; otherwise the relative error is below (2 + |log2 made[i]|) * 2^-52.
 * What would be outside of 2^-1021 to 2^1023 is a number near that bound. `made` may be `base`. */
void replay_power(const double *base, double exponent, double *made, int64_t n);

#endif
