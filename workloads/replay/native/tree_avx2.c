/* Kernels for x86 with AVX2: a node of 16 floats is two registers. Compiled for every x86 and used where the
 * processor has it; smaller nodes than a register are left to the scalar kernels. */
#include "tree_kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>
#include <math.h>
#include <stddef.h>

#define AVX2 __attribute__((target("avx2")))
#define INLINE AVX2 static inline __attribute__((always_inline))
#define LINE_BYTES 64

/* Calls `f(fan_out, ...)` with the fan-out as a constant, so that loops over a node are unrolled. */
#define FOR_FAN_OUT(fan_out, f, ...)                                                                                   \
    switch (fan_out) {                                                                                                 \
    case 4: f(4, __VA_ARGS__); break;                                                                                  \
    case 8: f(8, __VA_ARGS__); break;                                                                                  \
    case 16: f(16, __VA_ARGS__); break;                                                                                \
    case 32: f(32, __VA_ARGS__); break;                                                                                \
    default: f(64, __VA_ARGS__); break;                                                                                \
    }

INLINE void prefetch_node(const char *node, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += LINE_BYTES)
        _mm_prefetch(node + at, _MM_HINT_T0);
}

/* Positions, as bits, to the child: the first that the mass is below of, or the last positive one. */
INLINE int choice(uint64_t below, uint64_t positive)
{
    if (below)
        return __builtin_ctzll(below);
    return positive ? 63 - __builtin_clzll(positive) : 0;
}

INLINE double rest_of(double mass, double before)
{
    double rest = mass - before;
    return rest > 0 ? rest : 0;
}

/* ---- float: 8 lanes, two blocks of four ---- */

/* What a node is made of: the sum of its children; the least of them; or of leaves, where zero is none. */
enum { SUM, LEAST, LEAST_OF_LEAVES };

INLINE __m256 float_both(int what, __m256 a, __m256 b)
{
    return what == SUM ? _mm256_add_ps(a, b) : _mm256_min_ps(a, b);
}

/* A node's children, folded to eight. */
INLINE __m256 float_fold_to_eight(int fan_out, int what, const float *c)
{
    __m256 v[8];
    int n = fan_out / 8;
    for (int i = 0; i < n; i++) {
        v[i] = _mm256_load_ps(c + 8 * i);
        if (what == LEAST_OF_LEAVES)
            v[i] = _mm256_blendv_ps(v[i], _mm256_set1_ps(INFINITY), _mm256_cmp_ps(v[i], _mm256_setzero_ps(), _CMP_EQ_OQ));
    }
    for (n /= 2; n >= 1; n /= 2)
        for (int i = 0; i < n; i++)
            v[i] = float_both(what, v[i], v[i + n]);
    return v[0];
}

INLINE float float_fold(int fan_out, int what, const float *c)
{
    __m256 v = float_fold_to_eight(fan_out, what, c);
    __m256 s = float_both(what, v, _mm256_permute2f128_ps(v, v, 0x01));
    s = float_both(what, s, _mm256_permute_ps(s, 0x4E));
    return _mm256_cvtss_f32(float_both(what, s, _mm256_permute_ps(s, 0xB1)));
}

/* The same of eight nodes, in lanes 0 to 7: half as many instructions for each, and none waits for another's result. */
INLINE __m256 float_fold_eight(int what, const __m256 *v)
{
    __m256 four[4], two[2];
    for (int i = 0; i < 4; i++) /* nodes i and i + 4, side by side */
        four[i] = float_both(what, _mm256_permute2f128_ps(v[i], v[i + 4], 0x20),
                             _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
    for (int i = 0; i < 2; i++)
        two[i] = float_both(what, _mm256_shuffle_ps(four[2 * i], four[2 * i + 1], 0x44),
                            _mm256_shuffle_ps(four[2 * i], four[2 * i + 1], 0xEE));
    return float_both(what, _mm256_shuffle_ps(two[0], two[1], 0x88), _mm256_shuffle_ps(two[0], two[1], 0xDD));
}

INLINE void float_make_all(int fan_out, int what, const float *children, float *made, const int64_t *nodes, int64_t n)
{
    int64_t j = 0;
    for (; j + 8 <= n; j += 8) {
        _Alignas(32) float folded[8];
        __m256 v[8];
        for (int i = 0; i < 8; i++)
            v[i] = float_fold_to_eight(fan_out, what, children + (nodes ? nodes[j + i] : j + i) * fan_out);
        if (!nodes) {
            _mm256_store_ps(made + j, float_fold_eight(what, v));
            continue;
        }
        _mm256_store_ps(folded, float_fold_eight(what, v));
        for (int i = 0; i < 8; i++)
            made[nodes[j + i]] = folded[i];
    }
    for (; j < n; j++) {
        int64_t node = nodes ? nodes[j] : j;
        made[node] = float_fold(fan_out, what, children + node * fan_out);
    }
}

AVX2 static void float_sum(const void *children, void *sums, int fan_out, const int64_t *nodes, int64_t n)
{
    if (fan_out < 8)
        replay_tree_scalar_float.sum(children, sums, fan_out, nodes, n);
    else
        FOR_FAN_OUT(fan_out, float_make_all, SUM, children, sums, nodes, n)
}

AVX2 static void float_least(const void *children, void *minima, int fan_out, const int64_t *nodes, int64_t n,
                             int of_leaves)
{
    if (fan_out < 8)
        replay_tree_scalar_float.minimum(children, minima, fan_out, nodes, n, of_leaves);
    else if (of_leaves)
        FOR_FAN_OUT(fan_out, float_make_all, LEAST_OF_LEAVES, children, minima, nodes, n)
    else
        FOR_FAN_OUT(fan_out, float_make_all, LEAST, children, minima, nodes, n)
}

/* The largest float that is not above `mass`: then prefix > mass says the same of both. */
INLINE float round_down(double mass)
{
    union {
        float value;
        int32_t bits;
    } f = {(float)mass};
    f.bits -= (double)f.value > mass;
    return f.value;
}

INLINE int float_choose(int fan_out, const float *c, double *mass)
{
    _Alignas(32) float prefix[8 + 64]; /* from 8 on; one zero before */
    const __m256 bound = _mm256_set1_ps(round_down(*mass));
    __m256 carry = _mm256_setzero_ps();
    uint64_t below = 0, positive = 0;
    prefix[7] = 0;
    for (int i = 0; i < fan_out; i += 8) {
        __m256i v = _mm256_load_si256((const __m256i *)(c + i));
        unsigned zeros = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(v, _mm256_setzero_si256())));
        __m256 s = _mm256_add_ps(_mm256_castsi256_ps(v), _mm256_castsi256_ps(_mm256_slli_si256(v, 4)));
        __m256 p = _mm256_add_ps(s, _mm256_castsi256_ps(_mm256_slli_si256(_mm256_castps_si256(s), 8)));
        __m256 wholes = _mm256_permute_ps(p, 0xFF);
        carry = _mm256_add_ps(carry, _mm256_permute2f128_ps(wholes, wholes, 0x08)); /* the first block's, to the second */
        p = _mm256_add_ps(p, carry);
        _mm256_store_ps(prefix + 8 + i, p);
        unsigned above = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(p, bound, _CMP_GT_OQ));
        below |= (uint64_t)(above & ~zeros) << i;
        positive |= (uint64_t)(~zeros & 0xFF) << i;
        carry = _mm256_add_ps(carry, wholes);
        carry = _mm256_permute2f128_ps(carry, carry, 0x11);
    }
    int child = choice(below, positive);
    *mass = rest_of(*mass, (double)prefix[7 + child]);
    return child;
}

INLINE void float_descend_all(int fan_out, const float *children, const float *below, int64_t *nodes, double *masses,
                              int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        int64_t first = nodes[j] * fan_out, child = first + float_choose(fan_out, children + first, &masses[j]);
        nodes[j] = child;
        if (below)
            prefetch_node((const char *)(below + child * fan_out), sizeof(float) * (size_t)fan_out);
    }
}

AVX2 static void float_descend(const void *children, const void *below, int fan_out, int64_t *nodes, double *masses,
                               int64_t n)
{
    if (fan_out < 8)
        replay_tree_scalar_float.descend(children, below, fan_out, nodes, masses, n);
    else
        FOR_FAN_OUT(fan_out, float_descend_all, children, below, nodes, masses, n)
}

/* ---- double: 4 lanes, one block ---- */

INLINE __m256d double_both(int what, __m256d a, __m256d b)
{
    return what == SUM ? _mm256_add_pd(a, b) : _mm256_min_pd(a, b);
}

INLINE double double_fold(int fan_out, int what, const double *c)
{
    __m256d v[16];
    int n = fan_out / 4;
    for (int i = 0; i < n; i++) {
        v[i] = _mm256_load_pd(c + 4 * i);
        if (what == LEAST_OF_LEAVES)
            v[i] = _mm256_blendv_pd(v[i], _mm256_set1_pd((double)INFINITY),
                                    _mm256_cmp_pd(v[i], _mm256_setzero_pd(), _CMP_EQ_OQ));
    }
    for (n /= 2; n >= 1; n /= 2)
        for (int i = 0; i < n; i++)
            v[i] = double_both(what, v[i], v[i + n]);
    __m256d s = double_both(what, v[0], _mm256_permute2f128_pd(v[0], v[0], 0x01));
    return _mm256_cvtsd_f64(double_both(what, s, _mm256_permute_pd(s, 0x5)));
}

INLINE void double_make_all(int fan_out, int what, const double *children, double *made, const int64_t *nodes,
                            int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        int64_t node = nodes ? nodes[j] : j;
        made[node] = double_fold(fan_out, what, children + node * fan_out);
    }
}

AVX2 static void double_sum(const void *children, void *sums, int fan_out, const int64_t *nodes, int64_t n)
{
    if (fan_out < 4)
        replay_tree_scalar_double.sum(children, sums, fan_out, nodes, n);
    else
        FOR_FAN_OUT(fan_out, double_make_all, SUM, children, sums, nodes, n)
}

AVX2 static void double_least(const void *children, void *minima, int fan_out, const int64_t *nodes, int64_t n,
                              int of_leaves)
{
    if (fan_out < 4)
        replay_tree_scalar_double.minimum(children, minima, fan_out, nodes, n, of_leaves);
    else if (of_leaves)
        FOR_FAN_OUT(fan_out, double_make_all, LEAST_OF_LEAVES, children, minima, nodes, n)
    else
        FOR_FAN_OUT(fan_out, double_make_all, LEAST, children, minima, nodes, n)
}

INLINE int double_choose(int fan_out, const double *c, double *mass)
{
    _Alignas(32) double prefix[4 + 64]; /* from 4 on; one zero before */
    const __m256d bound = _mm256_set1_pd(*mass), zero = _mm256_setzero_pd();
    __m256d carry = zero;
    uint64_t below = 0, positive = 0;
    prefix[3] = 0;
    for (int i = 0; i < fan_out; i += 4) {
        __m256d v = _mm256_load_pd(c + i);
        __m256i is_zero = _mm256_cmpeq_epi64(_mm256_castpd_si256(v), _mm256_setzero_si256());
        unsigned zeros = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(is_zero));
        __m256d s = _mm256_add_pd(v, _mm256_blend_pd(_mm256_permute4x64_pd(v, 0x90), zero, 1));
        __m256d block = _mm256_add_pd(s, _mm256_permute2f128_pd(s, s, 0x08));
        __m256d p = _mm256_add_pd(block, carry);
        _mm256_store_pd(prefix + 4 + i, p);
        unsigned above = (unsigned)_mm256_movemask_pd(_mm256_cmp_pd(p, bound, _CMP_GT_OQ));
        below |= (uint64_t)(above & ~zeros) << i;
        positive |= (uint64_t)(~zeros & 0xF) << i;
        carry = _mm256_add_pd(carry, _mm256_permute4x64_pd(block, 0xFF));
    }
    int child = choice(below, positive);
    *mass = rest_of(*mass, prefix[3 + child]);
    return child;
}

INLINE void double_descend_all(int fan_out, const double *children, const double *below, int64_t *nodes,
                               double *masses, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        int64_t first = nodes[j] * fan_out, child = first + double_choose(fan_out, children + first, &masses[j]);
        nodes[j] = child;
        if (below)
            prefetch_node((const char *)(below + child * fan_out), sizeof(double) * (size_t)fan_out);
    }
}

AVX2 static void double_descend(const void *children, const void *below, int fan_out, int64_t *nodes, double *masses,
                                int64_t n)
{
    if (fan_out < 4)
        replay_tree_scalar_double.descend(children, below, fan_out, nodes, masses, n);
    else
        FOR_FAN_OUT(fan_out, double_descend_all, children, below, nodes, masses, n)
}

const replay_tree_kernels replay_tree_avx2_float = {float_sum, float_least, float_descend};
const replay_tree_kernels replay_tree_avx2_double = {double_sum, double_least, double_descend};

int replay_tree_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

#else

const replay_tree_kernels replay_tree_avx2_float = {0, 0, 0}, replay_tree_avx2_double = {0, 0, 0};

int replay_tree_has_avx2(void)
{
    return 0;
}

#endif
