/* The texts of episodes: template files, Python sources that they are imported from, task files. */
#include "tests/fuzz/fuzz.h"

#include <fnmatch.h>

#include "data/any_shot_tasks.h"
#include "data/episode.h"
#include "data/python_strings.h"

static lcl_status read_template(const char *path, const struct fuzz_file *f)
{
    struct lcl_template t;
    (void)f;
    LCL_TRY(lcl_template_load(path, &t));
    lcl_template_free(&t);
    return LCL_OK;
}

static size_t template_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text(
        "{\"format\": \"lcl-template-1\", \"system\": \"s\", \"first\": \" \", \"next\": \"\", "
        "\"support\": \"<image> is a {label}</s>\", \"shot_answer\": \" a {label}</s>\", "
        "\"query\": \"so {question}:\", \"question\": \"<image>?\", \"answer\": \" a "
        "{label}</s>\", \"questions\": [\"what is <image>?\", \"<image>\"]}");
    return 1;
}

static lcl_status count_literal(void *ctx, const char *literal, int line)
{
    size_t *bytes = ctx;
    *bytes += strlen(literal) + (line > 0);
    return LCL_OK;
}

/* Any source can be read: one counts as refused whose texts are not the seed's. */
static lcl_status read_python(const char *path, const struct fuzz_file *f)
{
    enum { SEED_BYTES = 21 };
    size_t bytes = 0;
    LCL_TRY(lcl_python_strings((const char *)f->bytes, f->size, count_literal, &bytes));
    assert_true(bytes <= 2 * f->size);
    return bytes == SEED_BYTES ? LCL_OK : LCL_FAIL(LCL_FORMAT, "%s: other texts", path);
}

static size_t python_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text("a = ('x' \"y\\x41\"  # c\n  f'{{b}} {c}')\n'''d\n'e' '''\nr'\\n'\n");
    return 1;
}

static const char *const template_words[] = {
    "\"questions\"",  "\"support\"", "{label}", "{question}", "<image>",
    "lcl-template-1", "{",           "}",       NULL};
static const char *const python_words[] = {"'''",   "\"\"\"", "f'",    "rb'",   "\\x41", "\\u0041",
                                           "\\N{a", "{{",     "\\\n'", "\\777", "# ",    NULL};

const struct fuzz_target fuzz_template = {.name = "template",
                                          .file = "template.json",
                                          .seeds = template_seeds,
                                          .read = read_template,
                                          .words = template_words};
const struct fuzz_target fuzz_python = {.name = "python",
                                        .file = "code.py",
                                        .seeds = python_seeds,
                                        .read = read_python,
                                        .words = python_words};

/* Task files of any-shot conversations. */
static lcl_status read_tasks(const char *path, const struct fuzz_file *f)
{
    struct lcl_any_tasks t;
    (void)f;
    LCL_TRY(lcl_any_tasks_load(path, &t));
    assert_true(t.classes.n_questions > 0 && strstr(t.fine.answer, "{answer}"));
    for (int i = 0; i < t.n_attributes; i++)
        for (int k = 0; k < t.attribute[i].n_patterns; k++)
            assert_true(fnmatch(t.attribute[i].pattern[k], "elves/archer-attack-1.png", 0) >= 0);
    lcl_any_tasks_free(&t);
    return LCL_OK;
}

static size_t tasks_seeds(struct fuzz_file *seeds)
{
    seeds[0] = fuzz_text(
        "{\"format\": \"lcl-tasks-1\", \"classes\": {\"questions\": [\"what? <image>\", "
        "\"<image>\"], \"answer\": \"a {answer}.\"}, \"fine\": {}, \"attributes\": {\"people\": "
        "{\"questions\": [\"<image> who?\"], \"values\": {\"elves/*\": \"elf\", \"[a-c]*-?\": "
        "\"other\"}}}}");
    return 1;
}

static const char *const tasks_words[] = {"\"questions\"", "\"values\"",  "{answer}", "*", "[!a-",
                                          "<image>",       "lcl-tasks-1", "{",        "}", NULL};

const struct fuzz_target fuzz_tasks = {.name = "tasks",
                                       .file = "tasks.json",
                                       .seeds = tasks_seeds,
                                       .read = read_tasks,
                                       .words = tasks_words};
