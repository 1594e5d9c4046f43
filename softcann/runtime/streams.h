// Streams as other parts of the runtime see them.
#pragma once

namespace softcann {

// 0 for a live stream, and for the default stream, null; else the code of an error that names the function.
int check_stream(const void* stream, const char* function);

}  // namespace softcann
