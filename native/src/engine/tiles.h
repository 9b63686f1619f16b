// What loops.cpp takes from its neighbours, of the same instruction set.
#pragma once

#include "steps.h"
#include "vectors.h"

namespace secateur {
namespace engine {
namespace SECATEUR_ISA {

// Where a part of so many things begins.
SECATEUR_INLINE size_t cut(size_t count, size_t part, size_t parts) { return count * part / parts; }

int shape(unsigned rows, unsigned cols, unsigned outputs, unsigned step);
unsigned most_held();
void convolve(const ConvolutionStep& step, float* arena, size_t part, size_t parts);
// Writes the halo of one channel; `channel` points so many floats into the arena as that is away from channel 0.
void fill(const Fills& fills, float* channel);

// winograd.cpp
unsigned filtered();
void spread(const SpreadStep& step, float* arena, size_t part, size_t parts);
void filter(const FilterStep& step, float* arena, size_t part, size_t parts);

// axes.cpp
void along(const AlongStep& step, float* arena, size_t part, size_t parts);
void product(const ProductStep& step, float* arena, size_t part, size_t parts);
bool lookup(const LookupStep& step, size_t samples, float* arena, size_t part, size_t parts);

}  // namespace SECATEUR_ISA
}  // namespace engine
}  // namespace secateur
