// Exact selection over many tensors without concatenating them: count keys, bracket the k-th, cut the masks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace secateur {

enum class Dtype { float16, bfloat16, float32, float64 };

std::size_t bytes_of(Dtype dtype);

// A tensor as it lies in memory; elements are ranked in C order whatever the strides.
struct View {
    static constexpr int AXES = 8;

    void* data = nullptr;
    Dtype dtype = Dtype::float32;
    std::size_t size = 0;                // elements
    int axes = 0;                        // 0 where the elements are one contiguous run
    std::int64_t shape[AXES] = {};       // of the axes
    std::int64_t strides[AXES] = {};     // of the axes, in elements
    const std::uint8_t* kept = nullptr;  // one bit an element: who takes part; null = all
};

// What is ranked: tensors in their order, as magnitudes or as they are, with keys of 16, 32 or 64 bits. Keys of 16 bits
// need tensors of one dtype; wider ones take any dtype no wider than they are.
struct Ranking {
    std::vector<View> views;
    int bits = 32;
    bool absolute = false;
    unsigned threads = 1;
};

constexpr std::size_t NO_NAN = static_cast<std::size_t>(-1);

struct Counted {
    std::uint64_t below = 0;   // keys whose digit is below the first
    std::size_t nan = NO_NAN;  // the first tensor with a NaN
};

// Adds up, over all elements that take part, how often each digit = key >> shift from first to first + bins - 1 occurs.
// Memory: one histogram a thread.
Counted count(const Ranking& ranking, std::uint64_t first, unsigned shift, std::size_t bins, std::uint64_t* counts);

struct Bracket {
    std::uint64_t low = 0, high = 0;
};

// Guesses from a sample the keys between which the k-th smallest (from 1) of those that take part lies. A hint: it may
// be wrong. Memory: a 64th of the elements, at most 4 MiB.
Bracket bracket(const Ranking& ranking, std::uint64_t k, std::uint64_t part);

// Clears the mask bits of keys below `threshold` and, in order of position, of the first `ties` of the `tied` keys
// equal to it. Works on the masks alone, `kept` of the views being where they start from. Returns the bits left in
// each.
std::vector<std::uint64_t> cut(const Ranking& ranking, const std::vector<std::uint8_t*>& masks, std::uint64_t threshold,
                               std::uint64_t ties, std::uint64_t tied);

// Sets the elements of each view that its `kept` leaves out to zero.
void clear(const std::vector<View>& views, unsigned threads);

}  // namespace secateur
