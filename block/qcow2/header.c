/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header: reading and judging it, and the few ways to change it.
 *
 * Whatever it says is bounded here, before anything is allocated or read
 * because of it. Fields that move together (place and size of a table, feature
 * bits) are changed by rewriting the first 512 bytes, which a disk writes
 * whole or not at all; how the rest changes is in header-replace.c.
 */
#include "util/osdep.h"
#include "util/bswap.h"
#include "util/error.h"
#include "util/lockable.h"
#include "util/memalign.h"
#include "block/qcow2/salvage.h"

/* --- reading --- */

static void header_to_cpu(QCowHeader *h)
{
    h->magic = be32_to_cpu(h->magic);
    h->version = be32_to_cpu(h->version);
    h->backing_file_offset = be64_to_cpu(h->backing_file_offset);
    h->backing_file_size = be32_to_cpu(h->backing_file_size);
    h->cluster_bits = be32_to_cpu(h->cluster_bits);
    h->size = be64_to_cpu(h->size);
    h->crypt_method = be32_to_cpu(h->crypt_method);
    h->l1_size = be32_to_cpu(h->l1_size);
    h->l1_table_offset = be64_to_cpu(h->l1_table_offset);
    h->refcount_table_offset = be64_to_cpu(h->refcount_table_offset);
    h->refcount_table_clusters = be32_to_cpu(h->refcount_table_clusters);
    h->nb_snapshots = be32_to_cpu(h->nb_snapshots);
    h->snapshots_offset = be64_to_cpu(h->snapshots_offset);
    h->incompatible_features = be64_to_cpu(h->incompatible_features);
    h->compatible_features = be64_to_cpu(h->compatible_features);
    h->autoclear_features = be64_to_cpu(h->autoclear_features);
    h->refcount_order = be32_to_cpu(h->refcount_order);
    h->header_length = be32_to_cpu(h->header_length);
}

/* What must be right before the rest can be looked at. */
static int check_basics(QCowHeader *h, Error **errp)
{
    if (h->magic != QCOW_MAGIC) {
        error_setg(errp, "Image is not in qcow2 format");
        return -EINVAL;
    }
    if (h->version < 2 || h->version > 3) {
        error_setg(errp, "Unsupported qcow2 version %" PRIu32, h->version);
        return -ENOTSUP;
    }
    if (h->cluster_bits < MIN_CLUSTER_BITS ||
        h->cluster_bits > MAX_CLUSTER_BITS) {
        error_setg(errp, "Unsupported cluster size: 2^%" PRIu32,
                   h->cluster_bits);
        return -EINVAL;
    }
    if (h->version == 2) {
        /* What lies behind belongs to extensions. */
        memset((uint8_t *)h + QCOW2_V2_HEADER_LENGTH, 0,
               sizeof(*h) - QCOW2_V2_HEADER_LENGTH);
        h->refcount_order = 4;
        h->header_length = QCOW2_V2_HEADER_LENGTH;
    } else if (h->header_length < QCOW2_V3_MIN_HEADER_LENGTH) {
        error_setg(errp, "qcow2 header too short");
        return -EINVAL;
    }
    if (h->header_length > 1U << h->cluster_bits) {
        error_setg(errp, "qcow2 header exceeds cluster size");
        return -EINVAL;
    }
    if (h->version > 2 &&
        h->header_length <= offsetof(QCowHeader, compression_type)) {
        h->compression_type = 0;
    }
    if (h->backing_file_offset > 1U << h->cluster_bits) {
        error_setg(errp, "Invalid backing file offset");
        return -EINVAL;
    }
    return 0;
}

static void set_geometry(BDRVQcow2State *s, const QCowHeader *h)
{
    s->qcow_version = h->version;
    s->cluster_bits = h->cluster_bits;
    s->cluster_size = 1 << h->cluster_bits;
    s->extended_l2 = h->incompatible_features & QCOW2_INCOMPAT_EXTL2;
    s->subclusters_per_cluster = s->extended_l2 ? QCOW2_SUBCLUSTERS : 1;
    s->subcluster_bits = h->cluster_bits - (s->extended_l2 ? 5 : 0);
    s->subcluster_size = 1 << s->subcluster_bits;
    s->l2_bits = h->cluster_bits - 3 - s->extended_l2;
    s->l2_size = 1 << s->l2_bits;
    s->csize_shift = 62 - (h->cluster_bits - 8);
    s->csize_mask = (1 << (h->cluster_bits - 8)) - 1;
    s->cluster_offset_mask = (1ULL << s->csize_shift) - 1;
    s->crypt_method_header = h->crypt_method;
    s->header_length = h->header_length;
    s->disk_size = h->size;
    s->incompatible_features = h->incompatible_features;
    s->compatible_features = h->compatible_features;
    s->autoclear_features = h->autoclear_features;
    s->has_data_file = h->incompatible_features & QCOW2_INCOMPAT_DATA_FILE;
    s->nb_snapshots = h->nb_snapshots;
    s->snapshots_offset = h->snapshots_offset;
}

/* Features and methods that this driver does not have. */
static int check_supported(BDRVQcow2State *s, const QCowHeader *h, int flags,
                           Error **errp)
{
    uint64_t unknown = h->incompatible_features & ~QCOW2_INCOMPAT_MASK;

    if (unknown) {
        g_autofree char *names =
            qcow2_feature_names(s, QCOW2_FEAT_TYPE_INCOMPATIBLE, unknown);

        error_setg(errp, "Unsupported qcow2 feature(s): %s", names);
        return -ENOTSUP;
    }
    if (s->extended_l2 && h->cluster_bits < QCOW2_EXTL2_MIN_CLUSTER_BITS) {
        error_setg(errp, "Unsupported subcluster size: %d",
                   s->subcluster_size);
        return -EINVAL;
    }
    if (h->crypt_method > QCOW_CRYPT_LUKS) {
        error_setg(errp, "Unsupported encryption method %" PRIu32,
                   h->crypt_method);
        return -EINVAL;
    }
    if ((h->incompatible_features & QCOW2_INCOMPAT_CORRUPT) &&
        (flags & BDRV_O_RDWR) && !(flags & BDRV_O_CHECK)) {
        error_setg(errp, "qcow2: Image is corrupt; cannot be opened "
                   "read/write");
        return -EACCES;
    }
    return 0;
}

static int check_compression(BDRVQcow2State *s, const QCowHeader *h,
                             Error **errp)
{
    bool bit = h->incompatible_features & QCOW2_INCOMPAT_COMPRESSION;

    if (h->compression_type >= QCOW2_COMPRESSION_TYPE__MAX) {
        error_setg(errp, "qcow2: unknown or unsupported compression type: %u",
                   h->compression_type);
        return -ENOTSUP;
    }
    if (bit != (h->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB)) {
        error_setg(errp, bit ? "qcow2: Compression type incompatible feature "
                               "bit must not be set"
                             : "qcow2: Compression type incompatible feature "
                               "bit must be set");
        return -EINVAL;
    }
    s->compression_type = h->compression_type;
    return 0;
}

static int check_table(const BDRVQcow2State *s, uint64_t offset,
                       uint64_t entries, size_t entry_size, uint64_t max_bytes,
                       const char *name, Error **errp)
{
    if (entries > max_bytes / entry_size) {
        error_setg(errp, "%s too large", name);
        return -EFBIG;
    }
    /* An empty table lies nowhere. */
    if (entries && (offset_into_cluster(s, offset) ||
                    offset >= QCOW_MAX_HOST_OFFSET)) {
        error_setg(errp, "%s offset invalid", name);
        return -EINVAL;
    }
    return 0;
}

static int set_refcounts(BDRVQcow2State *s, const QCowHeader *h, int flags,
                         Error **errp)
{
    if (h->refcount_order > 6) {
        error_setg(errp, "Reference count entry width too large; may not "
                   "exceed 64 bits");
        return -EINVAL;
    }
    s->refcount_order = h->refcount_order;
    s->refcount_bits = 1 << h->refcount_order;
    s->refcount_max = s->refcount_bits == 64 ? UINT64_MAX
                                             : (1ULL << s->refcount_bits) - 1;
    s->refcount_block_bits = s->cluster_bits - (h->refcount_order - 3);
    s->refcount_block_size = 1 << s->refcount_block_bits;

    if (!h->refcount_table_clusters && !(flags & BDRV_O_CHECK)) {
        error_setg(errp, "Image does not contain a reference count table");
        return -EINVAL;
    }
    return check_table(s, h->refcount_table_offset,
                       (uint64_t)h->refcount_table_clusters << s->cluster_bits,
                       1, QCOW_MAX_REFTABLE_SIZE, "Reference count table",
                       errp);
}

static int check_l1(BDRVQcow2State *s, const QCowHeader *h, Error **errp)
{
    uint64_t l1_needed;

    if (h->size > BDRV_MAX_LENGTH) {
        error_setg(errp, "Image is too big");
        return -EFBIG;
    }
    l1_needed = size_to_l1(s, h->size);
    if (l1_needed > INT_MAX) {
        error_setg(errp, "Image is too big");
        return -EFBIG;
    }
    s->l1_vm_state_index = l1_needed;
    if (h->l1_size < l1_needed) {
        error_setg(errp, "L1 table is too small");
        return -EINVAL;
    }
    return check_table(s, h->l1_table_offset, h->l1_size, L1E_SIZE,
                       QCOW_MAX_L1_SIZE, "Active L1 table", errp);
}

static int coroutine_fn read_backing_name(BlockDriverState *bs,
                                          const QCowHeader *h, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    g_autofree char *name = NULL;
    uint32_t len = h->backing_file_size;
    int ret;

    if (!h->backing_file_offset) {
        return 0;
    }
    if (len > MIN(QCOW_MAX_BACKING_NAME,
                  s->cluster_size - (int64_t)h->backing_file_offset) ||
        len >= sizeof(bs->backing_file)) {
        error_setg(errp, "Backing file name too long");
        return -EINVAL;
    }
    name = g_malloc0(len + 1);
    ret = bdrv_co_pread(bs->file, h->backing_file_offset, len, name, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read backing file name");
        return ret;
    }
    if (s->salvage) {
        len = strlen(name);
    }
    while (len && !name[len - 1]) {
        len--;      /* some writers count the final zero byte */
    }
    if (!len || strlen(name) < len) {
        /* Without its backing file the disk would read as other data. */
        error_setg(errp, len ? "Backing file name contains a zero byte"
                             : "Backing file name is empty");
        return -EINVAL;
    }
    g_strlcpy(bs->backing_file, name, sizeof(bs->backing_file));
    g_strlcpy(bs->auto_backing_file, name, sizeof(bs->auto_backing_file));
    s->image_backing_file = g_steal_pointer(&name);
    return 0;
}

/* Everything between the fixed header and the backing file name. */
static int coroutine_fn read_rest(BlockDriverState *bs, const QCowHeader *h,
                                  Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t end = h->backing_file_offset ? h->backing_file_offset
                                          : (uint64_t)s->cluster_size;
    g_autofree uint8_t *buf = NULL;
    int64_t length = bdrv_co_getlength(bs->file->bs);
    Error *err = NULL;
    int ret;

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the size of the file");
        return length;
    }
    /* A file of a few bytes may end inside the first cluster. */
    end = MIN(end, (uint64_t)length);
    buf = g_malloc0(s->cluster_size);
    ret = bdrv_co_pread(bs->file, 0, end, buf, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read qcow2 header extensions");
        return ret;
    }
    if (h->header_length > QCOW2_V3_HEADER_LENGTH && h->header_length <= end) {
        s->unknown_header_fields_size =
            h->header_length - QCOW2_V3_HEADER_LENGTH;
        s->unknown_header_fields =
            g_memdup2(buf + QCOW2_V3_HEADER_LENGTH,
                      s->unknown_header_fields_size);
    }
    ret = qcow2_extensions_parse(bs, buf, h->header_length, end, &err);
    if (ret < 0 && s->salvage) {
        bdrv_damage_note(bs, "%s: the rest of the header extensions is left "
                         "out", error_get_pretty(err));
        error_free(err);
        return 0;
    }
    error_propagate(errp, err);
    return ret;
}

int coroutine_fn qcow2_header_read(BlockDriverState *bs, int flags,
                                   QCowHeader *header, Error **errp)
{
    BDRVQcow2State *s = bs->opaque;
    int64_t length = bdrv_co_getlength(bs->file->bs);
    int ret;

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the size of the file");
        return length;
    }
    memset(header, 0, sizeof(*header));
    ret = bdrv_co_pread(bs->file, 0,
                        MIN(length, (int64_t)sizeof(*header)), header, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read qcow2 header");
        return ret;
    }
    header_to_cpu(header);
    if (s->salvage) {
        qcow2_salvage_header(bs, header);
        flags |= BDRV_O_CHECK;      /* no refcounts will do */
    }
    ret = check_basics(header, errp);
    if (ret < 0) {
        return ret;
    }
    set_geometry(s, header);
    if (s->salvage) {
        qcow2_salvage_l1_place(bs, header);
    }
    ret = read_rest(bs, header, errp);
    if (ret < 0 || (ret = check_supported(s, header, flags, errp)) < 0 ||
        (ret = check_compression(s, header, errp)) < 0 ||
        (ret = set_refcounts(s, header, flags, errp)) < 0 ||
        (ret = check_l1(s, header, errp)) < 0) {
        return ret;
    }
    if (header->nb_snapshots > QCOW_MAX_SNAPSHOTS) {
        error_setg(errp, "Snapshot table too large");
        return -EFBIG;
    }
    ret = check_table(s, header->snapshots_offset, header->nb_snapshots,
                      sizeof(QCowSnapshotHeader), QCOW_MAX_SNAPSHOTS_SIZE,
                      "Snapshot table", errp);
    return ret < 0 ? ret : read_backing_name(bs, header, errp);
}

void qcow2_header_free(BDRVQcow2State *s)
{
    Qcow2UnknownHeaderExtension *ext;

    while ((ext = QTAILQ_FIRST(&s->unknown_header_ext))) {
        QTAILQ_REMOVE(&s->unknown_header_ext, ext, next);
        g_free(ext);
    }
    g_clear_pointer(&s->unknown_header_fields, g_free);
    g_clear_pointer(&s->feature_table, g_free);
    g_clear_pointer(&s->image_backing_file, g_free);
    g_clear_pointer(&s->image_backing_format, g_free);
    g_clear_pointer(&s->image_data_file, g_free);
}

/* --- the whole header --- */

static void put_fields(const QCowHeader *h, uint32_t length,
                       uint64_t backing_offset, uint32_t backing_size,
                       uint8_t *buf)
{
    QCowHeader be = {
        .magic = cpu_to_be32(QCOW_MAGIC),
        .version = cpu_to_be32(h->version),
        .backing_file_offset = cpu_to_be64(backing_offset),
        .backing_file_size = cpu_to_be32(backing_size),
        .cluster_bits = cpu_to_be32(h->cluster_bits),
        .size = cpu_to_be64(h->size),
        .crypt_method = cpu_to_be32(h->crypt_method),
        .l1_size = cpu_to_be32(h->l1_size),
        .l1_table_offset = cpu_to_be64(h->l1_table_offset),
        .refcount_table_offset = cpu_to_be64(h->refcount_table_offset),
        .refcount_table_clusters = cpu_to_be32(h->refcount_table_clusters),
        .nb_snapshots = cpu_to_be32(h->nb_snapshots),
        .snapshots_offset = cpu_to_be64(h->snapshots_offset),
        .incompatible_features = cpu_to_be64(h->incompatible_features),
        .compatible_features = cpu_to_be64(h->compatible_features),
        .autoclear_features = cpu_to_be64(h->autoclear_features),
        .refcount_order = cpu_to_be32(h->refcount_order),
        .header_length = cpu_to_be32(length),
        .compression_type = h->compression_type,
    };

    memcpy(buf, &be, MIN(length, (uint32_t)sizeof(be)));
}

int qcow2_header_build(const Qcow2HeaderLayout *layout, void *buf,
                       size_t buflen)
{
    size_t length = layout->fields.version == 2 ? QCOW2_V2_HEADER_LENGTH
                                                : QCOW2_V3_HEADER_LENGTH;
    size_t name_len = layout->backing_file ? strlen(layout->backing_file) : 0;
    uint8_t *bytes = buf;
    int pos;

    memset(buf, 0, buflen);
    if (length + layout->unknown_fields_size > buflen) {
        return -ENOSPC;
    }
    if (layout->unknown_fields_size) {
        memcpy(bytes + length, layout->unknown_fields,
               layout->unknown_fields_size);
        length += layout->unknown_fields_size;
    }
    pos = qcow2_extensions_build(layout, bytes, length, buflen);
    if (pos < 0) {
        return pos;
    }
    if (!layout->backing_file) {
        put_fields(&layout->fields, length, 0, 0, bytes);
        return pos;
    }
    pos = MAX((size_t)pos, layout->name_offset);
    if (name_len > QCOW_MAX_BACKING_NAME || (size_t)pos > buflen ||
        name_len > buflen - pos) {
        return -ENOSPC;
    }
    memcpy(bytes + pos, layout->backing_file, name_len);
    put_fields(&layout->fields, length, pos, name_len, bytes);
    return pos + name_len;
}

int coroutine_fn qcow2_update_header(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    Qcow2BitmapHeaderExt bitmaps = {
        .nb_bitmaps = s->nb_bitmaps,
        .bitmap_directory_size = s->bitmap_directory_size,
        .bitmap_directory_offset = s->bitmap_directory_offset,
    };
    Qcow2HeaderLayout layout = {
        .fields = {
            .version = s->qcow_version,
            .cluster_bits = s->cluster_bits,
            .size = s->disk_size,
            .crypt_method = s->crypt_method_header,
            .l1_size = s->l1.size,
            .l1_table_offset = s->l1.offset,
            .refcount_table_offset = s->reftable.offset,
            .refcount_table_clusters =
                s->reftable.size * REFTABLE_ENTRY_SIZE >> s->cluster_bits,
            .nb_snapshots = s->nb_snapshots,
            .snapshots_offset = s->snapshots_offset,
            .incompatible_features = s->incompatible_features,
            .compatible_features = s->compatible_features,
            .autoclear_features = s->autoclear_features,
            .refcount_order = s->refcount_order,
            .compression_type = s->compression_type,
        },
        .unknown_fields = s->unknown_header_fields,
        .unknown_fields_size = s->unknown_header_fields_size,
        .backing_file = s->image_backing_file,
        .backing_format = s->image_backing_format,
        .data_file = s->image_data_file,
        .guarded = s->guard.has_ext &&
                   (s->autoclear_features & QCOW2_AUTOCLEAR_L1_GUARD),
        .guard_offset = s->guard.place.offset,
        .features = s->feature_table,
        .nb_features = s->nb_features,
        .bitmaps = s->has_bitmaps_ext ? &bitmaps : NULL,
        .unknown_ext_of = s,
    };

    return qcow2_header_replace(bs, &layout);
}

/* --- single fields --- */

static int coroutine_fn write_sector(BlockDriverState *bs, const void *buf)
{
    return bdrv_co_pwrite_sync(bs->file, 0, QCOW2_HEADER_SECTOR, buf, 0);
}

int coroutine_fn qcow2_header_write_sector(BlockDriverState *bs,
                                           const void *old, const void *new)
{
    int ret = write_sector(bs, new);

    if (ret < 0 && write_sector(bs, old) < 0) {
        /* Nobody knows which header is on disk: touch nothing any more. */
        qcow2_stop(bs, "the header could not be written");
    }
    return ret;
}

/* Replaces the offset in the guard's extension, which is the first one. */
static int patch_guard(uint8_t *sector, uint64_t guard_offset)
{
    const QCowHeader *h = (const QCowHeader *)sector;
    size_t pos = be32_to_cpu(h->header_length);

    if (pos > QCOW2_HEADER_SECTOR - 8 - QCOW2_GUARD_EXT_BYTES ||
        ldl_be_p(sector + pos) != QCOW2_EXT_MAGIC_L1_GUARD) {
        return -EIO;
    }
    stq_be_p(sector + pos + 8, guard_offset);
    return 0;
}

/* As patch_header_and_guard(), without asking whether it may. */
static int coroutine_fn patch_sector(BlockDriverState *bs, size_t pos,
                                     const void *data, size_t len,
                                     uint64_t guard_offset)
{
    QEMU_AUTO_VFREE uint8_t *old = NULL;
    QEMU_AUTO_VFREE uint8_t *new = NULL;
    int ret;

    assert(pos + len <= QCOW2_HEADER_SECTOR);
    old = qemu_try_blockalign(bs->file->bs, QCOW2_HEADER_SECTOR);
    new = qemu_try_blockalign(bs->file->bs, QCOW2_HEADER_SECTOR);
    if (!old || !new) {
        return -ENOMEM;
    }
    ret = bdrv_co_pread(bs->file, 0, QCOW2_HEADER_SECTOR, old, 0);
    if (ret < 0) {
        return ret;
    }
    memcpy(new, old, QCOW2_HEADER_SECTOR);
    memcpy(new + pos, data, len);
    ret = guard_offset ? patch_guard(new, guard_offset) : 0;
    return ret < 0 ? ret : qcow2_header_write_sector(bs, old, new);
}

/* Replaces @len bytes at @pos of the first sector and, unless @guard_offset is
 * 0, the place of the L1 guard. */
static int coroutine_fn patch_header_and_guard(BlockDriverState *bs,
                                               size_t pos, const void *data,
                                               size_t len,
                                               uint64_t guard_offset)
{
    int ret = qcow2_pre_write_overlap_check(bs, QCOW2_OL_MAIN_HEADER, 0,
                                            QCOW2_HEADER_SECTOR);

    return ret < 0 ? ret : patch_sector(bs, pos, data, len, guard_offset);
}

static int coroutine_fn patch_header(BlockDriverState *bs, size_t pos,
                                     const void *data, size_t len)
{
    return patch_header_and_guard(bs, pos, data, len, 0);
}

int coroutine_fn qcow2_header_write_l1(BlockDriverState *bs, uint64_t offset,
                                       uint32_t size, uint64_t guard_offset)
{
    struct QEMU_PACKED {
        uint32_t size;
        uint64_t offset;
    } data = { cpu_to_be32(size), cpu_to_be64(offset) };

    return patch_header_and_guard(bs, offsetof(QCowHeader, l1_size), &data,
                                  sizeof(data), guard_offset);
}

int coroutine_fn qcow2_header_write_reftable(BlockDriverState *bs,
                                             uint64_t offset,
                                             uint32_t clusters)
{
    struct QEMU_PACKED {
        uint64_t offset;
        uint32_t clusters;
    } data = { cpu_to_be64(offset), cpu_to_be32(clusters) };

    return patch_header(bs, offsetof(QCowHeader, refcount_table_offset),
                        &data, sizeof(data));
}

int coroutine_fn qcow2_header_write_refcounts(BlockDriverState *bs,
                                              uint64_t offset,
                                              uint32_t clusters, int order)
{
    BDRVQcow2State *s = bs->opaque;
    struct QEMU_PACKED {
        uint64_t offset;
        uint32_t clusters;
        uint32_t nb_snapshots;
        uint64_t snapshots_offset;
        uint64_t incompatible_features;
        uint64_t compatible_features;
        uint64_t autoclear_features;
        uint32_t refcount_order;
    } data = {
        .offset = cpu_to_be64(offset),
        .clusters = cpu_to_be32(clusters),
        .nb_snapshots = cpu_to_be32(s->nb_snapshots),
        .snapshots_offset = cpu_to_be64(s->snapshots_offset),
        .incompatible_features = cpu_to_be64(s->incompatible_features),
        .compatible_features = cpu_to_be64(s->compatible_features),
        .autoclear_features = cpu_to_be64(s->autoclear_features),
        .refcount_order = cpu_to_be32(order),
    };

    assert(s->qcow_version >= 3);
    return patch_header(bs, offsetof(QCowHeader, refcount_table_offset),
                        &data, sizeof(data));
}

int coroutine_fn qcow2_header_write_compatible(BlockDriverState *bs,
                                               uint64_t features)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t data = cpu_to_be64(features);
    int ret;

    assert(s->qcow_version >= 3);
    ret = patch_header(bs, offsetof(QCowHeader, compatible_features), &data,
                       sizeof(data));
    if (ret == 0) {
        s->compatible_features = features;
    }
    return ret;
}

int coroutine_fn qcow2_header_write_size(BlockDriverState *bs, uint64_t size)
{
    uint64_t data = cpu_to_be64(size);

    return patch_header(bs, offsetof(QCowHeader, size), &data, sizeof(data));
}

int coroutine_fn qcow2_header_write_snapshots(BlockDriverState *bs,
                                              uint64_t offset, uint32_t nb)
{
    struct QEMU_PACKED {
        uint32_t nb;
        uint64_t offset;
    } data = { cpu_to_be32(nb), cpu_to_be64(offset) };

    return patch_header(bs, offsetof(QCowHeader, nb_snapshots), &data,
                        sizeof(data));
}

int coroutine_fn qcow2_header_write_tables(BlockDriverState *bs,
                                           const Qcow2HeaderTables *tables)
{
    BDRVQcow2State *s = bs->opaque;
    struct QEMU_PACKED {
        uint64_t disk_size;
        uint32_t crypt_method;
        uint32_t l1_size;
        uint64_t l1_offset;
        uint64_t reftable_offset;
        uint32_t reftable_clusters;
        uint32_t nb_snapshots;
        uint64_t snapshots_offset;
    } data = {
        .disk_size = cpu_to_be64(tables->disk_size),
        .crypt_method = cpu_to_be32(s->crypt_method_header),
        .l1_size = cpu_to_be32(tables->l1_size),
        .l1_offset = cpu_to_be64(tables->l1_offset),
        .reftable_offset = cpu_to_be64(tables->reftable_offset),
        .reftable_clusters = cpu_to_be32(tables->reftable_clusters),
        .nb_snapshots = cpu_to_be32(tables->nb_snapshots),
        .snapshots_offset = cpu_to_be64(tables->snapshots_offset),
    };

    return patch_header_and_guard(bs, offsetof(QCowHeader, size), &data,
                                  sizeof(data), tables->guard_offset);
}

static int coroutine_fn set_incompatible(BlockDriverState *bs, uint64_t bits,
                                         bool on)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t value = on ? s->incompatible_features | bits
                        : s->incompatible_features & ~bits;
    uint64_t data = cpu_to_be64(value);
    int ret;

    if (value == s->incompatible_features) {
        return 0;
    }
    assert(s->qcow_version >= 3);
    ret = patch_header(bs, offsetof(QCowHeader, incompatible_features), &data,
                       sizeof(data));
    if (ret == 0) {
        s->incompatible_features = value;
    }
    return ret;
}

int coroutine_fn qcow2_mark_dirty(BlockDriverState *bs)
{
    return set_incompatible(bs, QCOW2_INCOMPAT_DIRTY, true);
}

/* Everything on disk says the same; then @bits may go. */
static int coroutine_fn clear_after_flush(BlockDriverState *bs, uint64_t bits)
{
    BDRVQcow2State *s = bs->opaque;
    int ret;

    if (!(s->incompatible_features & bits)) {
        return 0;
    }
    ret = qcow2_flush_all_metadata(bs);
    if (ret == 0) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    return ret < 0 ? ret : set_incompatible(bs, bits, false);
}

int coroutine_fn qcow2_mark_clean(BlockDriverState *bs)
{
    return clear_after_flush(bs, QCOW2_INCOMPAT_DIRTY);
}

int coroutine_fn qcow2_mark_corrupt(BlockDriverState *bs)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t data;

    if (s->qcow_version < 3) {
        return -ENOTSUP;
    }
    /* Of a stopped node this alone is written. */
    s->incompatible_features |= QCOW2_INCOMPAT_CORRUPT;
    data = cpu_to_be64(s->incompatible_features);
    return patch_sector(bs, offsetof(QCowHeader, incompatible_features), &data,
                        sizeof(data), 0);
}

int coroutine_fn qcow2_mark_consistent(BlockDriverState *bs)
{
    return clear_after_flush(bs, QCOW2_INCOMPAT_CORRUPT);
}

int coroutine_fn qcow2_clear_autoclear(BlockDriverState *bs, uint64_t bits)
{
    BDRVQcow2State *s = bs->opaque;
    uint64_t value = s->autoclear_features & ~bits;
    uint64_t data = cpu_to_be64(value);
    int ret;

    if (value == s->autoclear_features) {
        return 0;
    }
    ret = patch_header(bs, offsetof(QCowHeader, autoclear_features), &data,
                       sizeof(data));
    if (ret == 0) {
        qatomic_set(&s->autoclear_features, value);
    }
    return ret;
}

/* --- the bitmaps extension --- */

/* Those that could not be used were kept as they are; moves them to @to. */
static void take_kept_bitmaps_ext(BDRVQcow2State *s, GPtrArray *to)
{
    Qcow2UnknownHeaderExtension *ext, *next;

    QTAILQ_FOREACH_SAFE(ext, &s->unknown_header_ext, next, next) {
        if (ext->magic == QCOW2_EXT_MAGIC_BITMAPS) {
            QTAILQ_REMOVE(&s->unknown_header_ext, ext, next);
            g_ptr_array_add(to, ext);
        }
    }
}

static void give_kept_bitmaps_ext(BDRVQcow2State *s, GPtrArray *from)
{
    for (guint i = 0; i < from->len; i++) {
        Qcow2UnknownHeaderExtension *ext = from->pdata[i];

        QTAILQ_INSERT_TAIL(&s->unknown_header_ext, ext, next);
    }
    g_ptr_array_set_free_func(from, NULL);
}

static void set_bitmaps_ext(BDRVQcow2State *s, const Qcow2BitmapHeaderExt *ext,
                            uint64_t autoclear)
{
    s->has_bitmaps_ext = ext != NULL;
    s->nb_bitmaps = ext ? ext->nb_bitmaps : 0;
    s->bitmap_directory_size = ext ? ext->bitmap_directory_size : 0;
    s->bitmap_directory_offset = ext ? ext->bitmap_directory_offset : 0;
    qatomic_set(&s->autoclear_features, autoclear);
}

int coroutine_fn qcow2_header_write_bitmaps(BlockDriverState *bs,
                                            const Qcow2BitmapHeaderExt *ext)
{
    BDRVQcow2State *s = bs->opaque;
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    const Qcow2BitmapHeaderExt old = {
        .nb_bitmaps = s->nb_bitmaps,
        .bitmap_directory_size = s->bitmap_directory_size,
        .bitmap_directory_offset = s->bitmap_directory_offset,
    };
    bool had_ext = s->has_bitmaps_ext;
    uint64_t old_autoclear = s->autoclear_features;
    uint64_t others = old_autoclear & ~QCOW2_AUTOCLEAR_BITMAPS;
    int ret;

    take_kept_bitmaps_ext(s, kept);
    set_bitmaps_ext(s, ext, others | (ext ? QCOW2_AUTOCLEAR_BITMAPS : 0));
    ret = qcow2_update_header(bs);
    if (ret < 0) {
        set_bitmaps_ext(s, had_ext ? &old : NULL, old_autoclear);
        give_kept_bitmaps_ext(s, kept);
    }
    return ret;
}

/* --- other names --- */

typedef struct ChangeBacking {
    BlockDriverState *bs;
    const char *file;
    const char *format;
} ChangeBacking;

static int coroutine_fn change_backing_entry(void *opaque)
{
    ChangeBacking *c = opaque;
    BDRVQcow2State *s = c->bs->opaque;
    char *old_file, *old_format;
    int ret;

    if (qcow2_is_stopped(s)) {
        return -EUCLEAN;
    }
    if (!s->writable) {
        return -EACCES;
    }
    QEMU_LOCK_GUARD(&s->lock);
    old_file = s->image_backing_file;
    old_format = s->image_backing_format;
    s->image_backing_file = g_strdup(c->file);
    s->image_backing_format = g_strdup(c->format);
    ret = qcow2_update_header(c->bs);
    if (ret < 0) {
        g_free(s->image_backing_file);
        g_free(s->image_backing_format);
        s->image_backing_file = old_file;
        s->image_backing_format = old_format;
        return ret;
    }
    g_free(old_file);
    g_free(old_format);
    return 0;
}

int qcow2_change_backing_file(BlockDriverState *bs, const char *backing_file,
                              const char *backing_fmt)
{
    ChangeBacking c = { .bs = bs };
    int ret;

    if (backing_file && *backing_file) {
        c.file = backing_file;
        c.format = backing_fmt && *backing_fmt ? backing_fmt : NULL;
    }

    if (c.file && qcow2_data_file_is_raw(bs)) {
        /* The data file would no longer show what the guest sees. */
        return -EINVAL;
    }
    if ((c.file && strlen(c.file) > QCOW_MAX_BACKING_NAME) ||
        (c.format && strlen(c.format) >= sizeof(bs->backing_format))) {
        return -EINVAL;
    }
    ret = bdrv_run_co(change_backing_entry, &c);
    if (ret == 0) {
        g_strlcpy(bs->auto_backing_file, c.file ?: "",
                  sizeof(bs->auto_backing_file));
        g_strlcpy(bs->backing_file, c.file ?: "", sizeof(bs->backing_file));
        g_strlcpy(bs->backing_format, c.format ?: "",
                  sizeof(bs->backing_format));
    }
    return ret;
}
