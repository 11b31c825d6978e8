#include "deep_stack.h"

#include "budget.h"

#include <pthread.h>

#include <cstdint>
#include <system_error>

namespace rbee {

namespace {

// llama.cpp frees what it has built by recursion too, and that cannot be refused. What nests deepest, a list
// within a list of a template, takes more memory than the stack for freeing it; so a stack of several times
// a budget's memory is enough.
#ifdef __SANITIZE_ADDRESS__
// It cleans up no more than 64 MB of a stack when an exception leaves it, and reports what is left as
// overflows (github.com/google/sanitizers/issues/189).
constexpr size_t deep_stack_bytes = 60 * 1024 * 1024;
#else
constexpr size_t deep_stack_bytes = 256 * 1024 * 1024;
#endif

// For functions that do not ask: the standard library's, and error messages.
constexpr size_t reserve_bytes = 256 * 1024;
// Assumed below where the system does not tell.
constexpr size_t assumed_bytes = 256 * 1024;

struct Task {
  const std::function<void()>& work;
  std::exception_ptr error;
};

void* run_task(void* data) {
  auto& task = *static_cast<Task*>(data);
  try {
    task.work();
  } catch (...) {
    task.error = std::current_exception();
  }
  return nullptr;
}

const char* find_stack_floor() {
  const char* lowest = nullptr;
#ifdef __APPLE__
  lowest = static_cast<const char*>(pthread_get_stackaddr_np(pthread_self())) -
           pthread_get_stacksize_np(pthread_self());
#else
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    void* address = nullptr;
    size_t size = 0;
    if (pthread_attr_getstack(&attributes, &address, &size) == 0) lowest = static_cast<const char*>(address);
    pthread_attr_destroy(&attributes);
  }
#endif
  const auto top = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const auto bottom = reinterpret_cast<uintptr_t>(lowest);
  return reinterpret_cast<const char*>(lowest == nullptr ? top - assumed_bytes : bottom + reserve_bytes);
}

} // namespace

const char* stack_floor() {
  thread_local const char* const floor = find_stack_floor();
  return floor;
}

void on_deep_stack(const std::function<void()>& work) {
  Task task{work, nullptr};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  int status = pthread_attr_setstacksize(&attributes, deep_stack_bytes);
  pthread_t thread;
  if (status == 0) status = pthread_create(&thread, &attributes, run_task, &task);
  pthread_attr_destroy(&attributes);
  if (status != 0) throw std::system_error(status, std::generic_category(), "no thread could be started");
  pthread_join(thread, nullptr);
  if (task.error) std::rethrow_exception(task.error);
}

} // namespace rbee
