// Compiled once for each instruction set: SECATEUR_ISA is its name. Loops are written for the compiler's vectorizer.
#include "secateur/kernels.h"

#include <string.h>  // not <cstring>: nothing here may be shared with files built for other processors

#if !defined(SECATEUR_ISA)
#define SECATEUR_ISA baseline
#endif
#define SECATEUR_TEXT(x) #x
#define SECATEUR_NAME(x) SECATEUR_TEXT(x)

#if defined(_MSC_VER)
#define SECATEUR_RESTRICT __restrict
#else
#define SECATEUR_RESTRICT __restrict__
#endif

namespace secateur {
namespace SECATEUR_ISA {
namespace {

using std::size_t;
using std::uint64_t;
using std::uint8_t;

constexpr size_t GROUP = 64;  // elements whose bits fill one word

template <class Key>
bool keys(const Key* SECATEUR_RESTRICT patterns, size_t n, Key infinity, bool absolute, Key* SECATEUR_RESTRICT keys) {
    constexpr Key sign = static_cast<Key>(Key{1} << (8 * sizeof(Key) - 1));
    constexpr Key rest = static_cast<Key>(~sign);
    Key nan = 0;
    if (absolute) {
        for (size_t i = 0; i < n; ++i) {
            const Key magnitude = patterns[i] & rest;
            nan |= static_cast<Key>(magnitude > infinity);
            keys[i] = magnitude;
        }
    } else {
        for (size_t i = 0; i < n; ++i) {
            const Key pattern = patterns[i], magnitude = pattern & rest;
            nan |= static_cast<Key>(magnitude > infinity);
            const Key key = static_cast<Key>(pattern & sign ? ~pattern : pattern | sign);
            keys[i] = magnitude == 0 ? sign : key;
        }
    }
    return nan != 0;
}

bool bit(const uint8_t* bits, size_t i) { return (bits[i / 8] >> (7 - i % 8)) & 1; }

template <class Key>
void leave_out(const uint8_t* SECATEUR_RESTRICT kept, size_t n, Key* SECATEUR_RESTRICT keys) {
    for (size_t start = 0; start < n; start += 8) {
        if (kept[start / 8] == 0xff) continue;
        const size_t end = start + 8 < n ? start + 8 : n;
        for (size_t i = start; i < end; ++i) {
            if (!bit(kept, i)) keys[i] = static_cast<Key>(~Key{0});
        }
    }
}

// Counts the digits above the first one by one. Where the digits were guessed well they are few, so each key has a
// flag, and flags are looked at eight at a time.
template <class Key>
void count_others(const Key* SECATEUR_RESTRICT keys, size_t n, Key first, unsigned shift, Key last,
                  uint64_t* SECATEUR_RESTRICT counts) {
    uint8_t flags[GROUP] = {};
    for (size_t i = 0; i < n; ++i) {
        const Key bin = static_cast<Key>(static_cast<Key>(keys[i] >> shift) - first);
        flags[i] = static_cast<uint8_t>(static_cast<Key>(bin - 1) < last);
    }
    for (size_t eight = 0; eight < GROUP; eight += 8) {
        uint64_t any = 0;
        memcpy(&any, flags + eight, 8);
        for (size_t i = eight; any != 0; ++i, any >>= 8) {
            if ((any & 1) != 0) ++counts[static_cast<Key>(static_cast<Key>(keys[i] >> shift) - first)];
        }
    }
}

template <class Key>
uint64_t count(const Key* SECATEUR_RESTRICT keys, size_t n, Key first, unsigned shift, Key last,
               uint64_t* SECATEUR_RESTRICT counts) {
    Key below = 0, lowest = 0;
    for (size_t i = 0; i < n; ++i) {
        const Key digit = static_cast<Key>(keys[i] >> shift);
        below = static_cast<Key>(below + static_cast<Key>(digit < first));
        lowest = static_cast<Key>(lowest + static_cast<Key>(digit == first));
    }
    counts[0] += lowest;  // all at once: the first digit may hold all the zeros of a pruned tensor
    if (last == 0) return below;
    const size_t whole = n / GROUP * GROUP;
    for (size_t i = 0; i < whole; i += GROUP) count_others(keys + i, GROUP, first, shift, last, counts);
    if (whole < n) count_others(keys + whole, n - whole, first, shift, last, counts);
    return below;
}

// Packs eight bytes of 0 or 1 into one of bits: the product brings the i-th byte to the i-th highest bit.
uint8_t pack(const uint8_t* bytes) {
    uint64_t word = 0;
    memcpy(&word, bytes, 8);
    return static_cast<uint8_t>((word * 0x8040201008040201u) >> 56);
}

uint64_t set_bits(uint64_t word) {
    word -= (word >> 1) & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
    return (((word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u) >> 56;
}

// Clears the bits of up to 64 elements whose byte is 0; returns how many stay set, in `kept` if `write`.
template <bool write, class Bytes>
uint64_t filter(const uint8_t (&bytes)[GROUP], size_t n, Bytes* kept) {
    uint8_t packed[8] = {};
    const size_t length = (n + 7) / 8;
    for (size_t i = 0; i < length; ++i) packed[i] = static_cast<uint8_t>(kept[i] & pack(bytes + 8 * i));
    if constexpr (write) memcpy(kept, packed, length);
    uint64_t word = 0;
    memcpy(&word, packed, 8);
    return set_bits(word);
}

template <class Key>
uint64_t cut_group(const Key* SECATEUR_RESTRICT keys, size_t n, Key least, uint8_t* SECATEUR_RESTRICT kept) {
    uint8_t bytes[GROUP] = {};
    for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(keys[i] >= least);
    return filter<true>(bytes, n, kept);
}

template <class Key>
uint64_t cut(const Key* keys, size_t n, Key least, uint8_t* kept) {
    uint64_t left = 0;
    const size_t whole = n / GROUP * GROUP;
    for (size_t i = 0; i < whole; i += GROUP) left += cut_group(keys + i, GROUP, least, kept + i / 8);
    return whole == n ? left : left + cut_group(keys + whole, n - whole, least, kept + whole / 8);
}

template <class Key>
uint64_t equal_group(const Key* SECATEUR_RESTRICT keys, size_t n, Key key, const uint8_t* SECATEUR_RESTRICT kept) {
    uint8_t bytes[GROUP] = {};
    for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(keys[i] == key);
    return filter<false>(bytes, n, kept);
}

template <class Key>
uint64_t equal(const Key* keys, size_t n, Key key, const uint8_t* kept) {
    uint64_t found = 0;
    const size_t whole = n / GROUP * GROUP;
    for (size_t i = 0; i < whole; i += GROUP) found += equal_group(keys + i, GROUP, key, kept + i / 8);
    return whole == n ? found : found + equal_group(keys + whole, n - whole, key, kept + whole / 8);
}

// Undoes pack: the i-th highest bit becomes the i-th byte, 0 or 1.
void spread(uint8_t bits, uint8_t* bytes) {
    const uint64_t own = (bits * 0x0101010101010101u) & 0x0102040810204080u;
    const uint64_t word = ((own + 0x7f7f7f7f7f7f7f7fu) >> 7) & 0x0101010101010101u;
    memcpy(bytes, &word, 8);
}

template <class Key>
void clear(const uint8_t* SECATEUR_RESTRICT kept, size_t n, Key* SECATEUR_RESTRICT elements) {
    const size_t whole = n / GROUP * GROUP;
    for (size_t start = 0; start < whole; start += GROUP) {
        uint8_t bytes[GROUP];
        for (size_t i = 0; i < GROUP / 8; ++i) spread(kept[start / 8 + i], bytes + 8 * i);
        for (size_t i = 0; i < GROUP; ++i) elements[start + i] &= static_cast<Key>(0 - static_cast<Key>(bytes[i]));
    }
    for (size_t i = whole; i < n; ++i) {
        if (!bit(kept, i)) elements[i] = 0;
    }
}

}  // namespace

template <class Key>
constexpr KeyKernels<Key> table() {
    return {keys<Key>, leave_out<Key>, count<Key>, cut<Key>, equal<Key>, clear<Key>};
}

extern const Kernels kernels;
const Kernels kernels = {SECATEUR_NAME(SECATEUR_ISA), table<std::uint16_t>(), table<std::uint32_t>(),
                         table<std::uint64_t>()};

}  // namespace SECATEUR_ISA
}  // namespace secateur
