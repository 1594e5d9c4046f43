// The instruction set this library was compiled for; `mindcoder doctor` prints it.
#include "lanes.h"
#include "tiles.h"

extern "C" const char *MindCoderKind() {
  if (tiles_available()) return "AVX-512 and AMX";
  if (LANES == 16) return "AVX-512";
  if (LANES == 8) return "AVX";
#if defined(__aarch64__)
  return "NEON";
#else
  return "vectors of 128 bits";
#endif
}
