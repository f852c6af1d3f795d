/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes in throttle groups: waiting, turns, drained nodes, change of group and
 * of limits. */
#include "util/osdep.h"
#include "file-fixture.h"
#include "block/drain.h"
#include "block/reopen.h"
#include "objects/object.h"
#include "qapi/qobject-input-visitor.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/iothread.h"
#include "util/iov.h"
#include "util/timer.h"

#define MAX_REQUESTS 64

static UserObject *add_group(const char *id, int64_t iops)
{
    g_autofree char *text = g_strdup_printf(
        "throttle-group,id=%s,limits.iops-total=%" PRId64, id, iops);

    return user_object_add_from_option(text, &error_abort);
}

static BlockBackend *open_node(const char *name, const char *group)
{
    return file_test_blk(BDRV_O_RDWR,
                         "{'driver': 'throttle', 'node-name': '%s',"
                         " 'throttle-group': '%s', 'discard': 'unmap',"
                         " 'file': {'driver': 'null-co', 'read-zeroes': true,"
                         " 'discard': 'unmap'}}", name, group);
}

/* Reads one after the other or at once; counts and orders the ends. */
typedef struct Reads {
    BlockBackend *blk;
    char name;
    GString *ends;      /* gets name at each end */
    int started, ended;
    uint8_t byte[MAX_REQUESTS];
    QEMUIOVector qiov[MAX_REQUESTS];
} Reads;

static void read_cb(void *opaque, int ret)
{
    Reads *r = opaque;

    g_assert_cmpint(ret, ==, 0);
    r->ended++;
    g_string_append_c(r->ends, r->name);
}

static void start_reads(Reads *r, int count)
{
    for (int i = 0; i < count; i++) {
        int n = r->started++;

        qemu_iovec_init_buf(&r->qiov[n], &r->byte[n], 1);
        blk_aio_preadv(r->blk, n, &r->qiov[n], 0, read_cb, r);
    }
}

static void finish_reads(Reads *r)
{
    while (r->ended < r->started) {
        aio_poll(qemu_get_aio_context(), true);
    }
}

static void test_rate(void)
{
    g_autoptr(GString) ends = g_string_new(NULL);
    int64_t start = get_clock();
    Reads r = { .name = 'a', .ends = ends };

    add_group("g", 100);
    r.blk = open_node("n", "g");
    start_reads(&r, 40);
    finish_reads(&r);
    /* Some ten at once, the others at 10 ms each. */
    g_assert_cmpint(get_clock() - start, >=, 280 * SCALE_MS);
    blk_unref(r.blk);
    g_assert_true(user_object_del("g", &error_abort));
}

/* All kinds of requests count; without limits nobody waits. */
static void test_kinds(void)
{
    int64_t start;
    BlockBackend *blk;

    add_group("g", 20);
    add_group("free", 0);
    blk = open_node("n", "g");
    start = get_clock();
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(file_test_fill(blk, 0, 512, 1), ==, 0);
        g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 512, 0), ==, 0);
        g_assert_cmpint(blk_pdiscard(blk, 0, 512), ==, 0);
    }
    /* Three are free. */
    g_assert_cmpint(get_clock() - start, >=, 5 * 50 * SCALE_MS);
    blk_unref(blk);

    blk = open_node("n", "free");
    for (int i = 0; i < 1000; i++) {
        g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 512, 0), ==, 0);
    }
    blk_unref(blk);
    user_object_del_all();
}

/* One with few requests is not kept out by one with many. */
static void test_turns(void)
{
    g_autoptr(GString) ends = g_string_new(NULL);
    Reads many = { .name = 'm', .ends = ends };
    Reads few = { .name = 'f', .ends = ends };

    add_group("g", 10);
    many.blk = open_node("many", "g");
    few.blk = open_node("few", "g");
    start_reads(&many, 8);
    start_reads(&few, 2);
    finish_reads(&few);
    g_assert_cmpint(many.ended, <, 8);
    finish_reads(&many);
    blk_unref(many.blk);
    blk_unref(few.blk);
    user_object_del_all();
}

/* Draining lets everybody go, and what comes in that time does not wait. */
static void test_drained(void)
{
    g_autoptr(GString) ends = g_string_new(NULL);
    Reads slow = { .name = 's', .ends = ends };
    Reads other = { .name = 'o', .ends = ends };
    BlockDriverState *bs;
    uint8_t byte;

    add_group("g", 1);
    slow.blk = open_node("slow", "g");
    other.blk = open_node("other", "g");
    bs = blk_bs(slow.blk);
    start_reads(&slow, 30);
    start_reads(&other, 2);
    bdrv_drained_begin(bs);
    g_assert_cmpint(slow.ended, ==, 30);
    g_assert_cmpint(other.ended, <, 2);
    for (int i = 0; i < 10; i++) {
        g_assert_cmpint(bdrv_pread(blk_root(slow.blk), 0, 1, &byte, 0), ==, 0);
    }
    bdrv_drained_end(bs);
    /* The other one ends by being drained, too: at the end it would be late. */
    bdrv_drained_begin(blk_bs(other.blk));
    g_assert_cmpint(other.ended, ==, 2);
    bdrv_drained_end(blk_bs(other.blk));
    blk_unref(slow.blk);
    blk_unref(other.blk);
    user_object_del_all();
}

static int reopen_group(BlockDriverState *bs, const char *group, Error **errp)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "throttle-group", group);
    return bdrv_reopen(bs, options, true, errp);
}

static void test_reopen(void)
{
    g_autoptr(GString) ends = g_string_new(NULL);
    Reads r = { .name = 'a', .ends = ends };
    BlockDriverState *bs;
    Error *err = NULL;

    add_group("slow", 1);
    add_group("free", 0);
    r.blk = open_node("n", "slow");
    bs = blk_bs(r.blk);
    g_assert_cmpint(reopen_group(bs, "none", &err), <, 0);
    file_test_error(err, "throttle-group object 'none' not found");
    err = NULL;
    g_assert_false(user_object_del("slow", &err));
    file_test_error(err, "object 'slow' is in use, can not be deleted");

    start_reads(&r, 5);
    reopen_group(bs, "free", &error_abort);
    g_assert_cmpint(r.ended, ==, 5);
    g_assert_true(user_object_del("slow", &error_abort));
    start_reads(&r, 50);
    finish_reads(&r);
    /* Inside of a drained section as well. */
    add_group("slow", 1);
    bdrv_drained_begin(bs);
    reopen_group(bs, "slow", &error_abort);
    bdrv_drained_end(bs);
    g_assert_true(user_object_del("free", &error_abort));
    blk_unref(r.blk);
    user_object_del_all();
}

/* As qom-set does. */
static bool set_limits(UserObject *group, const char *json, Error **errp)
{
    const QomProperty *p = qom_type_property(user_object_qom_type(group),
                                             "limits");
    QObject *value = qobject_from_json(json, &error_abort);
    Visitor *v = qobject_input_visitor_new(value);
    bool ok = p->set(group, p, v, errp);

    visit_free(v);
    qobject_unref(value);
    return ok;
}

/* Those who wait by the old limits go by the new ones. */
static void test_change(void)
{
    g_autoptr(GString) ends = g_string_new(NULL);
    Reads r = { .name = 'a', .ends = ends };
    UserObject *group = add_group("g", 1);
    int64_t start = get_clock();
    Error *err = NULL;

    r.blk = open_node("n", "g");
    start_reads(&r, 40);
    g_assert_false(set_limits(group, "{'iops-read': 5}", &err));
    file_test_error(err, "bps/iops/max total values and read/write values "
                    "cannot be used at the same time");
    g_assert_true(set_limits(group, "{'iops-total': 100}", &error_abort));
    finish_reads(&r);
    g_assert_cmpint(get_clock() - start, >=, 250 * SCALE_MS);
    g_assert_cmpint(get_clock() - start, <, 20 * NANOSECONDS_PER_SECOND);

    g_assert_true(set_limits(group, "{'iops-total': 1}", &error_abort));
    start_reads(&r, 20);
    g_assert_true(set_limits(group, "{'iops-total': 0}", &error_abort));
    finish_reads(&r);
    g_assert_cmpint(get_clock() - start, <, 30 * NANOSECONDS_PER_SECOND);
    blk_unref(r.blk);
    user_object_del_all();
}

typedef struct ThreadReads {
    BlockBackend *blk;
    bool stop, ended;   /* atomic */
    unsigned count;     /* atomic */
} ThreadReads;

static void coroutine_fn read_in_thread(void *opaque)
{
    ThreadReads *t = opaque;
    QEMUIOVector qiov;
    uint8_t byte;

    qemu_iovec_init_buf(&qiov, &byte, 1);
    while (!qatomic_read(&t->stop)) {
        g_assert_cmpint(blk_co_preadv(t->blk, 0, 1, &qiov, 0), ==, 0);
        qatomic_inc(&t->count);
    }
    qatomic_set(&t->ended, true);
}

/* Another thread reads while limits come and go. */
static void test_change_in_use(void)
{
    UserObject *group = add_group("g", 0);
    ThreadReads t = { .blk = open_node("n", "g") };
    IOThread *thread = iothread_new("t", &error_abort);

    aio_co_enter(iothread_get_aio_context(thread),
                 qemu_coroutine_create(read_in_thread, &t));
    for (int i = 0; i < 200; i++) {
        unsigned before = qatomic_read(&t.count);

        g_assert_true(set_limits(group, i % 2 ? "{'iops-total': 0}"
                                              : "{'iops-total': 1}",
                                 &error_abort));
        while (i % 2 && qatomic_read(&t.count) == before) {
            aio_poll(qemu_get_aio_context(), false);
        }
    }
    qatomic_set(&t.stop, true);
    while (!qatomic_read(&t.ended)) {
        aio_poll(qemu_get_aio_context(), false);
    }
    iothread_free(thread);
    blk_unref(t.blk);
    user_object_del_all();
}

int main(int argc, char **argv)
{
    file_test_init(&argc, &argv);
    g_test_add_func("/throttle-group/rate", test_rate);
    g_test_add_func("/throttle-group/kinds", test_kinds);
    g_test_add_func("/throttle-group/turns", test_turns);
    g_test_add_func("/throttle-group/drained", test_drained);
    g_test_add_func("/throttle-group/reopen", test_reopen);
    g_test_add_func("/throttle-group/change", test_change);
    g_test_add_func("/throttle-group/change-in-use", test_change_in_use);
    return file_test_run();
}
