// The functions of HCCL that make, ask and destroy communicators; and how any of its functions ends.
#pragma once

#include <functional>

#include "communicator.h"

namespace softcann {

Communicator& group_of(void* handle, const char* function);  // throws HcclFailure

// Runs `work` and turns a failure into HCCL's code and a message.
int hccl(const char* function, const std::function<void()>& work);

}  // namespace softcann
