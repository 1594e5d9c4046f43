// Matrix products with vector instructions, for any processor and any number of rows.
#pragma once
#include "linear.h"

void multiply_by_vectors(const Product &product);
