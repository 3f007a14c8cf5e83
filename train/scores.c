#include "train/scores.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- VQA ---- */

static bool is_mark(char c) { return strchr(";/[]\"{}()=+\\_-><@`,?!", c) && c; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* "1,000": marks then all vanish rather than part words. */
static bool has_grouped_number(const char *s)
{
    for (const char *c = strchr(s, ','); c; c = strchr(c + 1, ','))
        if (c > s && is_digit(c[-1]) && is_digit(c[1])) return true;
    return false;
}

static bool stands_by_blank(const char *s, char mark)
{
    for (const char *c = strchr(s, mark); c; c = strchr(c + 1, mark))
        if ((c > s && c[-1] == ' ') || c[1] == ' ') return true;
    return false;
}

/* Marks become nothing (anywhere in the text where one of the kind stands beside a blank) or
 * blanks; full stops go unless a digit follows. In place, never longer. */
static void drop_marks(char *s)
{
    bool vanish[256] = {false};
    const bool grouped = has_grouped_number(s);
    for (const char *c = s; *c; c++)
        if (is_mark(*c)) vanish[(unsigned char)*c] = grouped || stands_by_blank(s, *c);
    char *to = s;
    for (const char *c = s; *c; c++) {
        if (is_mark(*c)) {
            if (!vanish[(unsigned char)*c]) *to++ = ' ';
        } else {
            *to++ = *c;
        }
    }
    *to = '\0';
    to = s;
    for (const char *c = s; *c; c++)
        if (*c != '.' || is_digit(c[1])) *to++ = *c;
    *to = '\0';
}

static const char *const numbers[] = {"zero", "one",   "two",   "three", "four", "five",
                                      "six",  "seven", "eight", "nine",  "ten"};
/* Contractions that people write without their apostrophe; what comes after it is behind '|'. */
static const char *const contractions[] = {
    "ain|t",   "aren|t",   "can|t",   "couldn|t", "could|ve",  "didn|t",    "doesn|t",   "don|t",
    "hadn|t",  "hasn|t",   "haven|t", "he|s",     "how|d",     "how|s",     "isn|t",     "it|d",
    "let|s",   "mightn|t", "mustn|t", "needn|t",  "she|s",     "shouldn|t", "should|ve", "that|s",
    "there|s", "they|d",   "they|ll", "they|re",  "they|ve",   "wasn|t",    "weren|t",   "what|s",
    "when|s",  "where|s",  "who|s",   "why|s",    "won|t",     "wouldn|t",  "would|ve",  "you|d",
    "you|ll",  "you|re",   "you|ve",  "y|all",    "someone|s", "somebody|s"};

static bool is_contraction(const char *word, const char *parts)
{
    const char *cut = strchr(parts, '|');
    size_t head = (size_t)(cut - parts);
    return strlen(word) == strlen(parts) - 1 && strncmp(word, parts, head) == 0 &&
           strcmp(word + head, cut + 1) == 0;
}

/* The word as it is compared, behind `to`; its length. */
static size_t put_word(const char *word, char *to)
{
    if (!strcmp(word, "a") || !strcmp(word, "an") || !strcmp(word, "the")) return 0;
    if (!strcmp(word, "none")) word = "0";
    static const char *const digits[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(word, numbers[i])) word = digits[i];
    for (size_t i = 0; i < sizeof contractions / sizeof *contractions; i++)
        if (is_contraction(word, contractions[i])) {
            size_t head = (size_t)(strchr(contractions[i], '|') - contractions[i]);
            memcpy(to, word, head);
            to[head] = '\'';
            strcpy(to + head + 1, word + head);
            return strlen(to);
        }
    strcpy(to, word);
    return strlen(to);
}

/* A copy with newlines and tabs as blanks, trimmed; `plain` also without marks, articles and case.
 * NULL when memory ran out. */
static char *normal(const char *text, bool plain)
{
    size_t n = strlen(text);
    char *s = malloc(n + 1), *out = malloc(2 * n + 2), *save = NULL, *to = out;
    if (!s || !out) {
        free(s);
        free(out);
        return NULL;
    }
    for (size_t i = 0; i <= n; i++) s[i] = text[i] == '\n' || text[i] == '\t' ? ' ' : text[i];
    char *begin = s + strspn(s, " ");
    for (n = strlen(begin); n > 0 && begin[n - 1] == ' '; n--) begin[n - 1] = '\0';
    if (plain) {
        drop_marks(begin);
        for (char *c = begin; *c; c++) *c = (char)tolower((unsigned char)*c);
        *to = '\0';
        for (char *w = strtok_r(begin, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
            char *at = to > out ? to + 1 : to;
            size_t length = put_word(w, at);
            if (length == 0) continue;
            if (at > to) *to = ' ';
            to = at + length;
        }
        *to = '\0';
    } else {
        strcpy(out, begin);
    }
    free(s);
    return out;
}

lcl_status lcl_score_vqa(const char *prediction, const char *const *answers, int64_t n,
                         double *score)
{
    if (n < 1) return LCL_FAIL(LCL_RANGE, "a question without an answer to compare with");
    bool differ = false;
    for (int64_t i = 1; i < n; i++) differ = differ || strcmp(answers[0], answers[i]) != 0;
    int64_t agree = 0;
    char *said = normal(prediction, differ);
    for (int64_t i = 0; i < n && said; i++) {
        char *answer = normal(answers[i], differ);
        if (!answer) {
            free(said);
            said = NULL;
            break;
        }
        agree += strcmp(said, answer) == 0;
        free(answer);
    }
    if (!said) return LCL_FAIL(LCL_MEMORY, "no memory to score an answer");
    free(said);
    if (n == 1) {
        *score = agree > 0;
        return LCL_OK;
    }
    /* Left out is one that agrees, or one that does not. */
    const double a = (double)agree, all = (double)n;
    *score = (a * fmin((a - 1) / 3, 1) + (all - a) * fmin(a / 3, 1)) / all;
    return LCL_OK;
}

/* ---- boxes ---- */

/* One "x1,y1,x2,y2" at *at; moves behind its numbers. */
static bool read_box(const char **at, struct lcl_box *b)
{
    double v[4];
    int n = 0;
    const char *c = *at;
    for (; n < 4; n++) {
        char *end;
        v[n] = strtod(c, &end);
        if (end == c || !isfinite(v[n])) break;
        c = end + strspn(end, " ");
        if (n < 3) {
            if (*c != ',') {
                n++;
                break;
            }
            c++;
        }
    }
    *at = c;
    if (n < 4 || (*c != ']' && *c != ';') || v[2] < v[0] || v[3] < v[1]) return false;
    *b = (struct lcl_box){v[0], v[1], v[2], v[3]};
    return true;
}

int64_t lcl_boxes_of(const char *text, struct lcl_box *boxes, int64_t max)
{
    int64_t n = 0;
    for (const char *c = text; (c = strpbrk(c, "[;")) != NULL;) {
        struct lcl_box b;
        c++;
        const char *at = c;
        if (!read_box(&at, &b)) continue;
        if (n < max) boxes[n] = b;
        n++;
        c = at;
    }
    return n;
}

static double area(const struct lcl_box *b) { return (b->x2 - b->x1) * (b->y2 - b->y1); }

double lcl_box_iou(const struct lcl_box *a, const struct lcl_box *b)
{
    const double w = fmin(a->x2, b->x2) - fmax(a->x1, b->x1);
    const double h = fmin(a->y2, b->y2) - fmax(a->y1, b->y1);
    const double both = w > 0 && h > 0 ? w * h : 0, either = area(a) + area(b) - both;
    return either > 0 ? both / either : 0;
}
