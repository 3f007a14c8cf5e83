/* The ways out of a config: YAML that loads to the same, docs/config.md, and the table of `--help`.
 */
#include <errno.h>
#include <string.h>

#include "core/config_schema.h"

/* Text in double quotes, with whatever YAML does not take as it is escaped. The text is UTF-8
 * (checked when it was set). */
static void write_quoted(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    fputc('"', out);
    while (*s) {
        int n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
        uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
        for (int i = 1; i < n; i++) c = c << 6 | (s[i] & 0x3fu);
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", (int)c);
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff ||
                 c == 0xfffe || c == 0xffff)
            fprintf(out, "\\u%04x", (unsigned)c);
        else
            fwrite(s, 1, (size_t)n, out);
        s += n;
    }
    fputc('"', out);
}

static void write_key(FILE *out, const char *indent, const struct lcl_config *c,
                      const struct lcl_key *key)
{
    char value[LCL_CONFIG_VALUE_BYTES];
    lcl_config_value(c, key, value);
    fprintf(out, "%s%s: ", indent, key->name);
    if (key->kind == LCL_KEY_STR)
        write_quoted(out, value);
    else if (key->kind == LCL_KEY_LIST)
        fprintf(out, "[%s]", value);
    else
        fputs(value, out);
    fputc('\n', out);
}

static bool same_in_all_stages(const struct lcl_run_config *c, const struct lcl_key *key)
{
    for (int s = 1; s < c->n_stages; s++)
        if (!lcl_config_same(&c->stages[0], &c->stages[s], key)) return false;
    return true;
}

static void write_stages(FILE *out, const struct lcl_run_config *c)
{
    if (c->n_stages == 1 && !c->stages[0].stage_name[0]) return;
    fprintf(out, "stages:\n");
    for (int s = 0; s < c->n_stages; s++) {
        fprintf(out, "  - name: \"%s\"\n", c->stages[s].stage_name);
        for (int i = 0; i < lcl_config_n_keys; i++) {
            const struct lcl_key *key = &lcl_config_keys[i];
            if (key->kind != LCL_KEY_SECTION && !same_in_all_stages(c, key))
                write_key(out, "    ", &c->stages[s], key);
        }
    }
}

lcl_status lcl_config_write_yaml(const struct lcl_run_config *c, FILE *out)
{
    struct lcl_config defaults;
    lcl_config_defaults(&defaults);
    for (int changed = 1; changed >= 0; changed--) {
        fprintf(out, changed ? "# set by the run\n" : "# as by default\n");
        for (int i = 0; i < lcl_config_n_keys; i++) {
            const struct lcl_key *key = &lcl_config_keys[i];
            if (key->kind == LCL_KEY_SECTION || !same_in_all_stages(c, key)) continue;
            if (lcl_config_same(&c->stages[0], &defaults, key) != changed)
                write_key(out, "", &c->stages[0], key);
        }
        if (changed) write_stages(out, c);
    }
    if (fflush(out) || ferror(out))
        return LCL_FAIL(LCL_IO, "writing the config: %s", strerror(errno));
    return LCL_OK;
}

/* "1..100", "a, b or c": what a key allows. */
static void write_allowed(FILE *out, const struct lcl_key *key)
{
    switch (key->kind) {
    case LCL_KEY_INT:
    case LCL_KEY_FLOAT:
    case LCL_KEY_LIST:
        fprintf(out, "%.12g..%.12g", key->low, key->high);
        break;
    case LCL_KEY_BOOL:
        fputs("true, false", out);
        break;
    case LCL_KEY_STR:
        fputs("text", out);
        break;
    case LCL_KEY_WORD:
        for (const char *w = key->words; *w; w++) fputs(*w == '|' ? ", " : (char[]){*w, 0}, out);
        break;
    case LCL_KEY_SECTION:
        break;
    }
}

static const char markdown_head[] =
    "# Config keys\n\n"
    "Made by `make docs` from `core/config_keys.h`; `lcl config FILE` prints a file resolved.\n\n"
    "A config is a YAML file; dotted keys may be written as nested maps. `base: other.yaml` reads "
    "another\n"
    "file first (relative to the one that names it; at most 8 deep). `stages:` is a list of maps, "
    "each with\n"
    "a `name:` and overrides of any keys; it replaces the base's list. Written as a map from names "
    "to\n"
    "overrides, it changes stages of the base. `--set key=value` comes after the file, for all "
    "stages;\n"
    "`--set NAME:key=value` for one. Paths are relative to the working folder. A key that is not "
    "in this\n"
    "list, a repeated key, or a value outside its range is an error that names file and line.\n";

lcl_status lcl_config_write_markdown(FILE *out)
{
    fputs(markdown_head, out);
    for (int i = 0; i < lcl_config_n_keys; i++) {
        const struct lcl_key *key = &lcl_config_keys[i];
        if (key->kind == LCL_KEY_SECTION) {
            fprintf(out,
                    "\n## %s\n%s\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n",
                    key->name, key->doc);
            continue;
        }
        fprintf(out, "| `%s` | %s%s%s | ", key->name, *key->default_ ? "`" : "", key->default_,
                *key->default_ ? "`" : "");
        write_allowed(out, key);
        fprintf(out, " | %s |\n", key->doc);
    }
    if (fflush(out) || ferror(out))
        return LCL_FAIL(LCL_IO, "writing the list of keys: %s", strerror(errno));
    return LCL_OK;
}

void lcl_config_write_help(FILE *out)
{
    for (int i = 0; i < lcl_config_n_keys; i++) {
        const struct lcl_key *key = &lcl_config_keys[i];
        if (key->kind == LCL_KEY_SECTION) {
            fprintf(out, "\n%s: %s\n", key->name, key->doc);
            continue;
        }
        fprintf(out, "  %-32s %s\n%35s(", key->name, key->doc, "");
        write_allowed(out, key);
        fprintf(out, "; default %s)\n", *key->default_ ? key->default_ : "empty");
    }
}
