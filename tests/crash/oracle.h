/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A second opinion: the distribution's qemu-img. */
#ifndef TESTS_CRASH_ORACLE_H
#define TESTS_CRASH_ORACLE_H

#include "util/osdep.h"

/* Its path, from REF_QEMU_IMG or where it is installed; NULL: there is none.
 * Caller frees. */
char *oracle_find(void);

/*
 * Has @program check the qcow2 image @data (@size bytes), which is not dirty.
 * Returns NULL if it finds no corruption, else what it says; caller frees.
 */
char *oracle_check(const char *program, const uint8_t *data, int64_t size);

#endif
