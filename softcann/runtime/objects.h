// Which of the objects that MindSpore hands over are still there.
#pragma once

#include "softcann/objects.h"

namespace softcann {

// Whether an object was made by an aclCreate… function and not destroyed since. What a list owns is alive through the list
// alone, so it gives false.
bool alive(const Object* object);

}  // namespace softcann
