// Included before every C++ file of llama.cpp (see Makefile): AMX, the matrix unit of Intel's server processors since
// Sapphire Rapids, made to work when llama.cpp is compiled with GCC.
//
// GCC's _tile_loadconfig (up to 13) tells the compiler that ldtilecfg reads 8 bytes. It reads 64. So the optimizer drops
// the stores to the other 56, the processor gets a configuration of garbage, and the first prompt ends the process with
// a general protection fault. Here the operand has its true size.
//
// The symbol tells Iris that the library was compiled with this file; see iris/engine/llama.py.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%X0" ::"m"(*(const char(*)[64])(config)))
#endif

extern "C" {
extern int iris_amx_tile_config __attribute__((weak, visibility("default"), used));
int iris_amx_tile_config = 1;
}
