/* The scalar kernels of one type. Included by tree_scalar.c with REAL, its name in NAME(x), and INFINITE. */

static inline REAL NAME(fold)(const REAL *c, int fan_out)
{
    REAL s[32];
    int half = fan_out / 2;
    for (int i = 0; i < half; i++)
        s[i] = c[i] + c[i + half];
    while (half > 1) {
        half /= 2;
        for (int i = 0; i < half; i++)
            s[i] += s[i + half];
    }
    return s[0];
}

static void NAME(sum)(const void *children, void *sums, int fan_out, const int64_t *nodes, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        int64_t node = nodes ? nodes[j] : j;
        ((REAL *)sums)[node] = NAME(fold)((const REAL *)children + node * fan_out, fan_out);
    }
}

static void NAME(minimum)(const void *children, void *minima, int fan_out, const int64_t *nodes, int64_t n,
                          int of_leaves)
{
    for (int64_t j = 0; j < n; j++) {
        int64_t node = nodes ? nodes[j] : j;
        const REAL *c = (const REAL *)children + node * fan_out;
        REAL least = INFINITE;
        for (int i = 0; i < fan_out; i++) {
            REAL value = of_leaves && c[i] == 0 ? INFINITE : c[i];
            least = value < least ? value : least;
        }
        ((REAL *)minima)[node] = least;
    }
}

/* The child that `*mass` falls on; what is left of it for that child. */
static inline int NAME(choose)(const REAL *c, int fan_out, double *mass)
{
    int block = fan_out < 4 ? fan_out : 4, last = 0;
    REAL carry = 0, before_last = 0;
    for (int b = 0; b < fan_out; b += block, c += block) {
        REAL p[5] = {carry, c[0] + carry, (c[0] + c[1]) + carry, 0, 0};
        REAL whole = c[0] + c[1];
        if (block == 4) {
            p[3] = ((c[2] + c[1]) + c[0]) + carry;
            whole = (c[3] + c[2]) + (c[1] + c[0]);
            p[4] = whole + carry;
        }
        for (int i = 0; i < block; i++) {
            if (c[i] == 0)
                continue;
            last = b + i;
            before_last = p[i];
            if ((double)p[i + 1] > *mass) {
                double rest = *mass - (double)p[i];
                *mass = rest > 0 ? rest : 0;
                return last;
            }
        }
        carry += whole;
    }
    double rest = *mass - (double)before_last;
    *mass = rest > 0 ? rest : 0;
    return last;
}

static void NAME(descend)(const void *children, const void *below, int fan_out, int64_t *nodes, double *masses,
                          int64_t n)
{
    (void)below;
    for (int64_t j = 0; j < n; j++) {
        int64_t first = nodes[j] * fan_out;
        nodes[j] = first + NAME(choose)((const REAL *)children + first, fan_out, &masses[j]);
    }
}

const replay_tree_kernels NAME(kernels) = {NAME(sum), NAME(minimum), NAME(descend)};
