/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about objects. */
#include "util/osdep.h"
#include "objects/object.h"
#include "qapi/qapi-commands.h"

void qmp_object_add(ObjectOptions *options, Error **errp)
{
    user_object_add(options, errp);
}

void qmp_object_del(const char *id, Error **errp)
{
    user_object_del(id, errp);
}
