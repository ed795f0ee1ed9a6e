/* NumPy's random generators, as their capsule named "BitGenerator" gives them (numpy/random/bitgen.h, whose layout is
 * part of NumPy's documented interface). Whoever draws holds the generator's lock. */
#ifndef REPLAY_GENERATOR_H
#define REPLAY_GENERATOR_H

#include <stdint.h>

typedef struct replay_generator {
    void *state;
    uint64_t (*next_uint64)(void *state);
    uint32_t (*next_uint32)(void *state);
    double (*next_double)(void *state);
    uint64_t (*next_raw)(void *state);
} replay_generator;

/* The same numbers as Generator.random(n). */
static inline void replay_uniforms(const replay_generator *generator, double *uniforms, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        uniforms[i] = generator->next_double(generator->state);
}

#endif
