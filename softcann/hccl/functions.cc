// The collectives of HCCL, with the signatures of its reference: they check their arguments and log the call.
#include <chrono>
#include <string>

#include "collectives.h"
#include "groups.h"
#include "log.h"
#include "memory.h"
#include "streams.h"

using namespace softcann;

namespace {

void check(const char* what, const void* address, uint64_t count, Dtype dtype) {
  if (count == 0) return;
  const std::string wrong = wrong_with(address, count * size_of(dtype));
  if (!wrong.empty()) throw HcclFailure{kHcclParameter, std::string(what) + ": found " + wrong};
}

void on(const void* stream, const char* function) {
  if (check_stream(stream, function)) throw HcclFailure{kHcclParameter, "found a stream that was destroyed, or never made"};
}

// A call of one rank: made of the function's arguments, run, and logged.
class Running {
 public:
  Running(const char* function, void* handle, Kind kind, uint64_t count = 0, int dtype = -1)
      : function_(function), group(group_of(handle, function)) {
    call.kind = kind;
    call.count = count;
    if (dtype < 0) return;
    call.dtype = hccl_dtype(dtype);
    if (call.dtype == Dtype::undefined) throw HcclFailure{kHcclParameter, "found HcclDataType " + std::to_string(dtype) + ", which softcann does not have"};
  }
  ~Running() {
    if (!logging()) return;
    const auto spent = std::chrono::steady_clock::now() - start_;
    log_event("hccl", "\"name\": " + quoted(function_) + ", \"call\": " + quoted(call.text()) + ", \"group\": " + quoted(group.name) +
                          ", \"rank\": " + std::to_string(group.rank) + ", \"microseconds\": " +
                          std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(spent).count()));
  }

  void reduces(int op) {
    if (op < 0 || op > 3) throw HcclFailure{kHcclParameter, "found HcclReduceOp " + std::to_string(op) + ", expected 0 to 3"};
    call.reduction = static_cast<Reduction>(op);
  }
  void with(uint32_t root) {
    if (root >= group.ranks) throw HcclFailure{kHcclParameter, "found rank " + std::to_string(root) + " in a group of " + std::to_string(group.ranks)};
    call.root = root;
  }

 private:
  const char* function_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();

 public:
  Communicator& group;
  Call call;
};

// In place is the same address, or this rank's part of the longer buffer; buffers that share memory otherwise are refused.
void apart(const void* send, uint64_t sent, const void* receive, uint64_t received, const Running& run) {
  const auto from = reinterpret_cast<uintptr_t>(send), to = reinterpret_cast<uintptr_t>(receive);
  const uint64_t size = size_of(run.call.dtype), part = run.group.rank * std::min(sent, received) * size;
  const bool in_place = from == to || (sent < received && from == to + part) || (received < sent && to == from + part);
  if (sent && received && !in_place && from < to + received * size && to < from + sent * size)
    throw HcclFailure{kHcclParameter, "recvBuf: found " + std::to_string(received) + " elements that overlap those of sendBuf, expected other memory or the same"};
}

const char* bytes(const void* data) { return static_cast<const char*>(data); }
char* bytes(void* data) { return static_cast<char*>(data); }

std::vector<uint64_t> list(const void* values, uint32_t size) {
  const auto* begin = static_cast<const uint64_t*>(values);
  return {begin, begin + size};
}

uint64_t end_of(const std::vector<uint64_t>& counts, const std::vector<uint64_t>& places) {
  uint64_t end = 0;
  for (size_t i = 0; i < counts.size(); ++i) end = counts[i] ? std::max(end, places[i] + counts[i]) : end;
  return end;
}

void exchange(Running& run, const void* send, void* receive, const Exchange& mine) {
  check("sendBuf", send, end_of(mine.send_counts, mine.send_places), run.call.dtype);
  check("recvBuf", receive, end_of(mine.receive_counts, mine.receive_places), run.call.dtype);
  apart(send, end_of(mine.send_counts, mine.send_places), receive, end_of(mine.receive_counts, mine.receive_places), run);
  all_to_all(run.group, bytes(send), bytes(receive), mine, run.call);
}

void same_types(int send, int receive) {
  if (send != receive) throw HcclFailure{kHcclNotSupported, "found other types to send than to receive, expected the same"};
}

std::vector<uint64_t> places_of(const std::vector<uint64_t>& counts) {
  std::vector<uint64_t> places(counts.size());
  for (size_t i = 1; i < counts.size(); ++i) places[i] = places[i - 1] + counts[i - 1];
  return places;
}

struct SendReceive {  // HcclSendRecvItem
  int type;           // 0 sends, 1 receives
  void* buffer;
  uint64_t count;
  int dtype;
  uint32_t remote;
};

}  // namespace

extern "C" {

int HcclAllReduce(void* send, void* receive, uint64_t count, int dtype, int op, void* handle, void* stream) {
  return hccl("HcclAllReduce", [&] {
    on(stream, "HcclAllReduce");
    Running run("HcclAllReduce", handle, Kind::all_reduce, count, dtype);
    run.reduces(op);
    check("sendBuf", send, count, run.call.dtype);
    check("recvBuf", receive, count, run.call.dtype);
    apart(send, count, receive, count, run);
    all_reduce(run.group, bytes(send), bytes(receive), run.call);
  });
}

int HcclAllGather(void* send, void* receive, uint64_t count, int dtype, void* handle, void* stream) {
  return hccl("HcclAllGather", [&] {
    on(stream, "HcclAllGather");
    Running run("HcclAllGather", handle, Kind::all_gather, count, dtype);
    check("sendBuf", send, count, run.call.dtype);
    check("recvBuf", receive, count * run.group.ranks, run.call.dtype);
    apart(send, count, receive, count * run.group.ranks, run);
    all_gather(run.group, bytes(send), bytes(receive), run.call);
  });
}

int HcclAllGatherV(void* send, uint64_t count, void* receive, const void* counts, const void* places, int dtype, void* handle, void* stream) {
  return hccl("HcclAllGatherV", [&] {
    on(stream, "HcclAllGatherV");
    Running run("HcclAllGatherV", handle, Kind::all_gather_v, 0, dtype);
    const auto all = list(counts, run.group.ranks), at = list(places, run.group.ranks);
    if (all[run.group.rank] != count) throw HcclFailure{kHcclParameter, "sendCount is not this rank's of recvCounts"};
    for (const uint64_t one : all) run.call.count += one;
    check("sendBuf", send, count, run.call.dtype);
    check("recvBuf", receive, end_of(all, at), run.call.dtype);
    run.group.begin(run.call);
    gather(run.group, bytes(send), bytes(receive), all, at, run.call.dtype);
  });
}

int HcclReduceScatter(void* send, void* receive, uint64_t count, int dtype, int op, void* handle, void* stream) {
  return hccl("HcclReduceScatter", [&] {
    on(stream, "HcclReduceScatter");
    Running run("HcclReduceScatter", handle, Kind::reduce_scatter, count, dtype);
    run.reduces(op);
    const std::vector<uint64_t> counts(run.group.ranks, count);
    check("sendBuf", send, count * run.group.ranks, run.call.dtype);
    check("recvBuf", receive, count, run.call.dtype);
    apart(send, count * run.group.ranks, receive, count, run);
    run.group.begin(run.call);
    reduce_scatter(run.group, bytes(send), bytes(receive), counts, places_of(counts), run.call.dtype, run.call.reduction);
  });
}

int HcclReduceScatterV(void* send, const void* counts, const void* places, void* receive, uint64_t count, int dtype, int op,
                       void* handle, void* stream) {
  return hccl("HcclReduceScatterV", [&] {
    on(stream, "HcclReduceScatterV");
    Running run("HcclReduceScatterV", handle, Kind::reduce_scatter_v, 0, dtype);
    run.reduces(op);
    const auto all = list(counts, run.group.ranks), at = list(places, run.group.ranks);
    if (all[run.group.rank] != count) throw HcclFailure{kHcclParameter, "recvCount is not this rank's of sendCounts"};
    for (const uint64_t one : all) run.call.count += one;
    check("sendBuf", send, end_of(all, at), run.call.dtype);
    check("recvBuf", receive, count, run.call.dtype);
    run.group.begin(run.call);
    reduce_scatter(run.group, bytes(send), bytes(receive), all, at, run.call.dtype, run.call.reduction);
  });
}

int HcclBroadcast(void* data, uint64_t count, int dtype, uint32_t root, void* handle, void* stream) {
  return hccl("HcclBroadcast", [&] {
    on(stream, "HcclBroadcast");
    Running run("HcclBroadcast", handle, Kind::broadcast, count, dtype);
    run.with(root);
    check("buf", data, count, run.call.dtype);
    broadcast(run.group, bytes(data), run.call);
  });
}

int HcclReduce(void* send, void* receive, uint64_t count, int dtype, int op, uint32_t root, void* handle, void* stream) {
  return hccl("HcclReduce", [&] {
    on(stream, "HcclReduce");
    Running run("HcclReduce", handle, Kind::reduce, count, dtype);
    run.reduces(op);
    run.with(root);
    check("sendBuf", send, count, run.call.dtype);
    if (run.group.rank == root) {
      check("recvBuf", receive, count, run.call.dtype);
      apart(send, count, receive, count, run);
    }
    reduce(run.group, bytes(send), bytes(receive), run.call);
  });
}

int HcclScatter(void* send, void* receive, uint64_t count, int dtype, uint32_t root, void* handle, void* stream) {
  return hccl("HcclScatter", [&] {
    on(stream, "HcclScatter");
    Running run("HcclScatter", handle, Kind::scatter, count, dtype);
    run.with(root);
    if (run.group.rank == root) check("sendBuf", send, count * run.group.ranks, run.call.dtype);
    check("recvBuf", receive, count, run.call.dtype);
    scatter(run.group, bytes(send), bytes(receive), run.call);
  });
}

int HcclAlltoAll(const void* send, uint64_t send_count, int send_type, const void* receive, uint64_t receive_count, int receive_type,
                 void* handle, void* stream) {
  return hccl("HcclAlltoAll", [&] {
    on(stream, "HcclAlltoAll");
    same_types(send_type, receive_type);
    Running run("HcclAlltoAll", handle, Kind::all_to_all, send_count, send_type);
    const std::vector<uint64_t> sends(run.group.ranks, send_count), receives(run.group.ranks, receive_count);
    exchange(run, send, const_cast<void*>(receive), {sends, places_of(sends), receives, places_of(receives)});
  });
}

int HcclAlltoAllV(const void* send, const void* send_counts, const void* send_places, int send_type, const void* receive,
                  const void* receive_counts, const void* receive_places, int receive_type, void* handle, void* stream) {
  return hccl("HcclAlltoAllV", [&] {
    on(stream, "HcclAlltoAllV");
    same_types(send_type, receive_type);
    Running run("HcclAlltoAllV", handle, Kind::all_to_all_v, 0, send_type);
    const uint32_t ranks = run.group.ranks;
    exchange(run, send, const_cast<void*>(receive),
             {list(send_counts, ranks), list(send_places, ranks), list(receive_counts, ranks), list(receive_places, ranks)});
  });
}

// The matrix has what each rank (row) sends to each rank (column), the same on all ranks.
int HcclAlltoAllVC(const void* send, const void* matrix, int send_type, const void* receive, int receive_type, void* handle, void* stream) {
  return hccl("HcclAlltoAllVC", [&] {
    on(stream, "HcclAlltoAllVC");
    same_types(send_type, receive_type);
    Running run("HcclAlltoAllVC", handle, Kind::all_to_all_v, 0, send_type);
    const uint32_t ranks = run.group.ranks, rank = run.group.rank;
    const auto counts = list(matrix, ranks * ranks);
    std::vector<uint64_t> sends(counts.begin() + rank * ranks, counts.begin() + (rank + 1) * ranks), receives;
    for (uint32_t other = 0; other < ranks; ++other) receives.push_back(counts[other * ranks + rank]);
    exchange(run, send, const_cast<void*>(receive), {sends, places_of(sends), receives, places_of(receives)});
  });
}

int HcclBarrier(void* handle, void* stream) {
  return hccl("HcclBarrier", [&] {
    on(stream, "HcclBarrier");
    Running run("HcclBarrier", handle, Kind::barrier);
    run.group.begin(run.call);
  });
}

int HcclSend(void* send, uint64_t count, int dtype, uint32_t remote, void* handle, void* stream) {
  return hccl("HcclSend", [&] {
    on(stream, "HcclSend");
    Running run("HcclSend", handle, Kind::send, count, dtype);
    run.with(remote);
    check("sendBuf", send, count, run.call.dtype);
    run.group.send(send, run.call);
  });
}

int HcclRecv(void* receive, uint64_t count, int dtype, uint32_t remote, void* handle, void* stream) {
  return hccl("HcclRecv", [&] {
    on(stream, "HcclRecv");
    Running run("HcclRecv", handle, Kind::receive, count, dtype);
    run.with(remote);
    check("recvBuf", receive, count, run.call.dtype);
    run.group.receive(receive, run.call);
  });
}

// Sends do not wait for their receivers, so all sends first leave nobody waiting in a circle.
int HcclBatchSendRecv(SendReceive* items, uint32_t count, void* handle, void* stream) {
  for (const int type : {0, 1})
    for (uint32_t i = 0; i < count; ++i) {
      const SendReceive& item = items[i];
      if (item.type != type) continue;
      const auto function = type == 0 ? HcclSend : HcclRecv;
      if (const int code = function(item.buffer, item.count, item.dtype, item.remote, handle, stream)) return code;
    }
  return 0;
}

}
