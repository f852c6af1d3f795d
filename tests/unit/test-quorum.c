/* SPDX-License-Identifier: GPL-2.0-or-later */
/* quorum: votes, children that fail, children that come and go. */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/reopen.h"

#define KiB 1024
#define READ BLK_PERM_CONSISTENT_READ
#define WRITER (READ | BLK_PERM_WRITE)
#define LENGTH (64 * KiB)

typedef struct Set {
    char *paths[3];
    BlockDriverState *bs;
    BlockBackend *blk;
} Set;

/* Three files; requests to number @bad fail as @rule says (may be NULL). */
static void set_open(Set *s, const char *name, const char *options, int bad,
                     const char *rule)
{
    g_autoptr(GString) json = g_string_new("{'driver': 'quorum', 'children': [");

    for (int i = 0; i < 3; i++) {
        g_autofree char *file = g_strdup_printf("%s%d", name, i);

        s->paths[i] = file_test_make(file, LENGTH);
        g_string_append_printf(
            json, "%s{'driver': 'blkdebug', 'node-name': 'child%d', 'image':"
            " {'driver': 'file', 'filename': '%s'}, 'inject-error': [%s]}",
            i ? ", " : "", i, s->paths[i], rule && i == bad ? rule : "");
    }
    g_string_append_printf(json, "], %s}", options);
    s->bs = file_test_open(BDRV_O_RDWR, &error_abort, "%s", json->str);
    s->blk = file_test_user(s->bs, WRITER, BLK_PERM_ALL);
}

static void set_close(Set *s)
{
    blk_unref(s->blk);
    bdrv_unref(s->bs);
    for (int i = 0; i < 3; i++) {
        g_free(s->paths[i]);
    }
}

static void spoil(const char *path, int64_t offset, uint8_t value)
{
    int fd = open(path, O_WRONLY);

    g_assert_cmpint(pwrite(fd, &value, 1, offset), ==, 1);
    close(fd);
}

static void test_agree(void)
{
    Set s;

    set_open(&s, "agree", "'vote-threshold': 3", 0, NULL);
    g_assert_cmpint(bdrv_getlength(s.bs), ==, LENGTH);
    g_assert_cmpint(file_test_fill(s.blk, 1000, 3000, 5), ==, 0);
    g_assert_cmpint(blk_pwrite_zeroes(s.blk, 2000, 500, 0), ==, 0);
    g_assert_cmpint(blk_flush(s.blk), ==, 0);
    g_assert_true(file_test_reads(s.blk, 1000, 1000, 5));
    g_assert_true(file_test_reads(s.blk, 2000, 500, 0));
    for (int i = 0; i < 3; i++) {
        g_assert_true(file_test_bytes_are(s.paths[i], 2500, 1500, 5));
    }
    set_close(&s);
}

/* Two against one; one against one against one. */
static void test_vote(void)
{
    uint8_t buf[2];
    Set s;

    set_open(&s, "vote", "'vote-threshold': 2", 0, NULL);
    g_assert_cmpint(file_test_fill(s.blk, 0, LENGTH, 5), ==, 0);
    spoil(s.paths[0], 5000, 6);
    g_assert_true(file_test_reads(s.blk, 0, LENGTH, 5));
    g_assert_true(file_test_bytes_are(s.paths[0], 5000, 1, 6));
    spoil(s.paths[1], 5001, 6);
    g_assert_cmpint(blk_pread(s.blk, 5000, 2, buf, 0), ==, -EIO);
    g_assert_true(file_test_reads(s.blk, 0, 5000, 5));
    set_close(&s);
}

static void test_rewrite(void)
{
    Set s;

    set_open(&s, "rewrite", "'vote-threshold': 2, 'rewrite-corrupted': true",
             0, NULL);
    g_assert_cmpint(file_test_fill(s.blk, 0, LENGTH, 5), ==, 0);
    spoil(s.paths[2], 5000, 6);
    g_assert_true(file_test_reads(s.blk, 4096, 4096, 5));
    g_assert_true(file_test_bytes_are(s.paths[2], 0, LENGTH, 5));
    set_close(&s);
}

/* What one child fails at, the others do; what two fail at, fails. */
static void one_fails(const char *name, const char *type, bool good)
{
    g_autofree char *rule = g_strdup_printf(
        "{'event': 'none', 'iotype': '%s', 'errno': 28}", type);
    g_autofree char *options = g_strdup_printf("'vote-threshold': %d",
                                               good ? 2 : 3);
    int expected = good ? 0 : -ENOSPC;
    g_autofree uint8_t *buf = g_malloc(4096);
    Set s;

    set_open(&s, name, options, 1, rule);
    g_assert_cmpint(file_test_fill(s.blk, 0, 4096, 5), ==,
                    !strcmp(type, "write") ? expected : 0);
    g_assert_cmpint(blk_pread(s.blk, 0, 4096, buf, 0), ==,
                    !strcmp(type, "read") ? expected
                    : !strcmp(type, "write") && !good ? -EIO : 0);
    g_assert_cmpint(blk_flush(s.blk), ==,
                    !strcmp(type, "flush") ? expected : 0);
    blk_unref(s.blk);
    bdrv_unref(s.bs);
    for (int i = 0; i < 3; i++) {
        g_free(s.paths[i]);
    }
}

static void test_one_fails(void)
{
    one_fails("good-read", "read", true);
    one_fails("good-write", "write", true);
    one_fails("good-flush", "flush", true);
    one_fails("bad-read", "read", false);
    one_fails("bad-write", "write", false);
    one_fails("bad-flush", "flush", false);
}

static void test_fifo(void)
{
    Set s;

    set_open(&s, "fifo", "'vote-threshold': 1, 'read-pattern': 'fifo'", 0,
             "{'event': 'none', 'iotype': 'read'}");
    g_assert_cmpint(file_test_fill(s.blk, 0, LENGTH, 5), ==, 0);
    spoil(s.paths[1], 10, 6);
    spoil(s.paths[2], 10, 7);
    g_assert_true(file_test_reads(s.blk, 10, 1, 6));
    set_close(&s);
}

/* Writes on their way are no reason to call a child bad, let alone to write
 * over it: with a threshold of all children every read still succeeds. */
typedef struct Racer {
    Set *s;
    bool writes;
    int *running;
} Racer;

static void coroutine_fn racer_entry(void *opaque)
{
    Racer *r = opaque;
    uint8_t buf[4096];

    for (int i = 0; i < 300; i++) {
        QEMUIOVector qiov = QEMU_IOVEC_INIT_BUF(qiov, buf, sizeof(buf));

        memset(buf, i, sizeof(buf));
        g_assert_cmpint(r->writes
                        ? blk_co_pwritev(r->s->blk, 0, sizeof(buf), &qiov, 0)
                        : blk_co_preadv(r->s->blk, 0, sizeof(buf), &qiov, 0),
                        ==, 0);
    }
    (*r->running)--;
}

static void test_race(void)
{
    Racer racers[4];
    int running = ARRAY_SIZE(racers);
    Set s;

    set_open(&s, "race", "'vote-threshold': 3, 'rewrite-corrupted': true", 0,
             NULL);
    for (int i = 0; i < ARRAY_SIZE(racers); i++) {
        racers[i] = (Racer) { &s, i == 0, &running };
        qemu_coroutine_enter(qemu_coroutine_create(racer_entry, &racers[i]));
    }
    while (running) {
        aio_poll(qemu_get_aio_context(), true);
    }
    for (int i = 0; i < 3; i++) {
        g_assert_true(file_test_bytes_are(s.paths[i], 0, 4096, 299 & 0xff));
    }
    set_close(&s);
}

static void test_options(void)
{
    static const struct {
        const char *options, *message;
    } bad[] = {
        { "'vote-threshold': 0", "Parameter 'vote-threshold' expects a value "
          ">= 1" },
        { "'vote-threshold': 3", "threshold may not exceed children count" },
        { "'vote-threshold': 1, 'blkverify': true", "blkverify=on can only be "
          "set if there are exactly two files and vote-threshold is 2" },
        { "'vote-threshold': 2, 'blkverify': true, 'rewrite-corrupted': true",
          "rewrite-corrupted=on cannot be used with blkverify=on" },
    };
    Error *err = NULL;

    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        g_assert_null(file_test_open(
            BDRV_O_RDWR, &err, "{'driver': 'quorum', 'children': [{'driver':"
            " 'null-co'}, {'driver': 'null-co'}], %s}", bad[i].options));
        file_test_error(err, bad[i].message);
        err = NULL;
    }
    g_assert_null(file_test_open(BDRV_O_RDWR, &err, "{'driver': 'quorum',"
                                 " 'children': [], 'vote-threshold': 1}"));
    file_test_error(err, "Number of provided children must be 1 or more");
    err = NULL;
    g_assert_null(file_test_open(
        BDRV_O_RDWR, &err, "{'driver': 'quorum', 'vote-threshold': 1,"
        " 'children': [{'driver': 'null-co', 'node-name': 'a', 'size': 1024},"
        " {'driver': 'null-co', 'node-name': 'b', 'size': 512}]}"));
    file_test_error(err, "Children must have the same length: node 'b' is 512 "
                    "bytes long, node 'a' is 1024");
}

static BdrvChild *nth_child(BlockDriverState *bs, int n)
{
    BdrvChild *child = QTAILQ_FIRST(&bs->children);

    while (n--) {
        child = QTAILQ_NEXT(child, next);
    }
    return child;
}

/* Children come and go under the user's eyes. */
static void test_change(void)
{
    g_autofree char *path = file_test_make("new", LENGTH);
    BlockDriverState *new = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'file', 'node-name': 'new',"
        " 'filename': '%s'}", path);
    BlockDriverState *other = file_test_open(
        BDRV_O_RDWR, &error_abort, "{'driver': 'null-co', 'size': 512}");
    Error *err = NULL;
    QDict *options;
    Set s;

    set_open(&s, "change", "'vote-threshold': 3", 0, NULL);
    g_assert_false(bdrv_del_child(s.bs, nth_child(s.bs, 0), &err));
    file_test_error(err, "The number of children cannot be lower than the vote "
                    "threshold 3");
    err = NULL;
    g_assert_false(bdrv_add_child(s.bs, other, &err));
    error_free_or_abort(&err);
    bdrv_add_child(s.bs, new, &error_abort);
    g_assert_false(bdrv_add_child(s.bs, new, &err));
    file_test_error(err, "The node new already has a parent");
    g_assert_cmpstr(nth_child(s.bs, 3)->name, ==, "children.3");
    bdrv_del_child(s.bs, nth_child(s.bs, 1), &error_abort);
    g_assert_cmpint(file_test_fill(s.blk, 0, 512, 9), ==, 0);
    g_assert_true(file_test_bytes_are(path, 0, 512, 9));
    g_assert_true(file_test_bytes_are(s.paths[1], 0, 512, 0));
    g_assert_cmphex(file_test_locks(s.paths[1]), ==, 0);

    /* What there is now is what a reopen expects. */
    options = qdict_new();
    qdict_put_int(options, "vote-threshold", 2);
    bdrv_reopen(s.bs, options, true, &error_abort);
    bdrv_del_child(s.bs, nth_child(s.bs, 0), &error_abort);
    options = qdict_new();
    qdict_put_int(options, "vote-threshold", 3);
    err = NULL;
    g_assert_cmpint(bdrv_reopen(s.bs, options, true, &err), <, 0);
    file_test_error(err, "threshold may not exceed children count");
    err = NULL;
    options = qdict_new();
    qdict_put_str(options, "rewrite-corrupted", "on");
    g_assert_cmpint(bdrv_reopen(s.bs, options, true, &err), <, 0);
    file_test_error(err, "Cannot change the option 'rewrite-corrupted'");
    blk_set_perm(s.blk, READ, BLK_PERM_ALL, &error_abort);
    bdrv_reopen_set_read_only(s.bs, true, &error_abort);
    set_close(&s);
    bdrv_unref(new);
    bdrv_unref(other);
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/quorum/agree", test_agree);
    g_test_add_func("/quorum/vote", test_vote);
    g_test_add_func("/quorum/rewrite", test_rewrite);
    g_test_add_func("/quorum/one-fails", test_one_fails);
    g_test_add_func("/quorum/fifo", test_fifo);
    g_test_add_func("/quorum/race", test_race);
    g_test_add_func("/quorum/options", test_options);
    g_test_add_func("/quorum/change", test_change);
    return file_test_run();
}
