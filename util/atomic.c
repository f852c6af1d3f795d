/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What atomic.h cannot do in a header. */
#include "util/osdep.h"
#include "util/atomic.h"

#ifdef QATOMIC_TSAN_
int qatomic_tsan_fence_word;
#endif
