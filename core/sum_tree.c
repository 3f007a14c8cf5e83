#include "core/sum_tree.h"

#include <assert.h>

static int64_t odd_part(int64_t n)
{
    while (n % 2 == 0) n /= 2;
    return n;
}

void lcl_sum_tree_push(struct lcl_sum_tree *t, int64_t first, int64_t count, int place)
{
    assert(t->n < LCL_SUM_TREE_DEPTH);
    t->node[t->n++] = (struct lcl_sum_node){first, count, place};
}

static bool are_siblings(int64_t lanes, const struct lcl_sum_node *a, const struct lcl_sum_node *b)
{
    const int64_t group = odd_part(lanes);
    if (a->first + a->count != b->first) return false;
    if (a->count < group) return a->first % group == 0 && b->count == 1;
    return a->count == b->count && a->first % (2 * a->count) == 0;
}

static bool merge(struct lcl_sum_tree *t, int *into, int *from)
{
    struct lcl_sum_node *a = &t->node[t->n - 2];
    *into = a->place;
    *from = t->node[t->n - 1].place;
    a->count += t->node[t->n - 1].count;
    t->n--;
    return true;
}

bool lcl_sum_tree_merges(struct lcl_sum_tree *t, int *into, int *from)
{
    if (t->n < 2 || !are_siblings(t->lanes, &t->node[t->n - 2], &t->node[t->n - 1])) return false;
    return merge(t, into, from);
}

bool lcl_sum_tree_collapses(struct lcl_sum_tree *t, int *into, int *from)
{
    return t->n >= 2 && merge(t, into, from);
}

int lcl_sum_tree_nodes(int64_t lanes, int64_t first, int64_t end,
                       struct lcl_sum_node node[LCL_SUM_TREE_DEPTH], int *most)
{
    struct lcl_sum_tree t = {.lanes = lanes};
    int into, from, deepest = 0;
    for (int64_t i = first; i < end; i++) {
        lcl_sum_tree_push(&t, i, 1, 0);
        deepest = t.n > deepest ? t.n : deepest;
        while (lcl_sum_tree_merges(&t, &into, &from)) {
        }
    }
    for (int i = 0; i < t.n; i++) node[i] = t.node[i];
    if (most) *most = deepest;
    return t.n;
}
