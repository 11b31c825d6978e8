// GCC before 11.5, 12.4, 13.3 and 14 tells the optimiser that _tile_loadconfig reads 8 bytes of a
// configuration that has 64 (GCC bug 114098), so the stores to the rest are dropped and the instruction
// faults. Put before ggml's AMX kernels by the build where such a compiler is at work.
#pragma once

#include <immintrin.h>

static inline void rbee_tile_loadconfig(const void* config) {
  __asm__ volatile("ldtilecfg %0" : : "m"(*static_cast<const char(*)[64]>(config)));
}
#define _tile_loadconfig(config) rbee_tile_loadconfig(config)
