// Every kernel of every instruction set against the plainest loop, at all lengths around the widths of vectors.
#include <cstring>
#include <string>

#include "check.h"
#include "secateur/kernels.h"

namespace {

using secateur::KeyKernels;

constexpr std::size_t LENGTHS[] = {0, 1, 7, 8, 9, 15, 31, 63, 64, 65, 127, 128, 200, 513};

template <class Key>
Key infinity() {
    return static_cast<Key>(sizeof(Key) == 2 ? 0x7c00u : sizeof(Key) == 4 ? 0x7f800000u : 0x7ff0000000000000u);
}

// Patterns of all kinds: zeros, subnormals, infinities of both signs, many that are equal; no NaN.
template <class Key>
std::vector<Key> patterns(std::size_t n, Random& random) {
    constexpr Key sign = static_cast<Key>(Key{1} << (8 * sizeof(Key) - 1));
    std::vector<Key> found(n);
    for (Key& pattern : found) {
        const Key few[] = {0, 1, infinity<Key>(), static_cast<Key>(infinity<Key>() / 2)};
        const std::uint64_t kind = random.below(8);
        pattern = kind < 4 ? few[kind] : static_cast<Key>(random.next() % (std::uint64_t{infinity<Key>()} + 1));
        if (random.below(2) != 0) pattern = static_cast<Key>(pattern | sign);
    }
    return found;
}

double value(std::uint32_t pattern) {
    float single;
    std::memcpy(&single, &pattern, 4);
    return single;
}

double value(std::uint64_t pattern) {
    double found;
    std::memcpy(&found, &pattern, 8);
    return found;
}

double value(std::uint16_t pattern) {  // half precision
    const double fraction = pattern & 0x3ff, exponent = (pattern >> 10) & 0x1f;
    double scale = 1.0 / (1 << 24), magnitude = fraction * scale;
    if (exponent > 0) {
        for (int i = 1; i < static_cast<int>(exponent); ++i) scale *= 2;
        magnitude = exponent == 31 ? 1e9 : (1024 + fraction) * scale;
    }
    return (pattern & 0x8000) != 0 ? -magnitude : magnitude;
}

template <class Key>
void keys_are_in_order(const KeyKernels<Key>& use) {
    Random random(1);
    for (const std::size_t n : LENGTHS) {
        const std::vector<Key> from = patterns<Key>(n, random);
        for (const bool absolute : {false, true}) {
            std::vector<Key> keys(n);
            CHECK(!use.keys(from.data(), n, infinity<Key>(), absolute, keys.data()));
            for (std::size_t i = 1; i < n; ++i) {
                double a = value(from[i - 1]), b = value(from[i]);
                if (absolute) a = a < 0 ? -a : a, b = b < 0 ? -b : b;
                CHECK((keys[i - 1] < keys[i]) == (a < b));
                CHECK((keys[i - 1] == keys[i]) == (a == b));
            }
            for (std::size_t i = 0; i < n; ++i) {
                std::vector<Key> with = from;
                with[i] = static_cast<Key>(infinity<Key>() + 1 + random.below(3));
                if (random.below(2) != 0) with[i] = static_cast<Key>(~std::uint64_t{0} - random.below(3));
                CHECK(use.keys(with.data(), n, infinity<Key>(), absolute, keys.data()));
            }
        }
    }
}

template <class Key>
void counts_are_right(const KeyKernels<Key>& use) {
    Random random(2);
    for (const std::size_t n : LENGTHS) {
        for (int repeat = 0; repeat < 20; ++repeat) {
            std::vector<Key> keys(n);
            for (Key& key : keys) key = static_cast<Key>(random.below(repeat < 10 ? 300 : 60000));
            const auto shift = static_cast<unsigned>(random.below(6));
            const auto first = static_cast<Key>(random.below(40)), last = static_cast<Key>(random.below(60));
            std::vector<std::uint64_t> counts(last + std::size_t{1}), expected(counts.size());
            std::uint64_t below = 0;
            for (const Key key : keys) {
                const auto digit = static_cast<Key>(key >> shift);
                below += digit < first;
                if (digit >= first && digit - first <= last) ++expected[digit - first];
            }
            CHECK(use.count(keys.data(), n, first, shift, last, counts.data()) == below);
            CHECK(counts == expected);
        }
    }
}

template <class Key>
void masks_are_right(const KeyKernels<Key>& use) {
    Random random(3);
    for (const std::size_t n : LENGTHS) {
        std::vector<Key> keys(n);
        for (Key& key : keys) key = static_cast<Key>(random.below(5));
        const std::vector<std::uint8_t> kept = random_bits(n, random);
        for (Key least = 0; least < 6; ++least) {
            std::vector<std::uint8_t> after = kept;
            std::vector<Key> cleared = keys, without = keys;
            const std::uint64_t left = use.cut(keys.data(), n, least, after.data());
            const std::uint64_t equal = use.equal(keys.data(), n, least, kept.data());
            use.clear(kept.data(), n, cleared.data());
            use.leave_out(kept.data(), n, without.data());
            std::uint64_t expected_left = 0, expected_equal = 0;
            for (std::size_t i = 0; i < n; ++i) {
                const bool stays = bit(kept, i) && keys[i] >= least;
                CHECK(bit(after, i) == stays);
                CHECK(cleared[i] == (bit(kept, i) ? keys[i] : 0));
                CHECK(without[i] == (bit(kept, i) ? keys[i] : static_cast<Key>(~Key{0})));
                expected_left += stays;
                expected_equal += bit(kept, i) && keys[i] == least;
            }
            CHECK(left == expected_left);
            CHECK(equal == expected_equal);
        }
    }
}

template <class Check>
void in_every_set(Check check) {
    const std::string before = secateur::kernels().name;
    for (const secateur::Kernels* const* set = secateur::usable_kernels(); *set != nullptr; ++set) {
        CHECK(secateur::use_kernels((*set)->name));
        check(secateur::kernels().key16);
        check(secateur::kernels().key32);
        check(secateur::kernels().key64);
    }
    CHECK(secateur::use_kernels(before.c_str()));
}

}  // namespace

TEST(keys_have_the_order_of_the_floats_and_tell_nan) {
    in_every_set([](const auto& use) { keys_are_in_order(use); });
}

TEST(digits_are_counted) {
    in_every_set([](const auto& use) { counts_are_right(use); });
}

TEST(bits_are_cut_counted_and_cleared) {
    in_every_set([](const auto& use) { masks_are_right(use); });
}

TEST(unknown_sets_are_refused) {
    const secateur::Kernels* before = &secateur::kernels();
    CHECK(!secateur::use_kernels("abacus"));
    CHECK(before == &secateur::kernels());
    CHECK(std::string(secateur::usable_kernels()[0]->name) == "baseline");
}
