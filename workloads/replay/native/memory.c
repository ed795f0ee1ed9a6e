#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, madvise */
#include "memory.h"

#include <sys/mman.h>

/* Random access to more than this runs out of what the processor remembers of ordinary pages. */
#define HUGE_PAGE ((size_t)1 << 21)

static void *map(int descriptor, size_t bytes, int flags)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (memory == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= HUGE_PAGE)
        (void)madvise(memory, bytes, MADV_HUGEPAGE); /* it only asks */
#endif
    return memory;
}

void *replay_memory_new(size_t bytes)
{
    return map(-1, bytes, MAP_PRIVATE | MAP_ANONYMOUS);
}

void *replay_memory_of(int descriptor, size_t bytes)
{
    return map(descriptor, bytes, MAP_SHARED);
}

void replay_memory_free(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}
