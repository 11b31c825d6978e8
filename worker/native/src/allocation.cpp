// The program's allocations, counted on the budget of the thread that makes them (budget.h).
#include "budget.h"

#include <cstdlib>
#include <new>

#ifdef __APPLE__
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

namespace {

ptrdiff_t size_of(void* memory) {
#ifdef __APPLE__
  return static_cast<ptrdiff_t>(malloc_size(memory));
#else
  return static_cast<ptrdiff_t>(malloc_usable_size(memory));
#endif
}

} // namespace

void* operator new(size_t size) {
  rbee::Budget* budget = rbee::Budget::current();
  if (budget != nullptr) budget->take_bytes(size);
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  if (budget != nullptr) budget->count_bytes(size_of(memory));
  return memory;
}

void operator delete(void* memory) noexcept {
  rbee::Budget* budget = rbee::Budget::current();
  if (budget != nullptr && memory != nullptr) budget->count_bytes(-size_of(memory));
  std::free(memory);
}

// The standard library's own of these call the two above only where they are visible to it.
void* operator new[](size_t size) {
  return operator new(size);
}

void operator delete[](void* memory) noexcept {
  operator delete(memory);
}

void operator delete(void* memory, size_t /*size*/) noexcept {
  operator delete(memory);
}

void operator delete[](void* memory, size_t /*size*/) noexcept {
  operator delete(memory);
}
