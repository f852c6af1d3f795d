/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Everything a user of block nodes needs. */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include "block/block-common.h"
#include "block/graph.h"
#include "block/open.h"
#include "block/io.h"
#include "block/drain.h"
#include "block/reopen.h"
#include "block/create.h"

#endif
