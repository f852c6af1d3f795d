/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Creation options and the sizes that follow from them; see layout.h. */
#include "util/osdep.h"
#include "block/qcow2/layout.h"
#include "util/cutils.h"
#include "qapi/qapi-visit.h"
#include "qapi/qobject-input-visitor.h"

#define DEFAULT_CLUSTER_BITS 16
#define DEFAULT_REFCOUNT_ORDER 4

void qcow2_create_options_clear(Qcow2CreateOptions *o)
{
    g_clear_pointer(&o->key_secret, g_free);
    g_clear_pointer(&o->backing_file, g_free);
    g_clear_pointer(&o->backing_fmt, g_free);
    g_clear_pointer(&o->data_file, g_free);
}

/* log2 of a power of two, or -1. */
static int exact_log2(uint64_t value)
{
    return value && !(value & (value - 1)) ? __builtin_ctzll(value) : -1;
}

static CreateOptionsQcow2 *visit_options(QDict *options, QDict *rest,
                                         Error **errp)
{
    g_autoptr(QDict) own = qdict_new();
    CreateOptionsQcow2 *opts = NULL;
    const QDictEntry *e;
    Visitor *v;

    for (e = qdict_first(options); e; e = qdict_next(options, e)) {
        const char *name = qdict_entry_key(e);
        bool known = qapi_member_find(qapi_CreateOptionsQcow2_members, name);
        QDict *to = known ? own : rest;

        if (to) {
            qdict_put_obj(to, name, qobject_ref(qdict_entry_value(e)));
        }
    }
    v = qobject_input_visitor_new_keyval(QOBJECT(own));
    if (!visit_type_CreateOptionsQcow2(v, NULL, &opts, errp)) {
        opts = NULL;
    }
    visit_free(v);
    return opts;
}

static int check_clusters(const CreateOptionsQcow2 *opts,
                          Qcow2CreateOptions *o, Error **errp)
{
    o->version = opts->has_compat &&
                 (opts->compat == QCOW2_COMPAT_OPTION_0_10 ||
                  opts->compat == QCOW2_COMPAT_OPTION_V2) ? 2 : 3;
    o->cluster_bits = DEFAULT_CLUSTER_BITS;
    if (opts->has_cluster_size) {
        o->cluster_bits = exact_log2(opts->cluster_size);
        if (o->cluster_bits < MIN_CLUSTER_BITS ||
            o->cluster_bits > MAX_CLUSTER_BITS) {
            error_setg(errp, "Cluster size must be a power of two between %d "
                       "and %dk", 1 << MIN_CLUSTER_BITS,
                       1 << (MAX_CLUSTER_BITS - 10));
            return -EINVAL;
        }
    }
    o->extended_l2 = opts->has_extended_l2 && opts->extended_l2;
    if (o->extended_l2 && o->version < 3) {
        error_setg(errp, "Extended L2 entries are only supported with "
                   "compatibility level 1.1 and above (use version=v3 or "
                   "greater)");
        return -EINVAL;
    }
    if (o->extended_l2 && o->cluster_bits < QCOW2_EXTL2_MIN_CLUSTER_BITS) {
        error_setg(errp, "Extended L2 entries are only supported with cluster "
                   "sizes of at least %d bytes",
                   1 << QCOW2_EXTL2_MIN_CLUSTER_BITS);
        return -EINVAL;
    }
    return 0;
}

static int check_size(const CreateOptionsQcow2 *opts, Qcow2CreateOptions *o,
                      Error **errp)
{
    if (opts->has_size) {
        if (opts->size > BDRV_MAX_LENGTH) {
            error_setg(errp, "Image size is too large");
            return -EFBIG;
        }
        o->size = ROUND_UP(opts->size, BDRV_SECTOR_SIZE);
    }
    if (qcow2_layout_l1_size(o) > QCOW_MAX_L1_SIZE / L1E_SIZE) {
        error_setg(errp, "Image size is too large for cluster size %d",
                   1 << o->cluster_bits);
        return -EFBIG;
    }
    return 0;
}

static int check_features(const CreateOptionsQcow2 *opts,
                          Qcow2CreateOptions *o, Error **errp)
{
    o->refcount_order = DEFAULT_REFCOUNT_ORDER;
    if (opts->has_refcount_bits) {
        o->refcount_order = exact_log2(opts->refcount_bits);
        if (o->refcount_order < 0 || o->refcount_order > 6) {
            error_setg(errp, "Refcount width must be a power of two and may "
                       "not exceed 64 bits");
            return -EINVAL;
        }
    }
    if (o->version < 3 && o->refcount_order != DEFAULT_REFCOUNT_ORDER) {
        error_setg(errp, "Different refcount widths than 16 bits require "
                   "compatibility level 1.1 or above (use version=v3 or "
                   "greater)");
        return -EINVAL;
    }
    o->lazy_refcounts = opts->has_lazy_refcounts && opts->lazy_refcounts;
    if (o->version < 3 && o->lazy_refcounts) {
        error_setg(errp, "Lazy refcounts only supported with compatibility "
                   "level 1.1 and above (use version=v3 or greater)");
        return -EINVAL;
    }
    o->l1_guard = opts->has_l1_guard && opts->l1_guard;
    if (o->version < 3 && o->l1_guard) {
        error_setg(errp, "An L1 guard is only supported with compatibility "
                   "level 1.1 and above (use version=v3 or greater)");
        return -EINVAL;
    }
    o->compression_type = opts->has_compression_type
                          ? opts->compression_type
                          : QCOW2_COMPRESSION_TYPE_ZLIB;
    if (o->version < 3 &&
        o->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB) {
        error_setg(errp, "Non-zlib compression type is only supported with "
                   "compatibility level 1.1 and above (use version=v3 or "
                   "greater)");
        return -EINVAL;
    }
    return 0;
}

static int check_backing(const CreateOptionsQcow2 *opts,
                         Qcow2CreateOptions *o, Error **errp)
{
    if (opts->backing_fmt && !opts->backing_file) {
        error_setg(errp, "Backing format cannot be used without backing file");
        return -EINVAL;
    }
    if (opts->backing_fmt && !bdrv_find_format(opts->backing_fmt)) {
        error_setg(errp, "Parameter 'backing_fmt' does not accept value '%s'",
                   opts->backing_fmt);
        return -EINVAL;
    }
    if (opts->backing_file &&
        strlen(opts->backing_file) > QCOW_MAX_BACKING_NAME) {
        error_setg(errp, "Backing file name is longer than %d bytes",
                   QCOW_MAX_BACKING_NAME);
        return -EINVAL;
    }
    o->prealloc = opts->has_preallocation ? opts->preallocation
                                          : PREALLOC_MODE_OFF;
    if (opts->backing_file && o->prealloc != PREALLOC_MODE_OFF &&
        !o->extended_l2) {
        error_setg(errp, "Backing file and preallocation can only be used at "
                   "the same time if extended_l2 is on");
        return -EINVAL;
    }
    o->backing_file = g_strdup(opts->backing_file);
    o->backing_fmt = g_strdup(opts->backing_fmt);
    return 0;
}

static int check_data_file(const CreateOptionsQcow2 *opts,
                           Qcow2CreateOptions *o, Error **errp)
{
    const char *name = opts->data_file;
    bool raw = opts->has_data_file_raw && opts->data_file_raw;

    if (raw && opts->backing_file) {
        error_setg(errp, "Backing file and data-file-raw cannot be used at "
                   "the same time");
        return -EINVAL;
    }
    if (raw && !name) {
        error_setg(errp, "data-file-raw requires data-file");
        return -EINVAL;
    }
    if (!name) {
        return 0;
    }
    if (o->version < 3) {
        error_setg(errp, "External data files are only supported with "
                   "compatibility level 1.1 and above (use version=v3 or "
                   "greater)");
        return -EINVAL;
    }
    if (!*name || strlen(name) > QCOW2_MAX_DATA_FILE_NAME) {
        error_setg(errp, *name ? "Data file name is longer than %d bytes"
                               : "Data file name is empty",
                   QCOW2_MAX_DATA_FILE_NAME);
        return -EINVAL;
    }
    /* In the header it is a path, whatever it looks like. */
    if (path_has_protocol(name)) {
        error_setg(errp, "Data file name '%s' must not have a protocol prefix",
                   name);
        return -EINVAL;
    }
    o->data_file = g_strdup(name);
    o->data_file_raw = raw;
    /* The guest's view must not depend on clusters that are not there. */
    if (raw && o->prealloc == PREALLOC_MODE_OFF) {
        o->prealloc = PREALLOC_MODE_METADATA;
    }
    return 0;
}

/* The first option of encryption that only LUKS has, or NULL. */
static const char *luks_option(const CreateOptionsQcow2 *opts)
{
    return opts->has_encrypt_cipher_alg ? "encrypt.cipher-alg"
           : opts->has_encrypt_cipher_mode ? "encrypt.cipher-mode"
           : opts->has_encrypt_ivgen_alg ? "encrypt.ivgen-alg"
           : opts->has_encrypt_ivgen_hash_alg ? "encrypt.ivgen-hash-alg"
           : opts->has_encrypt_hash_alg ? "encrypt.hash-alg"
           : opts->has_encrypt_iter_time ? "encrypt.iter-time" : NULL;
}

static void take_luks(const CreateOptionsQcow2 *opts, LuksOptions *lo)
{
    luks_options_init(lo);
#define TAKE(field, member) \
    do { if (opts->has_##member) { lo->field = opts->member; } } while (0)
    TAKE(sectors.cipher, encrypt_cipher_alg);
    TAKE(sectors.mode, encrypt_cipher_mode);
    TAKE(sectors.ivgen, encrypt_ivgen_alg);
    TAKE(sectors.ivgen_hash, encrypt_ivgen_hash_alg);
    TAKE(hash, encrypt_hash_alg);
    TAKE(iter_time_ms, encrypt_iter_time);
#undef TAKE
}

static int check_encryption(const CreateOptionsQcow2 *opts,
                            Qcow2CreateOptions *o, Error **errp)
{
    bool old = opts->has_encryption && opts->encryption;
    bool luks = opts->has_encrypt_format &&
                opts->encrypt_format == BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS;
    const char *other = luks_option(opts);

    if (opts->has_encryption && opts->has_encrypt_format) {
        error_setg(errp, "'encrypt.format' and its alias 'encryption' can't be "
                   "used at the same time");
        return -EINVAL;
    }
    if (!old && !opts->has_encrypt_format) {
        if (other || opts->encrypt_key_secret) {
            error_setg(errp, "Parameter 'encrypt.format' is missing");
            return -EINVAL;
        }
        return 0;
    }
    if (!luks && other) {
        error_setg(errp, "Parameter '%s' is unexpected", other);
        return -EINVAL;
    }
    o->crypt_method = luks ? QCOW_CRYPT_LUKS : QCOW_CRYPT_AES;
    o->key_secret = g_strdup(opts->encrypt_key_secret);
    take_luks(opts, &o->luks);
    return crypto_available(errp) ? 0 : -ENOTSUP;
}

uint64_t qcow2_layout_crypto_clusters(const Qcow2CreateOptions *o)
{
    return o->crypt_method == QCOW_CRYPT_LUKS
               ? DIV_ROUND_UP(luks_header_size(&o->luks),
                              1ULL << o->cluster_bits) : 0;
}

int qcow2_create_options_check(const CreateOptionsQcow2 *opts,
                               Qcow2CreateOptions *o, Error **errp)
{
    int ret;

    memset(o, 0, sizeof(*o));
    ret = check_clusters(opts, o, errp);
    if (ret == 0) {
        ret = check_size(opts, o, errp);
    }
    if (ret == 0) {
        ret = check_features(opts, o, errp);
    }
    if (ret == 0) {
        ret = check_backing(opts, o, errp);
    }
    if (ret == 0) {
        ret = check_data_file(opts, o, errp);
    }
    if (ret == 0) {
        ret = check_encryption(opts, o, errp);
    }
    if (ret == 0 && o->data_file_raw && o->crypt_method != QCOW_CRYPT_NONE) {
        error_setg(errp, "data-file-raw is not possible with encryption: the "
                   "data file would not show what the guest sees");
        ret = -EINVAL;
    }
    return ret;
}

int qcow2_create_options_parse(QDict *options, QDict *rest,
                               Qcow2CreateOptions *o, Error **errp)
{
    CreateOptionsQcow2 *opts = visit_options(options, rest, errp);
    int ret;

    if (!opts) {
        memset(o, 0, sizeof(*o));
        return -EINVAL;
    }
    ret = qcow2_create_options_check(opts, o, errp);
    qapi_free_CreateOptionsQcow2(opts);
    return ret;
}

uint64_t qcow2_layout_l1_size(const Qcow2CreateOptions *o)
{
    /* a cluster of L2 entries, each for a cluster */
    int bits = o->cluster_bits - 3 - o->extended_l2 + o->cluster_bits;

    return DIV_ROUND_UP(o->size, 1ULL << bits);
}

void qcow2_refcount_layout(const Qcow2CreateOptions *o, uint64_t clusters,
                           Qcow2RefcountLayout *layout)
{
    uint64_t per_block = 1ULL << (o->cluster_bits + 3 - o->refcount_order);
    uint64_t per_table_cluster = 1ULL << (o->cluster_bits - 3);
    uint64_t total = clusters;
    uint64_t last;

    layout->blocks = 0;
    layout->table_clusters = 0;
    /* Grows at most by a small fraction each time round. */
    do {
        last = total;
        layout->blocks = DIV_ROUND_UP(total, per_block);
        layout->table_clusters = DIV_ROUND_UP(layout->blocks,
                                              per_table_cluster);
        total = clusters + layout->blocks + layout->table_clusters;
    } while (total != last);
}
