// Counting, guessing and cutting whole tensors, against a stable sort of everything.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "check.h"
#include "secateur/ranking.h"

namespace {

using secateur::Dtype;
using secateur::Ranking;
using secateur::View;

// Tensors with memory of their own, and the values they stand for in C order.
struct Tensors {
    std::vector<std::vector<std::uint64_t>> memory;
    std::vector<std::vector<double>> values;
    std::vector<std::vector<std::uint8_t>> within;
    Ranking ranking;
};

std::uint16_t brain(float value) {
    std::uint32_t pattern;
    std::memcpy(&pattern, &value, 4);
    return static_cast<std::uint16_t>(pattern >> 16);
}

void put(void* memory, std::size_t at, Dtype dtype, double value) {
    if (dtype == Dtype::float64) std::memcpy(static_cast<char*>(memory) + 8 * at, &value, 8);
    const auto single = static_cast<float>(value);
    if (dtype == Dtype::float32) std::memcpy(static_cast<char*>(memory) + 4 * at, &single, 4);
    const std::uint16_t sixteen = brain(single);
    if (dtype == Dtype::bfloat16) std::memcpy(static_cast<char*>(memory) + 2 * at, &sixteen, 2);
}

// A tensor of shape (outer, inner), its memory transposed if `strided`; few distinct values, all exact in bfloat16.
void add(Tensors& all, Dtype dtype, std::size_t outer, std::size_t inner, bool strided, bool with_mask,
         Random& random) {
    const std::size_t n = outer * inner;
    all.memory.emplace_back(n + 1);
    all.values.emplace_back();
    all.within.emplace_back();
    if (with_mask) all.within.back() = random_bits(n, random);
    for (std::size_t i = 0; i < n; ++i) {
        const double magnitude = random.below(4) == 0 ? 0.0
                                                      : std::ldexp(1.0 + 0.25 * static_cast<double>(random.below(4)),
                                                                   static_cast<int>(random.below(4)) - 2);
        const double value = random.below(2) == 0 ? magnitude : -magnitude;
        const std::size_t at = strided ? i % inner * outer + i / inner : i;
        put(all.memory.back().data(), at, dtype, value);
        all.values.back().push_back(value);
    }
    View view;
    view.data = all.memory.back().data();
    view.dtype = dtype;
    view.size = n;
    if (strided) {
        view.axes = 2;
        view.shape[0] = static_cast<std::int64_t>(outer);
        view.shape[1] = static_cast<std::int64_t>(inner);
        view.strides[0] = 1;
        view.strides[1] = static_cast<std::int64_t>(outer);
    }
    all.ranking.views.push_back(view);
}

void tie_masks(Tensors& all) {
    for (std::size_t i = 0; i < all.within.size(); ++i) {
        if (!all.within[i].empty()) all.ranking.views[i].kept = all.within[i].data();
    }
}

struct Place {
    double value;
    std::size_t tensor, position;
};

std::vector<Place> in_order(const Tensors& all) {
    std::vector<Place> places;
    for (std::size_t t = 0; t < all.values.size(); ++t) {
        for (std::size_t i = 0; i < all.values[t].size(); ++i) {
            if (!all.within[t].empty() && !bit(all.within[t], i)) continue;
            const double value = all.values[t][i];
            places.push_back({all.ranking.absolute ? std::fabs(value) : value + 0.0, t, i});
        }
    }
    std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.value < b.value; });
    return places;
}

struct Found {
    std::uint64_t key, ties, tied;
};

// The k-th key, by halving: one histogram of two digits at a time.
Found kth(const Ranking& ranking, std::uint64_t k) {
    std::uint64_t key = 0;
    for (int shift = ranking.bits - 1; shift >= 0; --shift) {
        std::uint64_t counts[2] = {};
        const std::uint64_t first = key >> shift;
        const secateur::Counted counted = secateur::count(ranking, first, static_cast<unsigned>(shift), 2, counts);
        CHECK(counted.nan == secateur::NO_NAN);
        if (counted.below + counts[0] < k) key |= std::uint64_t{1} << shift;
    }
    std::uint64_t tied = 0;
    const std::uint64_t below = secateur::count(ranking, key, 0, 1, &tied).below;
    return {key, k - below, tied};
}

void check_cut(Tensors& all, std::uint64_t k) {
    const std::vector<Place> places = in_order(all);
    if (k > places.size()) return;
    std::vector<std::vector<std::uint8_t>> masks, expected;
    std::vector<std::uint8_t*> out;
    for (std::size_t t = 0; t < all.values.size(); ++t) {
        masks.push_back(all.within[t].empty() ? ones(all.values[t].size()) : all.within[t]);
    }
    expected = masks;
    for (std::vector<std::uint8_t>& mask : masks) out.push_back(mask.data());
    for (std::size_t i = 0; i < k; ++i) {
        std::uint8_t& byte = expected[places[i].tensor][places[i].position / 8];
        byte = static_cast<std::uint8_t>(byte & ~(0x80u >> (places[i].position % 8)));
    }
    const Found found = k == 0 ? Found{0, 0, 0} : kth(all.ranking, k);
    const std::vector<std::uint64_t> left = secateur::cut(all.ranking, out, found.key, found.ties, found.tied);
    CHECK(masks == expected);
    std::uint64_t total = std::accumulate(left.begin(), left.end(), std::uint64_t{0});
    CHECK(total == places.size() - k);
}

}  // namespace

TEST(cuts_equal_a_stable_sort) {
    Random random(4);
    const std::vector<std::vector<Dtype>> kinds = {{Dtype::bfloat16, Dtype::bfloat16},
                                                   {Dtype::float32, Dtype::float32, Dtype::float32},
                                                   {Dtype::float64},
                                                   {Dtype::float32, Dtype::bfloat16},
                                                   {Dtype::float64, Dtype::float32, Dtype::bfloat16}};
    for (const std::vector<Dtype>& dtypes : kinds) {
        for (int repeat = 0; repeat < 16; ++repeat) {
            Tensors all;
            for (const Dtype dtype : dtypes) {
                const bool strided = random.below(3) == 0, masked = random.below(3) == 0;
                add(all, dtype, 1 + random.below(40), random.below(90), strided, masked, random);
            }
            tie_masks(all);
            std::size_t widest = 0;
            for (const Dtype dtype : dtypes) widest = std::max(widest, secateur::bytes_of(dtype));
            all.ranking.bits = static_cast<int>(8 * widest);
            all.ranking.absolute = repeat % 2 == 0;
            all.ranking.threads = static_cast<unsigned>(1 + random.below(3));
            const std::size_t part = in_order(all).size();
            for (const std::uint64_t k :
                 {std::uint64_t{0}, std::uint64_t{1}, random.below(part + 1), std::uint64_t{part}})
                check_cut(all, k);
        }
    }
}

TEST(many_chunks_and_many_ties) {
    Random random(5);
    Tensors all;
    add(all, Dtype::float32, 3, 70000, false, false, random);
    add(all, Dtype::float32, 700, 200, true, true, random);
    tie_masks(all);
    all.ranking.threads = 3;
    for (const bool absolute : {false, true}) {
        all.ranking.absolute = absolute;
        for (const std::uint64_t k : {1u, 20000u, 65536u, 131072u, 200001u}) check_cut(all, k);
    }
}

TEST(histograms_of_shards_add_up) {
    Random random(6);
    Tensors all;
    for (int i = 0; i < 4; ++i) add(all, Dtype::float32, 30, 100, i % 2 == 1, i > 1, random);
    tie_masks(all);
    std::vector<std::uint64_t> whole(1 << 8), parts(1 << 8);
    std::uint64_t below = secateur::count(all.ranking, 0xb0, 24, 64, whole.data()).below;
    for (const View& view : all.ranking.views) {
        Ranking shard = all.ranking;
        shard.views.assign(1, view);
        below -= secateur::count(shard, 0xb0, 24, 64, parts.data()).below;
    }
    CHECK(below == 0);
    CHECK(whole == parts);
}

TEST(a_guess_holds_what_it_should_and_is_exact_where_the_sample_is_everything) {
    Random random(7);
    std::vector<float> weights(1 << 20);
    for (float& weight : weights) weight = static_cast<float>(random.below(1 << 24)) / (1 << 24);
    Ranking ranking;
    View view;
    view.data = weights.data();
    for (const std::size_t n : {std::size_t{1000}, weights.size()}) {
        view.size = n;
        ranking.views.assign(1, view);
        for (const double share : {0.001, 0.5, 0.9, 1.0}) {
            const auto k = static_cast<std::uint64_t>(share * static_cast<double>(n));
            const secateur::Bracket guess = secateur::bracket(ranking, k, n);
            const Found found = kth(ranking, k);
            CHECK(guess.low <= found.key && found.key <= guess.high);
            if (n == 1000) CHECK(guess.low == guess.high);
        }
    }
}

TEST(nan_is_named_by_the_first_tensor_that_has_one) {
    Random random(8);
    Tensors all;
    for (int i = 0; i < 5; ++i) add(all, Dtype::float32, 300, 300, false, false, random);
    all.ranking.threads = 3;
    for (const std::size_t tensor : {std::size_t{4}, std::size_t{2}}) {
        put(all.memory[tensor].data(), 89999, Dtype::float32, std::nan(""));
        std::uint64_t counts[1];
        CHECK(secateur::count(all.ranking, 0, 0, 1, counts).nan == tensor);
    }
}

TEST(values_survive_widening) {
    const std::uint16_t halves[] = {0x0000, 0x8000, 0x0001, 0x03ff, 0x8400, 0x3c00, 0x7bff, 0x7c00, 0xfc00};
    const float singles[] = {0.0f,     -0.0f,    1.0f / (1 << 24), 1023.0f / (1 << 24), -1.0f / (1 << 14), 1.0f,
                             65504.0f, INFINITY, -INFINITY};
    const float tiny[] = {1e-45f, -1e-40f, 1.17549435e-38f};
    for (const int bits : {32, 64}) {
        for (std::size_t i = 0; i < 9; ++i) {
            Ranking ranking;
            ranking.bits = bits;
            View view;
            view.size = 1;
            view.data = const_cast<std::uint16_t*>(&halves[i]);
            view.dtype = Dtype::float16;
            ranking.views.assign(1, view);
            const std::uint64_t key = kth(ranking, 1).key;
            const double wide = singles[i];
            view.data = bits == 32 ? static_cast<void*>(const_cast<float*>(&singles[i])) : const_cast<double*>(&wide);
            view.dtype = bits == 32 ? Dtype::float32 : Dtype::float64;
            ranking.views.assign(1, view);
            CHECK(kth(ranking, 1).key == key);
        }
    }
    for (const float& single : tiny) {
        const double wide = single;
        Ranking ranking;
        ranking.bits = 64;
        View view;
        view.size = 1;
        view.data = const_cast<float*>(&single);
        ranking.views.assign(1, view);
        const std::uint64_t key = kth(ranking, 1).key;
        view.data = const_cast<double*>(&wide);
        view.dtype = Dtype::float64;
        ranking.views.assign(1, view);
        CHECK(kth(ranking, 1).key == key);
    }
}

TEST(what_is_left_out_is_cleared_and_nothing_else) {
    Random random(9);
    Tensors all;
    add(all, Dtype::float32, 300, 301, false, true, random);
    add(all, Dtype::bfloat16, 33, 7, true, true, random);
    add(all, Dtype::float64, 65, 1, false, true, random);
    tie_masks(all);
    Tensors before = all;
    secateur::clear(all.ranking.views, 3);
    for (std::size_t t = 0; t < all.values.size(); ++t) {
        const View& view = all.ranking.views[t];
        const std::size_t width = secateur::bytes_of(view.dtype);
        for (std::size_t i = 0; i < view.size; ++i) {
            std::size_t at = i;
            if (view.axes == 2) at = i % 7 * 33 + i / 7;
            const char* now = reinterpret_cast<const char*>(all.memory[t].data()) + at * width;
            const char* then = reinterpret_cast<const char*>(before.memory[t].data()) + at * width;
            const char zeros[8] = {};
            CHECK(std::memcmp(now, bit(all.within[t], i) ? then : zeros, width) == 0);
        }
    }
}
