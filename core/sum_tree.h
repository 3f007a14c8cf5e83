/* The fixed tree in which the gradients of a step's lanes are summed, whoever holds them: lanes in
 * groups of the greatest odd number that divides how many there are, one after another within a
 * group; groups in pairs, pairs in pairs. So ranks that hold 1/2, 1/4, ... of the lanes each hold
 * one node of it, and others a few.
 *
 * A holder pushes its lanes, or nodes, in their order, and adds as lcl_sum_tree_merges() says. */
#ifndef LCL_CORE_SUM_TREE_H
#define LCL_CORE_SUM_TREE_H

#include <stdbool.h>
#include <stdint.h>

enum { LCL_SUM_TREE_DEPTH = 40 };

struct lcl_sum_node {
    int64_t first, count; /* lanes */
    int place;            /* the holder's: where their sum is */
};
struct lcl_sum_tree {
    int64_t lanes;
    struct lcl_sum_node node[LCL_SUM_TREE_DEPTH]; /* a stack: the sums that are not yet added up */
    int n;
};

void lcl_sum_tree_push(struct lcl_sum_tree *t, int64_t first, int64_t count, int place);
/* True where the last node is to be added to the one before it (*into += *from, by place); they are
 * one node then. Ask until it is false. */
bool lcl_sum_tree_merges(struct lcl_sum_tree *t, int *into, int *from);
/* The same of whatever is left, from the end, until one node is: of nodes that are no siblings. */
bool lcl_sum_tree_collapses(struct lcl_sum_tree *t, int *into, int *from);

/* The nodes that lanes [first, end) come to, and the most that are held on the way there. */
int lcl_sum_tree_nodes(int64_t lanes, int64_t first, int64_t end,
                       struct lcl_sum_node node[LCL_SUM_TREE_DEPTH], int *most);

/* Lanes of rank r: [lcl_lanes_begin(r), lcl_lanes_begin(r + 1)). */
static inline int64_t lcl_lanes_begin(int64_t lanes, int r, int n_ranks)
{
    return lanes * r / n_ranks;
}

#endif
