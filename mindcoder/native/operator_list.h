// The operators of layers; what they compute is said where they are defined, the parameters in MindSpore's order.
#pragma once
class Arguments;

void layer_norm(const Arguments &arguments);
void layer_norm_gradient(const Arguments &arguments);
void rms_norm(const Arguments &arguments);
void rms_norm_gradient(const Arguments &arguments);

void matrix_product(const Arguments &arguments);
void weight_quant_batch_matmul(const Arguments &arguments);
void weight_quant_batch_matmul_gradient(const Arguments &arguments);
void nf4_matmul(const Arguments &arguments);
void nf4_matmul_gradient(const Arguments &arguments);

void dynamic_quant(const Arguments &arguments);
void quant(const Arguments &arguments);
void quant_batch_matmul(const Arguments &arguments);

void gelu_tanh(const Arguments &arguments);
void gelu_tanh_gradient(const Arguments &arguments);
void silu(const Arguments &arguments);
void silu_gradient(const Arguments &arguments);
void rotary(const Arguments &arguments);

void add(const Arguments &arguments);
void bitwise_and_scalar(const Arguments &arguments);
void bitwise_xor(const Arguments &arguments);
void running_sum(const Arguments &arguments);

void norm(const Arguments &arguments);

void index_select(const Arguments &arguments);
void read_after(const Arguments &arguments);
void index_add(const Arguments &arguments);
void scatter_add(const Arguments &arguments);
void inplace_index_copy(const Arguments &arguments);

void adamw(const Arguments &arguments);

void counter_bits(const Arguments &arguments);
