/* Support sets asked: one reading of a set's pictures serves all of its queries and shot counts. */
#ifndef LCL_TOOLS_EVAL_ASK_H
#define LCL_TOOLS_EVAL_ASK_H

#include "data/archived.h"
#include "tools/cli.h"
#include "tools/eval_record.h"
#include "tools/eval_tally.h"
#include "train/support.h"

enum { ASK_MAX_SHOTS = 64, ASK_MAX_SEEDS = 64, ASK_QUERIES = 64 };

/* What every suite of `lcl eval SUITE` takes. */
struct ask_options {
    const char *suite, *model, *shots, *seeds, *part, *candidates;
    const char *predictions, *results, *row, *classes, *confusion, *show;
    int64_t join;
    bool anew, no_greedy, no_likelihood;
    struct cli_list sets;
};
// clang-format off
#define ASK_OUTPUT_OPTIONS(o)                                                                      \
    {"--model", CLI_STR, &(o)->model, .value = "MODEL", .required = true,                          \
     .doc = "run folder, checkpoint, or HF LLaVA folder"},                                         \
    {"--predictions", CLI_STR, &(o)->predictions, .value = "FILE",                                 \
     .doc = "JSON lines of every answer in the data's order; with it an evaluation that was "      \
            "stopped goes on where it was"},                                                       \
    {"--anew", CLI_FLAG, &(o)->anew, .doc = "begin anew where one was stopped"},                   \
    {"--part", CLI_STR, &(o)->part, .value = "R/N",                                                \
     .doc = "ask part R of N alone (from 0), for --join"},                                         \
    {"--join", CLI_INT, &(o)->join, .low = 1, .high = 4096,                                        \
     .doc = "ask nothing: numbers and --predictions of N parts"},                                  \
    {"--results", CLI_STR, &(o)->results, .value = "FILE",                                         \
     .doc = "results.json to write, or to add rows to"},                                           \
    {"--row", CLI_STR, &(o)->row, .value = "NAME", .doc = "its row there (default: the suite)"},   \
    CLI_SET_OPTION(&(o)->sets)
#define ASK_SET_OPTIONS(o)                                                                         \
    {"--shots", CLI_STR, &(o)->shots, .value = "LIST", .doc = "support pictures in all"},          \
    {"--seeds", CLI_STR, &(o)->seeds, .value = "LIST",                                             \
     .doc = "seeds that all is asked with, one after another (default: eval.seed)"},               \
    {"--candidates", CLI_STR, &(o)->candidates, .value = "A,B,...",                                \
     .doc = "further answers whose likelihoods are compared, besides the question's labels"},      \
    {"--show", CLI_STR, &(o)->show, .value = "FILE",                                               \
     .doc = "JSON lines of the first questions with small pictures: DIR/episodes.jsonl is what "   \
            "lcl report DIR shows beside DIR/results.json"},                                       \
    {"--no-greedy", CLI_FLAG, &(o)->no_greedy, .doc = "likelihoods only"},                         \
    {"--no-likelihood", CLI_FLAG, &(o)->no_likelihood, .doc = "generated answers only"},           \
    {"--classes", CLI_STR, &(o)->classes, .value = "CSV", .doc = "accuracies of each class"},      \
    {"--confusion", CLI_STR, &(o)->confusion, .value = "CSV",                                      \
     .doc = "how often each class was called what"}
// clang-format on

struct ask_query {
    const char *image; /* path below the folder of pictures, as lines show it */
    const char *class_name;
    int target; /* which label is right */
};

/* A support set with queries. Strings belong to the suite and live until its next set. */
struct ask_set {
    const char *row;
    const char *images; /* folder that queries' paths begin in; NULL: they are whole */
    int64_t number;     /* sets of a row with one number have the same support pictures */
    int64_t order;      /* of the stream that shuffles the shots */
    int n_labels;       /* of the question; classes of the support may follow */
    struct lcl_support support;
    const char *class_names[LCL_MAX_WAYS]; /* of the labels; [0] NULL: the labels themselves */
    int64_t shown; /* classes that pictures are shown of, for the shots of each */
    int64_t n;
    struct ask_query *query; /* [n], at most ASK_QUERIES; owned */
};

/* A suite: its units in the data's order, for each seed. */
struct ask_suite {
    int64_t units;
    /* Fills a zeroed set; the caller frees it. */
    lcl_status (*make)(void *ctx, int64_t unit, uint64_t seed, struct ask_set *set);
    void *ctx;
    json_t *settings; /* what else numbers depend on; the suite's */
    bool by_labels;   /* intervals draw pairs of labels instead of classes */
    const struct lcl_archived_files *archived; /* pictures that lie in archives; may be NULL */
    int n_shots;
    int64_t shots[ASK_MAX_SHOTS];
};

/* "0,2,4" of at most `most` numbers in [0, limit]; name: the option. */
LCL_CHECKED lcl_status ask_parse_numbers(const char *text, const char *name, int64_t limit,
                                         int most, int64_t *v, int *n);
/* Parses --shots and leaves out those that are no multiple of `ways` pictures (an error) or show
 * over `fewest` of a class (a warning). */
LCL_CHECKED lcl_status ask_shots(struct ask_suite *s, const struct ask_options *o, int64_t ways,
                                 int64_t fewest);
/* Settings that every suite has, to which it adds its own. */
json_t *ask_settings(const struct ask_options *o);
/* Asks all units, or joins parts, prints the numbers and writes what the options say. c: the
 * config of o->model. */
struct lcl_config;
LCL_CHECKED lcl_status ask_run(const struct ask_options *o, const struct ask_suite *suite,
                               const struct lcl_config *c);

#endif
