// What a model can run on, as ggml sees it.
#pragma once

#include "ggml-backend.h"

#include <cstddef>
#include <string>
#include <vector>

namespace rbee {

struct Device {
  std::string backend; // "cpu", "cuda", "metal", "vulkan"
  int index;           // counted within the backend
  std::string name;
  std::string description; // with the library that was chosen for it, where there are several
  size_t memory_total;     // bytes
  size_t memory_free;      // bytes
  ggml_backend_dev_t handle;
};

// Loads the libraries of ggml's backends that lie beside this one, if it was built to find them there: of the
// CPU's that which suits this machine best. Once, before anything else.
void load_backends();

// Every device that a model can be placed on. May create a context on GPUs, so not before it is needed.
std::vector<Device> list_devices();

} // namespace rbee
