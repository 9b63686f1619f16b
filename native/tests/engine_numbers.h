// Calls of a program that go number by number: functions of maps, operations of two, sums over maps, gathers, products
// with matrices.
#pragma once

#include "engine_maps.h"

namespace testing {

inline double combined(int operation, double a, double b) {
    using secateur::engine::Operation;
    switch (static_cast<Operation>(operation)) {
        case Operation::add:
            return a + b;
        case Operation::subtract:
            return a - b;
        case Operation::multiply:
            return a * b;
        case Operation::divide:
            return a / b;
        case Operation::maximum:
            return std::isnan(a) || a > b ? a : b;
        case Operation::minimum:
            return std::isnan(a) || a < b ? a : b;
        case Operation::power:
            return std::pow(a, b);
        case Operation::equal:
            return a == b ? 1 : 0;
        case Operation::not_equal:
            return a != b ? 1 : 0;
        case Operation::less:
            return a < b ? 1 : 0;
        case Operation::less_equal:
            return a <= b ? 1 : 0;
        case Operation::greater:
            return a > b ? 1 : 0;
        case Operation::greater_equal:
            return a >= b ? 1 : 0;
    }
    return a;
}

// A function of a map, or an operation of it and another map, a vector or a number for each channel.
struct Mapping {
    enum class With { nothing, map, vectors, floats } with = With::nothing;
    Map a, b, to;
    Span each_channel;
    int operation = 0;
    bool swapped = false;
    std::vector<float> scale, shift;
    Applied activation;
    Halo halo;

    void add(Program& program) const {
        if (with == With::nothing) {
            program.map(a, to, scale, shift, activation, halo);
        } else if (with == With::floats) {
            program.combine_channels(operation, a, each_channel, to, swapped, activation, halo);
        } else {
            program.combine(operation, a, b, to, swapped, activation, halo);
        }
    }

    template <class Visit>
    void numbers(Visit visit) {
        for (Map* map : {&a, &b, &to}) each(*map, visit);
        visit(each_channel.offset);
        visit(each_channel.size);
        visit(operation);
        visit(activation.function);
        each(halo, visit);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(scale);
        visit(shift);
        visit(halo.fills);
        visit(halo.permutations);
    }

    void expect(Doubles& arena, std::size_t lanes) const {
        const Doubles before = arena;
        every(to, lanes, [&](std::size_t channel, std::size_t row, std::size_t col, std::size_t lane) {
            double x = before[place(a, channel, row, col, lane, lanes)], y = 0;
            if (!scale.empty()) x *= static_cast<double>(scale[channel]);
            if (!shift.empty()) x += static_cast<double>(shift[channel]);
            if (with == With::map) y = before[place(b, channel, row, col, lane, lanes)];
            if (with == With::vectors) y = before[place(b, channel, 0, 0, lane, lanes)];
            if (with == With::floats) y = before[each_channel.offset + channel];
            if (with != With::nothing) x = swapped ? combined(operation, y, x) : combined(operation, x, y);
            arena[place(to, channel, row, col, lane, lanes)] = activated(activation, x);
        });
        fill(halo, to, lanes, arena);
    }
};

inline Mapping mapping(Random& random, Layout& layout) {
    Mapping made;
    made.with = static_cast<Mapping::With>(random.below(4));
    const std::size_t channels = size(random, 1, 5), rows = size(random, 1, 4), cols = size(random, 1, 9);
    made.a = layout.map(random, channels, rows, cols);
    const bool one = made.with == Mapping::With::vectors;
    made.b = layout.map(random, channels, one ? 1 : rows, one ? 1 : cols);
    made.each_channel = layout.span(random, channels);
    layout.end = layout.arena();
    const Map around = layout.map(random, channels, rows + 1, cols + 1);
    made.to = inside(around, 1, 0, rows, cols, layout.lanes);
    made.operation = static_cast<int>(random.below(secateur::engine::OPERATIONS));
    // Powers of negative numbers, and quotients by small ones, are looked at elsewhere.
    if (made.operation == static_cast<int>(secateur::engine::Operation::power)) made.operation = 0;
    if (made.operation == static_cast<int>(secateur::engine::Operation::divide)) made.operation = 1;
    made.swapped = chance(random, 50);
    if (chance(random, 50)) made.scale = numbers(random, channels);
    if (chance(random, 50)) made.shift = numbers(random, channels);
    if (made.with != Mapping::With::nothing) made.scale = made.shift = {};
    made.activation = activation(random);
    made.halo = halo(random, around, layout.lanes);
    return made;
}

struct Reduction {
    Map from;
    Span to;
    bool maximum = false, by_lane = false;
    float scale = 1;
    std::vector<std::uint8_t> outside;

    void add(Program& program) const {
        if (by_lane) {
            program.reduce_lanes(from, to, maximum, scale);
        } else {
            program.reduce(from, to, maximum, scale, outside);
        }
    }

    template <class Visit>
    void numbers(Visit visit) {
        each(from, visit);
        visit(to.offset);
        visit(to.size);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(outside);
    }

    void expect(Doubles& arena, std::size_t lanes) const {
        const std::size_t width = by_lane ? lanes : 1;
        Doubles found(to.size, maximum ? -HUGE_VAL : 0);
        every(from, lanes, [&](std::size_t channel, std::size_t row, std::size_t col, std::size_t lane) {
            if (!by_lane && !outside.empty() && outside[(row * from.cols + col) * lanes + lane] != 0) return;
            const double one = arena[place(from, channel, row, col, lane, lanes)];
            double& total = found[channel * width + lane % width];
            total = !maximum ? total + one : std::isnan(total) || total >= one ? total : one;
        });
        for (std::size_t i = 0; i < to.size; ++i) arena[to.offset + i] = found[i] * static_cast<double>(scale);
    }
};

inline Reduction reduction(Random& random, Layout& layout) {
    Reduction made;
    made.by_lane = chance(random, 40);
    const std::size_t channels = size(random, 1, 7), rows = size(random, 1, 5), cols = size(random, 1, 5);
    made.from = layout.map(random, channels, rows, cols);
    made.to = layout.span(random, channels * (made.by_lane ? layout.lanes : 1), made.by_lane);
    made.maximum = chance(random, 50);
    made.scale = made.maximum ? 1.f : 0.25f;
    if (!made.by_lane && chance(random, 60)) {
        for (std::size_t i = 0; i < rows * cols * layout.lanes; ++i) made.outside.push_back(chance(random, 30));
        made.outside[0] = 0;
    }
    return made;
}

struct Gathering {
    Place from, to;
    std::size_t channels = 1;
    std::vector<std::int32_t> table;
    float outside = 0;

    void add(Program& program) const { program.gather(from, to, channels, table, outside); }

    template <class Visit>
    void numbers(Visit visit) {
        for (Place* end : {&from, &to}) {
            visit(end->port);
            visit(end->offset);
            visit(end->step);
        }
        visit(channels);
        for (std::int32_t& number : table) visit(number);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(table);
    }

    void expect(Doubles& arena, std::size_t) const {
        const Doubles before = arena;
        for (std::size_t channel = 0; channel < channels; ++channel) {
            for (std::size_t i = 0; i < table.size(); ++i) {
                const std::size_t source = from.offset + channel * from.step + static_cast<std::size_t>(table[i]);
                arena[to.offset + channel * to.step + i] = table[i] < 0 ? static_cast<double>(outside) : before[source];
            }
        }
    }
};

inline Gathering gathering(Random& random, Layout& layout) {
    Gathering made;
    made.channels = size(random, 1, 5);
    const std::size_t source = size(random, 1, 40), target = size(random, 1, 60);
    made.from.step = source + random.below(4);
    made.from.offset = layout.span(random, made.channels * made.from.step).offset;
    made.to.step = target + random.below(4);
    made.to.offset = layout.span(random, made.channels * made.to.step).offset;
    for (std::size_t i = 0; i < target; ++i) {
        made.table.push_back(static_cast<std::int32_t>(random.below(source + 1)) - 1);
    }
    made.outside = number(random);
    return made;
}

// Floats of an arena that is large enough for a layout.
inline std::vector<float> floats(Random& random, const Layout& layout) { return numbers(random, layout.arena()); }

}  // namespace testing
