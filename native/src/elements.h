// Reading and writing the elements of a view a block at a time.
#pragma once

#include "secateur/kernels.h"
#include "secateur/ranking.h"

namespace secateur {

constexpr std::size_t BLOCK = 2048;  // elements handled while they are in the first cache

// Where a block is prepared; `patterns` has room for the widest key.
struct Scratch {
    alignas(64) std::uint64_t keys[BLOCK];
    alignas(64) std::uint64_t wide[BLOCK];
    alignas(64) std::uint64_t raw[BLOCK];
};

// Returns the bit patterns of n <= BLOCK elements from position `start`, in C order: the tensor's own where they are
// contiguous, gathered into `raw` where they are not.
const void* patterns(const View& view, std::size_t start, std::size_t n, void* raw);

// Sets the elements from position `start` whose bit is not set to zero.
void clear_block(const View& view, std::size_t start, std::size_t n, const std::uint8_t* kept);

// Returns n bit patterns as those of the float of `bits` bits that has the same value.
const void* widen(const void* patterns, Dtype dtype, int bits, std::size_t n, void* wide);

// The bit pattern of +inf of the floats whose patterns become keys of `bits` bits.
std::uint64_t infinity(Dtype dtype, int bits);

// Loads n <= BLOCK keys; those of elements that take no part are all ones. Sets `nan` where one was met.
template <class Key>
const Key* load(const View& view, std::size_t start, std::size_t n, bool absolute, Scratch& scratch, bool& nan) {
    constexpr int bits = 8 * sizeof(Key);
    const KeyKernels<Key>& own = kernels().of<Key>();
    const void* found = patterns(view, start, n, scratch.raw);
    if (bytes_of(view.dtype) != sizeof(Key)) found = widen(found, view.dtype, bits, n, scratch.wide);
    Key* const keys = reinterpret_cast<Key*>(scratch.keys);
    const auto limit = static_cast<Key>(infinity(view.dtype, bits));
    nan |= own.keys(static_cast<const Key*>(found), n, limit, absolute, keys);
    return keys;
}

}  // namespace secateur
