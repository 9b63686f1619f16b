// What the tests of the engine share: places in an arena, and programs that begin and end with a look at all of it.
//
// A call of a program is a structure that can be added to a program, carried out by plain loops on the same floats in
// double precision, and have any of its numbers changed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../src/engine/steps.h"
#include "check.h"
#include "secateur/engine.h"
#include "secateur/kernels.h"

namespace testing {

using secateur::engine::Applied;
using secateur::engine::Halo;
using secateur::engine::Map;
using secateur::engine::Place;
using secateur::engine::Program;
using secateur::engine::Span;
using secateur::engine::Sparse;
using secateur::engine::Tiling;
using secateur::engine::Window;
using Doubles = std::vector<double>;

inline std::vector<std::string> sets() {
    std::vector<std::string> names;
    for (const secateur::Kernels* const* set = secateur::usable_kernels(); *set != nullptr; ++set) {
        names.emplace_back((*set)->name);
    }
    return names;
}

inline std::size_t lanes_of(const std::string& kernels) { return Program(kernels, 0, {}, {}, false).lanes(); }

inline std::size_t size(Random& random, std::size_t least, std::size_t most) {
    return least + static_cast<std::size_t>(random.below(most - least + 1));
}

inline bool chance(Random& random, unsigned percent) { return random.below(100) < percent; }

// From -1 to 1.
inline float number(Random& random) { return static_cast<float>(random.below(2000001)) * 1e-6f - 1.f; }

inline std::vector<float> numbers(Random& random, std::size_t count) {
    std::vector<float> made(count);
    for (float& each : made) each = number(random);
    return made;
}

// Maps and arrays side by side, now and then with a gap between.
struct Layout {
    std::size_t lanes, end = 0;

    Map map(Random& random, std::size_t channels, std::size_t rows, std::size_t cols) {
        Map made;
        made.offset = end + random.below(3) * lanes;
        made.channels = channels;
        made.rows = rows;
        made.cols = cols;
        made.row = (cols + random.below(3)) * lanes;
        made.channel = rows * made.row + random.below(3) * lanes;
        end = made.offset + channels * made.channel;
        return made;
    }

    // Arrays begin anywhere, unless they are vectors.
    Span span(Random& random, std::size_t size, bool vectors = false) {
        Span made;
        made.offset = vectors ? (end + lanes - 1) / lanes * lanes : end + random.below(5);
        made.size = size;
        end = made.offset + size;
        return made;
    }

    std::size_t arena() const { return (end + lanes - 1) / lanes * lanes; }
};

inline double activated(const Applied& a, double x) {
    using secateur::engine::Function;
    const double alpha = static_cast<double>(a.alpha), beta = static_cast<double>(a.beta);
    const double hard = std::isnan(x) ? x : x + 3 < 0 ? 0 : x + 3 > 6 ? 1 : (x + 3) / 6;
    switch (static_cast<Function>(a.function)) {
        case Function::none:
            return x;
        case Function::relu:
            return x < 0 ? 0 : x;
        case Function::clamp:
            return x < alpha ? alpha : x > beta ? beta : x;
        case Function::leaky_relu:
            return x < 0 ? alpha * x : x;
        case Function::elu:
            return x < 0 ? alpha * std::expm1(x) : x;
        case Function::sigmoid:
            return 1 / (1 + std::exp(-x));
        case Function::tanh:
            return std::tanh(x);
        case Function::silu:
            return x / (1 + std::exp(-x));
        case Function::gelu:
            return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
        case Function::gelu_tanh:
            return 0.5 * x * (1 + std::tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
        case Function::hardswish:
            return x * hard;
        case Function::hardsigmoid:
            return hard;
        case Function::softplus:
            return alpha * x > beta ? x : std::log1p(std::exp(alpha * x)) / alpha;
        case Function::exp:
            return std::exp(x);
        case Function::log:
            return std::log(x);
        case Function::sqrt:
            return std::sqrt(x);
        case Function::reciprocal:
            return 1 / x;
        case Function::absolute:
            return std::fabs(x);
        case Function::negative:
            return -x;
        case Function::square:
            return x * x;
        case Function::rsqrt:
            return 1 / std::sqrt(x);
        case Function::sin:
            return std::sin(x);
        case Function::cos:
            return std::cos(x);
        case Function::erf:
            return std::erf(x);
        case Function::floor:
            return std::floor(x);
        case Function::power:
            return std::pow(x, alpha);
    }
    return x;
}

// One of those that do not make small errors large.
inline Applied activation(Random& random) {
    using secateur::engine::Function;
    constexpr Function some[] = {Function::none,      Function::relu,        Function::clamp, Function::leaky_relu,
                                 Function::elu,       Function::sigmoid,     Function::tanh,  Function::silu,
                                 Function::gelu,      Function::gelu_tanh,   Function::exp,   Function::absolute,
                                 Function::hardswish, Function::hardsigmoid, Function::sin,   Function::softplus};
    Applied made;
    made.function = static_cast<int>(some[random.below(sizeof some / sizeof some[0])]);
    const bool factor = made.function == static_cast<int>(Function::softplus);
    made.alpha = factor ? 1.5f : -0.25f;
    made.beta = factor ? 3.f : 0.75f;
    return made;
}

// A halo around a map: vectors of a channel, written in turn from others.
inline Halo halo(Random& random, const Map& around, std::size_t lanes) {
    Halo made;
    made.offset = around.offset;
    made.outside = number(random);
    const std::size_t count = random.below(6), permutations = size(random, 1, 3);
    for (std::size_t i = 0; i < permutations * lanes; ++i) {
        made.permutations.push_back(static_cast<std::int32_t>(random.below(lanes + 1)) - 1);
    }
    const auto vector = [&] {
        const std::size_t row = random.below(around.rows) * around.row / lanes;
        return static_cast<std::uint32_t>(row + random.below(around.cols));
    };
    for (std::size_t i = 0; i < count; ++i) {
        made.fills.insert(made.fills.end(),
                          {vector(), vector(), static_cast<std::uint32_t>(random.below(permutations))});
    }
    return made;
}

inline void fill(const Halo& halo, const Map& map, std::size_t lanes, Doubles& arena) {
    for (std::size_t channel = 0; channel < map.channels; ++channel) {
        double* const base = arena.data() + halo.offset + channel * map.channel;
        for (std::size_t i = 0; i < halo.fills.size(); i += 3) {
            const Doubles from(base + halo.fills[i + 1] * lanes, base + (halo.fills[i + 1] + 1) * lanes);
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                const std::int32_t where = halo.permutations[halo.fills[i + 2] * lanes + lane];
                const auto outside = static_cast<double>(halo.outside);
                base[halo.fills[i] * lanes + lane] = where < 0 ? outside : from[static_cast<std::size_t>(where)];
            }
        }
    }
}

// The part of a map without some of its edge.
inline Map inside(const Map& whole, std::size_t top, std::size_t left, std::size_t rows, std::size_t cols,
                  std::size_t lanes) {
    Map made = whole;
    made.offset += top * whole.row + left * lanes;
    made.rows = rows;
    made.cols = cols;
    return made;
}

// Runs a call on an arena of the given floats; returns all floats after it.
template <class Call>
std::vector<float> carried_out(const std::string& kernels, const Call& call, const std::vector<float>& before,
                               unsigned threads, bool samples_in_lanes = false) {
    Program program(kernels, before.size(), {before.size()}, {before.size()}, samples_in_lanes);
    std::vector<std::int32_t> all(before.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
    program.gather({0, 0, 0}, {-1, 0, 0}, 1, all, 0);
    call.add(program);
    program.gather({-1, 0, 0}, {0, 0, 0}, 1, all, 0);
    std::vector<float> after(before.size());
    program.run({before.data()}, {after.data()}, 1, threads);
    return after;
}

inline bool close(double expected, float found, double tolerance) {
    const auto wide = static_cast<double>(found);
    if (std::isnan(expected) || std::isnan(found)) return std::isnan(expected) && std::isnan(found);
    if (std::isinf(expected) || std::isinf(found)) return expected == wide;
    return std::fabs(expected - wide) <= tolerance * (1 + std::fabs(expected));
}

// Whether a call does what its plain loops do, and writes nothing else; on one thread and on three.
template <class Call>
bool right(const std::string& kernels, const Call& call, const std::vector<float>& before,
           bool samples_in_lanes = false, double tolerance = 1e-5) {
    Doubles expected(before.begin(), before.end());
    call.expect(expected, lanes_of(kernels));
    const std::vector<float> found = carried_out(kernels, call, before, 1, samples_in_lanes);
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (!close(expected[i], found[i], tolerance)) return false;
    }
    const std::vector<float> again = carried_out(kernels, call, before, 3, samples_in_lanes);
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (!(again[i] == found[i] || (std::isnan(again[i]) && std::isnan(found[i])))) return false;
    }
    return true;
}

template <class Check>
void in_every_set(Check check) {
    for (const std::string& kernels : sets()) check(kernels, lanes_of(kernels));
}

}  // namespace testing
