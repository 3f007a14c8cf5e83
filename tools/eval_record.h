/* What an evaluation has answered so far, in a file: a killed one goes on, and parts that several
 * processes asked are joined. Numbers come from these lines alone, so they are the same however
 * often it was stopped and on however many parts it ran.
 *
 *   {"evaluation": {settings}, "units": 12, "part": [0, 1]}
 *   lines of unit 0's answers ...
 *   {"unit": 0}
 */
#ifndef LCL_TOOLS_EVAL_RECORD_H
#define LCL_TOOLS_EVAL_RECORD_H

#include <jansson.h>
#include <stdio.h>

#include "core/comm.h"
#include "train/text.h"

/* Takes a line of a whole unit. */
typedef lcl_status (*record_fn)(void *ctx, const json_t *line);

struct record {
    const char *path; /* of the finished file; NULL: nothing is kept */
    json_t *settings; /* what it is an evaluation of; the record's own */
    int64_t units;    /* of all parts */
    int64_t part, parts;
    record_fn take;
    void *ctx;
    FILE *aside; /* the caller's; NULL: no unit has anything for it */
    /* The rest is the record's own. */
    int64_t next, end; /* units of this part that are still to be asked */
    char *partial;
    FILE *f;
};

/* "r/n" as part r of n, from 0; NULL: the whole. LCL_CONFIG. */
LCL_CHECKED lcl_status record_parse_part(const char *text, int64_t *part, int64_t *parts);
/* Of ranks that ask together the first one keeps the file: the others only learn where to go on.
 * Opens PATH.partial (of a part PATH.part-r-of-n), hands lines that are there to take, and leaves
 * `next` at the unit to go on with. LCL_CONFIG where it is another evaluation's; `anew` drops what
 * is there. */
LCL_CHECKED lcl_status record_open(struct record *r, struct lcl_comm *comm, bool anew);
/* The lines of a unit's answers, and what is written to record.aside beside them. */
typedef lcl_status (*record_ask_fn)(void *ctx, int64_t unit, struct lcl_text *lines,
                                    struct lcl_text *aside);
/* Asks for the units that are left, with progress in `of` (`scale` of them a unit). Ranks ask for
 * some units each at a time; the first one then keeps their lines in the order of units and hands
 * them on, a unit whole or not at all, so that file and numbers are those of one rank, and any
 * number of ranks goes on with a stopped one's. */
LCL_CHECKED lcl_status record_ask(struct record *r, struct lcl_comm *comm, record_ask_fn ask,
                                  void *ctx, const char *of, int64_t scale);
/* Hands the lines of all n parts on and writes PATH. LCL_CONFIG names a part that is not whole. */
LCL_CHECKED lcl_status record_join(struct record *r, int64_t n);
/* The last unit is in: PATH takes the place of the partial file; a part's stays. */
LCL_CHECKED lcl_status record_finish(struct record *r);
void record_close(struct record *r);

/* The lines of a partial file of `size` bytes: units in order, what follows the last whole one
 * passed over. *used: bytes up to there, 0 where not even the first line is whole; *next: the unit
 * to go on with. kept NULL, or receives the lines. LCL_FORMAT names file and line; LCL_CONFIG where
 * its settings are others. */
LCL_CHECKED lcl_status record_read(struct record *r, const char *name, const char *data,
                                   size_t size, size_t *used, struct lcl_text *kept);

#endif
