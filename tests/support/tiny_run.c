#include "tests/support/tiny_run.h"

#include "core/fs.h"
#include "core/log.h"
#include "data/pack.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

const char *tiny_rows_pack(const char *name, const char *table)
{
    static char dir[300], out[4][400];
    static int k;
    char *path = out[k++ % 4];
    snprintf(dir, sizeof dir, "%s/rows", temp_dir());
    ASSERT_OK(lcl_fs_mkdirs(dir));
    tiny_write_picture(tiny_file("rows/a.png", ""), 0, 1);
    tiny_write_picture(tiny_file("rows/b.png", ""), 2, 0);
    snprintf(path, sizeof out[0], "%s/%s", temp_dir(), name);
    lcl_log_set_level(LCL_LOG_QUIET);
    ASSERT_OK(lcl_pack_create(&(struct lcl_pack_options){.format = "llava",
                                                         .images = dir,
                                                         .out = path,
                                                         .min_images = 1,
                                                         .force = true,
                                                         .table = tiny_file("rows.jsonl", table)}));
    return path;
}

void tiny_env_open(struct lcl_env *e, const struct lcl_config *c)
{
    *e = (struct lcl_env){0};
    ASSERT_OK(lcl_env_start(e, c));
    ASSERT_OK(lcl_env_open_data(e, c));
    ASSERT_OK(lcl_env_make_model(e, c, false));
}

void tiny_lane_open(struct tiny_lane *l, struct lcl_env *e, const struct lcl_config *c)
{
    *l = (struct tiny_lane){0};
    ASSERT_OK(lcl_source_open(&l->source, e, c, 0, &l->unread, NULL));
    ASSERT_OK(lcl_lane_create(&l->lane, &l->source));
}

void tiny_lane_close(struct tiny_lane *l)
{
    lcl_lane_free(&l->lane);
    lcl_source_close(&l->source);
}

struct lcl_eval_outcome tiny_evaluate(const struct lcl_config *c, const struct lcl_eval_request *q)
{
    struct lcl_env e;
    struct lcl_features features = {0};
    struct lcl_eval_outcome o;
    tiny_env_open(&e, c);
    ASSERT_OK(lcl_env_open_sources(&e, c));
    if (c->cache_features) ASSERT_OK(lcl_features_open(&features, &e, c, 1, NULL));
    ASSERT_OK(lcl_eval_run(&e, c, c->cache_features ? &features : NULL, q, &o));
    lcl_features_close(&features);
    lcl_env_close(&e);
    return o;
}
