// How the ranks of a rank table find each other, who have no MindSpore scheduler: by a file that rank 0 leaves in the
// temporary folder until all have joined.
#pragma once

#include <string>

#include "segment.h"

namespace softcann {

uint32_t ranks_in(const std::string& table);  // "rank_id" fields of a rank table; throws HcclFailure

class Meeting {
 public:
  Meeting(const std::string& table, uint32_t ranks, uint32_t rank);
  ~Meeting();  // rank 0 removes the file
  const Place& place() const { return place_; }

 private:
  std::string path_;
  bool made_ = false;
  Place place_;
};

}  // namespace softcann
