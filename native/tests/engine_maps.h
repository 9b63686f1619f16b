// Calls of a program on maps of vectors: convolutions, pooling, functions, sums.
#pragma once

#include <memory>

#include "engine_helpers.h"

namespace testing {

template <class Visit>
void each(Map& map, Visit visit) {
    for (std::size_t* field : {&map.offset, &map.channels, &map.channel, &map.rows, &map.row, &map.cols}) visit(*field);
}

template <class Visit>
void each(Halo& halo, Visit visit) {
    visit(halo.offset);
    for (std::uint32_t& number : halo.fills) visit(number);
    for (std::int32_t& number : halo.permutations) visit(number);
}

template <class Visit>
void each(Window& window, Visit visit) {
    for (std::size_t* field : {&window.top, &window.left, &window.stride_rows, &window.stride_cols, &window.height,
                               &window.width, &window.dilation_rows, &window.dilation_cols}) {
        visit(*field);
    }
}

template <class Visit>
void each(Sparse& weights, Visit visit) {
    for (std::uint32_t& number : weights.starts) visit(number);
    for (std::uint32_t& number : weights.columns) visit(number);
}

template <class Visit>
void each(Tiling& tiling, Visit visit) {
    for (std::size_t* field : {&tiling.rows, &tiling.cols, &tiling.outputs, &tiling.block}) visit(*field);
}

inline Sparse weights(Random& random, std::size_t rows, std::size_t columns) {
    constexpr unsigned densities[] = {0, 5, 20, 50, 100};
    Sparse made;
    made.starts.push_back(0);
    for (std::size_t row = 0; row < rows; ++row) {
        const unsigned percent = densities[random.below(5)];
        for (std::size_t column = 0; column < columns; ++column) {
            if (!chance(random, percent)) continue;
            made.columns.push_back(static_cast<std::uint32_t>(column));
            made.values.push_back(number(random) / std::sqrt(static_cast<float>(columns)));
        }
        made.starts.push_back(static_cast<std::uint32_t>(made.columns.size()));
    }
    return made;
}

inline Window window(Random& random) {
    Window made;
    made.top = random.below(3);
    made.left = random.below(3);
    made.stride_rows = size(random, 1, 3);
    made.stride_cols = size(random, 1, 3);
    made.height = size(random, 1, 3);
    made.width = size(random, 1, 4);
    made.dilation_rows = size(random, 1, 3);
    made.dilation_cols = size(random, 1, 3);
    return made;
}

// How many rows and columns a map needs so that a window can slide over it.
inline std::size_t rows_below(const Window& w, std::size_t rows) {
    return w.top + (rows - 1) * w.stride_rows + (w.height - 1) * w.dilation_rows + 1;
}

inline std::size_t cols_below(const Window& w, std::size_t cols) {
    return w.left + (cols - 1) * w.stride_cols + (w.width - 1) * w.dilation_cols + 1;
}

// The float of a map under a tap of a window.
inline std::size_t seen(const Map& from, const Window& w, std::size_t row, std::size_t col, std::size_t y,
                        std::size_t x, std::size_t lanes) {
    return from.offset + (w.top + row * w.stride_rows + y * w.dilation_rows) * from.row +
           (w.left + col * w.stride_cols + x * w.dilation_cols) * lanes;
}

template <class Each>
void every(const Map& map, std::size_t lanes, Each one) {
    for (std::size_t channel = 0; channel < map.channels; ++channel) {
        for (std::size_t row = 0; row < map.rows; ++row) {
            for (std::size_t col = 0; col < map.cols; ++col) {
                for (std::size_t lane = 0; lane < lanes; ++lane) one(channel, row, col, lane);
            }
        }
    }
}

inline std::size_t place(const Map& map, std::size_t channel, std::size_t row, std::size_t vector, std::size_t lane,
                         std::size_t lanes) {
    return map.offset + channel * map.channel + row * map.row + vector * lanes + lane;
}

struct Convolution {
    Map from, to, residual;
    bool has_residual = false;
    Window window;
    std::size_t groups = 1;
    Sparse kernel;
    std::vector<float> bias;
    Applied activation;
    Halo halo;
    Tiling tiling;
    int pooling = 0;

    void add(Program& program) const {
        program.convolve(from, to, window, groups, kernel, bias, has_residual ? &residual : nullptr, activation, halo,
                         tiling, pooling);
    }

    template <class Visit>
    void numbers(Visit visit) {
        for (Map* map : {&from, &to, &residual}) each(*map, visit);
        each(window, visit);
        visit(groups);
        each(kernel, visit);
        visit(activation.function);
        each(halo, visit);
        each(tiling, visit);
        visit(pooling);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(kernel.starts);
        visit(kernel.columns);
        visit(kernel.values);
        visit(bias);
        visit(halo.fills);
        visit(halo.permutations);
    }

    double value(const Doubles& before, std::size_t o, std::size_t row, std::size_t col, std::size_t lane,
                 std::size_t lanes) const {
        const std::size_t inputs = from.channels / groups, outputs = to.channels / groups;
        double total = bias.empty() ? 0 : static_cast<double>(bias[o]);
        for (std::size_t i = kernel.starts[o]; i < kernel.starts[o + 1]; ++i) {
            const std::size_t tap = kernel.columns[i] % (window.height * window.width);
            const std::size_t channel = o / outputs * inputs + kernel.columns[i] / (window.height * window.width);
            const std::size_t corner =
                seen(from, window, row, col, tap / window.width, tap % window.width, lanes) + lane;
            total += static_cast<double>(kernel.values[i]) * before[corner + channel * from.channel];
        }
        if (has_residual) total += before[place(residual, o, row, col, lane, lanes)];
        return activated(activation, total);
    }

    void expect(Doubles& arena, std::size_t lanes) const {
        const Doubles before = arena;
        every(to, lanes, [&](std::size_t o, std::size_t row, std::size_t col, std::size_t lane) {
            double& written = arena[place(to, o, row, col, lane, lanes)];
            if (pooling == 0) {
                written = value(before, o, row, col, lane, lanes);
                return;
            }
            double four[4];
            for (std::size_t i = 0; i < 4; ++i) {
                four[i] = value(before, o, 2 * row + i / 2, 2 * col + i % 2, lane, lanes);
            }
            written = pooling == 1 ? *std::max_element(four, four + 4) : (four[0] + four[1] + four[2] + four[3]) / 4;
        });
        fill(halo, to, lanes, arena);
    }
};

inline Convolution convolution(Random& random, Layout& layout) {
    constexpr std::size_t at_once[] = {1, 1, 2, 4, 8}, blocks[] = {1, 2, 3, 64, 1000000};
    Convolution made;
    made.window = window(random);
    made.groups = size(random, 1, 4);
    const bool depthwise = chance(random, 20);
    const std::size_t inputs = depthwise ? 1 : size(random, 1, 5), outputs = depthwise ? 1 : size(random, 1, 9);
    if (chance(random, 50)) made.groups = 1;
    made.pooling = chance(random, 30) ? static_cast<int>(size(random, 1, 2)) : 0;
    const std::size_t side = made.pooling != 0 ? 2 : 1;
    if (side > 1) made.window.stride_cols = 1;
    const std::size_t rows = size(random, 1, 6 / side), cols = size(random, 1, 19 / side);
    made.from = layout.map(random, made.groups * inputs, rows_below(made.window, side * rows),
                           cols_below(made.window, side * cols));
    const Map around = layout.map(random, made.groups * outputs, rows + 2, cols + 2);
    made.to = inside(around, 1, 1, rows, cols, layout.lanes);
    made.has_residual = side == 1 && chance(random, 40);
    made.residual = layout.map(random, made.to.channels, rows, cols);
    made.kernel = weights(random, made.to.channels, inputs * made.window.height * made.window.width);
    if (chance(random, 70)) made.bias = numbers(random, made.to.channels);
    made.activation = activation(random);
    made.halo = halo(random, around, layout.lanes);
    made.tiling = {size(random, 1, 5), size(random, 1, 9), at_once[random.below(5)], blocks[random.below(5)]};
    return made;
}

// The same by minimal filtering; what it leaves in its scratch is cleared, so that nothing else can have been written.
struct Filtering {
    Convolution plain;
    Span scratch;

    void add(Program& program) const {
        program.filter(plain.from, plain.to, plain.window.top, plain.window.left, plain.kernel, plain.bias,
                       plain.has_residual ? &plain.residual : nullptr, plain.activation, plain.halo, scratch);
        const Place place{-1, scratch.offset, 0};
        program.gather(place, place, 1, std::vector<std::int32_t>(std::min<std::size_t>(scratch.size, 1 << 20), -1), 0);
    }

    template <class Visit>
    void numbers(Visit visit) {
        for (Map* map : {&plain.from, &plain.to, &plain.residual}) each(*map, visit);
        for (std::size_t* field : {&plain.window.top, &plain.window.left, &scratch.offset, &scratch.size}) {
            visit(*field);
        }
        each(plain.kernel, visit);
        visit(plain.activation.function);
        each(plain.halo, visit);
    }

    template <class Visit>
    void lists(Visit visit) {
        plain.lists(visit);
    }

    void expect(Doubles& arena, std::size_t lanes) const {
        plain.expect(arena, lanes);
        std::fill_n(arena.begin() + static_cast<std::ptrdiff_t>(scratch.offset), scratch.size, 0.);
    }
};

inline Filtering filtering(Random& random, Layout& layout) {
    Filtering made;
    Convolution& plain = made.plain;
    plain.window = {random.below(3), random.below(3), 1, 1, 3, 3, 1, 1};
    const std::size_t inputs = size(random, 1, 11), outputs = size(random, 1, 19);
    const std::size_t rows = size(random, 1, 7), cols = size(random, 1, 7);
    // The last tiles may find more of the map beyond their windows, or less.
    plain.from = layout.map(random, inputs, rows_below(plain.window, rows) + random.below(3),
                            cols_below(plain.window, cols) + random.below(3));
    const Map around = layout.map(random, outputs, rows + 2, cols + 2);
    plain.to = inside(around, 1, 1, rows, cols, layout.lanes);
    plain.has_residual = chance(random, 40);
    plain.residual = layout.map(random, outputs, rows, cols);
    plain.kernel = weights(random, outputs, 9 * inputs);
    if (chance(random, 70)) plain.bias = numbers(random, outputs);
    plain.activation = activation(random);
    plain.halo = halo(random, around, layout.lanes);
    const std::size_t tiles = (rows + 1) / 2 * ((cols + 1) / 2);
    made.scratch = layout.span(random, 16 * (inputs + 1) * tiles * layout.lanes, true);
    return made;
}

struct Pool {
    Map from, to;
    Window window;
    bool maximum = false;
    std::vector<float> scales;
    Halo halo;

    void add(Program& program) const { program.pool(from, to, window, maximum, scales, halo); }

    template <class Visit>
    void numbers(Visit visit) {
        for (Map* map : {&from, &to}) each(*map, visit);
        each(window, visit);
        each(halo, visit);
    }

    template <class Visit>
    void lists(Visit visit) {
        visit(scales);
        visit(halo.fills);
        visit(halo.permutations);
    }

    void expect(Doubles& arena, std::size_t lanes) const {
        const Doubles before = arena;
        every(to, lanes, [&](std::size_t channel, std::size_t row, std::size_t col, std::size_t lane) {
            double total = maximum ? -HUGE_VAL : 0;
            for (std::size_t y = 0; y < window.height; ++y) {
                for (std::size_t x = 0; x < window.width; ++x) {
                    const double one =
                        before[seen(from, window, row, col, y, x, lanes) + channel * from.channel + lane];
                    total = !maximum ? total + one : std::isnan(total) || total >= one ? total : one;
                }
            }
            const std::size_t slot = (row * to.cols + col) * lanes + lane;
            if (!maximum) total *= static_cast<double>(scales[scales.size() == 1 ? 0 : slot]);
            arena[place(to, channel, row, col, lane, lanes)] = total;
        });
        fill(halo, to, lanes, arena);
    }
};

inline Pool pool(Random& random, Layout& layout) {
    Pool made;
    made.window = window(random);
    made.maximum = chance(random, 50);
    const std::size_t channels = size(random, 1, 5), rows = size(random, 1, 4), cols = size(random, 1, 6);
    made.from = layout.map(random, channels, rows_below(made.window, rows), cols_below(made.window, cols));
    const Map around = layout.map(random, channels, rows + 1, cols + 2);
    made.to = inside(around, 0, 1, rows, cols, layout.lanes);
    if (!made.maximum) made.scales = numbers(random, chance(random, 50) ? 1 : rows * cols * layout.lanes);
    made.halo = halo(random, around, layout.lanes);
    return made;
}

}  // namespace testing
