// Codes of the HCCL reference: results, element types and reductions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "softcann/dtype.h"

namespace softcann {

enum HcclResult : int {
  kHcclSuccess = 0,
  kHcclParameter = 1,     // HCCL_E_PARA
  kHcclPointer = 2,       // HCCL_E_PTR
  kHcclNotSupported = 5,  // HCCL_E_NOT_SUPPORT
  kHcclSystem = 8,        // HCCL_E_SYSCALL
  kHcclTimeout = 9,       // HCCL_E_TIMEOUT
  kHcclRemote = 21,       // HCCL_E_REMOTE
};

enum class Reduction : uint32_t { sum = 0, product = 1, maximum = 2, minimum = 3, none = 0xffff };

// HcclDataType as aclDataType; undefined for what HCCL does not have.
Dtype hccl_dtype(int number);
const char* name_of(Reduction reduction);

// What a rank asks for; ranks of a group must ask for the same.
enum class Kind : uint32_t {
  none, init, barrier, all_reduce, all_gather, all_gather_v, reduce_scatter, reduce_scatter_v, broadcast, reduce, scatter,
  all_to_all, all_to_all_v, send, receive, destroy,
};

struct Call {
  Kind kind = Kind::none;
  Dtype dtype = Dtype::undefined;
  Reduction reduction = Reduction::none;
  uint32_t root = 0xffffffff;  // also the other rank of a send or receive
  uint64_t count = 0;          // elements, as the caller gave them
  bool operator==(const Call& other) const {
    return kind == other.kind && dtype == other.dtype && reduction == other.reduction && root == other.root &&
           count == other.count;
  }
  std::string text() const;  // "AllReduce of 1024 float32, sum"
};

// Thrown within softcann's HCCL; its functions give the code back and keep the message.
struct HcclFailure {
  HcclResult code;
  std::string message;
};

}  // namespace softcann
