/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Aligned memory for direct I/O: the declarations are in osdep.h, where every
 * file sees them.  This header is for code that names what it uses.
 */
#ifndef UTIL_MEMALIGN_H
#define UTIL_MEMALIGN_H

#include "util/osdep.h"

#endif /* UTIL_MEMALIGN_H */
