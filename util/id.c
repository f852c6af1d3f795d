/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The form of user-given names. */
#include "util/osdep.h"
#include "util/id.h"

bool id_wellformed(const char *id)
{
    if (!g_ascii_isalpha(id[0])) {
        return false;
    }
    for (const char *p = id; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("-._", *p)) {
            return false;
        }
    }
    return true;
}
