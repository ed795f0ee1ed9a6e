#define _POSIX_C_SOURCE 200809L /* robust mutexes, clocks */
/* Drawing rows, changing their leaves, and copying everything. */
#include <math.h>

#include "ring_memory.h"

/* ---- sampling ---- */

/* Positions in a batch that are tried together, and what they fell on. */
typedef struct draw {
    int64_t n;
    int64_t to[CHUNK];
    double masses[CHUNK];
    int64_t indices[CHUNK];
    double leaves[CHUNK];
    uint64_t states[CHUNK];
} draw;

/* The next positions without a row. Returns where to go on from. */
static int64_t collect(const replay_ring_batch *batch, draw *d)
{
    int64_t at = batch->next;
    for (d->n = 0; at < batch->n && d->n < CHUNK; at++)
        if (batch->generations[at] < 0)
            d->to[d->n++] = at;
    return at;
}

/* Under the lock. 0: nothing can be drawn. */
static int draw_rows(replay_ring *r, replay_ring_batch *batch, draw *d)
{
    double total = replay_tree_total(&r->tree);
    if (!(total > 0))
        return 0;
    for (int64_t j = 0; j < d->n; j++) {
        double u = batch->uniforms[d->to[j]];
        d->masses[j] = (batch->stratified ? ((double)d->to[j] + u) / (double)batch->n : u) * total;
    }
    replay_tree_find(&r->tree, d->masses, d->indices, d->leaves, d->n);
    for (int64_t j = 0; j < d->n; j++)
        replay_rows_prefetch(&r->rows, d->indices[j], 0);
    for (int64_t j = 0; j < d->n; j++)
        d->states[j] = atomic_load_explicit(state_of(r, d->indices[j]), memory_order_acquire);
    if (batch->by_buffer)
        batch->smallest = fmin(batch->smallest, replay_tree_min(&r->tree));
    return 1;
}

/* Without the lock. */
static void copy_rows(replay_ring *r, replay_ring_batch *batch, const draw *d)
{
    for (int64_t j = 0; j < d->n; j++)
        replay_rows_prefetch(&r->rows, d->indices[j], 1);
    replay_rows_read(&r->rows, d->indices, d->to, d->n, batch->columns);
    atomic_thread_fence(memory_order_acquire); /* what was read comes before the states now */
    for (int64_t j = 0; j < d->n; j++) {
        uint64_t state = atomic_load_explicit(state_of(r, d->indices[j]), memory_order_relaxed);
        if (state != d->states[j] || !is_complete(state)) {
            batch->changed++;
            continue;
        }
        batch->indices[d->to[j]] = d->indices[j];
        batch->leaves[d->to[j]] = d->leaves[j];
        batch->generations[d->to[j]] = ticket_of(state);
    }
}

int replay_ring_sample(replay_ring *r, replay_ring_batch *batch, int wait)
{
    draw d;
    while (batch->next < batch->n) {
        int64_t next = collect(batch, &d);
        if (d.n > 0) {
            int result = ring_lock(r, wait);
            if (result)
                return result;
            int is_drawn = draw_rows(r, batch, &d);
            ring_unlock(r);
            if (!is_drawn)
                return REPLAY_RING_EMPTY;
            copy_rows(r, batch, &d);
        }
        batch->next = next;
    }
    return batch->changed ? REPLAY_RING_CHANGED : REPLAY_RING_DONE;
}

/* ---- updating ---- */

void replay_ring_prefetch(const replay_ring *r, const int64_t *indices, int64_t n)
{
    size_t leaf = r->tree.is_double ? sizeof(double) : sizeof(float);
    int has_torn = ring_has_torn(r);
    for (int64_t i = 0; i < n && i < CHUNK; i++) {
        if (has_torn)
            replay_rows_prefetch(&r->rows, indices[i], 0);
        __builtin_prefetch((const char *)r->tree.sums[0] + (size_t)indices[i] * leaf, 1);
    }
}

/* Under the lock: does a standing claim have this ticket? */
static int is_claimed(const replay_ring *r, int64_t ticket)
{
    const memory *m = r->memory;
    for (uint64_t left = m->claimed; left; left &= left - 1) {
        const claimed *claim = &m->claims[__builtin_ctzll(left)];
        if (ticket >= claim->first && ticket - claim->first < claim->rows)
            return 1;
    }
    return 0;
}

/* Under the lock: the ticket of the complete row in a slot, or a negative number. As long as no writer has died, it
 * follows from how many were added and from claims: slots lie all over memory, and a look at each would take most of an
 * update. */
static inline int64_t ticket_in(const replay_ring *r, int64_t slot, lap now, int has_torn, int has_claims)
{
    if (has_torn) {
        uint64_t state = atomic_load_explicit(state_of(r, slot), memory_order_relaxed);
        return is_complete(state) ? ticket_of(state) : -1;
    }
    int64_t ticket = newest_ticket(now, slot);
    return has_claims && is_claimed(r, ticket) ? -1 : ticket;
}

/* Under the lock: takes up changes `from` to `end`, at most CHUNK, of rows that are still those. Returns how many. */
static int64_t update_rows(replay_ring *r, const replay_ring_change *change, int64_t from, int64_t end)
{
    int64_t indices[CHUNK], n = 0, largest = from;
    double values[CHUNK], priority = 0;
    const lap now = lap_of(r, replay_ring_added(r));
    const int has_torn = ring_has_torn(r), has_claims = r->memory->claimed != 0;
    for (int64_t i = from; i < end; i++) {
        int64_t slot = *(const volatile int64_t *)&change->indices[i]; /* read once: it is the caller's array */
        int is_inside = (uint64_t)slot < (uint64_t)r->capacity;
        int64_t ticket = is_inside ? ticket_in(r, slot, now, has_torn, has_claims) : -1;
        int is_kept = ticket >= 0 && (!change->generations || change->generations[i] == ticket);
        indices[n] = slot;
        values[n] = change->leaves[i];
        n += is_kept;
        if (is_kept && change->priorities[i] > priority) {
            priority = change->priorities[i];
            largest = i;
        }
    }
    ring_raise_maximum(r, priority, change->leaves[largest]);
    replay_tree_set(&r->tree, indices, values, n);
    return n;
}

int replay_ring_update(replay_ring *r, replay_ring_change *change, int wait)
{
    while (change->next < change->n) {
        int64_t end = change->next + CHUNK < change->n ? change->next + CHUNK : change->n;
        int result = ring_lock(r, wait);
        if (result)
            return result;
        change->kept += update_rows(r, change, change->next, end);
        ring_unlock(r);
        change->next = end;
    }
    return REPLAY_RING_DONE;
}

/* ---- saving ---- */

int replay_ring_save(replay_ring *r, replay_ring_content *content, int wait)
{
    int result = ring_lock(r, wait);
    if (result)
        return result;
    content->added = replay_ring_added(r);
    content->joined = replay_ring_joined(r);
    content->max_priority = replay_ring_max_priority(r);
    int64_t stored = content->added < r->capacity ? content->added : r->capacity;
    for (int64_t i = 0; i < stored; i++) {
        uint64_t state = atomic_load_explicit(state_of(r, i), memory_order_acquire);
        content->generations[i] = is_complete(state) ? ticket_of(state) : -1;
        content->leaves[i] = replay_tree_get(&r->tree, i);
        if (is_complete(state)) /* and stays so, as long as nobody else has the lock */
            replay_rows_read(&r->rows, &i, &i, 1, content->columns);
    }
    ring_unlock(r);
    return REPLAY_RING_DONE;
}

void replay_ring_restore(replay_ring *r, const replay_ring_content *content)
{
    memory *m = r->memory;
    int64_t stored = content->added < r->capacity ? content->added : r->capacity;
    int64_t indices[CHUNK];
    for (int64_t at = 0; at < stored; at += CHUNK) {
        int64_t n = stored - at < CHUNK ? stored - at : CHUNK;
        for (int64_t j = 0; j < n; j++)
            indices[j] = at + j;
        replay_tree_set(&r->tree, indices, content->leaves + at, n);
    }
    lap now = lap_of(r, content->added);
    for (int64_t i = 0; i < stored; i++) {
        if (content->generations[i] >= 0)
            replay_rows_write(&r->rows, i, 1, (const char *const *)content->columns, i,
                              complete(content->generations[i]));
        if (content->generations[i] != newest_ticket(now, i))
            ring_note_torn(r);
    }
    atomic_store_explicit(&m->added, content->added, memory_order_relaxed);
    atomic_store_explicit(&m->joined, content->joined, memory_order_relaxed);
    atomic_store_explicit(&m->max_priority, content->max_priority, memory_order_relaxed);
    ring_rebuild(r);
}
