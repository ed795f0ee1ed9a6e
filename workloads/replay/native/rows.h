/* How a row lies in its slot, and how rows are copied in and out while others may do the same.
 *
 * A slot is a word for its state, then the small fields side by side, then the large ones, each from a
 * word's boundary on. All words are moved by relaxed atomic loads and stores, so that copying what is
 * being overwritten is no data race; that it was overwritten shows in the state (a sequence lock, as
 * Boehm describes it in "Can seqlocks get along with programming language memory models?", MSPC 2012).
 */
#ifndef REPLAY_ROWS_H
#define REPLAY_ROWS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define REPLAY_ROWS_FIELDS 128 /* of a row, at most */

typedef _Atomic uint64_t replay_word;
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "atomic words that lock are not shared between processes");

typedef struct replay_field {
    size_t bytes;  /* of one row's value */
    size_t offset; /* after the state */
    int is_packed; /* small, beside others? */
} replay_field;

typedef struct replay_rows {
    int fields;
    replay_field field[REPLAY_ROWS_FIELDS];
    size_t packed_words; /* that small fields take */
    size_t row_words;    /* without the state */
    size_t stride_words; /* from slot to slot */
    replay_word *slots;
} replay_rows;

/* Lays fields out. 0; or -1: none, or too many. */
int replay_rows_describe(replay_rows *rows, const size_t *field_bytes, int fields);

static inline replay_word *replay_rows_slot(const replay_rows *rows, int64_t slot)
{
    return rows->slots + (size_t)slot * rows->stride_words;
}

/* Fetches a slot's first line, or all lines of a small one, before they are needed. */
static inline void replay_rows_prefetch(const replay_rows *rows, int64_t slot, int whole)
{
    const char *line = (const char *)replay_rows_slot(rows, slot);
    size_t bytes = (1 + rows->row_words) * sizeof(replay_word);
    __builtin_prefetch(line);
    for (size_t at = 64; whole && at < bytes && at < 512; at += 64)
        __builtin_prefetch(line + at);
}

/* Copies `n` rows, from row `from` of columns on, into neighbouring slots; row i then has state first_state + 2 i. */
void replay_rows_write(const replay_rows *rows, int64_t slot, int64_t n, const char *const *columns, int64_t from,
                       uint64_t first_state);

/* Copies slots[i] to row to[i] of columns, for i < n. */
void replay_rows_read(const replay_rows *rows, const int64_t *slots, const int64_t *to, int64_t n,
                      char *const *columns);

#endif
