/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A single damaged field of the header, restored by proof.
 *
 * Such an image often cannot be opened, and if it can what is found makes no
 * sense; so this comes before everything else. Candidates for the right value
 * are tried: the image is opened read-only above a node that has the candidate
 * in place, and checked. A field is written only if with one value of one field
 * nothing at all is found.
 *
 * Only fields that lead to the tables, and those that tell how to read them,
 * have such a witness. Nothing tells the size of the disk, the backing file or
 * the features: they are left as they are.
 */
#include "util/osdep.h"
#include <time.h>
#include "util/bswap.h"
#include "util/error.h"
#include "util/zero.h"
#include "block/block.h"
#include "block/block_int.h"
#include "block/record.h"
#include "block/block-backend.h"
#include "block/qcow2/check.h"
#include "qobject/qdict.h"

#define SECTOR QCOW2_HEADER_SECTOR
/* Candidates, and places that look like a table of one kind. */
#define MAX_CANDIDATES 1024
#define MAX_PLACES 64
/* Clusters that are looked at, and bytes of each. */
#define MAX_CLUSTERS (256 * 1024)
#define HEAD 512
/* Entries of an L1 table among which the last one is looked for. */
#define MAX_L1 (64 * 1024)
#define MAX_SNAPSHOTS 64
/* Candidates named in a message. */
#define MAX_LISTED 8
/* It takes no longer: seconds of processor time. */
#define MAX_SECONDS 2

typedef struct Field {
    uint32_t offset;
    uint32_t bytes;
    const char *name;
    bool leaks;             /* a wrong value may look like leaks alone */
    bool v3;                /* there is none in version 2 */
} Field;

enum {
    VERSION, CLUSTER_BITS, L1_SIZE, L1_OFFSET, REFT_OFFSET, REFT_CLUSTERS,
    NB_SNAPSHOTS, SNAP_OFFSET, REFCOUNT_ORDER, NB_FIELDS,
};

#define FIELD(member) offsetof(QCowHeader, member), \
                      sizeof(((QCowHeader *)NULL)->member)

static const Field fields[NB_FIELDS] = {
    [VERSION] = { FIELD(version), "version" },
    [CLUSTER_BITS] = { FIELD(cluster_bits), "size of clusters" },
    [L1_SIZE] = { FIELD(l1_size), "size of the L1 table", true },
    [L1_OFFSET] = { FIELD(l1_table_offset), "offset of the L1 table", true },
    [REFT_OFFSET] = {
        FIELD(refcount_table_offset), "offset of the refcount table",
    },
    [REFT_CLUSTERS] = {
        FIELD(refcount_table_clusters), "size of the refcount table", true,
    },
    [NB_SNAPSHOTS] = { FIELD(nb_snapshots), "number of snapshots", true },
    [SNAP_OFFSET] = {
        FIELD(snapshots_offset), "offset of the snapshot table", true,
    },
    [REFCOUNT_ORDER] = {
        FIELD(refcount_order), "width of refcounts", false, true,
    },
};

typedef struct Candidate {
    const Field *field;
    uint64_t value;
} Candidate;

typedef struct Restore {
    BlockDriverState *file;
    BlockBackend *blk;
    uint64_t length;
    uint8_t raw[SECTOR];
    clock_t deadline;
    GArray *candidates;         /* Candidate */
} Restore;

static uint64_t get(const Restore *r, const Field *f)
{
    return f->bytes == 4 ? ldl_be_p(r->raw + f->offset)
                         : ldq_be_p(r->raw + f->offset);
}

static uint64_t value(const Restore *r, int field)
{
    return get(r, &fields[field]);
}

static bool bits_are_valid(const Restore *r)
{
    return value(r, CLUSTER_BITS) >= MIN_CLUSTER_BITS &&
           value(r, CLUSTER_BITS) <= MAX_CLUSTER_BITS;
}

static uint64_t cluster_size(const Restore *r)
{
    return UINT64_C(1) << value(r, CLUSTER_BITS);
}

/* Aligned, and as far as the file is whole clusters. */
static bool fits(const Restore *r, uint64_t offset, uint64_t bytes)
{
    uint64_t end = ROUND_UP(r->length, cluster_size(r));

    return offset && !(offset & (cluster_size(r) - 1)) && offset < end &&
           bytes <= end - offset;
}

/* --- trials --------------------------------------------------------------- */

typedef enum Outcome {
    CLEAN,
    LEAKS,          /* alone */
    WRONG,          /* or it cannot be opened */
} Outcome;

static Outcome check(BlockDriverState *file, bool first_fault)
{
    const BdrvCheckOptions opts = { .quiet = true, .first_fault = first_fault };
    BdrvCheckResult res = { 0 };
    QDict *options = qdict_new();
    BlockBackend *blk;
    int ret;

    qdict_put_str(options, "driver", "qcow2");
    qdict_put_str(options, "file", bdrv_get_node_name(file));
    qdict_put_null(options, "backing");
    blk = blk_new_open(NULL, NULL, options, BDRV_O_CHECK | BDRV_O_QUIET,
                       NULL);
    if (!blk) {
        return WRONG;
    }
    ret = qcow2_check_snapshots_make_sense(blk_bs(blk)->opaque)
          ? bdrv_check_opts(blk_bs(blk), &res, &opts) : -EINVAL;
    blk_unref(blk);
    if (ret < 0 || res.corruptions || res.check_errors) {
        return WRONG;
    }
    return res.leaks ? LEAKS : CLEAN;
}

static void put(const Candidate *c, uint8_t *bytes)
{
    if (c->field->bytes == 4) {
        stl_be_p(bytes, c->value);
    } else {
        stq_be_p(bytes, c->value);
    }
}

static int write_field(BlockDriverState *bs, const Candidate *c)
{
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_WRITE, BLK_PERM_ALL,
                                        NULL);
    uint8_t bytes[8];
    int ret;

    if (!blk) {
        return -EACCES;
    }
    put(c, bytes);
    ret = blk_pwrite(blk, c->field->offset, c->field->bytes, bytes, 0);
    if (ret >= 0) {
        ret = blk_flush(blk);
    }
    blk_unref(blk);
    return MIN(ret, 0);
}

/* The tables can be where the header has them, with @c in place. */
static bool is_sane(const Restore *r, const Candidate *c)
{
    Restore with = *r;
    uint64_t mask;

    put(c, with.raw + c->field->offset);
    if (!bits_are_valid(&with)) {
        return false;
    }
    mask = cluster_size(&with) - 1;
    return fits(&with, value(&with, L1_OFFSET),
                value(&with, L1_SIZE) * L1E_SIZE) &&
           fits(&with, value(&with, REFT_OFFSET),
                value(&with, REFT_CLUSTERS) * (mask + 1)) &&
           value(&with, NB_SNAPSHOTS) <= QCOW_MAX_SNAPSHOTS &&
           (!value(&with, NB_SNAPSHOTS) ||
            fits(&with, value(&with, SNAP_OFFSET),
                 value(&with, NB_SNAPSHOTS) * sizeof(QCowSnapshotHeader)));
}

static Outcome try(Restore *r, const Candidate *c)
{
    g_autoptr(BlockDriverState) record = bdrv_record_new(r->file, NULL);

    if (!record || write_field(record, c) < 0) {
        return WRONG;
    }
    return check(record, true);
}

/* --- candidates ----------------------------------------------------------- */

/* Version 2 has no such field, and other bytes there. */
static bool has_v3_length(const Restore *r)
{
    uint32_t length = ldl_be_p(r->raw + offsetof(QCowHeader, header_length));

    return length == QCOW2_V3_MIN_HEADER_LENGTH ||
           length == QCOW2_V3_HEADER_LENGTH;
}

/* What a table cannot be is not tried. */
static bool is_possible(const Restore *r, int field, uint64_t v)
{
    switch (field) {
    case VERSION:
        return v == (has_v3_length(r) ? 3 : 2);
    case CLUSTER_BITS:
        return v >= MIN_CLUSTER_BITS && v <= MAX_CLUSTER_BITS;
    case L1_SIZE:
        return v && v <= QCOW_MAX_L1_SIZE / L1E_SIZE &&
               v * L1E_SIZE <= r->length;
    case REFT_CLUSTERS:
        return v && v <= QCOW_MAX_REFTABLE_SIZE >> value(r, CLUSTER_BITS);
    case NB_SNAPSHOTS:
        return v <= QCOW_MAX_SNAPSHOTS;
    case REFCOUNT_ORDER:
        return v <= 6;
    default:
        return v && v < r->length && !(v & (cluster_size(r) - 1));
    }
}

static void add(Restore *r, int field, uint64_t v)
{
    Candidate c = { .field = &fields[field], .value = v };
    guint i;

    if (v == value(r, field) || !is_possible(r, field, v) ||
        (c.field->v3 && value(r, VERSION) < 3)) {
        return;
    }
    for (i = 0; i < r->candidates->len; i++) {
        const Candidate *other = &g_array_index(r->candidates, Candidate, i);

        if (other->field == c.field && other->value == v) {
            return;
        }
    }
    g_array_append_val(r->candidates, c);
}

static void add_bits(Restore *r, int field)
{
    unsigned i;

    for (i = 0; i < fields[field].bytes * 8; i++) {
        add(r, field, value(r, field) ^ UINT64_C(1) << i);
    }
}

static void add_range(Restore *r, int field, uint64_t first, uint64_t last)
{
    for (; first <= last; first++) {
        add(r, field, first);
    }
}

/* What the disk needs, and what the table has. */
static void add_l1_sizes(Restore *r)
{
    uint64_t size = ldq_be_p(r->raw + offsetof(QCowHeader, size));
    unsigned bits = 2 * value(r, CLUSTER_BITS) - 3;
    uint64_t offset = value(r, L1_OFFSET);
    g_autofree uint64_t *table = NULL;
    uint64_t n, i;

    if (value(r, VERSION) >= 3 &&
        ldq_be_p(r->raw + offsetof(QCowHeader, incompatible_features)) &
        QCOW2_INCOMPAT_EXTL2) {
        bits--;
    }
    add(r, L1_SIZE, (size >> bits) + !!(size & ((UINT64_C(1) << bits) - 1)));
    if (offset >= r->length) {
        return;
    }
    n = MIN((r->length - offset) / L1E_SIZE, MAX_L1);
    table = g_try_new(uint64_t, n);
    if (!table || blk_pread(r->blk, offset, n * L1E_SIZE, table, 0) < 0) {
        return;
    }
    /* Up to the first thing that is no entry. */
    for (i = 0; i < n; i++) {
        uint64_t entry = be64_to_cpu(table[i]);

        if (entry & L1E_RESERVED_MASK ||
            (entry & L1E_OFFSET_MASK) >= r->length) {
            break;
        }
        if (entry && (i + 1 == n || !table[i + 1])) {
            add(r, L1_SIZE, i + 1);
        }
    }
}

/* --- what clusters look like ---------------------------------------------- */

/* Entries that name clusters of the file; with @flags: may be COPIED. */
static bool looks_like_table(const Restore *r, const uint8_t *head, bool flags)
{
    bool any = false;
    unsigned i;

    for (i = 0; i < HEAD; i += 8) {
        uint64_t entry = ldq_be_p(head + i);
        uint64_t offset = entry & ~(flags ? QCOW_OFLAG_COPIED : 0);

        if (offset & (cluster_size(r) - 1) || offset >= r->length) {
            return false;
        }
        any = any || offset;
    }
    return any;
}

static bool looks_like_snapshots(const Restore *r, const uint8_t *head)
{
    QCowSnapshotHeader h;
    uint64_t offset;

    memcpy(&h, head, sizeof(h));
    offset = be64_to_cpu(h.l1_table_offset);
    return offset && offset < r->length && !(offset & (cluster_size(r) - 1)) &&
           be32_to_cpu(h.l1_size) <= QCOW_MAX_L1_SIZE / L1E_SIZE &&
           be32_to_cpu(h.extra_data_size) <= QCOW_MAX_SNAPSHOT_EXTRA_DATA &&
           h.id_str_size;
}

static void add_places(Restore *r)
{
    unsigned nb_l1 = 0, nb_reft = 0, nb_snap = 0;
    uint8_t head[HEAD];
    uint64_t offset;

    if (r->length / cluster_size(r) > MAX_CLUSTERS) {
        return;
    }
    for (offset = cluster_size(r); offset + HEAD <= r->length;
         offset += cluster_size(r)) {
        if (blk_pread(r->blk, offset, HEAD, head, 0) < 0) {
            continue;
        }
        if (looks_like_table(r, head, true) && nb_l1++ < MAX_PLACES) {
            add(r, L1_OFFSET, offset);
        }
        if (looks_like_table(r, head, false) && nb_reft++ < MAX_PLACES) {
            add(r, REFT_OFFSET, offset);
        }
        if (looks_like_snapshots(r, head) && nb_snap++ < MAX_PLACES) {
            add(r, SNAP_OFFSET, offset);
        }
    }
}

static void add_all(Restore *r)
{
    add_range(r, VERSION, 2, 3);
    add_range(r, CLUSTER_BITS, MIN_CLUSTER_BITS, MAX_CLUSTER_BITS);
    if (!bits_are_valid(r)) {
        return;
    }
    add_bits(r, L1_SIZE);
    add_l1_sizes(r);
    add_bits(r, L1_OFFSET);
    add_bits(r, REFT_OFFSET);
    add_bits(r, REFT_CLUSTERS);
    add_range(r, REFT_CLUSTERS, 1, 16);
    add_bits(r, NB_SNAPSHOTS);
    add_range(r, NB_SNAPSHOTS, 0, MAX_SNAPSHOTS);
    add_bits(r, SNAP_OFFSET);
    add_range(r, REFCOUNT_ORDER, 0, 6);
    add_places(r);
}

/* --- choosing ------------------------------------------------------------- */

/* Tables of several lengths differ in zeroes behind the end. */
static bool is_alike(const Candidate *a, const Candidate *b)
{
    return a->field == b->field && a->field == &fields[L1_SIZE];
}

/* Whether the file has nothing but zeroes there, or it cannot be read. */
static bool reads_as_zeroes(Restore *r, uint64_t offset, uint64_t end)
{
    uint8_t piece[4096];

    for (end = MIN(end, r->length); offset < end; offset += sizeof(piece)) {
        uint64_t n = MIN(sizeof(piece), end - offset);

        if (blk_pread(r->blk, offset, n, piece, 0) < 0) {
            return true;
        }
        if (!buffer_is_zero(piece, n)) {
            return false;
        }
    }
    return true;
}

/*
 * Whether the table becomes longer by zeroes only. What is leaked behind a
 * table and empty is an ordinary leak: a cluster that nobody came to use.
 */
static bool takes_zeroes(Restore *r, const Candidate *c)
{
    bool is_l1 = c->field == &fields[L1_SIZE];
    uint64_t start = value(r, is_l1 ? L1_OFFSET : REFT_OFFSET);
    uint64_t entry = is_l1 ? L1E_SIZE : cluster_size(r);
    uint64_t now = get(r, c->field);

    return (is_l1 || c->field == &fields[REFT_CLUSTERS]) && c->value > now &&
           reads_as_zeroes(r, start + now * entry, start + c->value * entry);
}

/* Leaves those with which nothing is found; false: that takes too long. */
static bool try_all(Restore *r, bool only_leaks)
{
    guint in, out = 0;

    for (in = 0; in < r->candidates->len; in++) {
        Candidate c = g_array_index(r->candidates, Candidate, in);

        if (clock() > r->deadline) {
            return false;
        }
        if ((c.field->leaks || !only_leaks) && is_sane(r, &c) &&
            try(r, &c) == CLEAN && !(only_leaks && takes_zeroes(r, &c))) {
            g_array_index(r->candidates, Candidate, out++) = c;
        }
    }
    g_array_set_size(r->candidates, out);
    return true;
}

/* The one that is right, or NULL. */
static const Candidate *choose(const Restore *r)
{
    const Candidate *best = NULL;
    guint i;

    for (i = 0; i < r->candidates->len; i++) {
        const Candidate *c = &g_array_index(r->candidates, Candidate, i);

        if (best && !is_alike(best, c)) {
            return NULL;
        }
        if (!best || c->value < best->value) {
            best = c;
        }
    }
    return best;
}

static void tell(const Restore *r, const Candidate *best, GString *said)
{
    guint i;

    if (best) {
        g_string_append_printf(said, "Repairing the %s in the header: 0x%"
                               PRIx64 " becomes 0x%" PRIx64 ", with which "
                               "everything agrees\n", best->field->name,
                               get(r, best->field), best->value);
        return;
    }
    for (i = 0; i < MIN(r->candidates->len, MAX_LISTED); i++) {
        const Candidate *c = &g_array_index(r->candidates, Candidate, i);

        g_string_append_printf(said, "The %s in the header, 0x%" PRIx64 ", may "
                               "have been 0x%" PRIx64 "\n", c->field->name,
                               get(r, c->field), c->value);
    }
}

/* A file that is long enough for a header that may be repaired. */
static bool read_header(Restore *r)
{
    uint64_t incompatible;

    if (r->length < SECTOR || blk_pread(r->blk, 0, SECTOR, r->raw, 0) < 0 ||
        ldl_be_p(r->raw) != QCOW_MAGIC) {
        return false;
    }
    incompatible = ldq_be_p(r->raw + offsetof(QCowHeader,
                                              incompatible_features));
    /* Refcounts of dirty images prove nothing; data are elsewhere, or more is
     * there than is known. */
    return value(r, VERSION) != 3 ||
           !(incompatible & ~(QCOW2_INCOMPAT_MASK & ~(QCOW2_INCOMPAT_DIRTY |
                                                QCOW2_INCOMPAT_DATA_FILE)));
}

static int restore(Restore *r, GString *said)
{
    Outcome now = read_header(r) ? check(r->file, false) : CLEAN;
    const Candidate *best;

    if (now == CLEAN) {
        return 0;
    }
    add_all(r);
    if (r->candidates->len > MAX_CANDIDATES || !try_all(r, now == LEAKS)) {
        return 0;
    }
    best = choose(r);
    tell(r, best, said);
    if (best) {
        int ret = write_field(r->file, best);

        return ret < 0 ? ret : 1;
    }
    return r->candidates->len ? -EAGAIN : 0;
}

int qcow2_restore_header(BlockDriverState *file, GString *said)
{
    g_autoptr(GArray) candidates = g_array_new(FALSE, FALSE,
                                               sizeof(Candidate));
    int64_t length = bdrv_getlength(file);
    Restore r = {
        .file = file, .length = MAX(length, 0), .candidates = candidates,
        .deadline = clock() + MAX_SECONDS * CLOCKS_PER_SEC,
    };
    int ret;

    if (length < 0) {
        return length;
    }
    r.blk = blk_new_with_bs(file, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                            NULL);
    if (!r.blk) {
        return -EACCES;
    }
    ret = restore(&r, said);
    blk_unref(r.blk);
    return ret;
}
