/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img snapshot */
#include "util/osdep.h"
#include "block/block.h"
#include "block/info.h"
#include "block/snapshot.h"
#include "img/img.h"

typedef enum {
    ACTION_NONE,
    ACTION_LIST,
    ACTION_CREATE,
    ACTION_APPLY,
    ACTION_DELETE,
} Action;

typedef struct SnapshotArgs {
    ImgOpen how;
    Action action;
    const char *name;
    const char *filename;
} SnapshotArgs;

static void set_action(const ImgCmd *cmd, SnapshotArgs *a, Action action,
                       const char *name)
{
    if (a->action != ACTION_NONE) {
        img_usage_error(cmd, "Cannot mix '-l', '-a', '-c', '-d'");
    }
    a->action = action;
    a->name = name;
}

static void parse(const ImgCmd *cmd, int argc, char **argv, SnapshotArgs *a)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPTION_OBJECT },
        { "image-opts", no_argument, NULL, OPTION_IMAGE_OPTS },
        { "format", required_argument, NULL, 'f' },
        { "list", no_argument, NULL, 'l' },
        { "create", required_argument, NULL, 'c' },
        { "apply", required_argument, NULL, 'a' },
        { "delete", required_argument, NULL, 'd' },
        { "quiet", no_argument, NULL, 'q' },
        { "force-share", no_argument, NULL, 'U' },
        {}
    };
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":a:c:d:f:hlqU", longopts, 1)) !=
           -1) {
        switch (c) {
        case 'f':
            a->how.fmt = optarg;
            break;
        case 'l':
            set_action(cmd, a, ACTION_LIST, NULL);
            break;
        case 'c':
            set_action(cmd, a, ACTION_CREATE, optarg);
            break;
        case 'a':
            set_action(cmd, a, ACTION_APPLY, optarg);
            break;
        case 'd':
            set_action(cmd, a, ACTION_DELETE, optarg);
            break;
        case 'q':
            break;      /* nothing but the list is printed anyway */
        case 'U':
            a->how.force_share = true;
            break;
        case OPTION_IMAGE_OPTS:
            a->how.image_opts = true;
            break;
        }
    }
    if (optind != argc - 1) {
        img_usage_error(cmd, "Expecting one image file name");
    }
    a->filename = argv[optind];
    if (a->action == ACTION_NONE) {
        a->action = ACTION_LIST;
    }
}

static bool list(BlockDriverState *bs, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(SnapshotInfoList) snapshots = bdrv_snapshot_list(bs, errp);
    GString *text;

    if (!snapshots) {
        return !*errp;
    }
    text = g_string_new("Snapshot list:\n");
    bdrv_snapshots_text(text, snapshots, 0);
    fputs(text->str, stdout);
    g_string_free(text, true);
    return true;
}

static bool create(BlockDriverState *bs, const char *name, Error **errp)
{
    int64_t now = g_get_real_time();
    QEMUSnapshotInfo info = {
        .date_sec = now / G_USEC_PER_SEC,
        .date_nsec = now % G_USEC_PER_SEC * 1000,
    };

    if (strlen(name) >= sizeof(info.name)) {
        error_setg(errp, "The name is longer than %zu bytes",
                   sizeof(info.name) - 1);
        return false;
    }
    g_strlcpy(info.name, name, sizeof(info.name));
    return bdrv_snapshot_create(bs, &info, errp) == 0;
}

/* By name only: an id may be another one's name. */
static bool delete(BlockDriverState *bs, const char *name, Error **errp)
{
    QEMUSnapshotInfo info;

    if (bdrv_snapshot_find(bs, &info, name) < 0) {
        error_setg(errp, "snapshot not found");
        return false;
    }
    return bdrv_snapshot_delete(bs, info.id_str, name, errp) == 0;
}

static int act(BlockDriverState *bs, const SnapshotArgs *a)
{
    Error *err = NULL;
    const char *verb = "";

    switch (a->action) {
    case ACTION_CREATE:
        verb = "create";
        create(bs, a->name, &err);
        break;
    case ACTION_APPLY:
        verb = "apply";
        bdrv_snapshot_goto(bs, a->name, &err);
        break;
    case ACTION_DELETE:
        verb = "delete";
        delete(bs, a->name, &err);
        break;
    default:
        list(bs, &err);
        break;
    }
    if (err && a->name) {
        error_reportf_err(err, "Could not %s snapshot '%s': ", verb, a->name);
        return 1;
    }
    if (err) {
        error_reportf_err(err, "Could not list snapshots: ");
        return 1;
    }
    return 0;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    SnapshotArgs a = { .how.flags = BDRV_O_RDWR | BDRV_O_UNMAP };
    g_autoptr(BlockBackend) blk = NULL;

    parse(cmd, argc, argv, &a);
    if (a.action == ACTION_LIST) {
        a.how.flags &= ~BDRV_O_RDWR;
    }
    blk = img_open(a.filename, &a.how);
    return blk ? act(blk_bs(blk), &a) : 1;
}

const ImgCmd img_cmd_snapshot = {
    .name = "snapshot",
    .handler = run,
    .description = "List or manipulate the snapshots inside an image",
    .usage = "[-f FMT | --image-opts] [-l | -a|-c|-d SNAPSHOT]\n"
             "        [-U] [-q] [--object OBJDEF] FILE",
    .help =
        "  -f, --format FMT\n"
        "     format of FILE (default: guess)\n"
        "  --image-opts\n"
        "     FILE is an option string, NAME=VALUE,...\n"
        "  -l, --list\n"
        "     list the snapshots (this is the default)\n"
        "  -c, --create SNAPSHOT\n"
        "     take a snapshot of the disk and call it SNAPSHOT\n"
        "  -a, --apply SNAPSHOT\n"
        "     make the disk what it was at the snapshot with this id or name;\n"
        "     what it holds is lost\n"
        "  -d, --delete SNAPSHOT\n"
        "     delete the first snapshot of this name\n"
        "  -U, --force-share\n"
        "     open FILE even if somebody else uses it (only with -l)\n"
        "  -q, --quiet\n"
        "     print nothing but the list and errors\n"
        "  --object OBJDEF\n"
        "     define an object\n"
        "  FILE\n"
        "     name of the image\n",
};
