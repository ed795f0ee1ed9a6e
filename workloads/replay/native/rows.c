#include "rows.h"

#include <string.h>

#define WORD sizeof(uint64_t)
#define LINE_WORDS 8
#define SMALL_BYTES 64   /* fields below this are packed, as moving them word by word would waste much */
#define PACKED_BYTES 512 /* together at most */
#define STAGED 16        /* rows whose small fields are put together at a time: a word just written is read late */

/* The small fields of some rows, put together. */
typedef struct stage {
    replay_word *slots[STAGED];
    _Alignas(64) unsigned char bytes[STAGED][PACKED_BYTES];
} stage;

static size_t words(size_t bytes)
{
    return (bytes + WORD - 1) / WORD;
}

int replay_rows_describe(replay_rows *rows, const size_t *field_bytes, int fields)
{
    if (fields < 1 || fields > REPLAY_ROWS_FIELDS)
        return -1;
    memset(rows, 0, sizeof *rows);
    rows->fields = fields;
    size_t packed = 0;
    for (int f = 0; f < fields; f++) {
        replay_field *field = &rows->field[f];
        field->bytes = field_bytes[f];
        field->is_packed = field->bytes < SMALL_BYTES && packed + field->bytes <= PACKED_BYTES;
        if (field->is_packed) {
            field->offset = packed;
            packed += field->bytes;
        }
    }
    rows->row_words = rows->packed_words = words(packed);
    for (int f = 0; f < fields; f++)
        if (!rows->field[f].is_packed) {
            rows->field[f].offset = rows->row_words * WORD;
            rows->row_words += words(rows->field[f].bytes);
        }
    size_t slot = 1 + rows->row_words, lines = (slot + LINE_WORDS - 1) / LINE_WORDS * LINE_WORDS;
    rows->stride_words = 8 * (lines - slot) <= slot ? lines : slot; /* whole lines, where that costs an eighth at most */
    return 0;
}

/* Up to SMALL_BYTES, as two or four moves that may overlap: a call of memcpy would take longer than they do. */
static inline void copy_small(unsigned char *to, const unsigned char *from, size_t n)
{
    if (n >= 32) {
        memcpy(to, from, 16);
        memcpy(to + 16, from + 16, 16);
        memcpy(to + n - 32, from + n - 32, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 16) {
        memcpy(to, from, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 8) {
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

static inline void store_words(replay_word *to, const void *from, size_t bytes)
{
    size_t whole = bytes / WORD;
    uint64_t word;
#pragma GCC unroll 4
    for (size_t w = 0; w < whole; w++) {
        memcpy(&word, (const char *)from + w * WORD, WORD);
        atomic_store_explicit(&to[w], word, memory_order_relaxed);
    }
    if (bytes % WORD) {
        word = 0;
        memcpy(&word, (const char *)from + whole * WORD, bytes % WORD);
        atomic_store_explicit(&to[whole], word, memory_order_relaxed);
    }
}

static inline void load_words(void *to, const replay_word *from, size_t bytes)
{
    size_t whole = bytes / WORD;
    uint64_t word;
#pragma GCC unroll 4
    for (size_t w = 0; w < whole; w++) {
        word = atomic_load_explicit(&from[w], memory_order_relaxed);
        memcpy((char *)to + w * WORD, &word, WORD);
    }
    if (bytes % WORD) {
        word = atomic_load_explicit(&from[whole], memory_order_relaxed);
        memcpy((char *)to + whole * WORD, &word, bytes % WORD);
    }
}

static void write_field(const stage *of, const replay_field *field, const char *values, int64_t n)
{
    for (int64_t j = 0; j < n; j++, values += field->bytes)
        store_words(of->slots[j] + 1 + field->offset / WORD, values, field->bytes);
}

static void stage_field(stage *of, const replay_field *field, const char *values, int64_t n)
{
    const size_t bytes = field->bytes, offset = field->offset;
    for (int64_t j = 0; j < n; j++)
        copy_small(of->bytes[j] + offset, (const unsigned char *)values + (size_t)j * bytes, bytes);
}

void replay_rows_write(const replay_rows *rows, int64_t slot, int64_t n, const char *const *columns, int64_t from,
                       uint64_t first_state)
{
    stage staged;
    for (int64_t at = 0; at < n; at += STAGED) {
        int64_t count = n - at < STAGED ? n - at : STAGED;
        for (int64_t j = 0; j < count; j++) {
            staged.slots[j] = replay_rows_slot(rows, slot + at + j);
            if (rows->packed_words > 0) /* what the fields leave of it */
                memset(staged.bytes[j] + (rows->packed_words - 1) * WORD, 0, WORD);
        }
        for (int f = 0; f < rows->fields; f++) {
            const replay_field *field = &rows->field[f];
            const char *values = columns[f] + (size_t)(from + at) * field->bytes;
            if (field->is_packed)
                stage_field(&staged, field, values, count);
            else
                write_field(&staged, field, values, count);
        }
        for (int64_t j = 0; j < count; j++) {
            store_words(staged.slots[j] + 1, staged.bytes[j], rows->packed_words * WORD);
            atomic_store_explicit(staged.slots[j], first_state + 2 * (uint64_t)(at + j), memory_order_release);
        }
    }
}

static void read_field(const stage *of, const replay_field *field, char *column, const int64_t *to, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        load_words(column + (size_t)to[j] * field->bytes, of->slots[j] + 1 + field->offset / WORD, field->bytes);
}

static void unstage_field(const stage *of, const replay_field *field, char *column, const int64_t *to, int64_t n)
{
    const size_t bytes = field->bytes, offset = field->offset;
    for (int64_t j = 0; j < n; j++)
        copy_small((unsigned char *)column + (size_t)to[j] * bytes, of->bytes[j] + offset, bytes);
}

void replay_rows_read(const replay_rows *rows, const int64_t *slots, const int64_t *to, int64_t n,
                      char *const *columns)
{
    stage staged;
    for (int64_t at = 0; at < n; at += STAGED) {
        int64_t count = n - at < STAGED ? n - at : STAGED;
        for (int64_t j = 0; j < count; j++) {
            staged.slots[j] = replay_rows_slot(rows, slots[at + j]);
            load_words(staged.bytes[j], staged.slots[j] + 1, rows->packed_words * WORD);
        }
        for (int f = 0; f < rows->fields; f++) {
            const replay_field *field = &rows->field[f];
            if (field->is_packed)
                unstage_field(&staged, field, columns[f], to + at, count);
            else
                read_field(&staged, field, columns[f], to + at, count);
        }
    }
}
