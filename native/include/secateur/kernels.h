// The innermost loops, once for each instruction set, and the choice among them.
//
// src/kernels.cpp is compiled once for each set with flags of its own; everything in it lives in a namespace of the
// set's name, and it uses nothing from headers that the linker could share with other files.
//
// Scores are ranked by their keys: unsigned integers of 16, 32 or 64 bits in the order of the floats. The key of all
// ones, which would be a NaN, stands for elements that take no part. Masks are one bit an element, the first of a byte
// in its highest bit, 1 = kept.
#pragma once

#include <cstddef>
#include <cstdint>

namespace secateur {

template <class Key>
struct KeyKernels {
    // Turns bit patterns into keys, of the values or, if `absolute`, of their magnitudes; both zeros have one key.
    // Returns whether a NaN was met. `infinity` is the bit pattern of +inf.
    bool (*keys)(const Key* patterns, std::size_t n, Key infinity, bool absolute, Key* keys);

    // Sets the keys of elements that are not kept to all ones.
    void (*leave_out)(const std::uint8_t* kept, std::size_t n, Key* keys);

    // Adds 1 to counts[digit - first] for every digit = key >> shift from first to first + last; returns how many
    // digits are below first. At most 65535 keys at a time.
    std::uint64_t (*count)(const Key* keys, std::size_t n, Key first, unsigned shift, Key last, std::uint64_t* counts);

    // Clears the bit of every key below `least`; returns how many bits stay set.
    std::uint64_t (*cut)(const Key* keys, std::size_t n, Key least, std::uint8_t* kept);

    // Counts the keys that equal `key` and whose bit is set.
    std::uint64_t (*equal)(const Key* keys, std::size_t n, Key key, const std::uint8_t* kept);

    // Sets elements that are not kept to zero.
    void (*clear)(const std::uint8_t* kept, std::size_t n, Key* elements);
};

struct Kernels {
    const char* name;
    KeyKernels<std::uint16_t> key16;
    KeyKernels<std::uint32_t> key32;
    KeyKernels<std::uint64_t> key64;

    template <class Key>
    const KeyKernels<Key>& of() const {
        if constexpr (sizeof(Key) == 2) {
            return key16;
        } else if constexpr (sizeof(Key) == 4) {
            return key32;
        } else {
            return key64;
        }
    }
};

// The kernels in use: the best that this processor can run, unless use() said otherwise.
const Kernels& kernels();

// The sets that were built and that this processor can run, from the plainest up; ends with a null pointer.
const Kernels* const* usable_kernels();

// Uses the kernels of that name from now on; returns false, and changes nothing, if they are not usable.
bool use_kernels(const char* name);

}  // namespace secateur
