// What the entries that build.py generates call: for symbols that MindSpore looks up and softcann does not have.
#include "errors.h"
#include "log.h"
#include "softcann/aclnn.h"

extern "C" {

int softcann_missing_operator(const char* name, const char* why) {
  softcann::log_event("missing", "\"name\": " + softcann::quoted(name));
  return softcann::error(softcann::kInvalid, *why ? std::string(name) + ": " + why
                                                  : std::string("softcann has no ") + name +
                                                        "; add it in softcann/operators/ (softcann/README.md)");
}

int softcann_missing_function(const char* name) {
  softcann::log_event("missing", "\"name\": " + softcann::quoted(name));
  return softcann::error(softcann::kNotSupported, std::string(name) + " was called and is not there (softcann/runtime)");
}

}
