/* What the files of lcl chat share. */
#ifndef LCL_TOOLS_CHAT_H
#define LCL_TOOLS_CHAT_H

#include "tools/generate_prompt.h"

/* Free questions and their answers, and the pictures that they show. */
struct conversation {
    int n, n_images, n_waiting;
    struct lcl_message *turns;   /* [n], their texts owned; users and assistants in turns */
    int64_t *images;             /* [n_images] numbers in the gallery, in the order of the turns */
    char *waiting[CLI_LIST_MAX]; /* files for the next question, owned */
};

struct chat {
    struct lcl_env env;
    struct lcl_config config;
    struct lcl_gallery gallery;
    struct lcl_answerer answerer;
    struct lcl_support support;
    struct lcl_answer_how how;
    struct conversation talk;
    bool done;
};

/* LCL_NOT_FOUND, LCL_CONFIG for a folder. */
LCL_CHECKED lcl_status chat_check_file(const char *path);
/* Shows a picture before the next free question. */
LCL_CHECKED lcl_status chat_show(struct chat *c, const char *path);
/* Asks a free question, in which names of pictures stand for them; the answer is printed as it
 * comes. What was taught stands before the conversation. */
LCL_CHECKED lcl_status chat_ask_freely(struct chat *c, const char *question);
/* Forgets the conversation. */
void chat_begin_anew(struct chat *c);

#endif
