// What the ranks of a group do together; counts and places are in elements.
#pragma once

#include <vector>

#include "communicator.h"

namespace softcann {

// The part of an AlltoAllV that one rank sees: what it sends to and receives from each rank.
struct Exchange {
  std::vector<uint64_t> send_counts, send_places, receive_counts, receive_places;
};

// These begin the call themselves.
void all_reduce(Communicator& group, const char* send, char* receive, const Call& call);
void all_gather(Communicator& group, const char* send, char* receive, const Call& call);
void broadcast(Communicator& group, char* data, const Call& call);
void reduce(Communicator& group, const char* send, char* receive, const Call& call);
void scatter(Communicator& group, const char* send, char* receive, const Call& call);
void all_to_all(Communicator& group, const char* send, char* receive, const Exchange& mine, const Call& call);

// These run within a call that the caller began.
void gather(Communicator& group, const char* send, char* receive, const std::vector<uint64_t>& counts,
            const std::vector<uint64_t>& places, Dtype dtype);
void reduce_scatter(Communicator& group, const char* send, char* receive, const std::vector<uint64_t>& counts,
                    const std::vector<uint64_t>& places, Dtype dtype, Reduction reduction);

}  // namespace softcann
