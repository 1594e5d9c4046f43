// Errors of the runtime: a code of the ACL reference and a message that aclGetRecentErrMsg hands to MindSpore.
#pragma once

#include <string>

namespace softcann {

enum : int {
  kInvalidParameter = 107000,   // ACL_ERROR_RT_PARAM_INVALID
  kInvalidHandle = 107003,      // ACL_ERROR_RT_STREAM_CONTEXT and its like: not a live handle
  kOutOfMemory = 207001,        // ACL_ERROR_RT_MEMORY_ALLOCATION
  kNotSupported = 207000,       // ACL_ERROR_RT_FEATURE_NOT_SUPPORT
  kReportTimeout = 507012,      // ACL_ERROR_RT_REPORT_TIMEOUT
  kOperatorFailed = 507011,     // ACL_ERROR_RT_MODEL_EXECUTE: an operator failed while it ran
};

// Keeps the message for aclGetRecentErrMsg, writes it to stderr and to the log, and gives the code back.
int error(int code, const std::string& message);

}  // namespace softcann
