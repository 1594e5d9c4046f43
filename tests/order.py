"""Which files of tests start first, and which cases are left to `make test-long`. The other files follow by name.

Of the quick tests those that take longest, so that the two processes of `make test` end together. Of the long ones
those that matter most to a user, because CI's time may not last for all of them: whole jobs on real data, training on
several processes, then each way through MindSpore's Ascend backend; single operators of the emulated Ascend come last.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

FIRST = (
    "test_code_alpaca.py",
    "test_families_end_to_end.py",
    "train/test_runs.py",
    "peft/test_lora_runs.py",
    "parallel/test_data_parallel.py",
    "parallel/test_layouts.py",
    "launch/test_faults.py",
    "ascend/test_run_wizardcoder.py",
    "ascend/test_models_training.py",
    "ascend/test_models_generation.py",
    "parallel/test_lora_layouts.py",
    "parallel/test_process_groups.py",
    "ascend/test_ascend_layouts.py",
    "ascend/test_models_engine.py",
    "ascend/test_serve_ascend.py",
    "ascend/test_launch_ascend.py",
    "ascend/test_mindformers_ascend.py",
    "ascend/test_models_steps.py",
    "train/test_preference.py",
    "peft/test_lora.py",
    "launch/test_launcher.py",
    "interop/test_mindformers.py",
    "interop/test_upstream.py",
)
PLACE = {name: index for index, name in enumerate(FIRST)}


def place(path: str) -> int:
    """Of a file under tests/ among those that start first; behind them for any other, single operators last."""
    return PLACE.get(path, len(PLACE) + path.startswith("ascend/test_operators"))


# Further cases of tests that `make test` has, and whole runs that take a minute: marked `long`. Patterns of fnmatch for
# a test's name after "tests/".
LONG = (
    "api/test_loaded_model.py::test_logits_with_mindspores_own_operators_too",
    "backend/test_documents.py::test_results_and_gradients_equal_those_with_a_mask[[]*0]",
    "backend/test_documents.py::test_results_and_gradients_equal_those_with_a_mask[[]None]",
    "backend/test_quant_operators.py::test_value_and_gradient[[]0-*float16]",
    "backend/test_quant_operators.py::test_value_and_gradient[[]48-False-*]",
    "bench/test_bench.py::test_the_reference_takes_the_original_flags",
    "checkpoint/gguf/test_gguf_runs.py::test_training_goes_on_from_the_file",
    "checkpoint/gguf/test_gguf_transformers.py::test_transformers_reads_the_file_with_our_logits[[]qwen*]",
    "checkpoint/gguf/test_gguf_transformers.py::test_transformers_reads_the_file_with_our_logits[[]starcoder2*]",
    "cli/test_errors.py::test_the_original_commands_end_to_end",
    "docs/test_python_page.py::test_the_notebook_runs_cell_by_cell",
    "evaluate/test_eval_code.py::test_shards_draw_what_one_process_draws",
    "families/test_config_json.py::test_logits_of_a_folder_in_transformers_5s_form[[]llama-scaling[13]]",
    "families/test_from_section.py::test_other_gelus_go_through_huggingfaces_config_and_generation[[]gelu]",
    "families/test_from_section.py::test_other_gelus_go_through_huggingfaces_config_and_generation[[]quick_gelu]",
    "families/test_gpt_bigcode.py::test_accumulated_micro_batches_equal_one_large_batch",
    "families/test_gpt_bigcode.py::test_logits_loss_and_gradients_equal_huggingface[[]*-gelu]",
    "families/test_gpt_bigcode.py::test_logits_loss_and_gradients_equal_huggingface[[]multi-head]",
    "families/test_llama.py::test_greedy_tokens_equal_huggingface_on_a_ragged_batch[[]multi-head tied]",
    "families/test_llama.py::test_logits_loss_and_gradients_equal_huggingface[[]multi-query biases]",
    "families/test_phi3.py::test_greedy_tokens_equal_huggingface_on_a_ragged_batch[[]longrope]",
    "families/test_qwen2.py::test_greedy_tokens_equal_huggingface_on_a_ragged_batch[[]multi-*]",
    "families/test_qwen2.py::test_logits_loss_and_gradients_equal_huggingface[[]multi-query window]",
    "families/test_qwen2.py::test_recomputation_gives_the_same_gradients",
    "families/test_starcoder2.py::test_logits_loss_and_gradients_equal_huggingface[[]window untied]",
    "families/test_starcoder2.py::test_recomputation_gives_the_same_gradients",
    "generate/test_adapters.py::test_a_prompts_cache_serves_its_own_adapter_only[[]composed]",
    "generate/test_adapters.py::test_each_request_gets_the_tokens_of_its_adapter[[]*-starcoder2]",
    "generate/test_adapters.py::test_each_request_gets_the_tokens_of_its_adapter[[]composed-gpt_bigcode]",
    "generate/test_adapters.py::test_each_request_gets_the_tokens_of_its_adapter[[]composed-llama]",
    "generate/test_end_tokens.py::test_any_of_several_end_tokens_ends_an_answer[[]generation_config.json]",
    "generate/test_int8_cache.py::test_logits_are_near_those_of_floats_and_equal_in_both_paths[[]gpt_bigcode]",
    "generate/test_int8_cache.py::test_logits_are_near_those_of_floats_and_equal_in_both_paths[[]starcoder2]",
    "generate/test_native.py::test_a_sequences_logits_have_the_same_bits_whatever_is_beside_it[[]*grouped]",
    "generate/test_native.py::test_a_sequences_logits_have_the_same_bits_whatever_is_beside_it[[]multi-head]",
    "generate/test_native.py::test_a_sequences_logits_have_the_same_bits_whatever_is_beside_it[[]wide head]",
    "generate/test_native.py::test_logits_equal_those_of_mindspores_operators[[]*head]",
    "generate/test_native.py::test_logits_equal_those_of_mindspores_operators[[]grouped]",
    "generate/test_native.py::test_logits_equal_those_of_mindspores_operators[[]window]",
    "generate/test_scheduling.py::test_a_cancelled_request_leaves_at_once_and_the_others_go_on[[]composed]",
    "generate/test_scheduling.py::test_a_full_cache_makes_requests_wait_and_loses_none[[]composed]",
    "generate/test_scheduling.py::test_prompts_that_begin_alike_share_their_beginning[[]composed]",
    "generate/test_scheduling.py::test_sampling_goes_on_where_it_was_when_a_sequence_had_to_start_over[[]composed]",
    "generate/test_speculative.py::test_a_model_that_drafts_for_itself_is_always_right",
    "generate/test_speculative.py::test_the_tokens_are_transformers_greedy_ones[[]gpt_bigcode]",
    "generate/test_speculative.py::test_the_tokens_are_transformers_greedy_ones[[]starcoder2]",
    "interop/test_mindformers.py::test_trainer_trains",
    "interop/test_upstream.py::test_losses_of_the_first_steps_lie_where_ascends_lie[[]2]",
    "models/test_loss.py::test_loss_and_gradients_equal_pytorch_whatever_the_chunks[[]53]",
    "models/test_padded_vocabulary.py::test_training_generation_and_export_ignore_the_padding[[]gpt_bigcode]",
    "models/test_weight_methods.py::test_training_on_an_int8_base_follows_the_dequantized_one[[]*]",
    "peft/test_lora.py::test_logits_loss_and_gradients_equal_pefts[[]gpt_bigcode-False-False]",
    "peft/test_lora.py::test_logits_loss_and_gradients_equal_pefts[[]llama-False-True]",
    "peft/test_lora.py::test_logits_loss_and_gradients_equal_pefts[[]llama-True-False]",
    "peft/test_lora.py::test_logits_loss_and_gradients_equal_pefts[[]starcoder2-*]",
    "peft/test_lora.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[[]llama, DoRA]",
    "peft/test_lora.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[[]llama, some]",
    "peft/test_lora.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[[]multi-head]",
    "peft/test_lora.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[[]multi-query*]",
    "peft/test_lora.py::test_the_first_step_has_the_base_models_loss_and_dropout_changes_it",
    "peft/test_lora.py::test_twenty_steps_follow_peft_and_leave_the_base_alone[[]llama-True]",
    "peft/test_lora_runs.py::test_a_prefix_is_learned_resumed_and_used",
    "peft/test_lora_runs.py::test_an_adapter_is_trained_on_codes",
    "peft/test_lora_runs.py::test_an_adapter_is_trained_on_integers_which_are_not_trained_themselves",
    "train/test_preference.py::test_an_adapter_learns_which_answers_are_preferred_and_resumes[[]dpo]",
    "train/test_preference.py::test_loss_and_gradients_equal_trls[[]dpo, smoothed-gpt_bigcode-False]",
    "train/test_preference.py::test_loss_and_gradients_equal_trls[[]dpo-gpt_bigcode-False]",
    "train/test_preference.py::test_loss_and_gradients_equal_trls[[]simpo-*]",
)


def is_long(name: str) -> bool:
    """Whether a test, by its name after "tests/", is one of `LONG`."""
    return any(fnmatchcase(name, pattern) for pattern in LONG)
