// As much of a test framework as these tests need: TEST(name) { CHECK(...); } and reproducible random numbers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <vector>

struct Test {
    const char* name;
    void (*run)();
};

inline std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Registered {
    Registered(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

#define TEST(name)                                          \
    static void name();                                     \
    static const Registered registered_##name(#name, name); \
    static void name()

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            ++failures();                                                         \
            std::printf("  %s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                         \
    } while (false)

class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}

    std::uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_ * 0x2545f4914f6cdd1du;
    }

    std::uint64_t below(std::uint64_t limit) { return (next() >> 16) % limit; }

private:
    std::uint64_t state_;
};

inline bool bit(const std::vector<std::uint8_t>& bits, std::size_t i) {
    return ((bits[i / 8] >> (7 - i % 8)) & 1) != 0;
}

inline std::vector<std::uint8_t> ones(std::size_t n) {
    std::vector<std::uint8_t> bits((n + 7) / 8, 0xff);
    if (n % 8 != 0) bits.back() = static_cast<std::uint8_t>(0xff00u >> (n % 8));
    return bits;
}

inline std::vector<std::uint8_t> random_bits(std::size_t n, Random& random) {
    std::vector<std::uint8_t> bits = ones(n);
    for (std::uint8_t& byte : bits) byte = static_cast<std::uint8_t>(byte & random.next());
    return bits;
}
