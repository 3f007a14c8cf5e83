#include "train/share.h"

#include <stdlib.h>
#include <string.h>

#include "train/stop.h"

/* Bytes that are gathered at once, but at least a piece of each rank. */
enum { GATHER_BYTES = 16 << 20 };

struct pieces {
    unsigned char *data;
    size_t bytes;
    int64_t each, n;
};

static size_t piece_bytes(const struct pieces *p, int64_t i)
{
    int64_t left = p->n - i * p->each;
    return left <= 0 ? 0 : (size_t)(left < p->each ? left : p->each) * p->bytes;
}

/* The pieces from `begin` up to `end` of one rank lie one after another in *buffer. */
static void move_pieces(const struct pieces *p, int64_t begin, int64_t end, int rank, int size,
                        unsigned char **buffer, bool out)
{
    for (int64_t i = begin + rank; i < end; i += size) {
        unsigned char *piece = p->data + (size_t)(i * p->each) * p->bytes;
        size_t bytes = piece_bytes(p, i);
        memcpy(out ? *buffer : piece, out ? piece : *buffer, bytes);
        *buffer += bytes;
    }
}

/* begin is rank 0's. */
static lcl_status gather_some(struct lcl_comm *c, const char *what, const struct pieces *p,
                              int64_t begin, int64_t end, unsigned char *mine, unsigned char *all)
{
    size_t bytes_R[LCL_COMM_MOST] = {0};
    unsigned char *to = mine;
    for (int64_t i = begin; i < end; i++) bytes_R[i % c->size] += piece_bytes(p, i);
    move_pieces(p, begin, end, c->rank, c->size, &to, true);
    LCL_TRY(lcl_comm_all_gather_v(c, what, mine, bytes_R, all));
    for (int r = 0; r < c->size; r++) move_pieces(p, begin, end, r, c->size, &all, false);
    return LCL_OK;
}

lcl_status lcl_share_gather(struct lcl_comm *c, const char *what, void *data, size_t bytes,
                            int64_t each, int64_t n)
{
    if (lcl_comm_size(c) == 1 || n == 0) return LCL_OK;
    const struct pieces p = {data, bytes, each, n};
    const size_t round_bytes = (size_t)c->size * (size_t)each * bytes;
    const int64_t count = (n + each - 1) / each, rounds = (count + c->size - 1) / c->size;
    int64_t most = (int64_t)(GATHER_BYTES / round_bytes);
    most = most < 1 ? 1 : most > rounds ? rounds : most;
    unsigned char *all = malloc((size_t)most * round_bytes);
    unsigned char *mine = malloc((size_t)most * (size_t)each * bytes);
    lcl_status status =
        all && mine ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory to gather %s of ranks", what);
    for (int64_t at = 0; at < count && status == LCL_OK; at += most * c->size) {
        int64_t end = at + most * c->size;
        status = gather_some(c, what, &p, at, end < count ? end : count, mine, all);
    }
    free(all);
    free(mine);
    return status;
}

lcl_status lcl_share_agree(struct lcl_comm *c, lcl_status mine)
{
    int32_t asked = mine == LCL_INTERRUPTED ? (int32_t)lcl_stop_asked : 0, all[LCL_COMM_MOST];
    if (lcl_comm_size(c) == 1 || (mine != LCL_OK && mine != LCL_INTERRUPTED)) return mine;
    LCL_TRY(lcl_comm_all_gather(c, "signals", &asked, sizeof asked, all));
    for (int r = 0; r < c->size; r++)
        if (all[r]) lcl_stop_signal = all[r];
    if (!lcl_stop_signal) return LCL_OK;
    return LCL_FAIL(LCL_INTERRUPTED, "stopped by signal %d", (int)lcl_stop_signal);
}
