// Collectives over shared memory. Buffers of any size pass through each rank's slice of the segment, a slice at a time.
//
// Reductions run over the ranks in order, 0 first, and in float32 for the 16-bit floats, rounded once at the end. On a card
// the order follows the algorithm that HCCL chooses, and partial sums are rounded.
#include "collectives.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace softcann {
namespace {

template <class T>
T combine(T a, T b, Reduction reduction) {
  switch (reduction) {
    case Reduction::product: return static_cast<T>(a * b);
    case Reduction::maximum: return a < b ? b : a;
    case Reduction::minimum: return b < a ? b : a;
    default: return static_cast<T>(a + b);
  }
}

// out[i] = parts[0][i] op parts[1][i] op …; out may be one of the parts.
void reduce_parts(const std::vector<const char*>& parts, char* out, uint64_t count, Dtype dtype, Reduction reduction) {
  dispatch(dtype, [&](auto zero) {
    using T = decltype(zero);
    using Wide = std::conditional_t<std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>, float, T>;
    for (uint64_t i = 0; i < count; ++i) {
      Wide value = static_cast<Wide>(reinterpret_cast<const T*>(parts[0])[i]);
      for (size_t part = 1; part < parts.size(); ++part)
        value = combine<Wide>(value, static_cast<Wide>(reinterpret_cast<const T*>(parts[part])[i]), reduction);
      reinterpret_cast<T*>(out)[i] = static_cast<T>(value);
    }
  });
}

std::vector<const char*> parts_at(const Communicator& group, uint64_t offset) {
  std::vector<const char*> parts;
  for (uint32_t rank = 0; rank < group.ranks; ++rank) parts.push_back(group.buffer(rank) + offset);
  return parts;
}

uint64_t elements_in(uint64_t bytes, size_t size) { return std::max<uint64_t>(bytes / size, 1); }

}  // namespace

void all_reduce(Communicator& group, const char* send, char* receive, const Call& call) {
  group.begin(call);
  const size_t size = size_of(call.dtype);
  const uint64_t slice = elements_in(kChunk, size);
  for (uint64_t start = 0; start < call.count; start += slice) {
    const uint64_t count = std::min(slice, call.count - start);
    std::memcpy(group.buffer(group.rank), send + start * size, count * size);
    group.barrier();
    // Each rank reduces its share of the slice, in place in its own buffer; then all gather the shares.
    const auto first = [&](uint32_t rank) { return count * rank / group.ranks; };
    const uint64_t mine = first(group.rank);
    reduce_parts(parts_at(group, mine * size), group.buffer(group.rank) + mine * size, first(group.rank + 1) - mine, call.dtype,
                 call.reduction);
    group.barrier();
    for (uint32_t rank = 0; rank < group.ranks; ++rank)
      std::memcpy(receive + (start + first(rank)) * size, group.buffer(rank) + first(rank) * size,
                  (first(rank + 1) - first(rank)) * size);
    group.barrier();
  }
}

void all_gather(Communicator& group, const char* send, char* receive, const Call& call) {
  const std::vector<uint64_t> counts(group.ranks, call.count);
  std::vector<uint64_t> places(group.ranks);
  for (uint32_t rank = 0; rank < group.ranks; ++rank) places[rank] = rank * call.count;
  group.begin(call);
  gather(group, send, receive, counts, places, call.dtype);
}

void gather(Communicator& group, const char* send, char* receive, const std::vector<uint64_t>& counts,
            const std::vector<uint64_t>& places, Dtype dtype) {
  const size_t size = size_of(dtype);
  const uint64_t slice = elements_in(kChunk, size), most = *std::max_element(counts.begin(), counts.end());
  for (uint64_t start = 0; start < most; start += slice) {
    const auto share = [&](uint32_t rank) { return counts[rank] > start ? std::min(slice, counts[rank] - start) : 0; };
    std::memcpy(group.buffer(group.rank), send + start * size, share(group.rank) * size);
    group.barrier();
    for (uint32_t rank = 0; rank < group.ranks; ++rank)
      std::memcpy(receive + (places[rank] + start) * size, group.buffer(rank), share(rank) * size);
    group.barrier();
  }
}

void reduce_scatter(Communicator& group, const char* send, char* receive, const std::vector<uint64_t>& counts,
                    const std::vector<uint64_t>& places, Dtype dtype, Reduction reduction) {
  const size_t size = size_of(dtype);
  const uint64_t slice = elements_in(kChunk / group.ranks, size), most = *std::max_element(counts.begin(), counts.end());
  for (uint64_t start = 0; start < most; start += slice) {
    const auto share = [&](uint32_t rank) { return counts[rank] > start ? std::min(slice, counts[rank] - start) : 0; };
    for (uint32_t rank = 0; rank < group.ranks; ++rank)
      std::memcpy(group.buffer(group.rank) + rank * slice * size, send + (places[rank] + start) * size, share(rank) * size);
    group.barrier();
    reduce_parts(parts_at(group, group.rank * slice * size), receive + start * size, share(group.rank), dtype, reduction);
    group.barrier();
  }
}

void broadcast(Communicator& group, char* data, const Call& call) {
  group.begin(call);
  const uint64_t bytes = call.count * size_of(call.dtype);
  for (uint64_t start = 0; start < bytes; start += kChunk) {
    const uint64_t size = std::min<uint64_t>(kChunk, bytes - start);
    if (group.rank == call.root) std::memcpy(group.buffer(group.rank), data + start, size);
    group.barrier();
    if (group.rank != call.root) std::memcpy(data + start, group.buffer(call.root), size);
    group.barrier();
  }
}

void reduce(Communicator& group, const char* send, char* receive, const Call& call) {
  group.begin(call);
  const size_t size = size_of(call.dtype);
  const uint64_t slice = elements_in(kChunk, size);
  for (uint64_t start = 0; start < call.count; start += slice) {
    const uint64_t count = std::min(slice, call.count - start);
    std::memcpy(group.buffer(group.rank), send + start * size, count * size);
    group.barrier();
    if (group.rank == call.root) reduce_parts(parts_at(group, 0), receive + start * size, count, call.dtype, call.reduction);
    group.barrier();
  }
}

void scatter(Communicator& group, const char* send, char* receive, const Call& call) {
  group.begin(call);
  const uint64_t bytes = call.count * size_of(call.dtype), slice = kChunk / group.ranks;
  for (uint64_t start = 0; start < bytes; start += slice) {
    const uint64_t size = std::min(slice, bytes - start);
    for (uint32_t rank = 0; rank < group.ranks && group.rank == call.root; ++rank)
      std::memcpy(group.buffer(call.root) + rank * slice, send + rank * bytes + start, size);
    group.barrier();
    std::memcpy(receive + start, group.buffer(call.root) + group.rank * slice, size);
    group.barrier();
  }
}

void all_to_all(Communicator& group, const char* send, char* receive, const Exchange& mine, const Call& call) {
  uint64_t largest = 0;
  for (const uint64_t count : mine.send_counts) largest = std::max(largest, count);
  group.begin(call, largest);
  // First the counts, so that a rank which sends other than is expected is named.
  std::memcpy(group.buffer(group.rank), mine.send_counts.data(), group.ranks * sizeof(uint64_t));
  group.barrier();
  for (uint32_t rank = 0; rank < group.ranks; ++rank) {
    const uint64_t sent = reinterpret_cast<const uint64_t*>(group.buffer(rank))[group.rank];
    largest = std::max(largest, group.largest_of(rank));
    if (sent != mine.receive_counts[rank])
      group.fail(kHcclParameter, call.text() + ": rank " + std::to_string(rank) + " sends " + std::to_string(sent) + " elements to rank " +
                                     std::to_string(group.rank) + ", which expects " + std::to_string(mine.receive_counts[rank]));
  }
  group.barrier();
  const size_t size = size_of(call.dtype);
  const uint64_t slice = elements_in(kChunk / group.ranks, size);
  const auto share = [&](uint64_t count, uint64_t start) { return count > start ? std::min(slice, count - start) : 0; };
  for (uint64_t start = 0; start < largest; start += slice) {
    for (uint32_t rank = 0; rank < group.ranks; ++rank)
      std::memcpy(group.buffer(group.rank) + rank * slice * size, send + (mine.send_places[rank] + start) * size,
                  share(mine.send_counts[rank], start) * size);
    group.barrier();
    for (uint32_t rank = 0; rank < group.ranks; ++rank)
      std::memcpy(receive + (mine.receive_places[rank] + start) * size, group.buffer(rank) + group.rank * slice * size,
                  share(mine.receive_counts[rank], start) * size);
    group.barrier();
  }
}

}  // namespace softcann
