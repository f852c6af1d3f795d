/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numbers of an image that does not exist yet: what creation writes and
 * measure counts.
 */
#ifndef BLOCK_QCOW2_LAYOUT_H
#define BLOCK_QCOW2_LAYOUT_H

#include "block/qcow2/qcow2.h"

/* Creation options, checked, with all defaults filled in. */
typedef struct Qcow2CreateOptions {
    uint64_t size;              /* bytes, whole sectors */
    int version;                /* 2 or 3 */
    int cluster_bits;
    int refcount_order;
    bool lazy_refcounts;
    bool extended_l2;
    bool l1_guard;
    PreallocMode prealloc;
    Qcow2CompressionType compression_type;
    uint32_t crypt_method;      /* QCOW_CRYPT_* */
    LuksOptions luks;           /* with QCOW_CRYPT_LUKS */
    char *key_secret;           /* with any; not looked at yet */
    char *backing_file;         /* NULL: none */
    char *backing_fmt;
    char *data_file;            /* NULL: none */
    bool data_file_raw;
} Qcow2CreateOptions;

void qcow2_create_options_clear(Qcow2CreateOptions *o);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Qcow2CreateOptions,
                                 qcow2_create_options_clear)

/*
 * @options: strings by the names of CreateOptionsQcow2; others are ignored if
 * @rest is NULL, else put there. 0, -EINVAL, -ENOTSUP or -EFBIG.
 */
int qcow2_create_options_parse(QDict *options, QDict *rest,
                               Qcow2CreateOptions *o, Error **errp);
/* The same from typed options. */
int qcow2_create_options_check(const CreateOptionsQcow2 *opts,
                               Qcow2CreateOptions *o, Error **errp);

/* Refcount blocks and table clusters that describe a whole file. */
typedef struct Qcow2RefcountLayout {
    uint64_t blocks;
    uint64_t table_clusters;
} Qcow2RefcountLayout;
/* For @clusters other clusters; the structure counts itself too. */
void qcow2_refcount_layout(const Qcow2CreateOptions *o, uint64_t clusters,
                           Qcow2RefcountLayout *layout);

/* Clusters of the LUKS header. */
uint64_t qcow2_layout_crypto_clusters(const Qcow2CreateOptions *o);

/* Entries of the L1 table. */
uint64_t qcow2_layout_l1_size(const Qcow2CreateOptions *o);

#endif
