// What the process holds for itself, against memory that it takes.
#include "process_memory.h"

#include "expect_test.h"

#include <cstdio>
#include <memory>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace {

constexpr size_t taken_bytes = 64u << 20;
// The allocator's own needs, and an eighth of all that is touched for the address sanitizer's notes.
constexpr size_t noise_bytes = 16u << 20;

bool is_near(size_t value, size_t wanted) {
  return value + noise_bytes > wanted && value < wanted + noise_bytes;
}

void what_is_taken_counts() {
  const size_t before = rbee::private_bytes();
  const std::vector<char> taken(taken_bytes, 1);
  const size_t during = rbee::private_bytes();
  expect(before > 0, "a process holds some memory", std::to_string(before));
  expect(is_near(during, before + taken_bytes), "what was taken counts", std::to_string(during - before));
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

void a_mapped_file_is_not_its_own() {
  const std::unique_ptr<std::FILE, CloseFile> file(std::tmpfile());
  if (!file || ftruncate(fileno(file.get()), static_cast<off_t>(taken_bytes)) != 0) {
    return expect(false, "a file can be made", "");
  }
  const size_t before = rbee::private_bytes();
  void* const mapped = mmap(nullptr, taken_bytes, PROT_READ, MAP_SHARED, fileno(file.get()), 0);
  if (mapped == MAP_FAILED) return expect(false, "a file can be mapped", "");
  const volatile char* const bytes = static_cast<const volatile char*>(mapped);
  size_t sum = 0;
  for (size_t at = 0; at < taken_bytes; at += 4096)
    sum += static_cast<size_t>(bytes[at]);
  expect(sum == 0, "an empty file reads as zeros", std::to_string(sum));
  const size_t during = rbee::private_bytes();
  munmap(mapped, taken_bytes);
  expect(is_near(during, before), "what is mapped is not counted", std::to_string(during - before));
}

} // namespace

// The thread sanitizer keeps notes of several times what is touched: nothing can be said of memory then.
#ifdef __SANITIZE_THREAD__
constexpr bool is_countable = false;
#else
constexpr bool is_countable = true;
#endif

void process_memory_tests() {
  if (!is_countable) return;
  what_is_taken_counts();
  a_mapped_file_is_not_its_own();
}
