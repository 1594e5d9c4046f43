#include "flash_cached.h"

#include <atomic>
#include <cmath>
#include <limits>

#include "flash_elements.h"
#include "thread_pool.h"

namespace flash {
namespace {

constexpr int64_t PIECE = 256;  // tokens
constexpr int64_t GROUP = 4;    // query heads that share a loaded vector

// What a piece of tokens adds to the results of the query heads of a key head: [heads of it][largest, sum, width numbers].
struct Piece {
  int64_t sequence, kv_head, first, result;
};

class Worker {
 public:
  explicit Worker(const CachedCall &call)
      : call_(call), width_(padded(call.width)), heads_((call.heads / call.kv_heads + GROUP - 1) / GROUP * GROUP),
        queries_(heads_ * width_), rows_(STEP * width_), scores_(heads_ * PIECE), sums_(heads_ * width_) {}

  // Results of the query heads `stride` apart.
  void run(const Piece &piece, const void *query, float *results, int64_t stride) {
    const CachedSequence &own = call_.sequences[piece.sequence];
    const int64_t group = call_.heads / call_.kv_heads, count = std::min(PIECE, own.keys - piece.first);
    for (int64_t head = 0; head < heads_; head++) {
      const bool exists = head < group;
      const int64_t place = own.query + (piece.kv_head * group + (exists ? head : 0)) * call_.query_head;
      read_row(call_.element, at(query, call_.element, place), exists ? call_.width : 0, width_, queries_.get() + head * width_);
    }
    for (int64_t key = 0; key < count; key += STEP) {
      read(own.key, piece.kv_head, piece.first + key, std::min(STEP, count - key));
      for (int64_t head = 0; head < heads_; head += GROUP) score(head, key);
    }
    for (int64_t head = 0; head < group; head++) {
      float *result = results + head * stride;
      weigh(own, piece.first, count, scores_.get() + head * PIECE, result);
    }
    std::fill(sums_.get(), sums_.get() + heads_ * width_, 0.0f);
    for (int64_t key = 0; key < count; key += STEP) {
      const int64_t some = std::min(STEP, count - key);
      read(own.value, piece.kv_head, piece.first + key, some);
      for (int64_t head = 0; head < heads_; head += GROUP) mix(head, key, some);
    }
    for (int64_t head = 0; head < group; head++)
      std::memcpy(results + head * stride + 2, sums_.get() + head * width_, call_.width * sizeof(float));
  }

 private:
  // Up to STEP tokens from `token` into rows_; the others keep what was there, which is finite or never used.
  void read(const Cache &cache, int64_t kv_head, int64_t token, int64_t count) {
    for (int64_t row = 0; row < count; row++)
      read_row(call_.element, at(cache.data, call_.element, cache.place(token + row, kv_head)), call_.width, width_,
               rows_.get() + row * width_);
    std::fill(rows_.get() + count * width_, rows_.get() + STEP * width_, 0.0f);
  }

  // Scores of STEP keys for GROUP queries, four keys at a time.
  void score(int64_t head, int64_t key) {
    for (int64_t row = 0; row < STEP; row += 4) {
      Lanes sums[GROUP][4] = {};
      for (int64_t at = 0; at < width_; at += LANES) {
        Lanes keys[4];
        for (int64_t own = 0; own < 4; own++) keys[own] = load(rows_.get() + (row + own) * width_ + at);
        for (int64_t query = 0; query < GROUP; query++) {
          const Lanes values = load(queries_.get() + (head + query) * width_ + at);
          for (int64_t own = 0; own < 4; own++) sums[query][own] += values * keys[own];
        }
      }
      for (int64_t query = 0; query < GROUP; query++) {
        const Four four = sum_each(sums[query][0], sums[query][1], sums[query][2], sums[query][3]);
        std::memcpy(scores_.get() + (head + query) * PIECE + key + row, &four, sizeof four);
      }
    }
  }

  // Scores to weights; their largest and their sum into `result`.
  void weigh(const CachedSequence &own, int64_t first, int64_t count, float *scores, float *result) const {
    constexpr float NEVER = -std::numeric_limits<float>::infinity();
    const int64_t end = padded(count);
    std::fill(scores + count, scores + end, NEVER);
    if (own.hidden != nullptr)
      for (int64_t key = 0; key < count; key++) scores[key] = own.hidden[first + key] != 0 ? NEVER : scores[key];
    Lanes highest = all(LOWEST);
    for (int64_t key = 0; key < end; key += LANES) highest = maximum(highest, load(scores + key) * call_.scale);
    const float top = largest(highest);
    Lanes total = {};
    for (int64_t key = 0; key < end; key += LANES) {
      const Lanes weight = power_of_e<true>(load(scores + key) * call_.scale - all(top));
      store(scores + key, weight);
      total += weight;
    }
    result[0] = top, result[1] = sum(total);
  }

  void mix(int64_t head, int64_t key, int64_t count) {
    for (int64_t at = 0; at < width_; at += STEP) {
      Lanes sums[GROUP][VECTORS];
      for (int64_t query = 0; query < GROUP; query++) load_step(sums_.get() + (head + query) * width_ + at, sums[query]);
      for (int64_t row = 0; row < count; row++) {
        Lanes values[VECTORS];
        load_step(rows_.get() + row * width_ + at, values);
        for (int64_t query = 0; query < GROUP; query++)
          for (int vector = 0; vector < VECTORS; vector++)
            sums[query][vector] += values[vector] * scores_.get()[(head + query) * PIECE + key + row];
      }
      for (int64_t query = 0; query < GROUP; query++)
        for (int vector = 0; vector < VECTORS; vector++) store(sums_.get() + (head + query) * width_ + at + vector * LANES, sums[query][vector]);
    }
  }

  const CachedCall &call_;
  const int64_t width_, heads_;
  Buffer<float> queries_, rows_, scores_, sums_;
};

// Puts the pieces of a query together, in their order.
void finish(const CachedCall &call, const CachedSequence &own, int64_t head, const float *results, int64_t pieces, int64_t next,
            float *sums, void *out, float *logarithm) {
  float top = LOWEST, total = 0;
  for (int64_t piece = 0; piece < pieces; piece++) top = std::max(top, results[piece * next]);
  std::fill(sums, sums + call.width, 0.0f);
  for (int64_t piece = 0; piece < pieces; piece++) {
    const float *result = results + piece * next;
    const float factor = result[1] == 0 ? 0.0f : std::exp(result[0] - top);
    total += result[1] * factor;
    for (int64_t at = 0; at < call.width; at++) sums[at] += result[2 + at] * factor;
  }
  write_row(call.element, sums, total > 0 ? 1.0f / total : 0.0f, call.width, at(out, call.element, own.out + head * call.out_head));
  if (logarithm != nullptr) *logarithm = total > 0 ? top + std::log(total) : std::numeric_limits<float>::infinity();
}

}  // namespace

void attend_cached(const CachedCall &call, const void *query, void *out, float *logarithms) {
  const int64_t group = call.heads / call.kv_heads, stride = call.width + 2;
  std::vector<Piece> pieces;
  std::vector<int64_t> firsts;  // of each sequence's results: [pieces][heads][stride]
  int64_t size = 0;
  for (size_t index = 0; index < call.sequences.size(); index++) {
    firsts.push_back(size);
    for (int64_t first = 0; first < call.sequences[index].keys; first += PIECE) {
      for (int64_t kv_head = 0; kv_head < call.kv_heads; kv_head++)
        pieces.push_back({static_cast<int64_t>(index), kv_head, first, size + kv_head * group * stride});
      size += call.heads * stride;
    }
  }
  const Buffer<float> results(size);
  std::atomic<size_t> next{0};
  run_on_all_threads([&](int) {
    Worker worker(call);
    for (size_t at = next++; at < pieces.size(); at = next++) worker.run(pieces[at], query, results.get() + pieces[at].result, stride);
  });
  const Buffer<float> sums(call.width);
  for (size_t index = 0; index < call.sequences.size(); index++) {
    const CachedSequence &own = call.sequences[index];
    for (int64_t head = 0; head < call.heads; head++)
      finish(call, own, head, results.get() + firsts[index] + head * stride, (own.keys + PIECE - 1) / PIECE, call.heads * stride,
             sums.get(), out, logarithms == nullptr ? nullptr : logarithms + index * call.heads + head);
  }
}

}  // namespace flash
