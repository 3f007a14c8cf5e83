/* What any-shot conversations are about: data.tasks, and the texts and attributes of
 * data.task_file. */
#ifndef LCL_DATA_ANY_SHOT_TASKS_H
#define LCL_DATA_ANY_SHOT_TASKS_H

#include "core/config.h"

/* Words of data.tasks, in the order of eval.task. */
enum lcl_turn_task {
    LCL_TURN_CLASSES,    /* a few classes of the split, any */
    LCL_TURN_FINE,       /* a class and classes that resemble it */
    LCL_TURN_ATTRIBUTES, /* values of an attribute */
    LCL_TURN_ROWS,       /* rows of one instruction: captions, VQA */
    LCL_TURN_TASKS
};
/* Words of data.formats, in the order of eval.format. */
enum lcl_answer_format {
    LCL_ANSWER_PLAIN,
    LCL_ANSWER_UPPER,
    LCL_ANSWER_PREFIX,
    LCL_ANSWER_SUFFIX,
    LCL_ANSWER_REVERSED,
    LCL_ANSWER_FORMATS
};
extern const char *const lcl_turn_task_names[LCL_TURN_TASKS];
extern const char *const lcl_answer_format_names[LCL_ANSWER_FORMATS];

/* How turns are worded: questions hold <image> once, the answer {answer} once. */
struct lcl_any_text {
    int n_questions;
    const char **question; /* a conversation draws one */
    const char *answer;
};
/* Pictures whose name below the picture folder fits a pattern (fnmatch(3); * crosses folders) have
 * the value of the first that fits. */
struct lcl_any_attribute {
    const char *name;
    struct lcl_any_text text;
    int n_patterns;
    const char **pattern, **value; /* [n_patterns] */
};
struct lcl_any_tasks {
    struct lcl_any_text classes, fine;
    int n_attributes;
    struct lcl_any_attribute *attribute;
    void *owner; /* of the texts; NULL: our own */
};

/* A file of data.task_file (docs/formats.md). LCL_FORMAT and LCL_RANGE name file, key and what was
 * wanted. "" is our own questions and no attributes. */
LCL_CHECKED lcl_status lcl_any_tasks_load(const char *path, struct lcl_any_tasks *t);
/* The same from a text of size bytes; name: what errors call it. */
LCL_CHECKED lcl_status lcl_any_tasks_parse(const char *name, const char *text, size_t size,
                                           struct lcl_any_tasks *t);
void lcl_any_tasks_free(struct lcl_any_tasks *t);

/* data.tasks to weights, 0 where a task is not named; data.formats. LCL_CONFIG names the entry. */
LCL_CHECKED lcl_status lcl_any_tasks_weights(const struct lcl_config *c,
                                             double weight[LCL_TURN_TASKS]);
LCL_CHECKED lcl_status lcl_any_tasks_formats(const struct lcl_config *c,
                                             bool format[LCL_ANSWER_FORMATS]);
/* An answer in a format, malloc'd; NULL when memory ran out. word: of prefix and suffix. */
char *lcl_answer_formatted(enum lcl_answer_format format, const char *word, const char *text);

#endif
