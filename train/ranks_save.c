#include "train/ranks_save.h"

#include <stdlib.h>
#include <string.h>

/* The table's rows and values, and moments of all elements. */
struct whole {
    struct lcl_params params;
    void *memory;
};

static void close_whole(struct whole *w)
{
    free(w->params.rows);
    free(w->memory);
    *w = (struct whole){0};
}

static lcl_status open_whole(struct whole *w, const struct lcl_params *t)
{
    *w = (struct whole){.params = *t};
    struct lcl_params *p = &w->params;
    p->rows = malloc((size_t)t->n_rows * sizeof *p->rows);
    if (!p->rows) return LCL_FAIL(LCL_MEMORY, "no memory for a table of %d rows", t->n_rows);
    memcpy(p->rows, t->rows, (size_t)t->n_rows * sizeof *p->rows);
    p->share_rank = p->share_ranks = 0;
    lcl_params_place(p);
    const size_t scales = p->n_scales * sizeof(float);
    unsigned char *at = w->memory = calloc(1, 2 * (p->state_bytes + scales) + 1);
    if (!at) {
        close_whole(w);
        return LCL_FAIL_HINT(LCL_MEMORY, "free memory on the first rank's host",
                             "no memory for the optimizer's states of all ranks");
    }
    p->m = at;
    p->v = at + p->state_bytes;
    p->m_scale_B = (float *)(void *)(at + 2 * p->state_bytes);
    p->v_scale_B = p->m_scale_B + p->n_scales;
    return LCL_OK;
}

struct gathering {
    struct whole *w;
    struct lcl_params *t;
    struct lcl_parcel *parcel;
    int n;
};

static void add(struct gathering *g, int peer, bool receive, void *data, size_t bytes)
{
    if (bytes) g->parcel[g->n++] = (struct lcl_parcel){peer, receive, data, bytes};
}

static size_t blocks_of(size_t n) { return (n + LCL_PARAM_ALIGN - 1) / LCL_PARAM_ALIGN; }

/* Elements [first, first + n) of a row's moment, between this rank and a peer, or within. */
static void pass_moment(struct gathering *g, const struct lcl_moment *own,
                        const struct lcl_moment *whole, int peer, size_t first, size_t n)
{
    const size_t bytes = lcl_dtype_bytes(whole->dtype), scales = whole->B ? blocks_of(n) : 0;
    char *to = (char *)whole->x + first * bytes;
    float *to_scale = whole->scale_B + first / LCL_PARAM_ALIGN;
    if (own) {
        memcpy(to, own->x, n * bytes);
        if (scales) memcpy(to_scale, own->scale_B, scales * sizeof(float));
        return;
    }
    add(g, peer, true, to, n * bytes);
    add(g, peer, true, to_scale, scales * sizeof(float));
}

static void pass_row(struct gathering *g, struct lcl_comm *c, int i)
{
    const struct lcl_param *p = &g->t->rows[i];
    uint16_t *low = lcl_param_low16(g->t, p);
    for (int r = 0; r < c->size; r++) {
        const size_t first = (size_t)lcl_comm_cut((int64_t)p->count, r, c->size);
        const size_t n = (size_t)lcl_comm_cut((int64_t)p->count, r + 1, c->size) - first;
        if (r != c->rank && c->rank != 0) continue;
        for (int second = 0; lcl_param_has_moments(p) && second < 2; second++) {
            struct lcl_moment own = lcl_param_moment(g->t, p, second == 1), whole;
            if (c->rank == 0) {
                whole = lcl_param_moment(&g->w->params, &g->w->params.rows[i], second == 1);
                pass_moment(g, r == 0 ? &own : NULL, &whole, r, first, n);
            } else {
                add(g, 0, false, own.x, n * lcl_dtype_bytes(own.dtype));
                add(g, 0, false, own.scale_B, (own.B ? blocks_of(n) : 0) * sizeof(float));
            }
        }
        if (low && r != 0) add(g, c->rank == 0 ? r : 0, c->rank == 0, low + first, n * sizeof *low);
    }
}

static lcl_status gather(struct lcl_comm *c, void *ctx)
{
    struct gathering *g = ctx;
    for (int i = 0; i < g->t->n_rows; i++) { /* a row at a time: few parcels at once */
        g->n = 0;
        if (lcl_param_moves(&g->t->rows[i]) || lcl_param_has_moments(&g->t->rows[i]))
            pass_row(g, c, i);
        LCL_TRY(lcl_comm_exchange(c, LCL_TRAFFIC_STATES, g->parcel, g->n));
    }
    return LCL_OK;
}

static lcl_status gather_whole(struct whole *w, struct lcl_params *t, struct lcl_comm *comm)
{
    struct gathering g = {.w = w, .t = t};
    struct lcl_comm_job job = {.run = gather, .ctx = &g, .what = "the optimizer's states"};
    g.parcel = calloc((size_t)comm->size * 5, sizeof *g.parcel);
    if (!g.parcel) return LCL_FAIL(LCL_MEMORY, "no memory for a list of parcels");
    lcl_comm_submit(comm, &job);
    lcl_status status = lcl_comm_wait(comm, &job);
    free(g.parcel);
    return status;
}

static void take_own(const struct whole *w, struct lcl_params *t)
{
    for (int i = 0; i < t->n_rows; i++) {
        const struct lcl_param *p = &t->rows[i];
        for (int second = 0; lcl_param_has_moments(p) && second < 2; second++) {
            struct lcl_moment own = lcl_param_moment(t, p, second == 1);
            struct lcl_moment whole = lcl_param_moment(&w->params, &w->params.rows[i], second == 1);
            const size_t bytes = lcl_dtype_bytes(own.dtype);
            memcpy(own.x, (char *)whole.x + p->own_first * bytes, p->own_count * bytes);
            if (own.B)
                memcpy(own.scale_B, whole.scale_B + p->own_first / LCL_PARAM_ALIGN,
                       (size_t)own.B * sizeof(float));
        }
    }
}

lcl_status lcl_ranks_save(struct lcl_comm *comm, const char *output_dir,
                          const struct lcl_run_state *s, struct lcl_model *model,
                          const struct lcl_checkpoint_options *o)
{
    struct lcl_params *t = &model->params;
    struct whole whole = {0};
    const bool shared = t->share_ranks > 1, writes = lcl_comm_rank(comm) == 0;
    lcl_status status = LCL_OK;
    if (shared && writes) status = open_whole(&whole, t);
    if (shared && status == LCL_OK) status = gather_whole(&whole, t, comm);
    if (writes && status == LCL_OK)
        status = lcl_checkpoint_save(output_dir, s, shared ? &whole.params : t, &model->config, o);
    close_whole(&whole);
    return status;
}

lcl_status lcl_ranks_load(const char *path, struct lcl_params *t, struct lcl_run_state_loaded *s)
{
    struct whole whole;
    if (t->share_ranks < 2) return lcl_checkpoint_load(path, t, true, s);
    LCL_TRY(open_whole(&whole, t));
    lcl_status status = lcl_checkpoint_load(path, &whole.params, true, s);
    if (status == LCL_OK) take_own(&whole, t);
    close_whole(&whole);
    return status;
}
