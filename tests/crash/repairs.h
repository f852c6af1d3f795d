/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that are damaged before the recording, which then is what qemu-img
 * check -r all does about it. After any power cut another repair must end with
 * an image in which nothing is found; the guest reads what it could read before
 * the repair, or what is back; and what no entry leads to any more is in its
 * place again, or in a snapshot lost+found.
 */
#ifndef TESTS_CRASH_REPAIRS_H
#define TESTS_CRASH_REPAIRS_H

#include "workload.h"

/* Damages the image on run->disk, which is not open, as chance has it; the
 * guest knows of it. */
void repairs_init(Run *run);
/* Repairs it. 0 or -errno; -EUCLEAN: something is left. Tells of it on stderr
 * unless @quiet. */
int repairs_run(const Run *run, bool quiet);
/* Repairs it once more. NULL, or what is wrong; caller frees. */
char *repairs_judge(const Run *run);
void repairs_free(Run *run);

#endif
