#include "tests/support/sp_file.h"

#include "tests/support/support.h"

#define MARK "\xe2\x96\x81"

static void put_bytes(struct torch_bytes *b, int field, const void *data, size_t n)
{
    assert_true(n < 128); /* one byte of length */
    torch_put_number(b, (uint64_t)(field << 3 | 2), 1);
    torch_put_number(b, n, 1);
    torch_put(b, data, n);
}

static void put_varint(struct torch_bytes *b, int field, uint64_t x)
{
    for (uint64_t tag = (uint64_t)field << 3;; tag >>= 7) {
        torch_put_number(b, (tag & 0x7f) | (tag > 0x7f ? 0x80 : 0), 1);
        if (tag <= 0x7f) break;
    }
    torch_put_number(b, x, 1);
}

void sp_piece(struct torch_bytes *b, const char *text, float score, int type)
{
    struct torch_bytes piece = {0};
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    put_bytes(&piece, 1, text, strlen(text));
    torch_put_number(&piece, 2 << 3 | 5, 1);
    torch_put_number(&piece, bits, 4);
    put_varint(&piece, 3, (uint64_t)type);
    put_bytes(b, 1, piece.v, piece.n);
    free(piece.v);
}

void sp_settings(struct torch_bytes *b, int kind, bool byte_fallback, const char *charsmap)
{
    struct torch_bytes trainer = {0}, normalizer = {0};
    put_varint(&trainer, 3, (uint64_t)kind);
    put_varint(&trainer, 35, byte_fallback);
    put_varint(&trainer, 41, 1);
    put_varint(&trainer, 42, 2);
    put_bytes(b, 2, trainer.v, trainer.n);
    put_bytes(&normalizer, 2, charsmap, strlen(charsmap));
    put_varint(&normalizer, 4, 0);
    put_bytes(b, 3, normalizer.v, normalizer.n);
    free(trainer.v);
    free(normalizer.v);
}

void sp_small(struct torch_bytes *b, int kind, bool byte_fallback)
{
    static const struct {
        const char *text;
        float bpe, unigram;
    } pieces[] = {{MARK, -9, -2},     {"a", -9, -2},  {"b", -9, -4},  {"c", -9, -3},
                  {MARK "a", -5, -1}, {"ab", -2, -3}, {"bc", -3, -2}, {"abc", -1, -2.5f}};
    sp_piece(b, "<unk>", 0, 2);
    sp_piece(b, "<s>", 0, 3);
    sp_piece(b, "</s>", 0, 3);
    for (int i = 0; byte_fallback && i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        sp_piece(b, name, 0, 6);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        sp_piece(b, pieces[i].text, kind == SP_UNIGRAM ? pieces[i].unigram : pieces[i].bpe, 1);
    sp_settings(b, kind, byte_fallback, "");
}
