/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img undo */
#include "util/osdep.h"
#include <fcntl.h>
#include "block/block.h"
#include "img/img.h"
#include "img/undo-file.h"

/* Puts things back; nobody else has the image open. */
static bool undo(const char *undo_name, const char *image, Error **errp)
{
    g_autoptr(UndoFile) u = undo_file_open(undo_name, errp);
    bool ok;
    int fd;

    if (!u) {
        return false;
    }
    fd = open(image, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        error_setg_errno(errp, errno, "Could not open '%s'", image);
        return false;
    }
    ok = undo_file_apply(u, fd, errp);
    close(fd);
    if (!ok) {
        error_prepend(errp, "Could not undo the repair of '%s': ", image);
    }
    return ok;
}

static int run(const ImgCmd *cmd, int argc, char **argv)
{
    static const struct option longopts[] = {
        { "help", no_argument, NULL, 'h' },
        { "quiet", no_argument, NULL, 'q' },
        {}
    };
    ImgOpen how = { .fmt = "raw", .flags = BDRV_O_RDWR, .no_share = true };
    g_autoptr(BlockBackend) blk = NULL;
    Error *err = NULL;
    bool quiet = false;
    int c;

    while ((c = img_getopt(cmd, argc, argv, ":hq", longopts, 1)) != -1) {
        quiet = quiet || c == 'q';
    }
    if (optind != argc - 2) {
        img_usage_error(cmd, "Expecting an undo file and an image file name");
    }
    /* Holds the locks that keep others away. */
    blk = img_open(argv[optind + 1], &how);
    if (!blk) {
        return 1;
    }
    if (!undo(argv[optind], argv[optind + 1], &err)) {
        error_report_err(err);
        return 1;
    }
    if (!quiet) {
        printf("The image is as it was before the repair.\n");
    }
    return 0;
}

const ImgCmd img_cmd_undo = {
    .name = "undo",
    .handler = run,
    .description = "Take back what 'check -r' has changed",
    .usage = "[-q] FILE IMAGE",
    .help =
        "  -q, --quiet\n"
        "     print nothing but errors\n"
        "  FILE\n"
        "     the undo file that 'check -r --undo FILE' has written\n"
        "  IMAGE\n"
        "     the image; it must be exactly as the repair left it\n",
};
