/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The L1 guard as numbers: no wrong bit and no swap goes unseen, the sector
 * lies on disk as its specification says, and each verdict has its reasons.
 */
#include "util/osdep.h"
#include <zlib.h>
#include "util/bswap.h"
#include "block/qcow2/format.h"
#include "block/qcow2/guard.h"

#define N 200

static void fill(uint64_t *entries)
{
    for (uint32_t i = 0; i < N; i++) {
        entries[i] = i % 3 ? QCOW_OFLAG_COPIED | (uint64_t)(i + 5) << 16 : 0;
    }
}

/* --- the sum --- */

static void test_every_bit(void)
{
    uint64_t entries[N];
    uint64_t sum;

    fill(entries);
    sum = qcow2_guard_sum(entries, N);
    for (uint32_t i = 0; i < N; i++) {
        for (int bit = 0; bit < 64; bit++) {
            entries[i] ^= 1ULL << bit;
            g_assert_cmphex(qcow2_guard_sum(entries, N), !=, sum);
            entries[i] ^= 1ULL << bit;
        }
    }
    g_assert_cmphex(qcow2_guard_sum(entries, N), ==, sum);
}

static void test_swaps(void)
{
    uint64_t entries[N];
    uint64_t sum;

    fill(entries);
    sum = qcow2_guard_sum(entries, N);
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t j = 0; j < i; j++) {
            uint64_t a = entries[i], b = entries[j];

            entries[i] = b;
            entries[j] = a;
            g_assert((qcow2_guard_sum(entries, N) == sum) == (a == b));
            entries[i] = a;
            entries[j] = b;
        }
    }
}

/* What a change adds and takes off is the difference of the sums. */
static void test_incremental(void)
{
    uint64_t entries[N];
    uint64_t sum;

    fill(entries);
    sum = qcow2_guard_sum(entries, N);
    sum -= qcow2_guard_mix(7, entries[7]);
    entries[7] = QCOW_OFLAG_COPIED | 0x990000;
    sum += qcow2_guard_mix(7, entries[7]);
    g_assert_cmphex(qcow2_guard_sum(entries, N), ==, sum);
    g_assert_cmphex(qcow2_guard_sum(entries, 0), ==, 0);
}

/* The numbers of the example in docs/interop/qcow2-l1-guard.md. */
static void test_example(void)
{
    const uint64_t entries[] = { 0x8000000000050000ULL, 0 };

    g_assert_cmphex(qcow2_guard_mix(0, entries[0]), ==, 0x47d6ff470a21837fULL);
    g_assert_cmphex(qcow2_guard_mix(1, entries[1]), ==, 0x52ead7e36ea7fea8ULL);
    g_assert_cmphex(qcow2_guard_sum(entries, 2), ==, 0x9ac1d72a78c98227ULL);
}

/* --- the sector --- */

static const Qcow2GuardHead head = {
    .generation = 0x0102030405060708ULL,
    .offset = 0x40000,
    .l1_offset = 0x30000,
    .l1_size = 8,
    .current = 1,
    .sum = 0x1122334455667788ULL,
    .old_sum = 0x99aabbccddeeff00ULL,
    .disk_size = 0x12345600,
};

static void test_layout(void)
{
    uint8_t buf[QCOW2_GUARD_SECTOR], zeroes[QCOW2_GUARD_SECTOR - 72] = { 0 };
    uint32_t crc;

    qcow2_guard_encode(&head, buf);
    g_assert_cmpmem(buf, 8, "L1 GUARD", 8);
    g_assert_cmphex(ldl_be_p(buf + 8), ==, 1);
    g_assert_cmphex(ldq_be_p(buf + 16), ==, head.generation);
    g_assert_cmphex(ldq_be_p(buf + 24), ==, head.offset);
    g_assert_cmphex(ldq_be_p(buf + 32), ==, head.l1_offset);
    g_assert_cmphex(ldl_be_p(buf + 40), ==, head.l1_size);
    g_assert_cmphex(ldl_be_p(buf + 44), ==, 1);
    g_assert_cmphex(ldq_be_p(buf + 48), ==, head.sum);
    g_assert_cmphex(ldq_be_p(buf + 56), ==, head.old_sum);
    g_assert_cmphex(ldq_be_p(buf + 64), ==, head.disk_size);
    g_assert_cmpmem(buf + 72, sizeof(zeroes), zeroes, sizeof(zeroes));
    crc = ldl_be_p(buf + 12);
    stl_be_p(buf + 12, 0);
    g_assert_cmphex(crc32(0, buf, sizeof(buf)), ==, crc);
}

static void test_sector_bits(void)
{
    uint8_t buf[QCOW2_GUARD_SECTOR];
    Qcow2GuardHead h;

    qcow2_guard_encode(&head, buf);
    g_assert_null(qcow2_guard_decode(buf, &h));
    g_assert_cmpmem(&h, sizeof(h), &head, sizeof(head));
    for (int i = 0; i < 8 * QCOW2_GUARD_SECTOR; i++) {
        buf[i / 8] ^= 1 << (i % 8);
        g_assert_nonnull(qcow2_guard_decode(buf, &h));
        buf[i / 8] ^= 1 << (i % 8);
    }
    g_assert_null(qcow2_guard_decode(buf, &h));
}

/* A good CRC does not make a wrong field right. */
static void test_bad_fields(void)
{
    Qcow2GuardHead wrong = head, h;
    uint8_t buf[QCOW2_GUARD_SECTOR];

    wrong.current = 2;
    qcow2_guard_encode(&wrong, buf);
    g_assert_nonnull(qcow2_guard_decode(buf, &h));

    qcow2_guard_encode(&head, buf);
    stl_be_p(buf + 8, 2);
    stl_be_p(buf + 12, 0);
    stl_be_p(buf + 12, crc32(0, buf, sizeof(buf)));
    g_assert_cmpstr(qcow2_guard_decode(buf, &h), ==, "its version is unknown");
}

static void test_area(void)
{
    g_assert_cmpuint(qcow2_guard_area_bytes(0), ==, 512);
    g_assert_cmpuint(qcow2_guard_area_bytes(1), ==, 3 * 512);
    g_assert_cmpuint(qcow2_guard_area_bytes(64), ==, 3 * 512);
    g_assert_cmpuint(qcow2_guard_area_bytes(65), ==, 5 * 512);
    g_assert_cmpuint(qcow2_guard_area_bytes(QCOW_MAX_L1_SIZE / 8), ==,
                     512 + 2 * QCOW_MAX_L1_SIZE);
}

/* --- verdicts --- */

#define C QCOW_OFLAG_COPIED
#define X 0x50000
#define Y 0x60000

typedef struct Case {
    const char *what;
    Qcow2GuardEvidence e;
    Qcow2GuardVerdict verdict;
} Case;

static const Case cases[] = {
    { "a new table", { C | X, 0, true, false, false, 1, 1, 0, 0 },
      QCOW2_GUARD_FOREIGN },
    { "a table copied, the old one freed",
      { C | X, C | Y, true, false, false, 1, 1, 0, 0 }, QCOW2_GUARD_FOREIGN },
    { "a table copied, a snapshot keeps the old one",
      { C | X, Y, true, false, false, 1, 1, 1, 1 }, QCOW2_GUARD_FOREIGN },
    { "a table of a snapshot applied",
      { X, C | Y, true, false, false, 2, 2, 0, 0 }, QCOW2_GUARD_FOREIGN },
    { "a table unmapped", { 0, C | Y, false, false, false, 0, 0, 0, 0 },
      QCOW2_GUARD_FOREIGN },
    { "shared by a snapshot", { X, C | X, true, false, false, 2, 2, 2, 2 },
      QCOW2_GUARD_FOREIGN },
    { "a snapshot deleted", { C | X, X, true, false, false, 1, 1, 1, 1 },
      QCOW2_GUARD_FOREIGN },
    { "an entry lost", { 0, C | Y, false, false, false, 0, 0, 1, 0 },
      QCOW2_GUARD_DAMAGE },
    { "an entry lost that a snapshot has, too",
      { 0, Y, false, false, false, 0, 0, 2, 1 }, QCOW2_GUARD_DAMAGE },
    { "not a place for a table",
      { C | X, C | Y, false, false, false, 1, 1, 1, 0 }, QCOW2_GUARD_DAMAGE },
    { "a free cluster", { C | X, C | Y, true, false, false, 0, 1, 1, 0 },
      QCOW2_GUARD_DAMAGE },
    { "moved", { 0, C | Y, false, false, true, 0, 0, 1, 1 },
      QCOW2_GUARD_DAMAGE },
    { "somebody's cluster", { C | X, C | Y, true, false, false, 1, 2, 1, 0 },
      QCOW2_GUARD_DAMAGE },
    { "nothing was there", { X, 0, true, false, false, 1, 1, 0, 0 },
      QCOW2_GUARD_DAMAGE },
    { "swapped", { C | X, C | Y, true, true, true, 1, 1, 1, 1 },
      QCOW2_GUARD_DAMAGE },
    { "reserved bits", { C | X | 1, C | X, true, false, false, 1, 1, 1, 1 },
      QCOW2_GUARD_DAMAGE },
    { "COPIED lost", { X, C | X, true, false, false, 1, 1, 1, 1 },
      QCOW2_GUARD_DAMAGE },
    { "COPIED alone", { C, 0, false, false, false, 0, 0, 0, 0 },
      QCOW2_GUARD_DAMAGE },
    { "both tables are sound", { C | X, C | Y, true, false, false, 1, 1, 1, 0 },
      QCOW2_GUARD_UNPROVEN },
    { "the guard's table is free, the other impossible",
      { C | X, C | Y, false, false, false, 1, 1, 0, 0 }, QCOW2_GUARD_UNPROVEN },
    { "used again at another place",
      { C | X, C | Y, true, true, false, 1, 1, 0, 0 }, QCOW2_GUARD_UNPROVEN },
    { "flags of a free table", { X, C | X, true, false, false, 0, 1, 0, 1 },
      QCOW2_GUARD_UNPROVEN },
};

static void test_verdict(const void *opaque)
{
    const Case *c = opaque;

    g_assert_cmpint(qcow2_guard_verdict(&c->e), ==, c->verdict);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2-guard/sum/every-bit", test_every_bit);
    g_test_add_func("/qcow2-guard/sum/swaps", test_swaps);
    g_test_add_func("/qcow2-guard/sum/incremental", test_incremental);
    g_test_add_func("/qcow2-guard/sum/example", test_example);
    g_test_add_func("/qcow2-guard/sector/layout", test_layout);
    g_test_add_func("/qcow2-guard/sector/every-bit", test_sector_bits);
    g_test_add_func("/qcow2-guard/sector/fields", test_bad_fields);
    g_test_add_func("/qcow2-guard/area", test_area);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2-guard/verdict/%s",
                                                cases[i].what);

        g_test_add_data_func(name, &cases[i], test_verdict);
    }
    return g_test_run();
}
