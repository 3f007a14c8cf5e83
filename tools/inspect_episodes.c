/* Episodes as training draws them, for people and for checks of their distributions. */
#include "tools/inspect_episodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/ckpt.h"
#include "checkpoint/hf.h"
#include "core/fs.h"
#include "core/log.h"
#include "data/any_shot.h"
#include "data/episode.h"
#include "data/policy.h"
#include "tools/inspect_page.h"
#include "tools/inspect_rows.h"
#include "train/env.h"

/* Slots of a picture in the text, and its side in pixels: by the model that the run begins with, or
 * by the config's shapes. */
static lcl_status shape_of_pictures(const struct lcl_config *c, const struct lcl_tokenizer *t,
                                    int64_t *slots, int64_t *side)
{
    struct lcl_model_config m;
    bool joined = c->init_vision_from[0];
    const char *from = joined ? c->init_vision_from : c->init_from;
    bool vision = joined || strstr(c->init_parts, "all") || strstr(c->init_parts, "vision");
    lcl_model_config_from(c, lcl_tokenizer_vocab_size(t), &m);
    enum lcl_image_pool_kind pool = m.pool;
    if (from[0] && vision && lcl_checkpoint_is_folder(from)) {
        char path[LCL_CHECKPOINT_PATH_BYTES];
        LCL_TRY(lcl_checkpoint_find(from, path, sizeof path));
        LCL_TRY(lcl_checkpoint_load_config(path, &m));
    } else if (from[0] && vision && lcl_hf_is_folder(from)) {
        struct lcl_model_config folder;
        LCL_TRY(lcl_hf_load_config(from, &folder));
        if (lcl_hf_is_tower_folder(from))
            m.vision = folder.vision;
        else
            m = folder;
    }
    if (joined) m.pool = pool;
    *slots = lcl_tokens_per_image(&m);
    *side = m.vision.image_size;
    return LCL_OK;
}

static lcl_status print_text(struct lcl_batch_builder *b, const struct lcl_sampler *s,
                             const struct lcl_episode *e)
{
    char *text;
    LCL_TRY(lcl_episode_text(b, e, &text));
    printf("episode %llu: %d shots,", (unsigned long long)e->sample, e->n_shots);
    for (int w = 0; w < e->n_ways; w++)
        printf(" %s = \"%s\"%s", s->pack->classes[e->class_id[w]].id, e->label[w],
               w + 1 < e->n_ways ? "," : "");
    if (e->neighbor_rank) printf(", neighbor rank %d", (int)e->neighbor_rank);
    printf("\n%s\n\n", text);
    free(text);
    return LCL_OK;
}

struct printer {
    const struct lcl_config *config;
    const struct inspect_request *r;
    struct lcl_row_sources sources; /* which sample is drawn by which strategy */
    struct lcl_mixture mixture;
    struct lcl_samplers samplers;
    struct lcl_pack *pack;
    struct lcl_batch_builder *builder;
    struct inspect_page page;
    bool with_tokens;
    int64_t n_printed, n_coinciding;
    struct lcl_any_shot any_shot;  /* with data.strategy: any-shot, instead of the samplers */
    struct lcl_row_sources *rows;  /* with packs open, for any-shot and for pages; NULL: none are */
    struct lcl_mixture rows_drawn; /* of a page: whose, and which row */
    struct lcl_conversation_rules rules;
};

/* What an episode is called among samples of several kinds. */
static const char *kind_of(const struct printer *p, const struct lcl_episode *e)
{
    const char *drawn = inspect_strategy(p->config, &p->mixture, e->sample);
    if (e->policy == LCL_POLICY_REF) return lcl_strategy_name(LCL_REF);
    return strcmp(drawn, lcl_strategy_name(LCL_REF_OR_WEIGHT)) == 0 ? lcl_strategy_name(LCL_2WAY)
                                                                    : drawn;
}

static lcl_status add_to_page(struct printer *p, const struct lcl_episode *e)
{
    int64_t n = e->n_shots + e->n_queries;
    int64_t *image = malloc((size_t)n * sizeof *image);
    int32_t *view = malloc((size_t)n * sizeof *view);
    char *text = NULL, *heading = NULL;
    lcl_status status;
    if (!image || !view) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a page");
        goto out;
    }
    for (int64_t i = 0; i < n; i++) {
        const struct lcl_shot *s = i < e->n_shots ? &e->shots[i] : &e->queries[i - e->n_shots];
        image[i] = s->image;
        view[i] = s->view;
    }
    LCL_TRY_GOTO(lcl_episode_learned_text(p->builder, e,
                                          (enum lcl_supervise)p->config->data_supervise, &text));
    heading = p->sources.n ? lcl_strdupf("sample %llu: %s, %d shots", (unsigned long long)e->sample,
                                         kind_of(p, e), e->n_shots)
                           : lcl_strdupf("episode %llu: %d shots", (unsigned long long)e->sample,
                                         e->n_shots);
    if (!heading) status = LCL_FAIL(LCL_MEMORY, "no memory for a page");
    LCL_TRY_GOTO(status);
    LCL_TRY_GOTO(inspect_page_add(&p->page, &(struct inspect_sample){.heading = heading,
                                                                     .text = text,
                                                                     .pack = p->pack,
                                                                     .image = image,
                                                                     .view = view,
                                                                     .n_images = n}));
out:
    free(image);
    free(view);
    free(text);
    free(heading);
    return status;
}

/* Pictures are numbered on from pack to pack: those of the classes, then those of rows. */
static lcl_status conversation_to_page(struct printer *p, const struct lcl_any_turns *t,
                                       const char *text)
{
    size_t n = (size_t)t->conversation.n_images;
    int64_t *image = malloc((n + 1) * sizeof *image);
    struct lcl_pack **packs = malloc((n + 1) * sizeof *packs);
    char *heading = lcl_strdupf("conversation %llu: %d turns", (unsigned long long)t->sample, t->n);
    lcl_status status = LCL_OK;
    if (!image || !packs || !heading) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a page");
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        image[i] = t->conversation.image[i];
        packs[i] = p->pack;
        for (int k = 0; k < p->rows->n; k++) {
            struct lcl_row_source *from = &p->rows->source[k];
            if (from->episodes || t->conversation.image[i] < from->first_picture) continue;
            image[i] = t->conversation.image[i] - from->first_picture;
            packs[i] = &from->pack;
        }
    }
    status =
        inspect_page_add(&p->page, &(struct inspect_sample){.heading = heading,
                                                            .text = text,
                                                            .packs = packs,
                                                            .image = image,
                                                            .view = t->conversation.view,
                                                            .n_images = t->conversation.n_images});
out:
    free(image);
    free(packs);
    free(heading);
    return status;
}

static lcl_status print_any_shot(struct printer *p, int64_t n, double progress)
{
    struct lcl_any_turns t;
    char *text = NULL, *line = NULL;
    LCL_TRY(lcl_any_shot_draw(&p->any_shot, p->r->epoch, (uint64_t)n, progress, &t));
    lcl_status status;
    LCL_TRY_GOTO(lcl_conversation_text(&t.conversation, &p->rules, &text));
    if (p->page.path) LCL_TRY_GOTO(conversation_to_page(p, &t, text));
    if (p->r->json) LCL_TRY_GOTO(lcl_any_turns_json(&p->any_shot, &t, &p->rules, &line));
    if (line)
        puts(line);
    else
        printf("conversation %lld: %d turns, %s%s, format %s\n%s\n\n", (long long)n, t.n,
               lcl_turn_task_names[t.turn[0].task], t.made_up ? ", made-up labels" : "",
               lcl_answer_format_names[t.format], lcl_printable(text));
out:
    free(text);
    free(line);
    lcl_any_turns_free(&t);
    return status;
}

/* A sample that is a row: as a line, and on the page. */
static lcl_status print_row(struct printer *p, int64_t n, const struct lcl_episode_place *place)
{
    int source;
    int64_t row;
    printf(p->r->json ? "{\"sample\":%lld,\"step\":%lld,\"lane\":%lld,\"row\":true}\n"
                      : "sample %lld, step %lld, lane %lld: a row\n\n",
           (long long)n, (long long)place->step, (long long)place->lane);
    if (!p->page.path) return LCL_OK;
    lcl_mixture_draw(&p->rows_drawn, (uint64_t)n, &source, &row);
    return inspect_row_on_page(&p->page, &p->rules, &p->rows->source[source].pack, row, n);
}

/* Sample n of the run, counted from step 0, unless it is another rank's. */
static lcl_status print_one(struct printer *p, int64_t n)
{
    const struct lcl_config *c = p->config;
    int64_t a_step = lcl_step_samples(c), in_step = n % a_step;
    struct lcl_episode_place place = {.step = n / a_step,
                                      .lane = in_step / c->per_device_train_batch_size,
                                      .with_tokens = p->with_tokens};
    double progress = c->max_steps > 0 ? (double)place.step / (double)c->max_steps : 0;
    struct lcl_episode e;
    char *line = NULL;
    if (lcl_lane_rank(c, place.lane, p->r->world) != p->r->rank) return LCL_OK;
    if (p->sources.n && lcl_mixture_is_row(&p->mixture, (uint64_t)n))
        return print_row(p, n, &place);
    if (progress > 1) progress = 1;
    if (c->data_strategy == LCL_ANY_SHOT) return print_any_shot(p, n, progress);
    const struct lcl_sampler *sampler =
        lcl_samplers_of(&p->samplers, p->sources.n ? &p->mixture : NULL, (uint64_t)n);
    LCL_TRY(lcl_sampler_draw(sampler, p->r->epoch, (uint64_t)n, progress, &e));
    lcl_status status = p->r->json ? lcl_episode_json(p->builder, sampler, &e, &place, &line)
                                   : print_text(p->builder, sampler, &e);
    if (status == LCL_OK && line) puts(line);
    if (status == LCL_OK && p->page.path) status = add_to_page(p, &e);
    p->n_printed++;
    p->n_coinciding += lcl_episode_coincides(&e);
    free(line);
    lcl_episode_free(&e);
    return status;
}

static lcl_status check_ranks(const struct lcl_config *c, const struct inspect_request *r)
{
    if (r->rank >= r->world)
        return LCL_FAIL(LCL_RANGE, "--rank %lld of --world %lld; ranks are counted from 0",
                        (long long)r->rank, (long long)r->world);
    if (r->world <= c->lanes) return LCL_OK;
    return LCL_FAIL_HINT(LCL_CONFIG, "--set lanes=N: ranks own whole lanes",
                         "--world %lld: a step has %lld lanes, too few for so many ranks",
                         (long long)r->world, (long long)c->lanes);
}

static lcl_status open_draws(struct printer *p, struct lcl_env *e)
{
    const struct lcl_config *c = p->config;
    const struct lcl_neighbors *neighbors = e->has_neighbors ? &e->neighbors : NULL;
    LCL_TRY(lcl_row_sources_parse(&p->sources, c));
    p->mixture = (struct lcl_mixture){.config = c, .sources = &p->sources, .epoch = p->r->epoch};
    p->rules = lcl_conversation_rules_of(c, e->tokenizer);
    if (c->data_strategy == LCL_ANY_SHOT || (p->page.path && p->sources.n)) {
        LCL_TRY(lcl_env_open_sources(e, c));
        p->rows = &e->sources;
        LCL_TRY(lcl_mixture_open(&p->rows_drawn, c, &e->sources, p->r->epoch));
    }
    if (c->data_strategy == LCL_ANY_SHOT) {
        return lcl_row_sources_any_shot(&e->sources, c, &e->pack, neighbors, LCL_SPLIT_TRAIN, 0,
                                        &p->any_shot);
    }
    return lcl_samplers_open(&p->samplers, c, &e->pack, neighbors, &p->sources, false);
}

lcl_status inspect_episodes(const struct lcl_config *config, const struct inspect_request *r)
{
    struct lcl_env env = {0};
    struct printer p = {
        .config = config, .r = r, .with_tokens = strcmp(config->data_images, "none") != 0};
    int64_t slots = 0, side = 0;
    lcl_status status;
    LCL_TRY_GOTO(check_ranks(config, r));
    LCL_TRY_GOTO(lcl_env_open_data(&env, config));
    LCL_TRY_GOTO(lcl_tokenizer_for_config(config, &env.tokenizer));
    p.pack = &env.pack;
    LCL_TRY_GOTO(shape_of_pictures(config, env.tokenizer, &slots, &side));
    LCL_TRY_GOTO(inspect_page_open(&p.page, r->sheet, config->output_dir, config, false));
    if (r->sheet) p.page.preprocess.size = (int)side;
    LCL_TRY_GOTO(lcl_batch_builder_for(config, env.tokenizer, slots, &p.builder));
    LCL_TRY_GOTO(open_draws(&p, &env));
    if (config->data_refresh_neighbors > 0)
        lcl_log_warn(
            "data.refresh_neighbors: after %lld steps training draws negatives from tables "
            "that it makes itself; these are drawn from the first one",
            (long long)config->data_refresh_neighbors);
    int64_t first = r->from_step * lcl_step_samples(config);
    for (int64_t i = 0; i < r->n; i++) LCL_TRY_GOTO(print_one(&p, first + i));
    LCL_TRY_GOTO(inspect_page_save(&p.page));
    if (fflush(stdout) != 0) status = LCL_FAIL(LCL_IO, "cannot write to standard output");
    if (p.n_coinciding > 0)
        lcl_log_info("%lld of %lld episodes (%.2f %%) ask for a picture of their support set",
                     (long long)p.n_coinciding, (long long)p.n_printed,
                     100.0 * (double)p.n_coinciding / (double)p.n_printed);
out:
    inspect_page_free(&p.page);
    lcl_samplers_close(&p.samplers);
    lcl_row_sources_close(&p.sources);
    lcl_mixture_close(&p.rows_drawn);
    lcl_any_shot_close(&p.any_shot);
    lcl_batch_builder_free(p.builder);
    lcl_env_close(&env);
    return status;
}
