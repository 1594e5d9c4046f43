"""Which files of tests start first, and which cases are left to `make test-long`. The other files follow by name.

Of the quick tests those that take longest, so that the two processes of `make test` end together. Of the long ones
those that matter most to a user, because CI's time may not last for all of them: whole jobs on real data, training on
several processes, then each way through MindSpore's Ascend backend; single operators of the emulated Ascend come last,
and behind all of them the further cases of tests that `make test` has had one case of.
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


# Marked `long`. Patterns of `fnmatch` for a test's name after "tests/", where [ and ] are no wildcards; a group has a
# quick representative of what its tests check, which its comment names where it is not a case of the same test.
FURTHER_CASES = (
    # W8A8: every path's tokens are quick. NF4: GPT-BigCode's logits; W8A16: asymmetric groups of GPT-BigCode.
    "models/test_w8a8.py::test_shards_add_up_to_the_whole[gpt_bigcode]",
    "quantization/test_w8a8_verbs.py::test_serve_answers_as_the_model_does_alone[static]",
    "quantization/test_static_activations.py::test_both_formats_hold_the_range_and_answer_alike[llama]",
    "models/test_nf4.py::test_logits_and_tokens_are_those_of_the_numbers[llama]",
    "models/test_nf4.py::test_logits_and_tokens_are_those_of_the_numbers[starcoder2]",
    "models/test_weight_only.py::test_logits_and_tokens_are_those_of_the_values[llama-w8a16]",
    "models/test_weight_methods.py::test_generation_with_int8_weights_is_that_of_the_dequantized_model[True]",
    "quantization/test_calibrated.py::test_layers_with_a_large_error_fall_back_with_those_beside_them",
    "quantization/test_kv_scales.py::test_transformers_rounds_keys_and_values_alike[llama]",
    # Training: a run's resumption and losses, loss and gradients of each method are quick.
    "train/test_packed_loss.py::test_steps_of_changing_length_train_as_those_of_one_length",
    "train/test_stages.py::test_two_stages_are_the_whole_network_and_compile_once[gpt_bigcode]",
    "train/test_parts.py::test_recomputation_changes_nothing[0.2]",
    "train/test_parts.py::test_float16_overflow_skips_the_update_and_a_smaller_scale_trains",
    "train/test_objectives.py::test_a_new_objective_needs_no_change_of_the_step[True]",
    "train/test_text_formats.py::test_adapters_carry_it_through_merging_and_peft",
    "train/test_text_formats.py::test_a_wizardcoder_trained_llama_is_asked_in_its_template_wherever_it_goes",
    "train/test_identity.py::test_an_allowed_change_is_said_and_taken",
    "train/test_health.py::test_with_patience_it_is_skipped",
    "train/test_preference.py::test_pairs_and_texts_are_not_taken_for_each_other",
    "models/test_padded_vocabulary.py::test_training_generation_and_export_ignore_the_padding[llama]",
    "parallel/test_context_parallel.py::test_the_parts_of_packed_rows_attend_as_the_whole_does[4-3-None]",
    "peft/test_lora.py::test_twenty_steps_follow_peft_and_leave_the_base_alone[llama-False]",
    "peft/test_prefix.py::test_two_layers_can_make_the_prefix_and_dropout_is_drawn_by_the_seed",
    "peft/test_prefix.py::test_generated_tokens_equal_pefts[llama-composed]",
    # The Python API and generation: a run's losses and checkpoint, a model's calls, several end tokens of a request.
    "api/test_api_runs.py::test_the_verbs_compute_the_same",
    "api/test_api_runs.py::test_a_run_goes_on_in_a_thread_where_it_may_and_is_not_replaced_unasked",
    "generate/test_end_tokens.py::test_any_of_several_end_tokens_ends_an_answer[config.json]",
    # A static cache of 8 bits: GPT-BigCode's logits and the engine in C++ are quick. Graphs of integers: W8A16 is.
    "generate/test_static_int8_cache.py::test_logits_are_those_of_a_model_with_rounded_keys_and_values[llama]",
    "generate/test_static_int8_cache.py::test_logits_are_those_of_a_model_with_rounded_keys_and_values[starcoder2]",
    "generate/test_static_int8_cache.py::test_engine_speculation_and_scores[operators]",
    "generate/test_static_int8_cache.py::test_a_learned_prefix_is_rounded_by_the_same_scales*",
    "generate/test_static_int8_cache.py::test_a_row_has_the_same_bits_beside_others",
    "mindir/test_export.py::test_graphs_of_integers_say_what_the_engine_says[w8a8 static]",
    "mindir/test_export.py::test_codes_of_nf4_become_floating_point_again",
    "mindir/test_shape_buckets.py::test_graphs_of_fixed_shapes_have_none",
    # Gradients, logits and tokens of a family beside transformers: one variant of each family is quick.
    "families/test_from_section.py::test_other_gelus_go_through_huggingfaces_config_and_generation[*gelu]",
    "families/test_gpt_bigcode.py::test_logits_loss_and_gradients_equal_huggingface[*-gelu]",
    "families/test_gpt_bigcode.py::test_logits_loss_and_gradients_equal_huggingface[multi-head]",
    "families/test_gpt_bigcode.py::test_greedy_tokens_equal_huggingface_on_a_ragged_batch[False]",
    "families/test_gpt_bigcode.py::test_accumulated_micro_batches_equal_one_large_batch",
    "families/test_llama.py::test_greedy_tokens_equal_huggingface_on_a_ragged_batch[grouped-query code-llama]",
    "families/test_llama.py::test_greedy_tokens_equal_huggingface_on_a_ragged_batch[l*]",
    "families/test_llama.py::test_greedy_tokens_equal_huggingface_on_a_ragged_batch[multi-head tied]",
    "families/test_llama.py::test_logits_loss_and_gradients_equal_huggingface[multi-query biases]",
    "families/test_phi3.py::test_longrope_beyond_the_original_length[longrope]",
    "families/test_starcoder2.py::test_greedy_tokens_equal_huggingface_on_a_ragged_batch[grouped-query tied]",
    "families/test_starcoder2.py::test_logits_loss_and_gradients_equal_huggingface[grouped-query tied]",
    "families/test_config_json.py::test_logits_of_a_folder_in_transformers_5s_form[llama-scaling1]",
    "families/test_config_json.py::test_logits_of_a_folder_in_transformers_5s_form[llama-scaling3]",
    "families/test_config_json.py::test_logits_of_a_folder_in_transformers_5s_form[*-None]",
    "families/test_config_json.py::test_logits_of_a_folder_in_transformers_5s_form[starcoder2-*]",
    # Recomputation: train/test_parts has the quick case with dropout, peft/test_prefix the one with a prefix.
    "families/test_*.py::test_recomputation_gives_the_same_gradients",
    "train/test_objectives.py::test_a_new_objective_needs_no_change_of_the_step[False]",
    "train/test_packed_loss.py::test_a_head_at_labeled_tokens_only_gives_the_same_loss_and_gradients[False]",
    "train/test_packed_loss.py::test_packed_rows_have_the_loss_of_the_records[starcoder2]",
    "train/test_parts.py::test_recomputation_changes_nothing[0.0]",
    # bfloat16 on CPU: the products are quick.
    "train/test_bfloat16_on_cpu.py::test_losses_of_a_hundred_steps_stay_within_a_hundredth_of_float32s[*]",
    # Preferences: one loss on one family is quick.
    "train/test_preference.py::test_loss_and_gradients_equal_trls[dpo, smoothed-gpt_bigcode-False]",
    "train/test_preference.py::test_loss_and_gradients_equal_trls[dpo-gpt_bigcode-False]",
    "train/test_preference.py::test_loss_and_gradients_equal_trls[simpo-*]",
    # Adapters and prefixes beside PEFT: gradients on Llama are quick, twenty steps of LoRA on Llama.
    "peft/test_lora.py::test_logits_loss_and_gradients_equal_pefts[gpt_bigcode-False-False]",
    "peft/test_lora.py::test_logits_loss_and_gradients_equal_pefts[llama-False-True]",
    "peft/test_lora.py::test_logits_loss_and_gradients_equal_pefts[llama-True-False]",
    "peft/test_lora.py::test_logits_loss_and_gradients_equal_pefts[starcoder2-*]",
    "peft/test_lora.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[llama, DoRA]",
    "peft/test_lora.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[llama, some]",
    "peft/test_lora.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[multi-*]",
    "peft/test_lora.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[starcoder2]",
    "peft/test_lora.py::test_twenty_steps_follow_peft_and_leave_the_base_alone[llama-True]",
    "peft/test_prefix.py::test_generated_tokens_equal_pefts[*-native]",
    "peft/test_prefix.py::test_logits_loss_and_gradients_equal_pefts[*-False]",
    "peft/test_prefix.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[llama]",
    "peft/test_prefix.py::test_peft_loads_what_we_write_and_we_load_what_it_writes[starcoder2]",
    "peft/test_prefix.py::test_twenty_steps_follow_peft_and_leave_the_base_alone",  # gradients here, steps in test_lora
    "peft/test_qlora.py::test_losses_are_pefts_on_the_dequantized_weights[gpt_bigcode-nf4]",
    "peft/test_qlora.py::test_losses_are_pefts_on_the_dequantized_weights[llama-int4]",
    # Quantized layers: each way to keep a weight, each dtype and each activation are in some quick case.
    "models/test_w8a8.py::test_adapters_on_integers_answer_the_same_in_every_path",
    "models/test_w8a8.py::test_lora_learns_on_integers",  # peft/test_qlora has one
    "models/test_w8a8.py::test_product_of_rounded_activations_and_gradient_of_plain_ones[GeluTanh-1-dynamic]",
    "models/test_w8a8.py::test_product_of_rounded_activations_and_gradient_of_plain_ones[None-1-dynamic]",
    "models/test_w8a8.py::test_product_of_rounded_activations_and_gradient_of_plain_ones[None-1-static]",
    "models/test_w8a8.py::test_product_of_rounded_activations_and_gradient_of_plain_ones[SwiGLU-2-static]",
    "models/test_w8a8.py::test_shards_add_up_to_the_whole[llama]",
    "models/test_weight_methods.py::test_a_layer_of_int8_has_the_gradients_of_its_dequantized_weight[GeluTanh-1]",
    "models/test_weight_methods.py::test_a_layer_of_int8_has_the_gradients_of_its_dequantized_weight[None-1]",
    "models/test_weight_methods.py::test_generation_with_int8_weights_is_that_of_the_dequantized_model[False]",
    "models/test_weight_methods.py::test_training_on_an_int8_base_follows_the_dequantized_one[*]",
    "models/test_weight_only.py::test_a_layer_of_integers_has_product_and_gradients_of_its_values[GeluTanh-1-8-*]",
    "models/test_weight_only.py::test_a_layer_of_integers_has_product_and_gradients_of_its_values[None-1-4-*]",
    "models/test_weight_only.py::test_a_layer_of_integers_has_product_and_gradients_of_its_values[None-1-8-3-True]",
    "models/test_weight_only.py::test_a_layer_of_integers_has_product_and_gradients_of_its_values[*-1-4-2-True]",
    "models/test_weight_only.py::test_a_layer_of_integers_has_product_and_gradients_of_its_values[SwiGLU-2-*-False]",
    "models/test_weight_only.py::test_logits_and_tokens_are_those_of_the_values[gpt_bigcode-w8a16-32-False]",
    "models/test_weight_only.py::test_logits_and_tokens_are_those_of_the_values[starcoder2-w4a16-32]",
    "models/test_weight_only.py::test_adapters_on_integers_answer_as_on_their_values",  # generate/test_adapters
    "models/test_weight_only.py::test_lora_steps_on_integers_are_those_on_their_values[*]",  # peft/test_qlora has one
    "backend/test_quant_operators.py::test_value_and_gradient[0-False-4-*]",
    "backend/test_quant_operators.py::test_value_and_gradient[0-False-8-*16]",
    "backend/test_quant_operators.py::test_value_and_gradient[0-True-4-*32]",
    "backend/test_quant_operators.py::test_value_and_gradient[0-True-4-float16]",
    "backend/test_quant_operators.py::test_value_and_gradient[0-True-8-*]",
    "backend/test_quant_operators.py::test_value_and_gradient[32-False-4-*32]",
    "backend/test_quant_operators.py::test_value_and_gradient[32-False-4-bfloat16]",
    "backend/test_quant_operators.py::test_value_and_gradient[32-False-8-*]",
    "backend/test_quant_operators.py::test_value_and_gradient[48-True-4-*]",
    "backend/test_quant_operators.py::test_value_and_gradient[48-True-8-*32]",
    "backend/test_quant_operators.py::test_value_and_gradient[48-True-8-float16]",
    "backend/test_quant_operators.py::test_value_and_gradient[64-True-4-*16]",
    "backend/test_quant_operators.py::test_value_and_gradient[64-True-8-*]",
    "quantization/test_calibrated.py::*[gpt_bigcode]",
    "quantization/test_calibrated.py::*[starcoder2]",
    "quantization/test_static_activations.py::*[gpt_bigcode]",
    "checkpoint/gguf/test_gguf_transformers.py::test_transformers_reads_the_file_with_our_logits[llama-q4_k_m]",
    "checkpoint/gguf/test_gguf_transformers.py::test_transformers_reads_the_file_with_our_logits[qwen*]",
    "checkpoint/gguf/test_gguf_transformers.py::test_transformers_reads_the_file_with_our_logits[starcoder2*]",
    "checkpoint/test_bitsandbytes.py::test_transformers_loads_what_is_written[gpt_bigcode]",
    "checkpoint/test_bitsandbytes.py::test_what_transformers_saves_is_read[gpt_bigcode-*]",
    "checkpoint/test_bitsandbytes.py::test_what_transformers_saves_is_read[llama-False]",
    "checkpoint/gguf/test_gguf_transformers.py::test_starcoder_answers_as_the_model_it_was_made_from",
    # Generation: the C++ operators are quick, the graphs of MindSpore's operators in part.
    "api/test_loaded_model.py::test_logits_with_mindspores_own_operators_too",
    "generate/test_adapters.py::test_a_prompts_cache_serves_its_own_adapter_only[composed]",
    "generate/test_adapters.py::test_each_request_gets_the_tokens_of_its_adapter[*-starcoder2]",
    "generate/test_adapters.py::test_each_request_gets_the_tokens_of_its_adapter[*-gpt_bigcode]",
    "generate/test_adapters.py::test_each_request_gets_the_tokens_of_its_adapter[composed-llama]",
    "generate/test_end_tokens.py::test_any_of_several_end_tokens_ends_an_answer[generation_config.json]",
    "generate/test_int8_cache.py::test_a_learned_prefix_is_rounded_too[*]",
    "generate/test_int8_cache.py::test_engine_speculation_and_scores[False]",
    "generate/test_int8_cache.py::test_logits_are_near_those_of_floats_and_equal_in_both_paths[gpt_bigcode]",
    "generate/test_int8_cache.py::test_logits_are_near_those_of_floats_and_equal_in_both_paths[starcoder2]",
    "generate/test_native.py::test_a_sequences_logits_have_the_same_bits_whatever_is_beside_it[*grouped]",
    "generate/test_native.py::test_a_sequences_logits_have_the_same_bits_whatever_is_beside_it[multi-*]",
    "generate/test_native.py::test_a_sequences_logits_have_the_same_bits_whatever_is_beside_it[wide head]",
    "generate/test_native.py::test_logits_equal_those_of_mindspores_operators[*head]",
    "generate/test_native.py::test_logits_equal_those_of_mindspores_operators[grouped]",
    "generate/test_native.py::test_logits_equal_those_of_mindspores_operators[window]",
    "generate/test_native_quantized.py::test_logits_equal_those_of_the_floats_they_stand_for[*]",  # models/ has two
    "generate/test_native.py::test_the_number_of_threads_changes_no_bit[*]",  # native/ has a case of each operator
    "generate/test_scheduling.py::test_a_cancelled_request_leaves_at_once_and_the_others_go_on[composed]",
    "generate/test_scheduling.py::test_a_full_cache_makes_requests_wait_and_loses_none[composed]",
    "generate/test_scheduling.py::test_an_abandoned_stream_gives_its_cache_back[composed]",
    "generate/test_scheduling.py::test_prompts_that_begin_alike_share_their_beginning[composed]",
    "generate/test_scheduling.py::test_sampling_goes_on_where_it_was_when_a_sequence_had_to_start_over[*]",
    "generate/test_speculative.py::test_a_model_that_drafts_for_itself_is_always_right",
    "generate/test_speculative.py::test_the_tokens_are_transformers_greedy_ones[gpt_bigcode]",
    "generate/test_speculative.py::test_the_tokens_are_transformers_greedy_ones[starcoder2]",
    "mindir/test_export.py::test_the_graphs_say_what_the_engine_and_transformers_say[llama tied, dynamic shapes]",
    # Operators: other sizes, lengths and numbers of chunks.
    "backend/test_documents.py::test_the_ends_are_those_of_runs_of_one_number_in_a_row[document_ids3*",
    "backend/test_documents.py::test_the_ends_are_those_of_runs_of_one_number_in_a_row[document_ids4*",
    "backend/test_documents.py::test_the_ends_are_those_of_runs_of_one_number_in_a_row[document_ids5*",
    "backend/test_documents.py::test_results_and_gradients_equal_those_with_a_mask[*0]",
    "backend/test_documents.py::test_results_and_gradients_equal_those_with_a_mask[None]",
    "interop/test_upstream.py::test_losses_of_the_first_steps_lie_where_ascends_lie[2]",
    "models/test_loss.py::test_loss_and_gradients_equal_pytorch_whatever_the_chunks[53]",
    "models/test_padded_vocabulary.py::test_training_generation_and_export_ignore_the_padding[gpt_bigcode]",
    "native/test_flash_attention.py::test_without_the_matrix_unit[*]",  # the whole file again
    "native/test_gemm.py::test_other_kernels[kernel1]",
    "native/test_int8_linear.py::test_the_number_of_threads_changes_no_bit",  # test_gemm and test_flash_attention
    "native/test_quantized_linear.py::test_the_number_of_threads_changes_no_bit",
    "native/test_layer_operators.py::test_activations[20.0-*]",
    "native/test_layer_operators.py::test_activations[*-float16]",
    "native/test_layer_operators.py::test_matrix_product[*-float16]",
    "native/test_layer_operators.py::test_*_norm[*-float16]",
    "native/test_layer_operators.py::test_bias_cuts_and_forks[float16]",
    "native/test_layer_operators.py::test_bits_of_attention_dropout_are_those_of_the_composed_mask[1*]",
    "native/test_layer_operators.py::test_layer_norm[1-8-*]",
    "native/test_layer_operators.py::test_rms_norm[1-8-*]",
    # Endings of a job of several processes: signals to it, exceptions and kills in a rank are quick.
    "launch/test_launcher.py::test_a_closed_terminal_lets_every_rank_save",
    "launch/test_launcher.py::test_a_rank_that_crashes_as_it_ends_is_done",
    "launch/test_launcher.py::test_a_rank_that_is_done_but_does_not_end_is_ended",
    "launch/test_launcher.py::test_a_second_signal_ends_the_ranks_at_once",
    "launch/test_launcher.py::test_a_terminal_that_is_stopped_does_not_hold_up_the_end",
    "launch/test_launcher.py::test_nobody_reads_the_output_any_more[True]",
    "launch/test_launcher.py::test_nohup_is_respected",
    # Signals while modules are imported: the first, the last and MindSpore's own are quick.
    "cli/test_guard.py::test_help_that_cannot_be_written_is_an_error_as_with_ls[*-'serve', '--help']",
    "cli/test_guard.py::test_help_that_cannot_be_written_is_an_error_as_with_ls[*-'--version']",
    "cli/test_interruption.py::test_while_an_original_script_imports[mindcoder.c*_verbs*]",
    "cli/test_interruption.py::test_while_an_original_script_imports[mindcoder.generate*]",
    "cli/test_interruption.py::test_while_mindspore_is_imported[scipy.ndimage]",
    "cli/test_interruption.py::test_while_the_verbs_are_imported[2-*]",
)

# Whole runs that take a minute, of which `make test` has a shorter one, or the parts.
WHOLE_RUNS = (
    "bench/test_bench.py::test_bench_and_its_reference_write_the_same_columns",
    "bench/test_bench.py::test_the_reference_takes_the_original_flags",
    "checkpoint/gguf/test_gguf_runs.py::test_predict_answers_as_the_run",
    "checkpoint/gguf/test_gguf_runs.py::test_training_goes_on_from_the_file",
    "cli/test_errors.py::test_the_original_commands_end_to_end",
    "docs/test_python_page.py::test_the_notebook_runs_cell_by_cell",
    "docs/test_python_page.py::test_the_pages_blocks_run_in_their_order",
    "evaluate/test_eval_code.py::test_shards_draw_what_one_process_draws",
    "interop/test_mindformers.py::test_trainer_trains",
    "mindir/test_export.py::test_a_yaml_file_is_taken_with_the_original_keys",
    "generate/test_chat.py::test_one_shot_questions_and_gaps",
    "mindir/test_export.py::test_float16_weights_and_a_merged_adapter",
    "mindir/test_export.py::test_ctrl_c_amid_a_compilation_is_one_line_and_leaves_nothing",
    "peft/test_lora.py::test_the_first_step_has_the_base_models_loss_and_dropout_changes_it",
    "peft/test_lora_runs.py::test_a_prefix_is_learned_resumed_and_used",
    "peft/test_lora_runs.py::test_an_adapter_is_trained_on_codes",
    "peft/test_lora_runs.py::test_an_adapter_is_trained_on_integers_which_are_not_trained_themselves",
    "peft/test_lora_runs.py::test_an_adapter_counts_as_a_model_and_merges_into_one",
    "peft/test_lora_runs.py::test_prompts_of_a_file_choose_their_adapter",
    "peft/test_lora_runs.py::test_resuming_an_adapter_repeats_its_losses",
    "train/test_health.py::test_a_spike_goes_back_to_the_checkpoint_and_on_behind_the_data",
    "train/test_health.py::test_the_page_about_a_run_needs_nothing_else",
    "train/test_identity.py::test_a_checkpoint_of_an_older_version_cannot_be_compared_and_says_so",
    "train/test_identity.py::test_harmless_changes_are_one_line_and_a_longer_run_says_what_happens_to_its_rate",
    "train/test_identity.py::test_an_adapter_goes_on_with_its_own_base_only",
    "train/test_preference.py::test_an_adapter_learns_which_answers_are_preferred_and_resumes[dpo]",
    "train/test_runs.py::test_a_damaged_checkpoint_is_passed_over",
    "train/test_runs.py::test_a_stream_trains_and_resumes_at_its_record",
    "train/test_runs.py::test_float16_logs_the_overflow_and_goes_on",
)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a test's name after "tests/" is one of ``patterns``."""
    return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)


def is_further_case(name: str) -> bool:
    """Whether another case of what a test checks is quick."""
    return matches(name, FURTHER_CASES)


def unit(name: str) -> str:
    """The unit that one xdist worker runs: a file. Its further cases are another unit, so that they can run last.

    The files of interop/ are one unit: MindFormers takes 20 s to import.
    """
    file = name.partition("::")[0]
    return "further cases of " * is_further_case(name) + ("interop" if file.startswith("interop/") else file)


def is_long(name: str) -> bool:
    """Whether a test, by its name after "tests/", is left to `make test-long`."""
    return is_further_case(name) or matches(name, WHOLE_RUNS)
