#include "process_memory.h"

#ifdef __APPLE__
#include <mach/mach.h>
#else
#include <malloc.h>
#include <unistd.h>

#include <fstream>
#endif

namespace rbee {

size_t private_bytes() {
#ifdef __APPLE__
  task_vm_info_data_t info;
  mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
  if (task_info(mach_task_self(), TASK_VM_INFO, reinterpret_cast<task_info_t>(&info), &count) !=
      KERN_SUCCESS) {
    return 0;
  }
  return static_cast<size_t>(info.phys_footprint);
#else
  std::ifstream statm("/proc/self/statm");
  size_t size = 0;
  size_t resident = 0;
  size_t shared = 0;
  if (!(statm >> size >> resident >> shared) || resident < shared) return 0;
  return (resident - shared) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
#endif
}

void return_freed_memory() {
#ifdef __GLIBC__
  constexpr int large_bytes = 256 * 1024;
  static_cast<void>(mallopt(M_MMAP_THRESHOLD, large_bytes));
#endif
}

} // namespace rbee
