// The instruction set this library was compiled for; `mindcoder doctor` prints it.
#include "gemm_kernel.h"
#include "lanes.h"
#include "amx.h"

extern "C" const char *MindCoderKind() {
  if (amx_available()) return "AVX-512 and AMX";
  if (LANES == 16) return "AVX-512";
  if (LANES == 8) return "AVX";
#if defined(__aarch64__)
  return "NEON";
#else
  return "vectors of 128 bits";
#endif
}

// Whether products of bfloat16 are faster than those of float32 here.
extern "C" bool MindCoderHasBfloat16() { return amx_available() || pairs_available(); }
