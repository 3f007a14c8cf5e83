/* Both files of a PEFT adapter, into a model that has the layers that they name. */
#include "tests/fuzz/fuzz.h"

#include "checkpoint/peft.h"
#include "model/model.h"
#include "tests/support/tiny.h"

static struct lcl_model_config adapted;

static lcl_status read_adapter(const char *path, const struct fuzz_file *f)
{
    struct lcl_model_config config = adapted;
    struct lcl_model m;
    (void)path;
    (void)f;
    LCL_TRY(lcl_peft_load_config(fuzz_dir(), &config.lora));
    LCL_TRY(lcl_model_create(&m, &config));
    lcl_status status = lcl_model_reserve(&m, false, false, false);
    if (status == LCL_OK) status = lcl_peft_load(fuzz_dir(), &m.params);
    lcl_model_free(&m);
    return status;
}

static struct fuzz_file seed(const char *file)
{
    struct lcl_config c;
    struct lcl_model m;
    test_exec();
    tiny_config(&c, "lora.rank=2");
    lcl_model_config_from(&c, 300, &adapted);
    ASSERT_OK(lcl_model_create(&m, &adapted));
    ASSERT_OK(lcl_model_reserve(&m, false, false, false));
    ASSERT_OK(lcl_peft_save(fuzz_dir(), &m.params, &m.config,
                            &(struct lcl_peft_save_options){.dtype = LCL_F32}));
    lcl_model_free(&m);
    return fuzz_whole(fuzz_path(file));
}

static size_t config_seeds(struct fuzz_file *seeds)
{
    seeds[0] = seed("adapter_config.json");
    return 1;
}

static size_t model_seeds(struct fuzz_file *seeds)
{
    seeds[0] = seed("adapter_model.safetensors");
    return 1;
}

static const char *const words[] = {"\"r\"",
                                    "\"lora_alpha\"",
                                    "\"target_modules\"",
                                    "\"peft_type\"",
                                    "\"LORA\"",
                                    "\"use_rslora\"",
                                    "\"rank_pattern\"",
                                    "\"alpha_pattern\"",
                                    "\"bias\"",
                                    "\"modules_to_save\"",
                                    "\"all-linear\"",
                                    "q_proj",
                                    "lora_A",
                                    "lora_B",
                                    "2147483648",
                                    "null",
                                    "[]",
                                    NULL};

const struct fuzz_target fuzz_adapter_config = {.name = "adapter_config",
                                                .file = "adapter_config.json",
                                                .seeds = config_seeds,
                                                .read = read_adapter,
                                                .words = words};
const struct fuzz_target fuzz_adapter_model = {.name = "adapter_model",
                                               .file = "adapter_model.safetensors",
                                               .seeds = model_seeds,
                                               .read = read_adapter,
                                               .words = words};
