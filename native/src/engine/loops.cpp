// Everything but convolutions, compiled once for each instruction set: SECATEUR_ISA is its name.
#include "functions.h"
#include "tiles.h"

#define SECATEUR_TEXT(x) #x
#define SECATEUR_NAME(x) SECATEUR_TEXT(x)

namespace secateur {
namespace engine {
namespace SECATEUR_ISA {
namespace {

void pool(const PoolStep& step, float* arena, size_t part, size_t parts) {
    const size_t last = cut(step.target.channels, part + 1, parts);
    for (size_t channel = cut(step.target.channels, part, parts); channel < last; ++channel) {
        const float* const first = arena + step.source.offset + channel * step.source.channel;
        float* const to = arena + step.target.offset + channel * step.target.channel;
        for (size_t row = 0; row < step.target.rows; ++row) {
            for (size_t col = 0; col < step.target.cols; ++col) {
                const char* const corner =
                    reinterpret_cast<const char*>(first) + row * step.row_bytes + col * step.step_bytes;
                Floats x = load(reinterpret_cast<const float*>(corner + step.taps[0]));
                for (size_t tap = 1; tap < step.tap_count; ++tap) {
                    const Floats other = load(reinterpret_cast<const float*>(corner + step.taps[tap]));
                    // The greater; a NaN of either wins.
                    x = step.maximum ? unless_nan(other, less(x, other, other, x)) : x + other;
                }
                if (step.scales != nullptr) {
                    x = x * load_anywhere(step.scales + (row * step.target.cols + col) * LANES);
                } else if (!step.maximum) {
                    x = x * all(step.scale);
                }
                store(to + row * step.target.row + col * LANES, x);
            }
        }
        fill(step.fills, arena + channel * step.target.channel);
    }
}

// One thing where neither is a NaN, another where one is.
SECATEUR_INLINE Floats ordered(Floats a, Floats b, Floats yes, Floats no) {
    const Floats marked = unless_nan(b, unless_nan(a, yes));  // a NaN, if either is one
    return less(marked, all(HUGE_VALF), yes, no);
}

SECATEUR_INLINE Floats combined(Operation operation, Floats a, Floats b) {
    const Floats yes = all(1.f), no = all(0.f);
    switch (operation) {
        case Operation::add:
            return a + b;
        case Operation::subtract:
            return a - b;
        case Operation::multiply:
            return a * b;
        case Operation::divide:
            return a / b;
        case Operation::maximum:
            return unless_nan(b, less(a, b, b, a));
        case Operation::minimum:
            return unless_nan(b, less(b, a, b, a));
        case Operation::power:
            return powers(a, b);
        case Operation::equal:
            return less(a, b, no, less(b, a, no, ordered(a, b, yes, no)));
        case Operation::not_equal:
            return less(a, b, yes, less(b, a, yes, ordered(a, b, no, yes)));
        case Operation::less:
            return less(a, b, yes, no);
        case Operation::less_equal:
            return less(b, a, no, ordered(a, b, yes, no));
        case Operation::greater:
            return less(b, a, yes, no);
        case Operation::greater_equal:
            return less(a, b, no, ordered(a, b, yes, no));
    }
    return a;
}

void map(const MapStep& step, float* arena, size_t part, size_t parts) {
    const size_t last = cut(step.to.channels, part + 1, parts);
    for (size_t channel = cut(step.to.channels, part, parts); channel < last; ++channel) {
        const float* const a = arena + step.a.offset + channel * step.a.channel;
        const float* const b = arena + step.b.offset + channel * step.b.channel;
        float* const to = arena + step.to.offset + channel * step.to.channel;
        const Floats scale = all(step.scale == nullptr ? 1.f : step.scale[channel]);
        const Floats shift = all(step.shift == nullptr ? 0.f : step.shift[channel]);
        Floats same = all(0.f);
        if (step.other == Other::channel_vectors) same = load(b);
        if (step.other == Other::channel_floats) same = all(*b);
        for (size_t row = 0; row < step.to.rows; ++row) {
            for (size_t col = 0; col < step.to.cols; ++col) {
                Floats x = load(a + row * step.a.row + col * LANES);
                if (step.scale != nullptr || step.shift != nullptr) x = x * scale + shift;
                if (step.other != Other::nothing) {
                    const Floats y = step.other == Other::vectors ? load(b + row * step.b.row + col * LANES) : same;
                    x = step.swapped ? combined(step.operation, y, x) : combined(step.operation, x, y);
                }
                store(to + row * step.to.row + col * LANES, activated(step.activation, x));
            }
        }
        fill(step.fills, arena + channel * step.to.channel);
    }
}

void reduce(const ReduceStep& step, float* arena, size_t part, size_t parts) {
    const size_t last = cut(step.source.channels, part + 1, parts);
    for (size_t channel = cut(step.source.channels, part, parts); channel < last; ++channel) {
        const float* const from = arena + step.source.offset + channel * step.source.channel;
        Floats total = all(step.maximum ? -HUGE_VALF : 0.f);
        for (size_t row = 0; row < step.source.rows; ++row) {
            for (size_t col = 0; col < step.source.cols; ++col) {
                Floats x = load(from + row * step.source.row + col * LANES);
                if (step.outside != nullptr) {
                    // 1 where a lane lies outside the image, whatever it holds there.
                    const Floats outside = load_anywhere(step.outside + (row * step.source.cols + col) * LANES);
                    x = less(all(0.5f), outside, all(step.maximum ? -HUGE_VALF : 0.f), x);
                }
                total = step.maximum ? unless_nan(x, less(total, x, x, total)) : total + x;
            }
        }
        float* const to = arena + step.target + channel * (step.lanes ? LANES : 1);
        if (step.lanes) {
            store(to, total * all(step.scale));
        } else {
            *to = (step.maximum ? greatest(total) : sum(total)) * step.scale;
        }
    }
}

void gather(const GatherStep& step, const float* source, float* target, size_t part, size_t parts) {
    // By channels where there are several, else by slots.
    const bool by_channel = step.channels >= parts;
    const size_t first = by_channel ? cut(step.channels, part, parts) : 0;
    const size_t last = by_channel ? cut(step.channels, part + 1, parts) : step.channels;
    const size_t begin = by_channel ? 0 : cut(step.count, part, parts);
    const size_t end = by_channel ? step.count : cut(step.count, part + 1, parts);
    for (size_t channel = first; channel < last; ++channel) {
        const float* const from = source + step.source + channel * step.source_step;
        float* const to = target + step.target + channel * step.target_step;
        size_t i = begin;
        for (; i + LANES <= end; i += LANES) store_anywhere(to + i, gathered(from, step.table + i, all(step.outside)));
        for (; i < end; ++i) to[i] = step.table[i] < 0 ? step.outside : from[step.table[i]];
    }
}

void into_lanes(const LanesStep& step, const float* source, size_t samples, float* arena, size_t part, size_t parts) {
    // Sample after sample by one instruction, where numbers of 32 bits reach that far.
    const bool near = samples == LANES && step.sample < (size_t{1} << 26);
    int32_t places[LANES];
    for (unsigned i = 0; i < LANES; ++i) places[i] = near ? static_cast<int32_t>(i * step.sample) : 0;
    const size_t end = cut(step.count, part + 1, parts);
    for (size_t i = cut(step.count, part, parts); i < end; ++i) {
        Floats x = all(step.outside);
        if (step.table[i] >= 0) {
            const float* const from = source + step.table[i];
            if (near) {
                x = gathered(from, places, x);
            } else {
                x = all(0.f);  // also where there are fewer samples than lanes
                for (size_t s = 0; s < samples; ++s) x[s] = from[s * step.sample];
            }
        }
        store(arena + step.arena + i * LANES, x);
    }
}

void from_lanes(const LanesStep& step, const float* arena, size_t samples, float* target, size_t part, size_t parts) {
    const size_t end = cut(step.count, part + 1, parts);
    for (size_t i = cut(step.count, part, parts); i < end; ++i) {
        const float* const from = arena + step.arena + static_cast<size_t>(step.table[i]) * LANES;
        for (size_t s = 0; s < samples; ++s) target[s * step.sample + i] = from[s];
    }
}

template <class Index>
SECATEUR_INLINE Floats sparse_sum(const MultiplyStep& step, const Index* indices, const float* source, size_t slice) {
    Floats sums[2] = {load_anywhere(step.bias + slice * LANES), all(0.f)};
    size_t i = step.starts[slice];
    const size_t end = step.starts[slice + 1];
    for (; i + 1 < end; i += 2) {
        sums[0] += load_anywhere(step.values + i * LANES) * gathered(source, indices + i * LANES);
        sums[1] += load_anywhere(step.values + (i + 1) * LANES) * gathered(source, indices + (i + 1) * LANES);
    }
    if (i < end) sums[0] += load_anywhere(step.values + i * LANES) * gathered(source, indices + i * LANES);
    return sums[0] + sums[1];
}

SECATEUR_INLINE Floats dense_sum(const MultiplyStep& step, const float* source, size_t slice) {
    Floats sums[4] = {load_anywhere(step.bias + slice * LANES), all(0.f), all(0.f), all(0.f)};
    const float* const values = step.values + slice * step.columns * LANES;
    size_t i = 0;
    for (; i + 4 <= step.columns; i += 4) {
        for (size_t k = 0; k < 4; ++k) sums[k] += load_anywhere(values + (i + k) * LANES) * all(source[i + k]);
    }
    for (; i < step.columns; ++i) sums[0] += load_anywhere(values + i * LANES) * all(source[i]);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void multiply(const MultiplyStep& step, float* arena, size_t part, size_t parts) {
    const float* const source = arena + step.source;
    const size_t end = cut(step.slices, part + 1, parts);
    for (size_t slice = cut(step.slices, part, parts); slice < end; ++slice) {
        Floats x = step.indices != nullptr ? sparse_sum(step, step.indices, source, slice)
                   : step.wide != nullptr  ? sparse_sum(step, step.wide, source, slice)
                                           : dense_sum(step, source, slice);
        const uint32_t* const rows = step.order + slice * LANES;
        if (step.has_residual) {
            for (unsigned i = 0; i < LANES; ++i) {
                if (rows[i] < step.rows) x[i] += arena[step.residual + rows[i]];
            }
        }
        x = activated(step.activation, x);
        for (unsigned i = 0; i < LANES; ++i) {
            if (rows[i] < step.rows) arena[step.target + rows[i]] = x[i];
        }
    }
}

double burn(size_t times) {
    constexpr unsigned SUMS = REGISTERS == 32 ? 24 : 12;
    Floats sums[SUMS];
    for (unsigned i = 0; i < SUMS; ++i) sums[i] = all(static_cast<float>(i));
    Floats x = all(0.999f), y = all(1e-3f);
    for (size_t t = 0; t < times; ++t) {
#pragma GCC unroll 24
        for (unsigned i = 0; i < SUMS; ++i) sums[i] = sums[i] * x + y;
    }
    for (unsigned i = 1; i < SUMS; ++i) sums[0] += sums[i];
    // What is computed has to be used, or it is not computed.
    volatile float used = sum(sums[0]);
    static_cast<void>(used);
    return 2.0 * LANES * SUMS * static_cast<double>(times);
}

}  // namespace

extern const Loops loops;
const Loops loops = {SECATEUR_NAME(SECATEUR_ISA),
                     LANES,
                     most_held(),
                     filtered(),
                     burn,
                     shape,
                     convolve,
                     spread,
                     filter,
                     pool,
                     map,
                     reduce,
                     gather,
                     into_lanes,
                     from_lanes,
                     multiply,
                     along,
                     product,
                     lookup};

}  // namespace SECATEUR_ISA
}  // namespace engine
}  // namespace secateur
