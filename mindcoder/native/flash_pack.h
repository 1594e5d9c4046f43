// Rows of a tensor as operands of a product. A matrix [rows, width] can be one of four: rows by depth `width` or columns by
// depth `rows`, each as the left operand (a) or the right one (b).
#pragma once
#include "flash_elements.h"

namespace flash {

template <class Products>
class Packer {
 public:
  using Number = typename Products::Number;

  explicit Packer(int64_t largest_width) : chunk_(STEP * padded(largest_width)), turned_(STEP * padded(largest_width)) {}

  // Reads the STEP rows from `first`; rows that do not exist are zeros. What follows writes these rows.
  const float *read(const Matrix &matrix, int64_t first) {
    width_ = padded(matrix.width), first_ = first;
    read_rows(matrix, first, width_, chunk_.get());
    is_turned_ = false;
    return chunk_.get();
  }

  void a_of_rows(Number *a) const {  // a[rows, width]
    put_a(chunk_.get(), STEP, width_, a, width_, first_, 0);
  }
  void b_of_columns(Number *b, int64_t depth) const {  // b[rows as depth, width]
    put_b(chunk_.get(), STEP, width_, b, depth, first_, 0);
  }
  void a_of_columns(Number *a, int64_t depth) {  // a[width, rows as depth]
    turn();
    put_a(turned_.get(), width_, STEP, a, depth, 0, first_);
  }
  void b_of_rows(Number *b) {  // b[width as depth, rows]
    turn();
    put_b(turned_.get(), width_, STEP, b, width_, 0, first_);
  }

 private:
  void turn() {
    if (!is_turned_) transpose(chunk_.get(), STEP, width_, width_, STEP, turned_.get());
    is_turned_ = true;
  }

  static void put_a(const float *from, int64_t rows, int64_t columns, Number *a, int64_t depth, int64_t m, int64_t k) {
    Lanes values[VECTORS];
    for (int64_t row = 0; row < rows; row++)
      for (int64_t column = 0; column < columns; column += STEP) {
        load_step(from + row * columns + column, values);
        Products::put_a(a, depth, m + row, k + column, values);
      }
  }

  static void put_b(const float *from, int64_t rows, int64_t columns, Number *b, int64_t depth, int64_t k, int64_t n) {
    Lanes values[2][VECTORS];
    for (int64_t row = 0; row < rows; row += 2)
      for (int64_t column = 0; column < columns; column += STEP) {
        load_step(from + row * columns + column, values[0]);
        load_step(from + (row + 1) * columns + column, values[1]);
        Products::put_b(b, depth, k + row, n + column, values);
      }
  }

  Buffer<float> chunk_, turned_;
  int64_t width_ = 0, first_ = 0;
  bool is_turned_ = false;
};

}  // namespace flash
