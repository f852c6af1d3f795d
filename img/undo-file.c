/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The undo file of a repair.
 *
 * Its header says how far things are, and is the only part that changes:
 *
 *   PREPARED   what it holds is durable; the repair may write
 *   REPAIRED   the repair has ended; the new content is known by its digest
 *   UNDOING    the old content is being put back
 *   UNDONE     done
 *
 * Numbers are big-endian. A digest is SHA-256. What the repair does not touch
 * has a digest of its own from before, so that an image may be undone whose
 * repair, or undo, was interrupted: only the extents may differ then.
 */
#include "util/osdep.h"
#include <fcntl.h>
#include <sys/stat.h>
#include "block/record.h"
#include "img/undo-file.h"
#include "util/bswap.h"
#include "util/zero.h"

#define MAGIC "QIMGUNDO"
#define VERSION 1
#define DIGEST 32
#define BLOCK 65536

enum {
    PREPARED = 1,
    REPAIRED,
    UNDOING,
    UNDONE,
};

typedef struct QEMU_PACKED UndoHeader {
    char magic[8];                  /*   0 */
    uint32_t version;               /*   8 */
    uint32_t state;                 /*  12 */
    uint64_t old_length;            /*  16: of the image, bytes */
    uint64_t new_length;            /*  24: PREPARED: at most */
    uint64_t nb_extents;            /*  32: pairs of offset and bytes follow */
    uint8_t old_digest[DIGEST];     /*  40: of all that follows the header */
    uint8_t rest_digest[DIGEST];    /*  72: of the rest of the image */
    uint8_t new_digest[DIGEST];     /* 104: of the extents as repaired */
    uint8_t unused[344];            /* 136: zero */
    uint8_t own_digest[DIGEST];     /* 480: of the 480 bytes before */
} UndoHeader;

QEMU_BUILD_BUG_ON(sizeof(UndoHeader) != 512);

struct UndoFile {
    int fd;
    uint32_t state;
    uint64_t old_length;
    uint64_t new_length;
    GArray *extents;                /* BdrvRecordExtent */
    uint8_t old_digest[DIGEST];
    uint8_t rest_digest[DIGEST];
    uint8_t new_digest[DIGEST];
};

/* --- files ------------------------------------------------------------- */

/* All of it; what is behind the end is zero. */
static bool read_all(int fd, uint64_t offset, void *buf, size_t bytes,
                     Error **errp)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t n = pread(fd, (char *)buf + done, bytes - done, offset + done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            error_setg_errno(errp, errno, "Could not read");
            return false;
        }
        if (n == 0) {
            memset((char *)buf + done, 0, bytes - done);
            return true;
        }
        done += n;
    }
    return true;
}

static bool write_all(int fd, uint64_t offset, const void *buf, size_t bytes,
                      Error **errp)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t n = pwrite(fd, (const char *)buf + done, bytes - done,
                           offset + done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            error_setg_errno(errp, n ? errno : ENOSPC, "Could not write");
            return false;
        }
        done += n;
    }
    return true;
}

static bool sync_file(int fd, Error **errp)
{
    if (fsync(fd) < 0) {
        error_setg_errno(errp, errno, "Could not flush");
        return false;
    }
    return true;
}

/* The name of the file is durable, too. */
static bool sync_directory_of(const char *path, Error **errp)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok;

    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not open '%s'", dir);
        return false;
    }
    ok = sync_file(fd, errp);
    close(fd);
    return ok;
}

static bool get_length(int fd, uint64_t *length, Error **errp)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        error_setg_errno(errp, errno, "Could not get the length of the image");
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        error_setg(errp, "The image is not a regular file");
        return false;
    }
    *length = st.st_size;
    return true;
}

/* --- digests ------------------------------------------------------------ */

static void add_number(GChecksum *sum, uint64_t value)
{
    uint64_t be = cpu_to_be64(value);

    g_checksum_update(sum, (const guchar *)&be, sizeof(be));
}

static void finish_digest(GChecksum *sum, uint8_t *digest)
{
    gsize length = DIGEST;

    g_checksum_get_digest(sum, digest, &length);
}

static const BdrvRecordExtent *extent_at(const UndoFile *u, guint i)
{
    return &g_array_index(u->extents, BdrvRecordExtent, i);
}

/* How much of the extent there is in @length bytes. */
static uint64_t part_of(const BdrvRecordExtent *e, uint64_t length)
{
    return length > e->offset ? MIN(e->bytes, length - e->offset) : 0;
}

/* Zeroes what of [@offset, @offset + @bytes) is in extents, from *@next on. */
static void mask_extents(const UndoFile *u, guint *next, uint64_t offset,
                         char *buf, uint64_t bytes)
{
    guint i;

    while (*next < u->extents->len &&
           extent_at(u, *next)->offset + extent_at(u, *next)->bytes <=
               offset) {
        ++*next;
    }
    for (i = *next; i < u->extents->len; i++) {
        const BdrvRecordExtent *e = extent_at(u, i);
        uint64_t from = MAX(e->offset, offset);
        uint64_t end = MIN(e->offset + e->bytes, offset + bytes);

        if (from >= end) {
            return;
        }
        memset(buf + (from - offset), 0, end - from);
    }
}

/* Where data may be from @offset on; UINT64_MAX: nowhere. */
static uint64_t next_data(int fd, uint64_t offset)
{
    off_t at = lseek(fd, offset, SEEK_DATA);

    return at >= 0 ? at : errno == ENXIO ? UINT64_MAX : offset;
}

/*
 * Of what the image had and the repair does not touch. Blocks of zeroes do not
 * count: a copy may have other holes.
 */
static bool digest_rest(const UndoFile *u, int image, uint8_t *digest,
                        Error **errp)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree char *buf = g_malloc(BLOCK);
    uint64_t at = 0;
    guint next = 0;

    while (at < u->old_length) {
        uint64_t data = next_data(image, at);
        uint64_t bytes;

        if (data >= u->old_length) {
            break;
        }
        at = MAX(at, ROUND_DOWN(data, BLOCK));
        bytes = MIN(BLOCK, u->old_length - at);
        if (!read_all(image, at, buf, bytes, errp)) {
            return false;
        }
        mask_extents(u, &next, at, buf, bytes);
        if (!buffer_is_zero(buf, bytes)) {
            add_number(sum, at);
            g_checksum_update(sum, (const guchar *)buf, bytes);
        }
        at += bytes;
    }
    finish_digest(sum, digest);
    return true;
}

/* Calls @func for the parts of all extents within @length of the file. */
typedef bool PieceFunc(void *opaque, uint64_t offset, char *buf, size_t bytes,
                       Error **errp);
static bool for_pieces(const UndoFile *u, uint64_t length, PieceFunc *func,
                       void *opaque, Error **errp)
{
    g_autofree char *buf = g_malloc(BLOCK);
    guint i;

    for (i = 0; i < u->extents->len; i++) {
        const BdrvRecordExtent *e = extent_at(u, i);
        uint64_t bytes = part_of(e, length);
        uint64_t done, n;

        for (done = 0; done < bytes; done += n) {
            n = MIN(BLOCK, bytes - done);
            if (!func(opaque, e->offset + done, buf, n, errp)) {
                return false;
            }
        }
    }
    return true;
}

typedef struct Pieces {
    int from;
    int to;
    uint64_t at;        /* in the undo file */
    GChecksum *sum;
} Pieces;

static bool digest_piece(void *opaque, uint64_t offset, char *buf,
                         size_t bytes, Error **errp)
{
    Pieces *p = opaque;

    if (!read_all(p->from, offset, buf, bytes, errp)) {
        return false;
    }
    g_checksum_update(p->sum, (const guchar *)buf, bytes);
    return true;
}

/* Of the extents as they are now, and the length. */
static bool digest_extents(const UndoFile *u, int image, uint64_t length,
                           uint8_t *digest, Error **errp)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    Pieces p = { .from = image, .sum = sum };

    add_number(sum, length);
    if (!for_pieces(u, length, digest_piece, &p, errp)) {
        return false;
    }
    finish_digest(sum, digest);
    return true;
}

/* --- the header ---------------------------------------------------------- */

static void digest_header(const UndoHeader *h, uint8_t *digest)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    g_checksum_update(sum, (const guchar *)h,
                      offsetof(UndoHeader, own_digest));
    finish_digest(sum, digest);
}

/* Durable when it returns. */
static bool write_header(UndoFile *u, uint32_t state, Error **errp)
{
    UndoHeader h = {
        .version = cpu_to_be32(VERSION),
        .state = cpu_to_be32(state),
        .old_length = cpu_to_be64(u->old_length),
        .new_length = cpu_to_be64(u->new_length),
        .nb_extents = cpu_to_be64(u->extents->len),
    };

    memcpy(h.magic, MAGIC, sizeof(h.magic));
    memcpy(h.old_digest, u->old_digest, DIGEST);
    memcpy(h.rest_digest, u->rest_digest, DIGEST);
    memcpy(h.new_digest, u->new_digest, DIGEST);
    digest_header(&h, h.own_digest);
    if (!write_all(u->fd, 0, &h, sizeof(h), errp) ||
        !sync_file(u->fd, errp)) {
        return false;
    }
    u->state = state;
    return true;
}

static bool append(Pieces *p, const void *buf, size_t bytes, Error **errp)
{
    g_checksum_update(p->sum, buf, bytes);
    if (!write_all(p->to, p->at, buf, bytes, errp)) {
        return false;
    }
    p->at += bytes;
    return true;
}

static bool save_piece(void *opaque, uint64_t offset, char *buf, size_t bytes,
                       Error **errp)
{
    Pieces *p = opaque;

    return read_all(p->from, offset, buf, bytes, errp) &&
           append(p, buf, bytes, errp);
}

/* The list of extents, then what is in them. */
static bool save_extents(UndoFile *u, int image, Error **errp)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    Pieces p = {
        .from = image, .to = u->fd, .at = sizeof(UndoHeader), .sum = sum,
    };
    guint i;

    for (i = 0; i < u->extents->len; i++) {
        uint64_t pair[2] = {
            cpu_to_be64(extent_at(u, i)->offset),
            cpu_to_be64(extent_at(u, i)->bytes),
        };

        if (!append(&p, pair, sizeof(pair), errp)) {
            return false;
        }
    }
    if (!for_pieces(u, u->old_length, save_piece, &p, errp)) {
        return false;
    }
    finish_digest(sum, u->old_digest);
    return true;
}

UndoFile *undo_file_create(const char *path, int image, const GArray *extents,
                           uint64_t max_length, Error **errp)
{
    g_autoptr(UndoFile) u = g_new0(UndoFile, 1);

    u->extents = g_array_new(FALSE, FALSE, sizeof(BdrvRecordExtent));
    g_array_append_vals(u->extents, extents->data, extents->len);
    u->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (u->fd < 0) {
        error_setg_errno(errp, errno, "Could not create '%s'", path);
        return NULL;
    }
    if (!get_length(image, &u->old_length, errp)) {
        goto fail;
    }
    u->new_length = MAX(u->old_length, max_length);
    /* A header is not there before what it describes is. */
    if (!save_extents(u, image, errp) ||
        !digest_rest(u, image, u->rest_digest, errp) ||
        !sync_file(u->fd, errp) || !write_header(u, PREPARED, errp) ||
        !sync_directory_of(path, errp)) {
        goto fail;
    }
    return g_steal_pointer(&u);

fail:
    unlink(path);
    error_prepend(errp, "Undo file '%s': ", path);
    return NULL;
}

bool undo_file_finish(UndoFile *u, int image, Error **errp)
{
    uint64_t max_length = u->new_length;

    if (!get_length(image, &u->new_length, errp) ||
        !digest_extents(u, image, u->new_length, u->new_digest, errp)) {
        u->new_length = max_length;
        return false;
    }
    return write_header(u, REPAIRED, errp);
}

/* --- undoing -------------------------------------------------------------- */

static bool parse_header(UndoFile *u, const UndoHeader *h,
                         uint64_t *nb_extents, Error **errp)
{
    uint8_t digest[DIGEST];

    digest_header(h, digest);
    if (memcmp(h->magic, MAGIC, sizeof(h->magic))) {
        error_setg(errp, "It is not an undo file");
        return false;
    }
    if (be32_to_cpu(h->version) != VERSION) {
        error_setg(errp, "Undo files of version %u are not supported",
                   be32_to_cpu(h->version));
        return false;
    }
    u->state = be32_to_cpu(h->state);
    if (memcmp(digest, h->own_digest, DIGEST) || u->state < PREPARED ||
        u->state > UNDONE) {
        error_setg(errp, "The undo file is damaged");
        return false;
    }
    u->old_length = be64_to_cpu(h->old_length);
    u->new_length = be64_to_cpu(h->new_length);
    memcpy(u->old_digest, h->old_digest, DIGEST);
    memcpy(u->rest_digest, h->rest_digest, DIGEST);
    memcpy(u->new_digest, h->new_digest, DIGEST);
    *nb_extents = be64_to_cpu(h->nb_extents);
    return true;
}

static bool check_piece(void *opaque, uint64_t offset, char *buf, size_t bytes,
                        Error **errp)
{
    Pieces *p = opaque;

    if (!read_all(p->from, p->at, buf, bytes, errp)) {
        return false;
    }
    g_checksum_update(p->sum, (const guchar *)buf, bytes);
    p->at += bytes;
    return true;
}

/* Reads the list, checks it, and the digest of all. */
static bool read_extents(UndoFile *u, uint64_t nb, Error **errp)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    Pieces p = { .from = u->fd, .at = sizeof(UndoHeader), .sum = sum };
    uint8_t digest[DIGEST];
    uint64_t length, end = 0;

    if (!get_length(u->fd, &length, errp)) {
        return false;
    }
    if (nb > length / 16 || u->old_length > INT64_MAX) {
        goto damaged;
    }
    while (nb--) {
        uint64_t pair[2];
        BdrvRecordExtent e;

        if (!read_all(u->fd, p.at, pair, sizeof(pair), errp)) {
            return false;
        }
        g_checksum_update(sum, (const guchar *)pair, sizeof(pair));
        p.at += sizeof(pair);
        e.offset = be64_to_cpu(pair[0]);
        e.bytes = be64_to_cpu(pair[1]);
        if (e.offset < end || e.offset > INT64_MAX ||
            e.bytes > INT64_MAX - e.offset) {
            goto damaged;
        }
        end = e.offset + e.bytes;
        g_array_append_val(u->extents, e);
    }
    if (!for_pieces(u, u->old_length, check_piece, &p, errp)) {
        return false;
    }
    finish_digest(sum, digest);
    if (!memcmp(digest, u->old_digest, DIGEST)) {
        return true;
    }
damaged:
    error_setg(errp, "The undo file is damaged");
    return false;
}

UndoFile *undo_file_open(const char *path, Error **errp)
{
    g_autoptr(UndoFile) u = g_new0(UndoFile, 1);
    uint64_t nb_extents;
    UndoHeader h;

    u->extents = g_array_new(FALSE, FALSE, sizeof(BdrvRecordExtent));
    u->fd = open(path, O_RDWR | O_CLOEXEC);
    if (u->fd < 0) {
        error_setg_errno(errp, errno, "Could not open '%s'", path);
        return NULL;
    }
    if (!read_all(u->fd, 0, &h, sizeof(h), errp) ||
        !parse_header(u, &h, &nb_extents, errp) ||
        !read_extents(u, nb_extents, errp)) {
        error_prepend(errp, "Undo file '%s': ", path);
        return NULL;
    }
    return g_steal_pointer(&u);
}

/* Whether the image is one that only the repair, or an undo, has changed. */
static bool image_is_ours(const UndoFile *u, int image, Error **errp)
{
    uint8_t digest[DIGEST];
    uint64_t length;

    if (u->state == UNDONE) {
        error_setg(errp, "The repair was undone already");
        return false;
    }
    if (!get_length(image, &length, errp)) {
        return false;
    }
    if (u->state == REPAIRED) {
        if (!digest_extents(u, image, length, digest, errp)) {
            return false;
        }
        if (length != u->new_length ||
            memcmp(digest, u->new_digest, DIGEST)) {
            goto changed;
        }
    } else if (length < u->old_length || length > u->new_length) {
        goto changed;
    }
    if (!digest_rest(u, image, digest, errp)) {
        return false;
    }
    if (!memcmp(digest, u->rest_digest, DIGEST)) {
        return true;
    }
changed:
    error_setg(errp, "The image is not as the repair left it; nothing was "
               "changed");
    return false;
}

static bool restore_piece(void *opaque, uint64_t offset, char *buf,
                          size_t bytes, Error **errp)
{
    Pieces *p = opaque;

    if (!read_all(p->from, p->at, buf, bytes, errp) ||
        !write_all(p->to, offset, buf, bytes, errp)) {
        return false;
    }
    p->at += bytes;
    return true;
}

bool undo_file_apply(UndoFile *u, int image, Error **errp)
{
    Pieces p = {
        .from = u->fd, .to = image,
        .at = sizeof(UndoHeader) + u->extents->len * 16,
    };

    if (!image_is_ours(u, image, errp) || !write_header(u, UNDOING, errp) ||
        !for_pieces(u, u->old_length, restore_piece, &p, errp)) {
        return false;
    }
    if (ftruncate(image, u->old_length) < 0) {
        error_setg_errno(errp, errno, "Could not restore the length");
        return false;
    }
    return sync_file(image, errp) && write_header(u, UNDONE, errp);
}

void undo_file_free(UndoFile *u)
{
    if (u) {
        if (u->fd >= 0) {
            close(u->fd);
        }
        g_array_unref(u->extents);
        g_free(u);
    }
}
