#include "checkpoint/torch_pickle.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

enum { MAX_VALUES = 1 << 22 };

enum kind {
    NONE,
    MARK,
    BOOL,
    INT,
    FLOAT,
    TEXT,
    TUPLE, /* items [at, at + n) of the pool */
    LIST,  /* what is in it is not kept: no state dict needs it */
    DICT,
    GLOBAL,
    STORAGE,
    TENSOR
};
enum callee { ORDERED_DICT, REBUILD_TENSOR, REBUILD_TENSOR_V2, REBUILD_PARAMETER, STORAGE_TYPE };

struct value {
    enum kind kind;
    int64_t n;        /* INT, BOOL; TEXT and TUPLE: size; GLOBAL: callee */
    size_t at;        /* TUPLE, DICT, STORAGE, TENSOR: place in its array */
    const char *text; /* TEXT */
};
struct pair {
    struct value key, value;
    size_t next; /* in the pool of pairs; SIZE_MAX: the last */
};
struct dict {
    size_t first, last;
};

/* An array that grows; items stay where they are by index only. */
struct array {
    void *v;
    size_t n, cap, item;
};

struct machine {
    const char *path;
    const unsigned char *data;
    size_t size, at;
    struct array stack, pool, memo, pairs, dicts, storages, tensors;
};

static const struct storage_type {
    const char *name, *stored;
    size_t bytes;
    lcl_dtype dtype;
} storage_types[] = {
    {"FloatStorage", "F32", 4, LCL_F32},
    {"HalfStorage", "F16", 2, LCL_F16},
    {"BFloat16Storage", "BF16", 2, LCL_BF16},
    {"DoubleStorage", "F64", 8, LCL_F64},
    {"LongStorage", "I64", 8, LCL_I64},
    {"IntStorage", "I32", 4, LCL_I32},
    {"ByteStorage", "U8", 1, LCL_U8},
    {"CharStorage", "I8", 1, LCL_DTYPE_COUNT},
    {"ShortStorage", "I16", 2, LCL_DTYPE_COUNT},
    {"BoolStorage", "BOOL", 1, LCL_DTYPE_COUNT},
};
enum { N_STORAGE_TYPES = sizeof storage_types / sizeof *storage_types };

static lcl_status bad(const struct machine *m, const char *what)
{
    return LCL_FAIL(LCL_FORMAT, "%s: its pickle, byte %zu: %s", m->path, m->at, what);
}

static lcl_status push_item(const struct machine *m, struct array *a, const void *item)
{
    if (a->n == a->cap) {
        size_t cap = 2 * a->cap + 64;
        if (cap > MAX_VALUES) return bad(m, "more values than are read");
        void *v = realloc(a->v, cap * a->item);
        if (!v) return LCL_FAIL(LCL_MEMORY, "no memory to read %s", m->path);
        a->v = v;
        a->cap = cap;
    }
    memcpy((char *)a->v + a->n++ * a->item, item, a->item);
    return LCL_OK;
}

static lcl_status push(struct machine *m, struct value v) { return push_item(m, &m->stack, &v); }

static struct value *stack_at(const struct machine *m, size_t i)
{
    return (struct value *)m->stack.v + i;
}

/* NULL where no tuple has had an item yet. */
static const struct value *pool_at(const struct machine *m, size_t i)
{
    return m->pool.v ? (const struct value *)m->pool.v + i : NULL;
}

static lcl_status pop(struct machine *m, struct value *v)
{
    if (m->stack.n == 0) return bad(m, "the stack is empty");
    *v = *stack_at(m, --m->stack.n);
    return v->kind == MARK ? bad(m, "a mark where a value is wanted") : LCL_OK;
}

/* Items above the topmost mark: [*first, stack.n); the mark is just below. */
static lcl_status find_mark(const struct machine *m, size_t *first)
{
    for (*first = m->stack.n; *first > 0; --*first)
        if (stack_at(m, *first - 1)->kind == MARK) return LCL_OK;
    return bad(m, "there is no mark");
}

/* ---- operands ---- */

static lcl_status take(struct machine *m, size_t n, const unsigned char **p)
{
    if (n > m->size - m->at) return bad(m, "it ends too early");
    *p = m->data + m->at;
    m->at += n;
    return LCL_OK;
}

static lcl_status take_number(struct machine *m, size_t bytes, uint64_t *x)
{
    const unsigned char *p = NULL;
    LCL_TRY(take(m, bytes, &p));
    *x = lcl_little_endian(p, bytes);
    return LCL_OK;
}

static lcl_status take_text(struct machine *m, size_t size_bytes, struct value *v)
{
    uint64_t n;
    const unsigned char *p = NULL;
    LCL_TRY(take_number(m, size_bytes, &n));
    if (n > m->size) return bad(m, "it ends too early");
    LCL_TRY(take(m, (size_t)n, &p));
    *v = (struct value){.kind = TEXT, .n = (int64_t)n, .text = (const char *)p};
    return LCL_OK;
}

static lcl_status take_line(struct machine *m, struct value *v)
{
    const unsigned char *p = m->data + m->at;
    const unsigned char *end = memchr(p, '\n', m->size - m->at);
    if (!end) return bad(m, "it ends too early");
    *v = (struct value){.kind = TEXT, .n = end - p, .text = (const char *)p};
    m->at += (size_t)(end - p) + 1;
    return LCL_OK;
}

/* LONG1: little-endian two's complement. */
static lcl_status take_long(struct machine *m, struct value *v)
{
    uint64_t n, x;
    LCL_TRY(take_number(m, 1, &n));
    if (n > 8) return bad(m, "a number above 64 bits");
    LCL_TRY(take_number(m, (size_t)n, &x));
    if (n > 0 && n < 8 && x >> (8 * n - 1) & 1) x |= UINT64_MAX << 8 * n;
    *v = (struct value){.kind = INT, .n = (int64_t)x};
    return LCL_OK;
}

/* ---- containers ---- */

static lcl_status new_dict(struct machine *m, struct value *v)
{
    const struct dict empty = {SIZE_MAX, SIZE_MAX};
    *v = (struct value){.kind = DICT, .at = m->dicts.n};
    return push_item(m, &m->dicts, &empty);
}

static lcl_status set_item(struct machine *m, const struct value *d, struct value key,
                           struct value value)
{
    const struct pair p = {key, value, SIZE_MAX};
    if (d->kind != DICT) return bad(m, "an item is set in what is no dict");
    if (key.kind == MARK || value.kind == MARK) return bad(m, "a mark where a value is wanted");
    LCL_TRY(push_item(m, &m->pairs, &p));
    struct dict *dict = (struct dict *)m->dicts.v + d->at;
    if (dict->last == SIZE_MAX)
        dict->first = m->pairs.n - 1;
    else
        ((struct pair *)m->pairs.v)[dict->last].next = m->pairs.n - 1;
    dict->last = m->pairs.n - 1;
    return LCL_OK;
}

/* Items from `first` on become one tuple. */
static lcl_status make_tuple(struct machine *m, size_t first)
{
    struct value v = {.kind = TUPLE, .at = m->pool.n, .n = (int64_t)(m->stack.n - first)};
    for (size_t i = first; i < m->stack.n; i++) {
        if (stack_at(m, i)->kind == MARK) return bad(m, "a mark where a value is wanted");
        LCL_TRY(push_item(m, &m->pool, stack_at(m, i)));
    }
    m->stack.n = first;
    return push(m, v);
}

static lcl_status marked_tuple(struct machine *m)
{
    size_t first;
    LCL_TRY(find_mark(m, &first));
    LCL_TRY(make_tuple(m, first));
    *stack_at(m, first - 1) = *stack_at(m, first); /* over the mark */
    m->stack.n = first;
    return LCL_OK;
}

static lcl_status set_items(struct machine *m)
{
    size_t first;
    LCL_TRY(find_mark(m, &first));
    if (first < 2 || (m->stack.n - first) % 2) return bad(m, "items without a dict or a key");
    const struct value d = *stack_at(m, first - 2);
    for (size_t i = first; i < m->stack.n; i += 2)
        LCL_TRY(set_item(m, &d, *stack_at(m, i), *stack_at(m, i + 1)));
    m->stack.n = first - 1;
    return LCL_OK;
}

static lcl_status append_items(struct machine *m)
{
    size_t first;
    LCL_TRY(find_mark(m, &first));
    if (first < 2 || stack_at(m, first - 2)->kind != LIST) return bad(m, "items without a list");
    m->stack.n = first - 1;
    return LCL_OK;
}

/* ---- globals ---- */

static bool is_text(const struct value *v, const char *s)
{
    return v->kind == TEXT && (size_t)v->n == strlen(s) && memcmp(v->text, s, (size_t)v->n) == 0;
}

static lcl_status find_global(struct machine *m, const struct value *module,
                              const struct value *name)
{
    struct value v = {.kind = GLOBAL, .n = -1};
    if (is_text(module, "collections") && is_text(name, "OrderedDict")) v.n = ORDERED_DICT;
    if (is_text(module, "torch._utils")) {
        if (is_text(name, "_rebuild_tensor")) v.n = REBUILD_TENSOR;
        if (is_text(name, "_rebuild_tensor_v2")) v.n = REBUILD_TENSOR_V2;
        if (is_text(name, "_rebuild_parameter")) v.n = REBUILD_PARAMETER;
    }
    for (int i = 0; is_text(module, "torch") && i < N_STORAGE_TYPES; i++) {
        if (!is_text(name, storage_types[i].name)) continue;
        v.n = STORAGE_TYPE;
        v.at = (size_t)i;
    }
    if (v.n >= 0) return push(m, v);
    int a = module->kind == TEXT && module->n < 80 ? (int)module->n : 0;
    int b = name->kind == TEXT && name->n < 80 ? (int)name->n : 0;
    return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                         "save the state dict alone: torch.save(model.state_dict(), FILE); pickles "
                         "can run programs, so nothing else is read",
                         "%s: its pickle, byte %zu: the unknown global %.*s.%.*s", m->path, m->at,
                         a, a ? module->text : "", b, b ? name->text : "");
}

/* ("storage", type, key, location, count) */
static lcl_status persistent(struct machine *m)
{
    struct value id = {0};
    LCL_TRY(pop(m, &id));
    const struct value *v = id.kind == TUPLE ? pool_at(m, id.at) : NULL;
    if (!v || id.n != 5 || !is_text(&v[0], "storage") || v[1].kind != GLOBAL ||
        v[1].n != STORAGE_TYPE || v[2].kind != TEXT || v[4].kind != INT || v[4].n < 0)
        return bad(m, "a persistent id that is no storage");
    const struct storage_type *type = &storage_types[v[1].at];
    const struct lcl_torch_storage s = {.key = v[2].text,
                                        .key_size = (size_t)v[2].n,
                                        .stored = type->stored,
                                        .dtype = type->dtype,
                                        .elem_bytes = type->bytes,
                                        .count = v[4].n};
    LCL_TRY(push_item(m, &m->storages, &s));
    return push(m, (struct value){.kind = STORAGE, .at = m->storages.n - 1});
}

static lcl_status read_dims(const struct machine *m, const struct value *v, int64_t *dims, int *n)
{
    if (v->kind != TUPLE) return bad(m, "a tensor's shape or stride is no tuple");
    if (v->n > LCL_TORCH_MAX_DIMS) return bad(m, "a tensor has more than 8 dimensions");
    *n = (int)v->n;
    for (int64_t i = 0; i < v->n; i++) {
        const struct value *d = pool_at(m, v->at + (size_t)i);
        if (d->kind != INT || d->n < 0) return bad(m, "a tensor's dimension is no whole number");
        dims[i] = d->n;
    }
    return LCL_OK;
}

/* (storage, offset, shape, stride, ...) */
static lcl_status rebuild_tensor(struct machine *m, const struct value *args)
{
    struct lcl_torch_tensor t = {0};
    const struct value *v = pool_at(m, args->at);
    int n_strides;
    if (args->n < 4 || v[0].kind != STORAGE || v[1].kind != INT || v[1].n < 0)
        return bad(m, "a tensor without storage and offset");
    t.storage = ((struct lcl_torch_storage *)m->storages.v)[v[0].at];
    t.offset = v[1].n;
    LCL_TRY(read_dims(m, &v[2], t.shape, &t.n_dims));
    LCL_TRY(read_dims(m, &v[3], t.stride, &n_strides));
    if (n_strides != t.n_dims) return bad(m, "a tensor's shape and stride differ in length");
    LCL_TRY(push_item(m, &m->tensors, &t));
    return push(m, (struct value){.kind = TENSOR, .at = m->tensors.n - 1});
}

static lcl_status reduce(struct machine *m)
{
    struct value args = {0}, callee, made;
    LCL_TRY(pop(m, &args));
    LCL_TRY(pop(m, &callee));
    if (callee.kind != GLOBAL || args.kind != TUPLE) return bad(m, "a call of what is no function");
    switch ((enum callee)callee.n) {
    case ORDERED_DICT:
        if (args.n != 0) return bad(m, "an OrderedDict with arguments");
        LCL_TRY(new_dict(m, &made));
        return push(m, made);
    case REBUILD_TENSOR:
    case REBUILD_TENSOR_V2:
        return rebuild_tensor(m, &args);
    case REBUILD_PARAMETER:
        made = args.n > 0 ? *pool_at(m, args.at) : (struct value){0};
        return made.kind == TENSOR ? push(m, made) : bad(m, "a parameter without a tensor");
    case STORAGE_TYPE:
        break;
    }
    return bad(m, "a call of what is no function");
}

/* An OrderedDict's attributes (_metadata: versions of modules) are passed over. */
static lcl_status build(struct machine *m)
{
    struct value state;
    LCL_TRY(pop(m, &state));
    if (m->stack.n == 0 || stack_at(m, m->stack.n - 1)->kind != DICT || state.kind != DICT)
        return bad(m, "state is set in what is no OrderedDict");
    return LCL_OK;
}

/* ---- memo ---- */

static lcl_status memo_put(struct machine *m, uint64_t i)
{
    const struct value none = {0};
    if (m->stack.n == 0) return bad(m, "the stack is empty");
    if (i > m->memo.n) return bad(m, "memo numbers out of order");
    if (i == m->memo.n) LCL_TRY(push_item(m, &m->memo, &none));
    ((struct value *)m->memo.v)[i] = *stack_at(m, m->stack.n - 1);
    return LCL_OK;
}

static lcl_status memo_get(struct machine *m, uint64_t i)
{
    if (i >= m->memo.n) return bad(m, "a memo number that was never put");
    struct value v = ((struct value *)m->memo.v)[i];
    return v.kind == MARK ? bad(m, "a mark where a value is wanted") : push(m, v);
}

/* ---- opcodes (pickletools' names) ---- */

static lcl_status step_value(struct machine *m, unsigned char op, bool *known)
{
    struct value v = {0};
    uint64_t x = 0;
    switch (op) {
    case 'N': /* NONE */
        return push(m, v);
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push(m, (struct value){.kind = BOOL, .n = op == 0x88});
    case 'J': /* BININT */
        LCL_TRY(take_number(m, 4, &x));
        return push(m, (struct value){.kind = INT, .n = (int32_t)(uint32_t)x});
    case 'K': /* BININT1 */
    case 'M': /* BININT2 */
        LCL_TRY(take_number(m, op == 'K' ? 1 : 2, &x));
        return push(m, (struct value){.kind = INT, .n = (int64_t)x});
    case 0x8a: /* LONG1 */
        LCL_TRY(take_long(m, &v));
        return push(m, v);
    case 'G': /* BINFLOAT */
        LCL_TRY(take_number(m, 8, &x));
        return push(m, (struct value){.kind = FLOAT});
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
        LCL_TRY(take_text(m, 4, &v));
        return push(m, v);
    case 0x8c: /* SHORT_BINUNICODE */
    case 'U':  /* SHORT_BINSTRING */
        LCL_TRY(take_text(m, 1, &v));
        return push(m, v);
    case 0x8d: /* BINUNICODE8 */
        LCL_TRY(take_text(m, 8, &v));
        return push(m, v);
    case '}': /* EMPTY_DICT */
        LCL_TRY(new_dict(m, &v));
        return push(m, v);
    case ']': /* EMPTY_LIST */
        return push(m, (struct value){.kind = LIST});
    case ')': /* EMPTY_TUPLE */
        return make_tuple(m, m->stack.n);
    case '(': /* MARK */
        return push(m, (struct value){.kind = MARK});
    default:
        *known = false;
        return LCL_OK;
    }
}

static lcl_status step_container(struct machine *m, unsigned char op, bool *known)
{
    struct value v, key;
    switch (op) {
    case 't': /* TUPLE */
        return marked_tuple(m);
    case 0x85: /* TUPLE1, 2, 3 */
    case 0x86:
    case 0x87:
        if (m->stack.n < op - 0x84u) return bad(m, "the stack is empty");
        return make_tuple(m, m->stack.n - (op - 0x84u));
    case 's': /* SETITEM */
        LCL_TRY(pop(m, &v));
        LCL_TRY(pop(m, &key));
        if (m->stack.n == 0) return bad(m, "the stack is empty");
        return set_item(m, stack_at(m, m->stack.n - 1), key, v);
    case 'u': /* SETITEMS */
        return set_items(m);
    case 'a': /* APPEND */
        LCL_TRY(pop(m, &v));
        if (m->stack.n == 0 || stack_at(m, m->stack.n - 1)->kind != LIST)
            return bad(m, "an item without a list");
        return LCL_OK;
    case 'e': /* APPENDS */
        return append_items(m);
    case '0': /* POP */
        return pop(m, &v);
    default:
        *known = false;
        return LCL_OK;
    }
}

static lcl_status step_object(struct machine *m, unsigned char op, bool *known)
{
    struct value a, b;
    uint64_t x;
    switch (op) {
    case 'c': /* GLOBAL */
        LCL_TRY(take_line(m, &a));
        LCL_TRY(take_line(m, &b));
        return find_global(m, &a, &b);
    case 0x93: /* STACK_GLOBAL */
        LCL_TRY(pop(m, &b));
        LCL_TRY(pop(m, &a));
        return find_global(m, &a, &b);
    case 'Q': /* BINPERSID */
        return persistent(m);
    case 'R': /* REDUCE */
        return reduce(m);
    case 'b': /* BUILD */
        return build(m);
    case 'q': /* BINPUT, LONG_BINPUT, MEMOIZE */
    case 'r':
        LCL_TRY(take_number(m, op == 'q' ? 1 : 4, &x));
        return memo_put(m, x);
    case 0x94:
        return memo_put(m, m->memo.n);
    case 'h': /* BINGET, LONG_BINGET */
    case 'j':
        LCL_TRY(take_number(m, op == 'h' ? 1 : 4, &x));
        return memo_get(m, x);
    case 0x80: /* PROTO */
        LCL_TRY(take_number(m, 1, &x));
        return x >= 2 && x <= 5 ? LCL_OK : bad(m, "a protocol other than 2 to 5");
    case 0x95: /* FRAME: its length is a hint for buffering */
        return take_number(m, 8, &x);
    default:
        *known = false;
        return LCL_OK;
    }
}

static lcl_status run(struct machine *m, struct value *root)
{
    for (;;) {
        const unsigned char *op = NULL;
        bool known = true;
        LCL_TRY(take(m, 1, &op));
        if (*op == '.') break; /* STOP */
        LCL_TRY(step_value(m, *op, &known));
        if (known) continue;
        known = true;
        LCL_TRY(step_container(m, *op, &known));
        if (known) continue;
        known = true;
        LCL_TRY(step_object(m, *op, &known));
        if (!known)
            return LCL_FAIL_HINT(LCL_UNSUPPORTED,
                                 "save the state dict alone: torch.save(model.state_dict(), FILE)",
                                 "%s: its pickle, byte %zu: the opcode 0x%02x is not one of a "
                                 "state dict",
                                 m->path, m->at - 1, *op);
    }
    return pop(m, root);
}

/* ---- the state dict ---- */

static const struct pair *pairs_of(const struct machine *m, const struct value *d)
{
    size_t first = d->kind == DICT ? ((struct dict *)m->dicts.v)[d->at].first : SIZE_MAX;
    return first == SIZE_MAX ? NULL : (struct pair *)m->pairs.v + first;
}

static const struct pair *next_pair(const struct machine *m, const struct pair *p)
{
    return p->next == SIZE_MAX ? NULL : (struct pair *)m->pairs.v + p->next;
}

/* The dict inside, where a trainer saved more than the weights. */
static struct value inner_dict(const struct machine *m, struct value root)
{
    for (const struct pair *p = pairs_of(m, &root); p; p = next_pair(m, p))
        if (p->value.kind == DICT && (is_text(&p->key, "state_dict") || is_text(&p->key, "model") ||
                                      is_text(&p->key, "module")))
            return p->value;
    return root;
}

static lcl_status collect(struct machine *m, struct value root, struct lcl_torch_tensor **out,
                          size_t *n)
{
    if (root.kind != DICT) return bad(m, "what was saved is no dict of tensors");
    root = inner_dict(m, root);
    size_t count = 0;
    for (const struct pair *p = pairs_of(m, &root); p; p = next_pair(m, p)) count++;
    *out = calloc(count + 1, sizeof **out);
    if (!*out) return LCL_FAIL(LCL_MEMORY, "no memory to read %s", m->path);
    for (const struct pair *p = pairs_of(m, &root); p; p = next_pair(m, p)) {
        if (p->value.kind != TENSOR) continue;
        if (p->key.kind != TEXT || memchr(p->key.text, 0, (size_t)p->key.n))
            return bad(m, "a tensor whose name is no text");
        struct lcl_torch_tensor *t = &(*out)[(*n)++];
        *t = ((struct lcl_torch_tensor *)m->tensors.v)[p->value.at];
        t->name = p->key.text;
        t->name_size = (size_t)p->key.n;
    }
    return LCL_OK;
}

lcl_status lcl_torch_unpickle(const char *path, const unsigned char *data, size_t size,
                              struct lcl_torch_tensor **out, size_t *n)
{
    struct machine m = {.path = path, .data = data, .size = size};
    struct value root = {0};
    struct array *arrays[] = {&m.stack, &m.pool,     &m.memo,   &m.pairs,
                              &m.dicts, &m.storages, &m.tensors};
    static const size_t items[] = {sizeof(struct value),
                                   sizeof(struct value),
                                   sizeof(struct value),
                                   sizeof(struct pair),
                                   sizeof(struct dict),
                                   sizeof(struct lcl_torch_storage),
                                   sizeof(struct lcl_torch_tensor)};
    *out = NULL;
    *n = 0;
    if (size > LCL_TORCH_MAX_PICKLE_BYTES)
        return LCL_FAIL(LCL_RANGE, "%s: its pickle has %zu bytes, at most %d are read", path, size,
                        LCL_TORCH_MAX_PICKLE_BYTES);
    for (int i = 0; i < 7; i++) arrays[i]->item = items[i];
    lcl_status status = run(&m, &root);
    if (status == LCL_OK) status = collect(&m, root, out, n);
    for (int i = 0; i < 7; i++) free(arrays[i]->v);
    if (status != LCL_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}
