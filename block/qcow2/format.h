/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qcow2 format as it lies on disk: numbers, masks and structures.
 *
 * Everything on disk is big-endian. An image is an array of clusters of
 * 1 << cluster_bits bytes. Cluster 0 starts with the header.
 */
#ifndef BLOCK_QCOW2_FORMAT_H
#define BLOCK_QCOW2_FORMAT_H

#include "util/osdep.h"

#define QCOW_MAGIC 0x514649fb   /* "QFI\xfb" */

#define QCOW_CRYPT_NONE 0
#define QCOW_CRYPT_AES  1
#define QCOW_CRYPT_LUKS 2

#define QCOW_MAX_CRYPT_CLUSTERS 32

#define MIN_CLUSTER_BITS 9
#define MAX_CLUSTER_BITS 21

/* Bytes. The limits keep hostile images from asking for all memory. */
#define QCOW_MAX_L1_SIZE          (32 * 1024 * 1024)
#define QCOW_MAX_REFTABLE_SIZE    (8 * 1024 * 1024)
#define QCOW_MAX_SNAPSHOTS_SIZE   (64 * 1024 * 1024)
#define QCOW_MAX_SNAPSHOTS        65536
#define QCOW_MAX_SNAPSHOT_EXTRA_DATA 1024
#define QCOW_MAX_BACKING_NAME     1023
#define QCOW2_MAX_DATA_FILE_NAME  1023
/* Host offsets are below this. */
#define QCOW_MAX_HOST_OFFSET      (1ULL << 56)

#define QCOW2_V2_HEADER_LENGTH 72
#define QCOW2_V3_MIN_HEADER_LENGTH 104
/* What we write for version 3. */
#define QCOW2_V3_HEADER_LENGTH 112

/*
 * The header, at offset 0 of the image. Version 2 ends before
 * incompatible_features. Length and offset of every field, in bytes:
 */
typedef struct QEMU_PACKED QCowHeader {
    uint32_t magic;                     /*   0 */
    uint32_t version;                   /*   4 */
    uint64_t backing_file_offset;       /*   8: 0 for none */
    uint32_t backing_file_size;         /*  16: bytes, no terminator */
    uint32_t cluster_bits;              /*  20 */
    uint64_t size;                      /*  24: virtual disk, bytes */
    uint32_t crypt_method;              /*  32 */
    uint32_t l1_size;                   /*  36: entries */
    uint64_t l1_table_offset;           /*  40 */
    uint64_t refcount_table_offset;     /*  48 */
    uint32_t refcount_table_clusters;   /*  56 */
    uint32_t nb_snapshots;              /*  60 */
    uint64_t snapshots_offset;          /*  64 */

    /* version 3 */
    uint64_t incompatible_features;     /*  72 */
    uint64_t compatible_features;       /*  80 */
    uint64_t autoclear_features;        /*  88 */
    uint32_t refcount_order;            /*  96: width is 1 << order bits */
    uint32_t header_length;             /* 100 */

    /* if header_length says so; 0 otherwise */
    uint8_t compression_type;           /* 104: 0 zlib, 1 zstd */
    uint8_t padding[7];                 /* 105: zero */
} QCowHeader;

QEMU_BUILD_BUG_ON(sizeof(QCowHeader) != QCOW2_V3_HEADER_LENGTH);

/* With extended L2 entries: a subcluster is not less than a sector. */
#define QCOW2_EXTL2_MIN_CLUSTER_BITS 14

/* incompatible_features */
#define QCOW2_INCOMPAT_DIRTY        (1ULL << 0)
#define QCOW2_INCOMPAT_CORRUPT      (1ULL << 1)
#define QCOW2_INCOMPAT_DATA_FILE    (1ULL << 2)
#define QCOW2_INCOMPAT_COMPRESSION  (1ULL << 3)
#define QCOW2_INCOMPAT_EXTL2        (1ULL << 4)
/* What this driver can work with. */
#define QCOW2_INCOMPAT_MASK         (QCOW2_INCOMPAT_DIRTY |      \
                                     QCOW2_INCOMPAT_CORRUPT |    \
                                     QCOW2_INCOMPAT_DATA_FILE |  \
                                     QCOW2_INCOMPAT_COMPRESSION | \
                                     QCOW2_INCOMPAT_EXTL2)

/* compatible_features */
#define QCOW2_COMPAT_LAZY_REFCOUNTS (1ULL << 0)

/* autoclear_features */
#define QCOW2_AUTOCLEAR_BITMAPS       (1ULL << 0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW (1ULL << 1)
/* Ours; far from what others may come to use. See guard.h. */
#define QCOW2_AUTOCLEAR_L1_GUARD      (1ULL << 63)
#define QCOW2_AUTOCLEAR_MASK          (QCOW2_AUTOCLEAR_BITMAPS | \
                                       QCOW2_AUTOCLEAR_DATA_FILE_RAW | \
                                       QCOW2_AUTOCLEAR_L1_GUARD)

/*
 * Header extensions follow the header: { u32 magic; u32 length; data padded
 * with zeroes to a multiple of 8 }.
 */
#define QCOW2_EXT_MAGIC_END              0
#define QCOW2_EXT_MAGIC_BACKING_FORMAT   0xe2792aca
#define QCOW2_EXT_MAGIC_FEATURE_TABLE    0x6803f857
#define QCOW2_EXT_MAGIC_CRYPTO_HEADER    0x0537be77
#define QCOW2_EXT_MAGIC_BITMAPS          0x23852875
#define QCOW2_EXT_MAGIC_DATA_FILE        0x44415441
/* Ours: its data mean nothing and are not kept; see header-replace.c. */
#define QCOW2_EXT_MAGIC_GAP              0x67617021
/* Ours: offset of the area, 64 bits, and as many reserved ones. It is the
 * first one, and wholly in the first sector of the header. */
#define QCOW2_EXT_MAGIC_L1_GUARD         0x4c314744
#define QCOW2_GUARD_EXT_BYTES            16

/* One name in the feature table extension. */
typedef enum {
    QCOW2_FEAT_TYPE_INCOMPATIBLE = 0,
    QCOW2_FEAT_TYPE_COMPATIBLE = 1,
    QCOW2_FEAT_TYPE_AUTOCLEAR = 2,
} Qcow2FeatureType;

typedef struct QEMU_PACKED Qcow2Feature {
    uint8_t type;       /* 0: Qcow2FeatureType */
    uint8_t bit;        /* 1 */
    char name[46];      /* 2: zero-padded, maybe without terminator */
} Qcow2Feature;

/* Data of the bitmaps extension. */
typedef struct QEMU_PACKED Qcow2BitmapHeaderExt {
    uint32_t nb_bitmaps;                /*  0 */
    uint32_t reserved32;                /*  4: zero */
    uint64_t bitmap_directory_size;     /*  8: bytes */
    uint64_t bitmap_directory_offset;   /* 16: cluster aligned */
} Qcow2BitmapHeaderExt;

/* An entry of the bitmap directory; padded to 8 as a whole. */
typedef struct QEMU_PACKED Qcow2BitmapDirEntry {
    uint64_t bitmap_table_offset;   /*  0: cluster aligned */
    uint32_t bitmap_table_size;     /*  8: entries */
    uint32_t flags;                 /* 12 */
    uint8_t type;                   /* 16 */
    uint8_t granularity_bits;       /* 17 */
    uint16_t name_size;             /* 18 */
    uint32_t extra_data_size;       /* 20 */
    /* extra data, then the name without terminator */
} Qcow2BitmapDirEntry;

#define QCOW2_BME_TABLE_ENTRY_OFFSET_MASK 0x00fffffffffffe00ULL
/* In an entry without offset: all bits are set, else none. */
#define QCOW2_BME_TABLE_ENTRY_ALL_ONES 1ULL

/* flags */
#define QCOW2_BME_FLAG_IN_USE   (1U << 0)   /* not stored after its last use */
#define QCOW2_BME_FLAG_AUTO     (1U << 1)   /* records writes */
/* May be used by those who do not know the extra data. */
#define QCOW2_BME_FLAG_EXTRA_COMPATIBLE (1U << 2)
#define QCOW2_BME_FLAGS_KNOWN   7U

#define QCOW2_BME_TYPE_DIRTY 1
#define QCOW2_BME_MIN_GRANULARITY_BITS 9
#define QCOW2_BME_MAX_GRANULARITY_BITS 31
#define QCOW2_MAX_BITMAPS 65535
#define QCOW2_MAX_BITMAP_DIRECTORY (QCOW2_MAX_BITMAPS * 1024ULL)
/* Bytes of bits of one bitmap. */
#define QCOW2_MAX_BITMAP_DATA (512ULL << 20)

/* An entry of the snapshot table; padded to 8 as a whole. */
typedef struct QEMU_PACKED QCowSnapshotHeader {
    uint64_t l1_table_offset;   /*  0 */
    uint32_t l1_size;           /*  8: entries */
    uint16_t id_str_size;       /* 12 */
    uint16_t name_size;         /* 14 */
    uint32_t date_sec;          /* 16 */
    uint32_t date_nsec;         /* 20 */
    uint64_t vm_clock_nsec;     /* 24 */
    uint32_t vm_state_size;     /* 32: bytes, or see extra data */
    uint32_t extra_data_size;   /* 36 */
    /* extra data, then id string, then name */
} QCowSnapshotHeader;

typedef struct QEMU_PACKED QCowSnapshotExtraData {
    uint64_t vm_state_size_large;   /*  0 */
    uint64_t disk_size;             /*  8 */
    uint64_t icount;                /* 16: all ones for none */
} QCowSnapshotExtraData;

/*
 * L1 entry: bits 9..55 offset of the L2 table (0: none), bit 63 COPIED.
 * L2 entry: bit 62 set: compressed, see qcow2_parse_compressed_l2_entry();
 *   else bits 9..55 host offset (0: none), bit 0 reads as zeroes (v3),
 *   bit 63 COPIED: the refcount is exactly 1, may be written in place. In a
 *   data file the host offset is the guest's, and COPIED makes 0 one.
 *   With extended L2 entries 64 more bits follow each: see l2-entry.h.
 * Refcount table entry: bits 9..63 offset of the refcount block (0: none).
 */
#define QCOW_OFLAG_COPIED     (1ULL << 63)
#define QCOW_OFLAG_COMPRESSED (1ULL << 62)
#define QCOW_OFLAG_ZERO       (1ULL << 0)

#define L1E_OFFSET_MASK   0x00fffffffffffe00ULL
#define L1E_RESERVED_MASK 0x7f000000000001ffULL
#define L2E_OFFSET_MASK   0x00fffffffffffe00ULL
#define L2E_STD_RESERVED_MASK 0x3f000000000001feULL
#define REFT_OFFSET_MASK  0xfffffffffffffe00ULL
#define REFT_RESERVED_MASK 0x1ffULL

#define L1E_SIZE (sizeof(uint64_t))
#define L2E_SIZE_NORMAL (sizeof(uint64_t))
#define REFTABLE_ENTRY_SIZE (sizeof(uint64_t))

/* Unit in which the size of a compressed cluster is stored. */
#define QCOW2_COMPRESSED_SECTOR_SIZE 512U

#endif
