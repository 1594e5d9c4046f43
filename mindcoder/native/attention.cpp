#include "attention.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "integers.h"
#include "int8.h"
#include "lanes.h"
#include "thread_pool.h"

namespace {

constexpr int QUERIES = 8;  // queries that are processed together per pass over keys and values

// Up to QUERIES queries of one key head: `tokens` tokens of one sequence, or some of the heads of one token.
struct Tile {
  int64_t token, tokens, kv_head, first_head, heads;
};

std::vector<Tile> cut_into_tiles(const Step &step, const Heads &heads) {
  const int64_t group = heads.query / heads.kv;
  const int64_t together = group >= QUERIES ? 1 : QUERIES / group;
  std::vector<Tile> tiles;
  for (int64_t token = 0; token < step.count;) {
    int64_t tokens = 1;
    while (tokens < together && token + tokens < step.count && step.rows[token + tokens] == step.rows[token]) tokens++;
    for (int64_t kv_head = 0; kv_head < heads.kv; kv_head++)
      for (int64_t head = 0; head < group; head += QUERIES)
        tiles.push_back({token, tokens, kv_head, kv_head * group + head, std::min<int64_t>(QUERIES, group - head)});
    token += tokens;
  }
  return tiles;
}

template <class Element, bool HAS_SCALES>  // of the cache; whether each token and head has a scale
class Worker {
 public:
  Worker(const Step &step, const Heads &heads, const float *query, const Cache &cache, float *attn_output)
      : step_(step), heads_(heads), query_(query), cache_(cache), attn_output_(attn_output) {}

  void run(const Tile &tile) {
    count_ = 0;
    int64_t last = 0, first = INT64_MAX;
    for (int64_t token = tile.token; token < tile.token + tile.tokens; token++) {
      const int64_t position = step_.positions[token];
      const int64_t oldest = step_.window > 0 && position >= step_.window ? position - step_.window + 1 : 0;
      last = std::max(last, position);
      first = std::min(first, oldest);
      for (int64_t head = tile.first_head; head < tile.first_head + tile.heads; head++) {
        queries_[count_] = query_ + (token * heads_.query + head) * heads_.size;
        results_[count_] = attn_output_ + (token * heads_.query + head) * heads_.size;
        oldest_[count_] = oldest;
        newest_[count_++] = position;
      }
    }
    first_ = first / LANES * LANES;
    end_ = (last / LANES + 1) * LANES;
    visible_end_ = last + 1;  // beyond it the cache holds stale data of another sequence, possibly NaN
    scores_.resize(QUERIES * (end_ - first_));
    table_ = step_.table(tile.token);
    score(tile.kv_head);
    for (int query = 0; query < count_; query++) weigh(query, tile.kv_head);
    mix(tile.kv_head);
  }

 private:
  float *scores(int query) { return scores_.data() + query * (end_ - first_) - first_; }

  const Element *block(const void *pool, int64_t place, int64_t kv_head) const {
    const int64_t number = table_[place / step_.block_size] * heads_.kv + kv_head;
    return static_cast<const Element *>(pool) + number * heads_.size * step_.block_size;
  }

  // Of LANES tokens.
  Lanes token_scales(const float *scales, int64_t place, int64_t kv_head) const {
    const int64_t number = table_[place / step_.block_size] * heads_.kv + kv_head;
    return load(scales + number * step_.block_size + place % step_.block_size);
  }

  void score(int64_t kv_head) {
    for (int64_t place = first_; place < end_; place += LANES) {
      const Element *keys = block(cache_.keys, place, kv_head) + place % step_.block_size;
      Lanes sums[QUERIES] = {};
      if (count_ == QUERIES) {
        for (int64_t at = 0; at < heads_.size; at++) {
          const Lanes key = load(keys + at * step_.block_size);
          for (int query = 0; query < QUERIES; query++) sums[query] += key * queries_[query][at];
        }
      } else {
        for (int query = 0; query < count_; query++)
          for (int64_t at = 0; at < heads_.size; at++)
            sums[query] += load(keys + at * step_.block_size) * queries_[query][at];
      }
      if constexpr (HAS_SCALES) {
        const Lanes scales = token_scales(cache_.key_scales, place, kv_head);
        for (int query = 0; query < count_; query++) sums[query] *= scales;
      }
      for (int query = 0; query < count_; query++) store(scores(query) + place, sums[query]);
    }
  }

  // Softmax over the positions visible to the query, zero elsewhere; times the scales of their values.
  void weigh(int query, int64_t kv_head) {
    float *own = scores(query);
    for (int64_t place = first_; place < oldest_[query]; place++) own[place] = -1e30f;
    for (int64_t place = newest_[query] + 1; place < end_; place++) own[place] = -1e30f;
    Lanes highest = all(-1e30f);
    for (int64_t place = first_; place < end_; place += LANES) highest = maximum(highest, load(own + place));
    const Lanes peak = all(largest(highest));
    Lanes total = {};
    // Positions visible to other queries of the tile add exact zeros.
    for (int64_t place = first_; place < end_; place += LANES) {
      const Lanes weight = exponential(load(own + place) - peak);
      if constexpr (HAS_SCALES) store(own + place, weight * token_scales(cache_.value_scales, place, kv_head));
      else store(own + place, weight);
      total += weight;
    }
    totals_[query] = sum(total);
  }

  void mix(int64_t kv_head) {
    const int64_t size = heads_.size;
    for (int64_t at = 0; at < size; at += LANES) {
      const int64_t width = size - at < LANES ? size - at : LANES;
      Lanes sums[QUERIES] = {};
      for (int64_t begin = first_; begin < end_; begin += LANES) {
        const Element *values = block(cache_.values, begin, kv_head) + begin % step_.block_size * size + at;
        const int64_t end = std::min(begin + LANES, visible_end_);
        if (count_ == QUERIES && width == LANES) {
          for (int64_t place = begin; place < end; place++, values += size) {
            const Lanes value = load(values);
            for (int query = 0; query < QUERIES; query++) sums[query] += value * scores(query)[place];
          }
        } else {
          for (int64_t place = begin; place < end; place++, values += size) {
            const Lanes value = load_some(values, width);
            for (int query = 0; query < count_; query++) sums[query] += value * scores(query)[place];
          }
        }
      }
      for (int query = 0; query < count_; query++) store_some(results_[query] + at, sums[query] / totals_[query], width);
    }
  }

  const Step &step_;
  const Heads &heads_;
  const float *query_;
  const Cache &cache_;
  float *attn_output_;
  const int32_t *table_ = nullptr;
  int count_ = 0;
  int64_t first_ = 0, end_ = 0, visible_end_ = 0;
  const float *queries_[QUERIES];
  float *results_[QUERIES], totals_[QUERIES];
  int64_t oldest_[QUERIES], newest_[QUERIES];
  std::vector<float> scores_;
};

// Scale and offset of each channel, of keys or values.
struct Channels {
  const float *scale, *offset;
  std::vector<float> inverse;

  Channels(const float *scales, int64_t size) : scale(scales), offset(scales + size), inverse(static_cast<size_t>(size)) {
    for (int64_t at = 0; at < size; at++) inverse[at] = 1.0f / scale[at];
  }
};

void write_by_channel(const Step &step, const Heads &heads, const float *key, const float *value, const Cache &cache) {
  const int64_t size = heads.size, block_size = step.block_size, channels = heads.kv * size;
  const Channels of_keys(cache.key_scales, channels), of_values(cache.value_scales, channels);
  std::vector<int8_t> keys(static_cast<size_t>(channels)), values(static_cast<size_t>(channels));
  for (int64_t token = 0; token < step.count; token++, key += channels, value += channels) {
    const int64_t block = step.slots[token] / block_size, place = step.slots[token] % block_size;
    round_channels(key, channels, of_keys.inverse.data(), of_keys.offset, keys.data());
    round_channels(value, channels, of_values.inverse.data(), of_values.offset, values.data());
    for (int64_t head = 0; head < heads.kv; head++) {
      const int64_t start = (block * heads.kv + head) * size * block_size;
      int8_t *const to = static_cast<int8_t *>(cache.keys) + start;
      for (int64_t at = 0; at < size; at++) to[at * block_size + place] = keys[head * size + at];
      std::memcpy(static_cast<int8_t *>(cache.values) + start + place * size, values.data() + head * size, size);
    }
  }
}

void write_integers(const Step &step, const Heads &heads, const float *key, const float *value, const Cache &cache) {
  const int64_t size = heads.size, block_size = step.block_size;
  std::vector<int8_t> own(static_cast<size_t>(size));
  for (int64_t token = 0; token < step.count; token++) {
    const int64_t block = step.slots[token] / block_size, place = step.slots[token] % block_size;
    for (int64_t head = 0; head < heads.kv; head++, key += size, value += size) {
      const int64_t number = block * heads.kv + head, start = number * size * block_size;
      int8_t *const keys = static_cast<int8_t *>(cache.keys) + start;
      cache.key_scales[number * block_size + place] = round_row(key, size, own.data());
      for (int64_t at = 0; at < size; at++) keys[at * block_size + place] = own[at];
      int8_t *const values = static_cast<int8_t *>(cache.values) + start + place * size;
      cache.value_scales[number * block_size + place] = round_row(value, size, values);
    }
  }
}

template <class Element, bool HAS_SCALES>
void attend_to(const Step &step, const Heads &heads, const float *query, const Cache &cache, float *attn_output) {
  const std::vector<Tile> tiles = cut_into_tiles(step, heads);
  std::atomic<size_t> next{0};
  run_on_all_threads([&](int) {
    Worker<Element, HAS_SCALES> worker(step, heads, query, cache, attn_output);
    for (size_t tile = next++; tile < tiles.size(); tile = next++) worker.run(tiles[tile]);
  });
}

// Attention to integers whose scales are those of channels. The keys' scales go into the queries; their offsets would add
// the same to all scores of a query, which softmax takes away. The values' follow from the mean of the integers.
void attend_by_channel(const Step &step, const Heads &heads, const float *query, const Cache &cache, float *attn_output) {
  const int64_t group = heads.query / heads.kv, size = heads.size, channels = heads.kv * size;
  std::vector<float> scaled(static_cast<size_t>(step.count * heads.query * size));
  const auto each = [&](auto work) {
    for (int64_t token = 0; token < step.count; token++)
      for (int64_t head = 0; head < heads.query; head++)
        for (int64_t at = 0; at < size; at++) work((token * heads.query + head) * size + at, head / group * size + at);
  };
  each([&](int64_t at, int64_t channel) { scaled[at] = query[at] * cache.key_scales[channel]; });
  attend_to<int8_t, false>(step, heads, scaled.data(), cache, attn_output);
  const float *const scales = cache.value_scales, *const offsets = scales + channels;
  each([&](int64_t at, int64_t channel) { attn_output[at] = (attn_output[at] - offsets[channel]) * scales[channel]; });
}

}  // namespace

void write_cache(const Step &step, const Heads &heads, const float *key, const float *value, const Cache &cache) {
  if (cache.kind == CacheKind::by_token) return write_integers(step, heads, key, value, cache);
  if (cache.kind == CacheKind::by_channel) return write_by_channel(step, heads, key, value, cache);
  float *const keys = static_cast<float *>(cache.keys), *const values = static_cast<float *>(cache.values);
  const int64_t size = heads.size, block_size = step.block_size;
  for (int64_t token = 0; token < step.count; token++) {
    const int64_t block = step.slots[token] / block_size, place = step.slots[token] % block_size;
    for (int64_t head = 0; head < heads.kv; head++, key += size, value += size) {
      const int64_t start = (block * heads.kv + head) * size * block_size;
      for (int64_t at = 0; at < size; at++) keys[start + at * block_size + place] = key[at];
      std::memcpy(values + start + place * size, value, size * sizeof(float));
    }
  }
}

void attend(const Step &step, const Heads &heads, const float *query, const Cache &cache, float *attn_output) {
  switch (cache.kind) {
    case CacheKind::floats: return attend_to<float, false>(step, heads, query, cache, attn_output);
    case CacheKind::by_token: return attend_to<int8_t, true>(step, heads, query, cache, attn_output);
    case CacheKind::by_channel: return attend_by_channel(step, heads, query, cache, attn_output);
  }
}
