/* llama.cpp's side of count_tokens.py: loads a GGUF, runs the work twice with one thread, marks around the second.
 *
 *     llama_cpp_tokens MODEL.gguf prefill|decode TOKENS
 *
 * prefill: one call of TOKENS ids on an empty cache; decode: TOKENS calls of one id each from an empty cache; logits of
 * the last row of each call. Flash attention and the F16 cache, as engines_llama_cpp.py has them. */
#include "llama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void silent(enum ggml_log_level level, const char *text, void *data)
{
    (void)level, (void)text, (void)data;
}

/* The ids of token_ids.py. */
static llama_token token(int index) { return 1 + (llama_token)((long)index * 7919 % 30000); }

/* One call with `count` ids from `position`; exits where llama.cpp fails. */
static void run(struct llama_context *context, struct llama_batch *batch, int position, int count)
{
    batch->n_tokens = count;
    for (int i = 0; i < count; i++) {
        batch->token[i] = token(position + i);
        batch->pos[i] = position + i;
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = 0;
        batch->logits[i] = i == count - 1;
    }
    if (llama_decode(context, *batch) != 0)
        exit(1);
}

static void work(struct llama_context *context, struct llama_batch *batch, int prefill, int tokens)
{
    llama_memory_clear(llama_get_memory(context), true);
    if (prefill)
        run(context, batch, 0, tokens);
    for (int i = 0; !prefill && i < tokens; i++)
        run(context, batch, i, 1);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const int prefill = strcmp(argv[2], "prefill") == 0, tokens = atoi(argv[3]);
    llama_log_set(silent, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 512;
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    struct llama_context *context = model ? llama_init_from_model(model, params) : NULL;
    if (!context)
        return 1;
    struct llama_batch batch = llama_batch_init(512, 0, 1);
    work(context, &batch, prefill, tokens);
    getpgid(0);
    work(context, &batch, prefill, tokens);
    getpgid(0);
    printf("%s\n", llama_print_system_info());
    return 0;
}
