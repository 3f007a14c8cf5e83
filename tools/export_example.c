/* The example of an export: a Python program for transformers, peft or llama.cpp. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fs.h"
#include "data/episode.h"
#include "tools/export_card.h"

static const char head[] =
    "\"\"\"Two labelled pictures (or more) and a question about a third.\n\n"
    "    python example.py dax=a.png blicket=b.png question.png\n\nNeeds: pip install ";

/* Pictures as training saw them: cut or filled to a square, nothing transparent. */
static const char picture_crop[] =
    "    return ImageOps.fit(flat, (SIDE, SIDE), Image.Resampling.BICUBIC)\n";
static const char picture_pad[] =
    "    return ImageOps.pad(flat, (SIDE, SIDE), Image.Resampling.BICUBIC, color=BACKGROUND)\n";
static const char picture[] = "def picture(path):\n"
                              "    drawn = Image.open(path).convert(\"RGBA\")\n"
                              "    ground = Image.new(\"RGBA\", drawn.size, BACKGROUND + (255,))\n"
                              "    flat = Image.alpha_composite(ground, drawn).convert(\"RGB\")\n";
static const char arguments[] =
    "\n\nif len(sys.argv) < 4:\n    sys.exit(__doc__)\n"
    "*shots, question = sys.argv[1:]\n"
    "shots = [shot.split(\"=\", 1) for shot in shots]\n"
    "here = Path(__file__).resolve().parent\n"
    "prompt = SYSTEM + NEXT.join([SHOT.replace(\"{label}\", label) for label, _ in shots] + "
    "[QUESTION])\n"
    "pictures = [picture(path) for _, path in shots] + [picture(question)]\n";

static const char imports_hf[] = "from transformers import AutoModelForImageTextToText, "
                                 "AutoProcessor\n";
static const char load_hf[] =
    "processor = AutoProcessor.from_pretrained(here)\n"
    "model = AutoModelForImageTextToText.from_pretrained(here, dtype=torch.float32).eval()\n";
static const char load_peft[] =
    "processor = AutoProcessor.from_pretrained(BASE)\n"
    "processor.patch_size = PATCH  # which folders of old do not say\n"
    "processor.vision_feature_select_strategy = STRATEGY\n"
    "processor.num_additional_image_tokens = 1  # the class token\n"
    "base = AutoModelForImageTextToText.from_pretrained(BASE, dtype=torch.float32)\n"
    "model = PeftModel.from_pretrained(base, here).eval()\n";
static const char ask_hf[] =
    "x = processor(text=prompt, images=pictures, return_tensors=\"pt\")\n"
    "new = model.generate(**x, do_sample=False, max_new_tokens=16)[0, x[\"input_ids\"].shape[1]:]\n"
    "print(processor.tokenizer.decode(new, skip_special_tokens=True).strip())\n";

static const char handler[] =
    "class AsTrained(Llava15ChatHandler):\n"
    "    \"\"\"The parts of a message one after another, with nothing between them.\"\"\"\n"
    "    DEFAULT_SYSTEM_MESSAGE = None\n"
    "    CHAT_FORMAT = (\"{% for message in messages %}{% for part in message.content %}\"\n"
    "                   \"{{ part.text if part.type == 'text' else part.image_url.url }}\"\n"
    "                   \"{% endfor %}{% endfor %}\")\n\n\n"
    "def address(shown):\n"
    "    png = io.BytesIO()\n"
    "    shown.save(png, \"PNG\")\n"
    "    return \"data:image/png;base64,\" + base64.b64encode(png.getvalue()).decode()\n";
static const char ask_gguf[] =
    "parts = []\n"
    "for words, shown in zip(prompt.split(IMAGE), pictures + [None]):\n"
    "    parts += [{\"type\": \"text\", \"text\": words}] if words else []\n"
    "    parts += [{\"type\": \"image_url\", \"image_url\": {\"url\": address(shown)}}] if shown "
    "else []\n"
    "handler = AsTrained(clip_model_path=str(here / \"mmproj.gguf\"), verbose=False)\n"
    "model = Llama(model_path=str(here / \"model.gguf\"), chat_handler=handler, n_ctx=CONTEXT, "
    "verbose=False)\n"
    "answer = model.create_chat_completion([{\"role\": \"user\", \"content\": parts}], "
    "max_tokens=16, "
    "temperature=0)\n"
    "print(answer[\"choices\"][0][\"message\"][\"content\"].strip())\n"
    "model.close()\n";

/* NAME = "text" in Python, which reads JSON's strings. */
static void assign(FILE *f, const char *name, const char *text)
{
    json_t *s = json_string(text);
    char *quoted = json_dumps(s, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    fprintf(f, "%s = %s\n", name, quoted ? quoted : "\"\"");
    free(quoted);
    json_decref(s);
}

/* The template's pieces in the tokenizer's own marks: what begins an episode, what stands between
 * its turns, and these. */
static lcl_status write_words(FILE *f, const struct lcl_env *e, const struct lcl_config *c)
{
    struct lcl_template t;
    LCL_TRY(lcl_template_for(c, &t));
    char *begin = lcl_strdupf("%s%s", t.system, t.first);
    const char *names[] = {"SYSTEM", "NEXT", "SHOT", "QUESTION"};
    const char *texts[] = {begin, t.next, t.support, t.query};
    lcl_status status = LCL_OK;
    for (int i = 0; i < 4 && status == LCL_OK; i++) {
        char *spelled =
            texts[i] ? lcl_template_spell(e->tokenizer, texts[i], strlen(texts[i])) : NULL;
        if (spelled) assign(f, names[i], spelled);
        if (!spelled) status = LCL_FAIL(LCL_MEMORY, "no memory for the words of an example");
        free(spelled);
    }
    free(begin);
    lcl_template_free(&t);
    return status;
}

static lcl_status write_constants(FILE *f, const struct export_request *r, const struct lcl_env *e,
                                  const struct lcl_config *c)
{
    const struct lcl_model_config *m = &e->model.config;
    const uint8_t *b = e->preprocess.background;
    fputs("\n# As the episodes of its training are worded.\n", f);
    LCL_TRY(write_words(f, e, c));
    if (r->to == EXPORT_GGUF) {
        const char *image = lcl_tokenizer_token(e->tokenizer, m->image_token);
        assign(f, "IMAGE", image ? image : "<image>");
        fprintf(f, "CONTEXT = %lld\n",
                (long long)(m->text.max_positions < 4096 ? m->text.max_positions : 4096));
    }
    if (r->to == EXPORT_PEFT) {
        fputs("# What the adapter stands on: an HF folder.\n", f);
        assign(f, "BASE", c->init_from);
        fprintf(f, "PATCH, STRATEGY = %lld, \"%s\"\n", (long long)m->vision.patch_size,
                m->keep_class ? "full" : "default");
    }
    fprintf(f, "SIDE, BACKGROUND = %lld, (%d, %d, %d)\n\n\n", (long long)m->vision.image_size, b[0],
            b[1], b[2]);
    return LCL_OK;
}

lcl_status export_example(const struct export_request *r, const struct lcl_env *e,
                          const struct lcl_config *c, char **text)
{
    bool gguf = r->to == EXPORT_GGUF, peft = r->to == EXPORT_PEFT;
    size_t size;
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (!f) return LCL_FAIL(LCL_MEMORY, "no memory for an example");
    fprintf(f, "%s%s\"\"\"\n", head,
            gguf   ? "llama-cpp-python pillow"
            : peft ? "torch transformers peft pillow"
                   : "torch transformers pillow");
    fprintf(f, "%simport sys\nfrom pathlib import Path\n\n%sfrom PIL import Image, ImageOps\n%s%s",
            gguf ? "import base64\nimport io\n" : "", gguf ? "" : "import torch\n",
            peft ? "from peft import PeftModel\n" : "", gguf ? "" : imports_hf);
    if (gguf)
        fputs("from llama_cpp import Llama\n"
              "from llama_cpp.llama_chat_format import Llava15ChatHandler\n",
              f);
    lcl_status status = write_constants(f, r, e, c);
    fprintf(f, "%s%s", picture, e->preprocess.mode == LCL_RESIZE_PAD ? picture_pad : picture_crop);
    if (gguf) fprintf(f, "\n\n%s", handler);
    fputs(arguments, f);
    if (gguf)
        fputs(ask_gguf, f);
    else
        fprintf(f, "%s%s", peft ? load_peft : load_hf, ask_hf);
    if (fclose(f) != 0 && status == LCL_OK)
        status = LCL_FAIL(LCL_MEMORY, "no memory for an example");
    return status;
}
