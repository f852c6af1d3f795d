/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A character device that is never connected to anything. */
#include "util/osdep.h"
#include "char-int.h"

static bool null_open(Chardev *chr, const ChardevBackend *backend,
                      Error **errp)
{
    return true;
}

static void null_nothing(Chardev *chr)
{
}

const ChardevClass chardev_class_null = {
    .qom = {
        .name = "chardev-null",
        .parent = &chardev_type,
    },
    .open = null_open,
    .close = null_nothing,
    .disconnected = null_nothing,
};
