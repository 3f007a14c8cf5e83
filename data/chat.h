/* Chat templates: the roles and separators of public chat formats, as text and as Jinja. */
#ifndef LCL_DATA_CHAT_H
#define LCL_DATA_CHAT_H

#include "core/config.h"
#include "data/tokenizer.h"

enum lcl_role { LCL_ROLE_SYSTEM, LCL_ROLE_USER, LCL_ROLE_ASSISTANT };
struct lcl_message {
    enum lcl_role role;
    const char *text; /* "<image>" where a picture stands */
};

/* The format that `chat.template` names; of auto the one whose role tokens the tokenizer has, else
 * Vicuna's. */
enum lcl_chat lcl_chat_for(const struct lcl_config *c, const struct lcl_tokenizer *t);
/* The messages as a text that ends where the answer begins, malloc'd: without the token that begins
 * a sequence, which tokenizers add, and with <s>, </s> and <image> for what a tokenizer may spell
 * otherwise (lcl_batch_append_prompt does). A system message stands first or nowhere, users and
 * assistants take turns, and the last is a user's: LCL_CONFIG. */
LCL_CHECKED lcl_status lcl_chat_text(enum lcl_chat chat, const struct lcl_message *m, int n,
                                     char **text);
/* The same of a conversation that ends with an answer, as training reads it: answer k, up to what
 * ends it, lies at [cut[2 k], cut[2 k + 1]) of the text, and all before cut[2 k] is what
 * lcl_chat_text makes of the messages before it. *cut: malloc'd, of n_answers pairs. An assistant's
 * message alone is plain text, whatever the format. */
LCL_CHECKED lcl_status lcl_chat_answers(enum lcl_chat chat, const struct lcl_message *m, int n,
                                        char **text, size_t **cut, int *n_answers);
/* The token that ends a turn, where it may be another than the tokenizer's end token; or NULL. */
const char *lcl_chat_end(enum lcl_chat chat);
/* The same format for apply_chat_template of transformers, malloc'd: texts, or lists of parts of
 * type "text" and "image"; `image` is how the tokenizer spells a picture. */
LCL_CHECKED lcl_status lcl_chat_jinja(enum lcl_chat chat, const char *image, char **text);

#endif
