/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Codecs of qcow2: what is compressed comes out again, by our decompressor and
 * by the libraries used as a plain reader would; damage never passes as data.
 */
#include "util/osdep.h"
#include "block/block_int.h"
#include "block/qcow2/compressed.h"
#include "block/qcow2/deflate.h"
#include "block/qcow2/qcow2.h"
#include "util/aio.h"

#include <sys/mman.h>
#include <zlib.h>

typedef struct Codec {
    BlockDriverState bs;
    BDRVQcow2State s;
} Codec;

typedef struct Call {
    Codec *codec;
    bool compress;
    void *dest;
    size_t dest_size;
    const void *src;
    size_t src_size;
    ssize_t ret;
    bool done;
} Call;

static void codec_init(Codec *c, Qcow2CompressionType type)
{
    memset(c, 0, sizeof(*c));
    c->s.compression_type = type;
    c->bs.opaque = &c->s;
}

static void coroutine_fn call_entry(void *opaque)
{
    Call *call = opaque;

    if (call->compress) {
        call->ret = qcow2_co_compress(&call->codec->bs, call->dest,
                                      call->dest_size, call->src,
                                      call->src_size);
    } else {
        const Qcow2Unpack part = { call->dest, call->src, call->src_size };

        call->codec->s.cluster_size = call->dest_size;
        call->ret = qcow2_co_decompress(&call->codec->bs, &part, 1);
        g_assert_cmpint(call->ret, >=, 0);
        call->ret = call->ret == 1 ? 0 : -EIO;
    }
    call->done = true;
}

static void start(Call *call)
{
    qemu_coroutine_enter(qemu_coroutine_create(call_entry, call));
}

static void finish(Call *call)
{
    while (!call->done) {
        aio_poll(qemu_get_aio_context(), true);
    }
}

static ssize_t run(Codec *codec, bool compress, void *dest, size_t dest_size,
                   const void *src, size_t src_size)
{
    Call call = {
        .codec = codec, .compress = compress,
        .dest = dest, .dest_size = dest_size,
        .src = src, .src_size = src_size,
    };

    start(&call);
    finish(&call);
    return call.ret;
}

/* Data that compresses well, but has something to look for everywhere. */
static void fill_text(uint8_t *buf, size_t size)
{
    static const char *const words[] = {
        "cluster ", "table ", "refcount ", "guest ", "host ", "offset ",
    };
    size_t i = 0;

    while (i < size) {
        const char *w = words[g_test_rand_int_range(0, ARRAY_SIZE(words))];
        size_t n = MIN(strlen(w), size - i);

        memcpy(buf + i, w, n);
        i += n;
    }
}

static void fill_random(uint8_t *buf, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) {
        buf[i] = g_test_rand_int();
    }
}

static const Qcow2CompressionType all_types[] = {
    QCOW2_COMPRESSION_TYPE_ZLIB,
#ifdef CONFIG_ZSTD
    QCOW2_COMPRESSION_TYPE_ZSTD,
#endif
};

static void test_round_trip(void)
{
    for (int t = 0; t < ARRAY_SIZE(all_types); t++) {
        Codec c;

        codec_init(&c, all_types[t]);
        for (int bits = 9; bits <= 21; bits++) {
            size_t size = (size_t)1 << bits;
            g_autofree uint8_t *src = g_malloc(size);
            g_autofree uint8_t *packed = g_malloc(size + 512);
            g_autofree uint8_t *back = g_malloc(size);
            ssize_t n;

            fill_text(src, size);
            n = run(&c, true, packed, size - 1, src, size);
            g_assert_cmpint(n, >, 0);
            g_assert_cmpint(n, <, size);
            /* Stored in whole sectors, the rest of the last is anything. */
            fill_random(packed + n, 512);
            g_assert_cmpint(run(&c, false, back, size, packed,
                                ROUND_UP((size_t)n, 512)), ==, 0);
            g_assert_cmpmem(src, size, back, size);
        }
    }
}

static void test_incompressible(void)
{
    size_t size = 65536;
    g_autofree uint8_t *src = g_malloc(size);
    g_autofree uint8_t *packed = g_malloc(size);
    g_autofree uint8_t *back = g_malloc(size);

    fill_random(src, size);
    for (int t = 0; t < ARRAY_SIZE(all_types); t++) {
        Codec c;
        ssize_t n;

        codec_init(&c, all_types[t]);
        g_assert_cmpint(run(&c, true, packed, size - 1, src, size), ==,
                        -ENOMEM);
        /* The context is good for the next one. */
        memset(back, 'x', size);
        n = run(&c, true, packed, size - 1, back, size);
        g_assert_cmpint(n, >, 0);
        memset(back, 0, size);
        g_assert_cmpint(run(&c, false, back, size, packed, n), ==, 0);
        g_assert_cmpint(back[size - 1], ==, 'x');
    }
}

/* Other readers have a window of 12 bits: ours must not look back further. */
static void test_deflate_window(void)
{
    size_t size = 1 << 20, i;
    g_autofree uint8_t *src = g_malloc(size);
    g_autofree uint8_t *packed = g_malloc(size);
    g_autofree uint8_t *back = g_malloc(size);
    z_stream strm = { 0 };
    Codec c;
    ssize_t n;

    /* Repeats at a distance that only a larger window would see. */
    fill_random(src, 8192);
    for (i = 8192; i < size; i++) {
        src[i] = i % 3 ? src[i - 8192] : 'a';
    }
    codec_init(&c, QCOW2_COMPRESSION_TYPE_ZLIB);
    n = run(&c, true, packed, size - 1, src, size);
    g_assert_cmpint(n, >, 0);

    g_assert_cmpint(inflateInit2(&strm, -12), ==, Z_OK);
    strm.next_in = packed;
    strm.avail_in = n;
    strm.next_out = back;
    strm.avail_out = size;
    g_assert_cmpint(inflate(&strm, Z_FINISH), ==, Z_STREAM_END);
    g_assert_cmpint(strm.total_out, ==, size);
    inflateEnd(&strm);
    g_assert_cmpmem(src, size, back, size);
}

/* Cut short anywhere, or the wrong size: an error, not half a cluster. */
static void test_cut_short(void)
{
    size_t size = 4096;
    g_autofree uint8_t *src = g_malloc(size);
    g_autofree uint8_t *packed = g_malloc(size);
    g_autofree uint8_t *back = g_malloc(2 * size);

    fill_text(src, size);
    for (int t = 0; t < ARRAY_SIZE(all_types); t++) {
        Codec c;
        ssize_t n, i;

        codec_init(&c, all_types[t]);
        n = run(&c, true, packed, size - 1, src, size);
        g_assert_cmpint(n, >, 8);
        for (i = 0; i < n - 8; i++) {
            g_assert_cmpint(run(&c, false, back, size, packed, i), ==, -EIO);
        }
        g_assert_cmpint(run(&c, false, back, 2 * size, packed, n), ==, -EIO);
    }
}

/* Any bytes at all: an error, or a complete cluster; never a crash. */
static void test_garbage(void)
{
    size_t size = 4096;
    g_autofree uint8_t *src = g_malloc(size);
    g_autofree uint8_t *packed = g_malloc(size);
    g_autofree uint8_t *back = g_malloc(size);
    int rounds = g_test_slow() ? 20000 : 500;

    fill_text(src, size);
    for (int t = 0; t < ARRAY_SIZE(all_types); t++) {
        Codec c;

        codec_init(&c, all_types[t]);
        for (int i = 0; i < rounds; i++) {
            ssize_t n = run(&c, true, packed, size - 1, src, size);

            for (int k = g_test_rand_int_range(1, 9); k; k--) {
                packed[g_test_rand_int_range(0, n)] ^=
                    1 << g_test_rand_int_range(0, 8);
            }
            n = run(&c, false, back, size, packed, n);
            g_assert_true(n == 0 || n == -EIO);
        }
        fill_random(packed, size);
        run(&c, false, back, size, packed, size);
    }
}

/* Many at once, of both kinds, in the threads of the pool. */
static void test_parallel(void)
{
    enum { N = 32 };
    size_t size = 65536;
    Codec codecs[ARRAY_SIZE(all_types)];
    Call calls[N];
    uint8_t *src[N], *packed[N], *back[N];
    int i;

    for (i = 0; i < ARRAY_SIZE(all_types); i++) {
        codec_init(&codecs[i], all_types[i]);
    }
    for (i = 0; i < N; i++) {
        src[i] = g_malloc(size);
        packed[i] = g_malloc(size);
        back[i] = g_malloc0(size);
        fill_text(src[i], size);
        calls[i] = (Call) {
            .codec = &codecs[i % ARRAY_SIZE(all_types)], .compress = true,
            .dest = packed[i], .dest_size = size - 1,
            .src = src[i], .src_size = size,
        };
        start(&calls[i]);
    }
    for (i = 0; i < N; i++) {
        finish(&calls[i]);
        g_assert_cmpint(calls[i].ret, >, 0);
        calls[i] = (Call) {
            .codec = calls[i].codec,
            .dest = back[i], .dest_size = size,
            .src = packed[i], .src_size = calls[i].ret,
        };
        start(&calls[i]);
    }
    for (i = 0; i < N; i++) {
        finish(&calls[i]);
        g_assert_cmpint(calls[i].ret, ==, 0);
        g_assert_cmpmem(src[i], size, back[i], size);
        g_free(src[i]);
        g_free(packed[i]);
        g_free(back[i]);
    }
}

#ifdef CONFIG_ISAL
/*
 * @size bytes that end where memory ends: a step too far is a crash. Unmapped
 * with guarded_free().
 */
static uint8_t *guarded_new(size_t size)
{
    size_t page = sysconf(_SC_PAGESIZE);
    size_t room = ROUND_UP(size, page);
    uint8_t *p = mmap(NULL, room + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(p != MAP_FAILED);
    g_assert_cmpint(mprotect(p + room, page, PROT_NONE), ==, 0);
    return p + room - size;
}

static void guarded_free(uint8_t *p, size_t size)
{
    size_t page = sysconf(_SC_PAGESIZE);
    size_t room = ROUND_UP(size, page);

    g_assert_cmpint(munmap(p + size - room, room + page), ==, 0);
}

/* Program code, as long as there is any. */
static void fill_binary(uint8_t *buf, size_t size)
{
    g_autofree char *exe = NULL;
    gsize length;

    g_assert_true(g_file_get_contents("/proc/self/exe", &exe, &length, NULL));
    for (size_t i = 0; i < size; i++) {
        buf[i] = exe[i % length];
    }
}

/* Each library reads what the other has written. */
static void test_both_libraries(void)
{
    enum { TEXT, BINARY, ZEROES, KINDS };
    Qcow2Deflate d = { 0 };

    for (int bits = 9; bits <= 21; bits++) {
        size_t size = (size_t)1 << bits;
        g_autofree uint8_t *src = g_malloc0(size);
        g_autofree uint8_t *a = g_malloc(size);
        g_autofree uint8_t *b = g_malloc(size);
        g_autofree uint8_t *back = g_malloc(size);

        for (int kind = 0; kind < KINDS; kind++) {
            ssize_t na, nb;

            if (kind == TEXT) {
                fill_text(src, size);
            } else if (kind == BINARY) {
                fill_binary(src, size);
            } else {
                memset(src, 0, size);
            }
            na = qcow2_isal_compress(&d, a, size - 1, src, size);
            nb = qcow2_zlib_compress(&d, b, size - 1, src, size);
            g_assert_cmpint(na, >, 0);
            g_assert_cmpint(nb, >, 0);
            if (kind == BINARY && bits >= 12) {
                g_assert_cmpint(na, <=, nb + nb / 7);
            }
            g_assert_cmpint(qcow2_zlib_decompress(&d, back, size, a, na), ==,
                            0);
            g_assert_cmpmem(src, size, back, size);
            memset(back, 1, size);
            g_assert_cmpint(qcow2_isal_decompress(&d, back, size, b, nb), ==,
                            0);
            g_assert_cmpmem(src, size, back, size);
        }
    }
    qcow2_deflate_clear(&d);
    g_assert_null(d.isal);
}

/* A stream that zlib makes, with settings that nobody writing qcow2 uses. */
static size_t odd_stream(uint8_t *dest, size_t dest_size, uint8_t *src,
                         size_t size)
{
    static const int strategies[] = { Z_DEFAULT_STRATEGY, Z_FIXED,
                                      Z_HUFFMAN_ONLY, Z_RLE };
    z_stream strm = { 0 };

    g_assert_cmpint(deflateInit2(&strm, g_test_rand_int_range(0, 10),
                                 Z_DEFLATED, g_test_rand_bit() ? -12 : -15,
                                 g_test_rand_int_range(1, 10),
                                 strategies[g_test_rand_int_range(0, 4)]),
                    ==, Z_OK);
    strm.next_in = src;
    strm.avail_in = size;
    strm.next_out = dest;
    strm.avail_out = dest_size;
    g_assert_cmpint(deflate(&strm, Z_FINISH), ==, Z_STREAM_END);
    deflateEnd(&strm);
    return strm.total_out;
}

/* Streams that end with their data: the marker of their end is cut off. */
static void test_isal_cut(void)
{
    size_t size = 8192;
    g_autofree uint8_t *src = g_malloc(size);
    g_autofree uint8_t *stream = g_malloc(2 * size);
    g_autofree uint8_t *out = g_malloc(size);
    Qcow2Deflate d = { 0 };
    int complete = 0;

    fill_binary(src, size);
    for (int i = 0; i < 600; i++) {
        size_t n = odd_stream(stream, 2 * size, src, size);

        for (size_t cut = 0; cut < MIN(n, 4); cut++) {
            ssize_t theirs = qcow2_zlib_decompress(&d, out, size, stream,
                                                   n - cut);

            g_assert_cmpint(qcow2_isal_decompress(&d, out, size, stream,
                                                  n - cut), ==, theirs);
            if (theirs == 0) {
                g_assert_cmpmem(out, size, src, size);
                complete += cut > 0;
            }
        }
        /* Other data, other codes. */
        src[g_test_rand_int_range(0, size)] = i;
    }
    g_assert_cmpint(complete, >, 100);
    qcow2_deflate_clear(&d);
}

/*
 * Damaged streams in memory that ends where they end: nothing is touched
 * outside, and where both libraries find a complete cluster, it is the same.
 */
static void test_isal_hostile(void)
{
    size_t size = 8192;
    g_autofree uint8_t *src = g_malloc(size);
    g_autofree uint8_t *stream = g_malloc(2 * size);
    g_autofree uint8_t *expect = g_malloc(size);
    uint8_t *out = guarded_new(size);
    Qcow2Deflate d = { 0 };
    int rounds = g_test_slow() ? 100000 : 3000;

    fill_binary(src, size);
    for (int i = 0; i < rounds; i++) {
        size_t n = odd_stream(stream, 2 * size, src, size);
        int flips = g_test_rand_int_range(0, 6);
        ssize_t ours, theirs;
        uint8_t *in;

        if (g_test_rand_int_range(0, 4) == 0) {
            n = g_test_rand_int_range(1, n + 1);
        }
        for (; flips; flips--) {
            /* Most of them where the codes are described. */
            size_t end = g_test_rand_bit() ? MIN(n, 200) : n;

            stream[g_test_rand_int_range(0, end)] ^=
                1 << g_test_rand_int_range(0, 8);
        }
        in = guarded_new(n);
        memcpy(in, stream, n);
        ours = qcow2_isal_decompress(&d, out, size, in, n);
        theirs = qcow2_zlib_decompress(&d, expect, size, in, n);
        g_assert_true(ours == 0 || ours == -EIO);
        if (theirs == 0) {
            g_assert_cmpint(ours, ==, 0);
            g_assert_cmpmem(out, size, expect, size);
        }
        guarded_free(in, n);
    }
    guarded_free(out, size);
    qcow2_deflate_clear(&d);
}
#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);

    g_test_add_func("/qcow2/compress/round-trip", test_round_trip);
    g_test_add_func("/qcow2/compress/incompressible", test_incompressible);
    g_test_add_func("/qcow2/compress/deflate-window", test_deflate_window);
    g_test_add_func("/qcow2/compress/cut-short", test_cut_short);
    g_test_add_func("/qcow2/compress/garbage", test_garbage);
    g_test_add_func("/qcow2/compress/parallel", test_parallel);
#ifdef CONFIG_ISAL
    g_test_add_func("/qcow2/compress/both-libraries", test_both_libraries);
    g_test_add_func("/qcow2/compress/isal-cut", test_isal_cut);
    g_test_add_func("/qcow2/compress/isal-hostile", test_isal_hostile);
#endif
    return g_test_run();
}
