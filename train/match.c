#include "train/match.h"

#include <stdlib.h>
#include <string.h>

bool lcl_first_quoted(const char *text, char *out)
{
    const char *begin = strchr(text, '"');
    const char *end = begin ? strchr(begin + 1, '"') : NULL;
    out[0] = '\0';
    if (!end || end - begin - 1 >= LCL_LABEL_BYTES) return false;
    memcpy(out, begin + 1, (size_t)(end - begin - 1));
    out[end - begin - 1] = '\0';
    return true;
}

bool lcl_strict_match(const char *prediction, const char *target)
{
    char said[LCL_LABEL_BYTES];
    return lcl_first_quoted(prediction, said) && strcmp(said, target) == 0;
}

/* All occurrences, from the left; `what` is not empty. */
static void delete_all(char *text, const char *what)
{
    size_t n = strlen(what);
    for (char *at = text; (at = strstr(at, what));) memmove(at, at + n, strlen(at + n) + 1);
}

/* What the official code looks for, in place of the text itself. */
static void clean_target(char *text)
{
    static const char *const words[] = {
        "The answer is", "there is", "in the image", "\"", "'", "."};
    for (char *mark; (mark = strstr(text, "ASSISTANT:"));)
        memmove(text, mark + 10, strlen(mark + 10) + 1);
    char *end = strstr(text, "</s>");
    if (end) *end = '\0';
    for (int i = 0; i < 6; i++) delete_all(text, words[i]);
    size_t n = strlen(text), begin = 0;
    for (int k = 1; k > 0; begin += (size_t)k) k = lcl_space_bytes(text + begin, n - begin, true);
    n = lcl_before_space(text, begin, n, true);
    memmove(text, text + begin, n - begin);
    text[n - begin] = '\0';
    lcl_lower_case(text);
}

lcl_status lcl_official_match(const char *prediction, const char *target, const char *other,
                              bool *right)
{
    char *wanted = strdup(target), *unwanted = strdup(other), *rest = strdup(prediction);
    lcl_status status = LCL_OK;
    *right = false;
    if (!wanted || !unwanted || !rest) {
        status = LCL_FAIL(LCL_MEMORY, "no memory to compare an answer");
        goto out;
    }
    clean_target(wanted);
    lcl_lower_case(unwanted);
    if (!strstr(rest, wanted)) goto out;
    if (*wanted) delete_all(rest, wanted);
    *right = !strstr(rest, unwanted);
out:
    free(wanted);
    free(unwanted);
    free(rest);
    return status;
}

lcl_status lcl_judge(const char *prediction, const char (*label)[LCL_LABEL_BYTES], int n,
                     int target, struct lcl_judgement *out)
{
    char said[LCL_LABEL_BYTES];
    *out = (struct lcl_judgement){.unparsed = !lcl_first_quoted(prediction, said),
                                  .strict = lcl_strict_match(prediction, label[target]),
                                  .official = true};
    for (int i = 0; i < n && out->official; i++)
        if (i != target)
            LCL_TRY(lcl_official_match(prediction, label[target], label[i], &out->official));
    return LCL_OK;
}
