#include "meeting.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>

#include "communicator.h"

namespace softcann {
namespace {

std::string content_of(const std::string& table) {
  std::ifstream stream(table);
  std::ostringstream content;
  content << stream.rdbuf();
  if (!stream || content.str().empty()) throw HcclFailure{kHcclParameter, "the rank table " + table + " cannot be read"};
  return content.str();
}

}  // namespace

uint32_t ranks_in(const std::string& table) {
  const std::string content = content_of(table);
  uint32_t ranks = 0;
  for (size_t at = content.find("\"rank_id\""); at != std::string::npos; at = content.find("\"rank_id\"", at + 1)) ++ranks;
  if (ranks == 0) throw HcclFailure{kHcclParameter, "the rank table " + table + " has no rank_id"};
  return ranks;
}

Meeting::Meeting(const std::string& table, uint32_t ranks, uint32_t rank) {
  char absolute[4096];
  const std::string name = realpath(table.c_str(), absolute) ? absolute : table;
  const size_t key = std::hash<std::string>()(name + "\n" + content_of(table));
  const char* folder = std::getenv("TMPDIR");
  path_ = std::string(folder ? folder : "/tmp") + "/softcann-" + std::to_string(getuid()) + "-" + std::to_string(key);
  if (rank == 0) {
    place_ = Segment::create(ranks);
    const std::string draft = path_ + "." + std::to_string(getpid());
    std::ofstream(draft) << place_.pid << " " << place_.file << " " << place_.started << "\n";
    if (std::rename(draft.c_str(), path_.c_str()) != 0) throw HcclFailure{kHcclSystem, path_ + " cannot be written"};
    made_ = true;
    return;
  }
  // A file of a run that was killed names a process that is gone.
  const auto deadline = std::chrono::steady_clock::now() + hccl_deadline();
  while (std::chrono::steady_clock::now() < deadline) {
    std::ifstream stream(path_);
    if (stream >> place_.pid >> place_.file >> place_.started && alive(place_.pid, place_.started)) return;
    usleep(10000);
  }
  throw HcclFailure{kHcclTimeout, "rank 0 of the rank table " + table + " did not come (SOFTCANN_HCCL_TIMEOUT)"};
}

Meeting::~Meeting() {
  if (made_) std::remove(path_.c_str());
}

}  // namespace softcann
