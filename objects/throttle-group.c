/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Throttle groups.
 *
 * 1. Everything is under the group's lock, which is short and a leaf, but for
 *    whether a direction has limits at all.
 * 2. A request starts at once if nobody of its direction waits and the buckets
 *    allow it. Else it is queued with its member.
 * 3. While somebody waits, the timer of the direction is armed for when the next
 *    one may start. It lets go as many as may, one member after the other. The
 *    timers are the main loop's.
 * 4. New limits start with empty buckets, and with those who wait.
 */
#include "util/osdep.h"
#include "objects/throttle-group.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qdict.h"
#include "util/aio.h"
#include "util/atomic.h"
#include "util/lockable.h"
#include "util/timer.h"

/* On the stack of the coroutine that waits. */
typedef struct ThrottleWaiter {
    Coroutine *co;
    int64_t bytes;
    QSIMPLEQ_ENTRY(ThrottleWaiter) next;
} ThrottleWaiter;

typedef struct ThrottleTimer {
    ThrottleGroup *group;
    ThrottleDirection direction;
    QEMUTimer timer;
} ThrottleTimer;

struct ThrottleGroup {
    QemuMutex lock;
    ThrottleState state;
    bool limited[THROTTLE_DIRECTIONS];  /* atomic: by state.cfg */
    QTAILQ_HEAD(, ThrottleMember) members;
    unsigned nb_waiting[THROTTLE_DIRECTIONS];
    /* Who comes next, NULL: the first of all. */
    ThrottleMember *turn[THROTTLE_DIRECTIONS];
    ThrottleTimer timers[THROTTLE_DIRECTIONS];
};

/* --- waiting --- */

static int64_t clock_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

static void let_go(ThrottleMember *member, ThrottleDirection direction)
{
    ThrottleGroup *group = member->group;
    ThrottleWaiter *w = QSIMPLEQ_FIRST(&member->waiting[direction]);

    QSIMPLEQ_REMOVE_HEAD(&member->waiting[direction], next);
    group->nb_waiting[direction]--;
    throttle_account(&group->state, direction, w->bytes);
    aio_co_wake(w->co);
}

/* The next member that has somebody waiting; there is one. */
static ThrottleMember *take_turn(ThrottleGroup *group,
                                 ThrottleDirection direction)
{
    ThrottleMember *m = group->turn[direction];

    for (;;) {
        if (!m) {
            m = QTAILQ_FIRST(&group->members);
        }
        if (!QSIMPLEQ_EMPTY(&m->waiting[direction])) {
            group->turn[direction] = QTAILQ_NEXT(m, next);
            return m;
        }
        m = QTAILQ_NEXT(m, next);
    }
}

/* Lets go who may, and sees to it that somebody comes back for the others. */
static void serve(ThrottleGroup *group, ThrottleDirection direction)
{
    int64_t now = clock_ns();

    while (group->nb_waiting[direction]) {
        int64_t wait = throttle_wait_ns(&group->state, direction, now);

        if (wait) {
            timer_mod_ns(&group->timers[direction].timer, now + wait);
            return;
        }
        let_go(take_turn(group, direction), direction);
    }
}

static void timer_cb(void *opaque)
{
    ThrottleTimer *t = opaque;

    QEMU_LOCK_GUARD(&t->group->lock);
    serve(t->group, t->direction);
}

void coroutine_fn throttle_member_wait(ThrottleMember *member,
                                       ThrottleDirection direction,
                                       int64_t bytes)
{
    ThrottleGroup *group = member->group;
    ThrottleWaiter w = { .co = qemu_coroutine_self(), .bytes = bytes };

    if (!qatomic_read(&group->limited[direction])) {
        return;
    }
    qemu_mutex_lock(&group->lock);
    if (member->unlimited ||
        (!group->nb_waiting[direction] &&
         !throttle_wait_ns(&group->state, direction, clock_ns()))) {
        throttle_account(&group->state, direction, bytes);
        qemu_mutex_unlock(&group->lock);
        return;
    }
    QSIMPLEQ_INSERT_TAIL(&member->waiting[direction], &w, next);
    if (group->nb_waiting[direction]++ == 0) {
        serve(group, direction);
    }
    qemu_mutex_unlock(&group->lock);
    qemu_coroutine_yield();
}

void throttle_member_unlimited_begin(ThrottleMember *member)
{
    QEMU_LOCK_GUARD(&member->group->lock);
    member->unlimited++;
    for (int i = 0; i < THROTTLE_DIRECTIONS; i++) {
        while (!QSIMPLEQ_EMPTY(&member->waiting[i])) {
            let_go(member, i);
        }
    }
}

void throttle_member_unlimited_end(ThrottleMember *member)
{
    QEMU_LOCK_GUARD(&member->group->lock);
    assert(member->unlimited);
    member->unlimited--;
}

/* --- members --- */

bool throttle_member_join(ThrottleMember *member, const char *id, Error **errp)
{
    UserObject *object = user_object_use(id, OBJECT_TYPE_THROTTLE_GROUP, errp);

    if (!object) {
        return false;
    }
    *member = (ThrottleMember){
        .object = object,
        .group = user_object_data(object),
    };
    for (int i = 0; i < THROTTLE_DIRECTIONS; i++) {
        QSIMPLEQ_INIT(&member->waiting[i]);
    }
    QEMU_LOCK_GUARD(&member->group->lock);
    QTAILQ_INSERT_TAIL(&member->group->members, member, next);
    return true;
}

void throttle_member_leave(ThrottleMember *member)
{
    ThrottleGroup *group = member->group;

    qemu_mutex_lock(&group->lock);
    for (int i = 0; i < THROTTLE_DIRECTIONS; i++) {
        assert(QSIMPLEQ_EMPTY(&member->waiting[i]));
        if (group->turn[i] == member) {
            group->turn[i] = QTAILQ_NEXT(member, next);
        }
    }
    QTAILQ_REMOVE(&group->members, member, next);
    qemu_mutex_unlock(&group->lock);
    user_object_unuse(member->object);
}

const char *throttle_member_group_id(const ThrottleMember *member)
{
    return user_object_id(member->object);
}

/* --- the object --- */

static bool set_value(bool has, int64_t value, int64_t *to)
{
    if (has) {
        *to = value;
    }
    return has;
}

#define SET_BUCKET(cfg, type, limits, name)                                 \
    do {                                                                    \
        ThrottleBucket *b_ = &(cfg)->buckets[type];                         \
        set_value((limits)->has_##name, (limits)->name, &b_->avg);          \
        set_value((limits)->has_##name##_max, (limits)->name##_max,         \
                  &b_->max);                                                \
        set_value((limits)->has_##name##_max_length,                        \
                  (limits)->name##_max_length, &b_->burst_length);          \
    } while (0)

/* @prefix comes before the names of the limits. */
#define SET_LIMITS(cfg, limits, prefix)                                     \
    do {                                                                    \
        SET_BUCKET(cfg, THROTTLE_BPS_TOTAL, limits, prefix##bps_total);     \
        SET_BUCKET(cfg, THROTTLE_BPS_READ, limits, prefix##bps_read);       \
        SET_BUCKET(cfg, THROTTLE_BPS_WRITE, limits, prefix##bps_write);     \
        SET_BUCKET(cfg, THROTTLE_OPS_TOTAL, limits, prefix##iops_total);    \
        SET_BUCKET(cfg, THROTTLE_OPS_READ, limits, prefix##iops_read);      \
        SET_BUCKET(cfg, THROTTLE_OPS_WRITE, limits, prefix##iops_write);    \
        set_value((limits)->has_##prefix##iops_size,                        \
                  (limits)->prefix##iops_size, &(cfg)->op_size);            \
    } while (0)

static void config_from_limits(ThrottleConfig *cfg, const ThrottleLimits *l)
{
    SET_LIMITS(cfg, l, );
}

static void config_from_old_names(ThrottleConfig *cfg,
                                  const ThrottleGroupProperties *p)
{
    SET_LIMITS(cfg, p, x_);
}

/* Locked, or nobody knows the group yet. @cfg is valid. */
static void set_config(ThrottleGroup *group, const ThrottleConfig *cfg)
{
    throttle_init(&group->state, cfg, clock_ns());
    for (int i = 0; i < THROTTLE_DIRECTIONS; i++) {
        qatomic_set(&group->limited[i], throttle_config_limits(cfg, i));
    }
}

static void *throttle_group_create(const ObjectOptions *options, Error **errp)
{
    const ThrottleLimits *limits = options->u.throttle_group.limits;
    ThrottleConfig cfg;
    ThrottleGroup *group;

    throttle_config_init(&cfg);
    config_from_old_names(&cfg, &options->u.throttle_group);
    if (limits) {
        config_from_limits(&cfg, limits);
    }
    if (!throttle_config_is_valid(&cfg, errp)) {
        return NULL;
    }
    group = g_new0(ThrottleGroup, 1);
    qemu_mutex_init(&group->lock);
    QTAILQ_INIT(&group->members);
    set_config(group, &cfg);
    for (int i = 0; i < THROTTLE_DIRECTIONS; i++) {
        ThrottleTimer *t = &group->timers[i];

        t->group = group;
        t->direction = i;
        aio_timer_init(qemu_get_aio_context(), &t->timer, QEMU_CLOCK_REALTIME,
                       SCALE_NS, timer_cb, t);
    }
    return group;
}

static void throttle_group_destroy(void *data)
{
    ThrottleGroup *group = data;

    assert(QTAILQ_EMPTY(&group->members));
    for (int i = 0; i < THROTTLE_DIRECTIONS; i++) {
        timer_del(&group->timers[i].timer);
    }
    qemu_mutex_destroy(&group->lock);
    g_free(group);
}

/* --- properties --- */

#define GET_BUCKET(cfg, type, limits, name)                                 \
    do {                                                                    \
        const ThrottleBucket *b_ = &(cfg)->buckets[type];                   \
        (limits)->has_##name = (limits)->has_##name##_max =                 \
            (limits)->has_##name##_max_length = true;                       \
        (limits)->name = b_->avg;                                           \
        (limits)->name##_max = b_->max;                                     \
        (limits)->name##_max_length = b_->burst_length;                     \
    } while (0)

static QObject *get_limits(const QomObject *obj, const QomProperty *p)
{
    /* Only the main thread changes it. */
    const ThrottleGroup *group = user_object_data(obj->instance);
    const ThrottleConfig *cfg = &group->state.cfg;
    ThrottleLimits limits = { .has_iops_size = true,
                              .iops_size = cfg->op_size };
    ThrottleLimits *l = &limits;
    QObject *result;
    Visitor *v = qobject_output_visitor_new(&result);

    GET_BUCKET(cfg, THROTTLE_BPS_TOTAL, l, bps_total);
    GET_BUCKET(cfg, THROTTLE_BPS_READ, l, bps_read);
    GET_BUCKET(cfg, THROTTLE_BPS_WRITE, l, bps_write);
    GET_BUCKET(cfg, THROTTLE_OPS_TOTAL, l, iops_total);
    GET_BUCKET(cfg, THROTTLE_OPS_READ, l, iops_read);
    GET_BUCKET(cfg, THROTTLE_OPS_WRITE, l, iops_write);
    visit_type_ThrottleLimits(v, NULL, &l, &error_abort);
    visit_complete(v, &result);
    visit_free(v);
    return result;
}

static bool set_limits(void *instance, const QomProperty *p, Visitor *v,
                       Error **errp)
{
    ThrottleGroup *group = user_object_data(instance);
    g_autoptr(ThrottleLimits) limits = NULL;
    ThrottleConfig cfg = group->state.cfg;

    if (!visit_type_ThrottleLimits(v, p->name, &limits, errp)) {
        return false;
    }
    config_from_limits(&cfg, limits);
    if (!throttle_config_is_valid(&cfg, errp)) {
        return false;
    }
    QEMU_LOCK_GUARD(&group->lock);
    set_config(group, &cfg);
    for (int i = 0; i < THROTTLE_DIRECTIONS; i++) {
        serve(group, i);
    }
    return true;
}

/* One of the limits by its old name. */
static QObject *get_limit(const QomObject *obj, const QomProperty *p)
{
    QObject *limits = get_limits(obj, p);
    QObject *value = qdict_get(qobject_to(QDict, limits),
                               p->name + strlen("x-"));

    qobject_ref(value);
    qobject_unref(limits);
    return value;
}

#define OLD_NAMES(name)                                                     \
    { "x-" name, "int", get_limit },                                        \
    { "x-" name "-max", "int", get_limit },                                 \
    { "x-" name "-max-length", "int", get_limit }

static const QomProperty group_properties[] = {
    { "limits", "ThrottleLimits", get_limits, set_limits },
    OLD_NAMES("bps-total"),
    OLD_NAMES("bps-read"),
    OLD_NAMES("bps-write"),
    OLD_NAMES("iops-total"),
    OLD_NAMES("iops-read"),
    OLD_NAMES("iops-write"),
    { "x-iops-size", "int", get_limit },
    { }
};

const UserObjectClass throttle_group_class = {
    .type = OBJECT_TYPE_THROTTLE_GROUP,
    .qom = {
        .name = "throttle-group",
        .parent = &qom_type_object,
        .user_creatable = true,
        .properties = group_properties,
        .members = qapi_ThrottleGroupProperties_members,
    },
    .create = throttle_group_create,
    .destroy = throttle_group_destroy,
};
