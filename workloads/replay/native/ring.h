/* Rows in a ring over a sum tree, for several threads and processes: the store of a prioritized replay buffer.
 *
 * All of it lies in memory that its owner provides, shared between processes or not. A row lies in one
 * slot: a word that tells its state, then its fields. The state of a slot is 0 (never written), or
 * 2 * (ticket + 1), plus 1 while the row of that ticket is being written. Tickets count insertions; ticket
 * t is for slot t % capacity, and is the row's generation.
 *
 * One lock guards tickets, claims and tree, but no row is copied under it. A row is written lazily:
 *   1. replay_ring_begin, under the lock: claims tickets, leaves 0, states odd;
 *   2. replay_ring_write, without it: copies rows word by word, states even;
 *   3. replay_ring_finish, under the lock: sets the leaves of slots that still are those, drops the claim.
 * replay_ring_sample draws under the lock, noting index, leaf and state, copies rows without it, and looks
 * at the states again: what has changed is to be drawn anew. A leaf is positive only while the state is even.
 *
 * A thread or process may die anywhere. The lock is a robust mutex: who gets it after its owner died makes
 * the tree's inner nodes anew from the leaves. Each insertion holds one of REPLAY_RING_WRITERS robust
 * mutexes from begin to finish, as a sign of life: a claim whose mutex is free, or whose owner died, is void.
 *
 * Nothing here allocates, or needs Python. Functions that lock take `wait`: 0 tries for some tens of
 * microseconds; else they block for REPLAY_RING_SLICE_MS at most. Both return REPLAY_RING_BUSY if that was
 * not enough, and are then called again; what is done already is not done twice.
 */
#ifndef REPLAY_RING_H
#define REPLAY_RING_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "rows.h"
#include "tree.h"

#define REPLAY_RING_WRITERS 64 /* insertions at a time; more wait */
#define REPLAY_RING_CLAIM 1024 /* rows of one claim, at most, and never more than the capacity */
#define REPLAY_RING_SLICE_MS 50

enum {
    REPLAY_RING_DONE = 0,
    REPLAY_RING_BUSY = 1,    /* call again */
    REPLAY_RING_EMPTY = 2,   /* no leaf is positive */
    REPLAY_RING_CHANGED = 3, /* some rows were overwritten while they were copied */
    REPLAY_RING_BROKEN = -1, /* a mutex failed as it cannot: the memory is damaged */
};

struct replay_ring_memory;

/* Geometry and addresses: each process has its own, it is never in shared memory. */
typedef struct replay_ring {
    int64_t capacity;
    double alpha, eps;
    int first_writer; /* whose mutex this process tries first: best one that others do not */
    struct replay_ring_memory *memory;
    replay_rows rows;
    replay_tree tree;
} replay_ring;

/* Bytes that a ring needs; 0 for a bad geometry. */
size_t replay_ring_bytes(int64_t capacity, const size_t *field_bytes, int fields, int fan_out, int is_double);

/* Lays a ring over `memory`, as it is: zeros, or one that was created. 0; or -1: bad geometry, or not aligned to 64. */
int replay_ring_view(replay_ring *r, void *memory, int64_t capacity, const size_t *field_bytes, int fields,
                     int fan_out, int is_double);

/* Makes an empty ring of zeros, with the exponent of priorities and what is added to them. 0, or an errno. */
int replay_ring_create(replay_ring *r, double alpha, double eps);

/* One more process has the ring, of a number from 1 on; and how many have. */
int64_t replay_ring_join(replay_ring *r);
int64_t replay_ring_joined(const replay_ring *r);

/* The lock itself, for tests that die holding it. */
pthread_mutex_t *replay_ring_lock(const replay_ring *r);

/* In a forked process, of memory that is not shared: forgets other threads, which are not there. 0, or an errno. */
int replay_ring_after_fork(replay_ring *r);

int64_t replay_ring_added(const replay_ring *r);       /* tickets given out */
int64_t replay_ring_repaired(const replay_ring *r);    /* times that the lock's owner had died */
double replay_ring_max_priority(const replay_ring *r); /* the largest raw priority given, at least 1 */

/* (p + eps)^alpha of each, 0 of 0. The first position whose priority is NaN, infinite or negative, or whose leaf is
 * above the tree's limit; or n. */
int64_t replay_ring_leaves(const replay_ring *r, const double *priorities, double *leaves, int64_t n);

/* An insertion. `writer` is -1 before the first call of begin. */
typedef struct replay_ring_claim {
    int64_t first; /* ticket */
    int64_t rows;  /* 1 to min(capacity, REPLAY_RING_CLAIM) */
    int writer;
} replay_ring_claim;

/* Step 1. A slot that a live writer has not finished is waited for. */
int replay_ring_begin(replay_ring *r, replay_ring_claim *claim, int wait);
/* In place of calling begin again. */
void replay_ring_abandon(replay_ring *r, replay_ring_claim *claim);
/* Step 2: rows `from` and on of columns, each (N, bytes) and contiguous. */
void replay_ring_write(replay_ring *r, const replay_ring_claim *claim, const char *const *columns, int64_t from);
/* Step 3, with a raw priority and leaf for each, or NULL for the running maximum. Call it until it is done. */
int replay_ring_finish(replay_ring *r, replay_ring_claim *claim, const double *priorities, const double *leaves,
                       int wait);

/* A batch being drawn. Before: every generation -1; `next` and `changed` 0; `smallest` infinite. */
typedef struct replay_ring_batch {
    int64_t n;
    const double *uniforms; /* in [0, 1) */
    int stratified;
    int by_buffer; /* is `smallest` wanted? */
    char *const *columns; /* (n, bytes) each */
    int64_t *indices;
    int64_t *generations;
    double *leaves;
    double smallest; /* the smallest positive leaf of the ring, in any of the draws */
    int64_t next;    /* rows before this were tried */
    int64_t changed; /* rows overwritten meanwhile: their generation is still -1 */
} replay_ring_batch;

/* Draws rows with generation -1, from `next` on. CHANGED: give those uniforms anew, set `next` and `changed` to 0, and
 * call again. */
int replay_ring_sample(replay_ring *r, replay_ring_batch *batch, int wait);

/* New leaves for rows. Before: `next` and `kept` 0. */
typedef struct replay_ring_change {
    int64_t n;
    const int64_t *indices;     /* of what is stored */
    const int64_t *generations; /* of rows that are meant, or NULL: whatever is there */
    const double *priorities;   /* raw */
    const double *leaves;
    int64_t next; /* rows before this were tried */
    int64_t kept; /* rows that were those, and complete */
} replay_ring_change;

/* Fetches what an update of these rows begins with, while the caller does something else: they may be out of cache. */
void replay_ring_prefetch(const replay_ring *r, const int64_t *indices, int64_t n);

int replay_ring_update(replay_ring *r, replay_ring_change *change, int wait);

/* Everything of one moment, with room for `capacity` rows. */
typedef struct replay_ring_content {
    char **columns;
    int64_t *generations; /* -1: no complete row */
    double *leaves;
    int64_t added;
    int64_t joined;
    double max_priority;
} replay_ring_content;

/* Copies the ring, under the lock. */
int replay_ring_save(replay_ring *r, replay_ring_content *content, int wait);
/* Fills a ring that was just created, before anybody else has it. */
void replay_ring_restore(replay_ring *r, const replay_ring_content *content);

#endif
