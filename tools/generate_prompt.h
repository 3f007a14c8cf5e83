/* lcl generate --prompt: questions of one's own about pictures. */
#ifndef LCL_TOOLS_GENERATE_PROMPT_H
#define LCL_TOOLS_GENERATE_PROMPT_H

#include "tools/speak.h"

enum { LONGEST_FREE_ANSWER = 256 }; /* tokens, where nothing else is asked for */

struct prompt_request {
    const char *model;
    struct cli_list prompts, images, sets;
    struct speak_options speak;
    bool json;
};
LCL_CHECKED lcl_status generate_prompts(const struct prompt_request *r);

/* Times that a text says <image>. */
int count_images(const char *text);

#endif
