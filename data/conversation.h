/* Conversations as samples: messages with "<image>" where a picture stands, and answers that are
 * learned or not. */
#ifndef LCL_DATA_CONVERSATION_H
#define LCL_DATA_CONVERSATION_H

#include "data/chat.h"
#include "data/episode.h"

struct lcl_conversation {
    const char *name; /* where it comes from, for messages: "vqa.h5: row 12" */
    int n_messages;
    struct lcl_message *messages; /* a system message first or nowhere, then in turn; the last is an
                                     assistant's. An assistant's alone is plain text. */
    bool *learned;                /* [n_messages] of an answer: it is supervised */
    bool *recurs; /* [n_messages] of an answer: one before it says the same of the same thing, so
                     that it could be known, and label accuracy counts it; NULL: of none */
    int64_t n_images;
    int64_t *image; /* [n_images] in the order of the <image> marks; numbers as in lcl_shot */
    int32_t *view;  /* NULL: as they are */
};

/* How conversations are written, and what becomes of one that is longer than max_length tokens. */
struct lcl_conversation_rules {
    enum lcl_chat chat;
    enum lcl_too_long too_long;
    int64_t max_length; /* 0: none */
    const char *system; /* before a conversation that has no system message; "": nothing */
};
/* Those of a config: chat.template, chat.system, data.too_long, model_max_length. */
struct lcl_conversation_rules lcl_conversation_rules_of(const struct lcl_config *c,
                                                        const struct lcl_tokenizer *t);

enum lcl_appended {
    LCL_APPENDED,
    LCL_APPENDED_SHORTER, /* its last tokens that are no picture's were left out */
    LCL_LEFT_OUT          /* too long, or nothing that is learned was left: nothing is appended */
};
/* Appends a conversation as one run whose learned answers, with what ends them, are supervised,
 * each token with weight 1. Of an answer that recurs, the tokens in which it differs from the
 * conversation's other answers are LCL_TARGET_LABEL. LCL_CONFIG where marks and pictures differ in
 * number, messages are out of turn or none is learned; LCL_RANGE where it is too long and the rules
 * refuse it, or its pictures alone are. */
LCL_CHECKED lcl_status lcl_batch_append_conversation(struct lcl_batch_builder *b,
                                                     const struct lcl_conversation *c,
                                                     const struct lcl_conversation_rules *rules,
                                                     enum lcl_appended *what);
/* What lcl_batch_append_conversation writes, for people: the text, in which each learned stretch
 * stands between [[ and ]]. malloc'd. */
LCL_CHECKED lcl_status lcl_conversation_text(const struct lcl_conversation *c,
                                             const struct lcl_conversation_rules *rules,
                                             char **text);

#endif
