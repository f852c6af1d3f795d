/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Internal snapshots: what they keep, also when the file fails at any request
 * or power is cut at any change of the file. Then the image is what it was
 * before the operation, or what it is after it; nothing is corrupt, and not
 * even space is lost.
 */
#include "util/osdep.h"
#include "qcow2-fixture.h"
#include "block/snapshot.h"
#include "util/bswap.h"

#define DISK (256 * 1024)
#define MAX_SNAPSHOTS 8

/* What a disk reads as. */
typedef struct Content {
    char *name;             /* of the snapshot; NULL: the disk itself */
    uint64_t size;
    uint8_t *data;
} Content;

/* An image as it should be. */
typedef struct Model {
    Content disk;
    Content snapshots[MAX_SNAPSHOTS];
    int nb;
} Model;

/* --- the model --- */

static Content content_copy(const Content *from, const char *name)
{
    return (Content) {
        .name = g_strdup(name),
        .size = from->size,
        .data = g_memdup2(from->data, from->size),
    };
}

static void content_clear(Content *c)
{
    g_free(c->name);
    g_free(c->data);
    *c = (Content) { 0 };
}

static void model_init(Model *m, uint64_t size)
{
    *m = (Model) { .disk = { .size = size, .data = g_malloc0(size) } };
}

static void model_copy(Model *to, const Model *from)
{
    *to = (Model) { .disk = content_copy(&from->disk, NULL), .nb = from->nb };
    for (int i = 0; i < from->nb; i++) {
        to->snapshots[i] = content_copy(&from->snapshots[i],
                                        from->snapshots[i].name);
    }
}

static void model_clear(Model *m)
{
    content_clear(&m->disk);
    for (int i = 0; i < m->nb; i++) {
        content_clear(&m->snapshots[i]);
    }
}

static int model_find(const Model *m, const char *name)
{
    for (int i = 0; i < m->nb; i++) {
        if (!strcmp(m->snapshots[i].name, name)) {
            return i;
        }
    }
    g_assert_not_reached();
}

static bool same_content(const Content *a, const Content *b)
{
    return a->size == b->size && !memcmp(a->data, b->data, a->size) &&
           !g_strcmp0(a->name, b->name);
}

static bool same_model(const Model *a, const Model *b)
{
    bool same = a->nb == b->nb && same_content(&a->disk, &b->disk);

    for (int i = 0; same && i < a->nb; i++) {
        same = same_content(&a->snapshots[i], &b->snapshots[i]);
    }
    return same;
}

/* --- what an image really holds --- */

static Content read_content(BlockBackend *blk, const char *name)
{
    Content c = { .name = g_strdup(name), .size = blk_getlength(blk) };

    c.data = g_malloc(c.size);
    g_assert_cmpint(blk_pread(blk, 0, c.size, c.data, 0), ==, 0);
    return c;
}

static void read_model(RamDisk *disk, Model *m)
{
    BlockBackend *blk = ram_disk_open(disk, 0, NULL, NULL);
    g_autoptr(SnapshotInfoList) list = NULL;

    list = bdrv_snapshot_list(blk_bs(blk), &error_abort);
    *m = (Model) { .disk = read_content(blk, NULL) };
    blk_unref(blk);
    for (SnapshotInfoList *l = list; l; l = l->next) {
        blk = ram_disk_open(disk, 0, NULL, NULL);
        bdrv_snapshot_load_tmp(blk_bs(blk), l->value->id, NULL, &error_abort);
        g_assert_cmpint(m->nb, <, MAX_SNAPSHOTS);
        m->snapshots[m->nb++] = read_content(blk, l->value->name);
        blk_unref(blk);
    }
}

/* The image is sound, without leaks, and equals one of the two (NULL: none). */
static void verify(RamDisk *disk, const TestGeometry *g, const Model *a,
                   const Model *b)
{
    BlockBackend *blk = ram_disk_open(disk, g->lazy ? BDRV_O_RDWR : 0, NULL,
                                      NULL);
    BdrvCheckResult res;
    Model found;

    assert_consistent(blk, &res);
    g_assert_cmpint(res.leaks, ==, 0);
    blk_unref(blk);
    read_model(disk, &found);
    g_assert_true((a && same_model(&found, a)) || (b && same_model(&found, b)));
    model_clear(&found);
}

/* --- doing things to both --- */

static void do_write(BlockBackend *blk, Model *m, int64_t offset,
                     int64_t bytes, uint8_t value, bool compressed)
{
    memset(m->disk.data + offset, value, bytes);
    g_assert_cmpint(compressed
                        ? blk_pwrite_compressed(blk, offset, bytes,
                                                m->disk.data + offset)
                        : blk_pwrite(blk, offset, bytes,
                                     m->disk.data + offset, 0), ==, 0);
}

static void do_zero(BlockBackend *blk, Model *m, int64_t offset,
                    int64_t bytes, BdrvRequestFlags flags)
{
    memset(m->disk.data + offset, 0, bytes);
    g_assert_cmpint(blk_pwrite_zeroes(blk, offset, bytes, flags), ==, 0);
}

static void do_resize(BlockBackend *blk, Model *m, int64_t size)
{
    uint64_t old = m->disk.size;

    g_assert_cmpint(blk_truncate(blk, size, true, PREALLOC_MODE_OFF, 0,
                                 &error_abort), ==, 0);
    m->disk.data = g_realloc(m->disk.data, size);
    if ((uint64_t)size > old) {
        memset(m->disk.data + old, 0, size - old);
    }
    m->disk.size = size;
}

typedef enum { CREATE, GOTO, DELETE } Op;

static void model_op(Model *m, Op op, const char *name)
{
    int i;

    if (op == CREATE) {
        g_assert_cmpint(m->nb, <, MAX_SNAPSHOTS);
        m->snapshots[m->nb++] = content_copy(&m->disk, name);
        return;
    }
    i = model_find(m, name);
    if (op == GOTO) {
        content_clear(&m->disk);
        m->disk = content_copy(&m->snapshots[i], NULL);
        return;
    }
    content_clear(&m->snapshots[i]);
    memmove(&m->snapshots[i], &m->snapshots[i + 1],
            (m->nb - i - 1) * sizeof(Content));
    m->nb--;
}

static int image_op(BlockBackend *blk, Op op, const char *name, Error **errp)
{
    QEMUSnapshotInfo info = { .date_sec = 1 };

    switch (op) {
    case CREATE:
        g_strlcpy(info.name, name, sizeof(info.name));
        return bdrv_snapshot_create(blk_bs(blk), &info, errp);
    case GOTO:
        return bdrv_snapshot_goto(blk_bs(blk), name, errp);
    case DELETE:
        return bdrv_snapshot_delete(blk_bs(blk), NULL, name, errp);
    }
    g_assert_not_reached();
}

static void do_op(BlockBackend *blk, Model *m, Op op, const char *name)
{
    g_assert_cmpint(image_op(blk, op, name, &error_abort), ==, 0);
    model_op(m, op, name);
}

static const char tight_options[] =
    "'l2-cache-size': 1024, 'l2-cache-entry-size': 512,"
    "'refcount-cache-size': 2048, 'pass-discard-snapshot': true,"
    "'pass-discard-other': true";

/* An image with two snapshots "s1" and "s2"; open. */
static BlockBackend *prepare(RamDisk *disk, const TestGeometry *g, Model *m)
{
    BlockBackend *blk;

    ram_disk_format(disk, g);
    model_init(m, g->size);
    blk = ram_disk_open(disk, BDRV_O_RDWR | BDRV_O_UNMAP, tight_options, NULL);
    do_write(blk, m, 0, 40000, 1, false);
    do_write(blk, m, 100000, 20000, 2, false);
    do_write(blk, m, 131072, 8192, 3, true);
    do_op(blk, m, CREATE, "s1");
    do_write(blk, m, 20000, 30000, 4, false);
    do_write(blk, m, 200000, 5000, 5, false);
    do_write(blk, m, 135168, 8192, 6, true);
    do_zero(blk, m, 4096, 8192, BDRV_REQ_MAY_UNMAP);
    do_zero(blk, m, 110592, 4096, 0);
    if (g->version >= 3) {
        do_resize(blk, m, DISK + 65536);
        do_write(blk, m, DISK, 20000, 7, false);
    }
    do_op(blk, m, CREATE, "s2");
    do_write(blk, m, 0, 10000, 8, false);
    do_write(blk, m, 150000, 60000, 9, false);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    return blk;
}

/* --- random use --- */

static void random_write(BlockBackend *blk, Model *m, GRand *rand,
                         int cluster)
{
    int64_t offset = g_rand_int_range(rand, 0, m->disk.size / 512) * 512;
    int64_t bytes = g_rand_int_range(rand, 1, 40) * 512;
    uint8_t value = g_rand_int_range(rand, 1, 256);

    bytes = MIN(bytes, (int64_t)m->disk.size - offset);
    switch (g_rand_int_range(rand, 0, 6)) {
    case 0:
        do_zero(blk, m, offset, bytes, BDRV_REQ_MAY_UNMAP);
        break;
    case 1:
        do_zero(blk, m, offset, bytes, 0);
        break;
    case 2:
        offset = ROUND_DOWN(offset, cluster);
        bytes = MIN(cluster, (int64_t)m->disk.size - offset);
        do_write(blk, m, offset, bytes, value, true);
        break;
    default:
        do_write(blk, m, offset, bytes, value, false);
        break;
    }
}

static void random_op(BlockBackend *blk, Model *m, GRand *rand, int *next)
{
    int kind = g_rand_int_range(rand, 0, 4);
    g_autofree char *name = NULL;

    if (kind < 2 && m->nb < MAX_SNAPSHOTS) {
        name = g_strdup_printf("n%d", (*next)++);
        do_op(blk, m, CREATE, name);
    } else if (m->nb) {
        name = g_strdup(m->snapshots[g_rand_int_range(rand, 0, m->nb)].name);
        do_op(blk, m, kind == 2 ? GOTO : DELETE, name);
    }
}

static void run_random(const TestGeometry *g, uint32_t seed)
{
    RamDisk *disk = ram_disk_new(8 * 1024 * 1024);
    GRand *rand = g_rand_new_with_seed(seed);
    int cluster = 1 << g->cluster_bits, next = 0;
    BlockBackend *blk;
    Model m;

    blk = prepare(disk, g, &m);
    for (int i = 0; i < 25; i++) {
        for (int n = g_rand_int_range(rand, 0, 8); n > 0; n--) {
            random_write(blk, &m, rand, cluster);
        }
        random_op(blk, &m, rand, &next);
        if (g->version >= 3 && g_rand_int_range(rand, 0, 6) == 0) {
            do_resize(blk, &m, g_rand_int_range(rand, 20, 600) * 512);
        }
        if (g_rand_int_range(rand, 0, 5) == 0) {
            blk_unref(blk);
            verify(disk, g, &m, NULL);
            blk = ram_disk_open(disk, BDRV_O_RDWR | BDRV_O_UNMAP,
                                tight_options, NULL);
        }
    }
    while (m.nb) {
        g_autofree char *name = g_strdup(m.snapshots[0].name);

        do_op(blk, &m, DELETE, name);
    }
    blk_unref(blk);
    verify(disk, g, &m, NULL);
    model_clear(&m);
    g_rand_free(rand);
    ram_disk_free(disk);
}

static void test_random(const void *opaque)
{
    int n = g_test_slow() ? 200 : 12;

    for (int seed = 0; seed < n; seed++) {
        g_test_message("seed %d", seed);
        run_random(opaque, seed);
    }
}

/* --- failures and power cuts --- */

typedef struct Step {
    Op op;
    const char *name;
} Step;

static const Step steps[] = {
    { CREATE, "s3" }, { GOTO, "s1" }, { GOTO, "s2" }, { DELETE, "s1" },
    { DELETE, "s2" },
};

/* True if the fault happened. */
static bool run_fault(const TestGeometry *g, const Step *step, int fail_after,
                      bool reads, bool once)
{
    RamDisk *disk = ram_disk_new(2 * 1024 * 1024);
    Model before, after;
    BlockBackend *blk = prepare(disk, g, &before);
    g_autoptr(Error) err = NULL;
    bool failed;
    int ret;

    model_copy(&after, &before);
    model_op(&after, step->op, step->name);
    disk->fail_after = fail_after;
    disk->fail_reads = reads;
    disk->fail_once = once;
    ret = image_op(blk, step->op, step->name, &err);
    g_assert_cmpint(ret < 0, ==, err != NULL);
    failed = disk->failed;
    blk_unref(blk);
    disk->fail_after = -1;
    /* If the header could neither be changed nor restored it is the new one. */
    verify(disk, g, ret < 0 ? &before : NULL, ret < 0 && !once ? &after
                                              : ret < 0 ? NULL : &after);
    model_clear(&before);
    model_clear(&after);
    ram_disk_free(disk);
    return failed;
}

static void test_fault(const void *opaque)
{
    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        for (int mode = 0; mode < 4; mode++) {
            int n = 0;

            while (run_fault(opaque, &steps[i], n, mode & 1, mode & 2)) {
                n++;
            }
            g_test_message("step %d, mode %d: %d requests", i, mode, n);
            g_assert_cmpint(n, >, 4);
        }
    }
}

/* The file cannot become longer than it is, or by a few clusters. */
static void test_no_space(const void *opaque)
{
    const TestGeometry *g = opaque;

    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        bool done = false;

        for (int room = 0; !done; room++) {
            RamDisk *disk = ram_disk_new(4 * 1024 * 1024);
            Model before, after;
            BlockBackend *blk = prepare(disk, g, &before);
            g_autoptr(Error) err = NULL;

            model_copy(&after, &before);
            model_op(&after, steps[i].op, steps[i].name);
            disk->capacity = disk->size + (room << g->cluster_bits);
            done = image_op(blk, steps[i].op, steps[i].name, &err) == 0;
            disk->capacity = 4 * 1024 * 1024;
            if (!done) {
                Model found = { .disk = read_content(blk, NULL) };

                /* The node goes on as if nothing had happened. */
                g_assert_true(same_content(&found.disk, &before.disk));
                model_clear(&found);
                do_write(blk, &before, 12345, 6789, 77, false);
            }
            blk_unref(blk);
            verify(disk, g, done ? &after : &before, NULL);
            model_clear(&before);
            model_clear(&after);
            ram_disk_free(disk);
        }
    }
}

typedef struct CutTest {
    RamDisk *disk;
    GRand *rand;
    GPtrArray *cuts;        /* RamDisk */
} CutTest;

static void cut_hook(void *opaque)
{
    static const int keep[] = { 0, 30, 70, 100 };
    CutTest *t = opaque;

    for (int i = 0; i < ARRAY_SIZE(keep); i++) {
        g_ptr_array_add(t->cuts,
                        ram_disk_after_crash(t->disk, t->rand, keep[i]));
    }
}

static void run_cuts(const TestGeometry *g, const Step *step)
{
    RamDisk *disk = ram_disk_new(1024 * 1024);
    Model before, after;
    BlockBackend *blk = prepare(disk, g, &before);
    CutTest t = {
        .disk = disk, .rand = g_rand_new_with_seed(7),
        .cuts = g_ptr_array_new(),
    };

    model_copy(&after, &before);
    model_op(&after, step->op, step->name);
    memcpy(disk->durable, disk->data, disk->capacity);
    disk->record = true;
    disk->hook = cut_hook;
    disk->hook_opaque = &t;
    do_op(blk, &before, step->op, step->name);
    /* It is durable when the call returns. */
    cut_hook(&t);
    verify(g_ptr_array_index(t.cuts, t.cuts->len - 4), g, &after, NULL);
    blk_unref(blk);
    cut_hook(&t);
    model_clear(&before);

    disk->hook = NULL;
    blk = prepare(disk, g, &before);
    blk_unref(blk);
    for (guint i = 0; i < t.cuts->len; i++) {
        verify(t.cuts->pdata[i], g, &before, &after);
        ram_disk_free(t.cuts->pdata[i]);
    }
    g_test_message("%u power cuts", t.cuts->len);
    g_ptr_array_free(t.cuts, true);
    g_rand_free(t.rand);
    model_clear(&before);
    model_clear(&after);
    ram_disk_free(disk);
}

static void test_power_cut(const void *opaque)
{
    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        run_cuts(opaque, &steps[i]);
    }
}

/* --- the table --- */

/* Extra data of any size stays what it is, byte for byte. */
static void test_extra_data(void)
{
    static const TestGeometry g = { 3, 12, 4, DISK, false };
    static const int sizes[] = { 16, 20, 24, 25, 40, 1024 };

    for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
        RamDisk *disk = ram_disk_new(1024 * 1024);
        uint8_t entry[2048] = { 0 };
        int len = 40 + sizes[i] + 4;
        QEMUSnapshotInfo info;
        BlockBackend *blk;
        uint64_t table;
        Model m;

        blk = prepare(disk, &g, &m);
        blk_unref(blk);
        /* One entry only, with an id that is no number. */
        table = ldq_be_p(disk->data + 64);
        memcpy(entry, disk->data + table, 40);
        stw_be_p(entry + 12, 1);
        stw_be_p(entry + 14, 3);
        stl_be_p(entry + 32, 0xdeadbeef);
        stl_be_p(entry + 36, sizes[i]);
        memset(entry + 40, 0xe7, sizes[i]);
        stq_be_p(entry + 40, 5000000000);
        stq_be_p(entry + 48, g.size);
        memcpy(entry + 40 + sizes[i], "xs1", 4);
        memcpy(disk->data + table, entry, len);
        stl_be_p(disk->data + 60, 1);

        blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
        g_assert_cmpint(image_op(blk, CREATE, "new", &error_abort), ==, 0);
        g_assert_cmpint(bdrv_snapshot_find(blk_bs(blk), &info, "s1"), ==, 0);
        g_assert_cmpuint(info.vm_state_size, ==, 5000000000);
        g_assert_cmpint(bdrv_snapshot_find(blk_bs(blk), &info, "new"), ==, 0);
        g_assert_cmpstr(info.id_str, ==, "1");
        blk_unref(blk);
        g_assert_cmpuint(ldq_be_p(disk->data + 64), !=, table);
        table = ldq_be_p(disk->data + 64);
        g_assert_cmpmem(disk->data + table, len, entry, len);
        model_clear(&m);
        ram_disk_free(disk);
    }
}

/* A snapshot whose L1 table cannot be used is refused by name; the disk and
 * the other snapshot are not touched. */
static void test_bad_l1(void)
{
    static const TestGeometry g = { 3, 12, 4, DISK, false };
    static const struct {
        uint64_t offset;
        uint32_t size;
        const char *text;
    } bad[] = {
        { 0x3001, 1, "has an invalid offset" },
        { 0, 1, "has an invalid offset" },
        { 1ULL << 56, 1, "has an invalid offset" },
        { 1ULL << 40, 1, "exceeds the end of the file" },
        { 0x3000, 0x400001, "is too large" },
        { 0x3000, 0xffffffff, "is too large" },
        { 0x3000, 0x10000, "exceeds the end of the file" },
    };

    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        RamDisk *disk = ram_disk_new(1024 * 1024);
        BlockBackend *blk;
        uint64_t table;
        Model m;

        blk = prepare(disk, &g, &m);
        blk_unref(blk);
        table = ldq_be_p(disk->data + 64);
        stq_be_p(disk->data + table, bad[i].offset);
        stl_be_p(disk->data + table + 8, bad[i].size);
        for (int op = GOTO; op <= DELETE; op++) {
            Error *err = NULL;

            blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
            g_assert_cmpint(image_op(blk, op, "s1", &err), <, 0);
            g_assert_nonnull(strstr(error_get_pretty(err), bad[i].text));
            g_assert_nonnull(strstr(error_get_pretty(err), "'s1'"));
            error_free(err);
            blk_unref(blk);
        }
        blk = ram_disk_open(disk, 0, NULL, NULL);
        g_assert_cmpint(bdrv_snapshot_load_tmp(blk_bs(blk), NULL, "s2",
                                               &error_abort), ==, 0);
        blk_unref(blk);
        model_clear(&m);
        ram_disk_free(disk);
    }
}

static void expect_error(int ret, Error *err, const char *text)
{
    g_assert_cmpint(ret, <, 0);
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    error_free(err);
}

static void test_refused(void)
{
    static const TestGeometry g = { 3, 12, 4, DISK, false };
    static const TestGeometry narrow = { 3, 12, 0, DISK, false };
    RamDisk *disk = ram_disk_new(1024 * 1024);
    BlockBackend *blk;
    Error *err = NULL;
    Model m;
    int ret;

    blk = prepare(disk, &g, &m);
    ret = image_op(blk, GOTO, "none", &err);
    expect_error(ret, err, "Can't find snapshot");
    err = NULL;
    ret = image_op(blk, DELETE, "none", &err);
    expect_error(ret, err, "Can't find snapshot");
    err = NULL;
    ret = bdrv_snapshot_load_tmp(blk_bs(blk), NULL, "s1", &err);
    g_assert_cmpint(ret, ==, -EINVAL);
    error_free(err);
    err = NULL;
    blk_unref(blk);

    blk = ram_disk_open(disk, 0, NULL, NULL);
    g_assert_false(bdrv_can_snapshot(blk_bs(blk)));
    g_assert_cmpint(image_op(blk, CREATE, "x", &err), <, 0);
    error_free(err);
    err = NULL;
    /* What shows a snapshot must never be written. */
    bdrv_snapshot_load_tmp(blk_bs(blk), NULL, "s1", &error_abort);
    ret = bdrv_reopen_set_read_only(blk_bs(blk), false, &err);
    expect_error(ret, err, "A snapshot is shown: only reading is possible");
    err = NULL;
    blk_unref(blk);
    verify(disk, &g, &m, NULL);
    model_clear(&m);

    /* One bit cannot count the disk and a snapshot. */
    ram_disk_format(disk, &narrow);
    model_init(&m, DISK);
    blk = ram_disk_open(disk, BDRV_O_RDWR, NULL, NULL);
    do_op(blk, &m, CREATE, "empty");
    do_write(blk, &m, 0, 5000, 1, false);
    g_assert_cmpint(image_op(blk, CREATE, "x", &err), ==, -ERANGE);
    error_free(err);
    do_write(blk, &m, 5000, 5000, 2, false);
    blk_unref(blk);
    verify(disk, &narrow, &m, NULL);
    model_clear(&m);
    ram_disk_free(disk);
}

/* Taking and deleting over and over does not make the file longer. */
static void test_reuse(void)
{
    static const TestGeometry g = { 3, 12, 4, DISK, false };
    RamDisk *disk = ram_disk_new(2 * 1024 * 1024);
    int64_t size = 0;
    Model m;
    BlockBackend *blk = prepare(disk, &g, &m);

    for (int i = 0; i < 200; i++) {
        do_op(blk, &m, CREATE, "again");
        do_op(blk, &m, GOTO, "again");
        do_op(blk, &m, DELETE, "again");
        if (i == 20) {
            size = disk->size;
        }
    }
    g_assert_cmpint(disk->size, ==, size);
    blk_unref(blk);
    verify(disk, &g, &m, NULL);
    model_clear(&m);
    ram_disk_free(disk);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        TestGeometry g;
    } geometries[] = {
        { "v3", { 3, 12, 4, DISK, false } },
        { "v2", { 2, 12, 4, DISK, false } },
        { "small", { 3, 9, 6, DISK, false } },
        { "narrow", { 3, 9, 3, DISK, false } },
        { "lazy", { 3, 12, 4, DISK, true } },
    };
    static const struct {
        const char *name;
        GTestDataFunc fn;
    } tests[] = {
        { "random", test_random }, { "fault", test_fault },
        { "no-space", test_no_space }, { "power-cut", test_power_cut },
    };

    qcow2_test_init(&argc, &argv);
    for (int i = 0; i < ARRAY_SIZE(tests); i++) {
        for (int j = 0; j < ARRAY_SIZE(geometries); j++) {
            g_autofree char *path = g_strdup_printf(
                "/qcow2/snapshot/%s/%s", tests[i].name, geometries[j].name);

            g_test_add_data_func(path, &geometries[j].g, tests[i].fn);
        }
    }
    g_test_add_func("/qcow2/snapshot/extra-data", test_extra_data);
    g_test_add_func("/qcow2/snapshot/bad-l1", test_bad_l1);
    g_test_add_func("/qcow2/snapshot/refused", test_refused);
    g_test_add_func("/qcow2/snapshot/reuse", test_reuse);
    return g_test_run();
}
