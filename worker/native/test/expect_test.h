// What the tests of the pure parts share. Run by worker/native/pure_parts_test.ts, which compiles them with
// the address and undefined-behaviour sanitizers.
#pragma once

#include <string>

// Counts and prints what does not hold.
void expect(bool condition, const char* what, const std::string& got);
// What has not held so far.
int failure_count();

void text_stream_tests();
void step_plan_tests();
void governor_tests();
void process_memory_tests();
void printable_tests();
void step_clock_tests();
// Only where llama.cpp is linked.
void tokenizer_tests();
void sandbox_tests();
