#include "tests/support/tiny.h"

#include "core/fs.h"
#include "core/log.h"
#include "data/pack.h"
#include "tests/support/support.h"

/* Is (x, y), relative to the shape's centre, part of shape `kind`? */
static bool covers(int kind, int x, int y)
{
    int ax = x < 0 ? -x : x, ay = y < 0 ? -y : y;
    switch (kind % 5) {
    case 0:
        return ax <= 4 && ay <= 4;
    case 1:
        return x * x + y * y <= 25;
    case 2:
        return ax + ay <= 5;
    case 3:
        return (ax <= 1 && ay <= 5) || (ay <= 1 && ax <= 5);
    default:
        return ay <= 2 && ax <= 5;
    }
}

void tiny_write_picture(const char *path, int kind, int number)
{
    uint8_t pixels[TINY_SIDE * TINY_SIDE * 3];
    struct lcl_image image = {TINY_SIDE, TINY_SIDE, 3, pixels};
    int cx = 6 + number * 3 % 9, cy = 6 + number * 5 % 9;
    for (int y = 0; y < TINY_SIDE; y++)
        for (int x = 0; x < TINY_SIDE; x++)
            for (int c = 0; c < 3; c++) {
                int value = covers(kind, x - cx, y - cy) ? 40 + (kind * (53 + 71 * c)) % 200
                                                         : 230 - 3 * number;
                pixels[(y * TINY_SIDE + x) * 3 + c] = (uint8_t)(value & 255);
            }
    uint8_t *bytes;
    size_t size;
    ASSERT_OK(lcl_image_encode_png(&image, &bytes, &size));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    free(bytes);
}

const char *tiny_folder(void)
{
    static char folder[300];
    if (folder[0]) return folder;
    snprintf(folder, sizeof folder, "%s/pictures", temp_dir());
    for (int kind = 0; kind < TINY_TRAIN_CLASSES + TINY_TEST_CLASSES; kind++) {
        char dir[340], path[380];
        snprintf(dir, sizeof dir, "%s/%s/%c%s", folder,
                 kind < TINY_TRAIN_CLASSES ? "train" : "test", 'a' + kind, "-thing");
        ASSERT_OK(lcl_fs_mkdirs(dir));
        for (int i = 0; i < TINY_PICTURES; i++) {
            snprintf(path, sizeof path, "%s/%d.png", dir, i);
            tiny_write_picture(path, kind, i);
        }
    }
    return folder;
}

const char *tiny_pack(void)
{
    static char pack[300];
    if (pack[0]) return pack;
    snprintf(pack, sizeof pack, "%s/tiny.h5", temp_dir());
    struct lcl_pack_options o = {
        .format = "imagefolder", .images = tiny_folder(), .out = pack, .min_images = 1};
    enum lcl_log_level level = lcl_log_get_level();
    lcl_log_set_level(LCL_LOG_QUIET);
    ASSERT_OK(lcl_pack_create(&o));
    lcl_log_set_level(level);
    return pack;
}

static const char keys[] = "threads: 1\n"
                           "seed: 7\n"
                           "vision: {image_size: 16, patch_size: 8, hidden_size: 16, "
                           "intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2}\n"
                           "text: {hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2, "
                           "num_attention_heads: 4, num_key_value_heads: 2, embed_std: 1}\n"
                           "qformer: {num_query_tokens: 3, hidden_size: 24, intermediate_size: 40, "
                           "num_hidden_layers: 3, num_attention_heads: 2}\n"
                           "init_scheme: fan_in\n"
                           "learning_rate: 3e-3\n"
                           "lanes: 2\n"
                           "per_device_train_batch_size: 2\n"
                           "max_steps: 5\n"
                           "logging_steps: 5\n"
                           "save_steps: 0\n"
                           "data: {shots: 4, hard_fraction: 0}\n"
                           "eval: {shots: [2], negatives: random, max_new_tokens: 12}\n"
                           "eval_episodes: 4\n";

const char *tiny_yaml(void)
{
    static char yaml[2048];
    snprintf(yaml, sizeof yaml, "%sdata.pack: %s\n", keys, tiny_pack());
    return yaml;
}

const char *tiny_file(const char *name, const char *text)
{
    static char paths[8][400];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", temp_dir(), name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return path;
}

void tiny_config(struct lcl_config *c, const char *overrides)
{
    char copy[1024], *words[64], *save = NULL;
    int n = 0;
    snprintf(copy, sizeof copy, "%s", overrides);
    for (char *w = strtok_r(copy, " ", &save); w && n < 64; w = strtok_r(NULL, " ", &save))
        words[n++] = w;
    struct lcl_run_config *run = malloc(sizeof *run);
    assert_non_null(run);
    ASSERT_OK(
        lcl_config_load(tiny_file("tiny.yaml", tiny_yaml()), (const char *const *)words, n, run));
    *c = run->stages[0];
    free(run);
}
