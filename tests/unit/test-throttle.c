/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Buckets: rates, bursts, what a configuration may say; random ones against
 * their definition. */
#include "util/osdep.h"
#include "util/throttle.h"
#include "util/timer.h"

#define SECOND NANOSECONDS_PER_SECOND
#define MiB (1024 * 1024)

static ThrottleConfig config(ThrottleBucketType type, int64_t avg, int64_t max,
                             int64_t length)
{
    ThrottleConfig cfg;

    throttle_config_init(&cfg);
    cfg.buckets[type] = (ThrottleBucket){ avg, max, length };
    return cfg;
}

/* How many requests of @bytes one after the other end up within @ns. */
static int64_t run(const ThrottleConfig *cfg, ThrottleDirection direction,
                   int64_t bytes, int64_t ns)
{
    ThrottleState ts;
    int64_t now = 12345, end = now + ns, count = 0;

    throttle_init(&ts, cfg, now);
    for (;;) {
        int64_t wait = throttle_wait_ns(&ts, direction, now);

        g_assert_cmpint(wait, >=, 0);
        if (wait > end - now) {
            return count;
        }
        now += wait;
        /* What was waited for is there. */
        g_assert_cmpint(throttle_wait_ns(&ts, direction, now), ==, 0);
        throttle_account(&ts, direction, bytes);
        count++;
    }
}

static void assert_near(int64_t value, int64_t expected, int64_t slack)
{
    g_assert_cmpint(value, >=, expected - slack);
    g_assert_cmpint(value, <=, expected + slack);
}

static void test_rate(void)
{
    ThrottleConfig cfg = config(THROTTLE_OPS_TOTAL, 100, 0, 1);

    /* A tenth of a second may be used in advance. */
    assert_near(run(&cfg, THROTTLE_READ, 4096, 10 * SECOND), 1010, 2);
    assert_near(run(&cfg, THROTTLE_WRITE, MiB, 10 * SECOND), 1010, 2);

    cfg = config(THROTTLE_BPS_WRITE, MiB, 0, 1);
    assert_near(run(&cfg, THROTTLE_WRITE, 4096, 10 * SECOND),
                101 * MiB / 4096 / 10, 2);
    g_assert_false(throttle_config_limits(&cfg, THROTTLE_READ));
    g_assert_true(throttle_config_limits(&cfg, THROTTLE_WRITE));
    /* Longer than the bucket is deep: they pass, at the same rate. */
    assert_near(run(&cfg, THROTTLE_WRITE, 4 * MiB, 100 * SECOND), 26, 1);
}

static void test_op_size(void)
{
    ThrottleConfig cfg = config(THROTTLE_OPS_READ, 100, 0, 1);

    cfg.op_size = 8192;
    assert_near(run(&cfg, THROTTLE_READ, 4096, 10 * SECOND), 1010, 2);
    assert_near(run(&cfg, THROTTLE_READ, 8192, 10 * SECOND), 1010, 2);
    assert_near(run(&cfg, THROTTLE_READ, 32768, 10 * SECOND), 253, 2);
}

static void test_burst(void)
{
    ThrottleConfig cfg = config(THROTTLE_OPS_TOTAL, 100, 1000, 1);

    /* All of a second's burst at once, then the average. */
    assert_near(run(&cfg, THROTTLE_READ, 512, 0), 1001, 1);
    assert_near(run(&cfg, THROTTLE_READ, 512, 10 * SECOND), 2001, 2);

    /* At the burst rate for as long as the bucket takes it. */
    cfg = config(THROTTLE_OPS_TOTAL, 100, 1000, 5);
    assert_near(run(&cfg, THROTTLE_READ, 512, 0), 101, 1);
    assert_near(run(&cfg, THROTTLE_READ, 512, 2 * SECOND), 2101, 2);
    assert_near(run(&cfg, THROTTLE_READ, 512, 5 * SECOND), 5101, 2);
    assert_near(run(&cfg, THROTTLE_READ, 512, 100 * SECOND), 15001, 2);
}

/* Reads and writes share what is a total, and only that. */
static void test_directions(void)
{
    ThrottleConfig cfg = config(THROTTLE_OPS_TOTAL, 10, 0, 1);
    ThrottleState ts;

    throttle_init(&ts, &cfg, 0);
    throttle_account(&ts, THROTTLE_READ, 1);
    throttle_account(&ts, THROTTLE_READ, 1);
    g_assert_cmpint(throttle_wait_ns(&ts, THROTTLE_WRITE, 0), ==, SECOND / 10);

    cfg = config(THROTTLE_OPS_READ, 10, 0, 1);
    throttle_init(&ts, &cfg, 0);
    throttle_account(&ts, THROTTLE_READ, 1);
    throttle_account(&ts, THROTTLE_READ, 1);
    g_assert_cmpint(throttle_wait_ns(&ts, THROTTLE_WRITE, 0), ==, 0);
    g_assert_cmpint(throttle_wait_ns(&ts, THROTTLE_READ, 0), ==, SECOND / 10);
    /* A clock that goes back does no harm. */
    g_assert_cmpint(throttle_wait_ns(&ts, THROTTLE_READ, -SECOND), ==,
                    SECOND / 10);
    g_assert_cmpint(throttle_wait_ns(&ts, THROTTLE_READ, SECOND / 10), ==, 0);
}

static void refused(ThrottleConfig cfg, const char *message)
{
    Error *err = NULL;

    g_assert_false(throttle_config_is_valid(&cfg, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, message);
    error_free(err);
}

static void test_valid(void)
{
    const char *range = "bps/iops/max values must be within "
                        "[0, 1000000000000000]";
    const char *both = "bps/iops/max total values and read/write values "
                       "cannot be used at the same time";
    ThrottleConfig cfg;

    throttle_config_init(&cfg);
    g_assert_true(throttle_config_is_valid(&cfg, &error_abort));
    g_assert_false(throttle_config_limits(&cfg, THROTTLE_READ));
    cfg = config(THROTTLE_BPS_READ, THROTTLE_VALUE_MAX, 0, 1);
    g_assert_true(throttle_config_is_valid(&cfg, &error_abort));
    cfg.buckets[THROTTLE_OPS_TOTAL].avg = 1;
    g_assert_true(throttle_config_is_valid(&cfg, &error_abort));
    cfg.buckets[THROTTLE_BPS_TOTAL].avg = 1;
    refused(cfg, both);

    refused(config(THROTTLE_BPS_READ, -1, 0, 1), range);
    refused(config(THROTTLE_BPS_READ, THROTTLE_VALUE_MAX + 1, 0, 1), range);
    refused(config(THROTTLE_BPS_READ, 1, THROTTLE_VALUE_MAX + 1, 1), range);
    refused(config(THROTTLE_BPS_READ, 1, 0, 0),
            "the burst length cannot be 0");
    refused(config(THROTTLE_BPS_READ, 1, 0, 2),
            "burst length set without burst rate");
    refused(config(THROTTLE_BPS_READ, 1, THROTTLE_VALUE_MAX / 2, 3),
            "burst length too high for this burst rate");
    refused(config(THROTTLE_BPS_READ, 0, 1, 1),
            "bps_max/iops_max require corresponding bps/iops values");
    refused(config(THROTTLE_BPS_READ, 2, 1, 1),
            "bps_max/iops_max cannot be lower than bps/iops");
    cfg = config(THROTTLE_BPS_READ, 2, 0, 1);
    cfg.op_size = 1;
    refused(cfg, "iops size requires an iops value to be set");
}

/* Over any stretch of time no more starts than capacity and rate allow. */
static void test_random(void)
{
    for (int round = 0; round < 200; round++) {
        int64_t avg = g_test_rand_int_range(1, 5000);
        int64_t max = g_test_rand_int_range(0, 2)
                      ? g_test_rand_int_range(avg, 20 * avg) : 0;
        int64_t length = max ? g_test_rand_int_range(1, 10) : 1;
        ThrottleConfig cfg = config(THROTTLE_OPS_TOTAL, avg, max, length);
        int64_t seconds = g_test_rand_int_range(1, 20);
        double capacity = max ? (double)max * length : avg / 10.0;
        double most = capacity + (double)avg * seconds + 1;
        int64_t count;

        if (max && length > 1) {
            most = MIN(most, max * (seconds + .1) + 1);
        }
        count = run(&cfg, THROTTLE_READ, 1, seconds * SECOND);
        g_assert_cmpfloat(count, <=, most + 1);
        g_assert_cmpfloat(count, >=, most - 2);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/throttle/rate", test_rate);
    g_test_add_func("/throttle/op-size", test_op_size);
    g_test_add_func("/throttle/burst", test_burst);
    g_test_add_func("/throttle/directions", test_directions);
    g_test_add_func("/throttle/valid", test_valid);
    g_test_add_func("/throttle/random", test_random);
    return g_test_run();
}
