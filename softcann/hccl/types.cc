#include "types.h"

namespace softcann {

Dtype hccl_dtype(int number) {
  static const Dtype dtypes[] = {Dtype::int8,   Dtype::int16,  Dtype::int32,  Dtype::float16, Dtype::float32, Dtype::int64,
                                 Dtype::uint64, Dtype::uint8,  Dtype::uint16, Dtype::uint32,  Dtype::float64, Dtype::bfloat16};
  return number >= 0 && number < 12 ? dtypes[number] : Dtype::undefined;
}

const char* name_of(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum: return "sum";
    case Reduction::product: return "product";
    case Reduction::maximum: return "maximum";
    case Reduction::minimum: return "minimum";
    default: return "no reduction";
  }
}

namespace {

const char* name_of(Kind kind) {
  static const char* const names[] = {"nothing",        "CommInit",  "Barrier", "AllReduce", "AllGather",  "AllGatherV", "ReduceScatter",
                                      "ReduceScatterV", "Broadcast", "Reduce",  "Scatter",   "AlltoAll",   "AlltoAllV",  "Send",
                                      "Recv",           "CommDestroy"};
  return names[static_cast<uint32_t>(kind)];
}

}  // namespace

std::string Call::text() const {
  std::string result = name_of(kind);
  if (kind == Kind::none || kind == Kind::init || kind == Kind::barrier || kind == Kind::destroy) return result;
  if (kind == Kind::all_to_all_v) return result + " of " + softcann::name_of(dtype);  // each pair has its own count
  if (dtype != Dtype::undefined) result += " of " + std::to_string(count) + " " + softcann::name_of(dtype);
  if (reduction != Reduction::none) result += std::string(", ") + softcann::name_of(reduction);
  if (kind == Kind::send) return result + ", to rank " + std::to_string(root);
  if (kind == Kind::receive) return result + ", from rank " + std::to_string(root);
  if (root != 0xffffffff) result += ", root " + std::to_string(root);
  return result;
}

}  // namespace softcann
