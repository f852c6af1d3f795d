/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Salvaging: a header with broken fields. What reading does not need is left
 * out, what the rest of the image tells is derived from it.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/salvage.h"

/* Bytes of a cluster that are looked at when the L1 table is searched. */
#define L1_HEAD_BYTES 4096
/* L2 tables that are looked at for each candidate. */
#define L2_SAMPLES 16

/* --- basics --- */

static bool has_extended_l2(const QCowHeader *h)
{
    return h->version >= 3 &&
           (h->incompatible_features & QCOW2_INCOMPAT_EXTL2);
}

/* log2 of the bytes that an L1 entry stands for, with clusters of 2^@bits. */
static unsigned l1_entry_bits(const QCowHeader *h, unsigned bits)
{
    return 2 * bits - 3 - has_extended_l2(h);
}

/* L1 entries that the disk needs then. */
static uint64_t l1_entries(const QCowHeader *h, unsigned bits)
{
    unsigned shift = l1_entry_bits(h, bits);

    return (h->size >> shift) + !!(h->size & ((1ULL << shift) - 1));
}

/*
 * The cluster size that fits the other fields: tables are aligned to it, the
 * L1 table is as long as the disk needs, and writers put the refcount table
 * into the second cluster. 0: none, or no single one.
 */
static unsigned guess_cluster_bits(const QCowHeader *h)
{
    unsigned found = 0;
    bool unique = true;

    for (unsigned bits = MIN_CLUSTER_BITS; bits <= MAX_CLUSTER_BITS; bits++) {
        if (((h->l1_table_offset | h->refcount_table_offset) &
             ((1ULL << bits) - 1)) ||
            l1_entries(h, bits) != h->l1_size) {
            continue;
        }
        if (h->refcount_table_offset == 1ULL << bits) {
            return bits;
        }
        unique = !found;
        found = bits;
    }
    return unique ? found : 0;
}

static void derive_basics(BlockDriverState *bs, QCowHeader *h)
{
    unsigned bits;

    if (h->magic != QCOW_MAGIC) {
        bdrv_damage_note(bs, "The magic number is wrong (%#" PRIx32 ")",
                         h->magic);
        h->magic = QCOW_MAGIC;
    }
    if (h->version < 2 || h->version > 3) {
        uint32_t version = h->header_length >= QCOW2_V3_MIN_HEADER_LENGTH &&
                           h->header_length <= 4096 ? 3 : 2;

        bdrv_damage_note(bs, "The version %" PRIu32 " is wrong: taken for %"
                         PRIu32, h->version, version);
        h->version = version;
    }
    if (h->cluster_bits < MIN_CLUSTER_BITS ||
        h->cluster_bits > MAX_CLUSTER_BITS) {
        bits = guess_cluster_bits(h);
        if (bits) {
            bdrv_damage_note(bs, "The cluster size 2^%" PRIu32 " is wrong: "
                             "taken for 2^%u", h->cluster_bits, bits);
            h->cluster_bits = bits;
        }
    }
}

static void derive_lengths(BlockDriverState *bs, QCowHeader *h)
{
    uint32_t cluster = 1U << MIN(h->cluster_bits, MAX_CLUSTER_BITS);

    if (h->version == 3 && (h->header_length < QCOW2_V3_MIN_HEADER_LENGTH ||
                            h->header_length > cluster ||
                            h->header_length % 8)) {
        /* Behind a short header comes the first extension, whose number is
         * not as small as a compression type. */
        bool has_type = h->compression_type < QCOW2_COMPRESSION_TYPE__MAX;
        uint32_t length = has_type ? QCOW2_V3_HEADER_LENGTH
                                   : QCOW2_V3_MIN_HEADER_LENGTH;

        bdrv_damage_note(bs, "The header length %" PRIu32 " is wrong: taken "
                         "for %" PRIu32, h->header_length, length);
        h->header_length = length;
    }
    if (h->backing_file_offset > cluster) {
        bdrv_damage_note(bs, "The offset %#" PRIx64 " of the backing file name "
                         "is wrong: %s", h->backing_file_offset,
                         h->backing_file_size ? "what it holds is lost"
                                              : "there is none");
        bs->backing_lost = h->backing_file_size != 0;
        h->backing_file_offset = 0;
    }
    if (h->backing_file_offset &&
        (!h->backing_file_size ||
         h->backing_file_size > MIN((uint64_t)QCOW_MAX_BACKING_NAME,
                                    cluster - h->backing_file_offset))) {
        bdrv_damage_note(bs, "The length %" PRIu32 " of the backing file name "
                         "is wrong: taken to end at the first zero byte",
                         h->backing_file_size);
        h->backing_file_size = MIN((uint64_t)QCOW_MAX_BACKING_NAME,
                                   cluster - h->backing_file_offset);
    }
}

/* --- features --- */

static void derive_features(BlockDriverState *bs, QCowHeader *h)
{
    uint64_t unknown = h->incompatible_features & ~QCOW2_INCOMPAT_MASK;
    bool compression = h->incompatible_features & QCOW2_INCOMPAT_COMPRESSION;

    if (h->version < 3) {
        return;
    }
    if (unknown) {
        bdrv_damage_note(bs, "Unknown incompatible features %#" PRIx64
                         " are taken for damage", unknown);
        h->incompatible_features &= QCOW2_INCOMPAT_MASK;
    }
    if (has_extended_l2(h) && h->cluster_bits < QCOW2_EXTL2_MIN_CLUSTER_BITS) {
        bdrv_damage_note(bs, "Extended L2 entries do not fit clusters of 2^%"
                         PRIu32 " bytes: taken for normal ones",
                         h->cluster_bits);
        h->incompatible_features &= ~QCOW2_INCOMPAT_EXTL2;
    }
    if (h->header_length > offsetof(QCowHeader, compression_type) &&
        (h->compression_type >= QCOW2_COMPRESSION_TYPE__MAX ||
         compression != (h->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB))) {
        bdrv_damage_note(bs, "The compression type %u does not fit the "
                         "features: taken for %s", h->compression_type,
                         compression ? "zstd" : "zlib");
        h->compression_type = compression ? QCOW2_COMPRESSION_TYPE_ZSTD
                                          : QCOW2_COMPRESSION_TYPE_ZLIB;
    }
}

/* --- tables --- */

static bool place_is_bad(const QCowHeader *h, uint64_t offset, uint64_t length)
{
    return !offset || (offset & ((1ULL << h->cluster_bits) - 1)) ||
           offset >= QCOW_MAX_HOST_OFFSET || offset >= length;
}

/* Reading does without refcounts. */
static void check_refcounts(BlockDriverState *bs, QCowHeader *h,
                            uint64_t length)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t bytes = (uint64_t)h->refcount_table_clusters << h->cluster_bits;

    if (h->version == 2) {
        h->refcount_order = 4;
    }
    if (h->refcount_order <= 6 && bytes && bytes <= QCOW_MAX_REFTABLE_SIZE &&
        !place_is_bad(h, h->refcount_table_offset, length)) {
        return;
    }
    bdrv_damage_note(bs, "The refcount table (offset %#" PRIx64 ", %" PRIu32
                     " clusters, order %" PRIu32 ") is wrong: left out",
                     h->refcount_table_offset, h->refcount_table_clusters,
                     h->refcount_order);
    s->refcounts_void = true;
    h->refcount_order = 4;
    h->refcount_table_offset = 0;
    h->refcount_table_clusters = 0;
}

static void check_snapshots(BlockDriverState *bs, QCowHeader *h,
                            uint64_t length)
{
    if (!h->nb_snapshots ||
        (h->nb_snapshots <= QCOW_MAX_SNAPSHOTS &&
         !place_is_bad(h, h->snapshots_offset, length))) {
        return;
    }
    bdrv_damage_note(bs, "The snapshot table (offset %#" PRIx64 ", %" PRIu32
                     " entries) is wrong: left out", h->snapshots_offset,
                     h->nb_snapshots);
    h->nb_snapshots = 0;
    h->snapshots_offset = 0;
}

/* Size of the disk and of the L1 table: one tells the other. */
static void derive_sizes(BlockDriverState *bs, QCowHeader *h, uint64_t length)
{
    unsigned shift = l1_entry_bits(h, h->cluster_bits);
    uint64_t max = QCOW_MAX_L1_SIZE / L1E_SIZE;
    uint64_t needed = l1_entries(h, h->cluster_bits);
    bool size_fits = h->size <= BDRV_MAX_LENGTH && needed <= max;

    if (size_fits && h->l1_size >= needed && h->l1_size <= max) {
        return;
    }
    if (size_fits && h->l1_table_offset < length &&
        needed * L1E_SIZE <= length - h->l1_table_offset) {
        bdrv_damage_note(bs, "The L1 table's size %" PRIu32 " is wrong: taken "
                         "for %" PRIu64 ", which the disk needs", h->l1_size,
                         needed);
        h->l1_size = needed;
    } else if (h->l1_size && h->l1_size <= max &&
               (uint64_t)h->l1_size <= (uint64_t)BDRV_MAX_LENGTH >> shift) {
        bdrv_damage_note(bs, "The size %" PRIu64 " of the disk is wrong: taken "
                         "for %" PRIu64 ", which the L1 table describes",
                         h->size, (uint64_t)h->l1_size << shift);
        h->size = (uint64_t)h->l1_size << shift;
    } else if (size_fits) {
        h->l1_size = needed;
    }
}

/* Whether an extension says where a LUKS header is. */
static bool coroutine_fn has_luks_header(BlockDriverState *bs,
                                         const QCowHeader *h)
{
    uint64_t end = 1ULL << h->cluster_bits;
    uint64_t offset = h->header_length;
    uint32_t ext[2];

    while (offset + sizeof(ext) <= end &&
           bdrv_co_pread(bs->file, offset, sizeof(ext), ext, 0) >= 0 &&
           ext[0]) {
        if (be32_to_cpu(ext[0]) == QCOW2_EXT_MAGIC_CRYPTO_HEADER) {
            return true;
        }
        offset += sizeof(ext) + ROUND_UP((uint64_t)be32_to_cpu(ext[1]), 8);
    }
    return false;
}

static void coroutine_fn derive_encryption(BlockDriverState *bs, QCowHeader *h)
{
    if (h->crypt_method <= QCOW_CRYPT_LUKS) {
        return;
    }
    if (has_luks_header(bs, h)) {
        bdrv_damage_note(bs, "The encryption method %" PRIu32 " is wrong: "
                         "taken for LUKS, which has a header",
                         h->crypt_method);
        h->crypt_method = QCOW_CRYPT_LUKS;
    } else {
        bdrv_damage_note(bs, "The encryption method %" PRIu32 " is wrong: "
                         "taken for none", h->crypt_method);
        h->crypt_method = QCOW_CRYPT_NONE;
    }
}

void coroutine_fn qcow2_salvage_header(BlockDriverState *bs, QCowHeader *h)
{
    int64_t length = bdrv_co_getlength(bs->file->bs);

    derive_basics(bs, h);
    derive_lengths(bs, h);
    if (h->cluster_bits < MIN_CLUSTER_BITS ||
        h->cluster_bits > MAX_CLUSTER_BITS) {
        return;     /* an error says so */
    }
    derive_features(bs, h);
    derive_encryption(bs, h);
    check_refcounts(bs, h, MAX(length, 0));
    check_snapshots(bs, h, MAX(length, 0));
    derive_sizes(bs, h, MAX(length, 0));
}

/* --- finding the L1 table --- */

typedef struct Search {
    BlockDriverState *bs;
    uint64_t length;        /* of the file */
    uint32_t l1_size;
    uint64_t *head;
    uint64_t *l2;
} Search;

/* Whether what lies at @offset is an L2 table with something in it. */
static bool coroutine_fn looks_like_l2(Search *f, uint64_t offset)
{
    BDRVQcow2State *s = f->bs->opaque;
    int used = 0;
    /* A data file is not open yet. */
    uint64_t length = s->has_data_file ? BDRV_MAX_LENGTH : f->length;

    if (bdrv_co_pread(f->bs->file, offset, s->cluster_size, f->l2, 0) < 0) {
        return false;
    }
    for (int i = 0; i < s->l2_size; i++) {
        uint64_t entry = get_l2_entry(s, f->l2, i);
        uint64_t bitmap = get_l2_bitmap(s, f->l2, i);

        if (qcow2_salvage_judge_l2(s, entry, bitmap, length).cause) {
            return false;
        }
        used += entry || bitmap;
    }
    return used > 0;
}

/* How much the table at @offset looks like the active L1 table; 0: not. */
static unsigned coroutine_fn score(Search *f, uint64_t offset)
{
    BDRVQcow2State *s = f->bs->opaque;
    uint32_t n = MIN(f->l1_size, (uint32_t)(MIN(L1_HEAD_BYTES, s->cluster_size)
                                            / L1E_SIZE));
    unsigned samples = 0, points = 0;

    if (bdrv_co_pread(f->bs->file, offset, n * L1E_SIZE, f->head, 0) < 0) {
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t entry = be64_to_cpu(f->head[i]);

        if (qcow2_salvage_judge_l1(s, entry, f->length).cause) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < n && samples < L2_SAMPLES; i++) {
        uint64_t entry = be64_to_cpu(f->head[i]);

        if (!entry) {
            continue;
        }
        samples++;
        if (looks_like_l2(f, entry & L1E_OFFSET_MASK)) {
            /* Only the active table owns what it refers to. */
            points += entry & QCOW_OFLAG_COPIED ? 3 : 2;
        }
    }
    return points >= samples ? points : 0;
}

/* Bytes of a hole that @offset is in. */
static int64_t coroutine_fn skip_hole(Search *f, uint64_t offset)
{
    int64_t n;
    int ret = bdrv_co_block_status(f->bs->file->bs, offset, f->length - offset,
                                   &n, NULL, NULL);

    return ret >= 0 && (ret & BDRV_BLOCK_ZERO) ? n : 0;
}

static uint64_t coroutine_fn find_l1(Search *f)
{
    BDRVQcow2State *s = f->bs->opaque;
    uint64_t offset = s->cluster_size, best = 0;
    unsigned best_points = 0;

    while (offset + f->l1_size * L1E_SIZE <= f->length) {
        int64_t n = skip_hole(f, offset);
        unsigned points = n ? 0 : score(f, offset);

        if (points > best_points) {
            best = offset;
            best_points = points;
        }
        offset = ROUND_UP(offset + MAX(n, 1), (uint64_t)s->cluster_size);
    }
    return best;
}

void coroutine_fn qcow2_salvage_l1_place(BlockDriverState *bs, QCowHeader *h)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_co_getlength(bs->file->bs);
    g_autofree uint64_t *head = g_try_malloc(L1_HEAD_BYTES);
    g_autofree uint64_t *l2 = g_try_malloc(s->cluster_size);
    Search f = { bs, MAX(length, 0), h->l1_size, head, l2 };
    uint64_t found;

    if (!h->l1_size || !place_is_bad(h, h->l1_table_offset, f.length)) {
        return;
    }
    found = head && l2 ? find_l1(&f) : 0;
    if (found) {
        bdrv_damage_note(bs, "The offset %#" PRIx64 " of the L1 table is "
                         "wrong: found one at %#" PRIx64, h->l1_table_offset,
                         found);
        h->l1_table_offset = found;
        return;
    }
    bdrv_damage_note(bs, "The offset %#" PRIx64 " of the L1 table is wrong, "
                     "and no other table looks like it: everything is lost",
                     h->l1_table_offset);
    /* Behind everything, so that it reads as poison. */
    h->l1_table_offset = ROUND_UP(f.length, (uint64_t)s->cluster_size);
}
