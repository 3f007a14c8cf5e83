/* clang-format off */
/* The config schema: the one list that makes the struct, the parser, the defaults, `--help` and docs/config.md.
 *
 * K(kind, key, field, default, low, high, doc): kind INT (int64_t), FLOAT (double), BOOL, STR (char[512]).
 * E(key, field, default, "a|b|c", doc): one of the words; the field holds its index as int.
 * L(key, field, "default", low, high, doc): list of at most 32 integers.
 * A dotted key may be written as nested maps. Names follow LLaVA and the HF trainer where the thing is the same. */
#define LCL_CONFIG_SECTIONS(S, K, E, L)                                                            \
    S("Run", "What is run and where its output goes.")                                             \
    E("task", task, "link-context", "link-context|vision|language", "what a stage trains: link-context episodes; a cosine classifier over the train classes on the vision tower; next tokens of repeating random sequences") \
    K(STR, "output_dir", output_dir, "", 0, 0, "run folder; holds checkpoint-STEP/, metrics.jsonl, runs/, config.yaml") \
    K(STR, "init_from", init_from, "", 0, 0, "run folder or HF folder (LLaVA; with init_parts, LLaMA or CLIP too) whose parameters this run begins with") \
    K(STR, "init_parts", init_parts, "all", 0, 0, "parts taken from init_from: all, or a comma list of vision, projector, text") \
    K(STR, "init_vision_from", init_vision_from, "", 0, 0, "run folder, HF LLaVA folder or CLIP folder whose vision tower, read at the layer that it says, this run begins with instead: joins a tower and a language model; mm_image_pool stays this config's") \
    K(STR, "pretrain_mm_mlp_adapter", pretrain_mm_mlp_adapter, "", 0, 0, "mm_projector.bin (or safetensors) of LLaVA's first stage: the projector's values, in place of init_from's; mm_projector_type says its kind") \
    K(STR, "resume_from_checkpoint", resume_from_checkpoint, "", 0, 0, "checkpoint to go on from; auto: the newest good one of output_dir") \
    K(INT, "seed", seed, 1, 0, 4294967295, "seed of initialisation, episodes and augmentation") \
    E("device", device, "cpu", "cpu|cuda", "backend that computes: the processor, or an NVIDIA GPU (where lcl was built with CUDA)") \
    K(INT, "device_number", device_number, -1, -1, 1023, "which of several GPUs, from 0; -1: the first, or with ranks the one by the rank's number on its host") \
    K(BOOL, "share_gpu", share_gpu, false, 0, 1, "several ranks may compute on one GPU; their gradients then go through the host's memory") \
    E("attention", attention, "mma", "mma|wgmma", "attention kernels on a GPU: mma, for all; wgmma, in bf16 on Hopper (compute capability 9.0), where head width and strides are multiples of 8") \
    K(INT, "threads", threads, 0, 0, 1024, "CPU threads; 0: all processors") \
    K(BOOL, "bf16", bf16, false, 0, 1, "compute in bfloat16 with float32 accumulation; master_weights says what is kept besides") \
    K(INT, "memory_limit_mib", memory_limit_mib, 0, 0, 1000000000, "refuse to start above this; 0: what the machine has free") \
    S("Training", "Schedule and optimizer.")                                                       \
    K(INT, "max_steps", max_steps, 1000, 0, 1000000000, "optimizer steps of the stage") \
    K(FLOAT, "num_train_epochs", num_train_epochs, 0, 0, 1000000, "passes over the train pictures instead of max_steps; 0: max_steps counts") \
    K(FLOAT, "learning_rate", learning_rate, 2e-5, 0, 10, "peak learning rate") \
    K(FLOAT, "mm_projector_lr", mm_projector_lr, 0, 0, 10, "projector's own peak rate; 0: learning_rate") \
    K(FLOAT, "vision_tower_lr", vision_tower_lr, 0, 0, 10, "vision tower's own peak rate; 0: learning_rate") \
    E("lr_scheduler_type", lr_scheduler_type, "cosine", "cosine|linear|constant|warmup_stable_decay", "shape of the rate after warm-up; warmup_stable_decay: flat, then linear from lr_decay_start on") \
    K(FLOAT, "warmup_ratio", warmup_ratio, 0.03, 0, 1, "share of max_steps that warms up") \
    K(INT, "warmup_steps", warmup_steps, 0, 0, 1000000000, "warm-up steps; wins over warmup_ratio where above 0") \
    K(FLOAT, "lr_decay_start", lr_decay_start, 0.6, 0, 1, "share of the steps after which warmup_stable_decay falls") \
    K(FLOAT, "min_lr_ratio", min_lr_ratio, 0, 0, 1, "final rate as a share of the peak") \
    E("optim", optim, "adamw", "adamw|adamw_bf16|adamw_8bit", "AdamW, its moments in float32, in bfloat16, or in 8 bits with a scale for each 256 elements; tensors of under 4096 elements keep float32; the same for all stages") \
    E("master_weights", master_weights, "f32", "f32|none", "with bf16: true, what steps add up in: float32 values in two halves, of which layers read the bfloat16 one, or bfloat16 alone with stochastic rounding (norms, biases and positions stay float32); the same for all stages") \
    K(FLOAT, "weight_decay", weight_decay, 0, 0, 10, "decoupled weight decay of matrices") \
    K(FLOAT, "adam_beta1", adam_beta1, 0.9, 0, 1, "AdamW first-moment decay") \
    K(FLOAT, "adam_beta2", adam_beta2, 0.999, 0, 1, "AdamW second-moment decay") \
    K(FLOAT, "adam_epsilon", adam_epsilon, 1e-8, 0, 1, "AdamW denominator term") \
    K(FLOAT, "max_grad_norm", max_grad_norm, 1, 0, 1e9, "clip to this global norm; 0: no clip") \
    K(INT, "lanes", lanes, 1, 1, 1024, "packed batches of a step; their gradients are summed in one fixed tree") \
    E("balance", balance, "none", "none|tokens", "of link-context: the samples of a step go to its lanes by their numbers, or so that lanes, and ranks of lanes, have about as many tokens; the same for any number of ranks") \
    K(INT, "per_device_train_batch_size", per_device_train_batch_size, 4, 1, 65536, "samples (episodes, pictures, sequences) in a lane") \
    K(INT, "gradient_accumulation_steps", gradient_accumulation_steps, 1, 1, 65536, "rounds of lanes before an optimizer step") \
    E("gradient_checkpointing", gradient_checkpointing, "false", "false|mlp|true", "what the backward recomputes to need less memory: nothing; the wide half of each layer; whole layers, of which inputs alone are kept") \
    K(BOOL, "freeze_vision_tower", freeze_vision_tower, true, 0, 1, "leave the vision tower as it is (its features are then computed once)") \
    K(BOOL, "freeze_projector", freeze_projector, false, 0, 1, "leave the projector as it is") \
    K(BOOL, "freeze_text", freeze_text, false, 0, 1, "leave the language model as it is") \
    K(BOOL, "cache_features", cache_features, true, 0, 1, "with a frozen tower: keep its features in an HDF5 cache keyed by content and weights") \
    K(FLOAT, "stop_at_loss", stop_at_loss, 0, 0, 1e9, "end the stage once the mean loss of the last logging interval is below this; 0: never") \
    K(FLOAT, "stop_at_accuracy", stop_at_accuracy, 0, 0, 1, "end the stage once the train accuracy on label tokens of the last logging interval is above this; 0: never") \
    K(INT, "min_steps", min_steps, 0, 0, 1000000000, "a stage ends early only after this many steps") \
    K(INT, "logging_steps", logging_steps, 10, 1, 1000000000, "steps between lines of metrics.jsonl") \
    K(INT, "eval_steps", eval_steps, 0, 0, 1000000000, "steps between evaluations during training; 0: none") \
    K(INT, "eval_episodes", eval_episodes, 100, 1, 1000000, "episodes a shot count of an evaluation during training") \
    K(INT, "save_steps", save_steps, 500, 0, 1000000000, "steps between checkpoints; 0: only at the end of a stage") \
    K(INT, "save_total_limit", save_total_limit, 2, 1, 1000, "checkpoints kept, the best one besides") \
    K(BOOL, "save_async", save_async, true, 0, 1, "training goes on from a snapshot in memory while a checkpoint is written; false, or where memory does not suffice: it waits") \
    S("Ranks", "Several processes that train one model, started by mpirun or srun: docs/scale.md.") \
    K(INT, "zero", zero, 0, 0, 3, "what ranks keep a share of alone: 0 nothing; 1 optimizer states; 2 gradients too; 3 parameters too; the same for all stages") \
    K(BOOL, "deterministic", deterministic, false, 0, 1, "losses are the same, bit for bit, for any number of ranks: gradients of lanes are sent apart where the ranks' lanes are no nodes of their tree, and norms are summed in 192 pieces a tensor") \
    K(INT, "bucket_mb", bucket_mb, 25, 0, 65536, "MiB of gradients that ranks exchange at once, whole layers; 0: each layer by itself") \
    K(INT, "comm_timeout_s", comm_timeout_s, 600, 1, 1000000, "seconds that a rank waits for the gradients or values of another that is alive, before the job ends with an error") \
    K(INT, "rank_timeout_s", rank_timeout_s, 40, 2, 100000, "seconds without a sign of life of a rank, after which the job ends with an error") \
    S("Adapters", "LoRA: low-rank changes of linear layers, the rest as it is.")                         \
    K(INT, "lora.rank", lora_rank, 0, 0, 4096, "rank of the adapters, which alone train in link-context stages (those of a part that a freeze_ key names stay as they are); other tasks train the base, as ever; 0: none; this and the two keys below are the same for all stages") \
    K(FLOAT, "lora.alpha", lora_alpha, 16, 0, 1e6, "what an adapter adds is scaled by alpha / rank") \
    K(FLOAT, "lora.dropout", lora_dropout, 0, 0, 0.99, "share of an adapter's inputs that a training step drops, the rest scaled up") \
    K(STR, "lora.targets", lora_targets, "language_model.*.q_proj,language_model.*.v_proj", 0, 0, "linear layers that get one: a comma list of module names or their ends, * for any letters, [8-15] for a number; lcl inspect lists the names of a model") \
    E("lora.base", lora_base, "plain", "plain|q8_0|q4_0", "how the linear layers under the adapters are kept, which then never train (QLoRA): as the rest, by bf16 and master_weights; or in blocks of 32 elements with one float16 scale, of 8 or 4 bits each; layers whose inputs are no multiple of 32 stay plain; the same for all stages, which are all of link-context then") \
    K(STR, "lora.adapter", lora_adapter, "", 0, 0, "PEFT adapter folder that the adapters begin with, of the rank, alpha and targets that it says; lcl eval, generate, classify and export put it on a model that has none (--set lora.adapter=DIR)") \
    S("Model", "Shapes of a model made from scratch; a loaded one brings its own.")                \
    K(INT, "vision.image_size", vision_image_size, 224, 1, 4096, "side of the square input in pixels") \
    K(INT, "vision.patch_size", vision_patch_size, 14, 1, 4096, "side of a patch in pixels") \
    K(INT, "vision.hidden_size", vision_hidden_size, 1024, 4, 65536, "width of the vision tower") \
    K(INT, "vision.intermediate_size", vision_intermediate_size, 4096, 4, 262144, "feed-forward width of the vision tower") \
    K(INT, "vision.num_hidden_layers", vision_num_hidden_layers, 24, 1, 512, "layers of the vision tower") \
    K(INT, "vision.num_attention_heads", vision_num_attention_heads, 16, 1, 512, "attention heads of the vision tower") \
    E("vision.hidden_act", vision_hidden_act, "quick_gelu", "gelu|quick_gelu", "activation of the vision tower") \
    K(FLOAT, "vision.layer_norm_eps", vision_layer_norm_eps, 1e-5, 0, 1, "epsilon of its layer norms") \
    K(INT, "text.vocab_size", text_vocab_size, 0, 0, 16777216, "rows of the decoder's embedding and head where it is made anew, or planned without its weights; 0: as many as the tokenizer has tokens") \
    K(INT, "text.hidden_size", text_hidden_size, 4096, 4, 65536, "width of the decoder") \
    K(INT, "text.intermediate_size", text_intermediate_size, 11008, 4, 262144, "feed-forward width of the decoder") \
    K(INT, "text.num_hidden_layers", text_num_hidden_layers, 32, 1, 512, "layers of the decoder") \
    K(INT, "text.num_attention_heads", text_num_attention_heads, 32, 1, 512, "query heads of the decoder") \
    K(INT, "text.num_key_value_heads", text_num_key_value_heads, 0, 0, 512, "key/value heads; 0: as many as query heads") \
    K(FLOAT, "text.rope_theta", text_rope_theta, 10000, 1, 1e12, "base of the rotary frequencies") \
    K(FLOAT, "text.rms_norm_eps", text_rms_norm_eps, 1e-5, 0, 1, "epsilon of its RMS norms") \
    K(INT, "text.max_position_embeddings", text_max_position_embeddings, 2048, 1, 100000000, "positions it was made for; longer episodes warn once") \
    K(BOOL, "text.tie_word_embeddings", text_tie_word_embeddings, false, 0, 1, "the head shares the embedding table") \
    K(FLOAT, "text.embed_std", text_embed_std, 0, 0, 100, "deviation of the embedding table at the start; 0: 0.02") \
    K(FLOAT, "text.head_std", text_head_std, 0, 0, 100, "deviation of the head at the start; 0: 0.02") \
    E("init_scheme", init_scheme, "normal02", "normal02|fan_in", "weights at the start: N(0, 0.02), or N(0, 1/fan_in) with residual outputs divided by sqrt(2 layers)") \
    E("mm_projector_type", mm_projector_type, "mlp2x_gelu", "linear|mlp2x_gelu|qformer", "projector from image features to token embeddings; qformer: BLIP-2's, whose learned queries attend to the features and are the picture's tokens") \
    K(INT, "qformer.num_query_tokens", qformer_num_query_tokens, 32, 1, 4096, "query tokens, and so tokens a picture, of mm_projector_type: qformer") \
    K(INT, "qformer.hidden_size", qformer_hidden_size, 768, 4, 65536, "width of the Q-Former") \
    K(INT, "qformer.intermediate_size", qformer_intermediate_size, 3072, 4, 262144, "feed-forward width of the Q-Former") \
    K(INT, "qformer.num_hidden_layers", qformer_num_hidden_layers, 12, 1, 512, "layers of the Q-Former") \
    K(INT, "qformer.num_attention_heads", qformer_num_attention_heads, 12, 1, 512, "attention heads of the Q-Former") \
    K(INT, "qformer.cross_attention_frequency", qformer_cross_attention_frequency, 2, 1, 512, "every so many-th layer attends to the image features, from the first on") \
    K(FLOAT, "qformer.layer_norm_eps", qformer_layer_norm_eps, 1e-12, 0, 1, "epsilon of its layer norms") \
    K(INT, "mm_vision_select_layer", mm_vision_select_layer, -2, -512, 512, "hidden states that are the image features: -1 the last layer's, -2 those of the one before") \
    E("mm_vision_select_feature", mm_vision_select_feature, "patch", "patch|cls_patch", "patch drops the class token") \
    E("mm_image_pool", mm_image_pool, "none", "none|mean|2x2", "image features a picture: every patch, one, or four; each is a token of the decoder, but with a Q-Former") \
    K(BOOL, "mm_standardize", mm_standardize, false, 0, 1, "standardise image features by constants measured on the train pictures (folds into the projector on export)") \
    K(STR, "tokenizer", tokenizer, "", 0, 0, "tokenizer.json; empty: that of init_from, else a small one is made from the templates") \
    K(INT, "model_max_length", model_max_length, 0, 0, 100000000, "longest sequence in tokens, an error above it (data.too_long has other choices for conversations); 0: no limit") \
    S("Data", "Pictures and episodes; docs/strategies.md has the laws of the draws.")                    \
    K(STR, "data.pack", data_pack, "", 0, 0, "HDF5 pack made by lcl pack") \
    K(STR, "data.neighbors", data_neighbors, "", 0, 0, "neighbor table made by lcl neighbors; empty: the pack's own") \
    K(STR, "data.table", data_table, "", 0, 0, "train table in place of a pack: JSON lines of classes, pictures by path and neighbors, as the official one (docs/formats.md)") \
    K(STR, "data.images", data_images, "pack", 0, 0, "pack: the pack's own; a folder: where the paths of data.table begin, or where the tar archives lie that hold its pictures (ImageNet as it is downloaded, WebDataset shards; also an archive, or a pattern of them); none: episodes are drawn and printed (lcl inspect CONFIG --episodes), never trained on") \
    E("data.reading", data_reading, "paper", "paper|official", "whose laws where paper and official code differ: what shots count and how they are drawn, length of the neighbor table, pictures drawn once or with replacement (the table of docs/strategies.md)") \
    E("data.strategy", data_strategy, "2-way", "2-way|2-way-random|2-way-weight|n-way|mix|ref|ref_or_weight|jigsaw|any-shot", "how an episode's shots and classes are drawn; mix: 2-way, and exactly half of the samples of every step are rows of data.sources instead; ref: pictures have names, and the names of those of the query's class are asked for; ref_or_weight: ref or 2-way by a fair coin; jigsaw: a picture's tiles, and where each stands in the picture that they make in another order; any-shot: conversations of data.tasks, every answer supervised (docs/any-shot.md)") \
    K(STR, "data.tasks", data_tasks, "classes=1", 0, 0, "any-shot: what conversations are about, a comma list of TASK=WEIGHT: classes (data.ways classes, any), fine (a class and others like it), attributes (values of an attribute of data.task_file), rows (rows of one instruction of the packs of data.sources)") \
    K(STR, "data.task_file", data_task_file, "", 0, 0, "any-shot: file of questions, answers' wording and attributes (docs/formats.md); empty: questions of our own, and no attributes") \
    E("data.coherence", data_coherence, "concept", "concept|task|none", "any-shot: what a conversation's turns share: task, instruction and the classes or values with their labels; task and instruction, classes drawn anew for each turn; nothing. Labels are made up with concept alone, elsewhere nothing could tell them") \
    K(INT, "data.turns", data_turns, 9, 1, 64, "any-shot: turns of a conversation, the most of a draw, which trains up to one shot less") \
    K(INT, "data.min_turns", data_min_turns, 1, 1, 64, "any-shot: the fewest of a draw; every number between is equally likely") \
    K(STR, "data.formats", data_formats, "plain", 0, 0, "any-shot: forms of answers, of which a conversation draws one that only its turns show: a comma list of plain, upper (capitals), prefix and suffix (a made-up word before or after), reversed (letter by letter)") \
    K(INT, "data.fine_neighbors", data_fine_neighbors, 10, 1, 100000, "any-shot: classes of task fine are one and some of this many most similar to it") \
    K(STR, "data.sources", data_sources, "", 0, 0, "what samples are drawn from, a comma list of PATH=WEIGHT: packs of rows made by lcl pack, the word episodes for link-context episodes, or a strategy's own word for episodes of that one; empty: episodes alone") \
    E("data.mixing", data_mixing, "draw", "draw|even|exhaust", "of data.sources: each sample draws its source by weight; sources take turns; by weight, and all rows are shuffled anew when the first source is exhausted") \
    K(INT, "data.shots", data_shots, 16, 1, 100000, "support pictures in all, the most of a draw") \
    K(INT, "data.min_shots", data_min_shots, 2, 1, 100000, "the fewest of a draw") \
    K(INT, "data.shots_per_class", data_shots_per_class, 0, 0, 100000, "other spelling of shots: of each class; 0: data.shots counts") \
    K(INT, "data.ways", data_ways, 2, 2, 64, "classes in an n-way episode") \
    K(INT, "data.queries", data_queries, 1, 1, 4096, "query pictures that share one support set") \
    K(INT, "data.num_neighbors", data_num_neighbors, 100, 1, 100000, "J: length of the neighbor table used (fewer where there are fewer classes)") \
    K(INT, "data.refresh_neighbors", data_refresh_neighbors, 0, 0, 100000000, "every so many steps of a stage in which the tower trains, training draws from a neighbor table made anew of the model's own features (docs/strategies.md); 0: never") \
    K(INT, "data.refresh_images", data_refresh_images, 100, 0, 100000000, "pictures of a class, evenly spread over it, that such a table is made of; 0: all") \
    E("data.refresh_cut", data_refresh_cut, "rank", "rank|intervals", "its neighbors of a class: the data.num_neighbors most similar, or one drawn of each of so many equal intervals of all others") \
    K(FLOAT, "data.hard_fraction", data_hard_fraction, 1, 0, 1, "share of episodes whose negatives come from the neighbor table; the rest are uniform") \
    K(FLOAT, "data.repeat_query_start", data_repeat_query_start, 0, 0, 1, "probability, at the stage's start, that the query repeats a support picture exactly") \
    K(FLOAT, "data.repeat_query_end", data_repeat_query_end, 0, 0, 1, "the same at the stage's end; linear between") \
    E("data.positive_label", data_positive_label, "made_up", "made_up|name|swapped|number", "what the positive class is called: made-up letters, its own name, the name of the episode's next class, a number") \
    E("data.negative_label", data_negative_label, "name", "made_up|name|swapped|number", "what the negative classes are called") \
    K(FLOAT, "data.made_up_fraction", data_made_up_fraction, 0, 0, 1, "share of episodes in which every class has a made-up label") \
    K(FLOAT, "data.false_rate", data_false_rate, 0, 0, 1, "share of an episode's support pictures whose label is another class's") \
    K(INT, "data.false_position", data_false_position, 0, 0, 100000, "the support picture, counted from 1, that shows another class's label; 0: none") \
    K(FLOAT, "data.zero_shot_fraction", data_zero_shot_fraction, 0, 0, 1, "share of episodes without a support set, whose classes go by their own names") \
    K(INT, "data.label_min_letters", data_label_min_letters, 1, 1, 64, "shortest made-up label") \
    K(INT, "data.label_max_letters", data_label_max_letters, 10, 1, 64, "longest made-up label") \
    E("data.supervise", data_supervise, "last", "last|repeats|all", "loss on the query's answer only, on every answer from each label's second appearance on, or on every answer") \
    E("data.layout", data_layout, "plain", "plain|vicuna|terse|llama-2|llama-3|chatml|official", "text around pictures and labels: a question a turn; Vicuna's roles; the picture, is and the label alone; other formats of chat.template; official: data.template's texts, id for id as the official code tokenises them, turn by turn") \
    K(STR, "data.template", data_template, "", 0, 0, "file of texts in place of data.layout's: lcl import templates makes one, docs/formats.md has its form") \
    E("data.too_long", data_too_long, "refuse", "refuse|drop|shorten", "a conversation over model_max_length: an error; left out, and counted, another row in its place; shortened at its end, but never by a token of a picture") \
    E("data.duplicate_names", data_duplicate_names, "error", "error|allow", "two classes of one name: refuse, or never pair them") \
    K(INT, "data.augment_views", data_augment_views, 1, 1, 64, "augmented views of each picture (1: as it is)") \
    E("data.resize", data_resize, "crop", "crop|pad", "shortest edge and centre crop, or pad to a square") \
    K(STR, "data.background", data_background, "128,128,128", 0, 0, "R,G,B behind transparent pictures and in padding") \
    S("Language pretraining", "task: language.")                                                   \
    K(INT, "language.length", language_length, 64, 2, 1000000, "tokens of a sequence") \
    K(INT, "language.min_segment", language_min_segment, 6, 1, 1000000, "shortest repeated segment") \
    K(INT, "language.max_segment", language_max_segment, 32, 1, 1000000, "longest repeated segment") \
    K(INT, "language.few_distinct", language_few_distinct, 0, 0, 1000000, "above 0: every second sequence, on average, is made of only this many different tokens or up to eight times as many, so that copying needs more than the token before, and the labels of every second recall sequence of 2 to 6 letters; 0: all tokens always") \
    K(FLOAT, "language.recall_fraction", language_recall_fraction, 0, 0, 1, "share of sequences that are link-context text without pictures: a random token stands where a picture would, and its label is asked for again; the others are repeats") \
    K(INT, "language.recall_ways", language_recall_ways, 4, 2, 64, "most such tokens in a sequence") \
    K(INT, "language.recall_shots", language_recall_shots, 8, 2, 100000, "most turns before the last of a sequence") \
    K(INT, "language.recall_gap", language_recall_gap, 1000, 0, 1000, "most words between such a token and its label; from sequence to sequence it is the last 0, 1, ... of the layout's words, all of them at most") \
    S("Vision warm-up", "task: vision.")                                                           \
    K(FLOAT, "classifier.scale", classifier_scale, 16, 0, 1000, "scale of the cosine logits") \
    K(INT, "classifier.shift", classifier_shift, 2, 0, 1000, "largest shift of the augmentation in pixels") \
    K(FLOAT, "classifier.jitter", classifier_jitter, 0.1, 0, 1, "largest change of brightness and contrast") \
    S("Evaluation", "lcl eval and the evaluations during training.")                               \
    L("eval.shots", eval_shots, "2,4,8,16", 0, 100000, "shot counts (support pictures in all)") \
    K(INT, "eval.episodes", eval_episodes_full, 1000, 1, 100000000, "support sets a shot count") \
    K(INT, "eval.queries", eval_queries, 1, 1, 100000, "queries a support set") \
    E("eval.split", eval_split, "test", "train|test", "classes that are asked for") \
    E("eval.negatives", eval_negatives, "hardest", "hardest|table|random", "negative class: one of the most similar of the same split, drawn from its table, or any") \
    K(INT, "eval.hard_neighbors", eval_hard_neighbors, 5, 1, 100000, "hardest: the negative is one of this many most similar classes, each equally likely; 1: always the most similar") \
    K(FLOAT, "eval.false_rate", eval_false_rate, 0, 0, 1, "data.false_rate of evaluations") \
    K(INT, "eval.false_position", eval_false_position, 0, 0, 100000, "data.false_position of evaluations") \
    E("eval.task", eval_task, "classes", "classes|fine|attributes|rows", "of data.strategy: any-shot: what is asked about (data.tasks has the words)") \
    E("eval.format", eval_format, "plain", "plain|upper|prefix|suffix|reversed", "of data.strategy: any-shot: the form of answers, which the shots show (data.formats has the words)") \
    K(INT, "eval.max_new_tokens", eval_max_new_tokens, 32, 1, 4096, "longest greedy answer in tokens") \
    K(INT, "eval.seed", eval_seed, 1, 0, 4294967295, "seed of the evaluation episodes") \
    S("Conversations", "lcl chat, lcl generate --prompt, and the template of an export.")          \
    E("chat.template", chat_template, "auto", "auto|plain|vicuna|llama-2|llama-3|chatml", "roles and separators; auto: chatml or llama-3 where the tokenizer has their tokens, else vicuna (v1.1); plain: nothing around the words") \
    K(STR, "chat.system", chat_system, "", 0, 0, "system message before a conversation; empty: none")
