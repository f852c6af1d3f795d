/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A main() for fuzz targets without libFuzzer: tries the inputs in the given
 * files and directories, each by itself, and cut short in some places.
 */
#include "util/osdep.h"
#include "fuzz.h"

static unsigned nb_inputs;

static void try_file(const char *path)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) err = NULL;
    gsize size;

    if (!g_file_get_contents(path, &data, &size, &err)) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
    for (size_t cut = size; cut > 0; cut = cut * 2 / 3) {
        /* Of its own, so that a sanitizer sees reads beyond the end. */
        g_autofree uint8_t *input = g_memdup2(data, cut);

        LLVMFuzzerTestOneInput(input, cut);
        nb_inputs++;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
}

static void try_directory(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        try_file(file);
    }
    if (dir) {
        g_dir_close(dir);
    }
}

int main(int argc, char **argv)
{
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (g_file_test(argv[i], G_FILE_TEST_IS_DIR)) {
            try_directory(argv[i]);
        } else {
            try_file(argv[i]);
        }
    }
    printf("%u inputs\n", nb_inputs);
    return nb_inputs ? 0 : 1;
}
