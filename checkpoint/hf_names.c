#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/hf.h"

/* Moves *s over `prefix` where it begins with it. */
static bool skip_prefix(const char **s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(*s, prefix, n) != 0) return false;
    *s += n;
    return true;
}

static bool begins_with_one_of(const char *s, const char *const *prefixes)
{
    for (; *prefixes; prefixes++)
        if (strncmp(s, *prefixes, strlen(*prefixes)) == 0) return true;
    return false;
}

lcl_status lcl_hf_table_name(const char *on_disk, char name[LCL_PARAM_NAME_BYTES])
{
    static const char *const parts[] = {"language_model.", "vision_tower.",
                                        "multi_modal_projector.", "mm_projector.", NULL};
    static const char *const decoder[] = {"embed_tokens.", "layers.", "norm.", NULL};
    static const char *const clip[] = {"embeddings.", "encoder.", "pre_layrnorm.",
                                       "post_layernorm.", NULL};
    const char *s = on_disk, *prefix = "";
    if (strncmp(s, "model.", 6) == 0 && begins_with_one_of(s + 6, parts)) s += 6;
    if (strncmp(s, "model.", 6) == 0 && begins_with_one_of(s + 6, decoder)) {
        prefix = "language_model.";
    } else if (skip_prefix(&s, "vision_model.") || begins_with_one_of(s, clip)) {
        prefix = "vision_tower.";
    } else if (strncmp(s, "lm_head.", 8) == 0) {
        prefix = "language_model.";
    } else if (skip_prefix(&s, "language_model.")) {
        prefix = begins_with_one_of(s, decoder) ? "language_model.model." : "language_model.";
    } else if (skip_prefix(&s, "vision_tower.")) {
        while (skip_prefix(&s, "vision_tower.") || skip_prefix(&s, "vision_model.")) {
        }
        prefix = "vision_tower.";
    } else if (skip_prefix(&s, "multi_modal_projector.") || skip_prefix(&s, "mm_projector.")) {
        prefix = "multi_modal_projector.";
        if (skip_prefix(&s, "0.") || strcmp(s, "weight") == 0 || strcmp(s, "bias") == 0)
            prefix = "multi_modal_projector.linear_1.";
        else if (skip_prefix(&s, "2."))
            prefix = "multi_modal_projector.linear_2.";
    }
    int n = snprintf(name, LCL_PARAM_NAME_BYTES, "%s%s", prefix, s);
    if (n >= LCL_PARAM_NAME_BYTES)
        return LCL_FAIL(LCL_RANGE, "the tensor name \"%.200s\" has %zu bytes, at most %d are read",
                        on_disk, strlen(on_disk), LCL_PARAM_NAME_BYTES - 1);
    return LCL_OK;
}

const struct lcl_st_tensor *lcl_hf_find(const struct lcl_safetensors *st, const char *name)
{
    char mapped[LCL_PARAM_NAME_BYTES];
    for (size_t i = 0; i < st->n_tensors; i++)
        if (lcl_hf_table_name(st->tensors[i].name, mapped) == LCL_OK && strcmp(mapped, name) == 0)
            return &st->tensors[i];
    return NULL;
}

void lcl_hf_names_free(struct lcl_hf_names *names)
{
    free(names->name);
    *names = (struct lcl_hf_names){0};
}
