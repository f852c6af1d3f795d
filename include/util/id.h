/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names that users give to nodes, jobs, exports, objects, devices. */
#ifndef UTIL_ID_H
#define UTIL_ID_H

#include <stdbool.h>

/* A letter, then letters, digits, '-', '.', '_'. Any thread. */
bool id_wellformed(const char *id);

#define ID_RULES_HINT \
    "Identifiers consist of letters, digits, '-', '.', '_', starting with a " \
    "letter.\n"

#endif
