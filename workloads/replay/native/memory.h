/* Zeroed memory for large arrays, page-aligned, in huge pages where the system offers them. */
#ifndef REPLAY_MEMORY_H
#define REPLAY_MEMORY_H

#include <stddef.h>

void *replay_memory_new(size_t bytes); /* NULL if there is none, and errno */

/* That of an open file, shared with all who map it. */
void *replay_memory_of(int descriptor, size_t bytes);

void replay_memory_free(void *memory, size_t bytes);

#endif
