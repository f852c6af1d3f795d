/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of passed file descriptors. */
#include "util/osdep.h"
#include <fcntl.h>
#include "util/cutils.h"
#include "util/fd.h"
#include "util/fdset.h"
#include "util/filelock.h"

#define PREFIX "/dev/fdset/"

/* What block/file/locks.c and others who open images lock. */
#define LOCKED_FIRST 100
#define LOCKED_BYTES 200

G_LOCK_DEFINE_STATIC(members);
static GPtrArray *members;      /* FdsetMember *; by set; NULL: none ever */
static GArray *orphans;         /* duplicates whose member was removed */

/* --- under the lock --- */

static FdsetMember *member_at(guint i)
{
    return g_ptr_array_index(members, i);
}

static guint nr_members(void)
{
    return members ? members->len : 0;
}

/* Where set @id begins, or would. */
static guint begin_of(int64_t id)
{
    guint i = 0;

    while (i < nr_members() && member_at(i)->set < id) {
        i++;
    }
    return i;
}

static bool is_in_set(guint i, int64_t id)
{
    return i < nr_members() && member_at(i)->set == id;
}

static int64_t lowest_free_id(void)
{
    int64_t id = 0;

    for (guint i = 0; i < nr_members(); i++) {
        if (member_at(i)->set > id) {
            break;
        }
        id = member_at(i)->set + 1;
    }
    return id;
}

static void remove_at(guint i)
{
    FdsetMember *m = g_ptr_array_steal_index(members, i);

    if (m->used_as >= 0) {
        g_array_append_val(orphans, m->used_as);
    }
    close(m->fd);
    g_free(m->opaque);
    g_free(m);
}

/* --- sets --- */

const FdsetMember *fdset_add(int64_t id, int fd, const char *opaque)
{
    FdsetMember *m = g_new(FdsetMember, 1);
    guint i;

    G_LOCK(members);
    if (!members) {
        members = g_ptr_array_new();
        orphans = g_array_new(FALSE, FALSE, sizeof(int));
    }
    *m = (FdsetMember) {
        .set = id < 0 ? lowest_free_id() : id,
        .fd = fd,
        .opaque = g_strdup(opaque),
        .used_as = -1,
    };
    i = begin_of(m->set);
    while (is_in_set(i, m->set)) {
        i++;
    }
    g_ptr_array_insert(members, i, m);
    G_UNLOCK(members);
    return m;
}

bool fdset_remove(int64_t id, int fd)
{
    bool found = false;
    guint i;

    G_LOCK(members);
    i = begin_of(id);
    while (is_in_set(i, id)) {
        if (fd < 0 || member_at(i)->fd == fd) {
            found = true;
            remove_at(i);
        } else {
            i++;
        }
    }
    G_UNLOCK(members);
    return found;
}

void fdset_remove_unused(void)
{
    guint i = 0, end;

    G_LOCK(members);
    while (i < nr_members()) {
        int64_t id = member_at(i)->set;
        bool used = false;

        for (end = i; is_in_set(end, id); end++) {
            used |= member_at(end)->used_as >= 0;
        }
        while (!used && is_in_set(i, id)) {
            remove_at(i);
        }
        i = used ? end : i;
    }
    G_UNLOCK(members);
}

const FdsetMember *fdset_next(const FdsetMember *m)
{
    guint i = 0;

    if (m) {
        g_ptr_array_find(members, m, &i);
        i++;
    }
    return i < nr_members() ? member_at(i) : NULL;
}

/* --- opening --- */

bool fdset_parse_name(const char *filename, int64_t *id)
{
    uint64_t value;

    if (!g_str_has_prefix(filename, PREFIX) ||
        parse_uint_full(filename + strlen(PREFIX), 10, &value) < 0 ||
        value > INT64_MAX) {
        return false;
    }
    *id = value;
    return true;
}

/* A member with that access mode, a free one if there is, or -errno in *@ret. */
static FdsetMember *find_member(int64_t id, int flags, int *ret)
{
    FdsetMember *in_use = NULL;

    *ret = -ENOENT;
    for (guint i = begin_of(id); is_in_set(i, id); i++) {
        FdsetMember *m = member_at(i);
        int has = fcntl(m->fd, F_GETFL);

        if (has < 0 || (has & O_PATH) ||
            (has & O_ACCMODE) != (flags & O_ACCMODE)) {
            *ret = *ret == -ENOENT ? -EACCES : *ret;
        } else if (m->used_as >= 0) {
            in_use = m;
        } else {
            return m;
        }
    }
    return in_use;
}

static int duplicate(FdsetMember *m, int flags)
{
    int has = fcntl(m->fd, F_GETFL);
    /* With O_APPEND a write would ignore its offset. */
    int want = (has & ~(O_DIRECT | O_NONBLOCK | O_APPEND)) |
               (flags & O_DIRECT);
    int fd;

    if (has < 0 || (has != want && fcntl(m->fd, F_SETFL, want) < 0)) {
        return -errno;
    }
    fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    m->used_as = fd;
    return fd;
}

/* The file once more, if this process may open it. It may be a FIFO, which would
 * wait for its other end. */
static int open_again(const FdsetMember *m, int flags)
{
    int fd = qemu_open_again(m->fd, (flags & (O_ACCMODE | O_DIRECT)) |
                                    O_NONBLOCK);

    if (fd >= 0 && fcntl(fd, F_SETFL, flags & O_DIRECT) < 0) {
        close(fd);
        fd = -1;
    }
    return fd < 0 ? -EBUSY : fd;
}

int fdset_open(int64_t id, int flags)
{
    FdsetMember *m;
    int ret;

    G_LOCK(members);
    m = find_member(id, flags, &ret);
    if (m) {
        ret = m->used_as < 0 ? duplicate(m, flags) : open_again(m, flags);
    }
    G_UNLOCK(members);
    return ret;
}

/* --- closing --- */

/* Forgets the duplicate @fd; whether it was one. */
static bool forget(int fd)
{
    for (guint i = 0; i < nr_members(); i++) {
        if (member_at(i)->used_as == fd) {
            member_at(i)->used_as = -1;
            return true;
        }
    }
    for (guint i = 0; orphans && i < orphans->len; i++) {
        if (g_array_index(orphans, int, i) == fd) {
            g_array_remove_index_fast(orphans, i);
            return true;
        }
    }
    return false;
}

bool fdset_close(int fd, int *ret)
{
    bool found;

    G_LOCK(members);
    found = forget(fd);
    if (found) {
        (void)qemu_unlock_fd(fd, LOCKED_FIRST, LOCKED_BYTES);
        /* Before somebody else gets the same number. */
        *ret = close(fd);
    }
    G_UNLOCK(members);
    return found;
}
