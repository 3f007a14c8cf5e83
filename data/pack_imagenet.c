/* The source `imagenet`: ILSVRC2012 as it is downloaded, a tar archive of a tar archive a class, or
 * the validation pictures with a file that says whose each one is. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/fs.h"
#include "core/log.h"
#include "data/class_names.h"
#include "data/pack_source.h"
#include "data/tar.h"

enum { MAX_LABEL_BYTES = 64 << 20, MAX_VALIDATION = 1 << 20 };

struct imagenet {
    struct lcl_listing *l;
    struct lcl_class_names names;
    bool named; /* by a file; else classes are called by their numbers */
    const char *labels_path;
    char (*label)[LCL_CLASS_SYNSET_BYTES]; /* [n_labels] synset of validation picture i + 1; ""
                                              where none is told */
    int32_t n_labels;
    struct lcl_progress progress;
    int64_t members;
};

/* ---- whose a validation picture is ---- */

/* The synset that a label names, itself or by its number in the file of names. */
static lcl_status take_label(const struct imagenet *s, const char *text, int line, char *label)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (lcl_class_names_is_synset(text, 0)) {
        memcpy(label, text, 10);
        return LCL_OK;
    }
    if (end == text || *end || number < 0 || number >= s->names.n || !s->names.list[number].id[0])
        return LCL_FAIL_HINT(LCL_FORMAT,
                             "lines n01751748, \"NAME n01751748\" or \"NAME 65\", a class's place "
                             "in the file of names, from 0",
                             "%s:%d: %s is no class", s->labels_path, line, text);
    snprintf(label, LCL_CLASS_SYNSET_BYTES, "%s", s->names.list[number].id);
    return LCL_OK;
}

/* The number at the end of "ILSVRC2012_val_00000001" with any ending; 0 where there is none. */
static int32_t picture_number(const char *name)
{
    const char *dot = strchr(name, '.'), *end = dot ? dot : name + strlen(name), *p = end;
    int64_t n = 0;
    while (p > name && isdigit((unsigned char)p[-1]) && end - p < 9) p--;
    for (; p < end; p++) n = 10 * n + (*p - '0');
    return n <= MAX_VALIDATION ? (int32_t)n : 0;
}

static lcl_status take_label_line(struct imagenet *s, char *text, int line, int32_t *at)
{
    char *rest = NULL, *first = strtok_r(text, " ,\t\r", &rest);
    if (!first || (line == 1 && strcmp(first, "ImageId") == 0)) return LCL_OK;
    if (lcl_class_names_is_synset(first, 0)) {
        *at += 1;
    } else {
        *at = picture_number(first);
        first = strtok_r(NULL, " ,\t\r", &rest);
    }
    if (*at < 1 || *at > MAX_VALIDATION || !first)
        return LCL_FAIL(LCL_FORMAT, "%s:%d: no label of a picture of 1 to %d", s->labels_path, line,
                        MAX_VALIDATION);
    if (*at > s->n_labels) s->n_labels = *at;
    return take_label(s, first, line, s->label[*at - 1]);
}

static lcl_status read_labels(struct imagenet *s)
{
    char *text, *next;
    size_t size;
    int32_t at = 0;
    int line = 1;
    LCL_TRY(lcl_fs_read(s->labels_path, MAX_LABEL_BYTES, &text, &size));
    s->label = calloc(MAX_VALIDATION, sizeof *s->label);
    lcl_status status = s->label ? LCL_OK : LCL_FAIL(LCL_MEMORY, "no memory for labels");
    for (char *p = text; *p && status == LCL_OK; p = next, line++) {
        next = strchr(p, '\n');
        if (next) *next++ = 0;
        if (!next) next = p + strlen(p);
        status = take_label_line(s, p, line, &at);
    }
    free(text);
    return status;
}

/* ---- members ---- */

static lcl_status class_of(struct imagenet *s, const char *id, int32_t *c)
{
    const struct lcl_class_name *known = lcl_class_names_find(&s->names, id);
    if (!id[0]) return LCL_FAIL(LCL_FORMAT, "an archive of no class");
    if (!known && s->names.n)
        return LCL_FAIL(LCL_FORMAT, "class %s is not in the file of names", id);
    return lcl_listing_class(s->l, id, known ? known->name : id, c);
}

static lcl_status add_picture(struct imagenet *s, const struct lcl_tar *t,
                              const struct lcl_tar_member *m, const char *id)
{
    const struct lcl_source_file where = {.size_bytes = m->size_bytes,
                                          .mtime_ns = t->mtime_ns,
                                          .archive = s->l->n_archives - 1,
                                          .offset = m->offset};
    char name[LCL_CLASS_NAME_BYTES + LCL_TAR_NAME_BYTES + 1];
    int32_t c = 0;
    lcl_status status = class_of(s, id, &c);
    if (status != LCL_OK) return lcl_fail_context(status, "%s: member %s", t->label, m->name);
    snprintf(name, sizeof name, "%s/%s", id, lcl_fs_basename(m->name));
    return lcl_listing_add_member(s->l, name, c, &where);
}

/* The next member, counted where people see it. */
static lcl_status next_member(struct imagenet *s, struct lcl_tar *t, struct lcl_tar_member *m)
{
    LCL_TRY(lcl_tar_next(t, m));
    if (++s->members % 4096 == 0) lcl_progress_update(&s->progress, s->members, NULL);
    return LCL_OK;
}

static lcl_status add_class_archive(struct imagenet *s, const struct lcl_tar *outer,
                                    const struct lcl_tar_member *m)
{
    struct lcl_tar *t = malloc(sizeof *t);
    struct lcl_tar_member picture;
    char id[LCL_CLASS_NAME_BYTES];
    int32_t c;
    const char *stem = lcl_fs_basename(m->name);
    if (!t) return LCL_FAIL(LCL_MEMORY, "no memory for an archive");
    snprintf(id, sizeof id, "%.*s", (int)strcspn(stem, "."), stem);
    lcl_status status = lcl_tar_open_within(outer, m, t);
    if (status == LCL_OK) { /* a class without a picture is one too */
        status = class_of(s, id, &c);
        if (status != LCL_OK) status = lcl_fail_context(status, "%s", t->label);
    }
    while (status == LCL_OK) {
        status = next_member(s, t, &picture);
        if (status != LCL_OK || !picture.name) break;
        if (picture.regular && lcl_source_is_picture(picture.name))
            status = add_picture(s, t, &picture, id);
        else
            s->l->n_other++;
    }
    lcl_tar_close(t);
    free(t);
    return status;
}

/* A picture that lies in no class archive: its folder names the class, or the file of labels. */
static lcl_status add_loose(struct imagenet *s, const struct lcl_tar *t,
                            const struct lcl_tar_member *m)
{
    const char *file = lcl_fs_basename(m->name);
    char id[LCL_CLASS_SYNSET_BYTES] = "";
    if (file - m->name >= 10 && lcl_class_names_is_synset(file - 10, '/')) {
        memcpy(id, file - 10, 9);
    } else if (!s->labels_path) {
        return LCL_FAIL_HINT(LCL_CONFIG,
                             "--labels FILE: LOC_val_solution.csv, or lines \"NAME n01751748\"",
                             "%s: member %s at byte %lld is of no class, as validation pictures "
                             "are, and no file says whose it is",
                             t->label, m->name, (long long)m->header);
    } else {
        int32_t number = picture_number(file);
        if (number < 1 || number > s->n_labels || !s->label[number - 1][0])
            return LCL_FAIL(LCL_FORMAT, "%s: member %s at byte %lld has no label in %s", t->label,
                            m->name, (long long)m->header, s->labels_path);
        memcpy(id, s->label[number - 1], sizeof id);
    }
    return add_picture(s, t, m, id);
}

static lcl_status list_archive(struct imagenet *s, const char *path)
{
    struct lcl_tar *t = malloc(sizeof *t);
    struct lcl_tar_member m;
    if (!t) return LCL_FAIL(LCL_MEMORY, "no memory for an archive");
    lcl_status status = lcl_tar_open(path, t);
    if (status == LCL_OK) status = lcl_listing_add_archive(s->l, path);
    while (status == LCL_OK) {
        status = next_member(s, t, &m);
        if (status != LCL_OK || !m.name) break;
        const char *dot = strrchr(m.name, '.');
        if (m.regular && dot && strcasecmp(dot, ".tar") == 0)
            status = add_class_archive(s, t, &m);
        else if (m.regular && lcl_source_is_picture(m.name))
            status = add_loose(s, t, &m);
        else
            s->l->n_other += m.regular || m.other;
    }
    lcl_tar_close(t);
    free(t);
    return status;
}

lcl_status lcl_source_imagenet(const struct lcl_pack_options *o, struct lcl_listing *out)
{
    struct imagenet s = {.l = out, .labels_path = o->labels};
    lcl_status status = LCL_OK;
    bool folder = lcl_fs_is_dir(o->images);
    int upto = (int)(lcl_fs_basename(o->images) - o->images);
    char *path = folder ? lcl_strdupf("%s/ILSVRC2012_img_train.tar", o->images)
                        : lcl_strdupf("%s", o->images);
    char *beside = folder ? lcl_strdupf("%s", o->images)
                   : upto ? lcl_strdupf("%.*s", upto - 1, o->images)
                          : lcl_strdupf(".");
    if (!path || !beside) {
        status = LCL_FAIL(LCL_MEMORY, "no memory for a path");
        goto out;
    }
    LCL_TRY_GOTO(lcl_class_names_choose(o->class_names, beside, &s.names, &s.named));
    if (!s.named) {
        status = LCL_FAIL_HINT(LCL_NOT_FOUND,
                               "LOC_synset_mapping.txt, synset_words.txt or "
                               "imagenet_class_index.json there, or --class-names FILE; with "
                               "--class-names none classes are called n01440764",
                               "%s: no file beside it says what its classes are called", path);
        goto out;
    }
    if (s.labels_path) LCL_TRY_GOTO(read_labels(&s));
    lcl_progress_begin(&s.progress, "listing", "members", 0);
    status = list_archive(&s, path);
    lcl_progress_end(&s.progress, NULL);
out:
    lcl_class_names_free(&s.names);
    free(s.label);
    free(path);
    free(beside);
    return status;
}
