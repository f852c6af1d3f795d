/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules of blkdebug: what happens at which event. See blkdebug.h. */
#include "util/osdep.h"
#include "block/filters/blkdebug.h"
#include "util/aio.h"
#include "util/lockable.h"
#include "util/timer.h"

typedef enum {
    RULE_INJECT_ERROR,
    RULE_SET_STATE,
    RULE_SUSPEND,
} RuleAction;

struct BlkdebugRule {
    BlkdebugEvent event;
    RuleAction action;
    int64_t state;              /* 0: any */

    /* RULE_INJECT_ERROR */
    unsigned iotypes;           /* bits 1 << BlkdebugIOType */
    int error;                  /* positive errno, or 0 for a delay only */
    int64_t delay_ns;
    int64_t sector;             /* -1: any */
    bool once;
    bool immediately;

    int64_t new_state;          /* RULE_SET_STATE */
    char *tag;                  /* RULE_SUSPEND */

    QTAILQ_ENTRY(BlkdebugRule) next;
    QLIST_ENTRY(BlkdebugRule) next_armed;
};

struct BlkdebugSuspended {
    Coroutine *co;
    char *tag;
    QLIST_ENTRY(BlkdebugSuspended) next;
};

void blkdebug_rules_init(BlkdebugRules *r)
{
    qemu_mutex_init(&r->lock);
    r->state = 1;
    QTAILQ_INIT(&r->rules);
    QLIST_INIT(&r->armed);
    QLIST_INIT(&r->suspended);
}

static void remove_rule_locked(BlkdebugRules *r, BlkdebugRule *rule)
{
    QLIST_SAFE_REMOVE(rule, next_armed);
    QTAILQ_REMOVE(&r->rules, rule, next);
    g_free(rule->tag);
    g_free(rule);
}

void blkdebug_rules_destroy(BlkdebugRules *r)
{
    assert(QLIST_EMPTY(&r->suspended));
    while (!QTAILQ_EMPTY(&r->rules)) {
        remove_rule_locked(r, QTAILQ_FIRST(&r->rules));
    }
    qemu_mutex_destroy(&r->lock);
}

static void add_rule(BlkdebugRules *r, BlkdebugRule *rule)
{
    QEMU_LOCK_GUARD(&r->lock);
    QTAILQ_INSERT_TAIL(&r->rules, rule, next);
}

/* --- rules from options --- */

static bool check_state(bool has_state, int64_t state, Error **errp)
{
    if (has_state && (state < 0 || state > INT_MAX)) {
        error_setg(errp, "Parameter 'state' must be between 0 and %d",
                   INT_MAX);
        return false;
    }
    return true;
}

bool blkdebug_add_inject_error(BlkdebugRules *r,
                               const BlkdebugInjectErrorOptions *o,
                               Error **errp)
{
    BlkdebugRule *rule;

    if (!check_state(o->has_state, o->state, errp)) {
        return false;
    }
    if (o->has_errno && (o->q_errno < 0 || o->q_errno > 4095)) {
        error_setg(errp, "Parameter 'errno' must be between 0 and 4095");
        return false;
    }
    if (o->has_delay_ns && o->delay_ns < 0) {
        error_setg(errp, "Parameter 'delay-ns' must not be negative");
        return false;
    }
    if (o->has_sector &&
        (o->sector < -1 || o->sector > INT64_MAX / (int64_t)BDRV_SECTOR_SIZE)) {
        error_setg(errp, "Parameter 'sector' is out of range");
        return false;
    }
    rule = g_new0(BlkdebugRule, 1);
    *rule = (BlkdebugRule) {
        .event = o->event,
        .action = RULE_INJECT_ERROR,
        .state = o->has_state ? o->state : 0,
        .error = o->has_errno ? o->q_errno : EIO,
        .delay_ns = o->has_delay_ns ? o->delay_ns : 0,
        .sector = o->has_sector ? o->sector : -1,
        .once = o->has_once && o->once,
        .immediately = o->has_immediately && o->immediately,
    };
    if (o->has_iotype) {
        rule->iotypes = 1U << o->iotype;
    } else {
        /* Failing status requests would surprise who thinks of I/O errors. */
        rule->iotypes = ((1U << BLKDEBUG_IO_TYPE__MAX) - 1) &
                        ~(1U << BLKDEBUG_IO_TYPE_BLOCK_STATUS);
    }
    add_rule(r, rule);
    return true;
}

bool blkdebug_add_set_state(BlkdebugRules *r, const BlkdebugSetStateOptions *o,
                            Error **errp)
{
    BlkdebugRule *rule;

    if (!check_state(o->has_state, o->state, errp)) {
        return false;
    }
    if (o->new_state < 1 || o->new_state > INT_MAX) {
        error_setg(errp, "Parameter 'new_state' must be between 1 and %d",
                   INT_MAX);
        return false;
    }
    rule = g_new0(BlkdebugRule, 1);
    *rule = (BlkdebugRule) {
        .event = o->event,
        .action = RULE_SET_STATE,
        .state = o->has_state ? o->state : 0,
        .new_state = o->new_state,
    };
    add_rule(r, rule);
    return true;
}

/* --- events --- */

static void arm_locked(BlkdebugRules *r, BlkdebugRule *rule, bool first)
{
    BlkdebugRule *old, *next;

    if (first) {
        QLIST_FOREACH_SAFE(old, &r->armed, next_armed, next) {
            QLIST_REMOVE(old, next_armed);
        }
    }
    QLIST_INSERT_HEAD(&r->armed, rule, next_armed);
}

/* Tags of breakpoints that @event hits go to @tags. */
static void apply_event_locked(BlkdebugRules *r, BlkdebugEvent event,
                               GPtrArray *tags)
{
    int64_t new_state = r->state;
    bool first = true;
    BlkdebugRule *rule, *next;

    QTAILQ_FOREACH_SAFE(rule, &r->rules, next, next) {
        if (rule->event != event ||
            (rule->state && rule->state != r->state)) {
            continue;
        }
        switch (rule->action) {
        case RULE_INJECT_ERROR:
            arm_locked(r, rule, first);
            first = false;
            break;
        case RULE_SET_STATE:
            new_state = rule->new_state;
            break;
        case RULE_SUSPEND:
            g_ptr_array_add(tags, g_steal_pointer(&rule->tag));
            remove_rule_locked(r, rule);
            break;
        }
    }
    r->state = new_state;
}

void blkdebug_start(BlkdebugRules *r)
{
    g_autoptr(GPtrArray) tags = g_ptr_array_new_with_free_func(g_free);

    QEMU_LOCK_GUARD(&r->lock);
    apply_event_locked(r, BLKDBG_NONE, tags);
    /* There are no breakpoints before the node is open. */
    assert(!tags->len);
}

static void coroutine_fn suspend(BlkdebugRules *r, const char *tag)
{
    BlkdebugSuspended me = {
        .co = qemu_coroutine_self(),
        .tag = (char *)tag,
    };

    /* Scripts that drive qemu-io look for this line. */
    printf("blkdebug: Suspended request '%s'\n", tag);
    WITH_QEMU_LOCK_GUARD(&r->lock) {
        QLIST_INSERT_HEAD(&r->suspended, &me, next);
    }
    qemu_coroutine_yield();
    printf("blkdebug: Resuming request '%s'\n", tag);
}

void coroutine_fn blkdebug_event(BlkdebugRules *r, BlkdebugEvent event)
{
    g_autoptr(GPtrArray) tags = g_ptr_array_new_with_free_func(g_free);

    WITH_QEMU_LOCK_GUARD(&r->lock) {
        apply_event_locked(r, event, tags);
    }
    for (guint i = 0; i < tags->len; i++) {
        suspend(r, tags->pdata[i]);
    }
}

int coroutine_fn blkdebug_check(BlkdebugRules *r, BlkdebugIOType iotype,
                                int64_t offset, int64_t bytes)
{
    BlkdebugRule *rule, match;
    bool found = false;

    WITH_QEMU_LOCK_GUARD(&r->lock) {
        QLIST_FOREACH(rule, &r->armed, next_armed) {
            int64_t at = rule->sector * (int64_t)BDRV_SECTOR_SIZE;

            if (!(rule->iotypes & (1U << iotype)) ||
                (rule->sector >= 0 &&
                 (at < offset || at - offset >= bytes))) {
                continue;
            }
            match = *rule;
            found = true;
            if (rule->once) {
                remove_rule_locked(r, rule);
            }
            break;
        }
    }
    if (!found) {
        return 0;
    }
    if (match.delay_ns) {
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, match.delay_ns);
    } else if (!match.immediately) {
        /* Real requests do not fail before they are submitted. */
        qemu_co_yield_to_loop();
    }
    return -match.error;
}

/* --- breakpoints --- */

int blkdebug_breakpoint(BlkdebugRules *r, const char *event, const char *tag)
{
    int value = qapi_enum_parse(&BlkdebugEvent_lookup, event, -1, NULL);
    BlkdebugRule *rule;

    if (value < 0) {
        return -ENOENT;
    }
    rule = g_new0(BlkdebugRule, 1);
    *rule = (BlkdebugRule) {
        .event = value,
        .action = RULE_SUSPEND,
        .tag = g_strdup(tag),
    };
    add_rule(r, rule);
    return 0;
}

/* Takes the oldest request with this tag off the list; NULL if none. */
static Coroutine *take_suspended(BlkdebugRules *r, const char *tag)
{
    BlkdebugSuspended *s, *oldest = NULL;
    Coroutine *co;

    QEMU_LOCK_GUARD(&r->lock);
    QLIST_FOREACH(s, &r->suspended, next) {
        if (!strcmp(s->tag, tag)) {
            oldest = s;
        }
    }
    if (!oldest) {
        return NULL;
    }
    co = oldest->co;
    QLIST_REMOVE(oldest, next);
    return co;
}

int blkdebug_resume(BlkdebugRules *r, const char *tag)
{
    Coroutine *co = take_suspended(r, tag);

    if (!co) {
        return -ENOENT;
    }
    aio_co_wake(co);
    return 0;
}

int blkdebug_remove_breakpoint(BlkdebugRules *r, const char *tag)
{
    BlkdebugRule *rule, *next;
    int ret = -ENOENT;

    WITH_QEMU_LOCK_GUARD(&r->lock) {
        QTAILQ_FOREACH_SAFE(rule, &r->rules, next, next) {
            if (rule->action == RULE_SUSPEND && !strcmp(rule->tag, tag)) {
                remove_rule_locked(r, rule);
                ret = 0;
            }
        }
    }
    while (blkdebug_resume(r, tag) == 0) {
        ret = 0;
    }
    return ret;
}

bool blkdebug_is_suspended(BlkdebugRules *r, const char *tag)
{
    BlkdebugSuspended *s;

    QEMU_LOCK_GUARD(&r->lock);
    QLIST_FOREACH(s, &r->suspended, next) {
        if (!strcmp(s->tag, tag)) {
            return true;
        }
    }
    return false;
}
