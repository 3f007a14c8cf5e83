/* lcl pack: a folder of pictures into one HDF5 file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/threads.h"
#include "data/pack.h"
#include "tools/cli.h"

static const char *const formats[] = {
    "imagefolder", "imagenet", "webdataset", "wesnoth",
    "llava",       "messages", "caption",    "webdataset-captions",
    "vqav2",       "vqa-e",    "vqa-x",      "rec",
    "reg",         "gc",       "flickr",     "point",
    "vcr-q-a",     "vcr-qa-r", "vcr-q-ar",   "gqa",
    "clevr",       "pope",     "text"};

/* "R,G,B", each 0..255. */
static lcl_status parse_colour(const char *text, uint8_t rgb[3])
{
    const char *p = text;
    for (int k = 0; k < 3; k++) {
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p || v < 0 || v > 255 || *end != (k < 2 ? ',' : 0))
            return LCL_FAIL_HINT(LCL_CONFIG, "three numbers of 0 to 255, as in 128,128,128",
                                 "--background %s is no colour", text);
        rgb[k] = (uint8_t)v;
        p = end + 1;
    }
    return LCL_OK;
}

/* Long: the table of options. */
static lcl_status run(int argc, char **argv)
{
    int format = 0;
    int64_t min_images = 8, threads = 0;
    const char *images = NULL, *out = NULL, *background = "128,128,128";
    struct lcl_pack_options o = {.test_fraction = 0.2};
    const struct cli_option options[] = {
        {"--format", CLI_CHOICE, &format,
         .words = "imagefolder|imagenet|webdataset|wesnoth|llava|messages|caption|webdataset-"
                  "captions|vqav2|vqa-e|"
                  "vqa-x|rec|reg|gc|flickr|point|vcr-q-a|vcr-qa-r|vcr-q-ar|gqa|clevr|pope|text",
         .doc =
             "how classes are told: a folder each (or train/, test/, val/ with a folder each), "
             "ImageNet's archives, WebDataset shards, or the sprites of The Battle for Wesnoth; or "
             "how the rows of --in are read; or WebDataset shards of pictures with captions, as "
             "rows"},
        {"--in", CLI_STR, &o.table, .value = "FILE",
         .doc = "of formats of rows: the table, a JSON object a line or one JSON list"},
        {"--templates", CLI_STR, &o.templates, .value = "FILE",
         .doc = "of formats of rows: your own questions, a JSON list of texts with <image> and "
                "<question>, <expr> or <objs>"},
        {"--image-name", CLI_STR, &o.image_name, .value = "PATTERN",
         .doc = "of formats of rows: the file of a picture by its number, as in "
                "COCO_train2014_{id:12}.jpg"},
        {"--images", CLI_STR, &images, .value = "DIR", .required = true,
         .doc = "the pictures: a folder; of imagenet ILSVRC2012_img_train.tar, or the folder it "
                "lies in; of webdataset and "
                "webdataset-captions a folder of shards or DIR/shard-{0000..0009}.tar, several "
                "with :: between them"},
        {"--caption-key", CLI_STR, &o.caption_key, .value = "KEY",
         .doc = "of webdataset-captions: where a sample's .json has its caption or captions; by "
                "itself .txt, else caption, captions, text or TEXT of .json"},
        {"--class-names", CLI_STR, &o.class_names, .value = "FILE",
         .doc = "of imagenet and webdataset: what classes are called, lines \"n01440764 tench\", "
                "a name a line, or JSON; by itself LOC_synset_mapping.txt, synset_words.txt, "
                "imagenet_class_index.json or class_names.txt beside the archive; none: their "
                "numbers"},
        {"--labels", CLI_STR, &o.labels, .value = "FILE",
         .doc = "of imagenet: whose each picture of ILSVRC2012_img_val.tar is, "
                "LOC_val_solution.csv or lines \"NAME n01751748\""},
        {"--out", CLI_STR, &out, .value = "FILE", .required = true,
         .doc = "the pack; FILE.partial beside it holds what was read until it is done"},
        {"--decoded", CLI_FLAG, &o.decoded,
         .doc = "store pixels instead of the files' bytes: larger, faster to read"},
        {"--skip-bad", CLI_FLAG, &o.skip_bad,
         .doc = "leave unreadable pictures, and rows that are wrong, out instead of failing"},
        {"--force", CLI_FLAG, &o.force, .doc = "replace an existing pack"},
        {"--test-fraction", CLI_FLOAT, &o.test_fraction, .low = 0, .high = 1,
         .doc = "share of the classes held out, by a hash of the class name"},
        {"--min-images", CLI_INT, &min_images, .low = 1, .high = 1e9,
         .doc = "classes with fewer pictures are left out"},
        {"--background", CLI_STR, &background, .value = "R,G,B",
         .doc = "colour that transparent pictures stand on, noted in the pack"},
        {"--threads", CLI_INT, &threads, .low = 0, .high = 1024,
         .doc = "threads that read and check; 0: all processors"},
        CLI_END};
    const struct cli_spec spec = {
        .usage = "--images DIR --out FILE [options]",
        .about =
            "Packs a folder or archives of pictures into one HDF5 file with classes, splits and "
            "checksums.\nStopped at any moment, it goes on where it was when it is run again.\n"
            "Or packs a table of rows (llava, messages, vqav2, ...) with the pictures that it "
            "names,\nor shards of captions, as conversations for data.sources.",
        .options = options,
        .notes =
            "Examples:\n  lcl pack --images birds --out birds.h5\n"
            "  lcl pack --format imagenet --images ILSVRC2012_img_train.tar --out imagenet.h5\n"
            "  lcl pack --format webdataset --images 'cub-{0000..0011}.tar' --out cub.h5\n"
            "  lcl pack --format webdataset-captions --images 'cc3m-{00000..00331}.tar' --out "
            "cc3m.h5 "
            "--skip-bad\n"
            "  lcl pack --format llava --in llava_instruct.jsonl --images coco --out llava.h5\n"};
    struct cli_args args;
    LCL_TRY(cli_parse(&spec, argc, argv, &args));
    if (args.help) return LCL_OK;
    o.format = formats[format];
    o.images = images;
    o.out = out;
    o.min_images = (int)min_images;
    LCL_TRY(parse_colour(background, o.background));
    LCL_TRY(lcl_threads_start((int)threads));
    return lcl_pack_create(&o);
}

const struct cli_verb verb_pack = {"pack", "put a folder of pictures into one file", 10, run};
