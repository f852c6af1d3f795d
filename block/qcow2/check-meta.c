/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the check counts besides the active tables: snapshots, the encryption
 * header and the refcount structure itself.
 *
 * Sizes come from the image and may be anything: nothing is read or allocated
 * beyond the end of the file, and long tables are read in pieces.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "block/qcow2/check.h"
#include "block/qcow2/snapshot.h"

/* Bytes of a long table read at a time. */
#define PIECE_BYTES (1024 * 1024)

/* --- stored refcounts ------------------------------------------------- */

typedef struct BlockRead {
    Qcow2CheckRead read;
    uint64_t index;         /* in the refcount table */
} BlockRead;

static int compare_block_read(const void *a, const void *b)
{
    const BlockRead *x = a;
    const BlockRead *y = b;

    return x->read.offset < y->read.offset ? -1
           : x->read.offset > y->read.offset;
}

/* A word of a refcount block, as it is stored, with 1 for each cluster. */
static uint64_t word_of_ones(const BDRVQcow2State *s)
{
    uint64_t word = 0;

    for (int i = 0; i < 64 / s->refcount_bits; i++) {
        qcow2_refcount_block_set(s, &word, i, 1);
    }
    return word;
}

/* How many of the whole words from @i to @end, in a row, are @ones. */
static uint64_t words_of_ones(const uint64_t *words, uint64_t i, uint64_t end,
                              uint64_t ones)
{
    uint64_t start = i;

    while (i < end && words[i] == ones) {
        i++;
    }
    return i - start;
}

static void coroutine_fn load_block(Qcow2Check *c, void *element, void *buf,
                                    int ret)
{
    BDRVQcow2State *s = c->s;
    const BlockRead *block = element;
    uint64_t first = block->index << s->refcount_block_bits;
    uint64_t n = MIN((uint64_t)s->refcount_block_size,
                     c->nb_clusters - first);
    const uint64_t *words = buf;
    uint64_t per_word = 64 / s->refcount_bits;
    uint64_t ones = word_of_ones(s);
    uint64_t i;

    if (ret < 0) {
        c->block_state[block->index] = QCOW2_CHECK_BLOCK_BAD;
        return;
    }
    c->block_state[block->index] = QCOW2_CHECK_BLOCK_GOOD;
    for (i = 0; i < n; i++) {
        if (i % per_word == 0 && words[i / per_word] == 0) {
            i += per_word - 1;
            continue;
        }
        if (i % per_word == 0 && words[i / per_word] == ones) {
            uint64_t run = words_of_ones(words, i / per_word,
                                         n / per_word, ones) * per_word;

            if (run) {
                qcow2_check_counts_fill(c->disk, first + i, run);
                i += run - 1;
                continue;
            }
        }
        qcow2_check_counts_set(c->disk, first + i,
                               qcow2_refcount_block_get(s, buf, i));
    }
}

int coroutine_fn qcow2_check_load_refcounts(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;
    g_autoptr(GArray) reads = g_array_new(FALSE, FALSE, sizeof(BlockRead));
    uint64_t i;

    /* Blocks that describe clusters beyond the file are of no interest. */
    c->nb_blocks = MIN((c->nb_clusters + s->refcount_block_size - 1) >>
                           s->refcount_block_bits, s->reftable.size);
    c->block_state = g_try_malloc0(MAX(c->nb_blocks, 1));
    if (!c->block_state) {
        return -ENOMEM;
    }
    for (i = 0; i < c->nb_blocks; i++) {
        BlockRead block = {
            .read = {
                .offset = s->reftable.entries[i] & REFT_OFFSET_MASK,
                .bytes = s->cluster_size,
            },
            .index = i,
        };

        if (block.read.offset == 0) {
            c->block_state[i] = QCOW2_CHECK_BLOCK_NONE;
        } else if (offset_into_cluster(s, block.read.offset)) {
            c->block_state[i] = QCOW2_CHECK_BLOCK_BAD;
        } else if (!qcow2_check_in_file(c, block.read.offset)) {
            c->block_state[i] = QCOW2_CHECK_BLOCK_GOOD;     /* zeroes */
        } else {
            g_array_append_val(reads, block);
        }
    }
    g_array_sort(reads, compare_block_read);
    qcow2_check_read_many(c, reads->data, reads->len, sizeof(BlockRead),
                          load_block);
    return 0;
}

/* --- the refcount structure ------------------------------------------- */

static void note_structure(Qcow2Check *c, uint64_t offset, uint64_t bytes)
{
    Qcow2CheckExtent extent = { .offset = offset, .bytes = bytes };

    if (qcow2_check_count(c, offset, bytes, 1)) {
        g_array_append_val(c->structure, extent);
    } else {
        c->rebuild = true;
    }
}

static void count_block(Qcow2Check *c, uint32_t i)
{
    BDRVQcow2State *s = c->s;
    uint64_t entry = s->reftable.entries[i];
    uint64_t offset = entry & REFT_OFFSET_MASK;
    uint64_t cluster = offset >> s->cluster_bits;
    uint64_t refs;

    if (entry & REFT_RESERVED_MASK) {
        qcow2_check_corruption(c, 1, "ERROR refcount table entry %u has "
                               "reserved bits set", i);
    } else if (offset_into_cluster(s, offset)) {
        qcow2_check_corruption(c, 1, "ERROR refcount block %u is not cluster "
                               "aligned; refcount table entry corrupted", i);
    } else if (cluster >= c->nb_clusters) {
        qcow2_check_corruption(c, 1, "ERROR refcount block %u is outside "
                               "image", i);
    } else if (offset == 0) {
        return;
    } else {
        note_structure(c, offset, s->cluster_size);
        refs = qcow2_check_found(c, cluster);
        if (refs == 1) {
            return;
        }
        /* Else the overflow has been counted. */
        if (qcow2_check_counts_get(c->refs, cluster) != 1) {
            qcow2_check_corruption(c, 1, "ERROR refcount block %u refcount=%"
                                   PRIu64, i, refs);
        }
    }
    c->structure_faults++;
    c->rebuild = true;
}

void coroutine_fn qcow2_check_count_structure(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;
    int64_t bad_references = c->bad_references;
    int64_t corruptions = c->res->corruptions;
    uint32_t i;

    note_structure(c, s->reftable.offset,
                   (uint64_t)s->reftable.size * REFTABLE_ENTRY_SIZE);
    c->structure_faults += c->res->corruptions - corruptions;
    for (i = 0; i < s->reftable.size; i++) {
        count_block(c, i);
    }
    /*
     * The structure refers to nothing but its own blocks, and these are given
     * up by a new one: faults in it leave other references proven.
     */
    c->bad_references = bad_references;
}

/* --- snapshots -------------------------------------------------------- */

typedef struct L1Read {
    Qcow2CheckRead read;
    size_t first;           /* entry of the table */
} L1Read;

static void coroutine_fn load_l1_piece(Qcow2Check *c, void *element,
                                       void *buf, int ret)
{
    const L1Read *l1 = element;
    size_t n = l1->read.bytes / L1E_SIZE;
    uint64_t *entries = buf;
    size_t i;

    if (ret < 0) {
        qcow2_check_io_error(c, ret, "Could not read L1 table at offset 0x%"
                             PRIx64, l1->read.offset);
        return;
    }
    for (i = 0; i < n; i++) {
        be64_to_cpus(&entries[i]);
    }
    qcow2_check_l1_entries(c, entries, l1->first, n, false);
}

static void note_l1(GArray *reads, uint64_t offset, uint64_t bytes)
{
    size_t first = 0;

    while (bytes) {
        L1Read l1 = {
            .read = { .offset = offset, .bytes = MIN(bytes, PIECE_BYTES) },
            .first = first,
        };

        g_array_append_val(reads, l1);
        offset += l1.read.bytes;
        bytes -= l1.read.bytes;
        first += l1.read.bytes / L1E_SIZE;
    }
}

static void coroutine_fn count_snapshots(Qcow2Check *c)
{
    BDRVQcow2State *s = c->s;
    g_autoptr(GArray) reads = g_array_new(FALSE, FALSE, sizeof(L1Read));
    uint32_t i;

    for (i = 0; i < s->nb_snapshots; i++) {
        const QCowSnapshot *sn = &s->snapshots[i];
        uint64_t bytes = (uint64_t)sn->l1_size * L1E_SIZE;

        if (qcow2_snapshot_extra_is_bad(sn)) {
            qcow2_check_bad_reference(c, 1, "ERROR snapshot table entry %u has "
                                      "too much extra data", i);
        } else if (s->qcow_version >= 3 &&
                   sn->extra_data_size <
                   endof(QCowSnapshotExtraData, disk_size)) {
            qcow2_check_corruption(c, 1, "ERROR snapshot table entry %u is "
                                   "incomplete", i);
        }
        if (offset_into_cluster(s, sn->l1_table_offset)) {
            qcow2_check_bad_reference(
                c, 1, "ERROR snapshot %s (%s) l1_offset=0x%" PRIx64 ": L1 "
                "table is not cluster aligned; snapshot table entry corrupted",
                sn->id_str, sn->name, sn->l1_table_offset);
        } else if (bytes > QCOW_MAX_L1_SIZE) {
            qcow2_check_bad_reference(
                c, 1, "ERROR snapshot %s (%s) l1_size=0x%x: L1 table is too "
                "large; snapshot table entry corrupted",
                sn->id_str, sn->name, sn->l1_size);
        } else if (qcow2_check_count(c, sn->l1_table_offset, bytes, 1)) {
            note_l1(reads, sn->l1_table_offset, bytes);
        }
        if (reads->len >= 1024 || i + 1 == s->nb_snapshots) {
            qcow2_check_read_many(c, reads->data, reads->len, sizeof(L1Read),
                                  load_l1_piece);
            g_array_set_size(reads, 0);
        }
    }
    qcow2_check_count(c, s->snapshots_offset, s->snapshots_size, 1);
}

/* --- encryption ------------------------------------------------------- */

static void count_crypto_header(Qcow2Check *c)
{
    Qcow2UnknownHeaderExtension *ext;

    QTAILQ_FOREACH(ext, &c->s->unknown_header_ext, next) {
        if (ext->magic == QCOW2_EXT_MAGIC_CRYPTO_HEADER && ext->len >= 16) {
            qcow2_check_count(c, ldq_be_p(ext->data),
                              ldq_be_p(ext->data + 8), 1);
        }
    }
}

void coroutine_fn qcow2_check_count_metadata(Qcow2Check *c)
{
    count_snapshots(c);
    count_crypto_header(c);
    qcow2_check_count_bitmaps(c);
}
