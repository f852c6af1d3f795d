/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/osdep.h"
#include <malloc.h>
#include <sys/mman.h>
#include "arena.h"

/* Four at a time: one multiplication need not wait for the other. */
static uint64_t hash_lanes(uint64_t h, const uint8_t *p, size_t bytes)
{
    uint64_t lanes[4] = { h, h ^ 1, h ^ 2, h ^ 3 };

    for (; bytes >= 32; bytes -= 32, p += 32) {
        for (int i = 0; i < 4; i++) {
            uint64_t word;

            memcpy(&word, p + i * 8, 8);
            lanes[i] = (lanes[i] ^ word) * 0x9fb21c651e98df25ULL;
            lanes[i] ^= lanes[i] >> 32;
        }
    }
    for (int i = 1; i < 4; i++) {
        lanes[0] = (lanes[0] ^ lanes[i]) * 0x9fb21c651e98df25ULL;
        lanes[0] ^= lanes[0] >> 29;
    }
    return lanes[0];
}

uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes)
{
    const uint8_t *p = data;

    if (bytes >= 64) {
        h = hash_lanes(h, p, bytes);
        p += bytes & ~31ULL;
        bytes &= 31;
    }
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint64_t word;

        memcpy(&word, p, 8);
        h = (h ^ word) * 0x9fb21c651e98df25ULL;
        h ^= h >> 32;
    }
    if (bytes) {
        uint64_t word = 0;

        memcpy(&word, p, bytes);
        h = (h ^ word) * 0x9fb21c651e98df25ULL;
        h ^= h >> 32;
    }
    return h;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NO_ARENA
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||  \
    __has_feature(memory_sanitizer)
#define NO_ARENA
#endif
#endif

#ifdef NO_ARENA
const bool arena_available;

void arena_set_owner(int owner)
{
}

int arena_owner(void)
{
    return -1;
}

unsigned arena_used(void)
{
    return 0;
}

void arena_save(void)
{
}

void arena_restore(void)
{
}

uint64_t arena_hash(void)
{
    return 0;
}
#else
const bool arena_available = true;

/* Sizes 2^5 to 2^19; a class has CLASS_BYTES, but at most 128 blocks. */
#define MIN_SHIFT 5
#define CLASSES 15
#define CLASS_BYTES (4ULL << 20)
#define MAX_BLOCKS 128
#define OWNER_BYTES (CLASSES * CLASS_BYTES)

typedef struct Class {
    uint64_t used[MAX_BLOCKS / 64];
    uint32_t bytes[MAX_BLOCKS];     /* as asked for, rounded to 8 */
} Class;

static char *base OUTSIDE_STATE;
static Class classes[ARENA_OWNERS][CLASSES] OUTSIDE_STATE;
static int current OUTSIDE_STATE = -1;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static bool is_ours(const void *p)
{
    return base && (char *)p >= base &&
           (char *)p < base + ARENA_OWNERS * OWNER_BYTES;
}

static void setup(void)
{
    base = mmap(NULL, ARENA_OWNERS * OWNER_BYTES + CLASS_BYTES,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        abort();
    }
    /* So that each block is aligned to its size. */
    base = (char *)ROUND_UP((uintptr_t)base, (uintptr_t)CLASS_BYTES);
}

void arena_set_owner(int owner)
{
    assert(owner < ARENA_OWNERS);
    if (!base) {
        setup();
    }
    current = owner;
}

int arena_owner(void)
{
    return current;
}

static char *block_at(unsigned owner, unsigned class, unsigned i)
{
    return base + owner * OWNER_BYTES + class * CLASS_BYTES +
           ((size_t)i << (class + MIN_SHIFT));
}

static void *arena_alloc(size_t size)
{
    unsigned class = 0, n;
    Class *c;

    while (class < CLASSES && (1ULL << (class + MIN_SHIFT)) < size) {
        class++;
    }
    if (class == CLASSES) {
        return __libc_calloc(1, size);
    }
    c = &classes[current][class];
    n = MIN(MAX_BLOCKS, CLASS_BYTES >> (class + MIN_SHIFT));
    for (unsigned i = 0; i < n; i++) {
        if (c->used[i / 64] == UINT64_MAX) {
            i |= 63;
        } else if (!(c->used[i / 64] >> (i % 64) & 1)) {
            char *block = block_at(current, class, i);

            c->used[i / 64] |= 1ULL << (i % 64);
            c->bytes[i] = ROUND_UP(size, 8);
            return memset(block, 0, c->bytes[i]);
        }
    }
    /* Sound, only less is recognised. */
    return __libc_calloc(1, size);
}

static void locate(const void *p, Class **c, unsigned *i, size_t *size)
{
    size_t pos = (char *)p - base;
    unsigned class = pos % OWNER_BYTES / CLASS_BYTES;

    *c = &classes[pos / OWNER_BYTES][class];
    *i = pos % CLASS_BYTES >> (class + MIN_SHIFT);
    *size = 1ULL << (class + MIN_SHIFT);
}

static void arena_free(void *p)
{
    unsigned i;
    size_t size;
    Class *c;

    locate(p, &c, &i, &size);
    if (!(c->used[i / 64] >> (i % 64) & 1)) {
        abort();
    }
    c->used[i / 64] &= ~(1ULL << (i % 64));
}

extern char __data_start[], _end[];
extern char __start_model_outside[], __stop_model_outside[];

typedef void BlockFunc(void *block, size_t bytes, void *opaque);

static void for_each_block(BlockFunc *func, void *opaque)
{
    for (unsigned owner = 0; owner < ARENA_OWNERS; owner++) {
        for (unsigned class = 0; class < CLASSES; class++) {
            for (unsigned word = 0; word < MAX_BLOCKS / 64; word++) {
                uint64_t bits = classes[owner][class].used[word];

                for (; bits; bits &= bits - 1) {
                    unsigned i = word * 64 + __builtin_ctzll(bits);

                    func(block_at(owner, class, i),
                         classes[owner][class].bytes[i], opaque);
                }
            }
        }
    }
}

static void count_block(void *block, size_t bytes, void *opaque)
{
    ++*(unsigned *)opaque;
}

unsigned arena_used(void)
{
    unsigned n = 0;

    for_each_block(count_block, &n);
    return n;
}

/* ------------------------------------------------------ save and restore */

static struct {
    Class classes[ARENA_OWNERS][CLASSES];
    uint32_t where[ARENA_OWNERS][CLASSES][MAX_BLOCKS];  /* in bytes */
    char *bytes;        /* variables, then the blocks in order */
    size_t size, used;
} saved OUTSIDE_STATE;

static void save_bytes(void *from, size_t bytes, void *opaque)
{
    if (saved.used + bytes > saved.size) {
        saved.size = (saved.used + bytes) * 2;
        saved.bytes = __libc_realloc(saved.bytes, saved.size);
    }
    memcpy(saved.bytes + saved.used, from, bytes);
    saved.used += bytes;
}

static void restore_bytes(void *to, size_t bytes, void *opaque)
{
    memcpy(to, saved.bytes + saved.used, bytes);
    saved.used += bytes;
}

static void for_each_variable(BlockFunc *func)
{
    func(__data_start, __start_model_outside - __data_start, NULL);
    func(__stop_model_outside, _end - __stop_model_outside, NULL);
}

static uint32_t *saved_where(const void *block)
{
    size_t pos = (const char *)block - base;
    unsigned class = pos % OWNER_BYTES / CLASS_BYTES;

    return &saved.where[pos / OWNER_BYTES][class]
                       [pos % CLASS_BYTES >> (class + MIN_SHIFT)];
}

static void save_block(void *block, size_t bytes, void *opaque)
{
    *saved_where(block) = saved.used;
    save_bytes(block, bytes, NULL);
}

void arena_save(void)
{
    saved.used = 0;
    memset(saved.where, 0, sizeof(saved.where));
    memcpy(saved.classes, classes, sizeof(classes));
    for_each_variable(save_bytes);
    for_each_block(save_block, NULL);
}

void arena_restore(void)
{
    saved.used = 0;
    memcpy(classes, saved.classes, sizeof(classes));
    for_each_variable(restore_bytes);
    for_each_block(restore_bytes, NULL);
}

/* ------------------------------------------------------------------- hash */

#define CHUNK 256

/* Only what is not as it was saved at @where: comparing is faster. */
static uint64_t hash_changes(uint64_t h, const char *p, size_t bytes,
                             size_t where)
{
    for (size_t pos = 0; pos < bytes; pos += CHUNK) {
        size_t n = MIN(bytes - pos, CHUNK);

        if (where + pos + n > saved.used ||
            memcmp(p + pos, saved.bytes + where + pos, n)) {
            const char *at = p + pos;

            h = hash_bytes(h, &at, sizeof(at));
            h = hash_bytes(h, at, n);
        }
    }
    return h;
}

static void hash_block(void *block, size_t bytes, void *opaque)
{
    uint32_t where = *saved_where(block);
    uint64_t *h = opaque;

    *h = hash_bytes(*h, &bytes, sizeof(bytes));
    *h = hash_changes(*h, block, bytes, where ?: SIZE_MAX / 2);
}

uint64_t arena_hash(void)
{
    size_t first = __start_model_outside - __data_start;
    uint64_t h = hash_changes(1, __data_start, first, 0);

    h = hash_changes(h, __stop_model_outside, _end - __stop_model_outside,
                     first);
    for (unsigned owner = 0; owner < ARENA_OWNERS; owner++) {
        for (unsigned class = 0; class < CLASSES; class++) {
            const Class *c = &classes[owner][class];

            h = hash_bytes(h, c->used, sizeof(c->used));
        }
    }
    for_each_block(hash_block, &h);
    return h;
}

/* ------------------------------------------------- instead of libc's */

void *malloc(size_t size)
{
    return current < 0 ? __libc_malloc(size) : arena_alloc(size);
}

void *calloc(size_t n, size_t size)
{
    size_t bytes;

    if (current < 0) {
        return __libc_calloc(n, size);
    }
    return __builtin_mul_overflow(n, size, &bytes) ? NULL
                                                   : arena_alloc(bytes);
}

void free(void *p)
{
    if (p && is_ours(p)) {
        arena_free(p);
    } else {
        __libc_free(p);
    }
}

void *realloc(void *p, size_t size)
{
    unsigned i;
    size_t old;
    Class *c;
    void *now;

    if (!p) {
        return malloc(size);
    }
    if (!is_ours(p)) {
        return __libc_realloc(p, size);
    }
    locate(p, &c, &i, &old);
    if (size <= old) {
        size = ROUND_UP(size, 8);
        if (size > c->bytes[i]) {
            memset((char *)p + c->bytes[i], 0, size - c->bytes[i]);
        }
        c->bytes[i] = size;
        return p;
    }
    now = malloc(size);
    memcpy(now, p, c->bytes[i]);
    arena_free(p);
    return now;
}

void *memalign(size_t align, size_t size)
{
    size = MAX(align, size);
    return current < 0 || size > 1ULL << (MIN_SHIFT + CLASSES - 1)
               ? __libc_memalign(align, size) : arena_alloc(size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

int posix_memalign(void **p, size_t align, size_t size)
{
    void *now = memalign(align, size);

    if (!now) {
        return ENOMEM;
    }
    *p = now;
    return 0;
}
#endif
