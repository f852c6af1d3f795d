/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NBD protocol: numbers on the wire, all of them big-endian, and the limits
 * that both sides keep. The protocol itself is described in proto.md of the NBD
 * project.
 */
#ifndef BLOCK_NBD_H
#define BLOCK_NBD_H

#include <stddef.h>
#include <stdint.h>

#define NBD_DEFAULT_PORT 10809

/* --- limits --- */

/* Longest data of a read or a write. */
#define NBD_MAX_BUFFER_SIZE (32 * 1024 * 1024)
/* Longest name, description or query, in bytes. */
#define NBD_MAX_STRING_SIZE 4096

/* --- handshake --- */

#define NBD_INIT_MAGIC 0x4e42444d41474943ULL    /* "NBDMAGIC" */
#define NBD_OPTS_MAGIC 0x49484156454f5054ULL    /* "IHAVEOPT" */
#define NBD_OLDSTYLE_MAGIC 0x00420281861253ULL
#define NBD_REP_MAGIC 0x0003e889045565a9ULL

/* Of both sides' flags. */
#define NBD_FLAG_FIXED_NEWSTYLE 1
#define NBD_FLAG_NO_ZEROES 2

enum {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ERR(n) (0x80000000u | (n))
#define NBD_REP_IS_ERR(type) (((type) & 0x80000000u) != 0)
enum {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR_UNSUP NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERR(3)
#define NBD_REP_ERR_PLATFORM NBD_REP_ERR(4)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERR(7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD NBD_REP_ERR(8)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERR(10)

enum {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
};

/* What both sides agreed on. */
typedef enum NBDStyle {
    NBD_STYLE_SIMPLE,
    NBD_STYLE_STRUCTURED,
    NBD_STYLE_EXTENDED,
} NBDStyle;

/* --- an export's flags --- */
#define NBD_FLAG_HAS_FLAGS 0x0001
#define NBD_FLAG_READ_ONLY 0x0002
#define NBD_FLAG_SEND_FLUSH 0x0004
#define NBD_FLAG_SEND_FUA 0x0008
#define NBD_FLAG_ROTATIONAL 0x0010
#define NBD_FLAG_SEND_TRIM 0x0020
#define NBD_FLAG_SEND_WRITE_ZEROES 0x0040
#define NBD_FLAG_SEND_DF 0x0080
#define NBD_FLAG_CAN_MULTI_CONN 0x0100
#define NBD_FLAG_SEND_RESIZE 0x0200
#define NBD_FLAG_SEND_CACHE 0x0400
#define NBD_FLAG_SEND_FAST_ZERO 0x0800
#define NBD_FLAG_BLOCK_STATUS_PAYLOAD 0x1000

/* --- requests --- */

#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71u
#define NBD_REQUEST_SIZE 28
#define NBD_EXTENDED_REQUEST_SIZE 32

enum {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

#define NBD_CMD_FLAG_FUA 0x01
#define NBD_CMD_FLAG_NO_HOLE 0x02
#define NBD_CMD_FLAG_DF 0x04
#define NBD_CMD_FLAG_REQ_ONE 0x08
#define NBD_CMD_FLAG_FAST_ZERO 0x10
#define NBD_CMD_FLAG_PAYLOAD_LEN 0x20

/* --- replies --- */

#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_EXTENDED_REPLY_MAGIC 0x6e8a278cu
#define NBD_SIMPLE_REPLY_SIZE 16
#define NBD_STRUCTURED_REPLY_SIZE 20
#define NBD_EXTENDED_REPLY_SIZE 32

#define NBD_REPLY_FLAG_DONE 1
#define NBD_REPLY_TYPE_ERR_BIT 0x8000
enum {
    NBD_REPLY_TYPE_NONE = 0,
    NBD_REPLY_TYPE_OFFSET_DATA = 1,
    NBD_REPLY_TYPE_OFFSET_HOLE = 2,
    NBD_REPLY_TYPE_BLOCK_STATUS = 5,
    NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
    NBD_REPLY_TYPE_ERROR = 0x8001,
    NBD_REPLY_TYPE_ERROR_OFFSET = 0x8002,
};

/* Errors of requests. */
enum {
    NBD_SUCCESS = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

/* --- metadata contexts --- */

#define NBD_META_BASE_ALLOCATION "base:allocation"
#define NBD_META_ALLOCATION_DEPTH "qemu:allocation-depth"
#define NBD_META_DIRTY_BITMAP "qemu:dirty-bitmap:"
/* base:allocation */
#define NBD_STATE_HOLE 1
#define NBD_STATE_ZERO 2
/* qemu:dirty-bitmap:NAME */
#define NBD_STATE_DIRTY 1

#endif
