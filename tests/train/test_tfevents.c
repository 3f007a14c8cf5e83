/* TensorBoard event files, read back by a decoder that shares no code with the writer. */
#include "tests/support/support.h"

#include <math.h>

#include "core/fs.h"
#include "train/metrics.h"
#include "train/tfevents.h"

/* CRC-32C bit by bit (Castagnoli polynomial, reflected), then TFRecord's mask. */
static uint32_t masked_crc(const unsigned char *p, size_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    }
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

static uint64_t little_endian(const unsigned char *p, int n)
{
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

struct bytes {
    const unsigned char *p, *end;
};

static uint64_t varint(struct bytes *b)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        assert_true(b->p < b->end);
        unsigned char c = *b->p++;
        v |= (uint64_t)(c & 0x7F) << shift;
        if (c < 0x80) return v;
    }
    fail_msg("a varint of more than 10 bytes");
    return 0;
}

/* The next field: its number, and either its scalar bits or its bytes. */
static int next_field(struct bytes *b, uint64_t *scalar, struct bytes *inner)
{
    uint64_t key = varint(b);
    *scalar = 0;
    *inner = (struct bytes){b->p, b->p};
    switch (key & 7) {
    case 0:
        *scalar = varint(b);
        break;
    case 1:
    case 5: {
        int n = (key & 7) == 1 ? 8 : 4;
        assert_true(b->end - b->p >= n);
        *scalar = little_endian(b->p, n);
        b->p += n;
        break;
    }
    case 2: {
        uint64_t n = varint(b);
        assert_true((uint64_t)(b->end - b->p) >= n);
        *inner = (struct bytes){b->p, b->p + n};
        b->p += n;
        break;
    }
    default:
        fail_msg("wire type %d", (int)(key & 7));
    }
    return (int)(key >> 3);
}

struct scalar {
    char tag[64];
    int64_t step;
    float value;
};

struct decoded {
    int records;
    char version[32];
    int64_t session_start; /* its step; -1 without */
    double wall_time;      /* of the last record */
    int n;
    struct scalar scalars[64];
};

static void copy_text(char *out, size_t size, struct bytes b)
{
    snprintf(out, size, "%.*s", (int)(b.end - b.p), (const char *)b.p);
}

static void decode_summary(struct bytes summary, struct decoded *d)
{
    uint64_t scalar;
    struct bytes value, inner;
    while (summary.p < summary.end) {
        assert_int_equal(next_field(&summary, &scalar, &value), 1);
        struct scalar *s = &d->scalars[d->n++];
        while (value.p < value.end) {
            int field = next_field(&value, &scalar, &inner);
            if (field == 1) copy_text(s->tag, sizeof s->tag, inner);
            if (field == 2) {
                uint32_t bits = (uint32_t)scalar;
                memcpy(&s->value, &bits, sizeof bits);
            }
        }
        s->step = -1;
    }
}

static void decode_event(struct bytes event, struct decoded *d)
{
    int64_t step = 0;
    int before = d->n;
    bool session = false;
    while (event.p < event.end) {
        uint64_t scalar;
        struct bytes inner;
        int field = next_field(&event, &scalar, &inner);
        if (field == 1) memcpy(&d->wall_time, &scalar, sizeof scalar);
        if (field == 2) step = (int64_t)scalar;
        if (field == 3) copy_text(d->version, sizeof d->version, inner);
        if (field == 5) decode_summary(inner, d);
        if (field == 7) session = inner.p[0] == 8 && inner.p[1] == 1; /* status = START */
    }
    if (session) d->session_start = step;
    for (int i = before; i < d->n; i++) d->scalars[i].step = step;
}

static struct decoded decode_file(const char *path)
{
    struct decoded d = {.session_start = -1};
    char *data;
    size_t size;
    ASSERT_OK(lcl_fs_read(path, 1 << 20, &data, &size));
    for (size_t at = 0; at < size; d.records++) {
        const unsigned char *p = (const unsigned char *)data + at;
        assert_true(size - at >= 16);
        uint64_t n = little_endian(p, 8);
        assert_int_equal(little_endian(p + 8, 4), masked_crc(p, 8));
        assert_true(size - at - 16 >= n);
        assert_int_equal(little_endian(p + 12 + n, 4), masked_crc(p + 12, n));
        decode_event((struct bytes){p + 12, p + 12 + n}, &d);
        at += 16 + n;
    }
    free(data);
    return d;
}

static void scalars_are_decoded(void **state)
{
    (void)state;
    struct lcl_tfevents *t;
    char *dir = lcl_strdupf("%s/events", temp_dir());
    ASSERT_OK(lcl_tfevents_open(dir, 41, &t));
    const struct lcl_tfscalar two[] = {{"train/loss", 1.5}, {"train/lr", 3e-3}};
    const struct lcl_tfscalar one = {"eval/greedy_2shot", -0.25};
    ASSERT_OK(lcl_tfevents_scalars(t, 1.7e9, 42, two, 2));
    ASSERT_OK(lcl_tfevents_scalars(t, 1.7e9 + 1.5, 5000000000, &one, 1));
    struct decoded d = decode_file(lcl_tfevents_path(t));
    assert_non_null(strstr(lcl_tfevents_path(t), "/events.out.tfevents."));
    lcl_tfevents_close(t);
    free(dir);
    assert_int_equal(d.records, 4);
    assert_string_equal(d.version, "brain.Event:2");
    assert_int_equal(d.session_start, 41);
    assert_true(d.wall_time == 1.7e9 + 1.5);
    assert_int_equal(d.n, 3);
    assert_string_equal(d.scalars[0].tag, "train/loss");
    assert_int_equal(d.scalars[0].step, 42);
    assert_true(d.scalars[0].value == 1.5f);
    assert_true(d.scalars[1].value == 3e-3f);
    assert_string_equal(d.scalars[2].tag, "eval/greedy_2shot");
    assert_int_equal(d.scalars[2].step, 5000000000);
    assert_true(d.scalars[2].value == -0.25f);
}

static void two_files_of_one_second_do_not_collide(void **state)
{
    (void)state;
    struct lcl_tfevents *a, *b;
    char *dir = lcl_strdupf("%s/twice", temp_dir());
    ASSERT_OK(lcl_tfevents_open(dir, 0, &a));
    ASSERT_OK(lcl_tfevents_open(dir, 0, &b));
    assert_string_not_equal(lcl_tfevents_path(a), lcl_tfevents_path(b));
    lcl_tfevents_close(a);
    lcl_tfevents_close(b);
    free(dir);
}

static void metrics_write_tagged_scalars(void **state)
{
    (void)state;
    struct lcl_metrics *m;
    char *dir = lcl_strdupf("%s/metrics", temp_dir()), *runs = lcl_strdupf("%s/runs", dir);
    ASSERT_OK(lcl_metrics_open(dir, 6, false, &m));
    const struct lcl_metric train = {"loss", 2};
    const struct lcl_metric eval[] = {{"shots", 16}, {"greedy", 0.5}};
    ASSERT_OK(lcl_metrics_log(m, "train", "a", 7, &train, 1));
    ASSERT_OK(lcl_metrics_log(m, "eval", "a", 7, eval, 2));
    ASSERT_OK(lcl_metrics_sync(m));
    lcl_metrics_close(m);
    char **names;
    size_t n;
    ASSERT_OK(lcl_fs_list(runs, &names, &n));
    assert_int_equal(n, 1);
    char *path = lcl_strdupf("%s/%s", runs, names[0]);
    struct decoded d = decode_file(path);
    assert_int_equal(d.session_start, 7);
    assert_int_equal(d.n, 2);
    assert_string_equal(d.scalars[0].tag, "train/loss");
    assert_string_equal(d.scalars[1].tag, "eval/greedy_16shot");
    assert_true(d.scalars[1].value == 0.5f);
    lcl_fs_list_free(names, n);
    free(path);
    free(runs);
    free(dir);
}

static void an_unwritable_folder_is_named(void **state)
{
    (void)state;
    struct lcl_tfevents *t;
    char *path = lcl_strdupf("%s/file", temp_dir());
    ASSERT_OK(lcl_fs_write_atomic(path, "x", 1));
    assert_int_not_equal(lcl_tfevents_open(path, 0, &t), LCL_OK);
    assert_non_null(strstr(lcl_error_message(), path));
    assert_null(t);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(scalars_are_decoded),
                                       cmocka_unit_test(two_files_of_one_second_do_not_collide),
                                       cmocka_unit_test(metrics_write_tagged_scalars),
                                       cmocka_unit_test(an_unwritable_folder_is_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
