// Matrix products of prompts without a matrix unit.
#pragma once
#include "linear.h"

void multiply_by_columns(const Product &product);
